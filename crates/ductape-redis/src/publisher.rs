//! Publishing: a batch is one pipeline of `XADD`, and a message is taken when its reply, the entry's id, is here.
//!
//! ```text
//! publish ─▶ commands ─▶ [turn] first poll: into the connection's queue, in order ─▶ [turn over] ─▶ replies
//! publish ─▶ commands ─▶ [turn] …                          └─ what is queued leaves in one write
//! ```

use crate::link::{Link, Use, checked};
use crate::message;
use crate::{entry, error};
use async_trait::async_trait;
use ductape_core::{Destination, Error, Message, Position, Publisher, Result, Timestamp};
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisWrite, Value};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What errors call a publish.
const WHAT: &str = "the publish";

/// What a stream keeps, beside what nobody took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    All,
    Count(u64),
    Age(Duration),
}

/// Publishes to one stream.
pub(crate) struct RedisPublisher {
    line: Line,
    stream: Arc<str>,
    retention: Retention,
}

/// Sends pipelines in the order of the calls.
pub(crate) struct Line {
    link: Arc<Link>,
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
        let commands = self.commands(&batch);
        drop(batch);
        let answers = self.line.send(&commands).await;
        let located = |error: Error| error.with_context("destination", &self.stream);
        match answers {
            Ok(answers) => answers.into_iter().map(|answer| position(answer?).map_err(located)).collect(),
            Err(error) => all(commands.len(), located(error)),
        }
    }
}

impl RedisPublisher {
    pub(crate) fn new(link: Arc<Link>, destination: &Destination, retention: Retention) -> Self {
        let stream = Arc::clone(&destination.name);
        RedisPublisher { line: Line::new(link), stream, retention }
    }

    fn commands(&self, batch: &[Message]) -> Pipeline {
        let mut commands = Pipeline::with_capacity(batch.len());
        for (index, message) in batch.iter().enumerate() {
            let mut command = message::command(message, 6);
            command.write_arg(b"XADD");
            command.write_arg(self.stream.as_bytes());
            // Trimming is about, so once a batch is often enough.
            if index + 1 == batch.len() {
                trim(&mut command, self.retention, self.line.link.clock.now());
            }
            command.write_arg(b"*");
            message::write(message, &mut command);
            commands.add_command(command);
        }
        commands
    }
}

impl Line {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Line { link, turn: tokio::sync::Mutex::default() }
    }

    /// Sends it and waits for the answers, each of which may be the server's refusal.
    pub(crate) async fn send(&self, commands: &Pipeline) -> Result<Vec<Result<Value>>> {
        let turn = self.turn.lock().await;
        let lent = self.link.lend(Use::Publishes).await?;
        let mut connection = lent.connection.clone();
        let mut sending = connection.req_packed_commands(commands, 0, commands.len());
        // The first look puts it into the connection's queue, or in its place before that.
        let answers = match futures_util::poll!(&mut sending) {
            Poll::Ready(answers) => answers,
            Poll::Pending => {
                drop(turn);
                sending.await
            }
        };
        let answers = answers.map_err(|error| self.link.failed(&lent, &error, WHAT, true))?;
        let checked = |answer| checked(answer).map_err(|error| self.link.failed(&lent, &error, WHAT, true));
        Ok(answers.into_iter().map(checked).collect())
    }
}

fn position(answer: Value) -> Result<Position> {
    let id = entry::bytes(&answer).ok_or_else(|| error::unforeseen("XADD"))?;
    let id = std::str::from_utf8(id).map_err(|_| error::unforeseen("XADD"))?;
    Ok(Position::Text(id.into()))
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
