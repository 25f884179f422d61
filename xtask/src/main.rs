//! The repository's own commands: `cargo xtask help` lists them.
//!
//! Small on purpose: everything here is compiled before anything can be checked.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool writes to its terminal")]

mod artifact;
mod bench;
mod chaos;
mod ci;
mod process;
mod services;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test [OPTIONS] [ARGS]         run every test on real servers; end with what was skipped and why
                                          --embedded: without servers
                                          --docker: with servers in Docker
                                          --require all: fail on a skip that xtask/allowed-skips.txt does not list
                                          ARGS go to cargo test, for instance -p ductape-core
cargo xtask services install [KIND...]    install the servers that tests need, and what their clients are built with
cargo xtask services status [KIND...]     what is here, and how to get what is not
cargo xtask services start [KIND...]      run servers until Ctrl-C or the end of standard input; print where they are
                                          KIND: kafka, pubsub, rabbitmq, redis, sqs
cargo xtask tidy                          check imports, provider crates, module docs, sizes, dependencies, words
cargo xtask ci                            what CI runs: format, clippy, documentation, tests
cargo xtask bench PROVIDER [--peers] [--quick] [--write]
                                          memory, sqlite, kafka, rabbitmq, redis, sqs or pubsub: ours beside the raw
                                          client, with --peers beside other libraries too; writes benches/RESULTS.md,
                                          and after a quick look only with --write
cargo xtask bench embedded [--quick]      MEMORY, SQLITE and the worker beside their baselines
cargo xtask bench scaling [--servers] [--quick]
                                          backlog, topics, keys and publishers; with --servers publishers there too
cargo xtask bench build [--quick] [--write]
                                          time to build and size, by feature
cargo xtask bench cli                     the tool
cargo xtask chaos [--help]                publish and subscribe while everything breaks, and check what came of it
cargo xtask help                          this text";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", &[][..]),
    };
    let result = match command {
        "test" => test::run(rest),
        "services" => services::run(rest),
        "tidy" => tidy::run(rest),
        "ci" => ci::run(rest),
        "bench" => bench::run(rest),
        "chaos" => chaos::run(rest),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        "" => Err(Failure::Usage("which command?".into())),
        other => Err(Failure::Usage(format!("there is no command `{other}`"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Why a command ends with another code than 0.
#[derive(Debug)]
enum Failure {
    /// The command line is wrong: code 2 and the help.
    Usage(String),
    /// What was asked for failed: code 1. Empty where everything is said already.
    Failed(String),
}

impl Failure {
    fn report(self) -> ExitCode {
        match self {
            Failure::Usage(fault) => {
                eprintln!("error: {fault}\n\n{HELP}");
                ExitCode::from(2)
            }
            Failure::Failed(fault) => {
                if !fault.is_empty() {
                    eprintln!("error: {fault}");
                }
                ExitCode::FAILURE
            }
        }
    }
}

type Outcome = Result<(), Failure>;

/// The workspace's folder. Asked at run time first, since one compiled binary may serve several check-outs.
fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().map_or_else(|| own.clone(), PathBuf::from)
}

/// The outcome of a program that says itself what went wrong.
fn succeeded(success: bool) -> Outcome {
    success.then_some(()).ok_or(Failure::Failed(String::new()))
}

/// Refuses what a command does not take.
fn no_arguments(rest: &[String]) -> Outcome {
    match rest.first() {
        None => Ok(()),
        Some(extra) => Err(Failure::Usage(format!("`{extra}` is not expected here"))),
    }
}
