//! `cargo xtask ci`: what CI runs. All steps run, so that one run tells of every fault.

use crate::{Failure, Outcome, no_arguments, process, services, test};
use std::time::{Duration, Instant};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    no_arguments(arguments)?;
    let results = [
        // First, since Kafka's client cannot be compiled without what this installs.
        step("services", || services::run(&["install".into()])),
        step("format", || cargo(&["fmt", "--all", "--check"], None)),
        step("clippy", || {
            cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"], None)
        }),
        step("documentation", || {
            let flags = ("RUSTDOCFLAGS", "-D warnings");
            cargo(&["doc", "--locked", "--workspace", "--no-deps"], Some(flags))
        }),
        step("tests", || test::run(&["--require".into(), "all".into()])),
    ];
    println!();
    for (name, result, took) in &results {
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{name:<14} {word:<7} {:.0} s", took.as_secs_f64());
    }
    results
        .into_iter()
        .all(|(_, result, _)| result.is_ok())
        .then_some(())
        .ok_or(Failure::Failed(String::new()))
}

fn step(name: &'static str, run: impl FnOnce() -> Outcome) -> (&'static str, Outcome, Duration) {
    println!("\n== {name}");
    let start = Instant::now();
    let result = run();
    if let Err(Failure::Failed(fault) | Failure::Usage(fault)) = &result
        && !fault.is_empty()
    {
        eprintln!("error: {fault}");
    }
    (name, result, start.elapsed())
}

fn cargo(arguments: &[&str], variable: Option<(&str, &str)>) -> Outcome {
    let status = process::run(process::cargo(arguments).envs(variable))?;
    status.success().then_some(()).ok_or_else(|| Failure::Failed(format!("cargo {} failed", arguments[0])))
}
