//! Whether the server takes publishes: it says so when its memory or disk run short, and again when they do not.

use ductape_core::turns::{Place, Turn};
use futures_util::{Stream, StreamExt};
use lapin::Event;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Why the server takes no publishes at the moment; nothing where it does.
#[derive(Clone, Default)]
pub(crate) struct Alarm(Arc<watch::Sender<Option<String>>>);

impl Alarm {
    /// Begins with a connection, and follows its events until it ends.
    pub(crate) fn watch(&self, events: impl Stream<Item = Event> + Unpin + Send + 'static) {
        self.0.send_replace(None);
        tokio::spawn(self.clone().follow(events));
    }

    async fn follow(self, mut events: impl Stream<Item = Event> + Unpin) {
        while let Some(event) = events.next().await {
            match event {
                Event::ConnectionBlocked(reason) => {
                    tracing::warn!(reason, "the server takes no publishes; they wait");
                    self.0.send_replace(Some(reason));
                }
                Event::ConnectionUnblocked => {
                    tracing::info!("the server takes publishes again");
                    self.0.send_replace(None);
                }
                // The next connection is told anew, and must be asked for: who waits for this one's alarm never does.
                Event::Error(_) => {
                    self.0.send_replace(None);
                }
                _ => {}
            }
        }
        self.0.send_replace(None);
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits for one's turn, and then for the alarm's end: in this order, so that nobody who comes at its end overtakes
    /// who has waited for it. Nothing where both are not in this time.
    pub(crate) async fn turn<'t>(&self, place: Place<'t>, limit: Duration) -> Option<Turn<'t>> {
        let turn = async {
            let turn = place.turn().await;
            if self.is_raised() {
                // Who sends lives as long as this does.
                let _ = self.0.subscribe().wait_for(Option::is_none).await;
            }
            turn
        };
        tokio::time::timeout(limit, turn).await.ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use ductape_core::turns::Turns;
    use futures_util::{poll, stream};

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(10);

    fn blocked() -> Event {
        Event::ConnectionBlocked("low on memory".into())
    }

    /// An alarm of a server that takes no publishes.
    async fn raised() -> Alarm {
        let alarm = Alarm::default();
        alarm.watch(stream::iter([blocked()]).chain(stream::pending()));
        alarm.0.subscribe().wait_for(Option::is_some).await.unwrap();
        alarm
    }

    async fn lift(alarm: &Alarm) {
        alarm.clone().follow(stream::iter([Event::ConnectionUnblocked])).await;
    }

    fn stand(turns: &Turns) -> Place<'_> {
        turns.at_once(|| None::<()>).unwrap_err()
    }

    #[tokio::test]
    async fn it_lasts_until_the_server_takes_it_back() {
        let (turns, alarm) = (Turns::default(), raised().await);
        assert!(Alarm::default().turn(stand(&turns), SHORT).await.is_some());
        assert!(alarm.turn(stand(&turns), SHORT).await.is_none());
        assert_eq!(alarm.reason().as_deref(), Some("low on memory"));
        let (turn, ()) = tokio::join!(alarm.turn(stand(&turns), LONG), lift(&alarm));
        assert!(turn.is_some());
    }

    #[tokio::test]
    async fn who_comes_when_it_ends_has_its_turn_after_those_who_waited() {
        let (turns, alarm) = (Turns::default(), raised().await);
        let mut first = Box::pin(alarm.turn(stand(&turns), LONG));
        let mut second = Box::pin(alarm.turn(stand(&turns), LONG));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        lift(&alarm).await;
        let late = turns.at_once(|| Some(())).expect_err("two wait");
        let mut late = Box::pin(alarm.turn(late, LONG));
        assert!(poll!(&mut late).is_pending(), "it comes before who waited");
        drop(first.await.unwrap());
        assert!(poll!(&mut late).is_pending(), "it comes before the second");
        drop(second.await.unwrap());
        assert!(late.await.is_some());
    }

    #[tokio::test]
    async fn it_does_not_outlast_a_connection_that_is_lost_and_still_held() {
        let alarm = Alarm::default();
        let lost = Event::Error(lapin::ErrorKind::MissingHeartbeatError.into());
        let events = stream::iter([blocked(), lost]).chain(stream::pending());
        assert!(tokio::time::timeout(SHORT, alarm.clone().follow(events)).await.is_err(), "it is still held");
        assert_eq!(alarm.reason(), None);
    }

    #[tokio::test]
    async fn it_ends_with_the_connection() {
        let alarm = Alarm::default();
        alarm.clone().follow(stream::iter([blocked()])).await;
        assert_eq!(alarm.reason(), None);
    }
}
