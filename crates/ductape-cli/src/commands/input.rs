//! Values that commands take on the command line or from a file.

use crate::failure::{Failure, Outcome};
use ductape::{Error, ErrorKind};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// The largest file of an entry, in bytes: as large as a whole catalogue may be.
const MAX_BYTES: u64 = 8 << 20;

/// Reads a JSON value from a file, or from standard input where it is called `-`. What is wrong with it is told
/// without quoting it, since it may hold secrets.
pub(super) fn json_file<T: DeserializeOwned>(path: &Path) -> Outcome<T> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        let source: Box<dyn Read> = match path == Path::new("-") {
            true => Box::new(std::io::stdin()),
            false => Box::new(std::fs::File::open(path)?),
        };
        source.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        match text.len() as u64 > MAX_BYTES {
            true => Err(std::io::Error::other(format!("it has more than {MAX_BYTES} bytes"))),
            false => Ok(text),
        }
    };
    let text = read()
        .map_err(|error| Failure::io(format!("{name} cannot be read"), error, "name a file of JSON"))?;
    serde_json::from_str(&text).map_err(|error| unreadable(&name, &error))
}

/// A value of JSON from the command line.
pub(super) fn json<T: DeserializeOwned>(option: &str, text: &str) -> Outcome<T> {
    serde_json::from_str(text).map_err(|error| unreadable(option, &error))
}

/// Words that name fields are shown; words that quote values are not.
fn unreadable(what: &str, error: &serde_json::Error) -> Failure {
    let words = error.to_string();
    let names_a_field =
        ["unknown field", "missing field", "unknown variant"].iter().any(|w| words.contains(w));
    let words = match (names_a_field, error.is_data()) {
        (true, _) => words,
        (false, true) => {
            format!("a value of the wrong type at line {} column {}", error.line(), error.column())
        }
        (false, false) => words,
    };
    Error::new(ErrorKind::CatalogueInvalid, format!("{what} is not what it should be: {words}"))
        .with_help("write JSON with the fields of the catalogue; `ductape schema` lists them")
        .into()
}

/// A number of which zero makes no sense.
pub(super) fn at_least_one(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(0) => Err("it is at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("write a whole number of at least 1".to_owned()),
    }
}

/// A duration with its unit, longer than none.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match ductape::duration::parse(text) {
        Ok(Duration::ZERO) => Err("it is longer than nothing, such as `1s`".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.help().unwrap_or("it is no duration").to_owned()),
    }
}

/// `NAME=VALUE`, cut at the first `=`. The value is never quoted back.
pub(super) fn pair<'t>(option: &str, text: &'t str, form: &str) -> Outcome<(&'t str, &'t str)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        _ => Err(Failure::usage(
            format!("`{option}` has no name and value"),
            format!("write `{option} {form}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ductape::catalogue::NewBroker;

    #[test]
    fn what_is_wrong_is_told_without_the_value() {
        let text =
            r#"{"name":"a","tag":"a","envs":[{"slug":"d","type":"REDIS","config":{"password":12345}}]}"#;
        let Err(Failure::Error(error)) = json::<NewBroker>("--file", text) else { panic!("it was read") };
        assert!(!error.to_string().contains("12345"), "{error}");
        let Err(Failure::Error(error)) = json::<NewBroker>("--file", r#"{"nam":1}"#) else {
            panic!("it was read")
        };
        assert!(error.to_string().contains("unknown field `nam`"), "{error}");
    }
}
