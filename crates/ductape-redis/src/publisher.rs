//! Publishing: pipelines of `XADD`, and a message is taken when its reply, the entry's id, is here.
//!
//! ```text
//!          ┌─▶ commands ─▶ [turn] first poll: into the connection's queue, in order ─▶ [turn over] ─▶ replies ─┐
//! publish ─┤                                            └─ what is queued leaves in one write                  ├─▶
//!          └─▶ commands ─▶ [turn] … of another line                                                            ┘
//! ```
//!
//! A key has its line, so that its messages keep their order. What has no key goes by one line after the other, a batch at
//! a time.

use crate::entry::StreamId;
use crate::error;
use crate::link::{LINES, Link, Use, checked};
use crate::message::{self, MAX_MESSAGE_BYTES};
use async_trait::async_trait;
use ductape_core::capability::Batching;
use ductape_core::turns::hold_until_begun;
use ductape_core::{Destination, Error, Message, Position, Publisher, Result, Timestamp};
use futures_util::future::join_all;
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisWrite, Value};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What errors call a publish.
const WHAT: &str = "the publish";

/// What core puts together into one call: a message in a pipeline of many costs less than one that goes alone
/// (`cargo xtask bench scaling --servers`).
pub(crate) const BATCHING: Batching =
    Batching::Core { max_messages: 256, max_bytes: MAX_MESSAGE_BYTES, in_flight: 8 };

/// What a stream keeps, beside what nobody took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    All,
    Count(u64),
    Age(Duration),
}

/// Publishes to one stream.
pub(crate) struct RedisPublisher {
    lines: [Line; LINES],
    /// Batches so far: which line has the turn for what has no key.
    batches: AtomicUsize,
    hasher: RandomState,
    stream: Arc<str>,
    retention: Retention,
}

/// Sends pipelines in the order of the calls.
pub(crate) struct Line {
    link: Arc<Link>,
    number: usize,
    /// Whose turn it is to put a pipeline into the connection's queue: calls that overlap keep their order, also
    /// while a connection is made.
    turn: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Publisher for RedisPublisher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let places = self.places(&batch);
        let parts: [Pipeline; LINES] = std::array::from_fn(|line| self.commands(&batch, &places, line));
        drop(batch);
        let sent = self.lines.iter().zip(&parts).map(|(line, commands)| self.send(line, commands));
        let mut answers = join_all(sent).await.into_iter().map(Vec::into_iter).collect::<Vec<_>>();
        places.into_iter().filter_map(|line| answers[line].next()).collect()
    }
}

impl RedisPublisher {
    pub(crate) fn new(link: Arc<Link>, destination: &Destination, retention: Retention) -> Self {
        RedisPublisher {
            lines: std::array::from_fn(|number| Line::new(Arc::clone(&link), number)),
            batches: AtomicUsize::new(0),
            hasher: RandomState::new(),
            stream: Arc::clone(&destination.name),
            retention,
        }
    }

    /// By which line each message goes.
    fn places(&self, batch: &[Message]) -> Vec<usize> {
        let turn = self.batches.fetch_add(1, Ordering::Relaxed) % LINES;
        let place = |message: &Message| match &message.key {
            Some(key) => self.hasher.hash_one(key) as usize % LINES,
            None => turn,
        };
        batch.iter().map(place).collect()
    }

    /// The commands of those messages that go by this line.
    fn commands(&self, batch: &[Message], places: &[usize], line: usize) -> Pipeline {
        let mut left = places.iter().filter(|place| **place == line).count();
        let mut commands = Pipeline::with_capacity(left);
        for (message, _) in batch.iter().zip(places).filter(|(_, place)| **place == line) {
            left -= 1;
            let mut command = message::command(message, 6);
            command.write_arg(b"XADD");
            command.write_arg(self.stream.as_bytes());
            // Trimming is about, so once a batch is often enough.
            if left == 0 {
                trim(&mut command, self.retention, self.lines[line].link.clock.now());
            }
            command.write_arg(b"*");
            message::write(message, &mut command);
            commands.add_command(command);
        }
        commands
    }

    async fn send(&self, line: &Line, commands: &Pipeline) -> Vec<Result<Position>> {
        if commands.is_empty() {
            return Vec::new();
        }
        let located = |error: Error| error.with_context("destination", &self.stream);
        match line.send(commands).await {
            Ok(answers) => answers.into_iter().map(|answer| position(answer?).map_err(located)).collect(),
            Err(error) => all(commands.len(), located(error)),
        }
    }
}

impl Line {
    pub(crate) fn new(link: Arc<Link>, number: usize) -> Self {
        Line { link, number, turn: tokio::sync::Mutex::default() }
    }

    /// Sends it and waits for the answers, each of which may be the server's refusal.
    pub(crate) async fn send(&self, commands: &Pipeline) -> Result<Vec<Result<Value>>> {
        let turn = self.turn.lock().await;
        let lent = self.link.lend(Use::Publishes(self.number)).await?;
        let mut connection = lent.connection.clone();
        // Once begun it is in the connection's queue, or in its place before that.
        let sending = connection.req_packed_commands(commands, 0, commands.len());
        let answers = hold_until_begun(turn, sending).await;
        let failed = |error| error::of_all(self.link.failed(&lent, &error, WHAT, true), commands.len());
        let answers = answers.map_err(failed)?;
        let checked = |answer| checked(answer).map_err(|error| self.link.failed(&lent, &error, WHAT, true));
        Ok(answers.into_iter().map(checked).collect())
    }
}

fn position(answer: Value) -> Result<Position> {
    Ok(StreamId::of(&answer).ok_or_else(|| error::unforeseen("XADD"))?.position())
}

fn trim(command: &mut Cmd, retention: Retention, now: Timestamp) {
    match retention {
        Retention::All => {}
        Retention::Count(most) => {
            command.arg("MAXLEN").arg("~").arg(most);
        }
        Retention::Age(age) => {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            command.arg("MINID").arg("~").arg(now.as_millis().saturating_sub(age).max(0));
        }
    }
}

/// One result a message, of an error that is every message's.
pub(crate) fn all(count: usize, error: Error) -> Vec<Result<Position>> {
    let others: Vec<_> = (1..count).map(|_| Err(error.replicate())).collect();
    std::iter::once(Err(error)).take(count).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(retention: Retention) -> Vec<u8> {
        let mut command = redis::cmd("XADD");
        trim(&mut command, retention, Timestamp::from_micros(10_000_000));
        command.get_packed_command()
    }

    #[test]
    fn retention_is_by_count_or_by_age() {
        let packed = |words: &[&str]| {
            let mut command = redis::cmd("XADD");
            command.arg(words);
            command.get_packed_command()
        };
        assert_eq!(trimmed(Retention::All), packed(&[]));
        assert_eq!(trimmed(Retention::Count(7)), packed(&["MAXLEN", "~", "7"]));
        assert_eq!(trimmed(Retention::Age(Duration::from_secs(3))), packed(&["MINID", "~", "7000"]));
        assert_eq!(trimmed(Retention::Age(Duration::MAX)), packed(&["MINID", "~", "0"]));
    }
}
