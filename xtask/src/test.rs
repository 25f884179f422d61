//! `cargo xtask test`: every test of the workspace, on real servers, with what was skipped and why at the end.
//!
//! ```text
//!  install what is missing ─▶ start servers ──────────────┐ their addresses, as variables
//!                             compile the tests, meanwhile ┴─▶ run their programs side by side, then the
//!                                                              documentation's examples ─▶ skips, times ─▶ servers end
//! ```
//!
//! The servers end with this process, however it ends.

mod options;
mod programs;
mod summary;
mod times;

use crate::artifact::{self, Executable};
use crate::services::{Program, Servers, WAY};
use crate::{Failure, Outcome, process, root};
use options::Options;
use std::collections::BTreeMap;
use std::time::Instant;
use summary::{Summary, unlisted};
use times::Times;

/// The skips that `--require all` accepts: a name a line, then ` # ` and the reason.
const ALLOWED_SKIPS: &str = "xtask/allowed-skips.txt";
/// The variable by which test programs know that each skip must be allowed.
const REQUIRE: &str = "DUCTAPE_REQUIRE";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    run_beside(arguments, || ())
}

/// The same, with other work beside the programs, which wait most of their time: once they are compiled, or cannot be.
pub(crate) fn run_beside(arguments: &[String], other: impl FnOnce() + Send) -> Outcome {
    let options = Options::parse(arguments)?;
    let prepared = prepare(&options);
    std::thread::scope(|scope| {
        scope.spawn(other);
        let (servers, programs) = prepared?;
        run_all(programs, servers, &options)
    })
}

/// Starts the servers, and compiles the tests meanwhile.
fn prepare(options: &Options) -> Result<(Option<Servers>, Vec<Executable>), Failure> {
    let kinds = options.servers();
    let mut servers = None;
    if !kinds.is_empty() {
        let program = Program::build(if options.docker { "docker" } else { "servers" })?;
        if !options.docker {
            program.install(&kinds)?;
        }
        servers = Some(program.start(&kinds, options.way())?);
    }
    Ok((servers, compile(options)?))
}

/// Runs programs of tests against these servers, which end with them.
fn run_all(programs: Vec<Executable>, mut servers: Option<Servers>, options: &Options) -> Outcome {
    let mut variables =
        servers.as_mut().map_or_else(|| Ok(BTreeMap::new()), |servers| servers.variables())?;
    if let Some(way) = options.way() {
        variables.insert(WAY.into(), way.into());
    }
    if options.require_all {
        variables.insert(REQUIRE.into(), "all".into());
    }
    let (mut summary, mut times) = programs::run(programs, &variables, options.for_programs());
    drop(servers);
    if options.with_examples() {
        examples(options, &mut summary, &mut times)?;
    }
    println!("\n{times}\n{summary}");
    if !summary.faults.is_empty() {
        return Err(Failure::Failed(String::new()));
    }
    if options.require_all { check_skips(&summary) } else { Ok(()) }
}

/// Compiles the tests; their programs.
fn compile(options: &Options) -> Result<Vec<Executable>, Failure> {
    let mut programs = Vec::new();
    let mut cargo = process::cargo(&["test", "--no-run", "--message-format", "json-render-diagnostics"]);
    let status = process::run_by_line(cargo.args(options.for_cargo()), |line| {
        programs.extend(artifact::executable(line).filter(|program| program.tests));
    })?;
    status.success().then_some(programs).ok_or_else(|| Failure::Failed("the tests do not compile".into()))
}

/// Runs the documentation's examples.
fn examples(options: &Options, summary: &mut Summary, times: &mut Times) -> Outcome {
    let mut cargo = process::cargo(&["test", "--doc", "--no-fail-fast"]);
    cargo.args(options.for_cargo()).arg("--").args(options.for_programs());
    let start = Instant::now();
    let status = process::run_by_line_of_both(cargo, drop, |line| {
        println!("{line}");
        summary.read(line);
    })?;
    times.add("the documentation's examples".into(), start.elapsed());
    if !status.success() {
        summary.faults.push(format!("the documentation's examples: {status}"));
    }
    Ok(())
}

fn check_skips(summary: &Summary) -> Outcome {
    let list = std::fs::read_to_string(root().join(ALLOWED_SKIPS))
        .map_err(|fault| Failure::Failed(format!("{ALLOWED_SKIPS}: {fault}")))?;
    match unlisted(&summary.skipped, &list).as_slice() {
        [] => Ok(()),
        names => Err(Failure::Failed(format!(
            "skipped, and not listed in {ALLOWED_SKIPS}: {}; let them run, or list them with the reason",
            names.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_allowed_skips_gives_a_reason_for_each() {
        let list = std::fs::read_to_string(root().join(ALLOWED_SKIPS)).unwrap();
        for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let reason = line.split_once(" # ").map_or("", |(_, reason)| reason.trim());
            assert!(!reason.is_empty(), "{ALLOWED_SKIPS}: `{line}` has no reason after ` # `");
        }
    }
}
