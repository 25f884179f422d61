//! Streams and groups: made, verified, looked at, deleted.

use crate::entry::{self, StreamId};
use crate::error;
use crate::link::{Link, checked};
use ductape_core::broker::{GroupInspection, Inspection, Provision};
use ductape_core::{Destination, Error, ErrorKind, Result};
use redis::{Cmd, Pipeline, RedisError, Value};

/// Before the first entry.
pub(crate) const FIRST: &str = "0";
/// Behind the last entry that is there.
pub(crate) const LAST: &str = "$";
/// How many entries one look counts, where the server does not say how many wait.
const PAGE: usize = 1000;
/// After so many looks it is not told.
const PAGES: usize = 1000;

/// Makes or verifies the stream and its default group.
pub(crate) async fn ensure(link: &Link, destination: &Destination) -> Result<()> {
    let (stream, group) = (&*destination.name, &*destination.default_group);
    if destination.provision == Provision::Create {
        return make_group(link, stream, group, LAST).await.map(drop);
    }
    let groups = groups(link, stream).await?;
    if groups.iter().any(|it| it.name == group) {
        return Ok(());
    }
    Err(located(
        Error::new(ErrorKind::DestinationNotFound, format!("the stream has no group `{group}`"))
            .with_help("make it with `provision: create`, or `XGROUP CREATE`"),
        stream,
    ))
}

/// Makes a group, and the stream where it is not there. Whether the group is new.
pub(crate) async fn make_group(link: &Link, stream: &str, group: &str, start: &str) -> Result<bool> {
    let mut create = xgroup("CREATE", stream, group);
    create.arg(start).arg("MKSTREAM");
    let mut commands = Pipeline::new();
    commands.add_command(create);
    let mut answers = link.calls(&commands, "the group").await.map_err(|error| located(error, stream))?;
    match answers.pop().map_or(Ok(Value::Nil), checked) {
        Ok(_) => Ok(true),
        Err(refusal) if refusal.code() == Some("BUSYGROUP") => Ok(false),
        Err(refusal) => Err(refused(link, &refusal, "the group", stream)),
    }
}

fn xgroup(verb: &str, stream: &str, group: &str) -> Cmd {
    let mut command = redis::cmd("XGROUP");
    command.arg(verb).arg(stream).arg(group);
    command
}

/// A group as `XINFO GROUPS` tells it.
struct Group {
    name: String,
    pending: u64,
    last_delivered: String,
    /// What waits and was not delivered, where the server knows.
    lag: Option<u64>,
}

async fn groups(link: &Link, stream: &str) -> Result<Vec<Group>> {
    let mut info = redis::cmd("XINFO");
    info.arg("GROUPS").arg(stream);
    let answer = link.call(&info, "the look at the stream").await.map_err(|error| located(error, stream))?;
    let rows = entry::list(&answer).ok_or_else(|| error::unforeseen("XINFO GROUPS"))?;
    let group = |row: &Value| {
        Some(Group {
            name: entry::text(entry::field(row, "name")?)?,
            pending: entry::field(row, "pending").and_then(entry::number)?,
            last_delivered: entry::text(entry::field(row, "last-delivered-id")?)?,
            lag: entry::field(row, "lag").and_then(entry::number),
        })
    };
    rows.iter().map(|row| group(row).ok_or_else(|| error::unforeseen("XINFO GROUPS"))).collect()
}

/// The last entry that a group has been given; nothing where the group is not there.
pub(crate) async fn last_delivered(link: &Link, stream: &str, group: &str) -> Result<Option<String>> {
    let groups = groups(link, stream).await?;
    Ok(groups.into_iter().find(|it| it.name == group).map(|it| it.last_delivered))
}

/// Looks at the stream and its groups.
pub(crate) async fn inspect(link: &Link, destination: &Destination) -> Result<Inspection> {
    let stream = &*destination.name;
    let groups = groups(link, stream).await?;
    let mut looks = Pipeline::new();
    looks.cmd("XLEN").arg(stream);
    for group in &groups {
        looks.cmd("XINFO").arg("CONSUMERS").arg(stream).arg(&group.name);
    }
    let answers =
        link.calls(&looks, "the look at the stream").await.map_err(|error| located(error, stream))?;
    let mut inspection =
        Inspection { messages: answers.first().and_then(entry::number), ..Inspection::default() };
    for (group, members) in groups.into_iter().zip(answers.iter().skip(1)) {
        let undelivered = match group.lag {
            Some(lag) => Some(lag),
            None => count_after(link, stream, &group.last_delivered).await?,
        };
        let (given_back, members) = members_of(members);
        inspection.groups.push(GroupInspection {
            name: group.name,
            lag: undelivered.map(|undelivered| undelivered + group.pending),
            in_flight: group.pending.saturating_sub(given_back),
            members,
        });
    }
    Ok(inspection)
}

/// What is pending with nobody, and how many members there are.
fn members_of(answer: &Value) -> (u64, Option<u64>) {
    let Some(rows) = entry::list(answer) else { return (0, None) };
    let is_nobody = |row: &&Value| {
        entry::field(row, "name").and_then(entry::bytes) == Some(crate::group::RELEASED.as_bytes())
    };
    let nobody = rows.iter().find(is_nobody);
    let given_back = nobody.and_then(|row| entry::field(row, "pending")).and_then(entry::number).unwrap_or(0);
    (given_back, Some(rows.len() as u64 - u64::from(nobody.is_some())))
}

/// Counts entries behind this one: after a deletion the server does not know, and before Redis 7 it never does. Nothing
/// where there are too many to count.
async fn count_after(link: &Link, stream: &str, last: &str) -> Result<Option<u64>> {
    let (mut from, mut count) = (format!("({last}"), 0);
    for _ in 0..PAGES {
        let mut range = redis::cmd("XRANGE");
        range.arg(stream).arg(&from).arg("+").arg("COUNT").arg(PAGE);
        let answer =
            link.call(&range, "the look at the stream").await.map_err(|error| located(error, stream))?;
        let rows = entry::list(&answer).ok_or_else(|| error::unforeseen("XRANGE"))?;
        count += rows.len() as u64;
        let id = rows.last().and_then(entry::list).and_then(|row| row.first()).and_then(StreamId::of);
        match id.filter(|_| rows.len() == PAGE) {
            Some(id) => from = format!("({id}"),
            None => return Ok(Some(count)),
        }
    }
    Ok(None)
}

/// Forgets a group and what waits for it.
pub(crate) async fn delete_group(link: &Link, destination: &Destination, group: &str) -> Result<()> {
    let stream = &*destination.name;
    let missing = || {
        let help = "see the groups that there are with `ductape topic show`";
        located(
            Error::new(ErrorKind::GroupNotFound, format!("there is no group `{group}`")).with_help(help),
            stream,
        )
    };
    match link.call(&xgroup("DESTROY", stream, group), "the delete of the group").await {
        Ok(Value::Int(0)) => Err(missing()),
        Ok(_) => Ok(()),
        // What Redis says where the stream is not there.
        Err(error) if error.message().contains("key to exist") => Err(missing()),
        Err(error) => Err(located(error, stream)),
    }
}

/// One round trip to the server.
pub(crate) async fn ping(link: &Link) -> Result<()> {
    link.call(&redis::cmd("PING"), "the ping").await.map(drop)
}

fn refused(link: &Link, refusal: &RedisError, what: &str, stream: &str) -> Error {
    located(link.refused(refusal, what), stream)
}

fn located(error: Error, stream: &str) -> Error {
    error.with_context("destination", stream)
}
