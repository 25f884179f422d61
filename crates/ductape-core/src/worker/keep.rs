//! Keeping leases, for everything that holds deliveries.

use crate::broker::Consumer;
use crate::error::ErrorKind;
use crate::time::Clock;
use std::time::Duration;

/// Renews a consumer's leases every third of their time; sooner again where that failed, and never waits so long for an
/// answer that they run out meanwhile. It ends with its consumer, or with whoever polls it.
pub(crate) async fn keep_leases(consumer: &dyn Consumer, clock: &Clock, lease: Duration) {
    let third = lease / 3;
    let mut wait = third;
    loop {
        clock.sleep(wait).await;
        wait = third / 4;
        match tokio::time::timeout(third, consumer.extend()).await {
            Ok(Ok(())) => wait = third,
            Ok(Err(error)) if error.kind() == ErrorKind::Closed => return,
            Ok(Err(error)) => tracing::warn!(%error, "leases were not renewed"),
            Err(_) => tracing::warn!("leases were not renewed: no answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Delivery, Settlement};
    use crate::error::Result;
    use async_trait::async_trait;
    use std::sync::Mutex;
    use tokio::time::Instant;

    /// Notes when it is asked to extend, and never answers the first time.
    #[derive(Default)]
    struct Mute(Mutex<Vec<Instant>>);

    #[async_trait]
    impl Consumer for Mute {
        async fn receive(&self, _: usize, _: Duration) -> Result<Vec<Delivery>> {
            Ok(Vec::new())
        }

        async fn settle(&self, _: Vec<Settlement>) -> Vec<Result<()>> {
            Vec::new()
        }

        async fn extend(&self) -> Result<()> {
            let calls = {
                let mut asked = self.0.lock().unwrap();
                asked.push(Instant::now());
                asked.len()
            };
            if calls == 1 { std::future::pending().await } else { Ok(()) }
        }

        async fn close(&self) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_without_an_answer_is_followed_by_another_before_the_lease_is_over() {
        let (consumer, lease, begun) = (Mute::default(), Duration::from_secs(30), Instant::now());
        let clock = Clock::system();
        let keeping = keep_leases(&consumer, &clock, lease);
        assert!(tokio::time::timeout(lease * 2, keeping).await.is_err(), "it goes on");
        let asked: Vec<_> = consumer.0.lock().unwrap().iter().map(|time| *time - begun).collect();
        assert!(asked[0] <= lease / 3 + Duration::from_millis(10) && asked[1] < lease, "{asked:?}");
        assert!(asked.windows(2).skip(1).all(|pair| pair[1] - pair[0] <= lease / 2), "{asked:?}");
    }
}
