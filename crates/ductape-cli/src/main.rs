//! `ductape`: declare brokers, publish, subscribe and look after what went wrong, from a terminal or a script.
//!
//! ```text
//!  arguments ─▶ cli ─▶ run ─▶ commands::* ─▶ ductape (the library)
//!                 └ usage     └▶ output: data on stdout     └▶ failure: everything else on stderr
//! ```
//!
//! One module a command. What leaves the process goes through [`output`] and [`failure`] alone, so that "data on
//! stdout, the rest on stderr, and never a secret" has two places to be looked for.

mod cli;
mod commands;
mod failure;
mod open;
mod output;
mod redact;
mod run;
mod stop;
mod table;
mod terminal;
mod usage;
mod writer;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::main()
}
