//! Why there is no server, or why it does not do as told.

use super::Kind;
use crate::conformance::Subject;
use std::fmt;
use std::io::Write;

/// Why there is no server, or why it did not do as told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is installed that could be started: a test is skipped, aloud.
    Missing {
        /// The server.
        kind: Kind,
        /// What was looked for, and how to get it.
        reason: String,
    },
    /// There is a server, and it does not work: a test fails.
    Broken {
        /// The server.
        kind: Kind,
        /// What happened, with the end of its log where it has one.
        fault: String,
    },
    /// The server comes from the environment, and is not ours to kill, stall or start.
    NotOurs {
        /// The server.
        kind: Kind,
    },
}

impl Error {
    pub(super) fn missing(kind: Kind, reason: impl Into<String>) -> Self {
        Error::Missing { kind, reason: reason.into() }
    }

    pub(super) fn broken(kind: Kind, fault: impl Into<String>) -> Self {
        Error::Broken { kind, fault: fault.into() }
    }

    /// The server that it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Missing { kind, .. } | Error::Broken { kind, .. } | Error::NotOurs { kind } => *kind,
        }
    }

    /// A subject for the conformance suite of which every property is skipped with the reason.
    ///
    /// # Panics
    /// Where a server is there and broken, since a skip would hide it.
    #[track_caller]
    pub fn subject(self) -> Subject {
        self.unless_missing();
        Subject::absent(self.kind().name(), self.to_string())
    }

    /// Says on standard output that the test of this name is skipped, and why: a line `skip NAME (REASON)`, which the
    /// standard harness does not capture.
    ///
    /// # Panics
    /// Where a server is there and broken, since a skip would hide it.
    #[track_caller]
    pub fn skip(self, test: &str) {
        self.unless_missing();
        // Beginning on a line of its own: with one thread the harness has written the test's name by now.
        let _ = writeln!(std::io::stdout().lock(), "\nskip {test} ({self})");
    }

    #[track_caller]
    fn unless_missing(&self) {
        assert!(matches!(self, Error::Missing { .. }), "{self}");
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Missing { kind, reason } => write!(f, "no {kind} server: {reason}"),
            Error::Broken { kind, fault } => write!(f, "the {kind} server: {fault}"),
            Error::NotOurs { kind } => write!(
                f,
                "the {kind} server comes from the environment and is not ours to break; use `servers::own`"
            ),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_skipped_and_what_is_broken_is_not() {
        let missing = Error::missing(Kind::Redis, "redis-server is not installed");
        assert_eq!(missing.to_string(), "no redis server: redis-server is not installed");
        drop(missing.subject());
        for error in [Error::broken(Kind::Redis, "ended"), Error::NotOurs { kind: Kind::Redis }] {
            assert!(std::panic::catch_unwind(|| drop(error.clone().subject())).is_err());
            assert!(std::panic::catch_unwind(|| error.clone().skip("a test")).is_err());
        }
    }
}
