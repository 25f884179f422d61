//! What fetches for a consumer: one task with a connection of its own, since it blocks there.
//!
//! ```text
//!  asked for, or room for a good part of the bound
//!      └▶ overdue with other members? claim it ─▶ else XREADGROUP, blocking for a while ─▶ hand ─▶ receive
//! ```
//!
//! A new message ends the blocking at once. What members give back or leave behind is looked for twice a second.
//! The task ends with its consumer, or with its connection, whose loss the next receive tells.

use crate::admin;
use crate::blocking::Blocking;
use crate::consumer::Core;
use crate::entry::{Entry, Fields, StreamId};
use crate::hand;
use crate::message::EntryReader;
use ductape_core::error::Retry;
use ductape_core::{Delivery, Error, ErrorKind, Result};
use redis::{Cmd, RedisResult};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long one read blocks, and so how often what others left is looked for.
pub(crate) const TURN: Duration = Duration::from_millis(500);
/// The most entries of one read: what the server answers at once.
const MOST_AT_ONCE: usize = 1000;

pub(crate) struct Reader {
    pub(crate) core: Arc<Core>,
    connection: Blocking,
    entries: EntryReader,
    /// What the last read brought, kept for its room.
    fetched: Fetched,
    looked: Option<Instant>,
}

/// The end of a reader, however it comes: one that panics must not leave a receive waiting.
struct End<'c>(&'c Core);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let error = Error::new(ErrorKind::ConnectionLost, "nothing fetches for the consumer any more");
        self.0.fail(self.0.member.located(error.with_retry(Retry::Safe)));
    }
}

impl Reader {
    pub(crate) fn new(core: Arc<Core>, connection: Blocking) -> Self {
        let entries = EntryReader::new(Arc::clone(&core.member.stream));
        Reader { core, connection, entries, fetched: Fetched::default(), looked: None }
    }

    /// Fetches until the consumer closes or is lost.
    pub(crate) async fn run(mut self) {
        let core = Arc::clone(&self.core);
        let _end = End(&core);
        let ended = tokio::select! {
            biased;
            // Nobody would get what it fetched from here on, and the server counts it to whoever has the name next.
            () = core.failed() => return,
            ended = self.fetch_all() => ended,
        };
        if let Err(error) = ended {
            core.fail(error);
        }
    }

    async fn fetch_all(&mut self) -> Result<()> {
        if self.core.is_ordered { self.lead().await } else { self.share().await }
    }

    /// The work of a member that shares its group with others.
    async fn share(&mut self) -> Result<()> {
        while let Some(count) = self.demand().await {
            if self.claim(count).await? == 0 {
                self.read(count).await?;
            }
        }
        Ok(())
    }

    /// How many to fetch, once some are wanted. Nothing once the consumer closes.
    async fn demand(&self) -> Option<usize> {
        loop {
            if self.core.is_closing() {
                return None;
            }
            match self.core.hand().wanted() {
                0 => {}
                count => return Some(count.min(MOST_AT_ONCE)),
            }
            self.core.wanted.notified().await;
        }
    }

    async fn claim(&mut self, count: usize) -> Result<usize> {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now - looked < TURN) {
            return Ok(0);
        }
        self.looked = Some(now);
        let claimed = crate::claim::overdue(&self.core, count).await?;
        let (count, until) = (claimed.len(), now + self.core.member.lease);
        if count > 0 {
            self.hand_on_entries(claimed, until).await?;
            // There may be more.
            self.looked = None;
        }
        Ok(count)
    }

    async fn read(&mut self, count: usize) -> Result<()> {
        let member = &self.core.member;
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&*member.group).arg(&member.consumer).arg("COUNT").arg(count);
        read.arg("BLOCK").arg(TURN.as_millis() as u64).arg("STREAMS").arg(&*member.stream).arg(">");
        let (fetched, reader) = (&mut self.fetched, &mut self.entries);
        let entries = self.connection.entries(&read, |id, fields| fetched.push(reader, id, fields, 1));
        match in_time(member.link.limit, entries).await {
            Ok(came) => {
                let until = came + self.core.member.lease;
                self.hand_on(until).await
            }
            // The second is said to who blocks while it happens.
            Err(error) if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) => self.recover().await,
            Err(error) => Err(self.core.member.connection_lost(&error)),
        }
    }

    /// A command that may block for a turn.
    pub(crate) async fn blocking(&mut self, command: &Cmd) -> RedisResult<()> {
        in_time(self.core.member.link.limit, self.connection.ask(command)).await.map(drop)
    }

    /// Puts entries into the hand, each with how often it has been delivered.
    pub(crate) async fn hand_on_entries(
        &mut self,
        entries: impl IntoIterator<Item = (Entry, u32)>,
        until: Instant,
    ) -> Result<()> {
        for (entry, attempt) in entries {
            self.fetched.push(&mut self.entries, entry.id, entry.fields(), attempt);
        }
        self.hand_on(until).await
    }

    async fn hand_on(&mut self, until: Instant) -> Result<()> {
        if !self.fetched.deliveries.is_empty() {
            self.core.fetched(self.fetched.deliveries.drain(..), until);
        }
        let gone = std::mem::take(&mut self.fetched.gone);
        self.forget(gone).await
    }

    /// What was deleted from the stream before it was settled is nobody's any more.
    async fn forget(&self, gone: Vec<(StreamId, u32)>) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let member = &self.core.member;
        tracing::warn!(
            stream = &*member.stream,
            group = &*member.group,
            count = gone.len(),
            "messages were deleted from the stream before they were settled"
        );
        let orders = hand::Orders { acks: gone, ..hand::Orders::default() };
        member.settle_owned(&orders).await
    }

    /// Makes the group again, from the first entry that is there: nothing that came since is lost.
    pub(crate) async fn recover(&self) -> Result<()> {
        let member = &self.core.member;
        tracing::warn!(
            stream = &*member.stream,
            group = &*member.group,
            server = member.link.place(),
            "the group is gone from the server, which was flushed or has lost data; it is made again and gets all \
             that the stream holds"
        );
        self.core.hand().clear();
        admin::make_group(&member.link, &member.stream, &member.group, admin::FIRST).await.map(drop)
    }

    /// Waits, unless the consumer closes.
    pub(crate) async fn pause(&self, time: Duration) {
        let mut closing = self.core.closing();
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    pub(crate) fn is_gone(error: &Error) -> bool {
        error.kind() == ErrorKind::GroupNotFound || crate::group::says_no_group(error)
    }
}

/// What a read brought.
#[derive(Default)]
struct Fetched {
    deliveries: Vec<Delivery>,
    /// What was deleted from the stream meanwhile.
    gone: Vec<(StreamId, u32)>,
}

impl Fetched {
    fn push(&mut self, reader: &mut EntryReader, id: StreamId, fields: Option<Fields<'_>>, attempt: u32) {
        match fields {
            Some(fields) => self.deliveries.push(Delivery {
                message: reader.read(id, fields),
                attempt: attempt.max(1),
                position: id.position(),
                token: id.token(),
            }),
            None => self.gone.push((id, attempt)),
        }
    }
}

/// The answer to a command that may block for a turn.
async fn in_time<T>(limit: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(TURN + limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::tests::{link, member};
    use ductape_core::{ConsumerOptions, Destination};

    #[tokio::test]
    async fn a_reader_that_panics_is_told() {
        let member = member(&link(), "m");
        let core = Arc::new(Core::new(member, &Destination::new("s", "g"), &ConsumerOptions::new("g")));
        let of_reader = Arc::clone(&core);
        let reader = tokio::spawn(async move {
            let _end = End(&of_reader);
            panic!("as a test");
        });
        reader.await.unwrap_err();
        tokio::time::timeout(Duration::from_secs(5), core.failed()).await.unwrap();
        assert_eq!(core.take(1).unwrap_err().kind(), ErrorKind::ConnectionLost);
    }
}
