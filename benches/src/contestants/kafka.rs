//! rdkafka by hand: the idempotent producer with a count of its delivery reports, and a consumer that commits behind
//! itself, one commit at a time.

use super::metadata::{CONSTANT, ID, Ids};
use crate::Result;
use bytes::Bytes;
use ductape_contest::{Contestant, Messages, Seen, Setup, Windows};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Of every topic that is made here, ours too.
pub(super) const PARTITIONS: i32 = 4;

/// Messages between two commits, at least.
const COMMIT_EVERY: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(30);

/// `METADATA` is whether messages carry more than their payload.
pub(super) struct Contender<const METADATA: bool> {
    producer: Arc<ThreadedProducer<Reports>>,
    address: String,
    topic: String,
    ids: tokio::sync::Mutex<Ids>,
    windows: Windows,
}

/// What becomes of messages: those of a stream are counted, a single one is told to whoever waits.
#[derive(Default)]
struct Reports {
    ended: AtomicU64,
    failed: AtomicU64,
    /// At how many reports a publisher goes on that waits; 0 where none does.
    wake_at: Mutex<u64>,
    room: Condvar,
}

impl Reports {
    /// Waits where a full window of what was sent has no report yet, until a quarter of it has.
    fn wait_for_room(&self, sent: u64, window: u64) {
        if sent - self.ended.load(Ordering::Acquire) < window {
            return;
        }
        let mut wake_at = self.wake_at.lock().unwrap_or_else(PoisonError::into_inner);
        *wake_at = sent - window / 4 * 3;
        while self.ended.load(Ordering::Acquire) < *wake_at {
            wake_at = self.room.wait(wake_at).unwrap_or_else(PoisonError::into_inner);
        }
        *wake_at = 0;
    }
}

type Single = Option<Box<oneshot::Sender<bool>>>;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Single>;

    fn delivery(&self, result: &DeliveryResult<'_>, single: Box<Single>) {
        self.failed.fetch_add(u64::from(result.is_err()), Ordering::AcqRel);
        let ended = 1 + self.ended.fetch_add(1, Ordering::AcqRel);
        // Reports come from one thread, so none is missed that makes it full.
        if ended == *self.wake_at.lock().unwrap_or_else(PoisonError::into_inner) {
            self.room.notify_one();
        }
        if let Some(waiting) = *single {
            _ = waiting.send(result.is_ok());
        }
    }
}

/// Whether a commit is on its way.
#[derive(Default)]
struct Commits {
    under_way: AtomicBool,
    failed: AtomicBool,
}

impl ClientContext for Commits {}

impl ConsumerContext for Commits {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        self.failed.fetch_or(result.is_err(), Ordering::AcqRel);
        self.under_way.store(false, Ordering::Release);
    }
}

impl<const METADATA: bool> Contestant for Contender<METADATA> {
    async fn open(setup: &Setup) -> Result<Self> {
        let address = setup.endpoint.address.clone();
        let first = format!("{}-first", setup.name);
        make_topic(&address, &setup.name).await?;
        make_topic(&address, &first).await?;
        let mut config = client(&address);
        config.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "1");
        config.set("compression.type", "lz4").set("queue.buffering.max.messages", "200000");
        let producer = Arc::new(config.create_with_context(Reports::default())?);
        let (topic, warm) = (setup.name.clone(), Arc::clone(&producer));
        let contender = Contender {
            producer,
            address,
            topic: setup.name.clone(),
            ids: tokio::sync::Mutex::new(Ids::new()),
            windows: Windows::of(setup.corpus),
        };
        let group = contender.group();
        tokio::task::spawn_blocking(move || {
            warm_up(&warm, &first, &topic)?;
            make_group(&group.create()?, &topic)
        })
        .await??;
        Ok(contender)
    }

    async fn publish(self: Arc<Self>, messages: Messages) -> Result<()> {
        tokio::task::spawn_blocking(move || self.publish_all(messages)).await?
    }

    async fn publish_one(self: Arc<Self>, message: Bytes) -> Result<()> {
        let (done, report) = oneshot::channel();
        let headers = headers::<METADATA>(&mut *self.ids.lock().await);
        self.send(&message, headers, Some(Box::new(done)))?;
        if report.await? { Ok(()) } else { Err("a message was not delivered".into()) }
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        tokio::task::spawn_blocking(move || self.consume_all(&seen)).await?
    }

    async fn left(&self) -> Result<Option<u64>> {
        let (group, topic): (BaseConsumer, _) = (self.group().create()?, self.topic.clone());
        tokio::task::spawn_blocking(move || {
            let mut left = 0;
            for partition in group.committed_offsets(all_partitions(&topic), PATIENCE)?.elements() {
                let (low, high) = group.fetch_watermarks(&topic, partition.partition(), PATIENCE)?;
                let next = if let Offset::Offset(next) = partition.offset() { next } else { low };
                left += high.saturating_sub(next) as u64;
            }
            Ok(Some(left))
        })
        .await?
    }
}

impl<const METADATA: bool> Contender<METADATA> {
    fn publish_all(&self, messages: Messages) -> Result<()> {
        let (count, mut ids) = (WARM + messages.left(), Ids::new());
        let (reports, window) = (self.producer.context(), self.windows.messages() as u64);
        for (payload, before) in messages.zip(WARM..) {
            reports.wait_for_room(before, window);
            self.send(&payload, headers::<METADATA>(&mut ids), None)?;
        }
        self.producer.flush(PATIENCE)?;
        match (reports.ended.load(Ordering::Acquire), reports.failed.load(Ordering::Acquire)) {
            (ended, 0) if ended == count => Ok(()),
            (ended, failed) => Err(format!("{ended} of {count} reports, {failed} failed").into()),
        }
    }

    fn send(&self, payload: &[u8], headers: Option<OwnedHeaders>, single: Single) -> Result<()> {
        let mut record = BaseRecord::<(), [u8], _>::with_opaque_to(&self.topic, Box::new(single));
        record = record.payload(payload);
        record.headers = headers;
        while let Err((error, back)) = self.producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            // The producer's own thread makes room.
            std::thread::sleep(Duration::from_micros(200));
            record = back;
        }
        Ok(())
    }

    fn consume_all(&self, seen: &Seen) -> Result<()> {
        let consumer: BaseConsumer<Commits> = self.group().create_with_context(Commits::default())?;
        consumer.subscribe(&[&self.topic])?;
        let (commits, mut taken) = (consumer.context(), 0);
        while !seen.is_complete() {
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message?;
            if METADATA {
                black_box(id(&message));
            }
            // The client notes the place of what it hands out, and only commits tell the server.
            seen.take(message.payload().unwrap_or_default());
            taken += 1;
            // A server answers one commit of a connection after the other: more at once would only wait in line.
            if taken >= COMMIT_EVERY && !commits.under_way.swap(true, Ordering::AcqRel) {
                consumer.commit_consumer_state(CommitMode::Async)?;
                taken = 0;
            }
        }
        consumer.commit_consumer_state(CommitMode::Sync)?;
        if commits.failed.load(Ordering::Acquire) {
            return Err("a commit failed".into());
        }
        close(&consumer)
    }

    fn group(&self) -> ClientConfig {
        let mut config = client(&self.address);
        config.set("group.id", &self.topic).set("auto.offset.reset", "earliest");
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "true");
        // As ours: with the client's own, which fetches 100,000 messages ahead and rests for a second where it has them, it
        // is slower.
        config.set("queued.max.messages.kbytes", "2048").set("queued.min.messages", "2000");
        config.set("fetch.queue.backoff.ms", "10").set("fetch.wait.max.ms", "100");
        config
    }
}

/// Who goes by a message's metadata looks at it; the client takes headers apart when it is first asked for them.
fn id<'m>(message: &'m BorrowedMessage<'_>) -> Option<&'m [u8]> {
    let headers = message.headers()?;
    headers.iter().find(|header| header.key.strip_prefix("ce_") == Some(ID))?.value
}

/// Leaves the group. The client's own end of a consumer would look for the answer every 100 ms.
fn close(consumer: &BaseConsumer<Commits>) -> Result<()> {
    consumer.close_queue()?;
    while !consumer.closed() {
        consumer.poll(Duration::from_millis(1));
    }
    Ok(())
}

/// Messages that are published before all others.
const WARM: u64 = 1;

/// Publishes to another topic, as a service has done long before anybody measures it: a producer that has just been made
/// waits half a second for its id.
fn warm_up(producer: &ThreadedProducer<Reports>, first: &str, topic: &str) -> Result<()> {
    let record = BaseRecord::<(), [u8], _>::with_opaque_to(first, Box::new(None)).payload(&[][..]);
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(PATIENCE)?;
    producer.client().fetch_metadata(Some(topic), PATIENCE)?;
    Ok(())
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("socket.nagle.disable", "true");
    config
}

async fn make_topic(address: &str, name: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(address).create()?;
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
        made.map_err(|(name, code)| format!("{name}: {code}"))?;
    }
    Ok(())
}

/// A group that has an offset of each partition; without, a consumer has to look for them first.
fn make_group(client: &BaseConsumer, topic: &str) -> Result<()> {
    let mut offsets = all_partitions(topic);
    offsets.set_all_offsets(Offset::Offset(0))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.commit(&offsets, CommitMode::Sync) {
            // The first group of a server makes the topic for all groups' offsets.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            committed => return Ok(committed?),
        }
    }
}

fn all_partitions(topic: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, PARTITIONS - 1);
    list
}

fn headers<const METADATA: bool>(ids: &mut Ids) -> Option<OwnedHeaders> {
    METADATA.then(|| {
        let names = ["ce_specversion", "ce_source", "ce_type", "ce_time", "content-type"];
        let headers = OwnedHeaders::new_with_capacity(names.len() + 1);
        let constant = names.into_iter().zip(CONSTANT.map(|(_, value)| value));
        let headers = constant
            .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        headers.insert(Header { key: &format!("ce_{ID}"), value: Some(ids.next()) })
    })
}
