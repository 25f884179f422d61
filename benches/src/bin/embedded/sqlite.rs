//! SQLITE: beside a loop by hand, its fsyncs, its group commit, and what a second process sees.

use crate::Effort;
use ductape_benches::child::{self, Running};
use ductape_benches::ours::{Ours, publish_and_handle};
use ductape_benches::raw_sqlite::RawSqlite;
use ductape_benches::report::{Report, Target};
use ductape_benches::spread::{Rounds, rate, short, timed};
use ductape_benches::workload::{BATCH, raw};
use ductape_benches::{Result, workload};
use ductape_core::config::Durability;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Publishers at once, where they share commits.
const PUBLISHERS: u64 = 64;

pub(crate) fn measure(report: &mut Report, effort: Effort) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    report.part(&format!("SQLITE: in {}, {BATCH} messages a transaction", std::env::temp_dir().display()));
    for durability in [Durability::Full, Durability::Normal] {
        for len in [64, 1024] {
            beside_a_loop(report, effort, &runtime, durability, len)?;
        }
    }
    fsyncs(report)?;
    group_commit(report, effort, &runtime)?;
    latency(report, effort, &runtime)?;
    idle(report, effort, &runtime)?;
    resident(report, effort, &runtime)
}

/// A folder that goes away, and new files in it.
struct Files(TempDir, u32);

impl Files {
    fn new() -> Result<Self> {
        Ok(Files(TempDir::with_prefix("ductape-bench-")?, 0))
    }

    fn next(&mut self) -> PathBuf {
        self.1 += 1;
        self.0.path().join(format!("{}.db", self.1))
    }
}

fn beside_a_loop(
    report: &mut Report,
    effort: Effort,
    runtime: &Runtime,
    durability: Durability,
    len: usize,
) -> Result<()> {
    // Never so few that opening and stopping weigh.
    let count = 200_000 / effort.divisor.min(2);
    let mut files = Files::new()?;
    let (mut ours, mut by_hand) = (Rounds::default(), Rounds::default());
    for _ in 0..effort.rounds {
        by_hand.push(loop_by_hand(&files.next(), durability, len, count)?);
        let sqlite = Arc::new(runtime.block_on(Ours::sqlite(&files.next(), durability))?);
        let work = publish_and_handle(Arc::clone(&sqlite), raw(len), count, BATCH);
        ours.push(rate(count, runtime.block_on(timed(work))?));
        runtime.block_on(sqlite.close())?;
    }
    let name = format!("rate beside a rusqlite loop, {len} B, {}", shown(durability));
    let detail = format!("messages/s: ours {ours}, loop {by_hand}");
    report.line(&name, ours.median() / by_hand.median(), "x", Target::AtLeast(0.8), &detail);
    Ok(())
}

fn loop_by_hand(path: &Path, durability: Durability, len: usize, count: u64) -> Result<f64> {
    let mut raw = RawSqlite::create(path, durability)?;
    let payload = workload::raw(len);
    let start = Instant::now();
    raw.insert_and_delete(&payload, count, BATCH as u64)?;
    Ok(rate(count, start.elapsed()))
}

const fn shown(durability: Durability) -> &'static str {
    match durability {
        Durability::Full => "full",
        Durability::Normal => "normal",
    }
}

/// Syncs of the file, for one publish after the other.
fn fsyncs(report: &mut Report) -> Result<()> {
    const COUNTED: u64 = 200;
    let name = "fsyncs a publish, one at a time, full";
    if !child::has("strace") {
        report.skip(name, "strace is not installed");
        return Ok(());
    }
    let mut files = Files::new()?;
    let mut count = |messages: u64| {
        let (path, messages) = (files.next(), messages.to_string());
        let arguments = ["sqlite-publish".as_ref(), path.as_os_str(), messages.as_ref()];
        child::system_calls("probe", &arguments, "fsync,fdatasync")
    };
    let (some, more) = (count(COUNTED)?, count(2 * COUNTED)?);
    let each = more.saturating_sub(some) as f64 / COUNTED as f64;
    let detail = format!("strace, {} publishes less {COUNTED}", 2 * COUNTED);
    report.line(name, each, "", Target::AtMost(1.0), &detail);
    Ok(())
}

fn group_commit(report: &mut Report, effort: Effort, runtime: &Runtime) -> Result<()> {
    let (mut files, each) = (Files::new()?, 200 / effort.divisor.min(4));
    let (mut alone, mut together) = (Rounds::default(), Rounds::default());
    for _ in 0..effort.rounds {
        alone.push(runtime.block_on(published(&files.next(), 1, each))?);
        together.push(runtime.block_on(published(&files.next(), PUBLISHERS, each))?);
    }
    let name = format!("rate of {PUBLISHERS} publishers beside one, 64 B, full");
    let detail = format!("messages/s: {PUBLISHERS} {together}, one {alone}");
    report.line(&name, together.median() / alone.median(), "x", Target::AtLeast(20.0), &detail);
    Ok(())
}

/// Messages a second of so many publishers, each publishing one after the other.
async fn published(path: &Path, publishers: u64, each: u64) -> Result<f64> {
    let sqlite = Arc::new(Ours::sqlite(path, Durability::Full).await?);
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..publishers {
        let sqlite = Arc::clone(&sqlite);
        tasks.spawn(async move { sqlite.publish_all(&raw(64), each, 1).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let took = start.elapsed();
    sqlite.close().await?;
    Ok(rate(publishers * each, took))
}

/// How long after a publish began the handler of another process has the message.
fn latency(report: &mut Report, effort: Effort, runtime: &Runtime) -> Result<()> {
    let (mut files, messages) = (Files::new()?, 500 / effort.divisor.min(5));
    for (durability, bound) in [(Durability::Normal, Some(2.0)), (Durability::Full, None)] {
        let path = files.next();
        let sqlite = runtime.block_on(Ours::sqlite(&path, durability))?;
        let count = messages.to_string();
        let arguments = ["sqlite-latency".as_ref(), path.as_os_str(), count.as_ref()];
        let mut subscriber = Running::start("probe", &arguments)?;
        subscriber.line()?;
        for _ in 0..messages {
            runtime.block_on(sqlite.publish([workload::stamped()]))?;
            // Apart, so that each finds an idle subscriber.
            std::thread::sleep(Duration::from_millis(10));
        }
        let median: f64 = subscriber.line()?.trim().parse()?;
        runtime.block_on(sqlite.close())?;
        let name = format!("ms until another process has it, p50, {}", shown(durability));
        let detail = format!("of {messages} messages, 10 ms apart");
        match bound {
            Some(bound) => report.line(&name, median, "ms", Target::AtMost(bound), &detail),
            None => report.told(&name, median, "ms", &format!("{detail}; a fsync included")),
        }
    }
    Ok(())
}

fn idle(report: &mut Report, effort: Effort, runtime: &Runtime) -> Result<()> {
    let seconds = if effort.divisor > 1 { "5" } else { "20" };
    let path = Files::new()?;
    let file = path.0.path().join("idle.db");
    runtime.block_on(async { Ours::sqlite(&file, Durability::Full).await?.close().await })?;
    let percent = child::number("probe", &["sqlite-idle".as_ref(), file.as_os_str(), seconds.as_ref()])?;
    let detail = format!("in {seconds} s, all threads");
    report.line("an idle subscriber, of a core", percent, "%", Target::AtMost(0.2), &detail);
    Ok(())
}

/// Peak resident memory of a process that works off a long backlog beside one that works off a short one.
fn resident(report: &mut Report, effort: Effort, runtime: &Runtime) -> Result<()> {
    let mut files = Files::new()?;
    let mut peak = |backlog: u64| -> Result<f64> {
        let (path, count) = (files.next(), backlog.to_string());
        runtime.block_on(async {
            let sqlite = Ours::sqlite(&path, Durability::Normal).await?;
            sqlite.publish_all(&raw(64), backlog, 1000).await?;
            sqlite.close().await
        })?;
        child::number("probe", &["sqlite-drain".as_ref(), path.as_os_str(), count.as_ref()])
    };
    let (short_one, long_one) = (10_000, 1_000_000 / effort.divisor);
    let (few, many) = (peak(short_one)?, peak(long_one)?);
    let name =
        format!("peak memory, backlog of {} beside {}", short(long_one as f64), short(short_one as f64));
    let detail = format!("{many:.0} KiB beside {few:.0} KiB, worked off to the end");
    report.line(&name, many / few, "x", Target::AtMost(1.1), &detail);
    Ok(())
}
