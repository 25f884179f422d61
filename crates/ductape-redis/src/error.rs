//! What the redis crate and the server say, as kinds and retryability.

use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind};
use redis::{ErrorKind as RedisKind, RedisError};
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

const UNREACHABLE: &str = "see `host` and `port`, and that the server is up and reachable from here";
const AGAIN: &str = "it is connected anew by itself; see that the server is up";

/// Connecting failed. `place` names the server; nothing of the error holds the password.
pub(crate) fn connect(error: &RedisError, place: &str) -> Error {
    let (kind, help) = connect_kind(error);
    let retry = match kind {
        ErrorKind::ConnectFailed | ErrorKind::Timeout => Retry::Safe,
        _ => Retry::Never,
    };
    Error::new(kind, format!("cannot connect to Redis: {error}"))
        .with_retry(retry)
        .with_context("server", place)
        .with_help(help)
}

fn connect_kind(error: &RedisError) -> (ErrorKind, &'static str) {
    match error.code().unwrap_or_default() {
        "WRONGPASS" | "NOAUTH" => return (ErrorKind::AuthenticationFailed, "see `username` and `password`"),
        "NOPERM" => {
            return (ErrorKind::PermissionDenied, "let the user run `PING` and what the README lists");
        }
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" => return (ErrorKind::ConnectFailed, "it is not ready yet"),
        _ => {}
    }
    match error.kind() {
        RedisKind::AuthenticationFailed => (ErrorKind::AuthenticationFailed, "see `username` and `password`"),
        RedisKind::Io if is_tls(error) => (
            ErrorKind::TlsFailed,
            "see `tls`, `caFile` and the host's name in the server's certificate, and that the port speaks TLS",
        ),
        RedisKind::Io if error.is_timeout() => (ErrorKind::Timeout, UNREACHABLE),
        RedisKind::Io if error.is_connection_dropped() && !error.is_connection_refusal() => {
            (ErrorKind::ConnectFailed, "see that this is a Redis server, and whether its port speaks TLS")
        }
        RedisKind::MasterNameNotFoundBySentinel => (ErrorKind::ConnectFailed, "see `sentinel.master`"),
        RedisKind::Parse => (ErrorKind::ConnectFailed, "see that this is a Redis server, and its port"),
        RedisKind::Client | RedisKind::InvalidClientConfig => {
            (ErrorKind::ConnectFailed, "see `db` and `host`")
        }
        _ => (ErrorKind::ConnectFailed, UNREACHABLE),
    }
}

fn is_tls(error: &RedisError) -> bool {
    let mut cause = StdError::source(error);
    while let Some(error) = cause {
        // The crate shares its sources, and a shared error passes for none of its kind.
        let error = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>().map_or(error, |shared| &**shared);
        if error.is::<rustls::Error>() || error.is::<rustls::pki_types::InvalidDnsNameError>() {
            return true;
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A command failed on an open connection. `sent` is whether the server may have acted on it.
pub(crate) fn call(error: &RedisError, what: &str, sent: bool) -> Error {
    let lost = if sent { Retry::Uncertain } else { Retry::Safe };
    let (kind, retry, help) = match error.code() {
        Some(code) => server_kind(code, error.detail().unwrap_or_default()),
        None if error.is_timeout() => (ErrorKind::Timeout, lost, AGAIN),
        None if is_lost(error) => (ErrorKind::ConnectionLost, lost, AGAIN),
        None => (ErrorKind::ProviderFailed, Retry::Never, "see the server's log"),
    };
    Error::new(kind, format!("{what}: {error}")).with_retry(retry).with_help(help)
}

/// What stands for the answers to several commands. In a cluster one that is sent elsewhere stands for all, whatever
/// became of those before it.
pub(crate) fn of_all(error: Error, commands: usize) -> Error {
    if commands > 1 { error.with_retry(Retry::Uncertain) } else { error }
}

/// Whether the connection under a command is of no use any more.
pub(crate) fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || (error.is_io_error() && error.code().is_none())
}

/// The server refused a command before it did anything, so nothing of it is uncertain.
fn server_kind(code: &str, detail: &str) -> (ErrorKind, Retry, &'static str) {
    match code {
        "OOM" => (
            ErrorKind::DestinationFull,
            Retry::Safe,
            "the server's `maxmemory` is reached, and consuming frees none of it: raise it, or trim with `maxLen` or `retain`",
        ),
        "MISCONF" => (
            ErrorKind::StorageFull,
            Retry::Safe,
            "the server cannot save to its disk and takes no writes: see its log and its disk",
        ),
        "READONLY" => (
            ErrorKind::ConnectionLost,
            Retry::Safe,
            "this server is a replica now: name the master, or let `sentinel` or `cluster` find it",
        ),
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" | "NOREPLICAS" => {
            (ErrorKind::ConnectionLost, Retry::Safe, "the server is not ready, or another one is the master")
        }
        "BUSY" => (ErrorKind::Throttled, Retry::Safe, "a script holds the server up"),
        "NOPERM" => (ErrorKind::PermissionDenied, Retry::Never, "let the user run what the README lists"),
        "NOAUTH" | "WRONGPASS" => {
            (ErrorKind::AuthenticationFailed, Retry::Never, "see `username` and `password`")
        }
        "WRONGTYPE" => (
            ErrorKind::DestinationMismatch,
            Retry::Never,
            "another kind of value has the stream's name: delete it, or give the topic another name",
        ),
        "CROSSSLOT" => (
            ErrorKind::ConfigInvalid,
            Retry::Never,
            "in a cluster a stream's name may hold braces only around one part of it, as `{orders}`",
        ),
        "NOGROUP" => (ErrorKind::GroupNotFound, Retry::Safe, "open the consumer anew, which makes the group"),
        "ERR" if detail.contains("no such key") => {
            (ErrorKind::DestinationNotFound, Retry::Never, "make it with `ductape apply` or a first publish")
        }
        "ERR" if detail.contains("too big") || detail.contains("too large") => {
            (ErrorKind::MessageTooLarge, Retry::Never, "see the server's `proto-max-bulk-len`")
        }
        _ => (ErrorKind::ProviderFailed, Retry::Never, "see the server's log"),
    }
}

/// What comes in an order or form that Redis does not have.
pub(crate) fn unforeseen(what: &str) -> Error {
    Error::new(
        ErrorKind::ProviderFailed,
        format!("{what}: the server's answer reads otherwise than Redis' own"),
    )
    .with_help("see that this is a Redis server of 6.2 or later")
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::make_extension_error;

    fn said(code: &str, detail: &str) -> RedisError {
        make_extension_error(code.into(), Some(detail.into()))
    }

    fn io(kind: io::ErrorKind) -> RedisError {
        io::Error::new(kind, "words").into()
    }

    #[test]
    fn a_fault_of_connecting_has_its_kind() {
        let kind = |error: RedisError| connect(&error, "h:1").kind();
        assert_eq!(kind(said("WRONGPASS", "invalid")), ErrorKind::AuthenticationFailed);
        assert_eq!(kind(said("NOAUTH", "required")), ErrorKind::AuthenticationFailed);
        assert_eq!(kind(io(io::ErrorKind::ConnectionRefused)), ErrorKind::ConnectFailed);
        assert_eq!(kind(io(io::ErrorKind::UnexpectedEof)), ErrorKind::ConnectFailed);
        assert_eq!(kind(io(io::ErrorKind::TimedOut)), ErrorKind::Timeout);
        let issuer = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let tls = io::Error::new(io::ErrorKind::InvalidData, issuer);
        assert_eq!(kind(tls.into()), ErrorKind::TlsFailed);
    }

    #[test]
    fn what_was_sent_without_an_answer_is_uncertain() {
        let lost = io(io::ErrorKind::ConnectionReset);
        assert_eq!(call(&lost, "x", true).retry(), Retry::Uncertain);
        assert_eq!(call(&lost, "x", false).retry(), Retry::Safe);
        assert_eq!(call(&lost, "x", true).kind(), ErrorKind::ConnectionLost);
        assert_eq!(call(&io(io::ErrorKind::TimedOut), "x", true).kind(), ErrorKind::Timeout);
    }

    #[test]
    fn what_one_of_several_commands_was_told_leaves_the_others_uncertain() {
        let moved = |commands| of_all(call(&said("MOVED", "1 h:2"), "the publish", true), commands).retry();
        assert_eq!((moved(1), moved(2)), (Retry::Safe, Retry::Uncertain));
    }

    #[test]
    fn a_refusal_of_the_server_has_its_kind_and_is_never_uncertain() {
        let cases = [
            ("OOM", ErrorKind::DestinationFull),
            ("MISCONF", ErrorKind::StorageFull),
            ("READONLY", ErrorKind::ConnectionLost),
            ("LOADING", ErrorKind::ConnectionLost),
            ("NOPERM", ErrorKind::PermissionDenied),
            ("NOAUTH", ErrorKind::AuthenticationFailed),
            ("WRONGTYPE", ErrorKind::DestinationMismatch),
            ("CROSSSLOT", ErrorKind::ConfigInvalid),
        ];
        for (code, kind) in cases {
            let error = call(&said(code, "as the server says"), "the publish", true);
            assert_eq!(error.kind(), kind, "{code}");
            assert_ne!(error.retry(), Retry::Uncertain, "{code}");
            assert!(error.to_string().contains("as the server says"), "{error}");
        }
        let full = call(&said("OOM", "no memory"), "the publish", true);
        assert!(full.help().is_some_and(|help| help.contains("maxmemory")), "{full}");
    }
}
