//! Whose turn it is to put frames on a publisher's channel: who comes first goes first.
//!
//! ```text
//!  publish ─▶ nobody waits, and the channel is fit ─▶ frames, at once, under the lock of a thread
//!        └──▶ otherwise a place in the line ─▶ its turn ─▶ the alarm's end, another channel ─▶ frames
//! ```
//!
//! A line that tasks wait in is slow, since each has to be woken for its turn, and those who come meanwhile make it
//! longer. So nobody stands in it for frames alone. While anybody does, all who come stand behind.

use crate::alarm::Alarm;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is used in turns, a channel.
pub(crate) struct Turns<T> {
    slot: Mutex<Slot<T>>,
    line: tokio::sync::Mutex<()>,
}

/// What is used, where it is there, and how many stand in the line for it.
pub(crate) struct Slot<T> {
    pub(crate) used: Option<T>,
    standing: usize,
}

/// A place in the line, until it is dropped.
pub(crate) struct Place<'t, T>(&'t Turns<T>);

/// The first place in the line, until it is dropped.
#[expect(dead_code, reason = "both are held")]
pub(crate) struct Turn<'t, T>(tokio::sync::MutexGuard<'t, ()>, Place<'t, T>);

impl<T> Turns<T> {
    pub(crate) fn new(used: T) -> Self {
        let slot = Slot { used: Some(used), standing: 0 };
        Turns { slot: Mutex::new(slot), line: tokio::sync::Mutex::default() }
    }

    pub(crate) fn slot(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does this at once, where nobody stands in the line and what is used is fit for it; else a place in the line.
    pub(crate) fn at_once<R>(
        &self,
        is_fit: impl FnOnce(&T) -> bool,
        work: impl FnOnce(&T) -> R,
    ) -> Result<R, Place<'_, T>> {
        let mut slot = self.slot();
        match &slot.used {
            Some(used) if slot.standing == 0 && is_fit(used) => Ok(work(used)),
            _ => {
                slot.standing += 1;
                Err(Place(self))
            }
        }
    }
}

impl<'t, T> Place<'t, T> {
    /// Waits for one's turn, and then for the alarm's end: in this order, so that nobody who comes at its end overtakes
    /// who has waited for it. Nothing where both are not in this time.
    pub(crate) async fn turn(self, alarm: &Alarm, limit: Duration) -> Option<Turn<'t, T>> {
        let turns = self.0;
        let turn = async {
            let turn = Turn(turns.line.lock().await, self);
            alarm.end().await;
            turn
        };
        tokio::time::timeout(limit, turn).await.ok()
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        self.0.slot().standing -= 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use futures_util::poll;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(10);

    /// A place in the line, where that is the way.
    fn come(turns: &Turns<()>) -> Option<Place<'_, ()>> {
        turns.at_once(|()| true, |()| ()).err()
    }

    fn stand(turns: &Turns<()>) -> Place<'_, ()> {
        turns.at_once(|()| false, |()| ()).unwrap_err()
    }

    #[tokio::test]
    async fn a_turn_waits_for_the_end_of_the_alarm() {
        let (turns, alarm) = (Turns::new(()), Alarm::raised().await);
        assert!(stand(&turns).turn(&Alarm::default(), SHORT).await.is_some());
        assert!(stand(&turns).turn(&alarm, SHORT).await.is_none());
        let (turn, ()) = tokio::join!(stand(&turns).turn(&alarm, LONG), alarm.lift());
        assert!(turn.is_some());
    }

    #[tokio::test]
    async fn who_comes_when_the_alarm_ends_has_its_turn_after_those_who_waited() {
        let (turns, alarm) = (Turns::new(()), Alarm::raised().await);
        assert!(come(&turns).is_none(), "nobody waits");
        let mut first = Box::pin(stand(&turns).turn(&alarm, LONG));
        let mut second = Box::pin(come(&turns).expect("one waits").turn(&alarm, LONG));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        alarm.lift().await;
        let mut late = Box::pin(come(&turns).expect("two wait").turn(&alarm, LONG));
        assert!(poll!(&mut late).is_pending(), "it comes before who waited");
        drop(first.await.unwrap());
        assert!(poll!(&mut late).is_pending(), "it comes before the second");
        drop(second.await.unwrap());
        drop(late.await.unwrap());
        assert!(come(&turns).is_none(), "nobody waits any more");
    }
}
