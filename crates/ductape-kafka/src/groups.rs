//! Offsets of groups, as the cluster keeps them. Everything here blocks.

use crate::ledger::Mark;
use ductape_core::Start;
use rdkafka::consumer::{CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How often leaders that move are asked again.
const LOOK: Duration = Duration::from_millis(20);

/// Offsets by partition.
pub(crate) type Offsets = BTreeMap<i32, i64>;

/// A topic and the partitions of it that are meant.
pub(crate) struct Partitions<'t> {
    pub(crate) topic: &'t str,
    pub(crate) numbers: Vec<i32>,
}

impl<'t> Partitions<'t> {
    /// The first so many.
    pub(crate) fn all(topic: &'t str, count: i32) -> Self {
        Partitions { topic, numbers: (0..count).collect() }
    }

    fn list(&self, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(self.numbers.len());
        for number in &self.numbers {
            list.add_partition_offset(self.topic, *number, offset)?;
        }
        Ok(list)
    }
}

/// Where the partitions end, or begin: one request a broker.
pub(crate) fn edges<C: ConsumerContext, T: Consumer<C>>(
    client: &T,
    partitions: &Partitions<'_>,
    edge: Offset,
    limit: Duration,
) -> Result<Offsets, KafkaError> {
    settled(limit, || edges_now(client, partitions, edge, limit))
}

/// Asks again, within `limit`, while leaders and coordinators move: those of what was just made are told of before they
/// know it themselves.
fn settled<T>(limit: Duration, ask: impl Fn() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Err(error) if moves(&error) && Instant::now() < deadline => std::thread::sleep(LOOK),
            result => return result,
        }
    }
}

fn moves(error: &KafkaError) -> bool {
    matches!(
        crate::error::code(error),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
                | Code::NotCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::WaitingForCoordinator
                // A coordinator that has not heard of the topic yet.
                | Code::UnknownTopicOrPartition
        )
    )
}

fn edges_now<C: ConsumerContext, T: Consumer<C>>(
    client: &T,
    partitions: &Partitions<'_>,
    edge: Offset,
    limit: Duration,
) -> Result<Offsets, KafkaError> {
    // The protocol's names for both are timestamps below zero, and those are the values of `Offset`.
    let found = client.offsets_for_times(partitions.list(edge)?, limit)?;
    let mut offsets = Offsets::new();
    for element in found.elements() {
        element.error()?;
        // A partition without a message says that it ends nowhere.
        offsets.insert(element.partition(), element.offset().to_raw().unwrap_or(0).max(0));
    }
    Ok(offsets)
}

/// What the group has committed; nothing of partitions of which it has not.
pub(crate) fn committed<C: ConsumerContext, T: Consumer<C>>(
    client: &T,
    partitions: &Partitions<'_>,
    limit: Duration,
) -> Result<BTreeMap<i32, Mark>, KafkaError> {
    settled(limit, || committed_now(client, partitions, limit))
}

fn committed_now<C: ConsumerContext, T: Consumer<C>>(
    client: &T,
    partitions: &Partitions<'_>,
    limit: Duration,
) -> Result<BTreeMap<i32, Mark>, KafkaError> {
    let found = client.committed_offsets(partitions.list(Offset::Invalid)?, limit)?;
    let mut marks = BTreeMap::new();
    for element in found.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            marks.insert(element.partition(), Mark::read(offset, &metadata(&element)));
        }
    }
    Ok(marks)
}

/// What stands beside a committed offset; nothing where it is not UTF-8, and so somebody else's.
fn metadata(element: &TopicPartitionListElem<'_>) -> String {
    // rdkafka panics there, and has no other way to ask.
    catch_unwind(AssertUnwindSafe(|| element.metadata().to_owned())).unwrap_or_default()
}

/// Sees to it that the group exists: commits where it begins in each partition of which it has committed nothing.
/// Gives those positions where the cluster does not take them, because the group has members: they are then for
/// whoever is given the partition.
///
/// The ends are looked up before what is committed. What another process published after it made the group is
/// therefore either behind these ends, or the group is seen.
pub(crate) fn establish<C: ConsumerContext, T: Consumer<C>>(
    client: &T,
    partitions: &Partitions<'_>,
    start: Start,
    limit: Duration,
) -> Result<Offsets, KafkaError> {
    let edge = match start {
        Start::Latest => Offset::End,
        Start::Earliest => Offset::Beginning,
    };
    let mut begin = edges(client, partitions, edge, limit)?;
    let there = committed(client, partitions, limit)?;
    if there.len() == partitions.numbers.len() {
        return Ok(Offsets::new());
    }
    if !there.is_empty() {
        // The group is not new: the topic has got more partitions, of which it is to miss nothing.
        begin = edges(client, partitions, Offset::Beginning, limit)?;
    }
    begin.retain(|partition, _| !there.contains_key(partition));
    let marks = begin.iter().map(|(partition, offset)| (*partition, Mark::new(*offset, 0)));
    let list = marks_list(partitions.topic, marks)?;
    match settled(limit, || client.commit(&list, CommitMode::Sync)) {
        Ok(()) => Ok(Offsets::new()),
        Err(error) if has_members(&error) => Ok(begin),
        Err(error) => Err(error),
    }
}

/// Whether the cluster takes offsets of this group from its members only.
fn has_members(error: &KafkaError) -> bool {
    matches!(
        crate::error::code(error),
        Some(
            Code::UnknownMemberId
                | Code::IllegalGeneration
                | Code::RebalanceInProgress
                | Code::FencedInstanceId
        )
    )
}

/// Marks as they are committed.
pub(crate) fn marks_list(
    topic: &str,
    marks: impl IntoIterator<Item = (i32, Mark)>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, mark) in marks {
        let mut element = list.add_partition(topic, partition);
        element.set_offset(Offset::Offset(mark.offset))?;
        element.set_metadata(mark.metadata());
    }
    Ok(list)
}

/// Whether a member's subscription names a topic (Kafka's ConsumerProtocolSubscription: a version, then the topics).
pub(crate) fn subscribes(metadata: &[u8], topic: &str) -> bool {
    topics(metadata).is_some_and(|topics| topics.contains(&topic.as_bytes()))
}

fn topics(metadata: &[u8]) -> Option<Vec<&[u8]>> {
    let (_, rest) = metadata.split_at_checked(2)?;
    let (count, mut rest) = rest.split_at_checked(4)?;
    let count = i32::from_be_bytes(count.try_into().ok()?);
    let mut topics = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_at_checked(2)?;
        let length = u16::from_be_bytes(length.try_into().ok()?);
        let (name, after) = after.split_at_checked(usize::from(length))?;
        topics.push(name);
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_subscription_is_read_for_its_topics() {
        let metadata = b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x06orders\xff\xff\xff\xff";
        assert!(subscribes(metadata, "orders") && subscribes(metadata, "a"));
        assert!(!subscribes(metadata, "order") && !subscribes(metadata, ""));
    }

    proptest! {
        #[test]
        fn whatever_a_member_says_of_itself_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            subscribes(&bytes, "orders");
        }
    }

    #[test]
    #[allow(unsafe_code, reason = "rdkafka makes no metadata that is not UTF-8")]
    fn metadata_that_is_not_utf_8_is_somebody_elses() {
        let list = marks_list("t", [(3, Mark::new(7, 2))]).unwrap();
        // SAFETY: the list has one element, whose metadata was just allocated and has more than one byte.
        unsafe { *(*(*list.ptr()).elems).metadata.cast::<u8>() = 0xff };
        assert_eq!(metadata(&list.elements()[0]), "");
    }

    #[test]
    fn marks_stand_in_the_list_with_their_metadata() {
        let list = marks_list("t", [(3, Mark::new(7, 2))]).unwrap();
        let elements = list.elements();
        assert_eq!((elements[0].partition(), elements[0].offset()), (3, Offset::Offset(7)));
        assert_eq!(Mark::read(7, elements[0].metadata()), Mark::new(7, 2));
    }
}
