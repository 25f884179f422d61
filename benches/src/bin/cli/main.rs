//! `cargo xtask bench cli [--quick]`: the tool on a large file, beside the library's own batched rate.
//!
//! Both sides put the same lines into a SQLITE file of the same durability, in turn; and take them out again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report goes to the terminal")]

mod tool;

use ductape_benches::ours::Ours;
use ductape_benches::report::{Report, Target};
use ductape_benches::results::{Made, Section};
use ductape_benches::spread::{Rounds, rate, timed};
use ductape_benches::workload::Counter;
use ductape_benches::{Result, usage};
use ductape_contest::{Corpus, Messages};
use ductape_core::Delivery;
use ductape_core::client::NewMessage;
use ductape_core::config::Durability;
use std::fs::File;
use std::future::ready;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tool::Tool;

/// Messages of one publish of the library: what the tool's own batches come to.
const BATCH: usize = 1024;
/// Deliveries in hand, as the tool has by default.
const IN_FLIGHT: usize = 1024;
const MIB: f64 = 1024.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = arguments.iter().find(|argument| *argument != "--quick") {
        eprintln!("error: `{unknown}` is not known; there is --quick");
        return ExitCode::from(2);
    }
    match run(!arguments.is_empty()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(quick: bool) -> Result<()> {
    let made = Made::now("cli", &[(quick, "--quick")]);
    if let Some(load) = usage::load() {
        println!("load of the machine before: {load:.2} (other work makes every number worse)");
    }
    let (lines, rounds) = if quick { (100_000, 3) } else { (1_000_000, 3) };
    let (tool, mut report) = (Tool::built()?, Report::default());
    report.part("The tool");
    start(&mut report, &tool)?;
    let (publish, subscribe) = sides(&tool, lines, rounds)?;
    compare(&mut report, &format!("publish --file, {lines} lines"), &publish);
    compare(&mut report, &format!("subscribe --payload, {lines} messages"), &subscribe);
    report.end();
    if !quick {
        section(&report, made, lines, rounds).write()?;
    }
    Ok(())
}

/// How long the smallest command takes, from the start of the process to its end.
fn start(report: &mut Report, tool: &Tool) -> Result<()> {
    let mut millis = Rounds::default();
    for _ in 0..50 {
        millis.push(tool.run(&["--help"], None)?.seconds * 1e3);
    }
    report.line(
        "ductape --help",
        millis.median(),
        "ms",
        Target::AtMost(10.0),
        &format!("of 50 runs: {millis}"),
    );
    Ok(())
}

#[derive(Default)]
struct Side {
    tool: Rounds,
    library: Rounds,
    peak_mib: Rounds,
}

fn sides(tool: &Tool, lines: u64, rounds: usize) -> Result<(Side, Side)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = TempDir::with_prefix("ductape-bench-")?;
    let file = folder.path().join("departures.ndjson");
    write_lines(&file, lines)?;
    let (mut publish, mut subscribe) = (Side::default(), Side::default());
    for round in 0..rounds {
        let path = folder.path().join(format!("tool-{round}.db"));
        tool.catalogue(folder.path(), &path)?;
        let said = tool.run(&["publish", "bench:messages", "--file", text(&file)], Some(folder.path()))?;
        publish.tool.push(lines as f64 / said.seconds);
        publish.peak_mib.push(said.peak_kib / MIB);
        let count = lines.to_string();
        let said =
            tool.run(&["subscribe", "bench:messages", "--payload", "--count", &count], Some(folder.path()))?;
        subscribe.tool.push(lines as f64 / said.seconds);
        subscribe.peak_mib.push(said.peak_kib / MIB);
        remove(&path)?;
        let path = folder.path().join(format!("library-{round}.db"));
        let (published, subscribed) = library(&runtime, &path, &file, lines)?;
        publish.library.push(published);
        subscribe.library.push(subscribed);
        remove(&path)?;
    }
    Ok((publish, subscribe))
}

fn write_lines(file: &Path, lines: u64) -> Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    for line in Messages::new(Corpus::Departures, lines) {
        out.write_all(&line)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Lines a second that the library itself reads and publishes, and that it takes out again.
fn library(runtime: &Runtime, path: &Path, file: &Path, lines: u64) -> Result<(f64, f64)> {
    runtime.block_on(async {
        let ours = Ours::sqlite(path, Durability::Full).await?;
        let published = timed(publish(&ours, file)).await?;
        let counter = Counter::default();
        let subscribed = timed(async {
            let handled = counter.clone();
            let subscription = ours
                .subscribe_with(IN_FLIGHT, move |delivery: Delivery| {
                    std::hint::black_box(&delivery.message.payload);
                    handled.add();
                    ready(())
                })
                .await?;
            counter.reached(lines).await;
            Ok(subscription.stop().await?)
        })
        .await?;
        ours.close().await?;
        Ok((rate(lines, published), rate(lines, subscribed)))
    })
}

async fn publish(ours: &Ours, file: &Path) -> Result<()> {
    let mut lines = BufReader::new(File::open(file)?).lines().peekable();
    while lines.peek().is_some() {
        let batch = lines.by_ref().take(BATCH).map(|line| line.map(NewMessage::json_bytes));
        let batch = batch.collect::<std::io::Result<Vec<_>>>()?;
        for result in ours.publisher().publish_batch(batch).await {
            result?;
        }
    }
    Ok(())
}

fn compare(report: &mut Report, name: &str, side: &Side) {
    let detail = format!("lines/s: tool {}, library {}", side.tool, side.library);
    let ratio = side.tool.median() / side.library.median();
    report.line(&format!("{name}, of the library"), ratio, "x", Target::AtLeast(0.8), &detail);
    let peak = side.peak_mib.median();
    let detail = format!("MiB: {}", side.peak_mib);
    report.line(&format!("{name}, peak memory"), peak, "MiB", Target::AtMost(64.0), &detail);
}

fn section(report: &Report, made: Made, lines: u64, rounds: usize) -> Section {
    let about = format!(
        "A file of {lines} departures into SQLITE with `durability: full`, and out of it to /dev/null; {rounds} rounds, \
         sides in turn. The library reads the same file, publishes {BATCH} lines at once, one batch after the other, \
         and counts deliveries; the tool's time is that of its whole process."
    );
    Section {
        name: "cli".into(),
        title: "The tool".into(),
        order: 50,
        made,
        about: vec![about],
        targets: report.lines().to_vec(),
        tables: Vec::new(),
        chart: None,
        missing: report.skipped().to_vec(),
    }
}

fn remove(path: &Path) -> Result<()> {
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
