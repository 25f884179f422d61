//! `--count` with `--exec`: so many successes, and not one command more than they need.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// How many messages are still wanted.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    /// One permit a success that is wanted and not under way; none where there is no end to them.
    wanted: Option<Arc<Semaphore>>,
    left: Arc<watch::Sender<u64>>,
    ended: watch::Receiver<u64>,
}

/// That a command may run.
#[derive(Debug)]
pub(super) struct Leave {
    permit: Option<OwnedSemaphorePermit>,
    left: Arc<watch::Sender<u64>>,
}

impl Quota {
    pub(super) fn new(count: Option<u64>) -> Self {
        let (left, ended) = watch::channel(count.unwrap_or(u64::MAX));
        let permits = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Quota {
            wanted: count.map(|count| Arc::new(Semaphore::new(permits(count)))),
            left: Arc::new(left),
            ended,
        }
    }

    /// Waits until one more may run; none once there are enough.
    pub(super) async fn leave(&self) -> Option<Leave> {
        let left = Arc::clone(&self.left);
        let Some(wanted) = &self.wanted else { return Some(Leave { permit: None, left }) };
        let mut quota = self.clone();
        tokio::select! {
            biased;
            () = quota.met() => None,
            permit = Arc::clone(wanted).acquire_owned() => Some(Leave { permit: permit.ok(), left }),
        }
    }

    /// Waits until there are enough.
    pub(super) async fn met(&mut self) {
        // The sender is held by this very quota.
        let _ = self.ended.wait_for(|left| *left == 0).await;
    }
}

impl Leave {
    /// Counts a success. Dropped without it, the leave is another's.
    pub(super) fn used(self) {
        if let Some(permit) = self.permit {
            permit.forget();
            self.left.send_modify(|left| *left = left.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_failure_gives_its_leave_back_and_a_success_does_not() {
        let quota = Quota::new(Some(2));
        let (one, two) = (quota.leave().now_or_never().unwrap(), quota.leave().now_or_never().unwrap());
        assert!(quota.leave().now_or_never().is_none(), "a third waits");
        drop(one);
        let one = quota.leave().now_or_never().unwrap();
        one.unwrap().used();
        assert!(quota.clone().met().now_or_never().is_none());
        two.unwrap().used();
        assert!(quota.clone().met().now_or_never().is_some());
        assert!(quota.leave().now_or_never().unwrap().is_none(), "there are enough");
    }
}
