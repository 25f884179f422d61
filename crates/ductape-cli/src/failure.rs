//! Why a command did not end with 0, and how that is told: what, where, and what to do.

use crate::output::Format;
use crate::terminal::{BAD, FAINT, styled};
use ductape::error::Retry;
use ductape::{Error, ErrorKind};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// What a command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong: code 2.
    Usage {
        /// What is wrong with it.
        message: String,
        /// What to write instead.
        help: String,
    },
    /// An operation failed: code 2 where the catalogue or a name is at fault, else 1.
    Error(Error),
    /// Everything was said already: code 1.
    Said,
    /// Nobody reads standard output any more. A reader that has had enough is no fault: code 0.
    ReaderGone,
}

impl Failure {
    /// A command line that cannot be meant.
    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Failure::Usage { message: message.into(), help: help.into() }
    }

    /// A file or stream that cannot be read or written.
    pub(crate) fn io(what: impl Into<String>, error: std::io::Error, help: impl Into<String>) -> Self {
        Failure::Error(Error::new(ErrorKind::StorageFailed, what).with_source(error).with_help(help))
    }

    /// Tells it on standard error and returns the exit code.
    pub(crate) fn report(self, format: Format) -> ExitCode {
        let code = self.code();
        match self {
            Failure::Said | Failure::ReaderGone => {}
            Failure::Usage { message, help } => {
                let error = Error::new(ErrorKind::ConfigInvalid, message).with_help(help);
                tell(&error, Some("USAGE"), format);
            }
            Failure::Error(error) => tell(&error, None, format),
        }
        ExitCode::from(code)
    }

    fn code(&self) -> u8 {
        match self {
            Failure::ReaderGone => 0,
            Failure::Said => 1,
            Failure::Usage { .. } => 2,
            Failure::Error(error) => code(error.kind()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// 2 where the catalogue is at fault, or a name on the command line that it does not have.
pub(crate) fn code(kind: ErrorKind) -> u8 {
    use ErrorKind as K;
    match kind {
        K::TagInvalid
        | K::CatalogueNotFound
        | K::CatalogueInvalid
        | K::ConfigInvalid
        | K::DestinationConflict
        | K::ProductNotFound
        | K::BrokerNotFound
        | K::BrokerEnvNotFound
        | K::TopicNotFound
        | K::SessionNotFound => 2,
        _ => 1,
    }
}

/// Tells an error. `code` takes the place of its kind's.
pub(crate) fn tell(error: &Error, code: Option<&str>, format: Format) {
    let text = match format {
        Format::Json => {
            let mut object = object(error);
            if let Some(code) = code {
                object.insert("code".into(), code.into());
            }
            format!("{}\n", json!({ "error": object }))
        }
        Format::Human => human(error, code),
    };
    // Where standard error is gone there is nobody to tell.
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// Tells a person something beside the data; programs do not want it.
pub(crate) fn note(format: Format, text: &str) {
    if format == Format::Human {
        let _ = writeln!(anstream::stderr(), "{} {text}", styled(FAINT, "note:"));
    }
}

/// An error for programs: code, message, where, what to do, and whether trying again may help.
pub(crate) fn object(error: &Error) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("code".into(), error.kind().code().into());
    object.insert("message".into(), message(error).into());
    let place: Map<_, _> = error.contexts().map(|(name, value)| (name.to_owned(), value.into())).collect();
    if !place.is_empty() {
        object.insert("where".into(), place.into());
    }
    if let Some(help) = error.help() {
        object.insert("help".into(), help.into());
    }
    let retry = match error.retry() {
        Retry::Never => "never",
        Retry::Safe | Retry::After(_) => "safe",
        Retry::Uncertain => "uncertain",
    };
    object.insert("retry".into(), retry.into());
    object
}

fn human(error: &Error, code: Option<&str>) -> String {
    let code = code.unwrap_or(error.kind().code());
    let mut text = format!("{} {}\n", styled(BAD, &format!("error[{code}]:")), message(error));
    let place: Vec<_> = error.contexts().map(|(name, value)| format!("{name} {value}")).collect();
    if !place.is_empty() {
        let _ = writeln!(text, "  {} {}", styled(FAINT, "where:"), place.join(", "));
    }
    if let Some(help) = error.help() {
        let _ = writeln!(text, "  {} {help}", styled(FAINT, "help:"));
    }
    text
}

/// What happened, with its causes.
pub(crate) fn message(error: &Error) -> String {
    let mut text = error.message().to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_and_what_to_do() {
        let error = Error::new(ErrorKind::ConnectFailed, "no connection to 127.0.0.1:1")
            .with_source(std::io::Error::other("refused"))
            .with_context("env", "dev")
            .with_help("start the server");
        let plain = anstream::adapter::strip_str(&human(&error, None)).to_string();
        assert_eq!(
            plain,
            "error[CONNECT_FAILED]: no connection to 127.0.0.1:1: refused\n  where: env dev\n  help: start the server\n"
        );
        assert_eq!(
            Value::from(object(&error)),
            json!({
                "code": "CONNECT_FAILED", "message": "no connection to 127.0.0.1:1: refused",
                "where": { "env": "dev" }, "help": "start the server", "retry": "never",
            })
        );
    }

    #[test]
    fn exit_codes_tell_a_bad_catalogue_from_a_failure() {
        assert_eq!(Failure::usage("x", "y").code(), 2);
        assert_eq!(Failure::from(Error::new(ErrorKind::CatalogueInvalid, "x")).code(), 2);
        assert_eq!(Failure::from(Error::new(ErrorKind::ConnectFailed, "x")).code(), 1);
        assert_eq!(Failure::ReaderGone.code(), 0);
    }
}
