//! Durations as catalogues and the tool's options write them: `250ms`, `30s`, `5m`, `2h`, `7d`.

use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

/// Reads a number with its unit: `ms`, `s`, `m`, `h` or `d`. Fractions are allowed.
///
/// # Errors
/// `CONFIG_INVALID` where the unit or the number is missing, or it is longer than time itself.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(ductape_core::duration::parse("1.5s")?, Duration::from_millis(1500));
/// assert!(ductape_core::duration::parse("30").is_err());
/// # Ok::<(), ductape_core::Error>(())
/// ```
pub fn parse(text: &str) -> Result<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(invalid(text)),
    };
    let number: f64 = number.trim().parse().map_err(|_| invalid(text))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid(text))
}

fn invalid(text: &str) -> Error {
    let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    Error::new(ErrorKind::ConfigInvalid, format!("`{shown}` is not a duration"))
        .with_help("write a number with its unit: `250ms`, `30s`, `5m`, `2h` or `7d`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn what_is_none_says_how_to_write_one() {
        for text in ["", "5", "s", "-1s", "1 week", "1e400s", "NaNs", "infs"] {
            let error = parse(text).unwrap_err();
            assert!(error.help().unwrap().contains("`30s`"), "{text}");
        }
    }
}
