//! What lapin and RabbitMQ say, as kinds and retryability.

use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use std::io;

/// Connecting failed. `place` is the host and port; nothing of the error holds the password.
pub(crate) fn connect(error: &lapin::Error, place: &str, vhost: &str) -> Error {
    let text = error.to_string();
    let (kind, help) = match error.kind() {
        lapin::ErrorKind::ProtocolError(protocol) => match protocol.kind() {
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                (ErrorKind::PermissionDenied, "see that the virtual host is there and the user may use it")
            }
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                (ErrorKind::AuthenticationFailed, "see `username` and `password`")
            }
            _ => (ErrorKind::ConnectFailed, "see the server's log"),
        },
        lapin::ErrorKind::IOError(io) => io_kind(io, &text),
        lapin::ErrorKind::MissingHeartbeatError => (ErrorKind::Timeout, UNREACHABLE),
        _ => (
            ErrorKind::ConnectFailed,
            "see that this is a RabbitMQ server and its AMQP port, and whether that port speaks TLS (`tls`)",
        ),
    };
    let retry = match kind {
        ErrorKind::ConnectFailed | ErrorKind::Timeout => Retry::Safe,
        _ => Retry::Never,
    };
    Error::new(kind, format!("cannot connect to RabbitMQ: {text}"))
        .with_retry(retry)
        .with_context("server", place)
        .with_context("vhost", vhost)
        .with_help(help)
}

const UNREACHABLE: &str = "see `host`, `port` and `tls`, and that the server is up and reachable from here; its AMQP ports are 5672 and, with TLS, 5671";

fn io_kind(error: &io::Error, text: &str) -> (ErrorKind, &'static str) {
    let tls = ["certificate", "tls", "handshake", "invalid peer", "corrupt message", "InvalidContentType"];
    if tls.iter().any(|word| text.contains(word)) {
        let help = "see `tls`, `caFile` and the host's name in the server's certificate, and that the port speaks TLS";
        return (ErrorKind::TlsFailed, help);
    }
    match error.kind() {
        io::ErrorKind::TimedOut => (ErrorKind::Timeout, UNREACHABLE),
        _ => (ErrorKind::ConnectFailed, UNREACHABLE),
    }
}

/// A call on an open connection failed. `sent` is whether the server may have acted on it.
pub(crate) fn call(error: &lapin::Error, what: &str, sent: bool) -> Error {
    let (kind, retry, help) = match error.kind() {
        lapin::ErrorKind::ProtocolError(protocol) => protocol_kind(protocol.kind()),
        _ if is_gone(error) => (
            ErrorKind::ConnectionLost,
            Retry::Safe,
            "it is connected anew by itself; see that the server is up",
        ),
        _ => (ErrorKind::ProviderFailed, Retry::Never, "see the server's log"),
    };
    // A soft error is the server's answer to what was asked. Every other ends the whole connection, at whatever it was.
    let retry = if sent && !is_soft(error) { Retry::Uncertain } else { retry };
    Error::new(kind, format!("{what}: {error}")).with_retry(retry).with_help(help)
}

/// A message was put nowhere, or not to its end.
pub(crate) fn not_put(error: &lapin::Error) -> Error {
    match error.kind() {
        // Lapin writes nothing on a channel that is known to be gone.
        lapin::ErrorKind::InvalidChannelState(..) => call(error, "the publish", false),
        // Nor on one that the server has ended, at another message, and then says why that was.
        _ if is_soft(error) => {
            Error::new(ErrorKind::ConnectionLost, format!("the publish: the channel had ended: {error}"))
                .with_retry(Retry::Safe)
        }
        _ => call(error, "the publish", true),
    }
}

/// A message went out, and instead of a confirm the channel ended. Whatever the server ended it at may have been another
/// message, and this one is stored.
pub(crate) fn unanswered(error: &lapin::Error) -> Error {
    call(error, "the publish", true).with_retry(Retry::Uncertain)
}

fn is_soft(error: &lapin::Error) -> bool {
    matches!(
        error.kind(),
        lapin::ErrorKind::ProtocolError(protocol) if matches!(protocol.kind(), AMQPErrorKind::Soft(_))
    )
}

/// Whether the channel or the connection under a call is gone.
pub(crate) fn is_gone(error: &lapin::Error) -> bool {
    use lapin::ErrorKind::{
        IOError, InvalidChannel, InvalidChannelState, InvalidConnectionState, MissingHeartbeatError,
        RuntimeShutdownError,
    };
    match error.kind() {
        IOError(_) | RuntimeShutdownError(_) | InvalidChannel(_) | InvalidChannelState(..) => true,
        InvalidConnectionState(_) | MissingHeartbeatError => true,
        lapin::ErrorKind::ProtocolError(protocol) => matches!(
            protocol.kind(),
            AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED | AMQPHardError::INTERNALERROR)
        ),
        _ => false,
    }
}

/// The most that the server takes of a payload, where this is its word that one was over it. AMQP has no code of its own
/// for that: it is a failed precondition, as another make of a queue is.
pub(crate) fn refused_size(error: &lapin::Error) -> Option<usize> {
    let lapin::ErrorKind::ProtocolError(protocol) = error.kind() else { return None };
    if !matches!(protocol.kind(), AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) {
        return None;
    }
    let text = protocol.get_message().as_str();
    let (_, limit) = text.split_once("message size ")?.1.rsplit_once("max size ")?;
    limit.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A payload is over what the server takes.
pub(crate) fn too_large(size: usize, limit: usize) -> Error {
    let text = format!("the payload has {size} bytes, and the server takes {limit}");
    Error::new(ErrorKind::MessageTooLarge, text)
        .with_help("raise `max_message_size` in the server's configuration, or publish less at once")
}

fn protocol_kind(kind: &AMQPErrorKind) -> (ErrorKind, Retry, &'static str) {
    match kind {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => (
            ErrorKind::DestinationNotFound,
            Retry::Never,
            "make it, or let Ductape make it with `provision: create`",
        ),
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => (
            ErrorKind::DestinationMismatch,
            Retry::Never,
            "delete the queue or exchange, so that it is made anew, or name another in the config",
        ),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
            (ErrorKind::PermissionDenied, Retry::Never, "give the user the permission that the server names")
        }
        AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => {
            (ErrorKind::DestinationMismatch, Retry::Never, "the queue is exclusive to another connection")
        }
        AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED | AMQPHardError::INTERNALERROR) => (
            ErrorKind::ConnectionLost,
            Retry::Safe,
            "the server is going down; it is connected anew by itself",
        ),
        AMQPErrorKind::Hard(AMQPHardError::RESOURCEERROR) => {
            (ErrorKind::Throttled, Retry::Safe, "the server is short of memory, disk or channels")
        }
        _ => (ErrorKind::ProviderFailed, Retry::Never, "see the server's log"),
    }
}

/// A consumer's channel ended.
pub(crate) fn consumer_lost(error: &lapin::Error) -> Error {
    let text = format!("the consumer's channel is gone: {error}");
    let lost = Error::new(ErrorKind::ConnectionLost, text).with_retry(Retry::Safe);
    if is_ack_timeout(error) { lost.with_help(ACK_TIMEOUT) } else { lost }
}

const ACK_TIMEOUT: &str = "a message was in hand for longer than the server waits for its acknowledgement: raise \
     `consumer_timeout` in the server's configuration, or handle more at once";

/// Whether the server ended a channel since a delivery was not settled in its time. AMQP has no code of its own for that.
fn is_ack_timeout(error: &lapin::Error) -> bool {
    let lapin::ErrorKind::ProtocolError(protocol) = error.kind() else { return false };
    matches!(protocol.kind(), AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED))
        && protocol.get_message().as_str().contains("delivery acknowledgement")
}

/// What is used after its close.
pub(crate) fn closed(what: &str) -> Error {
    Error::closed(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::protocol::AMQPError;
    use std::sync::Arc;

    fn soft(kind: AMQPSoftError) -> lapin::Error {
        lapin::ErrorKind::ProtocolError(AMQPError::new(AMQPErrorKind::Soft(kind), "words".into())).into()
    }

    fn hard(kind: AMQPHardError) -> lapin::Error {
        lapin::ErrorKind::ProtocolError(AMQPError::new(AMQPErrorKind::Hard(kind), "words".into())).into()
    }

    fn io(kind: io::ErrorKind, words: &str) -> lapin::Error {
        lapin::ErrorKind::IOError(Arc::new(io::Error::new(kind, words.to_owned()))).into()
    }

    #[test]
    fn a_fault_of_connecting_has_its_kind() {
        let kind = |error: lapin::Error| connect(&error, "h:1", "/").kind();
        assert_eq!(kind(soft(AMQPSoftError::ACCESSREFUSED)), ErrorKind::AuthenticationFailed);
        assert_eq!(kind(hard(AMQPHardError::NOTALLOWED)), ErrorKind::PermissionDenied);
        assert_eq!(kind(io(io::ErrorKind::ConnectionRefused, "refused")), ErrorKind::ConnectFailed);
        assert_eq!(kind(io(io::ErrorKind::TimedOut, "timed out")), ErrorKind::Timeout);
        let certificate = io(io::ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer");
        assert_eq!(kind(certificate), ErrorKind::TlsFailed);
    }

    #[test]
    fn a_size_that_is_refused_is_read_from_the_servers_words() {
        let refused = |words: &str| {
            let kind = AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED);
            refused_size(&lapin::ErrorKind::ProtocolError(AMQPError::new(kind, words.into())).into())
        };
        let size = "PRECONDITION_FAILED - message size 200000 is larger than configured max size 100000";
        assert_eq!(refused(size), Some(100_000));
        assert_eq!(refused("PRECONDITION_FAILED - message size 9 is larger than max size 8"), Some(8));
        assert_eq!(
            refused("PRECONDITION_FAILED - inequivalent arg 'max-length' for queue 'message size 1'"),
            None
        );
    }

    #[test]
    fn a_consumer_that_held_a_delivery_too_long_is_told_which_setting_to_raise() {
        let lost = |kind, words: &str| {
            let error = AMQPError::new(AMQPErrorKind::Soft(kind), words.into());
            consumer_lost(&lapin::ErrorKind::ProtocolError(error).into())
        };
        // RabbitMQ 3.10's words.
        let words = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: \
                     1800000 ms. This timeout value can be configured, see consumers doc guide to learn more";
        let late = lost(AMQPSoftError::PRECONDITIONFAILED, words);
        assert_eq!((late.kind(), late.retry()), (ErrorKind::ConnectionLost, Retry::Safe));
        assert!(late.help().is_some_and(|help| help.contains("consumer_timeout")), "{:?}", late.help());
        let other = lost(AMQPSoftError::PRECONDITIONFAILED, "PRECONDITION_FAILED - unknown delivery tag 7");
        assert!(!other.help().is_some_and(|help| help.contains("consumer_timeout")), "{:?}", other.help());
    }

    #[test]
    fn what_was_sent_without_an_answer_is_uncertain() {
        let lost = io(io::ErrorKind::ConnectionReset, "reset");
        assert_eq!(call(&lost, "x", true).retry(), Retry::Uncertain);
        assert_eq!(call(&lost, "x", false).retry(), Retry::Safe);
        assert_eq!(call(&lost, "x", true).kind(), ErrorKind::ConnectionLost);
        // A server that is told to stop closes connections with messages unconfirmed on them, and has some of these.
        let forced = hard(AMQPHardError::CONNECTIONFORCED);
        assert_eq!(call(&forced, "x", true).retry(), Retry::Uncertain);
        assert_eq!(call(&forced, "x", false).retry(), Retry::Safe);
        assert_eq!(call(&soft(AMQPSoftError::ACCESSREFUSED), "x", true).retry(), Retry::Never);
    }

    /// A message may be stored when the exchange is deleted, and the next one ends the channel.
    #[test]
    fn a_channel_that_ends_leaves_what_was_sent_uncertain() {
        for kind in [AMQPSoftError::NOTFOUND, AMQPSoftError::ACCESSREFUSED, AMQPSoftError::PRECONDITIONFAILED]
        {
            assert_eq!(unanswered(&soft(kind)).retry(), Retry::Uncertain);
        }
        assert_eq!(unanswered(&soft(AMQPSoftError::NOTFOUND)).kind(), ErrorKind::DestinationNotFound);
        assert_eq!(unanswered(&io(io::ErrorKind::ConnectionReset, "reset")).retry(), Retry::Uncertain);
    }

    #[test]
    fn what_came_to_an_ended_channel_was_not_sent() {
        let ended = not_put(&soft(AMQPSoftError::PRECONDITIONFAILED));
        assert_eq!((ended.kind(), ended.retry()), (ErrorKind::ConnectionLost, Retry::Safe));
        let lost = not_put(&io(io::ErrorKind::ConnectionReset, "reset"));
        assert_eq!(lost.retry(), Retry::Uncertain);
    }

    #[test]
    fn a_refusal_of_the_server_has_its_kind_and_its_words() {
        let missing = call(&soft(AMQPSoftError::NOTFOUND), "the queue", false);
        assert_eq!(missing.kind(), ErrorKind::DestinationNotFound);
        assert!(missing.to_string().contains("words"), "{missing}");
        let differs = call(&soft(AMQPSoftError::PRECONDITIONFAILED), "the queue", false);
        assert_eq!(differs.kind(), ErrorKind::DestinationMismatch);
    }
}
