//! Consuming: receiving, settling, renewing leases, leaving.

use crate::broker::Link;
use crate::claims::{Claim, Claimed};
use crate::error;
use crate::file::SharedFile;
use crate::members::Seat;
use crate::request::{Pending, submit};
use crate::settle::{Extend, Settle};
use async_trait::async_trait;
use ductape_core::error::Retry;
use ductape_core::{Clock, Consumer, ConsumerOptions, Delivery, Result, Settlement, Timestamp, Verdict};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How often a waiting consumer looks by itself: for a bell that was not heard, and for processes that died.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A member of a group. Dropping it without a close counts as losing it.
pub(crate) struct SqliteConsumer {
    link: Arc<Link>,
    seat: Seat,
    max_in_flight: usize,
    lease: Duration,
    /// The receive under way; held by one call at a time.
    receiving: tokio::sync::Mutex<Receiving>,
    /// Until when what the last look took is this consumer's, in microseconds since the Unix epoch.
    leased_until: AtomicI64,
    /// Told when something new may be there.
    woken: Arc<Notify>,
    /// Told when deliveries of this consumer were settled.
    settled: Notify,
    /// The close under way, also where its caller went away.
    leaving: tokio::sync::Mutex<Option<Pending<()>>>,
    /// Turns true when the consumer or its connection is closed.
    closing: watch::Sender<bool>,
}

/// What a call to receive that is dropped leaves to the next one.
#[derive(Default)]
struct Receiving {
    asked: Option<Pending<Claimed>>,
    ready: VecDeque<Delivery>,
    /// What is ready is on its way back to the file, since it was left lying for too long.
    given_back: Option<Pending<Vec<bool>>>,
}

/// What a look at the file showed.
enum Looked {
    Deliveries(Vec<Delivery>),
    Nothing {
        /// When something will happen by itself.
        next: Option<Timestamp>,
        /// Whether only settling helps.
        at_bound: bool,
    },
}

impl SqliteConsumer {
    pub(crate) fn new(link: Arc<Link>, seat: Seat, woken: Arc<Notify>, options: &ConsumerOptions) -> Self {
        SqliteConsumer {
            link,
            seat,
            max_in_flight: options.max_in_flight.max(1),
            lease: options.lease,
            receiving: tokio::sync::Mutex::default(),
            leased_until: AtomicI64::new(0),
            woken,
            settled: Notify::new(),
            leaving: tokio::sync::Mutex::default(),
            closing: watch::Sender::new(false),
        }
    }

    /// Leaves the group, once, and gives back what is unsettled. A caller that goes away does not keep it here: nobody
    /// may ask again. Whoever does hears how it ended, and tries again where that was a failure.
    pub(crate) async fn leave(&self) -> Result<()> {
        self.closing.send_replace(true);
        let limit = self.link.settings.limit;
        let left = tokio::time::timeout(limit, self.left()).await;
        left.unwrap_or_else(|_| Err(error::timeout(limit, Retry::Uncertain, &self.link.path)))
    }

    async fn left(&self) -> Result<()> {
        let mut under_way = self.leaving.lock().await;
        if under_way.is_none() {
            *under_way = self.seat.leave();
        }
        let Some(leaving) = under_way.as_mut() else { return Ok(()) };
        let answer = leaving.await;
        *under_way = None;
        if let Some(Err(_)) = answer {
            self.seat.stayed();
        }
        // A thread that is gone has no members any more.
        answer.unwrap_or_else(|| Err(error::writer_gone(&self.link.path)))
    }

    fn check_open(&self) -> Result<()> {
        match *self.closing.borrow() {
            true => Err(self.located(error::closed("the consumer"))),
            false => Ok(()),
        }
    }

    fn located(&self, error: ductape_core::Error) -> ductape_core::Error {
        let member = self.seat.member();
        error.with_context("destination", &member.destination_name).with_context("group", &member.group_name)
    }

    /// Hands out what a dropped call left, or asks the writer.
    async fn look(&self, receiving: &mut Receiving, max: usize) -> Result<Looked> {
        let ready = self.take_ready(receiving, max).await?;
        if !ready.is_empty() {
            return Ok(Looked::Deliveries(ready));
        }
        let claimed = self.claim(receiving, max).await?;
        receiving.ready.extend(claimed.deliveries);
        self.leased_until.store(claimed.expires.as_micros(), Ordering::Release);
        let ready = self.take_ready(receiving, max).await?;
        Ok(match ready.is_empty() {
            false => Looked::Deliveries(ready),
            true => Looked::Nothing { next: claimed.next, at_bound: claimed.at_bound },
        })
    }

    async fn claim(&self, receiving: &mut Receiving, max: usize) -> Result<Claimed> {
        let file = self.link.file("the consumer")?;
        let asked = receiving.asked.get_or_insert_with(|| {
            let request = Claim {
                member: self.seat.member().clone(),
                max,
                max_in_flight: self.max_in_flight,
                lease: self.lease,
                now: self.link.settings.clock.now(),
            };
            submit(&file.queue, request)
        });
        let answer = self.answer(asked, &file).await?;
        receiving.asked = None;
        answer
    }

    /// Waits for an answer. After a time-out it is still to come, and the next call's.
    async fn answer<A>(&self, pending: &mut Pending<A>, file: &SharedFile) -> Result<Result<A>> {
        let limit = self.link.settings.limit;
        match tokio::time::timeout(limit, pending).await {
            Ok(answer) => Ok(answer.unwrap_or_else(|| Err(error::writer_gone(&file.path)))),
            Err(_) => Err(error::timeout(limit, Retry::Safe, &file.path)),
        }
    }

    /// Takes what is ready, so many at most.
    async fn take_ready(&self, receiving: &mut Receiving, max: usize) -> Result<Vec<Delivery>> {
        let on_its_way_back = receiving.given_back.is_some();
        if on_its_way_back || (!receiving.ready.is_empty() && !self.is_leased()) {
            self.give_back(receiving).await?;
        }
        let count = receiving.ready.len().min(max);
        Ok(receiving.ready.drain(..count).collect())
    }

    /// Gives back what was left lying for longer than its lease. It may be another's by now; where it is not, nobody
    /// else would have it: renewing keeps in hand whatever this consumer claimed. Therefore it is not forgotten
    /// before the file has it.
    async fn give_back(&self, receiving: &mut Receiving) -> Result<()> {
        let file = self.link.file("the consumer")?;
        let Receiving { ready, given_back, .. } = receiving;
        let given = given_back.get_or_insert_with(|| {
            let release =
                |delivery: &Delivery| Settlement { token: delivery.token.clone(), verdict: Verdict::Release };
            let batch = ready.iter().map(release).collect();
            let (member, now) = (self.seat.member().clone(), self.link.settings.clock.now());
            submit(&file.queue, Settle { member, batch, now })
        });
        let answer = self.answer(given, &file).await?;
        *given_back = None;
        answer?;
        ready.clear();
        Ok(())
    }

    fn is_leased(&self) -> bool {
        self.link.settings.clock.now().as_micros() < self.leased_until.load(Ordering::Acquire)
    }

    /// Notes that the leases were renewed. One that was over by then may be another's: that stays so.
    fn renewed(&self, now: Timestamp, expires: Timestamp) {
        let renew = |until| (now.as_micros() < until).then_some(expires.as_micros().max(until));
        // Nothing to renew is no fault.
        let _ = self.leased_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, renew);
    }

    async fn receive_until(&self, max: usize, deadline: impl Future<Output = ()>) -> Result<Vec<Delivery>> {
        let (mut deadline, mut closing) = (pin!(deadline), self.closing.subscribe());
        let mut receiving = tokio::select! {
            receiving = self.receiving.lock() => receiving,
            () = &mut deadline => return Ok(Vec::new()),
        };
        loop {
            let (mut woken, mut settled) = (pin!(self.woken.notified()), pin!(self.settled.notified()));
            // Registered before the look, so that nothing in between is missed.
            woken.as_mut().enable();
            settled.as_mut().enable();
            let looked = self.look(&mut receiving, max).await;
            self.check_open()?;
            let (next, at_bound) = match looked? {
                Looked::Deliveries(deliveries) => return Ok(deliveries),
                Looked::Nothing { next, at_bound } => (next, at_bound),
            };
            tokio::select! {
                () = woken, if !at_bound => {}
                () = settled, if at_bound => {}
                () = until(&self.link.settings.clock, next) => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = closing.wait_for(|closed| *closed) => {}
                () = &mut deadline => return Ok(Vec::new()),
            }
        }
    }
}

async fn until(clock: &Clock, time: Option<Timestamp>) {
    match time {
        Some(time) => clock.sleep(time.saturating_since(clock.now())).await,
        None => std::future::pending().await,
    }
}

/// Waits until so much time has passed, by the clock or in fact: nobody may hang for ever because a manual
/// clock stands still.
async fn pass(clock: &Clock, duration: Duration) {
    if !clock.is_manual() {
        return tokio::time::sleep(duration).await;
    }
    tokio::select! {
        () = clock.sleep(duration) => {}
        () = tokio::time::sleep(duration) => {}
    }
}

#[async_trait]
impl Consumer for SqliteConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        self.check_open()?;
        if max == 0 {
            return Ok(Vec::new());
        }
        let deadline = pass(&self.link.settings.clock, wait);
        self.receive_until(max, deadline).await.map_err(|error| self.located(error))
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        let count = batch.len();
        let settled = async {
            self.check_open()?;
            let file = self.link.file("the consumer")?;
            let request =
                Settle { member: self.seat.member().clone(), batch, now: self.link.settings.clock.now() };
            file.ask(request, self.link.settings.limit).await
        };
        let member = self.seat.member();
        let lost = || error::lease_lost(&member.destination_name, &member.group_name);
        match settled.await {
            Ok(results) => {
                self.settled.notify_waiters();
                results.into_iter().map(|ours| if ours { Ok(()) } else { Err(lost()) }).collect()
            }
            Err(error) => {
                let error = self.located(error);
                (0..count).map(|_| Err(error.replicate())).collect()
            }
        }
    }

    async fn extend(&self) -> Result<()> {
        self.check_open()?;
        let now = self.link.settings.clock.now();
        let expires = now.saturating_add(self.lease);
        let request = Extend { member: self.seat.member().clone(), expires };
        let file = self.link.file("the consumer")?;
        let extended = file.ask(request, self.link.settings.limit).await;
        extended.map_err(|error| self.located(error))?;
        self.renewed(now, expires);
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.leave().await
    }
}
