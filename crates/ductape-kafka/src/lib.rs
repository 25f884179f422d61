//! The Kafka provider of Ductape (`type: KAFKA`), by librdkafka.
//!
//! ```text
//!  publish ─▶ producer (idempotent, acks=all) ─▶ partition by murmur2 of the key ─▶ queue a partition ─▶ receive
//!     ▲            │ one for all topics                                                     │
//!     └─ reports ◀─┘ one wake-up a batch                        commit: watermark a partition ◀─ settle
//! ```
//!
//! - A publish is taken when all replicas in sync have it. What is sent without an answer is uncertain and not refused
//!   (`publisher`, `batch`).
//! - A group's messages of one partition go to one member, so a key keeps its order. What is tried again stays with
//!   its member and comes before anything behind it (`ledger`).
//! - Kafka keeps one offset a partition: everything below the first message that is not settled. It is committed when
//!   it moves, many settlements in one request, and with it how often that message was handed out (`commits`).
//! - A thread a consumer serves the client library's events and nothing else, so that handlers may take their
//!   time. Partitions that go to another member wait a while for what is in hand (`member`).

mod admin;
mod batch;
mod broker;
mod commits;
mod committer;
mod consumer;
mod error;
mod fetched;
mod groups;
mod ledger;
mod link;
mod member;
mod message;
mod partitioner;
mod producer;
mod publisher;
mod ranges;
mod series;
mod settings;
mod signals;

pub use broker::KafkaProvider;
pub use message::{MAX_MESSAGE_BYTES, MAX_METADATA_BYTES};
