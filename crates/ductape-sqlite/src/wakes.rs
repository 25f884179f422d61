//! Telling waiting consumers of this process that there may be something new.

use crate::ids::DestinationId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// One [`Notify`] a destination that this process consumes from.
#[derive(Default)]
pub(crate) struct Wakes(Mutex<HashMap<DestinationId, Arc<Notify>>>);

impl Wakes {
    /// What to wait on for a destination.
    pub(crate) fn of(&self, destination: DestinationId) -> Arc<Notify> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(destination).or_default())
    }

    /// Something in this destination changed.
    pub(crate) fn wake(&self, destination: DestinationId) {
        if let Some(notify) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&destination) {
            notify.notify_waiters();
        }
    }

    /// Something changed, and nobody knows where.
    pub(crate) fn wake_all(&self) {
        for notify in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            notify.notify_waiters();
        }
    }
}
