//! What a check came to, for people and for exit codes.

use super::cause::Cause;
use super::published::Published;
use super::world::FaultTime;
use crate::fault::Fault;
use crate::record::MessageRef;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Examples of a fault that a report names.
const EXAMPLES: usize = 5;

/// What became of all publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishReport {
    /// Taken for good.
    pub taken: u64,
    /// Refused.
    pub refused: u64,
    /// Sent, and not known.
    pub uncertain: u64,
}

/// How stops went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopReport {
    /// How many there were.
    pub count: u64,
    /// The longest.
    pub longest: Duration,
    /// How many took longer than they may.
    pub late: u64,
    /// How long one may take.
    pub bound: Duration,
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Example {
    /// Taken, never delivered.
    Lost,
    /// Delivered, neither handled nor rejected in the end.
    Unfinished,
    /// Delivered, sent by nobody.
    Invented,
    /// Delivered, though its publish was refused.
    Refused,
    /// Delivered with other bytes than were sent.
    Altered,
    /// Delivered before the one of its key that was taken before it.
    OutOfOrder,
    /// Delivered while that one was still in hand.
    Overtaking,
    /// Delivered after its acknowledgement was taken.
    AckIgnored,
    /// Delivered twice, without a cause.
    Unexplained,
    /// Rejected, and not among the dead letters.
    DeadMissing,
    /// Among the dead letters, and rejected by nobody.
    DeadUnasked,
    /// Redriven, and not handled.
    NotRedriven,
    /// Redriven, and still among the dead letters.
    Leftover,
}

impl Example {
    fn words(self) -> &'static str {
        match self {
            Example::Lost => "lost",
            Example::Unfinished => "unfinished",
            Example::Invented => "invented",
            Example::Refused => "refused, yet delivered",
            Example::Altered => "altered",
            Example::OutOfOrder => "key order broken",
            Example::Overtaking => "key overtaken while in hand",
            Example::AckIgnored => "ack ignored",
            Example::Unexplained => "duplicate without a cause",
            Example::DeadMissing => "dead letter missing",
            Example::DeadUnasked => "dead letter of what nobody rejected",
            Example::NotRedriven => "redriven, not handled",
            Example::Leftover => "redriven, still a dead letter",
        }
    }

    /// All, in the order in which reports tell of them.
    pub const ALL: [Example; 13] = [
        Example::Lost,
        Example::Unfinished,
        Example::Invented,
        Example::Refused,
        Example::Altered,
        Example::OutOfOrder,
        Example::Overtaking,
        Example::AckIgnored,
        Example::Unexplained,
        Example::DeadMissing,
        Example::DeadUnasked,
        Example::NotRedriven,
        Example::Leftover,
    ];
}

/// How dead letters went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadReport {
    /// Taken messages that a handler rejected, failed too often, or that killed their process.
    pub rejected: u64,
    /// Dead letters of these.
    pub found: u64,
    /// Further dead letters of the same messages: their subscriber died between the dead letter and the ack.
    pub twice: u64,
    /// Rejected, and neither among the dead letters nor handled later.
    pub missing: u64,
    /// Among the dead letters, and rejected by nobody.
    pub unasked: u64,
    /// Redriven, and not handled.
    pub not_redriven: u64,
}

/// How a group fared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// Taken messages that were delivered.
    pub delivered: u64,
    /// Delivered messages whose publish was uncertain or refused.
    pub delivered_uncertain: u64,
    /// Deliveries after a failed attempt.
    pub retries: u64,
    /// Deliveries of redriven dead letters.
    pub redriven: u64,
    /// Taken messages that it was not done with when the run was ended.
    pub backlog: u64,
    /// Deliveries of what was delivered before, by cause.
    pub duplicates: BTreeMap<Cause, u64>,
    /// Dead letters.
    pub dead: DeadReport,
    /// Broken promises, with the first few messages and times of each.
    pub broken: BTreeMap<Example, (u64, Vec<(MessageRef, u64)>)>,
}

impl GroupReport {
    pub(super) fn note(&mut self, what: Example, message: MessageRef, time: u64) {
        let (count, examples) = self.broken.entry(what).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push((message, time));
        }
    }

    /// How often a promise was broken.
    pub fn count(&self, what: Example) -> u64 {
        self.broken.get(&what).map_or(0, |(count, _)| *count)
    }
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Publishes.
    pub published: PublishReport,
    /// Errors of the publishes that were not taken.
    pub errors: BTreeMap<&'static str, u64>,
    /// Each group.
    pub groups: Vec<GroupReport>,
    /// Stops.
    pub stops: StopReport,
    /// Faults, in the order in which they began.
    pub faults: Vec<FaultTime>,
}

impl Report {
    pub(super) fn new(published: &Published, faults: Vec<FaultTime>) -> Self {
        Report { published: published.report(), errors: published.errors(), faults, ..Report::default() }
    }

    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.groups.iter().all(|group| group.broken.is_empty()) && self.stops.late == 0
    }

    /// How often each fault was made.
    pub fn fault_counts(&self) -> BTreeMap<Fault, u64> {
        let mut counts = BTreeMap::new();
        self.faults.iter().for_each(|fault| *counts.entry(fault.fault).or_default() += 1);
        counts
    }

    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        value: impl Fn(&GroupReport) -> u64,
    ) -> fmt::Result {
        write!(f, "{name:<38}")?;
        self.groups.iter().try_for_each(|group| write!(f, "{:>14}", value(group)))?;
        writeln!(f)
    }

    fn broken_examples(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            for (what, (count, examples)) in &group.broken {
                let shown: Vec<String> = examples
                    .iter()
                    .map(|(message, time)| format!("{}:{} at {time}", message.publisher, message.number))
                    .collect();
                writeln!(f, "{}: {count} {}: {} …", group.name, what.words(), shown.join(", "))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PublishReport { taken, refused, uncertain } = self.published;
        writeln!(f, "published: {taken} taken, {refused} refused, {uncertain} uncertain")?;
        let errors: Vec<_> = self.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if !errors.is_empty() {
            writeln!(f, "errors: {}", errors.join(", "))?;
        }
        let faults: Vec<_> =
            self.fault_counts().iter().map(|(fault, count)| format!("{count} {fault}")).collect();
        writeln!(f, "faults: {} ({})", self.faults.len(), faults.join(", "))?;
        write!(f, "{:<38}", "group")?;
        self.groups.iter().try_for_each(|group| write!(f, "{:>14}", group.name))?;
        writeln!(f)?;
        self.row(f, "delivered, of those taken", |group| group.delivered)?;
        self.row(f, "delivered, of those uncertain", |group| group.delivered_uncertain)?;
        self.row(f, "left as a backlog", |group| group.backlog)?;
        self.row(f, "retries", |group| group.retries)?;
        for what in Example::ALL {
            self.row(f, what.words(), |group| group.count(what))?;
        }
        let causes: std::collections::BTreeSet<Cause> =
            self.groups.iter().flat_map(|group| group.duplicates.keys().copied()).collect();
        for cause in causes {
            let name = format!("duplicates: {cause}");
            self.row(f, &name, |group| group.duplicates.get(&cause).copied().unwrap_or(0))?;
        }
        self.row(f, "rejected or given up", |group| group.dead.rejected)?;
        self.row(f, "dead letters of these", |group| group.dead.found)?;
        self.row(f, "dead letters, once more", |group| group.dead.twice)?;
        self.row(f, "redriven and delivered", |group| group.redriven)?;
        let StopReport { count, longest, late, bound } = self.stops;
        writeln!(f, "stops: {count}, longest {longest:.1?} of {bound:?}, {late} late")?;
        self.broken_examples(f)?;
        write!(f, "{}", if self.is_clean() { "CLEAN" } else { "BROKEN" })
    }
}
