//! The payloads that are moved, and counting them to their end.

use bytes::Bytes;
use ductape_core::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Messages of one publish, where batches are measured.
pub const BATCH: usize = 256;

/// A payload of so many bytes.
pub fn raw(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

/// An order, of five fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Which.
    pub order_id: u64,
    /// Whose.
    pub customer: String,
    /// How much.
    pub total: f64,
    /// In what.
    pub currency: String,
    /// Whether it is paid.
    pub paid: bool,
}

/// An order as JSON.
///
/// # Errors
/// None that this order could have.
pub fn order() -> crate::Result<Bytes> {
    let order = Order {
        order_id: 12_345,
        customer: "cust_789".into(),
        total: 99.99,
        currency: "EUR".into(),
        paid: true,
    };
    Ok(serde_json::to_vec(&order)?.into())
}

/// A payload that says when it was made.
pub fn stamped() -> Bytes {
    Bytes::copy_from_slice(&Clock::system().now().as_micros().to_be_bytes())
}

/// How long ago a payload of [`stamped`] was made, in milliseconds; none of another payload.
pub fn age(payload: &[u8]) -> Option<f64> {
    let micros = i64::from_be_bytes(payload.try_into().ok()?);
    Some(Clock::system().now().saturating_since(Timestamp::from_micros(micros)).as_secs_f64() * 1e3)
}

/// Counts what has been handled, and wakes whoever waits for the last.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    handled: AtomicU64,
    awaited: AtomicU64,
    reached: Notify,
}

impl Counter {
    /// Counts one.
    pub fn add(&self) {
        let handled = self.0.handled.fetch_add(1, Ordering::AcqRel) + 1;
        if handled == self.0.awaited.load(Ordering::Acquire) {
            self.0.reached.notify_one();
        }
    }

    /// So many so far.
    pub fn count(&self) -> u64 {
        self.0.handled.load(Ordering::Acquire)
    }

    /// Waits until so many have been counted since the beginning. One waits at a time.
    pub async fn reached(&self, count: u64) {
        self.0.awaited.store(count, Ordering::SeqCst);
        while self.count() < count {
            self.0.reached.notified().await;
        }
    }
}
