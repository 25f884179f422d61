//! The providers: a line each. What a line says is what makes this provider's run different from the others'.

use crate::fault::Fault;
use ductape::{Provider, memory, sqlite};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where a provider keeps messages, and so what can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In the process of its users: actors are runtimes of one process.
    Process,
    /// In a file.
    File,
    /// In a server.
    #[cfg(feature = "servers")]
    Server(ductape_testkit::servers::Kind),
}

/// Where things are in one run.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// A folder for files of the provider.
    pub disk: PathBuf,
    /// A name that no other run has.
    pub name: String,
    /// Where clients connect: the proxy before the server.
    pub port: u16,
    /// Who clients are, where the server wants to know.
    pub username: Option<String>,
    /// Their password.
    pub password: Option<String>,
}

/// A provider to run on.
#[derive(Debug)]
pub struct Carrier {
    /// Its `type` in a catalogue.
    pub kind: &'static str,
    /// Where it keeps messages.
    pub home: Home,
    /// How many groups it can have, up to two.
    pub groups: u8,
    /// Whether an acknowledgement that was taken holds whatever happens next. Kafka commits what is contiguous, and AMQP
    /// and Pub/Sub answer no acknowledgement.
    pub acks_hold: bool,
    /// Whether it counts attempts across the death of a process.
    pub counts_crashes: bool,
    /// How long a delivery is a subscriber's without renewal, and a call may take: as short as the provider, or its
    /// emulator, can work with.
    pub lease: Duration,
    /// How far publishers may be ahead of the slowest group.
    pub window: u64,
    /// Makes the provider.
    pub provider: fn() -> Arc<dyn Provider>,
    /// Its config in a catalogue.
    pub config: fn(&Place) -> Value,
    /// Lines of the server's own configuration, given the proxy's port.
    pub settings: fn(u16) -> Vec<(&'static str, String)>,
    /// Faults that would break what it does not promise: why is said beside each.
    pub without: &'static [Fault],
    /// Why order by key is not held against it, where what stands for it here does not keep its promise.
    pub unordered: Option<&'static str>,
}

const QUICK: Duration = Duration::from_secs(3);
const FAR: u64 = 50_000;

const PLAIN: fn(u16) -> Vec<(&'static str, String)> = |_| Vec::new();

/// Every provider that is compiled in.
pub const CARRIERS: &[Carrier] = &[
    Carrier {
        kind: "MEMORY",
        home: Home::Process,
        groups: 2,
        acks_hold: true,
        counts_crashes: false,
        lease: QUICK,
        window: FAR,
        provider: || Arc::new(memory::MemoryProvider::new()),
        config: |place| json!({ "name": place.name }),
        settings: PLAIN,
        without: &[],
        unordered: None,
    },
    Carrier {
        kind: "SQLITE",
        home: Home::File,
        groups: 2,
        acks_hold: true,
        counts_crashes: true,
        lease: QUICK,
        window: FAR,
        provider: || Arc::new(sqlite::SqliteProvider),
        config: |place| json!({ "path": place.disk.join("messages.db") }),
        settings: PLAIN,
        without: &[],
        unordered: None,
    },
    #[cfg(feature = "servers")]
    Carrier {
        kind: "KAFKA",
        home: Home::Server(ductape_testkit::servers::Kind::Kafka),
        groups: 2,
        acks_hold: false,
        counts_crashes: true,
        lease: QUICK,
        window: FAR,
        provider: || Arc::new(ductape::kafka::KafkaProvider),
        config: |place| json!({ "brokers": [format!("127.0.0.1:{}", place.port)], "partitions": 4 }),
        settings: |port| vec![("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}"))],
        without: &[],
        unordered: None,
    },
    #[cfg(feature = "servers")]
    Carrier {
        kind: "RABBITMQ",
        home: Home::Server(ductape_testkit::servers::Kind::RabbitMq),
        groups: 2,
        acks_hold: false,
        counts_crashes: true,
        lease: QUICK,
        window: FAR,
        provider: || Arc::new(ductape::rabbitmq::RabbitMqProvider),
        config: |place| json!({ "host": "127.0.0.1", "port": place.port, "username": place.username, "password": place.password }),
        settings: PLAIN,
        without: &[],
        unordered: None,
    },
    #[cfg(feature = "servers")]
    Carrier {
        kind: "REDIS",
        home: Home::Server(ductape_testkit::servers::Kind::Redis),
        groups: 2,
        acks_hold: true,
        counts_crashes: true,
        lease: QUICK,
        window: FAR,
        provider: || Arc::new(ductape::redis::RedisProvider),
        config: |place| json!({ "host": "127.0.0.1", "port": place.port, "username": place.username, "password": place.password }),
        settings: |_| vec![("appendonly", "yes".into()), ("appendfsync", "always".into())],
        without: &[],
        unordered: None,
    },
    #[cfg(feature = "servers")]
    Carrier {
        kind: "AWS_SQS",
        home: Home::Server(ductape_testkit::servers::Kind::Sqs),
        groups: 1,
        acks_hold: true,
        counts_crashes: true,
        // ElasticMQ slows down with the number of message groups that wait in a FIFO queue.
        lease: Duration::from_secs(30),
        window: 400,
        provider: || Arc::new(ductape::sqs::SqsProvider),
        config: |place| {
            json!({
                "region": "us-east-1",
                "accessKeyId": "chaos",
                "secretAccessKey": "chaos",
                "endpoint": format!("http://127.0.0.1:{}", place.port),
            })
        },
        settings: PLAIN,
        without: &[],
        unordered: None,
    },
    #[cfg(feature = "servers")]
    Carrier {
        kind: "GOOGLE_PUBSUB",
        home: Home::Server(ductape_testkit::servers::Kind::PubSub),
        groups: 2,
        acks_hold: false,
        counts_crashes: false,
        // The shortest that the service knows.
        lease: Duration::from_secs(10),
        window: 5_000,
        provider: || Arc::new(ductape::pubsub::PubSubProvider),
        config: |place| json!({ "projectId": "chaos", "endpoint": format!("127.0.0.1:{}", place.port) }),
        settings: PLAIN,
        // The emulator keeps everything in memory.
        without: &[Fault::ServerKill],
        unordered: Some(
            "Google's emulator lets new messages of a key overtake what a member gives back, see ductape-pubsub's README",
        ),
    },
];

/// The provider of this `type`, in capitals or not.
///
/// # Errors
/// Which there are.
pub fn of(kind: &str) -> Result<&'static Carrier, String> {
    let wanted = |carrier: &&Carrier| carrier.kind.eq_ignore_ascii_case(kind);
    CARRIERS.iter().find(wanted).ok_or_else(|| {
        let known: Vec<_> = CARRIERS.iter().map(|carrier| carrier.kind).collect();
        format!("there is no provider `{kind}` here, only {}", known.join(", "))
    })
}

impl Carrier {
    /// The faults that can be made here.
    pub fn faults(&self) -> Vec<Fault> {
        Fault::ALL
            .into_iter()
            .filter(|fault| self.home.has(*fault) && !self.without.contains(fault))
            .collect()
    }
}

impl Home {
    fn has(self, fault: Fault) -> bool {
        use Fault::{
            AnswersLost, Cut, DiskFull, HalfOpen, NetworkStall, PublisherStall, ServerKill, ServerStall,
            Slow, SubscriberStall,
        };
        let network =
            matches!(fault, ServerKill | ServerStall | Cut | NetworkStall | HalfOpen | AnswersLost | Slow);
        match self {
            Home::Process => !network && !matches!(fault, DiskFull | PublisherStall | SubscriberStall),
            Home::File => !network,
            #[cfg(feature = "servers")]
            Home::Server(_) => fault != DiskFull,
        }
    }
}
