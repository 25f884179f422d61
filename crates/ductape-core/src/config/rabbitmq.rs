//! `type: RABBITMQ`.

use super::{Fault, not_empty};
use crate::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A RabbitMQ server: `host` and the fields beside it, or one `url`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RabbitMqConfig {
    /// The server's name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The server's port. Default 5672, with TLS 5671.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Who to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The whole address instead: `amqp://user:password@host:port/vhost`, or `amqps://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The virtual host. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// The topic exchange. Default `ductape`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// The queue of the default group: literally, or with `{broker}` and `{topic}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// What messages are routed by: literally, or with `{broker}` and `{topic}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<String>,
    /// Whether to speak TLS. Default false.
    #[serde(default)]
    pub tls: bool,
    /// A file with the authorities to trust instead of the system's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl RabbitMqConfig {
    pub(super) fn check(&self) -> Result<(), Fault> {
        let parts =
            self.host.is_some() || self.port.is_some() || self.username.is_some() || self.password.is_some();
        match (&self.url, &self.host) {
            (Some(_), _) if parts => {
                return Err(Fault::new(
                    "url",
                    "stands alone: take `host`, `port`, `username` and `password` away",
                ));
            }
            (None, None) => return Err(Fault::new("host", "is missing; name `host`, or one `url`")),
            _ => {}
        }
        not_empty("host", self.host.as_deref())?;
        not_empty("queue", self.queue.as_deref())?;
        not_empty("routingKey", self.routing_key.as_deref())
    }
}
