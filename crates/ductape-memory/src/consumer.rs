//! Consuming: a member of a group takes deliveries, settles them, and leaves.

use crate::error;
use crate::group::Group;
use crate::moment::Moment;
use crate::store::{Place, pass};
use async_trait::async_trait;
use ductape_core::{Clock, Consumer, ConsumerOptions, Delivery, Error, Result, Settlement, Start};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;

/// A consumer. Dropping it without a close counts as losing it.
pub(crate) struct MemoryConsumer(pub(crate) Arc<Membership>);

/// A place in a group, which the connection can end as well as the consumer.
pub(crate) struct Membership {
    place: Arc<Place>,
    clock: Clock,
    group_name: Arc<str>,
    group: u64,
    member: u32,
    /// Told when something changes in the group: see [`Group::changed`].
    changed: Arc<Notify>,
    left: AtomicBool,
}

/// What one look at the group found.
enum Found {
    Deliveries(Vec<Delivery>),
    /// Nothing, and nothing will happen by itself before this time.
    Nothing(Option<Moment>),
}

impl Membership {
    /// Joins the group, which is made where it is not there.
    pub(crate) fn join(place: Arc<Place>, options: &ConsumerOptions, clock: Clock) -> Arc<Self> {
        let mut state = place.lock();
        let group = state.group_or_new(&options.group, options.start == Start::Earliest);
        let (id, changed) = (group.id, Arc::clone(&group.changed));
        let (log, group) = state.group(id);
        let (bound, now) = (options.max_in_flight, Moment::now(&clock));
        let member = group.map_or(0, |group| group.join(log, bound, options.lease, now));
        drop(state);
        Arc::new(Membership {
            place,
            clock,
            group_name: Arc::clone(&options.group),
            group: id,
            member,
            changed,
            left: AtomicBool::new(false),
        })
    }

    /// Leaves the group, once.
    pub(crate) fn leave(&self) {
        self.leave_as(false);
    }

    fn leave_as(&self, lost: bool) {
        let mut state = self.place.lock();
        if self.left.swap(true, Ordering::AcqRel) {
            return;
        }
        if let (log, Some(group)) = state.group(self.group) {
            group.leave(log, self.member, lost);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn look(&self, max: usize) -> Result<Found> {
        let now = Moment::now(&self.clock);
        let mut found = Vec::new();
        let mut state = self.place.lock();
        self.check_open()?;
        let (log, group) = state.group(self.group);
        let group = group.ok_or_else(|| self.no_group())?;
        let expired = group.expire(log, now);
        let sooner = group.hand_out(log, self.member, max, now, &mut found);
        let next = group.next_event();
        drop(state);
        if expired || sooner {
            self.changed.notify_waiters();
        }
        Ok(if found.is_empty() { Found::Nothing(next) } else { Found::Deliveries(found) })
    }

    /// Looks again whenever there may be something new.
    async fn wait(&self, max: usize) -> Result<Vec<Delivery>> {
        loop {
            let (mut arrived, mut changed) =
                (pin!(self.place.arrived.notified()), pin!(self.changed.notified()));
            // Registered before the look, so that nothing in between is missed.
            arrived.as_mut().enable();
            changed.as_mut().enable();
            let next = match self.look(max)? {
                Found::Deliveries(deliveries) => return Ok(deliveries),
                Found::Nothing(next) => next,
            };
            tokio::select! {
                () = arrived => {}
                () = changed => {}
                () = self.until(next) => {}
            }
        }
    }

    async fn until(&self, time: Option<Moment>) {
        match time {
            Some(time) => self.clock.sleep_until(time.as_deadline()).await,
            None => std::future::pending().await,
        }
    }

    fn settle_now(&self, batch: &[Settlement]) -> Vec<Result<()>> {
        let now = Moment::now(&self.clock);
        let mut state = self.place.lock();
        let (log, group) = match (self.check_open(), state.group(self.group)) {
            (Err(_), _) => return batch.iter().map(|_| self.check_open()).collect(),
            (_, (_, None)) => return batch.iter().map(|_| Err(self.lease_lost())).collect(),
            (Ok(()), (log, Some(group))) => (log, group),
        };
        let expired = group.expire(log, now);
        let watched_before = group.is_watched(self.member);
        let results = group.settle(log, self.member, batch, now, || self.lease_lost());
        let watched = expired || watched_before || group.is_watched(self.member);
        group.rest();
        self.place.tell_room(&state);
        drop(state);
        if watched {
            self.changed.notify_waiters();
        }
        results
    }

    fn check_open(&self) -> Result<()> {
        match self.left.load(Ordering::Acquire) {
            true => {
                Err(error::closed("the consumer", &self.place.name).with_context("group", &self.group_name))
            }
            false => Ok(()),
        }
    }

    #[cold]
    fn no_group(&self) -> Error {
        error::no_group(&self.place.name, &self.group_name)
    }

    #[cold]
    fn lease_lost(&self) -> Error {
        error::lease_lost(&self.place.name, &self.group_name)
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        // Who receives in a loop, and always finds something, still lets other tasks run.
        consume_budget().await;
        if let Found::Deliveries(deliveries) = self.0.look(max)? {
            return Ok(deliveries);
        }
        if max == 0 || wait.is_zero() {
            return Ok(Vec::new());
        }
        tokio::select! {
            biased;
            received = self.0.wait(max) => received,
            () = pass(&self.0.clock, wait) => Ok(Vec::new()),
        }
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        self.0.settle_now(&batch)
    }

    async fn extend(&self) -> Result<()> {
        let now = Moment::now(&self.0.clock);
        let mut state = self.0.place.lock();
        self.0.check_open()?;
        let (log, group) = state.group(self.0.group);
        let group: &mut Group = group.ok_or_else(|| self.0.no_group())?;
        let expired = group.expire(log, now);
        group.renew(self.0.member, now);
        drop(state);
        if expired {
            self.0.changed.notify_waiters();
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.0.leave();
        Ok(())
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.0.leave_as(true);
    }
}
