//! The AWS SQS provider of Ductape (`type: AWS_SQS`): standard and FIFO queues.
//!
//! ```text
//!  publish ─▶ outbox ─▶ requests of ten, 16 at once ─▶ queue ─▶ receives of ten, up to 16 at once ─▶ hand ─▶ receive
//!     ▲                                                  ▲                                            │
//!     └── each entry's own result                        └── deletes, changes of visibility ◀── settle┘
//! ```
//!
//! - A publish is taken when SQS has answered for its own entry of a batch. The SDK retries nothing: a send without
//!   an answer is uncertain on a standard queue, and sent again on a FIFO queue, which knows what it has (`publisher`, `target`).
//! - A FIFO queue's message group is the key; a group is in one request at a time (`outbox`).
//! - A delivery is leased by its visibility, renewed ten a request; the receive count is the attempt; a retry is a change
//!   of visibility (`consumer`, `hand`, `settler`, `renewal`).
//! - The payload is the body, metadata and headers are attributes, packed where ten do not suffice (`attributes`).

mod admin;
mod answer;
mod attributes;
mod broker;
mod consumer;
mod error;
mod hand;
mod link;
mod message;
mod outbox;
mod poll;
mod publisher;
mod queue;
mod renewal;
mod settler;
mod target;

pub use broker::SqsProvider;
pub use message::MAX_MESSAGE_BYTES;
