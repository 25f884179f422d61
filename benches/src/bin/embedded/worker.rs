//! What the worker adds to a handler's own time.

use crate::Effort;
use ductape_benches::Result;
use ductape_benches::observed::Times;
use ductape_benches::ours::{BOUND, Ours};
use ductape_benches::report::{Report, Target};
use ductape_benches::spread::{Rounds, percentile, rate};
use ductape_benches::workload::{Counter, raw};
use ductape_core::{Delivery, Subscription};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// What the handler takes for itself.
#[derive(Clone, Copy, Debug)]
enum Own {
    /// Work of the processor, and no waiting: nothing else goes on there meanwhile.
    Work(Duration),
    /// Waiting, as for an answer of somebody else.
    Wait(Duration),
}

const OWN: [(Own, &str); 2] = [
    (Own::Wait(Duration::from_millis(5)), "waits 5 ms"),
    (Own::Work(Duration::from_micros(500)), "computes 500 µs"),
];
/// Different keys, so that the work spreads over the worker's shards.
const KEYS: u64 = 64;

pub(crate) fn measure(report: &mut Report, effort: Effort) -> Result<()> {
    report.part(&format!("The worker: a handler on MEMORY, {KEYS} keys"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let messages = 20_000 / effort.divisor;
    for (own, what) in OWN {
        let full = full_load(&runtime, own, messages / 4)?;
        let (mut middle, mut late) = (Rounds::default(), Rounds::default());
        for _ in 0..effort.rounds {
            let added = at_rate(&runtime, own, full / 2.0, messages)?;
            middle.push(percentile(&added, 0.5));
            late.push(percentile(&added, 0.99));
        }
        let name = format!("added to the own time of a handler that {what}, p99");
        let detail =
            format!("of {messages} at {:.0}/s, half of {full:.0}/s; {late}, p50 {middle}", full / 2.0);
        report.line(&name, late.median(), "µs", Target::AtMost(50.0), &detail);
    }
    Ok(())
}

/// Deliveries a second when they are never short.
fn full_load(runtime: &Runtime, own: Own, messages: u64) -> Result<f64> {
    runtime.block_on(async {
        let (ours, counter) = (Ours::memory().await?, Counter::default());
        let messages = messages.min(BOUND as u64);
        for n in 0..messages {
            ours.publish_with_key(raw(64), n % KEYS).await?;
        }
        let start = Instant::now();
        let subscription = subscribe(&ours, own, &Times::default(), &counter).await?;
        counter.reached(messages).await;
        let took = start.elapsed();
        subscription.stop().await?;
        Ok(rate(messages, took))
    })
}

/// What the worker added to each handler, while messages come evenly at this rate.
fn at_rate(runtime: &Runtime, own: Own, per_second: f64, messages: u64) -> Result<Vec<f64>> {
    let (times, counter) = (Times::default(), Counter::default());
    let ours = runtime.block_on(Ours::memory_observed(times.clone()))?;
    let ours = Arc::new(ours);
    let subscription = runtime.block_on(subscribe(&ours, own, &times, &counter))?;
    // A thread of its own keeps the pace: timers of the runtime tick in milliseconds.
    let (publisher, handle) = (Arc::clone(&ours), runtime.handle().clone());
    let pace = std::thread::spawn(move || {
        let start = Instant::now();
        for n in 0..messages {
            let due = start + Duration::from_secs_f64(n as f64 / per_second);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            handle.block_on(publisher.publish_with_key(raw(64), n % KEYS))?;
        }
        Result::<()>::Ok(())
    });
    runtime.block_on(counter.reached(messages));
    pace.join().map_err(|_| "the pacing thread panicked")??;
    runtime.block_on(subscription.stop())?;
    Ok(times.added())
}

async fn subscribe(ours: &Ours, own: Own, times: &Times, counter: &Counter) -> Result<Subscription> {
    let (times, counter) = (times.clone(), counter.clone());
    ours.subscribe(move |delivery: Delivery| {
        let (times, counter) = (times.clone(), counter.clone());
        async move {
            let start = Instant::now();
            match own {
                Own::Wait(long) => tokio::time::sleep(long).await,
                Own::Work(long) => {
                    while start.elapsed() < long {
                        std::hint::spin_loop();
                    }
                }
            }
            times.handled(delivery.token, start.elapsed());
            counter.add();
        }
    })
    .await
}
