//! `type: KAFKA`.

use super::{Fault, host_and_port, not_empty};
use crate::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An Apache Kafka cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaConfig {
    /// Where to begin: `host:port` each.
    pub brokers: Vec<String>,
    /// Names this program to the cluster. Default: the product's tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The default group. Default: the product's tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// The Kafka topic: literally, or with `{broker}` and `{topic}`. Default `{broker}.{topic}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Whether to speak TLS. Default false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ssl: bool,
    /// A file of the authorities to trust (PEM), instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Who to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslConfig>,
    /// Partitions of a topic that is made. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Replicas of a topic that is made. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<i16>,
    /// Settings of the client library by its own names. Those that would break a promise are refused. Never shown,
    /// since some are secrets (`ssl.key.password`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Secret>,
}

/// Who to be, and how to prove it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaslConfig {
    /// How.
    pub mechanism: SaslMechanism,
    /// Who.
    pub username: String,
    /// The proof.
    pub password: Secret,
}

/// How to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// The password itself; only with `ssl: true` is it hidden on the way.
    #[serde(rename = "plain")]
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl KafkaConfig {
    /// Checks what can be checked without connecting.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.brokers.is_empty() {
            return Err(Fault::new("brokers", "is empty; name at least one `host:port`"));
        }
        self.brokers.iter().try_for_each(|broker| host_and_port("brokers", broker))?;
        not_empty("topic", self.topic.as_deref())?;
        not_empty("groupId", self.group_id.as_deref())?;
        if self.ca.is_some() && !self.ssl {
            return Err(Fault::new("ca", "does nothing without `ssl: true`"));
        }
        if self.partitions.is_some_and(|n| n < 1) {
            return Err(Fault::new("partitions", "is at least 1"));
        }
        if self.replication.is_some_and(|n| n < 1) {
            return Err(Fault::new("replication", "is at least 1"));
        }
        self.properties.keys().try_for_each(|name| property_allowed(name))
    }
}

/// Settings of the client library that are said elsewhere in the config, and where.
const SAID_ELSEWHERE: &[(&str, &str)] = &[
    ("bootstrap.servers", "`brokers`"),
    ("metadata.broker.list", "`brokers`"),
    ("client.id", "`clientId`"),
    ("group.id", "`groupId`"),
    ("security.protocol", "`ssl` and `sasl`"),
    ("ssl.ca.location", "`ca`"),
    ("ssl.ca.pem", "`ca`"),
    ("ssl.ca.certificate.stores", "`ca`"),
];

/// Settings of the client library on which a promise rests, and the promise.
const BREAKS: &[(&str, &str)] = &[
    ("acks", WAITS),
    ("request.required.acks", WAITS),
    ("delivery.report.only.error", WAITS),
    ("enable.idempotence", IN_ORDER),
    ("max.in.flight", IN_ORDER),
    ("max.in.flight.requests.per.connection", IN_ORDER),
    ("retries", IN_ORDER),
    ("message.send.max.retries", IN_ORDER),
    ("enable.gapless.guarantee", IN_ORDER),
    ("queuing.strategy", IN_ORDER),
    ("transactional.id", IN_ORDER),
    ("partitioner", PLACED),
    ("sticky.partitioning.linger.ms", PLACED),
    ("message.timeout.ms", IN_TIME),
    ("delivery.timeout.ms", IN_TIME),
    ("enable.auto.commit", SETTLED),
    ("auto.commit.enable", SETTLED),
    ("auto.commit.interval.ms", SETTLED),
    ("enable.auto.offset.store", SETTLED),
    ("offset.store.method", SETTLED),
    ("auto.offset.reset", SETTLED),
    ("enable.partition.eof", SETTLED),
    ("group.protocol", SHARED),
    ("group.remote.assignor", SHARED),
    ("partition.assignment.strategy", SHARED),
    ("allow.auto.create.topics", "`provision` says whether topics may be made"),
    ("enable.ssl.certificate.verification", VERIFIED),
    ("ssl.endpoint.identification.algorithm", VERIFIED),
    ("plugin.library.paths", "it would load foreign code"),
];

const WAITS: &str = "a publish returns when every replica in sync has the message";
const IN_ORDER: &str = "messages of one key are taken in order, and none twice";
const PLACED: &str = "a key lies where every other client looks for it";
const IN_TIME: &str = "a publish ends within the connection's own time limit";
const SETTLED: &str = "what is not settled comes back";
const SHARED: &str = "members hand partitions over without losing what is in hand";
const VERIFIED: &str = "certificates are verified; name the authority with `ca`";

/// Refuses by name what would break a promise, or say a thing twice.
fn property_allowed(name: &str) -> Result<(), Fault> {
    let of = |table: &[(&str, &'static str)]| table.iter().find(|(own, _)| *own == name).map(|(_, why)| *why);
    if let Some(place) = of(SAID_ELSEWHERE) {
        return Err(Fault::new("properties", format!("sets `{name}`; say it with {place}")));
    }
    if name.starts_with("sasl.") {
        return Err(Fault::new("properties", format!("sets `{name}`; say it with `sasl`")));
    }
    if let Some(promise) = of(BREAKS) {
        return Err(Fault::new(
            "properties",
            format!("sets `{name}`, which is not open to choice: {promise}"),
        ));
    }
    if name.ends_with("_cb") || name.ends_with("opaque") {
        return Err(Fault::new(
            "properties",
            format!("sets `{name}`, which is for code and not for configs"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProviderConfig;
    use crate::error::ErrorKind;

    fn refused(name: &str, value: &str) -> Option<String> {
        let config = KafkaConfig {
            brokers: vec!["localhost:9092".into()],
            properties: [(name.to_owned(), Secret::from(value))].into(),
            ..KafkaConfig::default()
        };
        let error = ProviderConfig::Kafka(config).check().err()?;
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        Some(error.to_string())
    }

    #[test]
    fn a_property_that_breaks_a_promise_is_refused_by_its_name() {
        let names = BREAKS.iter().chain(SAID_ELSEWHERE).map(|(name, _)| *name);
        for name in names.chain(["sasl.password", "dr_msg_cb", "opaque"]) {
            let error = refused(name, "hidden-value").unwrap();
            assert!(error.contains(&format!("`{name}`")) && !error.contains("hidden-value"), "{error}");
        }
    }

    #[test]
    fn a_property_that_breaks_none_passes() {
        for name in ["linger.ms", "compression.type", "group.instance.id", "ssl.certificate.location"] {
            assert_eq!(refused(name, "x"), None);
        }
    }
}
