//! The queue in front of the writer's thread.
//!
//! Every call pushes at its first poll, so that calls are served in the order they were made. The queue holds no
//! more than the calls that wait on it: a call that is dropped takes its job out again, and so memory is bounded
//! by what the callers have under way themselves.

use crate::request::Job;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The number of a job in the queue.
pub(crate) type Ticket = u64;

/// Jobs in the order they came.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    /// As `closed`, for who only looks.
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(Ticket, Box<dyn Job>)>,
    next: Ticket,
    /// Whether the writer sleeps. Waking it costs a system call.
    asleep: bool,
    closed: bool,
}

/// How much one transaction may hold.
pub(crate) struct Limit {
    pub(crate) jobs: usize,
    pub(crate) bytes: usize,
}

impl Queue {
    /// Adds a job. After the close it is dropped, which its caller sees.
    pub(crate) fn push(&self, job: Box<dyn Job>) -> Ticket {
        let mut state = self.lock();
        let ticket = state.next;
        if state.closed {
            drop(state);
            return ticket;
        }
        state.next += 1;
        state.jobs.push_back((ticket, job));
        let wake = state.asleep;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        ticket
    }

    /// Takes a job out again; `false` where the writer has it already.
    pub(crate) fn take_back(&self, ticket: Ticket) -> bool {
        let mut state = self.lock();
        let Ok(index) = state.jobs.binary_search_by_key(&ticket, |(ticket, _)| *ticket) else { return false };
        let job = state.jobs.remove(index);
        drop(state);
        // The job is dropped without the lock: its payload may be large.
        drop(job);
        true
    }

    /// Waits for jobs and takes as many as one transaction may hold, one at least. `None` once the queue is
    /// closed and empty.
    pub(crate) fn take(&self, limit: &Limit) -> Option<Vec<Box<dyn Job>>> {
        let mut state = self.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return None;
            }
            state.asleep = true;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
        }
        Some(state.take(limit))
    }

    /// Takes no more jobs; those that wait are still served.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ended.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Closes and drops what waits, which its callers see.
    pub(crate) fn abandon(&self) {
        self.close();
        let jobs = std::mem::take(&mut self.lock().jobs);
        drop(jobs);
    }

    /// Whether it takes no more jobs.
    pub(crate) fn is_closed(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, limit: &Limit) -> Vec<Box<dyn Job>> {
        let mut taken = Vec::with_capacity(self.jobs.len().min(limit.jobs));
        let mut bytes = 0;
        while taken.len() < limit.jobs
            && bytes < limit.bytes
            && let Some((_, job)) = self.jobs.pop_front()
        {
            bytes += job.weight();
            taken.push(job);
        }
        taken
    }
}
