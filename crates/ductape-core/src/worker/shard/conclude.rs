//! How deliveries end: acknowledged, tried again, dead-lettered, discarded, or given back.

use super::Shard;
use crate::capability::{Attempts, Delay};
use crate::dead_letter::bury;
use crate::delivery::Verdict;
use crate::worker::handler::{Failure, FailureVerdict, Handler};
use crate::worker::running::{Carrying, End};
use crate::worker::stats::Stats;
use crate::worker::task::Task;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

impl<H: Handler> Shard<H> {
    pub(super) fn conclude(&mut self, task: Task, end: End) {
        match end {
            End::Returned(Ok(())) => {
                Stats::add(&self.shared.stats.acked, 1);
                self.finish(task, Verdict::Ack);
            }
            End::Returned(Err(failure)) => self.fail(task, &failure),
            End::Panicked(words) => {
                Stats::add(&self.shared.stats.panicked, 1);
                self.fail(task, &Failure::retry(format_args!("the handler panicked: {words}")));
            }
            End::TimedOut => {
                Stats::add(&self.shared.stats.timed_out, 1);
                let limit = self.shared.timeout;
                self.fail(task, &Failure::retry(format_args!("the handler took longer than {limit:?}")));
            }
        }
    }

    pub(super) fn fail(&mut self, task: Task, failure: &Failure) {
        let (id, attempt, reason) = (&task.delivery.message.id, task.delivery.attempt, failure.reason());
        tracing::debug!(%id, attempt, reason, verdict = ?failure.verdict(), "a delivery was not handled");
        let policy = &self.shared.retry;
        match failure.verdict() {
            FailureVerdict::Discard => {
                Stats::add(&self.shared.stats.discarded, 1);
                self.finish(task, Verdict::Ack);
            }
            FailureVerdict::Release => {
                Stats::add(&self.shared.stats.released, 1);
                self.finish(task, Verdict::Release);
            }
            FailureVerdict::Reject => self.give_up(task, reason),
            _ if attempt >= policy.attempts => self.give_up(task, reason),
            FailureVerdict::Retry => self.try_again(task, policy.delay(attempt, fastrand::f64()), reason),
            FailureVerdict::RetryAfter(delay) => self.try_again(task, delay, reason),
        }
    }

    /// An unkeyed delivery goes back to a provider that can wait and count by itself. All others wait here:
    /// a key keeps its lane, so that its order survives the retry.
    pub(super) fn try_again(&mut self, task: Task, delay: Duration, reason: &str) {
        let told = self.shared.on_retry.is_set().then(|| task.delivery.clone());
        self.put_off(task, delay);
        Stats::add(&self.shared.stats.retried, 1);
        // Told once it waits, so that who is told may move a manual clock on.
        if let Some(delivery) = told {
            self.shared.on_retry.tell(&delivery, reason, delay);
        }
    }

    pub(super) fn put_off(&mut self, mut task: Task, delay: Duration) {
        let capabilities = &self.shared.capabilities;
        // One that counts too much has its chances beyond the last attempt, so it may count retries as well.
        let counted = matches!(capabilities.attempts, Attempts::Counted | Attempts::Overcounted);
        let waits = matches!(capabilities.delay, Delay::UpTo(longest) if delay <= longest);
        if task.delivery.message.key.is_none() && counted && waits {
            return self.finish(task, Verdict::Retry(delay));
        }
        if self.draining {
            return self.finish(task, Verdict::Retry(Duration::ZERO));
        }
        self.hold_lane(&mut task);
        task.delivery.attempt += 1;
        self.waited += 1;
        let due = self.shared.clock.monotonic().saturating_add(delay);
        self.waiting.insert((due, self.waited), task);
    }

    pub(super) fn give_up(&mut self, mut task: Task, reason: &str) {
        self.hold_lane(&mut task);
        let (shared, now) = (Arc::clone(&self.shared), self.shared.clock.now());
        let origin = shared.dead_letters.origin();
        let letter = bury(&task.delivery, origin, &shared.group, reason, now);
        let publish = async move { shared.dead_letters.publish_until_taken(letter, &shared.clock).await };
        self.dying.push(Carrying::new(task, Box::pin(publish)));
    }

    /// Says the last word about a task, and opens the lane that it held.
    pub(super) fn finish(&mut self, task: Task, verdict: Verdict) {
        if task.holds_lane
            && let Some(key) = &task.delivery.message.key
        {
            match self.lanes.get_mut(key).and_then(VecDeque::pop_front) {
                Some(mut next) => {
                    next.holds_lane = true;
                    self.ready.push_front(next);
                }
                None => drop(self.lanes.remove(key)),
            }
        }
        self.outbox.push(task.generation, task.delivery.token, verdict);
    }

    pub(super) fn release(&mut self, task: Task) {
        Stats::add(&self.shared.stats.released, 1);
        self.outbox.push(task.generation, task.delivery.token, Verdict::Release);
    }
}
