//! The checker: what the actors wrote down, held against what was promised. It knows logs and nothing else, so it can
//! be tried on histories that never were.
//!
//! ```text
//!  publishers' logs ─▶ Published: what became of each message, and which one of its key was before it
//!  conductor's log ──▶ World: when faults began and ended, when and how actors ended, dead letters
//!  subscribers' logs ─ merged by time ─▶ GroupChecker, one a group ─▶ GroupReport
//! ```
//!
//! What is checked of each group:
//! - **lost**: taken, and never delivered;
//! - **unfinished**: delivered, and neither handled nor rejected in the end;
//! - **invented**: delivered, and nobody was about to send it; **refused** and delivered all the same; **altered**;
//! - **out of order**: delivered before the one of its key that was taken before it; **overtaking**: before that one was
//!   handled or given up. Of messages whose publish is uncertain nothing is promised about order;
//! - **ack ignored**: delivered again though its acknowledgement was taken, with no fault that would excuse it;
//!   **unexplained**: delivered twice without a cause;
//! - **dead letters**: what was rejected is there, nothing else is, and redriven it is handled.

mod cause;
mod group;
mod merge;
mod published;
mod report;
mod world;

pub use cause::Cause;
pub use report::{DeadReport, Example, GroupReport, PublishReport, Report, StopReport};

use crate::actor_name::{ActorName, logs_in};
use crate::journal::Reader;
use crate::load::Load;
use crate::record::{MessageRef, Record};
use group::GroupChecker;
use merge::Merged;
use published::Published;
use std::io;
use std::path::Path;
use std::time::Duration;
use world::World;

/// What was promised of a run.
#[derive(Clone, Debug)]
pub struct Promises {
    /// The groups, by name, in the order of their indexes.
    pub groups: Vec<String>,
    /// Whether messages of one key come in order.
    pub ordered: bool,
    /// Whether an acknowledgement that the provider took holds whatever comes after. Where it does not, it may be lost
    /// by a fault shortly after.
    pub acks_hold: bool,
    /// How often a handler gets a message before it is given up.
    pub attempts: u16,
    /// How long a fault may still show after its end: the lease and the time limit of a request.
    pub aftermath: Duration,
    /// Whether the run went on until all was handled. Where not, what a group is not done with is its backlog, and so is
    /// what it rejected and could not put among the dead letters yet.
    pub to_the_end: bool,
    /// How long a stop may take.
    pub stop_within: Duration,
}

/// A log to check.
pub struct Log<'l> {
    /// Who wrote it.
    pub name: ActorName,
    /// What, in its order.
    pub records: Box<dyn Iterator<Item = Record> + 'l>,
}

/// Checks the logs in a run's folder.
///
/// # Errors
/// Where a log cannot be read.
pub fn check_folder(folder: &Path, load: &Load, promises: &Promises) -> io::Result<Report> {
    let names = logs_in(folder)?;
    let key = |message| load.departure(message)?.key;
    check(key, promises, || {
        let open = |name: &ActorName| {
            let records = Box::new(Reader::open(&name.log(folder))?);
            Ok(Log { name: *name, records: records as _ })
        };
        names.iter().map(open).collect()
    })
}

/// Checks logs. `key` gives a number for the key of a message; `open` gives all logs from their beginnings, as often as
/// it is asked.
///
/// # Errors
/// What `open` says.
pub fn check<'l>(
    key: impl Fn(MessageRef) -> Option<u32>,
    promises: &Promises,
    open: impl Fn() -> io::Result<Vec<Log<'l>>>,
) -> io::Result<Report> {
    let is_publisher = |log: &Log<'_>| matches!(log.name, ActorName::Publisher { .. });
    let published = Published::read(open()?.into_iter().filter(is_publisher), key);
    let world = World::read(open()?.into_iter().filter(|log| log.name == ActorName::Conductor));
    let mut report = Report::new(&published, world.faults());
    for (index, name) in promises.groups.iter().enumerate() {
        let mut group = GroupChecker::new(index as u8, name, promises, &published, &world);
        let members = open()?.into_iter().filter(|log| match log.name {
            ActorName::Conductor => true,
            ActorName::Subscriber { group, .. } => usize::from(group) == index,
            ActorName::Publisher { .. } => false,
        });
        let mut merged = Merged::new(members.collect());
        while let Some((actor, record)) = merged.next() {
            group.step(actor, &record);
        }
        report.groups.push(group.finish(&mut report.stops));
    }
    report.stops.bound = promises.stop_within;
    Ok(report)
}
