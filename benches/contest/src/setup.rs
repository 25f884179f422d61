//! What a contestant is given and what it gives back, as both cross between processes.

use crate::corpus::Corpus;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One run of one contestant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// What carries the messages: a provider's feature, such as `redis`.
    pub provider: String,
    /// Where its server is, and for the embedded ones nowhere.
    pub endpoint: Endpoint,
    /// A folder that is this run's alone.
    pub folder: PathBuf,
    /// A name that no run had before, for the destination and the group.
    pub name: String,
    /// What is to be done.
    pub task: Task,
    /// Which messages.
    pub corpus: Corpus,
    /// How many.
    pub messages: u64,
    /// Whether to use one thread, so that instruction counts repeat.
    pub one_thread: bool,
}

/// Where a server listens and how it lets in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// The user.
    pub username: String,
    /// Its password. Only servers that the benchmark itself started are measured, so it is worth nothing.
    pub password: String,
}

impl Endpoint {
    /// The host of the address.
    pub fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host)
    }

    /// The port of the address; 0 where it has none.
    pub fn port(&self) -> u16 {
        self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
    }
}

/// What a contestant does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Task {
    /// Publishes everything, then consumes everything.
    InTurn,
    /// Publishes and consumes at the same time.
    AtOnce,
    /// Publishes from so many tasks, each one message after the other, then consumes everything.
    Tasks(u64),
    /// Publishes so many a second, one by one, and consumes meanwhile.
    Paced {
        /// Messages a second.
        per_second: f64,
    },
}

/// What was measured of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// From the first message to the last confirmation.
    pub publish: Option<Phase>,
    /// From the first delivery to the last acknowledgement's answer.
    pub consume: Option<Phase>,
    /// From the first publish to the last acknowledgement's answer.
    pub at_once: Option<Phase>,
    /// From the moment at which a message was due to its delivery.
    pub latency: Option<Latency>,
    /// Deliveries beyond the first of a message.
    pub repeated: u64,
    /// The most memory that was resident, in KiB.
    pub peak_resident_kib: u64,
}

/// A stretch of work.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Phase {
    /// How long it took.
    pub seconds: f64,
    /// What this process used of the processors meanwhile.
    pub cpu_seconds: f64,
    /// Allocations meanwhile, those of the payloads included; 0 where they are not counted.
    pub allocations: u64,
}

/// How old messages were when they came, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Half of them were not older.
    pub p50: f64,
    /// 99 of 100 were not older.
    pub p99: f64,
    /// 999 of 1,000 were not older.
    pub p999: f64,
}
