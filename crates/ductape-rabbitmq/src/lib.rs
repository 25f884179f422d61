//! The RabbitMQ provider of Ductape (`type: RABBITMQ`): a durable topic exchange, a quorum queue a group.
//!
//! ```text
//!  publish ─▶ channel with confirms ─▶ exchange ─routingKey─▶ queue of group A ─▶ channel, prefetch ─▶ receive
//!     ▲            mandatory              │                                             ▲
//!     └── confirm, or the return ◀────────┴────routingKey─▶ queue of group B …    ack ──┘ (runs: one frame)
//! ```
//!
//! - A publish is taken when the server has confirmed it: a quorum queue confirms when a majority has it on disk.
//!   A message that no queue takes is returned and is an error (`publisher`).
//! - Publishers share one connection, administration has one, and each consumer has its own, so that an alarm of the
//!   server that stops publishes stops nothing else (`link`, `alarm`). Calls that overlap keep their order.
//! - Nothing recovers by magic: who finds its channel gone says `CONNECTION_LOST`, and the next call connects anew, no
//!   faster than a backoff allows.
//! - A delivery is unsettled until it is acknowledged; the server takes back what a closed or lost channel had.
//!   There is no lease to renew. Acks leave as one frame where they are contiguous (`outstanding`).
//! - `ordered: true` makes the queue give one consumer at a time (`x-single-active-consumer`), with failover. What
//!   is tried again then never leaves the consumer, so that its order survives.

mod address;
mod admin;
mod alarm;
mod broker;
mod consumer;
mod error;
mod farewells;
mod link;
mod message;
mod outstanding;
mod publisher;
mod returns;

pub use broker::RabbitMqProvider;
pub use message::{MAX_HEADER_BYTES, MAX_MESSAGE_BYTES};
