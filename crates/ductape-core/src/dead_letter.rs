//! Dead letters: what a message becomes when it is given up, and what it becomes when it is redriven.

pub use crate::destination::DEAD_LETTER_GROUP;

use crate::broker::{Broker, Destination, Publisher};
use crate::delivery::Delivery;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{DeadLetter, Message};
use crate::retry::RetryPolicy;
use crate::time::{Clock, Timestamp};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// The longest reason that a dead letter carries, in bytes; longer ones are cut.
pub const MAX_REASON_LEN: usize = 1024;

/// A delivery as a dead letter: the same bytes, key, headers and id, and the facts of its failure.
pub fn bury(delivery: &Delivery, destination: &str, group: &str, reason: &str, now: Timestamp) -> Message {
    let mut message = delivery.message.clone();
    let extensions = message.extensions_mut();
    extensions.redrive_group = None;
    extensions.dead_letter = Some(DeadLetter {
        reason: cut(reason).into(),
        attempts: delivery.attempt,
        failed_at: now,
        destination: destination.into(),
        group: group.into(),
        position: delivery.position.to_string().into(),
    });
    message
}

/// A dead letter as the message it was, for the group that gave it up alone.
pub fn raise(mut letter: Message) -> Message {
    let extensions = letter.extensions_mut();
    extensions.redrive_group = extensions.dead_letter.take().map(|dead| dead.group).filter(|g| !g.is_empty());
    letter
}

/// Control characters have no place in a header, and a reason has a bound.
fn cut(reason: &str) -> String {
    let mut end = reason.len().min(MAX_REASON_LEN);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Where a worker puts its dead letters. Opened at the first one.
pub struct DeadLetterSink {
    broker: Arc<dyn Broker>,
    origin: Arc<str>,
    destination: Destination,
    publisher: OnceCell<Arc<dyn Publisher>>,
    deadline: Duration,
}

impl DeadLetterSink {
    /// A sink for what is given up of `origin` into this dead-letter destination; a publish takes no longer
    /// than `deadline`.
    pub fn new(
        broker: Arc<dyn Broker>,
        origin: Arc<str>,
        destination: Destination,
        deadline: Duration,
    ) -> Self {
        DeadLetterSink { broker, origin, destination, publisher: OnceCell::new(), deadline }
    }

    /// The destination that the dead letters were published to.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Publishes one dead letter however long it takes: until then the original stays where it is.
    pub async fn publish_until_taken(&self, letter: Message, clock: &Clock) {
        let backoff = RetryPolicy::reconnect();
        let mut failed = 0;
        while let Err(error) = self.publish(letter.clone()).await {
            failed += 1;
            tracing::warn!(%error, failed, "a dead letter was not taken; its original is held meanwhile");
            clock.sleep(backoff.delay(failed, fastrand::f64())).await;
        }
    }

    /// Publishes one dead letter, and returns when the provider has taken it for good.
    ///
    /// # Errors
    /// Those of [`Publisher::publish`], with the dead-letter destination named.
    pub async fn publish(&self, letter: Message) -> Result<()> {
        let publish = async {
            let publisher = self.publisher.get_or_try_init(|| self.open()).await?;
            let result = publisher.publish(vec![letter]).await.pop();
            result.unwrap_or_else(|| Err(no_result())).map(drop)
        };
        // A provider that panics must not take the worker along, which holds the original.
        let publish = AssertUnwindSafe(publish).catch_unwind();
        let result = match tokio::time::timeout(self.deadline, publish).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::new(ErrorKind::ProviderFailed, "the provider panicked in a publish")),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer to the publish of a dead letter")),
        };
        result.map_err(|error| error.with_context("destination", &self.destination.name))
    }

    async fn open(&self) -> Result<Arc<dyn Publisher>> {
        self.broker.ensure(&self.destination).await?;
        self.broker.publisher(&self.destination).await
    }
}

fn no_result() -> Error {
    Error::new(ErrorKind::ProviderFailed, "the provider gave no result for a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_character_and_holds_no_line_breaks() {
        assert_eq!(cut("a\r\nb"), "a  b");
        let long = "\u{e9}".repeat(1000);
        assert_eq!(cut(&long).len(), MAX_REASON_LEN);
        assert_eq!(cut(&format!("x{long}")).len(), MAX_REASON_LEN - 1);
    }
}
