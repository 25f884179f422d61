//! `cargo xtask bench PROVIDER [--peers] [--quick]`: ours beside the raw client and peers, in turn, in one run.
//!
//! ```text
//!  plan      what is measured on this provider, and how much of it
//!  server    one for each corpus, started with empty data
//!  rounds    every contestant in turn, each round in a process of its own
//!  outcome   medians, targets, tables ─▶ Section
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report goes to the terminal")]

mod outcome;
mod plan;
mod rounds;

use ductape_benches::Result;
use ductape_benches::results::Made;
use std::path::PathBuf;
use std::process::ExitCode;

/// What the command line asks for.
struct Asked {
    provider: String,
    peers: Option<PathBuf>,
    quick: bool,
    write: bool,
}

fn main() -> ExitCode {
    let asked = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn asked(mut arguments: impl Iterator<Item = String>) -> Result<Asked> {
    let provider = arguments.next().ok_or("providers PROVIDER [--peers-in FOLDER] [--quick] [--write]")?;
    let mut asked = Asked { provider, peers: None, quick: false, write: false };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => asked.quick = true,
            "--write" => asked.write = true,
            "--peers-in" => asked.peers = Some(arguments.next().ok_or("--peers-in FOLDER")?.into()),
            other => {
                return Err(format!("`{other}` is not known; there are --peers, --quick and --write").into());
            }
        }
    }
    Ok(asked)
}

fn run(asked: &Asked) -> Result<()> {
    let flags = [(asked.peers.is_some(), "--peers"), (asked.quick, "--quick"), (asked.write, "--write")];
    let made = Made::now(&asked.provider, &flags);
    let plan = plan::Plan::of(&asked.provider, asked.quick)?;
    if let Some(load) = made.load_before {
        println!("load of the machine before: {load:.2} (other work makes every number worse)");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let players = rounds::players(&plan, asked.peers.as_deref())?;
    let measured = runtime.block_on(rounds::play(&plan, players))?;
    let section = outcome::section(&plan, &measured, made);
    // A quick look is no result.
    if !asked.quick || asked.write {
        section.write()?;
        println!("written to benches/RESULTS.md");
    }
    Ok(())
}
