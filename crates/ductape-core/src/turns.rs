//! For providers: the order of calls that publish by one way. Who comes first goes first.
//!
//! ```text
//!  publish ─▶ nobody waits, and the way is free ─▶ onto it, at once, under the lock of a thread
//!        └──▶ otherwise a place in the line ─▶ its turn ─▶ what it waits for ─▶ onto the way
//! ```
//!
//! A line that tasks wait in is slow, since each has to be woken for its turn, and those who come meanwhile make it
//! longer. So nobody stands in it who need not wait for anything but the others. While anybody does, all who come
//! stand behind.

use crate::message::Message;
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::task::unconstrained;

/// Turns at one way, such as a channel or a client's queue.
#[derive(Debug, Default)]
pub struct Turns {
    /// How many have a place in the line.
    standing: Mutex<usize>,
    line: tokio::sync::Mutex<()>,
}

/// A place in the line, until it is dropped.
#[derive(Debug)]
pub struct Place<'t>(&'t Turns);

/// The first place in the line, until it is dropped.
#[derive(Debug)]
pub struct Turn<'t> {
    _first: tokio::sync::MutexGuard<'t, ()>,
    _place: Place<'t>,
}

/// What is done at once at most: no thread waits for longer than it takes to copy that.
const SHORT_MESSAGES: usize = 64;
const SHORT_BYTES: usize = 256 * 1024;

/// Whether a batch is small enough to be sent by [`Turns::at_once`]: 64 messages and 256 KiB at most.
pub fn is_short(batch: &[Message]) -> bool {
    batch.len() <= SHORT_MESSAGES && batch.iter().map(Message::size).sum::<usize>() <= SHORT_BYTES
}

/// Holds a turn until `work` has begun, and then waits for its end. Work has begun once it was polled: that look gets it
/// into its place, also where its task has had its share and would be made to yield.
pub async fn hold_until_begun<W: Future>(turn: impl Sized, work: W) -> W::Output {
    let mut work = pin!(work);
    let begun = futures_util::poll!(unconstrained(&mut work));
    drop(turn);
    match begun {
        Poll::Ready(output) => output,
        Poll::Pending => work.await,
    }
}

impl Turns {
    /// Does this at once, where nobody stands in the line.
    ///
    /// It runs under the lock of a thread: it is short, and waits for nothing.
    ///
    /// # Errors
    /// A place in the line, where somebody stands there or `work` says by `None` that it has to wait.
    pub fn at_once<R>(&self, work: impl FnOnce() -> Option<R>) -> Result<R, Place<'_>> {
        let mut standing = self.standing();
        if *standing == 0
            && let Some(done) = work()
        {
            return Ok(done);
        }
        *standing += 1;
        Err(Place(self))
    }

    fn standing(&self) -> MutexGuard<'_, usize> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'t> Place<'t> {
    /// Waits until all before have had their turns. The order is that of the first polls.
    pub async fn turn(self) -> Turn<'t> {
        Turn { _first: self.0.line.lock().await, _place: self }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.standing() -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;

    /// A place in the line, where that is the way.
    fn come(turns: &Turns) -> Option<Place<'_>> {
        turns.at_once(|| Some(())).err()
    }

    fn stand(turns: &Turns) -> Place<'_> {
        turns.at_once(|| None::<()>).unwrap_err()
    }

    #[tokio::test]
    async fn who_comes_later_has_its_turn_after_those_who_waited() {
        let turns = Turns::default();
        assert!(come(&turns).is_none(), "nobody waits");
        let first = stand(&turns).turn().await;
        let mut second = Box::pin(come(&turns).expect("one waits").turn());
        assert!(poll!(&mut second).is_pending());
        drop(first);
        let mut late = Box::pin(come(&turns).expect("the second waits").turn());
        assert!(poll!(&mut late).is_pending(), "it comes before the second");
        drop(second.await);
        drop(late.await);
        assert!(come(&turns).is_none(), "nobody waits any more");
    }

    #[tokio::test]
    async fn who_gives_up_keeps_nobody_waiting() {
        let turns = Turns::default();
        let first = stand(&turns).turn().await;
        let mut second = Box::pin(stand(&turns).turn());
        assert!(poll!(&mut second).is_pending());
        drop(second);
        drop(stand(&turns));
        drop(first);
        assert_eq!(turns.at_once(|| Some(7)).unwrap(), 7);
    }
}
