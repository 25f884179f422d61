//! What the worker adds to a handler's own time, beside what a task of tokio's adds on the same machine.

use crate::Effort;
use ductape_benches::Result;
use ductape_benches::observed::Times;
use ductape_benches::ours::{BOUND, Ours};
use ductape_benches::report::{Report, Target};
use ductape_benches::spread::{Rounds, percentile, rate};
use ductape_benches::workload::{Counter, raw};
use ductape_core::{Delivery, Subscription};
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What the handler takes for itself.
#[derive(Clone, Copy, Debug)]
enum Own {
    /// Work of the processor, and no waiting: nothing else goes on there meanwhile.
    Work(Duration),
    /// Waiting, as for an answer of somebody else.
    Wait(Duration),
}

impl Own {
    /// Takes that time, and says how long it was.
    async fn take(self) -> Duration {
        let start = Instant::now();
        match self {
            Own::Wait(long) => tokio::time::sleep(long).await,
            Own::Work(long) => {
                while start.elapsed() < long {
                    std::hint::spin_loop();
                }
            }
        }
        start.elapsed()
    }
}

const OWN: [(Own, &str); 2] = [
    (Own::Wait(Duration::from_millis(5)), "waits 5 ms"),
    (Own::Work(Duration::from_micros(500)), "computes 500 µs"),
];
const PACE: &str = "the pacing thread panicked";
/// Different keys, so that the work spreads over the worker's shards.
const KEYS: u64 = 64;

pub(crate) fn measure(report: &mut Report, effort: Effort) -> Result<()> {
    report.part(&format!("The worker: a handler on MEMORY, {KEYS} keys"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let messages = 20_000 / effort.divisor;
    for (own, what) in OWN {
        let full = full_load(&runtime, own, messages / 4)?;
        let (mut ours, mut tasks) = (Added::default(), Added::default());
        for _ in 0..effort.rounds {
            tasks.push(&by_tasks(&runtime, own, full / 2.0, messages)?);
            ours.push(&at_rate(&runtime, own, full / 2.0, messages)?);
        }
        let name = format!("added to the own time of a handler that {what}, p99");
        let detail = format!("of {messages} at {:.0}/s, half of {full:.0}/s; {ours}", full / 2.0);
        report.line(&name, ours.late.median(), "µs", Target::AtMost(50.0), &detail);
        let name = format!("{name}, less what a channel and a task each add");
        let detail = format!("the same handler without a broker, without order and acks: {tasks}");
        report.told(&name, ours.late.median() - tasks.late.median(), "µs", &detail);
    }
    Ok(())
}

/// Percentiles of what was added, a round each.
#[derive(Default)]
struct Added {
    middle: Rounds,
    late: Rounds,
}

impl Added {
    fn push(&mut self, added: &[f64]) {
        self.middle.push(percentile(added, 0.5));
        self.late.push(percentile(added, 0.99));
    }
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, p50 {}", self.late, self.middle)
    }
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
    let (publisher, handle) = (Arc::clone(&ours), runtime.handle().clone());
    let pace =
        evenly(per_second, messages, move |n| handle.block_on(publisher.publish_with_key(raw(64), n % KEYS)));
    runtime.block_on(counter.reached(messages));
    pace.join().map_err(|_| PACE)??;
    runtime.block_on(subscription.stop())?;
    Ok(times.added())
}

/// The same handler behind a bounded channel, each time as a task of its own: what tokio and the machine add.
fn by_tasks(runtime: &Runtime, own: Own, per_second: f64, messages: u64) -> Result<Vec<f64>> {
    let (sender, mut receiver) = mpsc::channel(BOUND);
    let pace = evenly(per_second, messages, move |n| Ok(sender.blocking_send(n)?));
    let added = runtime.block_on(async move {
        let mut handlers = JoinSet::new();
        while receiver.recv().await.is_some() {
            let received = Instant::now();
            handlers.spawn(async move {
                let took = own.take().await;
                (received.elapsed() - took).as_secs_f64() * 1e6
            });
        }
        handlers.join_all().await
    });
    pace.join().map_err(|_| PACE)??;
    Ok(added)
}

/// Sends messages evenly from a thread of its own: timers of the runtime tick in milliseconds.
fn evenly(
    per_second: f64,
    messages: u64,
    send: impl Fn(u64) -> Result<()> + Send + 'static,
) -> JoinHandle<Result<()>> {
    std::thread::spawn(move || {
        let start = Instant::now();
        for n in 0..messages {
            let due = start + Duration::from_secs_f64(n as f64 / per_second);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            send(n)?;
        }
        Ok(())
    })
}

async fn subscribe(ours: &Ours, own: Own, times: &Times, counter: &Counter) -> Result<Subscription> {
    let (times, counter) = (times.clone(), counter.clone());
    ours.subscribe(move |delivery: Delivery| {
        let (times, counter) = (times.clone(), counter.clone());
        async move {
            times.handled(delivery.token, own.take().await);
            counter.add();
        }
    })
    .await
}
