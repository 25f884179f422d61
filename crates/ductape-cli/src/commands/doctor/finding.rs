//! What one check found.

use crate::failure::message;
use ductape::Error;
use serde::Serialize;
use std::fmt::Display;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum State {
    Ok,
    Warning,
    Fault,
    /// Not looked at, since what it needs is not there.
    Skipped,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Fault => "fault",
            State::Skipped => "skipped",
        }
    }
}

/// The checks of one broker and env, in the order in which they are told.
pub(super) const CHECKS: [&str; 9] = [
    "compiled in",
    "secrets",
    "resolve",
    "connect",
    "authenticate",
    "round trip",
    "destination",
    "groups",
    "dead letters",
];

/// What one check found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) broker: String,
    pub(super) env: String,
    pub(super) check: &'static str,
    /// What was looked at, where there are several: an event, a host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) subject: String,
    pub(super) state: State,
    pub(super) found: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn new(broker: &str, env: &str, check: &'static str, subject: impl Display) -> Self {
        Finding {
            broker: broker.to_owned(),
            env: env.to_owned(),
            check,
            subject: subject.to_string(),
            state: State::Skipped,
            found: String::new(),
            fix: None,
        }
    }

    pub(super) fn good(self, found: impl Into<String>) -> Self {
        Finding { state: State::Ok, found: found.into(), ..self }
    }

    pub(super) fn skipped(self, why: impl Into<String>) -> Self {
        Finding { state: State::Skipped, found: why.into(), ..self }
    }

    pub(super) fn warning(self, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { state: State::Warning, found: found.into(), fix: Some(fix.into()), ..self }
    }

    pub(super) fn fault(self, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { state: State::Fault, found: found.into(), fix: Some(fix.into()), ..self }
    }

    pub(super) fn fault_of(self, error: &Error) -> Self {
        let found = format!("{}: {}", error.kind(), message(error));
        Finding { state: State::Fault, found, fix: error.help().map(str::to_owned), ..self }
    }

    /// Where it stands among those of its broker and env: events together, below what comes before them.
    pub(super) fn place(&self) -> (bool, String, usize) {
        let rank = CHECKS.iter().position(|check| *check == self.check).unwrap_or(CHECKS.len());
        let of_an_event = matches!(self.check, "destination" | "groups" | "dead letters");
        let subject = if of_an_event { self.subject.clone() } else { String::new() };
        (of_an_event, subject, rank)
    }
}
