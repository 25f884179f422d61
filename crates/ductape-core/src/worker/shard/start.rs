//! How deliveries start: in their lanes, under the bound on handlers, and without a task or an allocation where
//! the handler is ready at its first poll.

use super::Shard;
use crate::delivery::{Delivery, Verdict};
use crate::worker::handler::Handler;
use crate::worker::running::{Carrying, End, HandlerRun, Place, first_poll, run_alone};
use crate::worker::shared::Suspicion;
use crate::worker::stats::Stats;
use crate::worker::task::{Run, Task};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

impl<H: Handler> Shard<H> {
    pub(super) fn has_startable(&self) -> bool {
        !self.ready.is_empty() || !self.fresh.is_empty()
    }

    /// Starts what may start, as much as is left of the turn's budget. Whether there is more that could start in the next.
    pub(super) fn start_ready(&mut self, budget: &mut usize, cx: &mut Context<'_>) -> bool {
        while *budget > 0 && self.has_startable() && self.take_slot(cx) {
            if let Some(task) = self.ready.pop_front() {
                *budget -= 1;
                self.start(task, cx);
            } else if let Some(run) = self.fresh.pop_front() {
                self.start_run(run, budget, cx);
            }
        }
        if !self.has_startable() {
            // A place that is not needed is not kept from the other shards, nor is one in line for it.
            self.slot = None;
            self.slot_wanted = None;
        }
        // With budget left, what has not started waits for a slot, which wakes this shard.
        *budget == 0 && self.has_startable()
    }

    /// Handles a run from its front. What goes as most do (ready at its first poll, and handled) never leaves its
    /// place in the run; the first that does not is taken out, and the rest waits for its turn.
    pub(super) fn start_run(&mut self, mut run: Run, budget: &mut usize, cx: &mut Context<'_>) {
        let mut place = self.spare.take().unwrap_or_else(|| Box::pin(None));
        let (mut done, mut odd) = (0, None);
        while *budget > 0
            && odd.is_none()
            && let Some(delivery) = run.deliveries.get(done)
        {
            *budget -= 1;
            if !self.is_plain(delivery) {
                odd = Some(None);
                break;
            }
            match first_poll(&self.shared.handler, delivery, &mut place, cx) {
                Poll::Ready(End::Returned(Ok(()))) => {
                    self.outbox.push(run.generation, delivery.token.clone(), Verdict::Ack);
                    done += 1;
                }
                polled => odd = Some(Some(polled)),
            }
        }
        Stats::add(&self.shared.stats.acked, done as u64);
        run.deliveries.drain(..done);
        let task = if odd.is_some() { run.pop() } else { None };
        if !run.deliveries.is_empty() {
            self.fresh.push_front(run);
        }
        match (task, odd) {
            (Some(task), Some(Some(Poll::Pending))) => return self.keep_running(task, place),
            (Some(task), Some(Some(Poll::Ready(end)))) => self.conclude(task, end),
            (Some(task), Some(None)) => {
                self.spare = Some(place);
                return self.start(task, cx);
            }
            _ => {}
        }
        self.spare = Some(place);
    }

    /// Whether nothing about a delivery asks for more than its handler.
    #[inline]
    pub(super) fn is_plain(&self, delivery: &Delivery) -> bool {
        let message = &delivery.message;
        message.extensions.is_none()
            && delivery.attempt <= self.shared.retry.attempts
            && (self.lanes.is_empty() || message.key.as_ref().is_none_or(|key| !self.lanes.contains_key(key)))
    }

    /// Takes a place under the concurrency bound, or gets in line for one.
    pub(super) fn take_slot(&mut self, cx: &mut Context<'_>) -> bool {
        if self.slot.is_some() {
            return true;
        }
        if self.slot_wanted.is_none() {
            if let Ok(slot) = Arc::clone(&self.shared.slots).try_acquire_owned() {
                self.slot = Some(slot);
                return true;
            }
            let slots = Arc::clone(&self.shared.slots);
            self.slot_wanted = Some(Box::pin(async { slots.acquire_owned().await.ok() }));
        }
        if let Some(wanted) = &mut self.slot_wanted
            && let Poll::Ready(slot) = wanted.as_mut().poll(cx)
        {
            self.slot = slot;
            self.slot_wanted = None;
        }
        self.slot.is_some()
    }

    pub(super) fn start(&mut self, task: Task, cx: &mut Context<'_>) {
        let suspicion = self.shared.suspicion(task.delivery.attempt);
        let Some(task) = self.enter_lane(task) else {
            // It may wait for long, and other keys must not wait with it.
            return self.no_suspect_runs(suspicion);
        };
        if self.is_for_another_group(&task) {
            Stats::add(&self.shared.stats.discarded, 1);
            self.no_suspect_runs(suspicion);
            return self.finish(task, Verdict::Ack);
        }
        match suspicion {
            Suspicion::None => {}
            Suspicion::Suspect => return self.start_alone(task),
            Suspicion::Convict => {
                let reason = "no attempt came to an end: the process died or lost its lease each time";
                return self.give_up(task, reason);
            }
        }
        let mut place = self.spare.take().unwrap_or_else(|| Box::pin(None));
        match first_poll(&self.shared.handler, &task.delivery, &mut place, cx) {
            Poll::Ready(end) => {
                self.spare = Some(place);
                self.conclude(task, end);
            }
            Poll::Pending => self.keep_running(task, place),
        }
    }

    /// A suspect that does not run keeps nothing from being received.
    fn no_suspect_runs(&self, suspicion: Suspicion) {
        if suspicion == Suspicion::Suspect {
            self.shared.suspect.send_replace(false);
        }
    }

    /// Handles a suspect while no other handler runs, in this shard or any other.
    fn start_alone(&mut self, mut task: Task) {
        self.shared.suspect.send_replace(true);
        self.hold_lane(&mut task);
        let run = run_alone(Arc::clone(&self.shared), task.delivery.clone());
        self.alone.push(Carrying::new(task, Box::pin(run)));
    }

    /// Puts a task behind the one that holds the lane of its key, if there is one.
    pub(super) fn enter_lane(&mut self, task: Task) -> Option<Task> {
        if task.holds_lane || self.lanes.is_empty() {
            return Some(task);
        }
        match task.delivery.message.key.as_ref().and_then(|key| self.lanes.get_mut(key)) {
            Some(lane) => {
                lane.push_back(task);
                None
            }
            None => Some(task),
        }
    }

    pub(super) fn is_for_another_group(&self, task: &Task) -> bool {
        task.delivery.message.is_for_another_group(&self.shared.group)
    }

    pub(super) fn keep_running(&mut self, mut task: Task, place: Place<H::Future>) {
        self.hold_lane(&mut task);
        if let Some(slot) = self.slot.take() {
            let limit = self.shared.clock.sleep(self.shared.timeout);
            self.running.push(Carrying::new(task, HandlerRun::new(place, limit, slot)));
        }
    }

    pub(super) fn hold_lane(&mut self, task: &mut Task) {
        if let Some(key) = &task.delivery.message.key
            && !task.holds_lane
        {
            self.lanes.insert(key.clone(), VecDeque::new());
            task.holds_lane = true;
        }
    }
}
