//! `cargo xtask bench scaling [--servers] [--quick]`: whether a message costs the same however long the backlog, however many
//! topics and keys, and how publishing grows with the tasks that publish.
//! With `--servers` those of the networks' providers too, beside the client by hand.
//!
//! Each row is a process of its own: this program runs itself with one row's name.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report goes to the terminal")]

mod rows;
mod servers;

use ductape_benches::report::{Report, Target};
use ductape_benches::results::{Made, Section, Table};
use ductape_benches::spread::{Rounds, short};
use ductape_benches::{Result, child, usage};
use rows::{Row, Shape};
use std::process::{Command, ExitCode};

/// By how much the cost of a message may differ from that of the first row.
const FLAT: f64 = 1.1;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["row", row] => play(row),
        flags => match flags.iter().find(|flag| !["--quick", "--servers"].contains(flag)) {
            Some(other) => Err(format!("`{other}` is not known; there are --quick and --servers").into()),
            None => run(flags.contains(&"--quick"), flags.contains(&"--servers")),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One row in this process: prints microseconds a message.
fn play(row: &str) -> Result<()> {
    let row: Row = serde_json::from_str(row)?;
    println!("{}", rows::measure(&row)?);
    Ok(())
}

fn run(quick: bool, servers: bool) -> Result<()> {
    let made = Made::now("scaling", &[(servers, "--servers"), (quick, "--quick")]);
    if let Some(load) = usage::load() {
        println!("load of the machine before: {load:.2} (other work makes every number worse)");
    }
    let rounds = if quick { 1 } else { 3 };
    let (mut report, mut tables) = (Report::default(), Vec::new());
    for provider in ["memory", "sqlite"] {
        for shape in Shape::all(provider, quick) {
            tables.push(series(&mut report, provider, &shape, rounds)?);
        }
    }
    if servers {
        tables.extend(servers::measure(&mut report, rounds)?);
    }
    report.end();
    if !quick {
        section(&report, made, tables, rounds, servers).write()?;
    }
    Ok(())
}

/// One thing that grows, from its smallest to its largest.
fn series(report: &mut Report, provider: &str, shapes: &[Shape], rounds: usize) -> Result<Table> {
    let title =
        format!("{}, by {}", provider.to_uppercase(), shapes.first().map_or("", |shape| shape.what()));
    println!("\n{title}");
    let mut costs = vec![Rounds::default(); shapes.len()];
    for _ in 0..rounds {
        for (shape, cost) in shapes.iter().zip(&mut costs) {
            cost.push(alone(&Row { provider: provider.into(), shape: *shape })?);
        }
    }
    let first = costs.first().map_or(0.0, Rounds::median);
    let mut rows = Vec::new();
    for (shape, cost) in shapes.iter().zip(&costs) {
        let ratio = cost.median() / first;
        println!("  {:>12}  {cost} µs a message, {ratio:.2} of the first", short(shape.size() as f64));
        let rate = short(1e6 / cost.median());
        rows.push(vec![short(shape.size() as f64), cost.to_string(), format!("{ratio:.2}"), rate]);
    }
    judge(report, provider, shapes, &costs);
    let header = ["", "µs a message", "of the first", "messages/s"].map(String::from);
    Ok(Table { title, header: header.into(), rows })
}

/// More publishers may only make it cheaper; everything else may cost at most a tenth more.
fn judge(report: &mut Report, provider: &str, shapes: &[Shape], costs: &[Rounds]) {
    let (Some(first), Some(last)) = (costs.first(), costs.last()) else { return };
    let (Some(from), Some(to)) = (shapes.first(), shapes.last()) else { return };
    let worst = costs.iter().map(Rounds::median).fold(0.0, f64::max) / first.median();
    let (what, range) =
        (from.what(), format!("{} to {}", short(from.size() as f64), short(to.size() as f64)));
    if matches!(from, Shape::Publishers(_)) {
        let name = format!("{provider}: rate of {} publishers beside one", short(to.size() as f64));
        let detail = format!("µs a message: one {first}, {} {last}", short(to.size() as f64));
        report.line(&name, first.median() / last.median(), "x", Target::AtLeast(1.0), &detail);
        return;
    }
    let name = format!("{provider}: dearest message, {range} {what}");
    report.line(
        &name,
        worst,
        "x",
        Target::AtMost(FLAT),
        &format!("µs a message: first {first}, last {last}"),
    );
}

fn missing(servers: bool) -> Vec<String> {
    let elsewhere =
        "backlogs, topics and keys on the networks' providers: their sections tell the memory of a backlog";
    let mut missing = vec![elsewhere.into()];
    if !servers {
        missing.push("publishers on the networks' providers: the run was without --servers".into());
    }
    missing
}

fn alone(row: &Row) -> Result<f64> {
    let mut command = Command::new(child::sibling("scaling")?);
    let (out, _) = child::output(command.arg("row").arg(serde_json::to_string(row)?))?;
    Ok(out.trim().parse()?)
}

fn section(report: &Report, made: Made, tables: Vec<Table>, rounds: usize, servers: bool) -> Section {
    let about = format!(
        "64 B messages, {rounds} rounds, each row a process of its own. Backlog: so many messages wait, and while they \
         do as many are published as are handled, so that the backlog stays. Topics and keys: published in batches \
         of 256 and handled at once. Publishers: so many tasks on one client, each publishing one message after the \
         other; there more of them may only make it cheaper. SQLITE has `durability: normal`, and full for \
         publishers, where sharing an fsync is the point."
    );
    Section {
        name: "scaling".into(),
        title: "Scaling".into(),
        order: 40,
        made,
        about: vec![about],
        targets: report.lines().to_vec(),
        tables,
        chart: None,
        missing: missing(servers),
    }
}
