//! What is received after processes died: no suspect is in hand together with anything else.

use super::{CROWDED, Receiver};
use crate::capability::Attempts;
use crate::delivery::Delivery;
use crate::worker::handler::Handler;
use crate::worker::shared::Suspicion;

impl<H: Handler> Receiver<H> {
    /// Waits until no suspect is in hand: the next one comes alone.
    pub(super) async fn no_suspect(&self) {
        let mut suspect = self.shared.suspect.subscribe();
        // The sender lives as long as `shared`.
        let _ = suspect.wait_for(|suspect| !suspect).await;
    }

    fn is_suspect(&self, delivery: &Delivery) -> bool {
        self.shared.suspicion(delivery.attempt) == Suspicion::Suspect
    }

    /// Whether there is a first suspect at a provider that counts as tried what it has sent ahead. If the suspect kills the
    /// process, nothing must have been sent but that one.
    pub(super) fn becomes_careful(&mut self, deliveries: &[Delivery]) -> bool {
        let counts_ahead = self.shared.capabilities.attempts == Attempts::Overcounted;
        let becomes = counts_ahead
            && self.careful.is_none()
            && self.source.consumer.max_in_flight > 1
            && deliveries.iter().any(|delivery| self.is_suspect(delivery));
        if becomes {
            tracing::warn!(
                destination = %self.source.destination.name,
                "messages were in hand of processes that died, once too often; what comes next is taken one at a time"
            );
            self.careful = Some(self.source.consumer.max_in_flight);
        }
        becomes
    }

    /// Whether there was no suspect for so long that the bound may be the old one again.
    pub(super) fn has_been_careful(&mut self, deliveries: &[Delivery]) -> bool {
        let Some(left) = self.careful else { return false };
        let left = match deliveries {
            // At the bound nothing comes either, while the one that is in hand may take long.
            [] if self.shared.in_flight.count() > 0 => left,
            [] => 0,
            some if some.iter().any(|delivery| self.is_suspect(delivery)) => {
                self.source.consumer.max_in_flight
            }
            some => left.saturating_sub(some.len()),
        };
        self.careful = Some(left).filter(|left| *left > 0);
        self.careful.is_none()
    }

    /// Cuts off what must not be in hand together with a suspect. If a process dies, all that it has in hand counts as
    /// tried, so a suspect is kept only by itself; with others in hand it goes back, and comes again once they are done.
    pub(super) fn cut_suspects(&mut self, deliveries: &mut Vec<Delivery>) -> Vec<Delivery> {
        let suspect = deliveries.iter().position(|delivery| self.is_suspect(delivery));
        let Some(first) = suspect else { return Vec::new() };
        let alone = first == 0 && (self.waited || self.shared.in_flight.count() == 0);
        self.crowded = !alone;
        if alone {
            self.waited = false;
            self.shared.suspect.send_replace(true);
        }
        deliveries.split_off(if alone { 1 } else { first })
    }

    /// Waits until what is in hand is done, where a suspect was sent back because of it. Not for long, since what waits
    /// for its next attempt is in hand too.
    pub(super) async fn uncrowded(&mut self) {
        if self.crowded {
            (self.crowded, self.waited) = (false, true);
            drop(tokio::time::timeout(CROWDED, self.shared.in_flight.none()).await);
        }
    }
}
