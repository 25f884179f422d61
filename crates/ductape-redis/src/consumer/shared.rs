//! What there is of a consumer while it is open: what it has in hand, its term, its fault and its end.

use crate::entry::StreamId;
use crate::group::Membership;
use crate::hand::{Hand, Orders};
use ductape_core::error::Retry;
use ductape_core::{ConsumerOptions, Delivery, Destination, Error, ErrorKind, Result, Verdict};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, watch};

/// What a consumer and its reader share.
pub(crate) struct Core {
    pub(crate) member: Membership,
    pub(crate) is_ordered: bool,
    hand: Mutex<Hand>,
    term: Mutex<Option<Term>>,
    fault: watch::Sender<Option<Error>>,
    /// Told when more is wanted.
    pub(crate) wanted: Notify,
    /// Told when there is something to hand out, or a fault.
    pub(super) arrived: Notify,
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

/// A receive that waits, however it ends.
pub(super) struct Waiting<'c>(&'c Core);

impl<'c> Waiting<'c> {
    pub(super) fn new(core: &'c Core) -> Self {
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

impl Core {
    pub(crate) fn new(member: Membership, destination: &Destination, options: &ConsumerOptions) -> Self {
        Core {
            member,
            is_ordered: destination.ordered,
            hand: Mutex::new(Hand::new(options.max_in_flight)),
            term: Mutex::default(),
            fault: watch::Sender::new(None),
            wanted: Notify::new(),
            arrived: Notify::new(),
            closing: watch::Sender::new(false),
            lived: Mutex::new(Instant::now()),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) fn hand(&self) -> MutexGuard<'_, Hand> {
        lock(&self.hand)
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.is_closing() { Err(Error::closed("the consumer")) } else { Ok(()) }
    }

    pub(super) fn live(&self) {
        *lock(&self.lived) = Instant::now();
    }

    /// Whether its user did something with it within a lease. One that hangs must not keep others from their turn.
    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        self.waiting.load(Ordering::Acquire) > 0 || *lock(&self.lived) + self.member.lease > now
    }

    /// What may be handed out now; where there is none, asks for it.
    pub(crate) fn take(&self, max: usize) -> Result<Vec<Delivery>> {
        self.check_open()?;
        if let Some(fault) = &*self.fault.borrow() {
            return Err(fault.replicate());
        }
        let now = Instant::now();
        let term = self.term().map(|term| term.until).filter(|until| *until > now);
        let may = !self.is_ordered || term.is_some();
        let mut hand = self.hand();
        let taken = if may { hand.take(max, now, term) } else { Vec::new() };
        hand.is_asked = taken.is_empty() && max > 0;
        let wants = hand.wanted() > 0;
        drop(hand);
        if wants {
            self.wanted.notify_one();
        }
        Ok(taken)
    }

    pub(crate) fn fetched(&self, deliveries: impl IntoIterator<Item = Delivery>, until: Instant) {
        self.hand().fetched(deliveries, until);
        self.arrived.notify_one();
    }

    pub(super) fn settle(&self, batch: &[(Option<StreamId>, Verdict)]) -> (Orders, Vec<bool>) {
        let settled = self.hand().settle(batch, Instant::now());
        self.wanted.notify_one();
        self.arrived.notify_one();
        settled
    }

    /// Ends receiving: nothing is fetched any more, so whatever the fault was, another consumer must be opened.
    pub(crate) fn fail(&self, error: Error) {
        self.fault.send_if_modified(|fault| {
            if fault.is_some() || self.is_closing() {
                return false;
            }
            tracing::debug!(%error, consumer = self.member.consumer, "the consumer is lost");
            *fault = Some(match error.kind() {
                ErrorKind::ConnectionLost => error,
                _ => self.member.located(
                    Error::new(ErrorKind::ConnectionLost, format!("the consumer is lost: {error}"))
                        .with_retry(Retry::Safe),
                ),
            });
            true
        });
        self.arrived.notify_one();
    }

    /// Waits for a fault.
    pub(crate) async fn failed(&self) {
        // Its sender is here.
        let _ = self.fault.subscribe().wait_for(Option::is_some).await;
    }

    pub(crate) fn term(&self) -> Option<Term> {
        lock(&self.term).clone()
    }

    pub(crate) fn elect(&self, term: Term) {
        self.hand().clear();
        *lock(&self.term) = Some(term);
    }

    /// Another is or may be elected: what is in hand is no longer this member's. An answer that comes late, when the
    /// member has been elected anew, ends no term but its own.
    pub(crate) fn depose(&self, token: &str, why: &str) {
        let ended = lock(&self.term).take_if(|term| &*term.token == token);
        if ended.is_some() {
            tracing::info!(
                stream = &*self.member.stream,
                group = &*self.member.group,
                why,
                "not elected any more"
            );
            self.hand().clear();
        }
    }

    pub(crate) fn prolong(&self, token: &str, until: Instant) {
        if let Some(term) = lock(&self.term).as_mut().filter(|term| &*term.token == token) {
            term.until = term.until.max(until);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
