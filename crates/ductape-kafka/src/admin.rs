//! Topics and groups: made, verified, inspected, deleted. Everything here blocks.

use crate::error;
use crate::groups::{self, Offsets, Partitions};
use crate::ledger::Mark;
use crate::link::Link;
use ductape_core::broker::{GroupInspection, Inspection, Provision};
use ductape_core::error::Retry;
use ductape_core::{Destination, Error, ErrorKind, Result, Start};
use futures_util::FutureExt;
use rdkafka::Offset;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::groups::GroupList;
use rdkafka::metadata::{Metadata, MetadataTopic};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the cluster is asked whether what was made is everywhere.
const LOOK: Duration = Duration::from_millis(20);
/// How long a group that is to be deleted is waited for to be without members.
const EMPTYING: Duration = Duration::from_secs(3);
/// A topic whose metadata every cluster tells, whatever is in it.
const ANY_TOPIC: &str = "__consumer_offsets";

/// A topic as the cluster has it.
struct Shape {
    partitions: i32,
    replication: usize,
    has_leaders: bool,
}

/// One round trip.
pub(crate) fn ping(link: &Arc<Link>) -> Result<()> {
    let producer = link.producer()?;
    let answer = producer.client().fetch_metadata(Some(ANY_TOPIC), link.limit);
    answer.map(drop).map_err(|error| link.failed(&error, "the ping", false))
}

/// Makes or verifies a topic, and sees to it that its default group exists. Gives its partitions.
pub(crate) fn ensure(link: &Arc<Link>, destination: &Destination) -> Result<()> {
    let topic = &*destination.name;
    let shape = match look(link, topic)? {
        Some(shape) => shape,
        None if destination.provision == Provision::Verify => return Err(missing(topic)),
        None => create(link, topic)?,
    };
    verify(link, topic, &shape)?;
    let (group, partitions) = (&destination.default_group, Partitions::all(topic, shape.partitions));
    let client = link.group(group)?;
    // Where the group has members the cluster takes no offsets from others: a member of the default group begins with
    // the earliest where there is none, which is no later than now.
    groups::establish(&*client, &partitions, Start::Latest, link.limit)
        .map_err(|error| link.failed(&error, "the default group", false).with_context("group", group))?;
    link.know(&destination.name, group);
    Ok(())
}

/// How many partitions a topic has.
pub(crate) fn partitions(link: &Arc<Link>, topic: &str) -> Result<i32> {
    look(link, topic)?.map(|shape| shape.partitions).ok_or_else(|| missing(topic))
}

fn missing(topic: &str) -> Error {
    Error::new(ErrorKind::DestinationNotFound, format!("there is no topic `{topic}`"))
        .with_help("make it, or let Ductape make it with `provision: create`")
}

fn look(link: &Link, topic: &str) -> Result<Option<Shape>> {
    let producer = link.producer()?;
    let failed = |error: KafkaError| link.failed(&error, "a look at the topic", false);
    let metadata = producer.client().fetch_metadata(Some(topic), link.limit).map_err(failed)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(Code::from) {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
        // It is being made.
        Some(Code::LeaderNotAvailable) => Ok(Some(shape(found))),
        Some(code) => Err(error::coded(code, "a look at the topic", false)),
        None => Ok(Some(shape(found))),
    }
}

fn shape(topic: &MetadataTopic) -> Shape {
    let partitions = topic.partitions();
    Shape {
        partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
        replication: partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
        has_leaders: !partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0),
    }
}

/// Makes a topic and waits until every partition has a leader.
fn create(link: &Link, topic: &str) -> Result<Shape> {
    let replication = TopicReplication::Fixed(link.replication.map_or(-1, i32::from));
    let new = NewTopic::new(topic, link.partitions.unwrap_or(-1), replication);
    let (admin, options) = (link.admin()?, options(link));
    let made = wait(link, admin.create_topics([&new], &options))?
        .map_err(|error| link.failed(&error, "making the topic", false))?;
    for result in made {
        match result {
            // Somebody else was quicker.
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(error::coded(code, "making the topic", false)),
        }
    }
    let deadline = Instant::now() + link.limit;
    loop {
        match look(link, topic)? {
            Some(shape) if shape.has_leaders => return Ok(shape),
            _ if Instant::now() >= deadline => {
                return Err(Error::new(ErrorKind::Timeout, "the topic that was made has no leader")
                    .with_retry(Retry::Safe)
                    .with_help("see the cluster's log"));
            }
            _ => std::thread::sleep(LOOK),
        }
    }
}

/// What the config asks for is what the topic has.
fn verify(link: &Link, topic: &str, shape: &Shape) -> Result<()> {
    let partitions = link.partitions.filter(|wanted| *wanted != shape.partitions);
    if let Some(wanted) = partitions {
        return Err(differs(topic, "partitions", wanted, shape.partitions));
    }
    let replication = link.replication.filter(|wanted| usize::try_from(*wanted) != Ok(shape.replication));
    match replication {
        Some(wanted) => Err(differs(topic, "replication", wanted, shape.replication)),
        None => Ok(()),
    }
}

fn differs(topic: &str, setting: &str, wanted: impl ToString, seen: impl ToString) -> Error {
    let (wanted, seen) = (wanted.to_string(), seen.to_string());
    let message = format!("the topic `{topic}` has `{setting}` {seen}, and the config asks for {wanted}");
    Error::new(ErrorKind::DestinationMismatch, message)
        .with_help(format!("set `{setting}: {seen}`, leave it out, or change the topic"))
}

/// Looks at a topic, and at the groups that are known to have it: the default group, those that were opened on this
/// connection, and those that have members now.
pub(crate) fn inspect(link: &Arc<Link>, destination: &Destination) -> Result<Inspection> {
    let topic = &*destination.name;
    let partitions = Partitions::all(topic, partitions(link, topic)?);
    let failed = |error: KafkaError| link.failed(&error, "an inspection", false);
    let client = link.group(&destination.default_group)?;
    let begin = groups::edges(&*client, &partitions, Offset::Beginning, link.limit).map_err(failed)?;
    let end = groups::edges(&*client, &partitions, Offset::End, link.limit).map_err(failed)?;
    let list = link.producer()?.client().fetch_group_list(None, link.limit).map_err(failed)?;
    let members = members(&list, topic);
    let mut names: BTreeSet<String> = link.known(topic).iter().map(ToString::to_string).collect();
    names.insert(destination.default_group.to_string());
    names.extend(members.keys().cloned());
    let mut groups = Vec::new();
    for name in names {
        let client = link.group(&name)?;
        let marks = groups::committed(&*client, &partitions, link.limit).map_err(failed)?;
        if marks.is_empty() && !members.contains_key(&name) {
            continue;
        }
        groups.push(GroupInspection {
            lag: Some(lag(&begin, &end, &marks)),
            in_flight: link.in_flight(topic, &name),
            members: Some(members.get(&name).copied().unwrap_or(0)),
            name,
        });
    }
    let messages = Some(lag(&begin, &end, &BTreeMap::new()));
    Ok(Inspection { messages, groups, ..Inspection::default() })
}

/// How many members each group has that is subscribed to the topic.
fn members(list: &GroupList, topic: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for group in list.groups() {
        let subscribed = group
            .members()
            .iter()
            .filter(|member| member.metadata().is_some_and(|metadata| groups::subscribes(metadata, topic)));
        let count = subscribed.count() as u64;
        if count > 0 {
            counts.insert(group.name().to_owned(), count);
        }
    }
    counts
}

/// Messages from where a group stands, or from the beginning, to the end. Offsets that compaction or transactions left
/// empty count as messages: Kafka does not tell them apart.
fn lag(begin: &Offsets, end: &Offsets, marks: &BTreeMap<i32, Mark>) -> u64 {
    let of = |(partition, end): (&i32, &i64)| {
        let first = begin.get(partition).copied().unwrap_or(0);
        let stands = marks.get(partition).map_or(first, |mark| mark.offset.max(first));
        let done = marks.get(partition).map_or(0, |mark| mark.done.count());
        u64::try_from(end - stands - done).unwrap_or(0)
    };
    end.iter().map(of).sum()
}

/// Forgets a group. Kafka forgets it in all topics, so it must stand in no other.
pub(crate) fn delete_group(link: &Arc<Link>, destination: &Destination, group: &str) -> Result<()> {
    let topic = &*destination.name;
    let there = Partitions::all(topic, partitions(link, topic)?);
    let client = link.group(group)?;
    let failed = |error: KafkaError| link.failed(&error, "deleting the group", false);
    if groups::committed(&*client, &there, link.limit).map_err(failed)?.is_empty() {
        return Err(not_found(group));
    }
    let everything = link.producer()?.client().fetch_metadata(None, link.limit).map_err(failed)?;
    for other in others(&everything, topic) {
        let other = Partitions::all(other.name(), shape(other).partitions);
        if !groups::committed(&*client, &other, link.limit).map_err(failed)?.is_empty() {
            return Err(shared(group, other.topic));
        }
    }
    let (admin, options, deadline) = (link.admin()?, options(link), Instant::now() + EMPTYING);
    loop {
        let results = wait(link, admin.delete_groups(&[group], &options))?.map_err(failed)?;
        match results.into_iter().find_map(std::result::Result::err) {
            None => break link.forget(topic, group),
            Some((_, Code::GroupIdNotFound)) => return Err(not_found(group)),
            // A member that has just left is seen for a moment longer.
            Some((_, Code::NonEmptyGroup)) if Instant::now() < deadline => std::thread::sleep(LOOK),
            Some((_, Code::NonEmptyGroup)) => return Err(has_members(group)),
            Some((_, code)) => return Err(error::coded(code, "deleting the group", false)),
        }
    }
    Ok(())
}

fn others<'m>(metadata: &'m Metadata, topic: &str) -> impl Iterator<Item = &'m MetadataTopic> {
    metadata.topics().iter().filter(move |other| other.name() != topic && !other.partitions().is_empty())
}

fn not_found(group: &str) -> Error {
    Error::new(ErrorKind::GroupNotFound, format!("there is no group `{group}` of this topic"))
}

fn has_members(group: &str) -> Error {
    Error::new(ErrorKind::ProviderFailed, format!("the group `{group}` has members"))
        .with_retry(Retry::Safe)
        .with_help("stop its subscribers before it is deleted")
}

fn shared(group: &str, other: &str) -> Error {
    Error::unsupported(
        "KAFKA",
        format!("the group `{group}` cannot be deleted for one topic: it has `{other}` too"),
    )
    .with_help("give each topic's subscribers a group of their own")
}

fn options(link: &Link) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(link.limit)).operation_timeout(Some(link.limit))
}

/// Waits for a call of the admin client on this thread, which may block; the client ends it in its time.
fn wait<T>(link: &Link, call: impl Future<Output = T>) -> Result<T> {
    let late = link.limit + Duration::from_secs(5);
    let timed = async move { tokio::time::timeout(late, call).await };
    let ended = match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.block_on(timed).ok(),
        Err(_) => timed.now_or_never().and_then(std::result::Result::ok),
    };
    ended.ok_or_else(|| {
        Error::new(ErrorKind::Timeout, format!("no answer within {:?}", link.limit)).with_retry(Retry::Safe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_counted_from_where_a_group_stands_and_never_from_before_the_first_that_is_kept() {
        let offsets = |pairs: &[(i32, i64)]| pairs.iter().copied().collect::<Offsets>();
        let (begin, end) = (offsets(&[(0, 10), (1, 0)]), offsets(&[(0, 20), (1, 5)]));
        let marks = |offset| BTreeMap::from([(0, Mark::new(offset, 0))]);
        assert_eq!(lag(&begin, &end, &marks(15)), 5 + 5);
        assert_eq!(lag(&begin, &end, &marks(3)), 10 + 5);
        assert_eq!(lag(&begin, &end, &marks(25)), 5);
    }
}
