//! Verdicts of those who settle by hand, on their way to the provider.
//!
//! What comes while a settle call is under way goes together with the next. A verdict that was not taken and may be is
//! told again for a while: its delivery would otherwise be kept for ever by nobody. Where that does not help the
//! consumer is replaced, and the delivery comes again.

use super::Source;
use crate::delivery::Settlement;
use crate::error::{ErrorKind, Result};
use crate::retry::RetryPolicy;
use crate::time::Clock;
use crate::worker::{PATIENCE, answers, may_be_told_again};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long one call may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How far apart two calls for the same verdict are at most.
const MOST_APART: Duration = Duration::from_secs(2);
/// Orders of one settle call.
const SETTLE_BATCH: usize = 1024;

/// Verdicts on their way, all for one consumer, and who waits for them.
pub(super) struct Order {
    pub(super) source: Arc<Source>,
    pub(super) settlements: Vec<Settlement>,
    pub(super) done: Option<oneshot::Sender<Vec<Result<()>>>>,
}

/// An order that has been told at least once.
struct Told {
    settlements: Vec<Settlement>,
    /// What came of each; none while it is to be told again.
    results: Vec<Option<Result<()>>>,
    done: Option<oneshot::Sender<Vec<Result<()>>>>,
}

/// Tells all orders, until nobody gives any more.
pub(super) async fn settle_all(mut orders: mpsc::UnboundedReceiver<Order>, clock: Clock) {
    let (mut batch, mut again) = (Vec::new(), FuturesUnordered::new());
    loop {
        tokio::select! {
            biased;
            Some(()) = again.next() => {}
            count = orders.recv_many(&mut batch, SETTLE_BATCH) => {
                if count == 0 {
                    break;
                }
                for (source, mut told) in by_source(std::mem::take(&mut batch)) {
                    tell(&source, &mut told, true).await;
                    if !told.is_empty() {
                        again.push(tell_again(source, told, clock.clone()));
                    }
                }
            }
        }
    }
    while again.next().await.is_some() {}
}

/// Around a reconnect there are orders for two consumers; each gets its own.
fn by_source(orders: Vec<Order>) -> Vec<(Arc<Source>, Vec<Told>)> {
    let mut parts: Vec<(Arc<Source>, Vec<Told>)> = Vec::new();
    for Order { source, settlements, done } in orders {
        let results = settlements.iter().map(|_| None).collect();
        let told = Told { settlements, results, done };
        match parts.last_mut() {
            Some((last, part)) if Arc::ptr_eq(last, &source) => part.push(told),
            _ => parts.push((source, vec![told])),
        }
    }
    parts
}

async fn tell_again(source: Arc<Source>, mut told: Vec<Told>, clock: Clock) {
    let (begun, waits) =
        (clock.monotonic(), RetryPolicy { initial: Duration::from_millis(50), ..RetryPolicy::default() });
    for call in 1.. {
        if told.is_empty() {
            return;
        }
        clock.sleep(waits.delay(call, fastrand::f64()).min(MOST_APART)).await;
        let in_time = clock.monotonic().saturating_sub(begun) < PATIENCE;
        tell(&source, &mut told, in_time).await;
    }
}

/// Tells what is open of these. Those that have all their results leave, and whoever waits has them.
async fn tell(source: &Source, told: &mut Vec<Told>, in_time: bool) {
    let open = told.iter().flat_map(Told::open).cloned().collect();
    let mut results = answers(&*source.consumer, open, CALL_LIMIT).await.into_iter();
    for order in told.iter_mut() {
        for result in order.results.iter_mut().filter(|result| result.is_none()) {
            *result =
                results.next().filter(|heard| !(in_time && heard.as_ref().is_err_and(may_be_told_again)));
            if let Some(Err(error)) = result
                && error.kind() != ErrorKind::LeaseLost
            {
                source.given_up.send_replace(true);
            }
        }
    }
    for order in told.extract_if(.., |order| order.results.iter().all(Option::is_some)) {
        // The user may have stopped waiting.
        order.done.map(|done| done.send(order.results.into_iter().flatten().collect()));
    }
}

impl Told {
    fn open(&self) -> impl Iterator<Item = &Settlement> {
        let with = self.settlements.iter().zip(&self.results);
        with.filter(|(_, result)| result.is_none()).map(|(settlement, _)| settlement)
    }
}
