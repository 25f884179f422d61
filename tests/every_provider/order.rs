//! The orders of the shop, and what billing makes of each.

use ductape::worker::{Failure, Outcome};
use serde::{Deserialize, Serialize};
use std::time::Duration;

pub(crate) const CUSTOMERS: u32 = 8;
pub(crate) const ORDERS: u32 = 25;
/// Attempts that billing has at an order.
pub(crate) const ATTEMPTS: u32 = 4;
/// How long billing puts some orders off.
pub(crate) const LATER: Duration = Duration::from_millis(150);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Order {
    /// 0 is who has no account: their orders have no key.
    pub(crate) customer: u32,
    /// From 1 on, in the order of the customer's.
    pub(crate) number: u32,
}

impl Order {
    pub(crate) fn key(&self) -> Option<String> {
        (self.customer > 0).then(|| format!("customer-{}", self.customer))
    }

    /// What billing makes of it at this attempt. What it puts off is told by whether it sees it for the first time: a
    /// provider may count what was given back untried.
    pub(crate) fn bill(&self, attempt: u32, is_first: bool) -> Outcome {
        match (self.number, attempt) {
            (7 | 17, _) => Err(Failure::reject("no such article")),
            (19, _) => Err(Failure::retry("the card is declined")),
            (13, _) if is_first => Err(Failure::retry_after(LATER, "the card's bank is closed")),
            (1 | 9, 1) => Err(Failure::retry("the till is busy")),
            (5, 1 | 2) => panic!("the till is on fire"),
            (11, _) => Err(Failure::discard("a test order")),
            _ => Ok(()),
        }
    }

    /// The dead letter that becomes of it: attempts and reason.
    pub(crate) fn dead_letter(&self) -> Option<(u32, &'static str)> {
        match self.number {
            7 | 17 => Some((1, "no such article")),
            19 => Some((ATTEMPTS, "the card is declined")),
            _ => None,
        }
    }

    pub(crate) fn is_billed(&self) -> bool {
        self.dead_letter().is_none() && self.number != 11
    }
}

pub(crate) fn all() -> impl Iterator<Item = Order> {
    (0..CUSTOMERS).flat_map(|customer| (1..=ORDERS).map(move |number| Order { customer, number }))
}
