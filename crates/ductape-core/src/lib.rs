//! The core of Ductape: tags, catalogue, the Broker contract, the client and the worker.
//!
//! No provider's client library is in here. Services use the `ductape` crate, which re-exports all of this;
//! authors of providers depend on this crate alone and read [`broker`] first.

pub mod broker;
pub mod capability;
pub mod catalogue;
pub mod client;
pub mod config;
pub mod dead_letter;
pub mod delivery;
mod destination;
pub mod duration;
pub mod error;
pub mod guard;
pub mod message;
pub mod retry;
mod rewrite;
pub mod sample;
pub mod secret;
pub mod session;
pub mod tag;
pub mod time;
pub mod turns;
pub mod wire;
pub mod worker;

pub use broker::{
    Broker, ConnectOptions, Consumer, ConsumerOptions, Destination, Provider, Publisher, Start,
};
pub use capability::Capabilities;
pub use config::{ProviderConfig, ProviderKind};
pub use delivery::{Delivery, Position, Settlement, Token, Verdict};
pub use error::{Error, ErrorKind, Result};
pub use message::{Headers, Key, Message, MessageId};
pub use retry::RetryPolicy;
pub use tag::{Event, Tag};
pub use time::{Clock, Timestamp};
pub use worker::{Failure, Outcome, Subscription};
