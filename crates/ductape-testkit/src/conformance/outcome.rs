//! How a property ends early: what was expected and what was seen, or why it cannot be tried.

use ductape_core::Error;
use std::fmt::Debug;

/// Why a property did not hold or was not tried.
#[derive(Debug)]
pub(super) enum Stop {
    /// It does not hold.
    Fault {
        /// What the contract asks for.
        expected: String,
        /// What the broker did.
        seen: String,
    },
    /// It cannot be tried here, for this reason.
    Skip(String),
}

/// What a property, or a step of one, comes to.
pub(super) type Outcome<T = ()> = Result<T, Stop>;

/// A fault: the two read as "expected … / seen …".
pub(super) fn fault(expected: impl Into<String>, seen: impl Into<String>) -> Stop {
    Stop::Fault { expected: expected.into(), seen: seen.into() }
}

/// Ends the property as skipped.
pub(super) fn skip<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Stop::Skip(reason.into()))
}

/// A fault unless `holds`.
pub(super) fn check(holds: bool, expected: impl Into<String>, seen: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(fault(expected, seen())) }
}

/// A fault unless both are the same; `what` names them.
pub(super) fn same<T: PartialEq + Debug + ?Sized>(what: &str, expected: &T, seen: &T) -> Outcome {
    check(expected == seen, format!("{what}: {}", cut(expected)), || cut(seen))
}

/// A value for people: thousands of entries help nobody.
pub(super) fn cut<T: Debug + ?Sized>(value: &T) -> String {
    const MOST: usize = 400;
    let text = format!("{value:?}");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}… ({} bytes in all)", &text[..end], text.len()),
        None => text,
    }
}

/// Turns the contract's results into outcomes.
pub(super) trait Wanted<T> {
    /// The value, or a fault that expected `what`.
    fn wanted(self, what: &str) -> Outcome<T>;
}

impl<T> Wanted<T> for Result<T, Error> {
    fn wanted(self, what: &str) -> Outcome<T> {
        self.map_err(|error| fault(what, error.to_string()))
    }
}

impl<T> Wanted<T> for Option<T> {
    fn wanted(self, what: &str) -> Outcome<T> {
        self.ok_or_else(|| fault(what, "nothing"))
    }
}
