//! The one error type of every crate: what went wrong, where, whether to try again, and what to do.
//!
//! [`ErrorKind`] and [`Retry`] are apart on purpose. The kind names the fault and its code is stable, so that
//! programs may match on it. [`Retry`] says what a caller may do next; above all it keeps a *refused* publish
//! (nothing happened, trying again is safe) apart from an *uncertain* one (sent, and no answer came: trying
//! again may duplicate).

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// What this crate's operations return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// The kind of a fault. [`ErrorKind::code`] is stable across releases.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $name,)*
        }

        impl ErrorKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$name,)*];

            /// The stable code, as logs, the tool's JSON and other languages see it.
            pub const fn code(self) -> &'static str {
                match self {
                    $(ErrorKind::$name => $code,)*
                }
            }
        }
    };
}

error_kinds! {
    /// A tag or an event is not written as one: empty, too long, or with a character that tags do not have.
    TagInvalid = "TAG_INVALID",
    /// No catalogue was found where it was looked for.
    CatalogueNotFound = "CATALOGUE_NOT_FOUND",
    /// A catalogue cannot be read: syntax, an unknown or missing field, a wrong type.
    CatalogueInvalid = "CATALOGUE_INVALID",
    /// Somebody else wrote the catalogue since it was read. Read again and repeat the change.
    CatalogueConflict = "CATALOGUE_CONFLICT",
    /// The catalogue is of another product.
    ProductNotFound = "PRODUCT_NOT_FOUND",
    /// The catalogue has no broker with this tag.
    BrokerNotFound = "BROKER_NOT_FOUND",
    /// The broker has no entry for this env.
    BrokerEnvNotFound = "BROKER_ENV_NOT_FOUND",
    /// The broker has no topic with this tag.
    TopicNotFound = "TOPIC_NOT_FOUND",
    /// A broker with this tag is already there.
    BrokerExists = "BROKER_EXISTS",
    /// A topic with this tag is already there.
    TopicExists = "TOPIC_EXISTS",
    /// Two topics would share one destination in one env.
    DestinationConflict = "DESTINATION_CONFLICT",
    /// A provider's config is wrong: a value out of range, fields that exclude each other.
    ConfigInvalid = "CONFIG_INVALID",
    /// A secret's variable or file is missing.
    SecretMissing = "SECRET_MISSING",
    /// The catalogue has no session with this tag.
    SessionNotFound = "SESSION_NOT_FOUND",
    /// A session token was refused: signature, expiry, algorithm, subject.
    SessionInvalid = "SESSION_INVALID",
    /// The provider is not compiled in; the help names the feature.
    ProviderNotEnabled = "PROVIDER_NOT_ENABLED",
    /// The provider cannot do this, and says so rather than pretend.
    Unsupported = "UNSUPPORTED",
    /// A message that cannot be published as it is: a header, a key, a payload that does not fit its sample.
    MessageInvalid = "MESSAGE_INVALID",
    /// A message over the provider's limit.
    MessageTooLarge = "MESSAGE_TOO_LARGE",
    /// A payload that cannot be decoded as what the subscriber asked for.
    PayloadInvalid = "PAYLOAD_INVALID",
    /// The destination is not there and may not be made (`provision: verify`).
    DestinationNotFound = "DESTINATION_NOT_FOUND",
    /// The destination is there with other settings than the catalogue asks for.
    DestinationMismatch = "DESTINATION_MISMATCH",
    /// The destination's own bound is reached: capacity, retention, memory.
    DestinationFull = "DESTINATION_FULL",
    /// The group is not there.
    GroupNotFound = "GROUP_NOT_FOUND",
    /// The server cannot be reached: name, port, network.
    ConnectFailed = "CONNECT_FAILED",
    /// The server refused the credentials.
    AuthenticationFailed = "AUTHENTICATION_FAILED",
    /// The credentials are good but do not allow this.
    PermissionDenied = "PERMISSION_DENIED",
    /// TLS failed: unknown authority, wrong host name, no TLS at all.
    TlsFailed = "TLS_FAILED",
    /// A connection that was there is lost. A consumer that says so is finished; open another.
    ConnectionLost = "CONNECTION_LOST",
    /// No answer within the deadline.
    Timeout = "TIMEOUT",
    /// The server asks to go slower.
    Throttled = "THROTTLED",
    /// The delivery is no longer this consumer's: its lease ran out or its partition moved.
    LeaseLost = "LEASE_LOST",
    /// The broker, publisher, consumer or subscription was closed.
    Closed = "CLOSED",
    /// The disk is full.
    StorageFull = "STORAGE_FULL",
    /// The file is damaged or not what it should be.
    StorageDamaged = "STORAGE_DAMAGED",
    /// The storage failed in another way: permissions, a lock held too long, I/O.
    StorageFailed = "STORAGE_FAILED",
    /// A handler failed, panicked or took too long.
    HandlerFailed = "HANDLER_FAILED",
    /// The provider answered something unforeseen; the source has its words.
    ProviderFailed = "PROVIDER_FAILED",
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What a caller may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Trying again gives the same answer until something is changed.
    Never,
    /// Nothing happened; trying again is safe and may work.
    Safe,
    /// As [`Retry::Safe`], but not before this long.
    After(Duration),
    /// It was sent and no answer came: it may have happened. Trying again may duplicate.
    Uncertain,
}

/// An error with its kind, where it happened, what caused it, and what to do.
///
/// One pointer wide, so that a `Result` on the message path stays small.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    message: String,
    help: Option<String>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that trying again does not cure. `message` says what happened, without the kind's code.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            retry: Retry::Never,
            message: message.into(),
            help: None,
            context: Vec::new(),
            source: None,
        }))
    }

    /// The refusal of what a provider cannot do: `what` reads as "a second group".
    pub fn unsupported(provider: impl fmt::Display, what: impl fmt::Display) -> Self {
        Error::new(ErrorKind::Unsupported, format!("{provider} cannot do this: {what}"))
            .with_context("provider", provider)
    }

    /// The error of anything used after its close: `what` reads as "the publisher".
    pub fn closed(what: impl fmt::Display) -> Self {
        Error::new(ErrorKind::Closed, format!("{what} is closed"))
    }

    /// Says what a caller may do.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Says what a person may do, as an imperative sentence.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Adds where it happened: `product`, `env`, `event`, `destination`, `provider`, `group`, `file`.
    /// The first value given for a name stays, since it was nearest to the fault. Never a secret.
    #[must_use]
    pub fn with_context(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        if self.context(name).is_none() {
            self.0.context.push((name, value.to_string()));
        }
        self
    }

    /// Keeps what caused it. The source's words are shown, so it must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What a caller may do.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Whether trying again by itself is right: true for [`Retry::Safe`] and [`Retry::After`].
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.retry, Retry::Safe | Retry::After(_))
    }

    /// Whether it may have happened in spite of the error.
    pub fn is_uncertain(&self) -> bool {
        self.0.retry == Retry::Uncertain
    }

    /// What happened, without code, context and help.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What a person may do.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// One value of where it happened.
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// All of where it happened, nearest first.
    pub fn contexts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(n, v)| (*n, v.as_str()))
    }

    /// A second error that says the same, for each further message of a batch that failed as one.
    /// The source stays with the first; its words go into the message.
    #[must_use]
    pub fn replicate(&self) -> Self {
        let message = match &self.0.source {
            Some(source) => format!("{}: {source}", self.0.message),
            None => self.0.message.clone(),
        };
        Error(Box::new(Inner {
            kind: self.0.kind,
            retry: self.0.retry,
            message,
            help: self.0.help.clone(),
            context: self.0.context.clone(),
            source: None,
        }))
    }
}

impl fmt::Display for Error {
    /// `CODE: message: source (name value, …); help`, on one line for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        let mut source = self.0.source.as_deref().map(|s| s as &dyn StdError);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        for (i, (name, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{name} {value}", if i == 0 { " (" } else { ", " })?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        match &self.0.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("retry", &self.0.retry)
            .field("message", &self.0.message)
            .field("help", &self.0.help)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_code_message_source_place_and_help() {
        let error = Error::new(ErrorKind::ConnectFailed, "no connection to 127.0.0.1:1")
            .with_source(std::io::Error::other("refused"))
            .with_context("provider", "REDIS")
            .with_context("env", "dev")
            .with_help("start the server, or mend `host` and `port`");
        assert_eq!(
            error.to_string(),
            "CONNECT_FAILED: no connection to 127.0.0.1:1: refused (provider REDIS, env dev); \
             start the server, or mend `host` and `port`"
        );
    }

    #[test]
    fn the_context_nearest_to_the_fault_stays() {
        let error = Error::new(ErrorKind::Timeout, "late").with_context("env", "a").with_context("env", "b");
        assert_eq!(error.context("env"), Some("a"));
    }

    #[test]
    fn codes_are_unique_and_upper_case() {
        let mut codes: Vec<_> = ErrorKind::ALL.iter().map(|k| k.code()).collect();
        assert!(codes.iter().all(|c| c.chars().all(|ch| ch.is_ascii_uppercase() || ch == '_')));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }
}
