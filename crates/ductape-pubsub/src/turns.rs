//! Turns by key: calls that overlap publish the messages of one key in the order in which they were made.
//!
//! ```text
//!  call 1 takes turns at a, b ─▶ sends a, sends b ─▶ ends both
//!  call 2 takes turns at b, c ─▶ waits for b, sends c ──────────▶ sends b
//! ```
//!
//! Taking a turn does not wait, so the order is that of the first polls. A turn ends when it is dropped, however its
//! call ends: one that was never begun hands on what it was waiting for. A key that nobody publishes takes no memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Whose turn it is, by key.
#[derive(Default)]
pub(crate) struct Turns(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    /// The last turn that was taken at each key.
    last: HashMap<String, Earlier>,
    next: u64,
}

/// A turn as the one behind it sees it: its number, and what it leaves to wait for when it ends.
struct Earlier {
    number: u64,
    ended: oneshot::Receiver<Option<Earlier>>,
}

/// A turn at one key.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    key: String,
    number: u64,
    before: Option<Earlier>,
    end: Option<oneshot::Sender<Option<Earlier>>>,
}

impl Turns {
    /// Takes the next turn at each of these keys.
    pub(crate) fn take<'k>(self: &Arc<Self>, keys: impl IntoIterator<Item = &'k str>) -> Vec<Turn> {
        let mut queues = self.lock();
        let take = |key: &str| {
            let (end, ended) = oneshot::channel();
            let number = queues.next;
            queues.next += 1;
            let before = queues.last.insert(key.to_owned(), Earlier { number, ended });
            Turn { turns: Arc::clone(self), key: key.to_owned(), number, before, end: Some(end) }
        };
        keys.into_iter().map(take).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Waits until every turn before this one has ended.
    pub(crate) async fn begin(&mut self) {
        while let Some(before) = &mut self.before {
            // Its end always says what is left: the sender goes with a turn's drop.
            self.before = (&mut before.ended).await.unwrap_or_default();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queues = self.turns.lock();
        let mut left = self.before.take();
        while let Some(ended) = left.as_mut().and_then(|before| before.ended.try_recv().ok()) {
            left = ended;
        }
        if queues.last.get(&self.key).is_some_and(|last| last.number == self.number) {
            match left {
                Some(before) => queues.last.insert(std::mem::take(&mut self.key), before),
                None => queues.last.remove(&self.key),
            };
        } else if let Some(end) = self.end.take() {
            // The one behind it is there, or was dropped and did not mind.
            let _ = end.send(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn one(turns: &Arc<Turns>) -> Turn {
        let mut taken = turns.take(["k"]);
        taken.remove(0)
    }

    fn may_begin(turn: &mut Turn) -> bool {
        turn.begin().now_or_never().is_some()
    }

    fn keys(turns: &Turns) -> usize {
        turns.lock().last.len()
    }

    #[test]
    fn turns_at_a_key_are_had_one_after_another() {
        let turns = Arc::default();
        let (mut first, mut second, mut third) = (one(&turns), one(&turns), one(&turns));
        assert!(may_begin(&mut first) && !may_begin(&mut second) && !may_begin(&mut third));
        drop(first);
        assert!(may_begin(&mut second) && !may_begin(&mut third));
        drop(second);
        assert!(may_begin(&mut third));
        drop(third);
        assert_eq!(keys(&turns), 0);
    }

    #[test]
    fn keys_do_not_wait_for_each_other() {
        let turns: Arc<Turns> = Arc::default();
        let mut first = turns.take(["a", "b"]);
        let mut second = turns.take(["b", "c"]);
        assert!(first.iter_mut().all(may_begin));
        assert!(!may_begin(&mut second[0]) && may_begin(&mut second[1]));
        drop((first, second));
        assert_eq!(keys(&turns), 0);
    }

    #[test]
    fn who_goes_away_before_his_turn_lets_nobody_overtake() {
        let turns = Arc::default();
        let (mut first, second, mut third) = (one(&turns), one(&turns), one(&turns));
        assert!(may_begin(&mut first));
        drop(second);
        assert!(!may_begin(&mut third), "the first is still under way");
        drop(first);
        assert!(may_begin(&mut third));
        drop(third);
        assert_eq!(keys(&turns), 0);
    }

    #[test]
    fn who_goes_away_last_leaves_the_one_before_to_wait_for() {
        let turns = Arc::default();
        let (mut first, second) = (one(&turns), one(&turns));
        assert!(may_begin(&mut first));
        drop(second);
        let mut third = one(&turns);
        assert!(!may_begin(&mut third));
        drop(first);
        assert!(may_begin(&mut third));
        drop(third);
        assert_eq!(keys(&turns), 0);
    }

    #[test]
    fn an_ended_turn_is_not_remembered_by_who_went_away_behind_it() {
        let turns = Arc::default();
        let (first, second) = (one(&turns), one(&turns));
        drop(first);
        drop(second);
        assert_eq!(keys(&turns), 0);
    }
}
