//! From the catalogue's config to the client library's settings.

use crate::message::{MAX_METADATA_BYTES, MAX_RECORD_BYTES};
use ductape_core::config::{KafkaConfig, SaslMechanism};
use ductape_core::{ConnectOptions, ConsumerOptions, Error, ErrorKind, Result};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use std::path::Path;
use std::time::Duration;

/// What may wait in the client until it is confirmed, in KiB. Past it a publish waits.
const QUEUE_KBYTES: &str = "131072";
/// What a consumer fetches ahead of each partition, in KiB: two full fetches.
const PREFETCH_KBYTES: &str = "2048";
/// How long a server keeps a fetch that has nothing to answer, in milliseconds. One is under way for each server, and is of
/// the partitions that had little fetched when it was sent: where those are at their ends, the others wait for it.
const FETCH_WAIT: &str = "100";
/// How often a member says that it lives, and so how soon it learns that another comes or goes.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
/// The member that has not said so for this long is gone, and others get its partitions.
const SESSION: &str = "15000";

/// The settings of every client of one connection. No `Debug`: they hold the password.
#[derive(Clone)]
pub(crate) struct Settings {
    base: ClientConfig,
    limit: Duration,
    heartbeat: Duration,
    /// What a message may have, as capabilities tell it.
    pub(crate) max_message_bytes: usize,
    /// What payloads may take in the producer's queue, and so the longest of one.
    pub(crate) queue_bytes: usize,
    /// Where to begin, for people.
    pub(crate) brokers: String,
}

impl Settings {
    /// # Errors
    /// `CONFIG_INVALID` for a file that cannot be read, or a property that librdkafka does not know.
    pub(crate) fn new(config: &KafkaConfig, options: &ConnectOptions) -> Result<Self> {
        let mut base = ClientConfig::new();
        let brokers = config.brokers.join(",");
        let client = config.client_id.as_deref().unwrap_or(&options.client_name);
        base.set("bootstrap.servers", &brokers).set("client.id", client);
        // Longer than connecting may take, so that its end tells a silent port from a closed one.
        let setup = (millis(options.connect_timeout) + 2_000).clamp(3_000, 300_000).to_string();
        base.set("socket.connection.setup.timeout.ms", &setup)
            .set("api.version.request.timeout.ms", &setup)
            .set("socket.timeout.ms", millis(options.request_timeout).clamp(1_000, 300_000).to_string())
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.nagle.disable", "true")
            .set_log_level(RDKafkaLogLevel::Info);
        security(config, &options.base_dir, &mut base)?;
        for (name, value) in &config.properties {
            base.set(name, value.expose());
        }
        let heartbeat = number(&base, "heartbeat.interval.ms").map_or(HEARTBEAT, Duration::from_millis);
        let max_record = number(&base, "message.max.bytes").map_or(MAX_RECORD_BYTES, |bytes| bytes as usize);
        let max_message_bytes = max_record.saturating_sub(MAX_METADATA_BYTES).max(1);
        let mut settings = Settings {
            base,
            limit: options.request_timeout,
            heartbeat,
            max_message_bytes,
            queue_bytes: usize::MAX,
            brokers,
        };
        settings.queue_bytes = queue_bytes(&settings.producer()).map_err(|error| invalid(&error))?;
        settings.max_message_bytes = max_message_bytes.min(settings.queue_bytes);
        Ok(settings)
    }

    /// The one producer of a connection, which also asks for metadata.
    pub(crate) fn producer(&self) -> ClientConfig {
        let limit = millis(self.limit).max(1).to_string();
        self.over(&[
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("message.timeout.ms", &limit),
            ("message.max.bytes", &MAX_RECORD_BYTES.to_string()),
            // Without it the client asks for a topic once, and waits for the next of its own rounds.
            ("topic.metadata.propagation.max.ms", &limit),
            ("topic.metadata.refresh.fast.interval.ms", "50"),
            ("queue.buffering.max.kbytes", QUEUE_KBYTES),
            ("queue.buffering.max.messages", "200000"),
            ("linger.ms", LINGER_MS),
            ("compression.type", COMPRESSION),
            // Messages without a key go round (`partitioner`), which the client would override.
            ("sticky.partitioning.linger.ms", "0"),
            // A look at a topic must not make it.
            ("allow.auto.create.topics", "false"),
        ])
    }

    /// A client that makes and deletes topics and groups. It never serves its log.
    pub(crate) fn admin(&self) -> ClientConfig {
        let mut config = self.over(&[("allow.auto.create.topics", "false")]);
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config
    }

    /// A client that looks after the offsets of a group without being a member.
    pub(crate) fn group(&self, group: &str) -> ClientConfig {
        let mut config = self.admin();
        config.remove("group.instance.id");
        config.set("group.id", group).set("enable.auto.commit", "false");
        config
    }

    /// A member of a group.
    pub(crate) fn member(&self, options: &ConsumerOptions) -> ClientConfig {
        let heartbeat = millis(self.heartbeat).to_string();
        let mut config = self.over(&[
            ("group.id", &options.group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // Only where a committed offset is no longer there: then nothing that is kept is skipped.
            ("auto.offset.reset", "earliest"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("allow.auto.create.topics", "false"),
            ("heartbeat.interval.ms", &heartbeat),
            ("session.timeout.ms", SESSION),
            ("queued.max.messages.kbytes", PREFETCH_KBYTES),
            ("queued.min.messages", "2000"),
            ("fetch.wait.max.ms", FETCH_WAIT),
            ("fetch.error.backoff.ms", "50"),
            ("fetch.queue.backoff.ms", "10"),
            ("topic.metadata.refresh.fast.interval.ms", "50"),
        ]);
        if self.base.get("client.id").is_none() {
            config.set("client.id", &*options.member);
        }
        config
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// These, where `properties` does not say otherwise. What may not be said otherwise was refused before.
    fn over(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.base.clone();
        for (name, value) in defaults {
            if self.base.get(name).is_none() {
                config.set(*name, *value);
            }
        }
        config
    }
}

/// How long a message waits for others to go with it. The client gathers what comes while a request is under way
/// anyhow; `examples/measure_kafka.rs` prints what other values cost.
const LINGER_MS: &str = "1";
/// What `examples/measure_kafka.rs` found best for small JSON.
const COMPRESSION: &str = "lz4";

fn security(config: &KafkaConfig, base_dir: &Path, client: &mut ClientConfig) -> Result<()> {
    let protocol = match (config.ssl, config.sasl.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    client.set("security.protocol", protocol);
    if let Some(sasl) = &config.sasl {
        let mechanism = match sasl.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        client
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", &sasl.username)
            .set("sasl.password", sasl.password.expose());
    }
    match &config.ca {
        Some(file) => authority(&base_dir.join(file), client)?,
        // An OpenSSL of our own does not know where the system keeps its authorities.
        None if config.ssl && cfg!(feature = "vendored") => {
            client.set("ssl.ca.location", "probe");
        }
        None => {}
    }
    Ok(())
}

fn authority(path: &Path, client: &mut ClientConfig) -> Result<()> {
    std::fs::File::open(path).map_err(|error| {
        Error::new(ErrorKind::ConfigInvalid, "`ca` cannot be read")
            .with_context("file", path.display())
            .with_help("name a file with certificates in PEM")
            .with_source(error)
    })?;
    client.set("ssl.ca.location", path.to_string_lossy());
    Ok(())
}

/// The client library's words name the property, and quote a value that it does not take: never shown.
fn invalid(error: &KafkaError) -> Error {
    let what = match error {
        KafkaError::ClientConfig(_, _, name, _) => {
            format!("`properties` sets `{name}`, which librdkafka does not know or not with this value")
        }
        _ => "librdkafka does not take the config".to_owned(),
    };
    Error::new(ErrorKind::ConfigInvalid, what)
        .with_context("provider", "KAFKA")
        .with_help("see librdkafka's CONFIGURATION.md for its settings and their values")
}

/// What the client library makes of the config, which it checks.
fn queue_bytes(producer: &ClientConfig) -> Result<usize, KafkaError> {
    let kbytes = producer.create_native_config()?.get("queue.buffering.max.kbytes")?;
    Ok(kbytes.parse().map_or(usize::MAX, |kbytes: usize| kbytes.saturating_mul(1024)))
}

fn number(config: &ClientConfig, name: &str) -> Option<u64> {
    config.get(name)?.parse().ok()
}

fn millis(duration: Duration) -> u128 {
    duration.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Result<Settings> {
        Settings::new(&serde_json::from_str(json).unwrap(), &ConnectOptions::default())
    }

    #[test]
    fn a_property_overrides_a_default() {
        let config = r#"{"brokers":["h:1"],"properties":{"linger.ms":"20","heartbeat.interval.ms":"300"}}"#;
        let settings = settings(config).unwrap();
        assert_eq!(settings.producer().get("linger.ms"), Some("20"));
        assert_eq!(settings.producer().get("enable.idempotence"), Some("true"));
        assert_eq!(settings.heartbeat(), Duration::from_millis(300));
    }

    #[test]
    fn no_message_is_promised_that_the_queue_has_no_place_for() {
        let of = |kbytes: &str| {
            let properties = format!(r#"{{"queue.buffering.max.kbytes":"{kbytes}"}}"#);
            settings(&format!(r#"{{"brokers":["h:1"],"properties":{properties}}}"#)).unwrap()
        };
        for (kbytes, bytes) in [("64", 65_536), ("0x40", 65_536)] {
            let settings = of(kbytes);
            assert_eq!((settings.queue_bytes, settings.max_message_bytes), (bytes, bytes));
        }
        let settings = of("4096");
        assert_eq!(settings.queue_bytes, 4 << 20);
        assert_eq!(settings.max_message_bytes, MAX_RECORD_BYTES - MAX_METADATA_BYTES);
    }

    #[test]
    fn a_property_that_is_not_known_is_refused_by_name_and_without_its_value() {
        for name in ["no.such.property", "compression.type"] {
            let config = format!(r#"{{"brokers":["h:1"],"properties":{{"{name}":"s3cret"}}}}"#);
            let error = settings(&config).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.message().contains(name), "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn the_way_to_authenticate_is_that_of_the_config() {
        let config = r#"{"brokers":["h:1"],"ssl":true,"sasl":{"mechanism":"scram-sha-512","username":"u","password":"p"}}"#;
        let producer = settings(config).unwrap().producer();
        assert_eq!(producer.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(producer.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(
            settings(r#"{"brokers":["h:1"]}"#).unwrap().producer().get("security.protocol"),
            Some("plaintext")
        );
    }

    #[test]
    fn an_authority_that_is_not_there_is_told_with_its_file() {
        let error = settings(r#"{"brokers":["h:1"],"ssl":true,"ca":"/nowhere/ca.pem"}"#).err().unwrap();
        assert_eq!(
            (error.kind(), error.context("file")),
            (ErrorKind::ConfigInvalid, Some("/nowhere/ca.pem"))
        );
    }
}
