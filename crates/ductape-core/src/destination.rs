//! The place of a topic in one env, as catalogue and providers both name it.

use std::sync::Arc;

/// The group in which dead letters wait for whoever looks after them.
pub const DEAD_LETTER_GROUP: &str = "dead-letters";

/// The place of a topic in one env, as the catalogue's rules name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The provider's own name: a Kafka topic, a queue, a stream, a queue URL.
    pub name: Arc<str>,
    /// What RabbitMQ routes by; nothing elsewhere.
    pub routing_key: Option<Arc<str>>,
    /// The group that exists from the first publish.
    pub default_group: Arc<str>,
    /// Whether the catalogue asks for order across the members of a group (`ordered: true`).
    pub ordered: bool,
    /// What may be done where it is not there.
    pub provision: Provision,
}

impl Destination {
    /// A destination of this name and default group, unordered, made where it is not there.
    pub fn new(name: impl Into<Arc<str>>, default_group: impl Into<Arc<str>>) -> Self {
        Destination {
            name: name.into(),
            routing_key: None,
            default_group: default_group.into(),
            ordered: false,
            provision: Provision::Create,
        }
    }
}

/// What may be done where a destination is not there.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Provision {
    /// Make it.
    #[default]
    Create,
    /// Say `DESTINATION_NOT_FOUND`.
    Verify,
}
