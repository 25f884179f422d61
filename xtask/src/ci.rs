//! `cargo xtask ci`: what CI runs. All steps run, so that one run tells of every fault.
//!
//! ```text
//!  services ─▶ format ─▶ tests: compile ─▶ run ───────────────────────────────────────────────▶ every step's result
//!                                      └─▶ clippy ─▶ documentation ─▶ no features ─▶ alone ──┘ in the background
//! ```
//!
//! Tests wait for leases and servers most of their time; what Clippy and rustdoc compute then costs none of their own.

use crate::{Failure, Outcome, no_arguments, process, services, succeeded, test};
use std::time::{Duration, Instant};

/// What came of a step, and how long it took.
struct Step {
    name: &'static str,
    result: Outcome,
    took: Duration,
    /// What it said, where that was not printed.
    said: Vec<String>,
}

pub(crate) fn run(arguments: &[String]) -> Outcome {
    no_arguments(arguments)?;
    // First, since Kafka's client cannot be compiled without what this installs.
    let mut steps = vec![
        step("services", || services::run(&["install".into()])),
        step("format", || {
            succeeded(process::run(&mut process::cargo(&["fmt", "--all", "--check"]))?.success())
        }),
    ];
    let mut beside = Vec::new();
    steps.push(step("tests", || {
        test::run_beside(&["--require".into(), "all".into()], || {
            beside.extend([clippy(), documentation(), without_features(), alone()]);
        })
    }));
    steps.extend(beside);
    for Step { name, said, .. } in steps.iter().filter(|step| step.result.is_err() && !step.said.is_empty()) {
        println!("\n== {name}\n{}", said.join("\n"));
    }
    println!();
    for Step { name, result, took, .. } in &steps {
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{name:<14} {word:<7} {:.0} s", took.as_secs_f64());
    }
    succeeded(steps.iter().all(|step| step.result.is_ok()))
}

fn step(name: &'static str, run: impl FnOnce() -> Outcome) -> Step {
    println!("\n== {name}");
    let start = Instant::now();
    let result = run();
    if let Err(Failure::Failed(fault) | Failure::Usage(fault)) = &result
        && !fault.is_empty()
    {
        eprintln!("error: {fault}");
    }
    Step { name, result, took: start.elapsed(), said: Vec::new() }
}

fn clippy() -> Step {
    background(
        "clippy",
        &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
        None,
    )
}

fn documentation() -> Step {
    let flags = ("RUSTDOCFLAGS", "-D warnings");
    background("documentation", &["doc", "--locked", "--workspace", "--no-deps"], Some(flags))
}

/// The one test that no other makes: all others are of a core with all its features.
fn without_features() -> Step {
    background(
        "no features",
        &["test", "--locked", "--package", "ductape-core", "--no-default-features", "--lib"],
        None,
    )
}

/// Each provider by itself, as a service has it: with others in the workspace it has their features of shared crates too,
/// and may lack one of its own.
fn alone() -> Step {
    let mut all = Step { name: "alone", result: Ok(()), took: Duration::ZERO, said: Vec::new() };
    for provider in crate::tidy::PROVIDERS {
        let package = format!("ductape-{provider}");
        let one = background("alone", &["check", "--locked", "--lib", "--package", &package], None);
        all.took += one.took;
        if one.result.is_err() {
            all.said.extend(one.said);
            all.result = one.result;
        }
    }
    all
}

/// Runs cargo in the background, where what it says would stand between what tests say.
fn background(name: &'static str, arguments: &[&str], variable: Option<(&str, &str)>) -> Step {
    let start = Instant::now();
    let mut command = process::cargo_in_the_background(arguments);
    command.envs(variable);
    let mut said = Vec::new();
    let ended = process::run_by_line_of_both(command, drop, |line| said.push(line.to_owned()));
    let result = ended.and_then(|status| succeeded(status.success()));
    if let Err(Failure::Failed(fault) | Failure::Usage(fault)) = &result {
        said.push(fault.clone());
    }
    Step { name, result, took: start.elapsed(), said }
}
