//! Who competes on each provider: `ours`; `raw`, the provider's client by hand, with the same metadata in each
//! message; and on networks `bare`, the same with the payload alone.

mod channel;
#[cfg(feature = "kafka")]
mod kafka;
mod metadata;
mod ours;
#[cfg(feature = "pubsub")]
mod pubsub;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
mod sqlite;
#[cfg(feature = "sqs")]
mod sqs;

use crate::Result;
use ductape_contest::{Setup, main};

/// The networks' providers that are compiled in.
pub fn networks() -> impl Iterator<Item = &'static str> {
    let all = [
        ("kafka", cfg!(feature = "kafka")),
        ("rabbitmq", cfg!(feature = "rabbitmq")),
        ("redis", cfg!(feature = "redis")),
        ("sqs", cfg!(feature = "sqs")),
        ("pubsub", cfg!(feature = "pubsub")),
    ];
    all.into_iter().filter(|(_, is_in)| *is_in).map(|(name, _)| name)
}

/// Lets the contestant of this name do its task, and prints what was measured.
///
/// # Errors
/// The contestant's own; or where there is none of that name.
pub fn run(name: &str, setup: &Setup) -> Result<()> {
    match (name, setup.provider.as_str()) {
        ("ours", _) => main::<ours::Contender>(setup),
        ("raw", "memory") => main::<channel::Contender>(setup),
        ("raw", "sqlite") => main::<sqlite::Contender>(setup),
        #[cfg(feature = "kafka")]
        ("raw", "kafka") => main::<kafka::Contender<true>>(setup),
        #[cfg(feature = "kafka")]
        ("bare", "kafka") => main::<kafka::Contender<false>>(setup),
        #[cfg(feature = "pubsub")]
        ("raw", "pubsub") => main::<pubsub::Contender<true>>(setup),
        #[cfg(feature = "rabbitmq")]
        ("raw", "rabbitmq") => main::<rabbitmq::Contender<true>>(setup),
        #[cfg(feature = "rabbitmq")]
        ("bare", "rabbitmq") => main::<rabbitmq::Contender<false>>(setup),
        #[cfg(feature = "redis")]
        ("raw", "redis") => main::<redis::Contender<true>>(setup),
        #[cfg(feature = "redis")]
        ("bare", "redis") => main::<redis::Contender<false>>(setup),
        #[cfg(feature = "sqs")]
        ("raw", "sqs") => main::<sqs::Contender<true>>(setup),
        (name, provider) => Err(format!("there is no contestant `{name}` on {provider}").into()),
    }
}
