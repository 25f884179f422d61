//! What librdkafka and Kafka say, as kinds and retryability.

use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What a code comes to, where nothing was sent that might have been taken.
struct Meaning {
    kind: ErrorKind,
    retry: Retry,
    help: &'static str,
}

/// A call failed. `sent` is whether the cluster may have acted on it.
pub(crate) fn call(error: &KafkaError, what: &str, sent: bool) -> Error {
    match code(error) {
        Some(code) => coded(code, what, sent),
        None => Error::new(ErrorKind::ProviderFailed, format!("{what}: {error}"))
            .with_help("see the cluster's log, and the settings under `properties`"),
    }
}

/// The same of a bare code.
pub(crate) fn coded(code: Code, what: &str, sent: bool) -> Error {
    let Meaning { kind, retry, help } = meaning(code);
    let lost = matches!(kind, ErrorKind::ConnectionLost | ErrorKind::Timeout | ErrorKind::ConnectFailed);
    let retry = if sent && lost { Retry::Uncertain } else { retry };
    Error::new(kind, format!("{what}: {code}")).with_retry(retry).with_help(help)
}

/// A delivery report that tells of no success. A message that was still in the queue was never sent; with every
/// other fault of the way the report does not say how far it came.
pub(crate) fn undelivered(code: Code) -> Error {
    let sent = !matches!(code, Code::PurgeQueue | Code::QueueFull);
    coded(code, "the message was not confirmed", sent)
}

/// A message that no waiting makes room for: its payload is longer than the client's whole queue.
pub(crate) fn longer_than_queue(size: usize, limit: usize) -> Error {
    let text = format!("the payload has {size} bytes, and the client's whole queue takes {limit}");
    Error::new(ErrorKind::MessageTooLarge, text)
        .with_help("raise `queue.buffering.max.kbytes` under `properties`, or publish less at once")
}

/// What the client library of a consumer cannot mend by itself.
pub(crate) fn consuming(error: &KafkaError) -> Option<Error> {
    match code(error) {
        Some(
            Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::Authentication,
        ) => Some(call(error, "the consumer", false)),
        _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => Some(
            Error::new(ErrorKind::ConnectionLost, format!("the consumer is finished: {error}"))
                .with_retry(Retry::Safe),
        ),
        _ => None,
    }
}

/// The same of a partition's fetches. The others are repeated by the client library.
pub(crate) fn fetching(error: &KafkaError) -> Option<Error> {
    match code(error) {
        _ if is_unreadable(error) => Some(
            Error::new(ErrorKind::ConnectionLost, format!("what was fetched cannot be read: {error}"))
                .with_retry(Retry::Safe)
                .with_help("it is fetched anew by itself; where that does not help, see the topic's log on its leader"),
        ),
        Some(Code::MessageSizeTooLarge) => Some(
            call(error, "a fetch", false)
                .with_help("raise `receive.message.max.bytes` and `fetch.message.max.bytes` under `properties`"),
        ),
        _ => consuming(error),
    }
}

/// Whether the client library skips what it could not read, and goes on behind it.
pub(crate) fn is_unreadable(error: &KafkaError) -> bool {
    matches!(code(error), Some(Code::BadMessage | Code::BadCompression | Code::NotImplemented))
}

/// The code of an error, also where the client library keeps it to itself.
pub(crate) fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

const UNREACHABLE: &str =
    "it is connected anew by itself; see that the cluster is up and reachable from here";
const CREATE: &str = "make it, or let Ductape make it with `provision: create`";
const RIGHTS: &str = "give the user the right that Kafka's ACLs name";
const LATER: &str = "the cluster is moving partitions or coordinators; it goes on by itself";

fn meaning(code: Code) -> Meaning {
    use ErrorKind as Kind;
    let (kind, retry, help) = match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            (Kind::AuthenticationFailed, Retry::Never, "see `sasl`: its mechanism, username and password")
        }
        Code::SSL => (Kind::TlsFailed, Retry::Never, TLS),
        Code::Resolve => (Kind::ConnectFailed, Retry::Safe, "see the host names under `brokers`"),
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::NetworkException
        | Code::PurgeInflight
        | Code::PurgeQueue
        | Code::Fatal
        | Code::OutOfOrderSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerEpoch
        | Code::ProducerFenced
        | Code::Inconsistent
        | Code::DestroyBroker
        | Code::BrokerDestroy => (Kind::ConnectionLost, Retry::Safe, UNREACHABLE),
        Code::MessageTimedOut | Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => {
            (Kind::Timeout, Retry::Safe, UNREACHABLE)
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => (Kind::PermissionDenied, Retry::Never, RIGHTS),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            (Kind::DestinationNotFound, Retry::Never, CREATE)
        }
        Code::InvalidTopic => (
            Kind::ConfigInvalid,
            Retry::Never,
            "a topic's name has at most 249 characters: letters, digits, `.`, `_` and `-`",
        ),
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => (
            Kind::MessageTooLarge,
            Retry::Never,
            "raise the topic's `max.message.bytes`, and `message.max.bytes` under `properties`",
        ),
        Code::QueueFull => {
            (Kind::DestinationFull, Retry::Safe, "publish slower, or see why the cluster is slow")
        }
        Code::ThrottlingQuotaExceeded => (Kind::Throttled, Retry::Safe, "see the quotas of the cluster"),
        Code::GroupIdNotFound | Code::UnknownGroup => {
            (Kind::GroupNotFound, Retry::Never, "see the group's name")
        }
        Code::PolicyViolation
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig => (
            Kind::ConfigInvalid,
            Retry::Never,
            "see `partitions` and `replication`; the cluster's size and policies bound them",
        ),
        Code::IllegalGeneration | Code::UnknownMemberId | Code::FencedInstanceId | Code::AssignmentLost => (
            Kind::LeaseLost,
            Retry::Never,
            "the partition has another member now, and its messages come there",
        ),
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            (Kind::Timeout, Retry::Safe, "see which replicas are out of sync")
        }
        Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::WaitingForCoordinator
        | Code::RebalanceInProgress
        | Code::NotController => (Kind::Timeout, Retry::Safe, LATER),
        _ => (Kind::ProviderFailed, Retry::Never, "see the cluster's log"),
    };
    Meaning { kind, retry, help }
}

const TLS: &str =
    "see `ssl`, `ca` and the host names in the brokers' certificates, and that the port speaks TLS";

/// Connecting failed, as the client's error callback told it.
pub(crate) fn connect(code: Code, reason: &str, brokers: &str) -> Error {
    let (kind, help) = connect_kind(code, reason);
    let retry = match kind {
        ErrorKind::ConnectFailed | ErrorKind::Timeout => Retry::Safe,
        _ => Retry::Never,
    };
    Error::new(kind, format!("cannot connect to Kafka: {reason}"))
        .with_retry(retry)
        .with_context("server", brokers)
        .with_help(help)
}

/// librdkafka reports a failed handshake as a lost transport now and then, and a silent peer as one too; the words tell.
fn connect_kind(code: Code, reason: &str) -> (ErrorKind, &'static str) {
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            (ErrorKind::AuthenticationFailed, "see `sasl`: its mechanism, username and password")
        }
        Code::SSL => (ErrorKind::TlsFailed, TLS),
        _ if says(&[
            "SSL handshake failed",
            "certificate verify failed",
            "SSL connection closed by peer",
        ]) =>
        {
            (ErrorKind::TlsFailed, TLS)
        }
        _ if says(&["timed out", "Timed out", "timeout", "setup time"]) => (ErrorKind::Timeout, SILENT),
        _ if says(&["security.protocol"]) => (
            ErrorKind::ConnectFailed,
            "see `ssl` and `sasl`: the port seems to speak TLS or SASL and the config does not, or the reverse",
        ),
        _ => (
            ErrorKind::ConnectFailed,
            "see the host names and ports under `brokers`, and that the cluster is up",
        ),
    }
}

pub(crate) const SILENT: &str = "see that this is Kafka's port, and whether it speaks TLS or SASL";

/// Whether a connection attempt fails for good, whichever broker is tried next.
pub(crate) fn is_final(code: Code, reason: &str) -> bool {
    !matches!(connect_kind(code, reason).0, ErrorKind::ConnectFailed | ErrorKind::Timeout)
}

/// What is used after its close.
pub(crate) fn closed(what: &str) -> Error {
    Error::closed(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_connecting_has_its_kind() {
        let kind = |code, reason| connect(code, reason, "h:1").kind();
        assert_eq!(kind(Code::Authentication, "SASL authentication error"), ErrorKind::AuthenticationFailed);
        assert_eq!(kind(Code::SSL, "certificate verify failed"), ErrorKind::TlsFailed);
        assert_eq!(kind(Code::BrokerTransportFailure, "SSL handshake failed: eof"), ErrorKind::TlsFailed);
        assert_eq!(
            kind(Code::BrokerTransportFailure, "Connect to h failed: Connection refused"),
            ErrorKind::ConnectFailed
        );
        let closed = "Disconnected: SSL connection closed by peer (after 7ms in state SSL_HANDSHAKE)";
        assert_eq!(kind(Code::BrokerTransportFailure, closed), ErrorKind::TlsFailed);
        assert_eq!(kind(Code::Resolve, "Failed to resolve 'h:1'"), ErrorKind::ConnectFailed);
        assert_eq!(
            kind(Code::BrokerTransportFailure, "ApiVersionRequest failed: Local: Timed out"),
            ErrorKind::Timeout
        );
    }

    #[test]
    fn what_was_sent_without_an_answer_is_uncertain() {
        let silent = [Code::MessageTimedOut, Code::PurgeInflight, Code::BrokerTransportFailure];
        for code in silent.into_iter().chain([Code::OutOfOrderSequenceNumber]) {
            assert_eq!(undelivered(code).retry(), Retry::Uncertain, "{code}");
        }
        assert_eq!(undelivered(Code::PurgeQueue).retry(), Retry::Safe);
        assert_eq!(coded(Code::OperationTimedOut, "x", false).retry(), Retry::Safe);
    }

    #[test]
    fn a_fetch_tells_what_does_not_mend_by_itself() {
        let told = |code| fetching(&KafkaError::MessageConsumption(code));
        for code in [Code::BadMessage, Code::BadCompression] {
            assert_eq!(told(code).unwrap().kind(), ErrorKind::ConnectionLost);
        }
        assert_eq!(told(Code::TopicAuthorizationFailed).unwrap().kind(), ErrorKind::PermissionDenied);
        assert_eq!(told(Code::MessageSizeTooLarge).unwrap().kind(), ErrorKind::MessageTooLarge);
        assert!(told(Code::NotLeaderForPartition).is_none() && told(Code::BrokerTransportFailure).is_none());
    }

    #[test]
    fn a_refusal_of_the_cluster_has_its_kind() {
        let kind = |code| undelivered(code).kind();
        assert_eq!(kind(Code::MessageSizeTooLarge), ErrorKind::MessageTooLarge);
        assert_eq!(kind(Code::UnknownTopicOrPartition), ErrorKind::DestinationNotFound);
        assert_eq!(kind(Code::TopicAuthorizationFailed), ErrorKind::PermissionDenied);
        assert_eq!(undelivered(Code::MessageSizeTooLarge).retry(), Retry::Never);
    }
}
