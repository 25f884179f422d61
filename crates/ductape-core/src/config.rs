//! The configs of all providers, as plain data, so that a catalogue can be read and checked without any of
//! them compiled in.

mod cloud;
mod embedded;
mod kafka;
mod rabbitmq;
mod redis;

pub use cloud::{PubSubConfig, SqsConfig};
pub use embedded::{Durability, MemoryConfig, SqliteConfig};
pub use kafka::{KafkaConfig, SaslConfig, SaslMechanism};
pub use rabbitmq::RabbitMqConfig;
pub use redis::{RedisConfig, RedisMode, SentinelConfig};

use crate::error::{Error, ErrorKind, Result};
use crate::secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// Which provider carries the messages, as the catalogue's `type` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ProviderKind {
    /// In this process.
    #[serde(rename = "MEMORY")]
    Memory,
    /// One file.
    #[serde(rename = "SQLITE")]
    Sqlite,
    /// Apache Kafka.
    #[serde(rename = "KAFKA")]
    Kafka,
    /// RabbitMQ.
    #[serde(rename = "RABBITMQ")]
    RabbitMq,
    /// Redis.
    #[serde(rename = "REDIS")]
    Redis,
    /// Amazon SQS.
    #[serde(rename = "AWS_SQS")]
    AwsSqs,
    /// Google Pub/Sub.
    #[serde(rename = "GOOGLE_PUBSUB")]
    GooglePubSub,
}

impl ProviderKind {
    /// All seven.
    pub const ALL: [ProviderKind; 7] = [
        ProviderKind::Memory,
        ProviderKind::Sqlite,
        ProviderKind::Kafka,
        ProviderKind::RabbitMq,
        ProviderKind::Redis,
        ProviderKind::AwsSqs,
        ProviderKind::GooglePubSub,
    ];

    /// As the catalogue writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ProviderKind::Memory => "MEMORY",
            ProviderKind::Sqlite => "SQLITE",
            ProviderKind::Kafka => "KAFKA",
            ProviderKind::RabbitMq => "RABBITMQ",
            ProviderKind::Redis => "REDIS",
            ProviderKind::AwsSqs => "AWS_SQS",
            ProviderKind::GooglePubSub => "GOOGLE_PUBSUB",
        }
    }

    /// The feature of the `ductape` crate that compiles it in.
    pub const fn feature(self) -> &'static str {
        match self {
            ProviderKind::Memory => "memory",
            ProviderKind::Sqlite => "sqlite",
            ProviderKind::Kafka => "kafka",
            ProviderKind::RabbitMq => "rabbitmq",
            ProviderKind::Redis => "redis",
            ProviderKind::AwsSqs => "sqs",
            ProviderKind::GooglePubSub => "pubsub",
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The config of one env, by its `type`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ProviderConfig {
    /// In this process.
    Memory(MemoryConfig),
    /// One file.
    Sqlite(SqliteConfig),
    /// Apache Kafka.
    Kafka(KafkaConfig),
    /// RabbitMQ.
    RabbitMq(RabbitMqConfig),
    /// Redis.
    Redis(RedisConfig),
    /// Amazon SQS.
    AwsSqs(SqsConfig),
    /// Google Pub/Sub.
    GooglePubSub(PubSubConfig),
}

/// What is wrong with a config: the field, and what to do about it.
#[derive(Debug)]
struct Fault {
    field: &'static str,
    what: String,
}

impl Fault {
    fn new(field: &'static str, what: impl Into<String>) -> Self {
        Fault { field, what: what.into() }
    }
}

impl ProviderConfig {
    /// Which provider it is for.
    pub fn kind(&self) -> ProviderKind {
        match self {
            ProviderConfig::Memory(_) => ProviderKind::Memory,
            ProviderConfig::Sqlite(_) => ProviderKind::Sqlite,
            ProviderConfig::Kafka(_) => ProviderKind::Kafka,
            ProviderConfig::RabbitMq(_) => ProviderKind::RabbitMq,
            ProviderConfig::Redis(_) => ProviderKind::Redis,
            ProviderConfig::AwsSqs(_) => ProviderKind::AwsSqs,
            ProviderConfig::GooglePubSub(_) => ProviderKind::GooglePubSub,
        }
    }

    /// Reads the config of a kind. The error is serde's, with the path of what it is about.
    pub(crate) fn read(
        kind: ProviderKind,
        value: Value,
    ) -> Result<Self, serde_path_to_error::Error<serde_json::Error>> {
        use serde_path_to_error::deserialize;
        Ok(match kind {
            ProviderKind::Memory => ProviderConfig::Memory(deserialize(value)?),
            ProviderKind::Sqlite => ProviderConfig::Sqlite(deserialize(value)?),
            ProviderKind::Kafka => ProviderConfig::Kafka(deserialize(value)?),
            ProviderKind::RabbitMq => ProviderConfig::RabbitMq(deserialize(value)?),
            ProviderKind::Redis => ProviderConfig::Redis(deserialize(value)?),
            ProviderKind::AwsSqs => ProviderConfig::AwsSqs(deserialize(value)?),
            ProviderKind::GooglePubSub => ProviderConfig::GooglePubSub(deserialize(value)?),
        })
    }

    /// Checks what can be checked without connecting and without reading a secret.
    ///
    /// # Errors
    /// `CONFIG_INVALID` naming the field and what to do.
    pub fn check(&self) -> Result<()> {
        let checked = match self {
            ProviderConfig::Memory(config) => config.check(),
            ProviderConfig::Sqlite(config) => config.check(),
            ProviderConfig::Kafka(config) => config.check(),
            ProviderConfig::RabbitMq(config) => config.check(),
            ProviderConfig::Redis(config) => config.check(),
            ProviderConfig::AwsSqs(config) => config.check(),
            ProviderConfig::GooglePubSub(config) => config.check(),
        };
        checked.map_err(|fault| {
            Error::new(ErrorKind::ConfigInvalid, format!("`{}` {}", fault.field, fault.what))
                .with_context("provider", self.kind())
        })
    }

    /// The config with every reference replaced by what it stands for now. Never stored, never shown.
    ///
    /// # Errors
    /// `SECRET_MISSING` naming the variable or file and the field; `CONFIG_INVALID`.
    pub fn resolve(&self, base_dir: &Path) -> Result<Self> {
        let mut value = serde_json::to_value(self).map_err(|error| unreadable(self.kind(), &error))?;
        resolve_value(&mut value, base_dir, "config").map_err(|e| e.with_context("provider", self.kind()))?;
        let resolved =
            Self::read(self.kind(), value).map_err(|error| unreadable(self.kind(), error.inner()))?;
        resolved.check()?;
        Ok(resolved)
    }
}

fn resolve_value(value: &mut Value, base_dir: &Path, place: &str) -> Result<()> {
    match value {
        Value::String(text) if text.contains("${") => *text = secret::resolve(text, base_dir, place)?,
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                resolve_value(item, base_dir, &format!("{place}[{i}]"))?;
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                resolve_value(field, base_dir, &format!("{place}.{name}"))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The kind of fault without serde's words, which may quote what a reference stood for.
fn unreadable(kind: ProviderKind, error: &serde_json::Error) -> Error {
    let what = format!("the config cannot be read once its references are replaced ({:?})", error.classify());
    Error::new(ErrorKind::ConfigInvalid, what).with_context("provider", kind)
}

fn not_empty(field: &'static str, text: Option<&str>) -> Result<(), Fault> {
    match text {
        Some("") => Err(Fault::new(field, "is empty")),
        _ => Ok(()),
    }
}

/// References are not looked into: what they stand for is checked when the connection opens.
fn host_and_port(field: &'static str, text: &str) -> Result<(), Fault> {
    if text.contains("${") {
        return Ok(());
    }
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good { Ok(()) } else { Err(Fault::new(field, format!("holds `{text}`; write `host:port`"))) }
}

fn duration(field: &'static str, text: Option<&str>) -> Result<(), Fault> {
    match text.map(crate::duration::parse) {
        Some(Err(error)) => Err(Fault::new(field, format!("{}; write `30s` or `7d`", error.message()))),
        _ => Ok(()),
    }
}
