//! What SQS and its SDK say, as kinds and retryability.

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::BatchResultErrorEntry;
use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind};
use std::error::Error as StdError;
use std::time::Duration;

/// How long a caller waits before it tries again what was throttled.
const THROTTLED: Duration = Duration::from_secs(1);
/// SQS keeps the name of a deleted queue for this long.
const DELETED_RECENTLY: Duration = Duration::from_secs(60);

/// A call failed. `acts` is whether doing it twice is worse than once: then no answer is an uncertain answer.
pub(crate) fn call<E>(error: &SdkError<E, HttpResponse>, what: &str, acts: bool) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match error {
        SdkError::ServiceError(answer) => {
            let (error, failed) = (answer.err(), answer.raw().status().is_server_error());
            let error =
                service(error.code().unwrap_or(""), error.message().unwrap_or(""), what, acts, failed);
            // Whatever its code is, it does not say that nothing happened.
            if failed && acts { error.with_retry(Retry::Uncertain) } else { error }
        }
        SdkError::TimeoutError(_) => timeout(what, acts),
        SdkError::ConstructionFailure(_) => unsent(error, what),
        SdkError::DispatchFailure(_) => dispatch(error, what, acts),
        // An answer that cannot be read.
        _ => Error::new(ErrorKind::ProviderFailed, format!("{what}: {}", chain(error)))
            .with_retry(unanswered(acts))
            .with_help("see that the endpoint is an SQS and not something else that speaks HTTP"),
    }
}

/// No answer within the limit.
pub(crate) fn timeout(what: &str, acts: bool) -> Error {
    Error::new(ErrorKind::Timeout, format!("{what}: no answer in time"))
        .with_retry(unanswered(acts))
        .with_help("see that the endpoint is reachable from here")
}

/// One entry of a batch was refused.
pub(crate) fn entry(failed: &BatchResultErrorEntry, what: &str, acts: bool) -> Error {
    service(failed.code(), failed.message().unwrap_or(""), what, acts, !failed.sender_fault)
}

/// One entry of a batch has no result.
pub(crate) fn no_result(what: &str, acts: bool) -> Error {
    Error::new(ErrorKind::ProviderFailed, format!("{what}: the answer has no result for this message"))
        .with_retry(unanswered(acts))
        .with_help("see that the endpoint is an SQS; its answer left one entry of the batch out")
}

fn unanswered(acts: bool) -> Retry {
    if acts { Retry::Uncertain } else { Retry::Safe }
}

/// What the server answered. Codes come in the names of the query protocol and of the JSON protocol. `failed` is
/// whether it says that the fault is its own, which tells of codes that are not known here.
fn service(code: &str, words: &str, what: &str, acts: bool, failed: bool) -> Error {
    let code = code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code);
    let (kind, retry, help) = refusal(code, words, acts, failed);
    let message = match kind {
        // The server's words quote what was signed, the session token included.
        ErrorKind::AuthenticationFailed => format!("{what}: the server answers {code}"),
        _ if words.is_empty() => format!("{what}: the server answers {code}"),
        _ => format!("{what}: {code}: {words}"),
    };
    Error::new(kind, message).with_retry(retry).with_help(help)
}

fn refusal(code: &str, words: &str, acts: bool, failed: bool) -> (ErrorKind, Retry, &'static str) {
    use ErrorKind as Kind;
    let never = |kind, help| (kind, Retry::Never, help);
    match code {
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" => {
            never(Kind::AuthenticationFailed, "see `accessKeyId`: no such key is active in this account")
        }
        "SignatureDoesNotMatch" | "IncompleteSignature" | "InvalidSignatureException" => never(
            Kind::AuthenticationFailed,
            "see `secretAccessKey`: it does not belong to the `accessKeyId`",
        ),
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => never(
            Kind::AuthenticationFailed,
            "the temporary credentials have expired: get new ones and set `sessionToken` with their keys",
        ),
        "RequestExpired" | "RequestTimeTooSkewed" => never(
            Kind::AuthenticationFailed,
            "set this machine's clock: it differs too much from the server's",
        ),
        "MissingAuthenticationToken" | "MissingAuthenticationTokenException" => {
            never(Kind::AuthenticationFailed, "give `accessKeyId` and `secretAccessKey`, or a `profile`")
        }
        "AccessDenied"
        | "AccessDeniedException"
        | "KMS.AccessDeniedException"
        | "KmsAccessDenied"
        | "OptInRequired"
        | "KMS.OptInRequired"
        | "NotAuthorized" => never(
            Kind::PermissionDenied,
            "allow the action on the queue to these credentials; the README lists what is needed",
        ),
        "NonExistentQueue" | "QueueDoesNotExist" => never(
            Kind::DestinationNotFound,
            "the queue is gone, or was never there: make it, or run `ductape apply` under `provision: create`; \
             what was in it is lost",
        ),
        "QueueDeletedRecently" => (
            Kind::DestinationNotFound,
            Retry::After(DELETED_RECENTLY),
            "a queue of this name was deleted just now: SQS lets it be made again after 60 s",
        ),
        "QueueNameExists" | "QueueAlreadyExists" => never(
            Kind::DestinationMismatch,
            "the queue is there with other attributes: set `provision: verify`, or give the topic another name",
        ),
        "RequestThrottled"
        | "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown"
        | "KMS.ThrottlingException"
        | "KmsThrottled"
        | "OverLimit" => (
            Kind::Throttled,
            Retry::After(THROTTLED),
            "the server asks to go slower; ask for a higher quota if that lasts",
        ),
        "ReceiptHandleIsInvalid" | "MessageNotInflight" => never(
            Kind::LeaseLost,
            "the message is with another consumer by now: let handlers be quicker, or make the lease longer",
        ),
        "InvalidMessageContents" => {
            never(Kind::MessageInvalid, "mend the message; the others are not affected")
        }
        "BatchRequestTooLong" => never(Kind::MessageTooLarge, TOO_LARGE),
        "InvalidParameterValue" if words.contains("must be shorter than") => {
            never(Kind::MessageTooLarge, TOO_LARGE)
        }
        "InvalidAddress" => never(Kind::ConfigInvalid, "see the `queueUrl`: it is no queue of this endpoint"),
        "InternalError" | "InternalFailure" | "InternalServerError" | "ServiceUnavailable" | "" => {
            (Kind::ProviderFailed, unanswered(acts), SERVER_FAILED)
        }
        _ if failed => (Kind::ProviderFailed, unanswered(acts), SERVER_FAILED),
        _ => never(Kind::ProviderFailed, "see the server's words, and its log"),
    }
}

const SERVER_FAILED: &str = "the server failed; see its status page or log";
const TOO_LARGE: &str = "publish less, or store the payload elsewhere and publish where it is";

/// The request never left.
fn unsent(error: &(dyn StdError + 'static), what: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("{what}: the request cannot be made: {}", chain(error)))
        .with_help("see `region` and `endpoint`")
}

/// No answer came, for a reason on this side of the server.
fn dispatch(error: &(dyn StdError + 'static), what: &str, acts: bool) -> Error {
    let words = chain(error);
    let says = |marks: &[&str]| marks.iter().any(|mark| words.contains(mark));
    if says(&["failed to apply endpoint"]) {
        // The words hold the whole request.
        return Error::new(ErrorKind::ConfigInvalid, format!("{what}: the endpoint is no URL"))
            .with_help("write `endpoint: https://host:port`");
    }
    let (kind, retry, help) = if says(&["credential", "Credential"]) {
        (
            ErrorKind::AuthenticationFailed,
            Retry::Never,
            "give `accessKeyId` and `secretAccessKey`, a `profile`, or credentials in the environment",
        )
    } else if says(&["certificate", "invalid peer", "InvalidContentType", "corrupt message"]) {
        (
            ErrorKind::TlsFailed,
            Retry::Never,
            "see that `endpoint` speaks TLS and has a certificate of an authority that this machine trusts",
        )
    } else if says(&["(Connect)", "dns error", "connect timeout"]) {
        (ErrorKind::ConnectFailed, Retry::Safe, "see `region`, `endpoint` and the network")
    } else if says(&["timed out", "timeout"]) {
        (ErrorKind::Timeout, unanswered(acts), "see that the endpoint is reachable from here")
    } else {
        (
            ErrorKind::ConnectionLost,
            unanswered(acts),
            "the next call connects anew by itself; see that the server is up",
        )
    };
    Error::new(kind, format!("{what}: {words}")).with_retry(retry).with_help(help)
}

/// An error's words and those of what caused it, without repetitions. None of them holds a secret: the SDK never
/// quotes keys, and the answers of the server do not come here.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !words.ends_with(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str) -> ErrorKind {
        service(code, "words", "a call", true, false).kind()
    }

    #[test]
    fn each_refusal_has_a_kind_of_its_own_and_help() {
        for (code, expected) in [
            ("InvalidClientTokenId", ErrorKind::AuthenticationFailed),
            ("SignatureDoesNotMatch", ErrorKind::AuthenticationFailed),
            ("ExpiredToken", ErrorKind::AuthenticationFailed),
            ("AccessDenied", ErrorKind::PermissionDenied),
            ("AWS.SimpleQueueService.NonExistentQueue", ErrorKind::DestinationNotFound),
            ("QueueDoesNotExist", ErrorKind::DestinationNotFound),
            ("QueueNameExists", ErrorKind::DestinationMismatch),
            ("ThrottlingException", ErrorKind::Throttled),
            ("ReceiptHandleIsInvalid", ErrorKind::LeaseLost),
            ("SomethingNew", ErrorKind::ProviderFailed),
        ] {
            let error = service(code, "words", "a call", true, false);
            assert_eq!(error.kind(), expected, "{code}");
            assert!(error.help().is_some(), "{code}");
        }
        assert_eq!(kind("AWS.SimpleQueueService.QueueDoesNotExist"), ErrorKind::DestinationNotFound);
    }

    #[test]
    fn the_words_of_a_refused_signature_are_not_told() {
        let words = "The Canonical String should have been 'x-amz-security-token:FwoGZX'";
        let said = service("SignatureDoesNotMatch", words, "the ping", false, false).to_string();
        assert!(!said.contains("FwoGZX") && said.contains("SignatureDoesNotMatch"), "{said}");
    }

    #[test]
    fn a_server_that_fails_leaves_a_publish_uncertain_and_throttling_does_not() {
        let retry = |code, acts, failed| service(code, "", "x", acts, failed).retry();
        for code in ["InternalError", "ServiceUnavailable"] {
            assert_eq!(retry(code, true, false), Retry::Uncertain);
            assert_eq!(retry(code, false, false), Retry::Safe);
        }
        assert_eq!(retry("SomethingNew", true, true), Retry::Uncertain);
        assert_eq!(retry("SomethingNew", false, true), Retry::Safe);
        assert_eq!(retry("SomethingNew", true, false), Retry::Never);
        assert_eq!(retry("RequestThrottled", true, false), Retry::After(THROTTLED));
        assert_eq!(timeout("x", true).retry(), Retry::Uncertain);
    }
}
