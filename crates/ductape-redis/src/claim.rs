//! Taking over what other members left: given back at their close, or overdue since they died.
//!
//! A member's name tells its lease. What has been pending with it for longer is anybody's; the claim says so again
//! to the server, so that of two members that see the same only one gets it.

use crate::consumer::Core;
use crate::entry::{self, Entry, Pending, StreamId};
use crate::error;
use crate::group::{RELEASED, lease_of};
use crate::scripts;
use ductape_core::{Error, Result};
use redis::{Pipeline, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// What was given back is as old as time; another's claim a moment ago has made it younger than this.
const RELEASED_FOR: Duration = Duration::from_secs(60);
/// A member of ours that said nothing for so long, and has nothing, is no more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// Another member, as the server tells of it.
struct Other {
    name: String,
    pending: u64,
    idle: Duration,
}

/// Claims up to so many entries that are overdue: each with its attempt.
pub(crate) async fn overdue(core: &Core, count: usize) -> Result<Vec<(Entry, u32)>> {
    let others = match others(core).await {
        // The read that follows makes it again.
        Err(error) if crate::reader::Reader::is_gone(&error) => return Ok(Vec::new()),
        others => others?,
    };
    tidy(core, &others).await;
    let holders: Vec<_> = others.into_iter().filter(|other| other.pending > 0).collect();
    if holders.is_empty() {
        return Ok(Vec::new());
    }
    let mut claims = Pipeline::new();
    let mut counts = BTreeMap::new();
    let mut left = count;
    for (age, overdue) in look(core, &holders, count).await? {
        let free = overdue.into_iter().filter(|pending| !core.hand().holds(pending.id)).take(left);
        let free: Vec<_> = free.collect();
        if free.is_empty() {
            continue;
        }
        left -= free.len();
        let mut claim = core.member.command(&["XCLAIM"]);
        claim.arg(&core.member.consumer).arg(millis(age));
        for Pending { id, count } in free {
            claim.arg(id);
            counts.insert(id, count);
        }
        claims.add_command(claim);
    }
    if claims.is_empty() { Ok(Vec::new()) } else { claimed(core, &claims, &counts).await }
}

async fn others(core: &Core) -> Result<Vec<Other>> {
    let list = core.member.command(&["XINFO", "CONSUMERS"]);
    let answer = core.member.link.call(&list, "the look at the group's members").await;
    let answer = answer.map_err(|error| core.member.located(error))?;
    let rows = entry::list(&answer).ok_or_else(|| error::unforeseen("XINFO CONSUMERS"))?;
    let other = |row: &Value| {
        let number = |name| entry::field(row, name).and_then(entry::number);
        Some(Other {
            name: entry::text(entry::field(row, "name")?)?,
            pending: number("pending")?,
            idle: Duration::from_millis(number("idle")?),
        })
    };
    Ok(rows.iter().filter_map(other).collect())
}

/// How long each may leave an entry alone, and what it has left alone for longer.
async fn look(core: &Core, holders: &[Other], count: usize) -> Result<Vec<(Duration, Vec<Pending>)>> {
    let mut looks = Pipeline::new();
    let ages: Vec<_> = holders.iter().map(|holder| age(core, &holder.name)).collect();
    for (holder, age) in holders.iter().zip(&ages) {
        let mut pending = core.member.command(&["XPENDING"]);
        pending.arg("IDLE").arg(millis(*age)).arg("-").arg("+").arg(count).arg(&holder.name);
        looks.add_command(pending);
    }
    let answers = core.member.link.calls(&looks, "the look at what is pending").await;
    let answers = answers.map_err(|error| core.member.located(error))?;
    let told = answers.iter().map(|answer| entry::pending(answer).unwrap_or_default());
    Ok(ages.into_iter().zip(told).collect())
}

fn age(core: &Core, holder: &str) -> Duration {
    match holder {
        RELEASED => RELEASED_FOR,
        // Of other clients in the same group nothing is known but what we would take ourselves.
        name => lease_of(name).unwrap_or(core.member.lease),
    }
}

async fn claimed(
    core: &Core,
    claims: &Pipeline,
    counts: &BTreeMap<StreamId, u32>,
) -> Result<Vec<(Entry, u32)>> {
    let answers = core.member.link.calls(claims, "the claim of what is overdue").await;
    let mut claimed = Vec::new();
    for answer in answers.map_err(|error| core.member.located(error))? {
        let entries = match answer {
            Value::ServerError(refusal) => return Err(refused(core, &refusal.into())),
            answer => entry::entries(answer).ok_or_else(|| error::unforeseen("XCLAIM"))?,
        };
        let attempt = |id| counts.get(&id).copied().unwrap_or(0).saturating_add(1);
        claimed
            .extend(entries.into_iter().map(|entry| (attempt(entry.id), entry)).map(|(n, entry)| (entry, n)));
    }
    // In the stream's order, whoever had them.
    claimed.sort_by_key(|(entry, _)| entry.id);
    Ok(claimed)
}

fn refused(core: &Core, refusal: &redis::RedisError) -> Error {
    core.member.located(core.member.link.refused(refusal, "the claim of what is overdue"))
}

/// Forgets members that were killed and have nothing any more. What goes wrong is tried again at the next look.
async fn tidy(core: &Core, others: &[Other]) {
    let is_dead = |other: &&Other| {
        other.pending == 0
            && lease_of(&other.name)
                .is_some_and(|lease| other.idle > FORGOTTEN_AFTER.max(lease.saturating_mul(10)))
    };
    for dead in others.iter().filter(is_dead) {
        let forgotten = core.member.script_as::<Value>(&scripts::TIDY, "tidying the group", &dead.name).await;
        if let Err(error) = forgotten {
            tracing::debug!(%error, member = dead.name, "a member that is gone could not be forgotten");
            return;
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
