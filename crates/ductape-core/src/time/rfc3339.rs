//! RFC 3339 in the one form that messages have, `2026-11-29T12:34:56.789Z`: written and read for each message, so
//! without the search that a general parser is. Whatever looks otherwise is left to one.
//!
//! Days and dates: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days` and `days_from_civil`.

/// The longest text, with all six digits of a fraction.
pub(super) const LONGEST: usize = "2026-11-29T12:34:56.789012Z".len();

const SHORTEST: usize = "2026-11-29T12:34:56Z".len();
const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400;
/// Days of 400 years, and from the first of March of year 0 to 1970.
const ERA: i64 = 146_097;
const EPOCH: i64 = 719_468;

/// Writes microseconds since the epoch, without zeros at the end of the fraction; `None` outside of the years 0 to 9999.
pub(super) fn write(micros: i64, text: &mut [u8; LONGEST]) -> Option<&str> {
    let (second, mut fraction) = (micros.div_euclid(MICROS), micros.rem_euclid(MICROS));
    let (year, month, day) = date(second.div_euclid(DAY));
    let second = second.rem_euclid(DAY);
    if !(0..=9999).contains(&year) {
        return None;
    }
    text[..SHORTEST].copy_from_slice(b"0000-00-00T00:00:00Z");
    put(&mut text[..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], second / 3600);
    put(&mut text[14..16], second / 60 % 60);
    put(&mut text[17..19], second % 60);
    let mut len = SHORTEST;
    if fraction > 0 {
        let mut digits = 6;
        while fraction % 10 == 0 {
            (fraction, digits) = (fraction / 10, digits - 1);
        }
        len += 1 + digits;
        text[19] = b'.';
        put(&mut text[20..20 + digits], fraction);
        text[len - 1] = b'Z';
    }
    std::str::from_utf8(&text[..len]).ok()
}

/// Reads it; `None` where it has another form, or is no date.
pub(super) fn read(text: &[u8]) -> Option<i64> {
    let (head, fraction) = text.split_at_checked(SHORTEST - 1)?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(place, mark)| head[*place] != *mark) {
        return None;
    }
    let (year, month, day) = (number(&head[..4])?, number(&head[5..7])?, number(&head[8..10])?);
    let (hour, minute, second) = (number(&head[11..13])?, number(&head[14..16])?, number(&head[17..])?);
    if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let second = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    Some(second * MICROS + micros(fraction)?)
}

/// Of `Z`, or `.` and up to six digits and `Z`.
fn micros(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" => Some(0),
        [b'.', digits @ .., b'Z'] if (1..=6).contains(&digits.len()) => {
            Some(number(digits)? * 10_i64.pow(6 - digits.len() as u32))
        }
        _ => None,
    }
}

fn put(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Year, month and day of a day since 1970.
fn date(day: i64) -> (i64, i64, i64) {
    let (era, day) = ((day + EPOCH).div_euclid(ERA), (day + EPOCH).rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Counted from March.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// The reverse.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let month = if month > 2 { month - 3 } else { month + 9 };
    let day = (153 * month + 2) / 5 + day - 1;
    era * ERA + year * 365 + year / 4 - year / 100 + day - EPOCH
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(micros: i64) -> Option<String> {
        write(micros, &mut [0; LONGEST]).map(str::to_owned)
    }

    /// The library's, of which ours is a part.
    fn of_jiff(text: &str) -> Option<i64> {
        text.parse::<jiff::Timestamp>().ok().map(|time| time.as_microsecond())
    }

    #[test]
    fn zeros_at_the_end_of_a_fraction_are_left_out_as_the_whole_of_it_is() {
        assert_eq!(written(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(written(-1).as_deref(), Some("1969-12-31T23:59:59.999999Z"));
        assert_eq!(written(1_700_000_000_120_000).as_deref(), Some("2023-11-14T22:13:20.12Z"));
        assert_eq!(read(b"2024-02-29T00:00:00.5Z"), of_jiff("2024-02-29T00:00:00.5Z"));
    }

    #[test]
    fn what_has_another_form_or_is_no_date_is_not_read() {
        for text in [
            "",
            "yesterday",
            "2026-11-29T12:34:56",
            "2026-11-29 12:34:56Z",
            "2026-11-29T12:34:56+00:00",
            "2026-11-29T12:34:56.Z",
            "2026-11-29T12:34:56.1234567Z",
            "2026-02-29T12:34:56Z",
            "2026-00-01T12:34:56Z",
            "2026-11-29T24:00:00Z",
            "2026-11-29T23:59:60Z",
            "2026-11-2\u{e9}T12:34:56Z",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert_eq!((written(i64::MAX), written(i64::MIN)), (None, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_written_as_the_library_does_and_read_as_it_was_written(
            micros in prop_oneof![
                // The years 0 to 9999, and whole seconds of our time.
                -62_167_219_200_000_000_i64..253_402_207_200_000_000,
                (1_700_000_000..1_900_000_000_i64).prop_map(|second| second * MICROS),
            ],
        ) {
            let text = written(micros).unwrap_or_default();
            let theirs = jiff::Timestamp::from_microsecond(micros).map(|time| time.to_string()).ok();
            prop_assert_eq!(Some(&text), theirs.as_ref());
            prop_assert_eq!(read(text.as_bytes()), Some(micros));
        }

        #[test]
        fn what_it_reads_the_library_reads_alike(
            text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,7})?(Z|z|\\+01:00)?",
        ) {
            if let Some(micros) = read(text.as_bytes()) {
                prop_assert_eq!(Some(micros), of_jiff(&text));
            }
        }
    }
}
