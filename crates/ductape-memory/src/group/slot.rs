//! What a group remembers of a message that it has passed and not settled.

use crate::moment::Moment;
use ductape_core::message::BatchAttributes;
use ductape_core::{Delivery, Message, Position, Token};

/// A message before the cursor that is not settled.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) state: State,
    /// The member that holds it, or held it last.
    pub(super) owner: u32,
    /// How often it was handed out.
    pub(super) handed: u32,
    /// How many of these do not count as attempts.
    pub(super) uncounted: u32,
    /// When it was handed out last.
    pub(super) since: Moment,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// With its owner.
    Held,
    /// With nobody; `lanes` knows when it may be handed out.
    Waiting,
}

impl Slot {
    /// What tells one handing out from every other of the same message: who got it, and the how many-th it was.
    #[inline]
    pub(super) fn lease(&self) -> u64 {
        u64::from(self.owner) << 32 | u64::from(self.handed)
    }

    #[inline]
    pub(super) fn is_held_under(&self, member: u32, lease: u64) -> bool {
        self.state == State::Held && self.owner == member && self.lease() == lease
    }

    #[inline]
    pub(super) fn delivery(&self, message: &Message, number: u64, batch: &mut BatchAttributes) -> Delivery {
        let message = Message {
            payload: message.payload.clone(),
            key: message.key.clone(),
            headers: message.headers.clone(),
            id: message.id.clone(),
            time: message.time,
            attributes: batch.like(&message.attributes),
            extensions: message.extensions.clone(),
        };
        Delivery {
            message,
            attempt: self.handed - self.uncounted,
            position: Position::Sequence(number),
            token: Token::Numbers(number, self.lease()),
        }
    }
}
