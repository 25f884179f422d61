//! Which servers there are.

use std::fmt;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Apache Kafka.
    Kafka,
    /// Google's Pub/Sub emulator.
    PubSub,
    /// RabbitMQ.
    RabbitMq,
    /// Redis.
    Redis,
    /// ElasticMQ, which speaks the protocol of AWS SQS.
    Sqs,
}

impl Kind {
    /// Every kind, in the order of their names.
    pub const ALL: [Kind; 5] = [Kind::Kafka, Kind::PubSub, Kind::RabbitMq, Kind::Redis, Kind::Sqs];

    /// Its name in reports and on command lines: that of its provider's feature, such as `redis`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kafka => "kafka",
            Kind::PubSub => "pubsub",
            Kind::RabbitMq => "rabbitmq",
            Kind::Redis => "redis",
            Kind::Sqs => "sqs",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The environment's variable that holds its address: `DUCTAPE_TEST_REDIS`.
    pub fn variable(self) -> String {
        format!("DUCTAPE_TEST_{}", self.name().to_ascii_uppercase())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
