//! What is measured on each provider, and how much of it.

use ductape_benches::Result;
use ductape_contest::Corpus;

/// Two payloads of the targets, and two that show other sizes.
pub(crate) const CORPORA: [Corpus; 4] =
    [Corpus::Bytes(64), Corpus::Bytes(1024), Corpus::Departures, Corpus::Bytes(65_536)];
/// How many of them have a target, and are published and consumed at once too.
pub(crate) const WITH_TARGET: usize = 2;

/// What is measured on a provider.
pub(crate) struct Plan {
    pub(crate) provider: String,
    /// As catalogues call it.
    pub(crate) kind: &'static str,
    pub(crate) order: u32,
    /// What a publish survives once it is confirmed, on every side alike.
    pub(crate) durability: &'static str,
    /// What the raw client does.
    pub(crate) raw: &'static str,
    /// Whether there is a contestant `bare`.
    pub(crate) has_bare: bool,
    /// The share of the raw client's rate that is asked for.
    pub(crate) of_raw: f64,
    /// Rounds of the payloads with a target; the others have fewer.
    pub(crate) rounds: usize,
    /// How many messages lie there where memory is measured against a backlog, beside a tenth of them.
    pub(crate) backlog: Option<u64>,
    pub(crate) memory_rounds: usize,
    /// Messages of a round, of the small payloads and of the large one.
    small: u64,
    large: u64,
}

impl Plan {
    pub(crate) fn of(provider: &str, quick: bool) -> Result<Self> {
        let mut plan = match provider {
            "memory" => Plan {
                kind: "MEMORY",
                order: 10,
                durability: "none: messages live and die with the process",
                raw: "a bounded tokio channel: each message sent by itself, received with what is there",
                has_bare: false,
                small: 1_000_000,
                large: 10_000,
                ..Plan::empty()
            },
            "sqlite" => Plan {
                kind: "SQLITE",
                order: 11,
                durability: "`durability: full`: an fsync a commit",
                raw: "rusqlite on one connection: a transaction for each batch that goes in and out",
                has_bare: false,
                of_raw: 0.8,
                small: 50_000,
                large: 3_000,
                ..Plan::empty()
            },
            "kafka" => Plan {
                kind: "KAFKA",
                order: 20,
                durability: "acks=all with the idempotent producer, one broker, four partitions",
                raw: "rdkafka's ThreadedProducer with a count of its delivery reports (lz4, linger 1 ms), warmed up; \
                      BaseConsumer that reads each message's id, a commit every 4,096 messages while none is under way, \
                      and at the end",
                backlog: Some(1_000_000),
                // A member's joining and leaving take a tenth of a second, whatever lies between.
                small: 1_000_000,
                large: 8_000,
                ..Plan::empty()
            },
            "rabbitmq" => Plan {
                kind: "RABBITMQ",
                order: 21,
                durability: "persistent, mandatory and confirmed, on a quorum queue of one node",
                raw: "lapin: a topic exchange as ours; a window of confirms; acks that stand for many",
                backlog: Some(1_000_000),
                small: 100_000,
                large: 2_000,
                ..Plan::empty()
            },
            "redis" => Plan {
                kind: "REDIS",
                order: 22,
                durability: "appendfsync always; the log is not rewritten meanwhile",
                raw: "redis-rs: pipelines of XADD, several under way, on two connections in turn; XREADGROUP and XACK in batches on two others",
                backlog: Some(1_000_000),
                small: 200_000,
                large: 3_000,
                ..Plan::empty()
            },
            "sqs" => Plan {
                kind: "AWS_SQS",
                order: 23,
                durability: "ElasticMQ with a write delay of 0",
                raw: "aws-sdk-sqs: 32 sends of ten under way; 8 receivers, each deleting what it got in tens",
                backlog: Some(100_000),
                small: 5_000,
                large: 500,
                ..Plan::empty()
            },
            "pubsub" => Plan {
                kind: "GOOGLE_PUBSUB",
                order: 24,
                durability: "Google's emulator, which keeps nothing",
                raw: "google-cloud-pubsub: its own batching, one stream",
                has_bare: false,
                backlog: Some(100_000),
                small: 10_000,
                large: 500,
                ..Plan::empty()
            },
            other => return Err(format!("there is no provider `{other}`").into()),
        };
        plan.provider = provider.into();
        if quick {
            (plan.rounds, plan.small, plan.large) = (3, plan.small / 5, plan.large / 5);
            plan.memory_rounds = 1;
        }
        Ok(plan)
    }

    fn empty() -> Self {
        Plan {
            provider: String::new(),
            kind: "",
            order: 0,
            durability: "",
            raw: "",
            has_bare: true,
            of_raw: 0.95,
            rounds: 7,
            backlog: None,
            memory_rounds: 3,
            small: 0,
            large: 0,
        }
    }

    /// Messages of a round.
    pub(crate) fn messages(&self, corpus: Corpus) -> u64 {
        if corpus.bytes() > 4096 { self.large } else { self.small }
    }

    /// Rounds of a payload.
    pub(crate) fn rounds(&self, corpus: usize) -> usize {
        if corpus < WITH_TARGET { self.rounds } else { 3 }
    }
}
