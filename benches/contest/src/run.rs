//! A contestant's process: reads its setup, does its task, tells what was measured.
#![allow(clippy::print_stdout, reason = "its output is what its parent reads")]

use crate::corpus::micros;
use crate::usage::{peak_resident_kib, processor_time};
use crate::{Contestant, Latency, Measured, Messages, Phase, Result, Seen, Setup, Task, Windows, allocator};
use bytes::Bytes;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long any task may take. One that loses a message would wait for it forever.
const DEADLINE: Duration = Duration::from_secs(240);

/// Reads a [`Setup`] from standard input.
///
/// # Errors
/// Where there is none.
pub fn setup() -> Result<Setup> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Lets this contestant do its task, and prints [`Measured`] as JSON.
///
/// # Errors
/// The contestant's own; or where a message was lost, foreign, or left.
pub fn main<C: Contestant>(setup: &Setup) -> Result<()> {
    let runtime = runtime(setup)?;
    let measured = runtime.block_on(async {
        match tokio::time::timeout(DEADLINE, measure::<C>(setup)).await {
            Ok(measured) => measured,
            Err(_) => Err(format!("not done after {DEADLINE:?}").into()),
        }
    })?;
    println!("{}", serde_json::to_string(&measured)?);
    // What a client leaves running is not waited for: everything is counted.
    runtime.shutdown_background();
    Ok(())
}

fn runtime(setup: &Setup) -> Result<Runtime> {
    let mut builder =
        if setup.one_thread { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    Ok(builder.enable_all().build()?)
}

async fn measure<C: Contestant>(setup: &Setup) -> Result<Measured> {
    let contestant = Arc::new(C::open(setup).await?);
    let seen = Seen::new(setup.corpus, setup.messages, matches!(setup.task, Task::Paced { .. }));
    let mut measured = match setup.task {
        Task::InTurn => in_turn(&contestant, setup, &seen).await?,
        Task::Tasks(tasks) => by_tasks(&contestant, setup, &seen, tasks).await?,
        Task::AtOnce => at_once(&contestant, setup, &seen).await?,
        Task::Paced { per_second } => paced(&contestant, setup, &seen, per_second).await?,
    };
    check(&*contestant, setup, &seen).await?;
    measured.repeated = seen.repeated();
    measured.peak_resident_kib = peak_resident_kib()?;
    Ok(measured)
}

async fn in_turn<C: Contestant>(contestant: &Arc<C>, setup: &Setup, seen: &Seen) -> Result<Measured> {
    let messages = Messages::new(setup.corpus, setup.messages);
    let start = Moment::now()?;
    // On a task, as a service would, and not on the thread that waits for it.
    tokio::spawn(Arc::clone(contestant).publish(messages)).await??;
    let publish = start.phase(None)?;
    consumed(contestant, seen, publish).await
}

async fn by_tasks<C: Contestant>(
    contestant: &Arc<C>,
    setup: &Setup,
    seen: &Seen,
    tasks: u64,
) -> Result<Measured> {
    let messages = Arc::new(Mutex::new(Messages::new(setup.corpus, setup.messages)));
    let start = Moment::now()?;
    let mut publishers = JoinSet::new();
    for _ in 0..tasks {
        let (contestant, messages) = (Arc::clone(contestant), Arc::clone(&messages));
        publishers.spawn(async move {
            while let Some(message) = next(&messages) {
                Arc::clone(&contestant).publish_one(message).await?;
            }
            Result::<()>::Ok(())
        });
    }
    while let Some(ended) = publishers.join_next().await {
        ended??;
    }
    let publish = start.phase(None)?;
    consumed(contestant, seen, publish).await
}

fn next(messages: &Mutex<Messages>) -> Option<Bytes> {
    messages.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Consumes what was published.
async fn consumed<C: Contestant>(contestant: &Arc<C>, seen: &Seen, publish: Phase) -> Result<Measured> {
    let start = Moment::now()?;
    tokio::spawn(Arc::clone(contestant).consume(seen.clone())).await??;
    let consume = start.phase(seen.first())?;
    Ok(Measured { publish: Some(publish), consume: Some(consume), ..Measured::default() })
}

async fn at_once<C: Contestant>(contestant: &Arc<C>, setup: &Setup, seen: &Seen) -> Result<Measured> {
    let messages = Messages::new(setup.corpus, setup.messages);
    let start = Moment::now()?;
    let consumer = tokio::spawn(Arc::clone(contestant).consume(seen.clone()));
    tokio::spawn(Arc::clone(contestant).publish(messages)).await??;
    consumer.await??;
    Ok(Measured { at_once: Some(start.phase(None)?), ..Measured::default() })
}

async fn paced<C: Contestant>(
    contestant: &Arc<C>,
    setup: &Setup,
    seen: &Seen,
    per_second: f64,
) -> Result<Measured> {
    let consumer = tokio::spawn(Arc::clone(contestant).consume(seen.clone()));
    keep_pace(contestant, setup, per_second).await?;
    consumer.await??;
    let ages = seen.ages();
    let at = |part: f64| ages.get(((ages.len() - 1) as f64 * part) as usize).copied().unwrap_or(0.0);
    let latency = Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) };
    Ok(Measured { latency: Some(latency), ..Measured::default() })
}

/// Publishes each message when it is due, whether earlier ones are confirmed or not: a slow one must not make those
/// behind it look fast.
async fn keep_pace<C: Contestant>(contestant: &Arc<C>, setup: &Setup, per_second: f64) -> Result<()> {
    let mut messages = Messages::new(setup.corpus, setup.messages);
    let room = Arc::new(Semaphore::new(Windows::of(setup.corpus).messages()));
    let (start, mut tasks) = (micros(), JoinSet::new());
    for number in 0..setup.messages {
        let due = start + (number as f64 / per_second * 1e6) as u64;
        let early = due.saturating_sub(micros());
        // The runtime's timers tick in milliseconds: what is due within one goes out together, with its own moment.
        if early >= 1000 {
            tokio::time::sleep(Duration::from_micros(early)).await;
        }
        let permit = Arc::clone(&room).acquire_owned().await?;
        let Some(message) = messages.due_at(due.min(micros())) else { break };
        let contestant = Arc::clone(contestant);
        tasks.spawn(async move {
            let _permit = permit;
            contestant.publish_one(message).await
        });
        while let Some(ended) = tasks.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn check<C: Contestant>(contestant: &C, setup: &Setup, seen: &Seen) -> Result<()> {
    if seen.distinct() != setup.messages {
        return Err(format!("{} of {} messages came", seen.distinct(), setup.messages).into());
    }
    if seen.foreign() > 0 {
        return Err(format!("{} messages came that nobody published", seen.foreign()).into());
    }
    // A server may count what it was told a moment later.
    let deadline = Instant::now() + COUNTING;
    loop {
        match contestant.left().await? {
            None | Some(0) => return Ok(()),
            Some(left) if Instant::now() > deadline => {
                return Err(format!("{left} messages are not acknowledged").into());
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// How long a server may take to count the last acknowledgements.
const COUNTING: Duration = Duration::from_secs(5);

/// When something began, and what had been used until then.
struct Moment {
    time: Instant,
    used: Duration,
    allocations: u64,
}

impl Moment {
    fn now() -> Result<Self> {
        Ok(Moment { time: Instant::now(), used: processor_time()?, allocations: allocator::allocations() })
    }

    /// From then until now; the time itself from `from` on, where that is later.
    fn phase(&self, from: Option<Instant>) -> Result<Phase> {
        Ok(Phase {
            seconds: from.unwrap_or(self.time).elapsed().as_secs_f64(),
            cpu_seconds: processor_time()?.saturating_sub(self.used).as_secs_f64(),
            allocations: allocator::allocations() - self.allocations,
        })
    }
}
