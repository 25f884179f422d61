//! The Redis provider of Ductape (`type: REDIS`): a stream a topic, a consumer group a group.
//!
//! ```text
//!  publish ─▶ XADD, pipelined over callers ─▶ stream ─▶ group A ─▶ XREADGROUP by a task ─▶ hand ─▶ receive
//!     ▲                                          │                      ▲                          │
//!     └── the entry's id ◀───────────────────────┘                      └ XCLAIM: overdue ◀─ XACK ◀┘
//! ```
//!
//! - A publish is taken when the server has answered with the entry's id (`publisher`); what that survives is the
//!   server's own setting, and a connection says once where it is little (`safety`).
//! - A delivery stays pending on the server, with the name of its member and a count, until it is acknowledged. What
//!   a member gave back or left behind is claimed by another (`claim`); acknowledged entries stay in the stream,
//!   which only `maxLen` or `retain` trims.
//! - `ordered: true` elects one member by a key with a lease; everything it does is a script that looks at the key first
//!   (`leader`).
//! - A consumer reads by a connection of its own, to a plain server by a socket (`blocking`), whose answers are read where
//!   they lie (`resp`).
//! - Nothing recovers by magic: a consumer whose connection is gone says `CONNECTION_LOST`, and the next call connects
//!   anew, no faster than a backoff allows (`link`).
//! - `mode: pubsub` keeps nothing and groups nobody (`pubsub`).

mod address;
mod admin;
mod blocking;
mod broker;
mod claim;
mod consumer;
mod entry;
mod envelope;
mod error;
mod foreign;
mod group;
mod hand;
mod leader;
mod link;
mod message;
mod names;
mod open;
mod publisher;
mod pubsub;
mod reader;
mod resp;
mod safety;
mod scripts;

pub use broker::RedisProvider;
pub use message::MAX_MESSAGE_BYTES;
