//! The messages of `google.pubsub.v1` that carry the data plane, by their field numbers. Fields that nothing here reads
//! are left out: protobuf skips them.

use bytes::Bytes;
use prost::Message;

/// The method that takes a batch of messages.
pub(crate) const PUBLISH: &str = "/google.pubsub.v1.Publisher/Publish";
/// The method that acknowledges.
pub(crate) const ACKNOWLEDGE: &str = "/google.pubsub.v1.Subscriber/Acknowledge";
/// The method that renews leases, and by a lease of nothing gives them up.
pub(crate) const MODIFY_ACK_DEADLINE: &str = "/google.pubsub.v1.Subscriber/ModifyAckDeadline";
/// The method that streams deliveries.
pub(crate) const STREAMING_PULL: &str = "/google.pubsub.v1.Subscriber/StreamingPull";

/// A message of a topic.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PubsubMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: Bytes,
    /// A map, which on the wire is its entries.
    #[prost(message, repeated, tag = "2")]
    pub(crate) attributes: Vec<Attribute>,
    #[prost(string, tag = "3")]
    pub(crate) message_id: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) publish_time: Option<Time>,
    #[prost(string, tag = "5")]
    pub(crate) ordering_key: String,
}

/// An entry of a message's attributes.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Attribute {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Time {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PublishRequest {
    #[prost(string, tag = "1")]
    pub(crate) topic: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) messages: Vec<PubsubMessage>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PublishResponse {
    #[prost(string, repeated, tag = "1")]
    pub(crate) message_ids: Vec<String>,
}

/// `google.protobuf.Empty`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Nothing {}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AcknowledgeRequest {
    #[prost(string, tag = "1")]
    pub(crate) subscription: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) ack_ids: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ModifyAckDeadlineRequest {
    #[prost(string, tag = "1")]
    pub(crate) subscription: String,
    #[prost(int32, tag = "3")]
    pub(crate) ack_deadline_seconds: i32,
    #[prost(string, repeated, tag = "4")]
    pub(crate) ack_ids: Vec<String>,
}

/// The first of a stream names the subscription; those after it, empty, keep it alive.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StreamingPullRequest {
    #[prost(string, tag = "1")]
    pub(crate) subscription: String,
    #[prost(int32, tag = "5")]
    pub(crate) stream_ack_deadline_seconds: i32,
    #[prost(string, tag = "6")]
    pub(crate) client_id: String,
    #[prost(int64, tag = "7")]
    pub(crate) max_outstanding_messages: i64,
    #[prost(int64, tag = "8")]
    pub(crate) max_outstanding_bytes: i64,
    /// 1: the server may answer with nothing, to say that it is there.
    #[prost(int64, tag = "10")]
    pub(crate) protocol_version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamingPullResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) received_messages: Vec<ReceivedMessage>,
}

/// A message with what settles it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReceivedMessage {
    #[prost(string, tag = "1")]
    pub(crate) ack_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) message: Option<PubsubMessage>,
    /// How often it was delivered, where the subscription has a dead-letter policy; else 0.
    #[prost(int32, tag = "3")]
    pub(crate) delivery_attempt: i32,
}

/// `google.rpc.Status`, which a refusal carries in its details.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// `google.rpc.ErrorInfo`. Where an acknowledgement must be confirmed its metadata is the fate of each ack id that failed.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub(crate) reason: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) metadata: Vec<Attribute>,
}

impl ErrorInfo {
    /// The type that its `Any` names.
    pub(crate) const TYPE: &str = "type.googleapis.com/google.rpc.ErrorInfo";
}
