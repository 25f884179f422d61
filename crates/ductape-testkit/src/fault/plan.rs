//! What is to happen to one call.

use super::Fault;
use ductape_core::error::Retry;
use ductape_core::{ConsumerOptions, Delivery, Destination, Error, ErrorKind, Message, Result, Settlement};
use std::future::Future;

/// The faults of one call, in the order of their rules.
pub(super) struct Plan {
    faults: Vec<Fault>,
    seed: u64,
}

/// Whether a call goes on to the broker inside.
pub(super) enum Go {
    /// It does.
    On,
    /// It is answered with success here.
    Pretend,
    /// It fails here, and its connection is lost.
    Lost(Error),
    /// It fails here.
    Failed(Error),
}

impl Plan {
    pub(super) fn new(faults: Vec<Fault>, seed: u64) -> Self {
        Plan { faults, seed }
    }

    /// Waits and fails as the faults say. The first that ends the call decides.
    pub(super) async fn before(&self) -> Go {
        for fault in &self.faults {
            match fault {
                Fault::Delay(by) => tokio::time::sleep(*by).await,
                Fault::Block(by) => std::thread::sleep(*by),
                Fault::Hang => std::future::pending().await,
                Fault::Fail(error) => return Go::Failed(error.replicate()),
                Fault::LoseConnection => return Go::Lost(lost()),
                Fault::Pretend => return Go::Pretend,
                _ => {}
            }
        }
        Go::On
    }

    /// Waits after the call, and says whether its answer is lost.
    pub(super) async fn after(&self) -> Result<()> {
        for fault in &self.faults {
            match fault {
                Fault::DelayAnswer(by) => tokio::time::sleep(*by).await,
                Fault::Uncertain => return Err(uncertain()),
                _ => {}
            }
        }
        Ok(())
    }

    /// A call that answers one thing. `pretended` is the answer of [`Fault::Pretend`]; without one it does nothing.
    pub(super) async fn run<T>(
        &self,
        pretended: Option<T>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match (self.before().await, pretended) {
            (Go::Failed(error) | Go::Lost(error), _) => return Err(error),
            (Go::Pretend, Some(answer)) => return Ok(answer),
            (Go::Pretend | Go::On, _) => {}
        }
        let answer = call.await?;
        self.after().await.map(|()| answer)
    }

    pub(super) fn duplicates(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::Duplicate))
    }

    pub(super) fn edit_messages(&self, messages: &mut Vec<Message>) {
        for fault in &self.faults {
            match fault {
                Fault::EditMessages(edit) => edit(messages),
                Fault::Reorder => self.shuffle(messages),
                _ => {}
            }
        }
    }

    pub(super) fn edit_deliveries(&self, deliveries: &mut Vec<Delivery>) {
        for fault in &self.faults {
            match fault {
                Fault::EditDeliveries(edit) => edit(deliveries),
                Fault::Duplicate => {
                    *deliveries = deliveries.drain(..).flat_map(|d| [d.clone(), d]).collect();
                }
                Fault::Reorder => self.shuffle(deliveries),
                _ => {}
            }
        }
    }

    pub(super) fn edit_settlements(&self, settlements: &mut Vec<Settlement>) {
        for fault in &self.faults {
            if let Fault::EditSettlements(edit) = fault {
                edit(settlements);
            }
        }
    }

    pub(super) fn destination(&self, destination: &Destination) -> Destination {
        let mut destination = destination.clone();
        for fault in &self.faults {
            if let Fault::EditDestination(edit) = fault {
                edit(&mut destination);
            }
        }
        destination
    }

    pub(super) fn options(&self, options: &ConsumerOptions) -> ConsumerOptions {
        let mut options = options.clone();
        for fault in &self.faults {
            if let Fault::EditOptions(edit) = fault {
                edit(&mut options);
            }
        }
        options
    }

    /// Another order, whatever chance says: two or more are never left as they were.
    fn shuffle<T>(&self, items: &mut [T]) {
        if items.len() > 1 {
            items.rotate_left(1);
            fastrand::Rng::with_seed(self.seed).shuffle(&mut items[1..]);
        }
    }
}

pub(super) fn lost() -> Error {
    Error::new(ErrorKind::ConnectionLost, "the connection was lost, as a test asked for")
        .with_retry(Retry::Safe)
}

fn uncertain() -> Error {
    Error::new(ErrorKind::Timeout, "no answer came, as a test asked for").with_retry(Retry::Uncertain)
}
