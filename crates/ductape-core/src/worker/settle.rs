//! Handing a batch of verdicts to their consumer.
//!
//! A verdict that is not taken must not be forgotten: the provider would go on counting the delivery as in this
//! consumer's hands, renew it, and keep it from everybody. So it is told again until it is taken. What cannot be told
//! costs the consumer: the receiver closes it and opens another, and the delivery comes again.

use super::shared::Shared;
use super::stats::Stats;
use super::task::Source;
use crate::broker::Consumer;
use crate::delivery::Settlement;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::retry::RetryPolicy;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// For how long a verdict is told again before the consumer is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Calls made for one verdict during a stop, which must not wait for a broker that is gone.
const TRIES_AT_STOP: u32 = 3;

pub(super) async fn settle<H>(shared: Arc<Shared<H>>, source: Source, batch: Vec<Settlement>) {
    let (mut open, mut failed, mut at_stop, begun) = (batch, 0, 0, shared.clock.monotonic());
    let waits = RetryPolicy {
        initial: Duration::from_millis(50),
        max: Duration::from_secs(2),
        ..RetryPolicy::default()
    };
    while !open.is_empty() {
        let (count, results) = (open.len(), answers(&*source.consumer, open.clone(), shared.deadline).await);
        let stopping = shared.is_stopping();
        (failed, at_stop) = (failed + 1, at_stop + u32::from(stopping));
        let in_time = match stopping {
            true => at_stop < TRIES_AT_STOP,
            // What an earlier consumer had has gone back already.
            false if !shared.is_current(source.generation) => false,
            false => shared.clock.monotonic().saturating_sub(begun) < PATIENCE,
        };
        let (again, wait) = refused(&shared, &source, open, results, in_time);
        open = again;
        shared.in_flight.remove(count - open.len());
        if !open.is_empty() {
            let failed = if stopping { at_stop } else { failed };
            shared.clock.sleep(wait.max(waits.delay(failed, fastrand::f64()))).await;
        }
    }
}

/// As many results as settlements, whatever the provider does: one that panics must not take the caller along,
/// since what that holds would be leased for ever.
pub(crate) async fn answers(
    consumer: &dyn Consumer,
    batch: Vec<Settlement>,
    deadline: Duration,
) -> Vec<Result<()>> {
    let len = batch.len();
    let settle = AssertUnwindSafe(consumer.settle(batch)).catch_unwind();
    let (mut results, rest) = match tokio::time::timeout(deadline, settle).await {
        Ok(Ok(results)) => {
            (results, (ErrorKind::ProviderFailed, "the provider gave no result for a verdict"))
        }
        Ok(Err(_)) => (Vec::new(), (ErrorKind::ProviderFailed, "the provider panicked in a settle")),
        Err(_) => (Vec::new(), (ErrorKind::Timeout, "no answer to a settle")),
    };
    results.resize_with(len, || Err(Error::new(rest.0, rest.1)));
    results
}

/// Whether telling a verdict again may help. Twice does no harm, so what is uncertain is told again like what was refused.
pub(crate) fn may_be_told_again(error: &Error) -> bool {
    let may_help = error.is_retryable() || error.is_uncertain() || error.kind() == ErrorKind::Timeout;
    may_help && !super::is_lost(error)
}

/// Keeps what may be told again. Of the rest the provider has no verdict: where it may think that the delivery is still
/// in hand, the consumer is given up.
fn refused<H>(
    shared: &Shared<H>,
    source: &Source,
    batch: Vec<Settlement>,
    results: Vec<Result<()>>,
    in_time: bool,
) -> (Vec<Settlement>, Duration) {
    let (mut again, mut wait) = (Vec::new(), Duration::ZERO);
    for (settlement, result) in batch.into_iter().zip(results) {
        let Err(error) = result else { continue };
        if in_time && may_be_told_again(&error) {
            if let Retry::After(after) = error.retry() {
                wait = wait.max(after);
            }
            again.push(settlement);
            continue;
        }
        Stats::add(&shared.stats.unsettled, 1);
        tracing::warn!(%error, "a verdict was not taken; the message will be delivered again");
        if error.kind() != ErrorKind::LeaseLost {
            shared.give_up(source.generation);
        }
    }
    (again, wait)
}
