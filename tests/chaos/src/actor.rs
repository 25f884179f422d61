//! The actors: publishers and subscribers, as programs that use Ductape as any service would, and write down what they
//! are told. Each runs in a process of its own, or, where the provider lives in one process, in a runtime of its own.

mod control;
mod observed;
mod publisher;
mod subscriber;

pub use control::{Command, Controls};
pub use subscriber::ORDERED_PANIC;

use crate::actor_name::ActorName;
use crate::journal::Journal;
use crate::plan::Plan;
use std::sync::Arc;

/// How an actor is started.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Who it is.
    pub name: ActorName,
    /// Whether its clock can be made to jump.
    pub jumpy: bool,
}

/// Runs an actor until it is told to stop, or has nothing left to do.
///
/// # Errors
/// Why it cannot go on.
pub async fn run(plan: Plan, start: Start, controls: Controls) -> Result<(), String> {
    let journal = Journal::create(&start.name.log(&plan.folder)).map_err(|error| error.to_string())?;
    let (plan, journal) = (Arc::new(plan), Arc::new(journal));
    match start.name {
        ActorName::Conductor => Err("the conductor is no actor".into()),
        ActorName::Publisher { index, .. } => publisher::run(plan, index, journal, controls).await,
        ActorName::Subscriber { group, .. } => {
            subscriber::run(plan, group, start.jumpy, journal, controls).await
        }
    }
}
