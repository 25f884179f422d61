//! The rules of a contest: what a contestant is given, what it must do, and what is measured of it.
//!
//! ```text
//!  referee ──Setup, as JSON on stdin──▶ a process of one Contestant ──Measured, as JSON on stdout──▶ referee
//!                                         InTurn   publish all, then consume all
//!                                         AtOnce   both at the same time
//!                                         Paced    both, at a rate that it can keep; the age of each message
//! ```
//!
//! Every message has a number of its own in its payload. A contestant has won nothing until each of them came
//! back and its acknowledgement was answered: what is lost never counts as fast.

pub mod about;
pub mod allocator;
pub mod contestant;
pub mod corpus;
pub mod run;
pub mod seen;
pub mod setup;
pub mod usage;

pub use about::{About, peer};
pub use contestant::{Contestant, Windows};
pub use corpus::{Corpus, Messages};
pub use run::main;
pub use seen::Seen;
pub use setup::{Endpoint, Latency, Measured, Phase, Setup, Task};

/// Whatever goes wrong ends a contestant with its words.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
