//! What the tests share: configs by the way to authenticate, and messages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use ductape_core::config::{KafkaConfig, ProviderConfig, SaslConfig, SaslMechanism};
use ductape_core::message::{Attributes, IdSource, JSON};
use ductape_core::secret::Secret;
use ductape_core::{Broker, Clock, ConnectOptions, Consumer, Delivery, ErrorKind, Message, Provider};
use ductape_kafka::KafkaProvider;
use ductape_testkit::servers::{Certificates, Endpoint};
use std::net::TcpListener;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Partitions of topics that tests make.
pub const PARTITIONS: i32 = 4;
/// A member's first message takes a fetch and a commit, and a machine that has much to do takes its time.
pub const QUIET: Duration = Duration::from_secs(1);
/// What comes in the end comes within this.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long connecting may take that cannot succeed.
pub const CONNECT: Duration = Duration::from_secs(5);

/// How to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Auth {
    pub sasl: Option<SaslMechanism>,
    pub tls: bool,
}

impl Auth {
    /// Neither a user nor TLS.
    pub const NONE: Auth = Auth { sasl: None, tls: false };

    pub fn label(self) -> String {
        let sasl = match self.sasl {
            None => "kafka",
            Some(SaslMechanism::Plain) => "kafka-plain",
            Some(SaslMechanism::ScramSha256) => "kafka-scram-256",
            Some(SaslMechanism::ScramSha512) => "kafka-scram-512",
        };
        if self.tls { format!("{sasl}-tls") } else { sasl.to_owned() }
    }
}

/// The config for a server, whose members learn soon of each other.
pub fn config(auth: Auth, endpoint: &Endpoint) -> KafkaConfig {
    let address = match (auth.sasl.is_some(), auth.tls) {
        (false, false) => Some(&endpoint.address),
        (false, true) => endpoint.tls.as_ref(),
        (true, false) => endpoint.sasl.as_ref(),
        (true, true) => endpoint.sasl_tls.as_ref(),
    };
    let sasl = auth.sasl.map(|mechanism| SaslConfig {
        mechanism,
        username: endpoint.username.clone().unwrap_or_default(),
        password: endpoint.password.clone().unwrap_or_default(),
    });
    KafkaConfig {
        brokers: address.into_iter().cloned().collect(),
        ssl: auth.tls,
        ca: endpoint.ca_file.clone().filter(|_| auth.tls),
        sasl,
        partitions: Some(PARTITIONS),
        properties: [("heartbeat.interval.ms", "250"), ("session.timeout.ms", "6000")]
            .map(|(name, value)| (name.to_owned(), Secret::from(value)))
            .into(),
        ..KafkaConfig::default()
    }
}

/// The same to another address.
pub fn at(config: &KafkaConfig, address: impl Into<String>) -> KafkaConfig {
    KafkaConfig { brokers: vec![address.into()], ..config.clone() }
}

/// Configs that cannot work, and the kind of the error that connecting gives.
pub fn refused(auth: Auth, endpoint: &Endpoint) -> Vec<(KafkaConfig, ErrorKind)> {
    let good = config(auth, endpoint);
    let mut refused = vec![
        (at(&good, CLOSED.as_str()), ErrorKind::ConnectFailed),
        (at(&good, "no-such-host.invalid:9092"), ErrorKind::ConnectFailed),
        (at(&good, SILENT.1.as_str()), ErrorKind::Timeout),
    ];
    if let Some(sasl) = &good.sasl {
        let sasl = Some(SaslConfig { password: Secret::from("wrong"), ..sasl.clone() });
        refused.push((KafkaConfig { sasl, ..good.clone() }, ErrorKind::AuthenticationFailed));
    }
    if auth.tls {
        refused.push((KafkaConfig { ca: Some(OTHERS.1.ca.clone()), ..good.clone() }, ErrorKind::TlsFailed));
        // Another way to write 127.0.0.1, which is not the name in the certificate.
        let port = good.brokers[0].rsplit_once(':').unwrap().1.to_owned();
        refused.push((at(&good, format!("127.1:{port}")), ErrorKind::TlsFailed));
        refused.push((at(&good, endpoint.address.clone()), ErrorKind::TlsFailed));
    }
    refused
}

/// A port on which nobody listens.
static CLOSED: LazyLock<String> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
});

/// A port that accepts, and never says a word.
static SILENT: LazyLock<(TcpListener, String)> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
});

/// Certificates of an authority that has nothing to do with the server's.
static OTHERS: LazyLock<(tempfile::TempDir, Certificates)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::generate(folder.path()).unwrap();
    (folder, certificates)
});

/// A connection by this config.
pub async fn connect(config: KafkaConfig, options: ConnectOptions) -> Arc<dyn Broker> {
    KafkaProvider.connect(&ProviderConfig::Kafka(config), &options).await.unwrap()
}

/// A message of JSON.
pub fn message(body: impl Into<bytes::Bytes>) -> Message {
    let now = Clock::system().now();
    let attributes = Attributes {
        source: "/shop".into(),
        event: "order-events:new-orders".into(),
        content_type: JSON.into(),
    };
    Message::new(body, IdSource::new().next(now), now, Arc::new(attributes))
}

/// A message of JSON with a key.
pub fn keyed(key: &str, body: impl Into<bytes::Bytes>) -> Message {
    Message { key: Some(key.into()), ..message(body) }
}

/// Receives until this many are in hand.
pub async fn take(consumer: &Arc<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let more = consumer.receive(count - taken.len(), PATIENCE).await.unwrap();
        assert!(!more.is_empty(), "{count} deliveries: {taken:?}");
        taken.extend(more);
    }
    taken
}
