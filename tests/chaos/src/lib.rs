//! The fault harness: publishers and subscribers that run while everything around them breaks, and a checker of what
//! they wrote down.
//!
//! ```text
//!  conductor ─ starts, kills, stalls ─▶ server ◀─ proxy ◀── publishers, subscribers (processes)
//!     │                                                        │ each its own log, written before it acts
//!     ├─ Watch ◀──────────────── reads the logs as they grow ◀─┤
//!     └─ at the end: check ◀──── reads them whole ◀────────────┘ ─▶ Report (table), timeline (SVG)
//! ```
//!
//! What holds:
//! - All that the harness decides follows from the seed: which faults, when, on whom. How processes interleave does not.
//! - An actor writes down what it is about to do before it does it, and what it was told before it acts on it.
//! - The checker knows the logs and nothing else.
//! - No process outlives the conductor.

mod actor;
mod actor_name;
mod carrier;
pub mod check;
mod clock;
mod conductor;
mod fault;
mod host;
mod journal;
mod load;
mod measure;
mod plan;
mod record;
mod schedule;
mod stage;
mod timeline;
mod trace;
mod watch;

pub use actor::{Command, Controls, ORDERED_PANIC, Start, run as run_actor};
pub use actor_name::ActorName;
pub use carrier::{CARRIERS, Carrier, Home, Place, of as carrier};
pub use conductor::{Ended, Options, run};
pub use fault::Fault;
pub use journal::{Journal, Reader, now};
pub use load::Load;
pub use measure::Used;
pub use plan::{GroupPlan, Plan};
pub use record::{Ending, Failing, Kind, MessageRef, Record};
pub use schedule::{Scheduled, schedule};
pub use stage::Absent;
pub use trace::trace;

/// What stops a run before it has an outcome.
pub type Fatal = Box<dyn std::error::Error + Send + Sync>;
