//! Whether the server takes publishes: it says so when its memory or disk run short, and again when they do not.

use futures_util::{Stream, StreamExt};
use lapin::Event;
use std::sync::Arc;
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

    /// Waits until there is none.
    pub(crate) async fn end(&self) {
        if self.is_raised() {
            // Who sends lives as long as this does.
            let _ = self.0.subscribe().wait_for(Option::is_none).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use futures_util::stream;
    use std::time::Duration;

    const SHORT: Duration = Duration::from_millis(20);

    fn blocked() -> Event {
        Event::ConnectionBlocked("low on memory".into())
    }

    impl Alarm {
        /// An alarm of a server that takes no publishes.
        pub(crate) async fn raised() -> Alarm {
            let alarm = Alarm::default();
            alarm.watch(stream::iter([blocked()]).chain(stream::pending()));
            alarm.0.subscribe().wait_for(Option::is_some).await.unwrap();
            alarm
        }

        pub(crate) async fn lift(&self) {
            self.clone().follow(stream::iter([Event::ConnectionUnblocked])).await;
        }
    }

    #[tokio::test]
    async fn it_lasts_until_the_server_takes_it_back() {
        let alarm = Alarm::raised().await;
        assert_eq!(alarm.reason().as_deref(), Some("low on memory"));
        assert!(tokio::time::timeout(SHORT, alarm.end()).await.is_err());
        tokio::join!(alarm.end(), alarm.lift());
        assert_eq!(alarm.reason(), None);
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
