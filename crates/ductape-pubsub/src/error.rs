//! What Pub/Sub says, as kinds and retryability.

use crate::protocol::{ErrorInfo, RpcStatus};
use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind};
use google_cloud_gax::error::rpc::StatusDetails;
use prost::Message as _;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::time::Duration;
use tonic::{Code, Status};

/// How long to leave a server alone that asks to go slower.
const SLOWER: Duration = Duration::from_secs(1);

/// What a call does if the server has it: whether it may be made again where no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Twice is as once.
    Same,
    /// Twice is twice: a publish.
    Doubles,
}

/// A refusal, in gRPC or in REST.
struct Refusal {
    code: Code,
    words: String,
    /// Google's own reason, such as `IAM_PERMISSION_DENIED`.
    reason: Option<String>,
}

/// A call over gRPC failed.
pub(crate) fn rpc(status: &Status, what: &str, effect: Effect) -> Error {
    if let Some(connect) = unconnected(status) {
        return not_connected(what, &chain(connect));
    }
    let words = status.message().to_owned();
    let words = if words.is_empty() { status.code().description().to_owned() } else { words };
    let refusal = Refusal { code: status.code(), words, reason: info(status).map(|info| info.reason) };
    if status.source().is_some() && lost(refusal.code) {
        return connection_lost(what, &format!("{}: {}", refusal.words, chain(status)), effect);
    }
    refused(refusal, what, effect)
}

/// A call over REST failed. All of them may be made again.
pub(crate) fn rest(error: &google_cloud_gax::error::Error, what: &str) -> Error {
    let text = chain(error);
    if error.is_authentication() {
        return no_credentials(&text);
    }
    if error.is_connect() || error.is_transient_and_before_rpc() {
        return not_connected(what, &text);
    }
    if error.is_timeout() {
        return timed_out(what, Effect::Same);
    }
    let reason = |details: &StatusDetails| match details {
        StatusDetails::ErrorInfo(info) => Some(info.reason.clone()),
        _ => None,
    };
    let refusal = match (error.status(), error.http_status_code()) {
        (Some(status), _) => Refusal {
            code: Code::from(status.code as i32),
            words: status.message.clone(),
            reason: status.details.iter().find_map(reason),
        },
        (None, Some(http)) => Refusal { code: by_http(http), words: format!("HTTP {http}"), reason: None },
        (None, None) if error.is_io() || error.is_transport() => {
            return not_connected(what, &text);
        }
        (None, None) => Refusal { code: Code::Unknown, words: text, reason: None },
    };
    refused(refusal, what, Effect::Same)
}

/// Whether a refusal is of a permission, by the reason that goes with it.
pub(crate) fn lacks_permission(error: &google_cloud_gax::error::Error) -> bool {
    let Some(status) = error.status() else { return false };
    status.details.iter().any(
        |details| matches!(details, StatusDetails::ErrorInfo(info) if info.reason == "IAM_PERMISSION_DENIED"),
    )
}

/// Whether it is not there.
pub(crate) fn is_missing(error: &google_cloud_gax::error::Error) -> bool {
    error
        .status()
        .map_or(error.http_status_code() == Some(404), |status| status.code as i32 == Code::NotFound as i32)
}

/// Whether it is there already.
pub(crate) fn exists(error: &google_cloud_gax::error::Error) -> bool {
    error.status().map_or(error.http_status_code() == Some(409), |status| {
        status.code as i32 == Code::AlreadyExists as i32
    })
}

/// The fate of each ack id that failed, where the subscription confirms acknowledgements: whether it may be tried again.
pub(crate) fn fates(status: &Status) -> HashMap<String, bool> {
    let fate = |metadata: crate::protocol::Attribute| {
        let transient = metadata.value.starts_with("TRANSIENT_FAILURE_");
        (transient || metadata.value.starts_with("PERMANENT_FAILURE_")).then_some((metadata.name, transient))
    };
    info(status).into_iter().flat_map(|info| info.metadata).filter_map(fate).collect()
}

fn info(status: &Status) -> Option<ErrorInfo> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let info = details.into_iter().find(|any| any.type_url == ErrorInfo::TYPE)?;
    ErrorInfo::decode(info.value).ok()
}

/// Codes that a connection's end gives as well as a server.
fn lost(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted)
}

fn by_http(http: u16) -> Code {
    match http {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::AlreadyExists,
        429 => Code::ResourceExhausted,
        504 => Code::DeadlineExceeded,
        500..600 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

fn refused(refusal: Refusal, what: &str, effect: Effect) -> Error {
    let Refusal { code, words, reason } = refusal;
    let unanswered = if effect == Effect::Doubles { Retry::Uncertain } else { Retry::Safe };
    let (kind, retry, help) = match code {
        _ if is_of_project(&words, reason.as_deref()) => (
            ErrorKind::ConfigInvalid,
            Retry::Never,
            "see `projectId`: it is the project's id and not its name, and its Pub/Sub API must be enabled",
        ),
        Code::NotFound => (
            ErrorKind::DestinationNotFound,
            Retry::Never,
            "it was deleted, or an emulator began anew without it: make it again with `ductape apply` or by \
             opening the connection anew, with `provision: create`",
        ),
        Code::PermissionDenied => (
            ErrorKind::PermissionDenied,
            Retry::Never,
            "give the account the role that its work needs: roles/pubsub.publisher, roles/pubsub.subscriber, \
             and roles/pubsub.editor where topics are to be made",
        ),
        Code::Unauthenticated => (ErrorKind::AuthenticationFailed, Retry::Never, CREDENTIALS),
        Code::InvalidArgument | Code::OutOfRange if effect == Effect::Doubles => (
            ErrorKind::MessageInvalid,
            Retry::Never,
            "see the topic's schema if it has one, and the limits at https://cloud.google.com/pubsub/quotas",
        ),
        Code::InvalidArgument | Code::OutOfRange => {
            (ErrorKind::ConfigInvalid, Retry::Never, "mend what the server names")
        }
        Code::FailedPrecondition | Code::AlreadyExists => {
            (ErrorKind::DestinationMismatch, Retry::Never, "mend the topic or subscription, or name another")
        }
        Code::ResourceExhausted => (
            ErrorKind::Throttled,
            Retry::After(SLOWER),
            "it is tried again more slowly; see the project's quotas",
        ),
        Code::DeadlineExceeded => (ErrorKind::Timeout, unanswered, UNREACHABLE),
        Code::Unavailable => (ErrorKind::ConnectionLost, unanswered, UNREACHABLE),
        Code::Unimplemented => (
            ErrorKind::Unsupported,
            Retry::Never,
            "see that the endpoint is Pub/Sub, or an emulator that has this",
        ),
        _ => (ErrorKind::ProviderFailed, unanswered, "see https://status.cloud.google.com"),
    };
    Error::new(kind, format!("{what}: {words}")).with_retry(retry).with_help(help)
}

/// Whether the project is what is wrong, and not what is in it.
fn is_of_project(words: &str, reason: Option<&str>) -> bool {
    matches!(
        reason,
        Some("CONSUMER_INVALID" | "SERVICE_DISABLED" | "USER_PROJECT_DENIED" | "RESOURCE_PROJECT_INVALID")
    ) || words.contains("project not found")
        || words.contains("Invalid project")
}

const UNREACHABLE: &str = "see the network, and `endpoint`";
const CREDENTIALS: &str = "see that the key of `keyFilename` is still valid; without one set \
     GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`";

/// The credentials gave no token.
pub(crate) fn no_credentials(words: &str) -> Error {
    Error::new(ErrorKind::AuthenticationFailed, format!("no token from the credentials: {words}"))
        .with_help(CREDENTIALS)
}

/// There is no connection, so nothing was sent.
fn not_connected(what: &str, words: &str) -> Error {
    let lower = words.to_ascii_lowercase();
    let tls = ["certificate", "tls", "handshake"].iter().any(|word| lower.contains(word));
    let (kind, retry, help) = if tls {
        (
            ErrorKind::TlsFailed,
            Retry::Never,
            "see that `endpoint` speaks TLS, or write `http://` for one that does not",
        )
    } else {
        (ErrorKind::ConnectFailed, Retry::Safe, UNREACHABLE)
    };
    Error::new(kind, format!("{what}: no connection: {words}")).with_retry(retry).with_help(help)
}

fn connection_lost(what: &str, words: &str, effect: Effect) -> Error {
    let retry = if effect == Effect::Doubles { Retry::Uncertain } else { Retry::Safe };
    Error::new(ErrorKind::ConnectionLost, format!("{what}: {words}")).with_retry(retry)
}

/// No answer came in time.
pub(crate) fn timed_out(what: &str, effect: Effect) -> Error {
    let retry = if effect == Effect::Doubles { Retry::Uncertain } else { Retry::Safe };
    Error::new(ErrorKind::Timeout, format!("{what}: no answer in time"))
        .with_retry(retry)
        .with_help(UNREACHABLE)
}

/// What of a failed call was about connecting.
fn unconnected(status: &Status) -> Option<&tonic::ConnectError> {
    let mut source = status.source();
    while let Some(cause) = source {
        if let Some(connect) = cause.downcast_ref() {
            return Some(connect);
        }
        source = cause.source();
    }
    None
}

/// An error's words and those of what caused it, each once.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Any, Attribute};

    fn with_info(code: Code, reason: &str, metadata: &[(&str, &str)]) -> Status {
        let metadata = metadata.iter();
        let metadata =
            metadata.map(|(name, value)| Attribute { name: (*name).into(), value: (*value).into() });
        let info = ErrorInfo { reason: reason.into(), metadata: metadata.collect() };
        let any = Any { type_url: ErrorInfo::TYPE.into(), value: info.encode_to_vec().into() };
        let details = RpcStatus { details: vec![any] }.encode_to_vec();
        Status::with_details(code, "words", details.into())
    }

    #[test]
    fn a_refusal_has_its_kind_and_the_servers_words() {
        let kind = |code| rpc(&Status::new(code, "words"), "the publish", Effect::Doubles);
        for (code, wanted) in [
            (Code::NotFound, ErrorKind::DestinationNotFound),
            (Code::PermissionDenied, ErrorKind::PermissionDenied),
            (Code::Unauthenticated, ErrorKind::AuthenticationFailed),
            (Code::ResourceExhausted, ErrorKind::Throttled),
            (Code::InvalidArgument, ErrorKind::MessageInvalid),
        ] {
            let error = kind(code);
            assert_eq!(error.kind(), wanted);
            assert!(error.help().is_some() && error.message().contains("words"), "{error}");
            assert!(!error.is_uncertain(), "{error}");
        }
    }

    #[test]
    fn a_publish_without_an_answer_is_uncertain_and_an_acknowledgement_is_not() {
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Internal, Code::Unknown, Code::Aborted]
        {
            let status = Status::new(code, "words");
            assert!(rpc(&status, "x", Effect::Doubles).is_uncertain(), "{code:?}");
            assert!(rpc(&status, "x", Effect::Same).is_retryable(), "{code:?}");
        }
        assert!(timed_out("x", Effect::Doubles).is_uncertain());
    }

    #[test]
    fn nothing_was_sent_where_there_was_no_connection() {
        let refused = std::io::Error::other("refused");
        let status = Status::from_error(Box::new(tonic::ConnectError(refused.into())));
        let error = rpc(&status, "x", Effect::Doubles);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ConnectFailed, true));
        let tls = std::io::Error::other("invalid peer certificate: UnknownIssuer");
        let status = Status::from_error(Box::new(tonic::ConnectError(tls.into())));
        assert_eq!(rpc(&status, "x", Effect::Doubles).kind(), ErrorKind::TlsFailed);
    }

    #[test]
    fn a_wrong_project_is_told_from_a_missing_topic() {
        let status =
            Status::new(Code::NotFound, "Requested project not found or user does not have access to it");
        assert_eq!(rpc(&status, "x", Effect::Same).kind(), ErrorKind::ConfigInvalid);
        let status = with_info(Code::PermissionDenied, "CONSUMER_INVALID", &[]);
        assert_eq!(rpc(&status, "x", Effect::Same).kind(), ErrorKind::ConfigInvalid);
    }

    #[test]
    fn each_ack_id_that_was_not_confirmed_has_its_own_fate() {
        let metadata = [
            ("late", "PERMANENT_FAILURE_INVALID_ACK_ID"),
            ("again", "TRANSIENT_FAILURE_OTHER"),
            ("service", "pubsub.googleapis.com"),
        ];
        let fates = fates(&with_info(Code::FailedPrecondition, "EXACTLY_ONCE_ACKID_FAILURE", &metadata));
        assert_eq!(fates, HashMap::from([("late".into(), false), ("again".into(), true)]));
    }
}
