//! Commits on their way: one at a time, and who waits for it.

use crate::ledger::{self, Mark};
use ductape_core::{Error, Result, Token};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// One commit, for all that settle while it gathers.
#[derive(Clone, Debug)]
pub(crate) struct Commit(Arc<watch::Sender<Option<Outcome>>>);

/// How a commit ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    error: Option<Arc<Error>>,
    /// Partitions that went to another member before it did.
    lost: Arc<BTreeSet<u32>>,
}

impl Outcome {
    pub(crate) fn failed(error: Error) -> Self {
        Outcome { error: Some(Arc::new(error)), ..Outcome::default() }
    }

    /// What it means for one settlement.
    pub(crate) fn of(&self, token: &Token) -> Result<()> {
        match &self.error {
            _ if ledger::epoch(token).is_some_and(|epoch| self.lost.contains(&epoch)) => {
                Err(ledger::lease_lost())
            }
            Some(error) => Err(error.replicate()),
            None => Ok(()),
        }
    }
}

impl Commit {
    fn new() -> Self {
        Commit(Arc::new(watch::Sender::new(None)))
    }

    /// How it ended, once it has.
    pub(crate) async fn ended(&self) -> Outcome {
        let mut outcome = self.0.subscribe();
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_default(),
            Err(_) => Outcome::default(),
        }
    }
}

/// What is on its way and what comes next.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    /// Gathers those who settle now.
    next: Option<Commit>,
    /// Those whose commit has to be repeated.
    again: Vec<Commit>,
    /// Under way: who waits, and what the cluster was told.
    flight: Option<Flight>,
    /// Partitions lost since the flight began.
    lost: BTreeSet<u32>,
}

#[derive(Debug)]
struct Flight {
    waiting: Vec<Commit>,
    marks: Vec<(u32, i32, Mark)>,
}

impl Commits {
    /// The commit that will carry what is settled now.
    pub(crate) fn join(&mut self) -> Commit {
        self.next.get_or_insert_with(Commit::new).clone()
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether anybody waits for the one that is under way.
    pub(crate) fn is_heard(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| !flight.waiting.is_empty())
    }

    /// Whether anybody waits for a commit that has not begun.
    pub(crate) fn is_awaited(&self) -> bool {
        self.next.is_some() || !self.again.is_empty()
    }

    /// A commit of these marks begins.
    pub(crate) fn begin(&mut self, marks: Vec<(u32, i32, Mark)>) {
        let waiting = self.again.drain(..).chain(self.next.take()).collect();
        self.flight = Some(Flight { waiting, marks });
    }

    /// The commit under way has reached the cluster: what it was told.
    pub(crate) fn succeed(&mut self) -> Vec<(u32, i32, Mark)> {
        let Some(flight) = self.flight.take() else { return Vec::new() };
        // What the cluster has taken is settled, whoever has the partition now. Of those who come with the next
        // commit it took nothing.
        let mut lost = self.lost();
        flight.marks.iter().for_each(|(epoch, ..)| {
            lost.remove(epoch);
        });
        tell(&flight.waiting, Outcome { error: None, lost: Arc::new(lost) });
        flight.marks
    }

    /// The commit under way is lost for good.
    pub(crate) fn fail(&mut self, error: Error) {
        if let Some(flight) = self.flight.take() {
            let lost = Arc::new(self.lost());
            tell(&flight.waiting, Outcome { error: Some(Arc::new(error)), lost });
        }
    }

    /// The commit under way has to be repeated: those who wait go with the next.
    pub(crate) fn repeat(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.again.extend(flight.waiting);
        }
    }

    /// Partitions are with another member now.
    pub(crate) fn lose(&mut self, epochs: impl IntoIterator<Item = u32>) {
        self.lost.extend(epochs);
    }

    /// Nothing more will be committed. Whoever waits hears so.
    pub(crate) fn end(&mut self) {
        self.repeat();
        self.begin(Vec::new());
        self.fail(ledger::lease_lost());
    }

    /// What is lost, which is forgotten once nobody waits who might have to hear of it.
    fn lost(&mut self) -> BTreeSet<u32> {
        if self.is_awaited() { self.lost.clone() } else { std::mem::take(&mut self.lost) }
    }
}

fn tell(waiting: &[Commit], outcome: Outcome) {
    waiting.iter().for_each(|commit| {
        commit.0.send_replace(Some(outcome.clone()));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use ductape_core::ErrorKind;
    use futures_util::FutureExt;

    fn ended(commit: &Commit) -> Option<Outcome> {
        commit.ended().now_or_never()
    }

    fn marks(epoch: u32) -> Vec<(u32, i32, Mark)> {
        vec![(epoch, 0, Mark::default())]
    }

    #[test]
    fn many_who_settle_share_one_commit_and_those_who_come_later_the_next() {
        let mut commits = Commits::default();
        let (one, other) = (commits.join(), commits.join());
        commits.begin(marks(1));
        let later = commits.join();
        assert!(ended(&one).is_none());
        assert_eq!(commits.succeed(), marks(1));
        assert!([&one, &other].iter().all(|commit| ended(commit).is_some()));
        assert!(ended(&later).is_none() && commits.is_awaited());
    }

    #[test]
    fn who_waits_for_a_commit_that_is_repeated_hears_of_the_repetition() {
        let mut commits = Commits::default();
        let waiting = commits.join();
        commits.begin(marks(1));
        commits.repeat();
        assert!(ended(&waiting).is_none() && commits.is_awaited() && !commits.is_under_way());
        commits.begin(marks(1));
        commits.succeed();
        assert!(ended(&waiting).unwrap().of(&ledger::token(1, 5)).is_ok());
    }

    #[test]
    fn what_was_lost_before_its_commit_is_told_as_lost_and_nothing_else_is() {
        let mut commits = Commits::default();
        let waiting = commits.join();
        commits.lose([1]);
        commits.begin(marks(2));
        commits.succeed();
        let outcome = ended(&waiting).unwrap();
        assert_eq!(outcome.of(&ledger::token(1, 5)).unwrap_err().kind(), ErrorKind::LeaseLost);
        assert!(outcome.of(&ledger::token(2, 5)).is_ok());
    }

    #[test]
    fn what_the_cluster_took_is_settled_although_the_partition_is_lost_meanwhile() {
        let mut commits = Commits::default();
        let waiting = commits.join();
        commits.begin(marks(1));
        commits.lose([1]);
        commits.succeed();
        assert!(ended(&waiting).unwrap().of(&ledger::token(1, 5)).is_ok());
    }

    #[test]
    fn what_the_cluster_took_says_nothing_of_what_was_to_go_with_the_next_commit() {
        let mut commits = Commits::default();
        let first = commits.join();
        commits.begin(marks(1));
        let next = commits.join();
        commits.lose([1]);
        commits.succeed();
        commits.begin(Vec::new());
        commits.succeed();
        assert!(ended(&first).unwrap().of(&ledger::token(1, 5)).is_ok());
        let late = ended(&next).unwrap().of(&ledger::token(1, 6));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::LeaseLost);
        assert!(commits.lost.is_empty());
    }

    #[test]
    fn at_the_end_nobody_is_left_waiting() {
        let mut commits = Commits::default();
        let under_way = commits.join();
        commits.begin(marks(1));
        let next = commits.join();
        commits.end();
        for commit in [&under_way, &next] {
            assert!(ended(commit).unwrap().of(&ledger::token(1, 5)).is_err());
        }
    }
}
