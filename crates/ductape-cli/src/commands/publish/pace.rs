//! `--rate`: so many messages in a second, and no more.

use std::time::Duration;
use tokio::time::Instant;

/// When the next messages may be published.
#[derive(Debug)]
pub(super) struct Pace {
    /// None where there is no limit.
    each: Option<Duration>,
    next: Instant,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Self {
        let each = rate.map(|rate| Duration::from_secs(1).div_f64(rate as f64));
        Pace { each, next: Instant::now() }
    }

    /// The most messages to hand over at once, so that they come evenly: a tenth of a second's worth.
    pub(super) fn most(rate: Option<u64>, otherwise: usize) -> usize {
        rate.map_or(otherwise, |rate| usize::try_from(rate / 10).unwrap_or(otherwise).clamp(1, otherwise))
    }

    /// Waits until the next may go.
    pub(super) async fn due(&self) {
        if self.each.is_some() {
            tokio::time::sleep_until(self.next).await;
        }
    }

    /// Counts messages that go now. Time in which nothing came is not made up for.
    pub(super) fn spend(&mut self, messages: usize) {
        if let Some(each) = self.each {
            let count = u32::try_from(messages).unwrap_or(u32::MAX);
            self.next = self.next.max(Instant::now()) + each * count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn messages_go_at_their_rate() {
        let (mut pace, begun) = (Pace::new(Some(100)), Instant::now());
        for _ in 0..20 {
            pace.due().await;
            pace.spend(10);
        }
        assert_eq!(begun.elapsed().as_millis(), 1900);
        assert_eq!(
            (Pace::most(Some(100), 1024), Pace::most(Some(3), 1024), Pace::most(None, 1024)),
            (10, 1, 1024)
        );
    }
}
