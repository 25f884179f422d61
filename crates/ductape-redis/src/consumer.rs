//! Consuming: a hand that a task of its own fills, and verdicts that leave in batches.
//!
//! What is handed out stays pending on the server until it is acknowledged. A retry is handed out again from here, with
//! its count told to the server; at the close everything goes back, to be taken by any member at once.

mod shared;

pub(crate) use shared::{Core, Term};

use crate::entry::StreamId;
use crate::group::Membership;
use crate::hand::{LONGEST, Orders};
use crate::link::Link;
use crate::names::Instance;
use crate::reader::{Reader, TURN};
use async_trait::async_trait;
use ductape_core::error::Retry;
use ductape_core::{
    Consumer, ConsumerOptions, Delivery, Destination, Error, ErrorKind, Result, Settlement, Verdict,
};
use shared::Waiting;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

/// A member of a group.
pub(crate) struct RedisConsumer {
    core: Arc<Core>,
    instance: Instance,
    /// One task, which ends with its owner.
    reader: tokio::sync::Mutex<JoinSet<()>>,
    /// Whether what it has was given back, or left to the next consumer.
    ended: OnceCell<()>,
    /// What the server calls the reader's connection, so that its blocking can be ended.
    blocking: Option<i64>,
}

impl RedisConsumer {
    pub(crate) async fn open(
        link: Arc<Link>,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Self> {
        let member = Membership::new(Arc::clone(&link), destination, options);
        let instance = link.names.enter(&member);
        link.names.take_back(&member).await?;
        member.give_back_stale().await?;
        let mut connection = link.connect_blocking().await?;
        let blocking = connection.id().await;
        let core = Arc::new(Core::new(member, destination, options));
        let mut reader = JoinSet::new();
        reader.spawn(Reader::new(Arc::clone(&core), connection).run());
        let reader = tokio::sync::Mutex::new(reader);
        Ok(RedisConsumer { core, instance, reader, ended: OnceCell::new(), blocking })
    }

    /// Ends the reader in good order: what it is being sent must be given back too.
    async fn end_reader(&self) {
        let mut reader = self.reader.lock().await;
        if reader.is_empty() {
            return;
        }
        if let Some(id) = self.blocking {
            let mut unblock = redis::cmd("CLIENT");
            unblock.arg("UNBLOCK").arg(id);
            // Where it may not, the turn ends by itself.
            let _ = self.core.member.link.call(&unblock, "the end of a read").await;
        }
        if tokio::time::timeout(TURN * 4, reader.join_next()).await.is_err() {
            reader.abort_all();
        }
    }

    /// Gives back what it has. One that is cut short may be begun again.
    async fn end(&self) {
        self.core.wanted.notify_one();
        self.end_reader().await;
        if self.instance.is_newest() {
            self.leave().await;
        }
        self.core.hand().clear();
    }

    async fn leave(&self) {
        let counts = self.core.hand().counts();
        let token = self.core.term().map(|term| term.token);
        let left = self.core.member.leave(&counts, token.as_deref().unwrap_or_default()).await;
        if let Err(error) = left {
            tracing::debug!(%error, consumer = self.core.member.consumer, "what it has is given back later");
            self.abandon();
        }
    }

    fn abandon(&self) {
        self.instance.abandon(self.core.hand().counts());
    }

    async fn tell(&self, orders: Orders, token: &str) -> Result<Option<Vec<StreamId>>> {
        let member = &self.core.member;
        let answered = Unanswered { core: &self.core, acks: Some(orders.acks.clone()) };
        let told = if self.core.is_ordered || orders.is_doubtful {
            member.settle_checked(&orders, token).await
        } else {
            member.settle_owned(&orders).await.map(|()| Some(Vec::new()))
        };
        match told {
            // Nothing is pending any more, so nothing was this member's.
            Err(error) if Reader::is_gone(&error) => {
                answered.yes();
                Ok(None)
            }
            Err(error) => Err(error),
            told => {
                answered.yes();
                told
            }
        }
    }
}

/// Verdicts of which it is not known whether the server has them. Their messages come back when this consumer is
/// replaced, which the next receive asks for.
struct Unanswered<'c> {
    core: &'c Core,
    /// None once there is an answer.
    acks: Option<Vec<(StreamId, u32)>>,
}

impl Unanswered<'_> {
    fn yes(mut self) {
        self.acks = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Some(acks) = self.acks.take() else { return };
        self.core.hand().unanswered(acks);
        let error = Error::new(ErrorKind::ConnectionLost, "the server did not answer to verdicts");
        self.core.fail(self.core.member.located(error.with_retry(Retry::Safe)));
    }
}

#[async_trait]
impl Consumer for RedisConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let core = &*self.core;
        let (deadline, mut closing) = (tokio::time::Instant::now() + wait.min(LONGEST), core.closing());
        let _waiting = Waiting::new(core);
        loop {
            let taken = core.take(max)?;
            if !taken.is_empty() || max == 0 {
                return Ok(taken);
            }
            tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => return Err(Error::closed("the consumer")),
                () = core.arrived.notified() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Vec::new()),
            }
        }
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        let core = &*self.core;
        if core.is_closing() {
            return batch.iter().map(|_| Err(Error::closed("the consumer"))).collect();
        }
        core.live();
        let batch: Vec<_> = batch.iter().map(|it| (StreamId::of_token(&it.token), it.verdict)).collect();
        let token = core.term().map(|term| term.token);
        let token = token.as_deref().unwrap_or_default();
        let (orders, known) = core.settle(&batch);
        let none = orders.acks.is_empty() && orders.counts.is_empty();
        let told = if none { Ok(Some(Vec::new())) } else { self.tell(orders, token).await };
        let lost = match told {
            Ok(Some(lost)) => lost,
            Ok(None) => {
                if core.is_ordered {
                    core.depose(token, "another member is elected");
                }
                return batch.iter().map(|_| Err(core.member.lease_lost())).collect();
            }
            Err(error) => return batch.iter().map(|_| Err(error.replicate())).collect(),
        };
        core.hand().lose(lost.iter().copied());
        let is_lost = |id: &Option<StreamId>| id.is_none_or(|id| lost.contains(&id));
        let result = |((id, _), known): (&(Option<StreamId>, Verdict), bool)| {
            if known && !is_lost(id) { Ok(()) } else { Err(core.member.lease_lost()) }
        };
        batch.iter().zip(known).map(result).collect()
    }

    async fn extend(&self) -> Result<()> {
        let core = &*self.core;
        core.check_open()?;
        core.live();
        if core.is_ordered {
            return match core.term() {
                Some(term) => core.renew(&term).await.map(|until| {
                    until.into_iter().for_each(|until| core.hand().renewed_open(until));
                }),
                None => Ok(()),
            };
        }
        let (ids, until) = (core.hand().ids(), Instant::now() + core.member.lease);
        match core.member.extend(&ids).await {
            Ok(owned) => {
                core.hand().renewed(&ids, &owned, until);
                Ok(())
            }
            // What was in hand is gone with its group; the reader makes that again.
            Err(error) if Reader::is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn close(&self) -> Result<()> {
        self.core.close();
        self.ended.get_or_init(|| self.end()).await;
        Ok(())
    }
}

impl Drop for RedisConsumer {
    fn drop(&mut self) {
        self.core.close();
        if !self.ended.initialized() {
            self.abandon();
        }
    }
}
