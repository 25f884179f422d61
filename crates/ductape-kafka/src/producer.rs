//! The producer that all publishers of a connection share, and what its callbacks do.

use crate::batch::Batches;
use crate::link::discard;
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
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A record of ours: key and payload are borrowed, and copied by the client library.
pub(crate) type Outgoing<'m> = BaseRecord<'m, [u8], [u8], usize>;

/// librdkafka's, with a thread that serves its callbacks.
type Threaded = ThreadedProducer<Reports, Placement>;

/// An idempotent producer. It may be dropped anywhere, also where nothing may block.
pub(crate) struct Producer {
    client: Arc<Threaded>,
    /// Behind the client, so that its share is the last one.
    _end: End<Arc<Threaded>>,
}

/// Drops what it holds on a thread of its own: the end of a client waits for its threads.
struct End<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Drop for End<T> {
    fn drop(&mut self) {
        discard(self.0.take());
    }
}

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
    /// Those who wait are woken when fewer than this are queued; zero where nobody waits.
    wake_below: AtomicUsize,
    drained: Notify,
}

/// When a full queue is tried again although nobody was woken: the client tells of deliveries before it lets go of
/// what they took, so who is woken may come too early, and what is left may be stuck.
const LOOK: Duration = Duration::from_millis(20);
/// The same where nothing is left whose delivery could wake anybody.
const LOOK_EMPTY: Duration = Duration::from_millis(1);

impl Room {
    fn leave(&self) {
        let before = self.queued.fetch_sub(1, Ordering::AcqRel);
        let below = self.wake_below.load(Ordering::Acquire);
        if before <= below && self.wake_below.swap(0, Ordering::AcqRel) > 0 {
            self.drained.notify_waiters();
        }
    }

    /// Waits until a good part of the queue is free, so that not every message wakes everybody, or until it is time
    /// to look anyway. False where the deadline is over: then it has not waited.
    async fn wait(&self, deadline: Instant) -> bool {
        let now = Instant::now();
        if now >= deadline {
            return false;
        }
        let drained = self.drained.notified();
        tokio::pin!(drained);
        drained.as_mut().enable();
        let queued = self.queued.load(Ordering::Acquire);
        let below = queued + 1 - (queued / 4).max(1);
        self.wake_below.fetch_max(below, Ordering::AcqRel);
        // What drained in between has woken nobody.
        if self.queued.load(Ordering::Acquire) >= below {
            let look = if queued == 0 { LOOK_EMPTY } else { LOOK };
            // Woken or not, whoever waits looks.
            let _ = tokio::time::timeout_at(deadline.min(now + look), drained).await;
        }
        true
    }
}

impl Producer {
    /// # Errors
    /// `PROVIDER_FAILED` where the client library cannot start.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let created: Result<Threaded, _> = settings.producer().create_with_context(Reports::default());
        let client = created.map_err(|error| crate::error::call(&error, "the producer", false))?;
        let client = Arc::new(client);
        Ok(Producer { _end: End(Some(Arc::clone(&client))), client })
    }

    pub(crate) fn reports(&self) -> &Arc<Reports> {
        self.client.context()
    }

    pub(crate) fn client(&self) -> &Client<Reports> {
        self.client.client()
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
        self.client.send(record).map_err(|(error, _)| {
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
    pub(crate) fn flush(&self, most: Duration) {
        if self.client.in_flight_count() > 0
            && let Err(error) = self.client.flush(most)
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
    use ductape_core::ConnectOptions;
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};

    #[tokio::test]
    async fn who_waits_for_room_is_woken_when_a_quarter_is_free() {
        let room = Room::default();
        room.queued.store(8, Ordering::Release);
        let mut waiting = Box::pin(room.wait(Instant::now() + Duration::from_secs(60)));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        room.leave();
        assert_eq!(room.wake_below.load(Ordering::Acquire), 7, "one of eight is not enough");
        room.leave();
        assert_eq!(room.wake_below.load(Ordering::Acquire), 0, "whoever waits is woken");
        assert_eq!(futures_util::poll!(&mut waiting), std::task::Poll::Ready(true));
    }

    #[tokio::test]
    async fn a_wait_for_room_ends_with_its_deadline() {
        for queued in [0, 1, 2, 8] {
            let room = Room::default();
            room.queued.store(queued, Ordering::Release);
            assert!(!room.wait(Instant::now()).await, "{queued} queued");
        }
    }

    #[tokio::test]
    async fn who_waits_for_room_lets_others_run_and_looks_again_by_itself_however_few_are_queued() {
        for queued in 0..4 {
            let room = Room::default();
            room.queued.store(queued, Ordering::Release);
            let start = Instant::now();
            let mut waiting = Box::pin(room.wait(start + Duration::from_secs(60)));
            assert!(futures_util::poll!(&mut waiting).is_pending(), "{queued} queued");
            assert!(waiting.await, "{queued} queued");
            assert!(start.elapsed() < Duration::from_secs(30), "{queued} queued");
        }
    }

    /// Tells the thread that it is dropped on.
    struct Tells(mpsc::Sender<ThreadId>);

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    #[test]
    fn what_is_to_end_ends_on_a_thread_of_its_own_also_without_a_runtime() {
        let (tells, told) = mpsc::channel();
        drop(End(Some(Tells(tells))));
        assert_ne!(told.recv_timeout(Duration::from_secs(30)).unwrap(), thread::current().id());
    }

    #[test]
    fn whoever_drops_a_producer_last_does_not_wait_for_its_threads() {
        let config = serde_json::from_str(r#"{"brokers":["127.0.0.1:1"]}"#).unwrap();
        let settings = Settings::new(&config, &ConnectOptions::default()).unwrap();
        let end = || {
            let producer = Producer::new(&settings).unwrap();
            let start = Instant::now();
            drop(producer);
            start.elapsed()
        };
        // Its thread looks every 100 ms whether it is to end. The quickest of some, since a machine has more to do.
        let quickest = (0..5).map(|_| end()).min().unwrap();
        assert!(quickest < Duration::from_millis(50), "{quickest:?}");
    }
}
