//! What the worker holds of a delivery until it is settled, and the verdicts collected on the way out.

use crate::broker::Consumer;
use crate::delivery::{Delivery, Settlement, Token, Verdict};
use std::collections::VecDeque;
use std::sync::Arc;

/// The consumer that handed deliveries out. Its number grows with every reconnect.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) generation: u64,
    pub(super) consumer: Arc<dyn Consumer>,
}

/// A delivery that is not settled.
pub(super) struct Task {
    pub(super) delivery: Delivery,
    pub(super) generation: u64,
    /// Whether the lane of its key is closed to others on its behalf.
    pub(super) holds_lane: bool,
}

/// Deliveries as they were received together, in their order. Nothing of them has started.
pub(super) struct Run {
    pub(super) generation: u64,
    pub(super) deliveries: VecDeque<Delivery>,
}

impl Run {
    pub(super) fn pop(&mut self) -> Option<Task> {
        let delivery = self.deliveries.pop_front()?;
        Some(Task { delivery, generation: self.generation, holds_lane: false })
    }
}

/// Verdicts not yet handed to their consumers. More than one consumer has some only around a reconnect.
#[derive(Default)]
pub(super) struct Outbox {
    sources: Vec<Pending>,
    len: usize,
    /// Pushed since this was last asked for.
    fresh: usize,
}

struct Pending {
    source: Source,
    /// Deliveries of this consumer without a verdict. At none it is let go with its last verdicts: a consumer that was
    /// lost may give back what it had only when nobody holds it.
    open: usize,
    batch: Vec<Settlement>,
}

impl Outbox {
    /// Makes the consumer of the next `n` deliveries known.
    pub(super) fn admit(&mut self, source: Source, n: usize) {
        match self.sources.last_mut() {
            Some(last) if last.source.generation == source.generation => last.open += n,
            _ => self.sources.push(Pending { source, open: n, batch: Vec::with_capacity(n) }),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, generation: u64, token: Token, verdict: Verdict) {
        if let Some(pending) = self.sources.iter_mut().rev().find(|p| p.source.generation == generation) {
            pending.open -= 1;
            pending.batch.push(Settlement { token, verdict });
            self.len += 1;
            self.fresh += 1;
        }
    }

    /// How many verdicts came since the last call.
    pub(super) fn take_fresh(&mut self) -> usize {
        std::mem::take(&mut self.fresh)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes one consumer's verdicts.
    pub(super) fn take(&mut self) -> Option<(Source, Vec<Settlement>)> {
        let place = self.sources.iter().position(|pending| !pending.batch.is_empty())?;
        let pending = &mut self.sources[place];
        self.len -= pending.batch.len();
        if pending.open == 0 {
            let Pending { source, batch, .. } = self.sources.remove(place);
            return Some((source, batch));
        }
        let room = Vec::with_capacity(pending.batch.len());
        Some((pending.source.clone(), std::mem::replace(&mut pending.batch, room)))
    }
}
