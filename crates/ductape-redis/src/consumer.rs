//! Consuming: a hand that a task of its own fills, and verdicts that leave in batches.
//!
//! What is handed out stays pending on the server until it is acknowledged. A retry is handed out again from here, with
//! its count told to the server; at the close everything goes back, to be taken by any member at once.

use crate::entry::StreamId;
use crate::group::Membership;
use crate::hand::{self, Hand, Orders};
use crate::link::{Connection, Link};
use crate::reader::{Reader, TURN};
use async_trait::async_trait;
use ductape_core::error::Retry;
use ductape_core::{
    Consumer, ConsumerOptions, Delivery, Destination, Error, ErrorKind, Result, Settlement, Verdict,
};
use redis::Value;
use redis::aio::ConnectionLike;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OnceCell, watch};
use tokio::task::JoinSet;

/// A member of a group.
pub(crate) struct RedisConsumer {
    core: Arc<Core>,
    /// One task, which ends with its owner.
    reader: tokio::sync::Mutex<JoinSet<()>>,
    /// Whether what it has was given back, or left to the next consumer.
    ended: OnceCell<()>,
    /// What the server calls the reader's connection, so that its blocking can be ended.
    blocking: Option<i64>,
}

/// What a consumer and its reader share.
pub(crate) struct Core {
    pub(crate) member: Membership,
    pub(crate) is_ordered: bool,
    hand: Mutex<Hand>,
    term: Mutex<Option<Term>>,
    fault: Mutex<Option<Error>>,
    /// Told when more is wanted.
    pub(crate) wanted: Notify,
    /// Told when there is something to hand out, or a fault.
    arrived: Notify,
    closing: watch::Sender<bool>,
    /// When its user last did something with it, and how many receives wait.
    lived: Mutex<Instant>,
    waiting: AtomicUsize,
}

/// For how long a member is elected, and by which token.
#[derive(Clone)]
pub(crate) struct Term {
    pub(crate) token: Arc<str>,
    pub(crate) until: Instant,
}

impl RedisConsumer {
    pub(crate) async fn open(
        link: Arc<Link>,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Self> {
        let member = Membership::new(Arc::clone(&link), destination, options);
        link.take_back(&member).await?;
        member.give_back_stale().await?;
        let mut connection = link.connect().await?;
        let blocking = id_of(&mut connection).await;
        let core = Arc::new(Core {
            member,
            is_ordered: destination.ordered,
            hand: Mutex::new(Hand::new(options.max_in_flight)),
            term: Mutex::default(),
            fault: Mutex::default(),
            wanted: Notify::new(),
            arrived: Notify::new(),
            closing: watch::Sender::new(false),
            lived: Mutex::new(Instant::now()),
            waiting: AtomicUsize::new(0),
        });
        let mut reader = JoinSet::new();
        reader.spawn(Reader::new(Arc::clone(&core), connection).run());
        Ok(RedisConsumer { core, reader: tokio::sync::Mutex::new(reader), ended: OnceCell::new(), blocking })
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
        let counts = self.core.hand().counts();
        let token = self.core.term().map(|term| term.token);
        let left = self.core.member.leave(&counts, token.as_deref().unwrap_or_default()).await;
        if let Err(error) = left {
            tracing::debug!(%error, consumer = self.core.member.consumer, "what it has is given back later");
            self.core.abandon();
        }
        self.core.hand().clear();
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

/// A receive that waits, however it ends.
struct Waiting<'c>(&'c Core);

impl<'c> Waiting<'c> {
    fn new(core: &'c Core) -> Self {
        core.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(core)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.live();
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Consumer for RedisConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let core = &*self.core;
        let (deadline, mut closing) = (tokio::time::Instant::now() + wait, core.closing.subscribe());
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
        let (orders, known) = core.settle(&batch);
        let none = orders.acks.is_empty() && orders.counts.is_empty();
        let told = if none {
            Ok(Some(Vec::new()))
        } else {
            self.tell(orders, token.as_deref().unwrap_or_default()).await
        };
        let lost = match told {
            Ok(Some(lost)) => lost,
            Ok(None) => {
                if core.is_ordered {
                    core.depose("another member is elected");
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
        if core.hand().is_empty() {
            return Ok(());
        }
        let asked = Instant::now();
        match core.member.extend().await {
            Ok(owned) => {
                let until = hand::until(asked, core.member.lease);
                core.hand().renewed(&owned.into_iter().collect(), until);
                Ok(())
            }
            // What was in hand is gone with its group; the reader makes that again.
            Err(error) if Reader::is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn close(&self) -> Result<()> {
        self.core.closing.send_replace(true);
        self.ended.get_or_init(|| self.end()).await;
        Ok(())
    }
}

impl Drop for RedisConsumer {
    fn drop(&mut self) {
        self.core.closing.send_replace(true);
        if !self.ended.initialized() {
            self.core.abandon();
        }
    }
}

impl Core {
    pub(crate) fn hand(&self) -> MutexGuard<'_, Hand> {
        lock(&self.hand)
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closing() { Err(Error::closed("the consumer")) } else { Ok(()) }
    }

    fn live(&self) {
        *lock(&self.lived) = Instant::now();
    }

    /// Whether its user did something with it within a lease. One that hangs must not keep others from their turn.
    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        self.waiting.load(Ordering::Acquire) > 0 || hand::until(*lock(&self.lived), self.member.lease) > now
    }

    /// What may be handed out now; where there is none, asks for it.
    fn take(&self, max: usize) -> Result<Vec<Delivery>> {
        self.check_open()?;
        if let Some(fault) = &*lock(&self.fault) {
            return Err(fault.replicate());
        }
        let now = Instant::now();
        let may = !self.is_ordered || self.term().is_some_and(|term| term.until > now);
        let mut hand = self.hand();
        let taken = if may { hand.take(max, now) } else { Vec::new() };
        hand.is_asked = taken.is_empty() && max > 0;
        let wants = hand.wanted() > 0;
        drop(hand);
        if wants {
            self.wanted.notify_one();
        }
        Ok(taken)
    }

    pub(crate) fn fetched(&self, deliveries: Vec<Delivery>, until: Instant) {
        self.hand().fetched(deliveries, until);
        self.arrived.notify_one();
    }

    fn settle(&self, batch: &[(Option<StreamId>, Verdict)]) -> (Orders, Vec<bool>) {
        let settled = self.hand().settle(batch, Instant::now());
        self.wanted.notify_one();
        self.arrived.notify_one();
        settled
    }

    /// Ends receiving: nothing is fetched any more, so whatever the fault was, another consumer must be opened.
    pub(crate) fn fail(&self, error: Error) {
        let mut fault = lock(&self.fault);
        if fault.is_none() && !self.is_closing() {
            tracing::debug!(%error, consumer = self.member.consumer, "the consumer is lost");
            *fault = Some(match error.kind() {
                ErrorKind::ConnectionLost => error,
                _ => self.member.located(
                    Error::new(ErrorKind::ConnectionLost, format!("the consumer is lost: {error}"))
                        .with_retry(Retry::Safe),
                ),
            });
        }
        self.arrived.notify_one();
    }

    pub(crate) fn term(&self) -> Option<Term> {
        lock(&self.term).clone()
    }

    pub(crate) fn elect(&self, term: Term) {
        self.hand().clear();
        *lock(&self.term) = Some(term);
    }

    /// Another is or may be elected: what is in hand is no longer this member's.
    pub(crate) fn depose(&self, why: &str) {
        if lock(&self.term).take().is_some() {
            tracing::info!(
                stream = &*self.member.stream,
                group = &*self.member.group,
                why,
                "not elected any more"
            );
            self.hand().clear();
        }
    }

    pub(crate) fn prolong(&self, token: &Arc<str>, until: Instant) {
        if let Some(term) = lock(&self.term).as_mut().filter(|term| term.token == *token) {
            term.until = term.until.max(until);
            self.hand().renewed_waiting(until);
        }
    }

    /// Leaves to the next consumer on this connection what could not be given back.
    fn abandon(&self) {
        self.member.link.abandon(&self.member, self.hand().counts());
    }
}

async fn id_of(connection: &mut Connection) -> Option<i64> {
    // In a cluster each node has an id of its own for it.
    let Connection::Server(connection) = connection else { return None };
    let mut ask = redis::cmd("CLIENT");
    ask.arg("ID");
    match connection.req_packed_command(&ask).await {
        Ok(Value::Int(id)) => Some(id),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
