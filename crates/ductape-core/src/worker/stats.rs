//! What a subscription has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one subscription. They only grow.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) received: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) discarded: AtomicU64,
    pub(crate) released: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) unsettled: AtomicU64,
    pub(crate) reconnects: AtomicU64,
}

/// What a subscription has done so far, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionStats {
    /// Deliveries received, redeliveries included.
    pub received: u64,
    /// Deliveries that a handler handled.
    pub acked: u64,
    /// Attempts that failed and are tried again.
    pub retried: u64,
    /// Deliveries that went to the dead letters.
    pub dead_lettered: u64,
    /// Deliveries acknowledged unhandled: discarded by the handler, or redriven for another group.
    pub discarded: u64,
    /// Deliveries given back untried at a stop.
    pub released: u64,
    /// Attempts that panicked.
    pub panicked: u64,
    /// Attempts given up after their time.
    pub timed_out: u64,
    /// Verdicts that the provider did not take; those deliveries come again.
    pub unsettled: u64,
    /// Consumers opened after the first.
    pub reconnects: u64,
    /// Deliveries in hand now.
    pub in_flight: u64,
}

impl Stats {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn read(&self, in_flight: usize) -> SubscriptionStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SubscriptionStats {
            received: read(&self.received),
            acked: read(&self.acked),
            retried: read(&self.retried),
            dead_lettered: read(&self.dead_lettered),
            discarded: read(&self.discarded),
            released: read(&self.released),
            panicked: read(&self.panicked),
            timed_out: read(&self.timed_out),
            unsettled: read(&self.unsettled),
            reconnects: read(&self.reconnects),
            in_flight: in_flight as u64,
        }
    }
}
