//! The producer that all publishers of a connection share, and what its callbacks do.

use crate::batch::Batches;
use crate::partitioner::Placement;
use crate::settings::Settings;
use crate::signals::Signals;
use ductape_core::Result;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, client::Client};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio::time::Instant;

/// A record of ours: key and payload are borrowed, and copied by the client library.
pub(crate) type Outgoing<'m> = BaseRecord<'m, [u8], [u8], usize>;

/// An idempotent producer with a thread that serves its callbacks.
pub(crate) struct Producer(ThreadedProducer<Reports, Placement>);

/// What the producer's callbacks know.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    pub(crate) signals: Signals,
    pub(crate) batches: Batches,
    placement: Placement,
    room: Room,
    /// Whether a fault was fatal: the sequence of some partition is lost, and nothing more is taken.
    broken: AtomicBool,
}

/// How full the queue is, and who waits for room in it.
#[derive(Debug, Default)]
struct Room {
    queued: AtomicUsize,
    /// Those who wait are woken when no more than this are queued; zero where nobody waits.
    wake_at: AtomicUsize,
    drained: Notify,
}

impl Room {
    fn leave(&self) {
        let before = self.queued.fetch_sub(1, Ordering::AcqRel);
        let level = self.wake_at.load(Ordering::Acquire);
        if level > 0 && before <= level + 1 && self.wake_at.swap(0, Ordering::AcqRel) > 0 {
            self.drained.notify_waiters();
        }
    }

    /// Waits until a good part of the queue is free, so that not every message wakes everybody. False where time
    /// is over before.
    async fn wait(&self, deadline: Instant) -> bool {
        let drained = self.drained.notified();
        tokio::pin!(drained);
        drained.as_mut().enable();
        let queued = self.queued.load(Ordering::Acquire);
        let level = (queued / 4 * 3).max(1);
        self.wake_at.fetch_max(level, Ordering::AcqRel);
        // What drained in between has woken nobody.
        if self.queued.load(Ordering::Acquire) <= level {
            return true;
        }
        tokio::time::timeout_at(deadline, drained).await.is_ok()
    }
}

impl Producer {
    /// # Errors
    /// `PROVIDER_FAILED` where the client library cannot start.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let created = settings.producer().create_with_context(Reports::default());
        created.map(Producer).map_err(|error| crate::error::call(&error, "the producer", false))
    }

    pub(crate) fn reports(&self) -> &Arc<Reports> {
        self.0.context()
    }

    pub(crate) fn client(&self) -> &Client<Reports> {
        self.0.client()
    }

    /// Whether it takes nothing more. The client knows before its callbacks tell.
    pub(crate) fn is_broken(&self) -> bool {
        self.reports().broken.load(Ordering::Acquire) || self.client().fatal_error().is_some()
    }

    /// Hands a record to the client library, which copies it.
    ///
    /// # Errors
    /// The client's; the record is not in its queue then.
    pub(crate) fn send(&self, record: Outgoing<'_>) -> Result<(), Code> {
        let room = &self.reports().room;
        room.queued.fetch_add(1, Ordering::AcqRel);
        self.0.send(record).map_err(|(error, _)| {
            room.leave();
            let code = crate::error::code(&error).unwrap_or(Code::Fail);
            if code == Code::Fatal {
                self.reports().broken.store(true, Ordering::Release);
            }
            code
        })
    }

    /// Waits until the queue has room again; false where it has none in time.
    pub(crate) async fn room(&self, deadline: Instant) -> bool {
        self.reports().room.wait(deadline).await
    }

    /// Waits until nothing is under way, at most so long. Blocks.
    pub(crate) fn flush(&self, most: std::time::Duration) {
        if self.0.in_flight_count() > 0
            && let Err(error) = self.0.flush(most)
        {
            tracing::warn!(%error, "publishes that were not confirmed are given up");
        }
    }
}

/// A record of these parts. The tag comes back with its report.
pub(crate) fn record<'m>(
    topic: &'m str,
    message: &'m ductape_core::Message,
    headers: OwnedHeaders,
    tag: usize,
) -> Outgoing<'m> {
    let record = BaseRecord::with_opaque_to(topic, tag)
        .payload(&message.payload[..])
        .headers(headers)
        .timestamp(message.time.as_millis());
    match &message.key {
        Some(key) => record.key(key.as_bytes()),
        None => record,
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.signals.log(level, facility, line);
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if crate::error::code(&error) == Some(Code::Fatal) {
            tracing::warn!(reason, "the producer is given up, and another made with the next publish");
            self.broken.store(true, Ordering::Release);
        }
        self.signals.error(&error, reason);
    }
}

impl ProducerContext<Placement> for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        let place = |message: &BorrowedMessage<'_>| (message.partition(), message.offset());
        let outcome = match result {
            Ok(message) => Ok(place(message)),
            Err((error, _)) => Err(crate::error::code(error).unwrap_or(Code::Fail)),
        };
        self.room.leave();
        self.batches.report(tag, outcome);
    }

    fn get_custom_partitioner(&self) -> Option<&Placement> {
        Some(&self.placement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn who_waits_for_room_is_woken_when_a_quarter_is_free() {
        let room = Arc::new(Room::default());
        room.queued.store(8, Ordering::Release);
        let deadline = Instant::now() + Duration::from_secs(60);
        let waiting = tokio::spawn({
            let room = Arc::clone(&room);
            async move { room.wait(deadline).await }
        });
        while room.wake_at.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        room.leave();
        assert_eq!(room.wake_at.load(Ordering::Acquire), 6, "one of eight is not enough");
        room.leave();
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_wait_for_room_ends_with_its_deadline() {
        let room = Room::default();
        room.queued.store(8, Ordering::Release);
        assert!(!room.wait(Instant::now()).await);
    }
}
