//! `cargo xtask bench embedded [--quick] [--check]`: what MEMORY, SQLITE and the worker cost, beside baselines.
//!
//! Both sides of a comparison run in turn, so that a slow moment of the machine slows both. What is
//! found is written into benches/RESULTS.md. `--quick` makes fewer and shorter rounds; `--check` ends with 1 where a target is
//! missed or a measurement skipped.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report goes to the terminal")]

mod memory;
mod sqlite;
mod worker;

use ductape_benches::Result;
use ductape_benches::report::Report;
use ductape_benches::results::{Made, Section};
use std::process::ExitCode;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Rounds of each side.
    rounds: usize,
    /// What counts of messages are divided by.
    divisor: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) =
        arguments.iter().find(|argument| !["--quick", "--check"].contains(&argument.as_str()))
    {
        eprintln!("error: `{unknown}` is not known; there are --quick and --check");
        return ExitCode::from(2);
    }
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let effort = match given("--quick") {
        true => Effort { rounds: 3, divisor: 10 },
        false => Effort { rounds: 7, divisor: 1 },
    };
    match run(effort, given("--quick")) {
        Ok(good) if good || !given("--check") => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(effort: Effort, quick: bool) -> Result<bool> {
    let mut report = Report::default();
    let made = Made::now("embedded", &[(quick, "--quick")]);
    if let Some(load) = made.load_before {
        println!("load of the machine before: {load:.2} (other work makes every number worse)");
    }
    println!("median [lowest..highest] of {} rounds, sides in turn", effort.rounds);
    memory::measure(&mut report, effort)?;
    sqlite::measure(&mut report, effort)?;
    worker::measure(&mut report, effort)?;
    let good = report.end();
    // A quick look is no result.
    if !quick {
        section(&report, made, effort).write()?;
    }
    Ok(good)
}

fn section(report: &Report, made: Made, effort: Effort) -> Section {
    let about = format!(
        "What MEMORY, SQLITE and the worker cost by themselves: both sides of a comparison in one process, in turn, {} \
         rounds. Publishing and handling go on at once.",
        effort.rounds
    );
    Section {
        name: "embedded".into(),
        title: "MEMORY, SQLITE and the worker in themselves".into(),
        order: 5,
        made,
        about: vec![about],
        targets: report.lines().to_vec(),
        tables: Vec::new(),
        chart: None,
        missing: report.skipped().to_vec(),
    }
}
