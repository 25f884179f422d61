//! 6,099 real flight departures through a broker: two groups, retries, dead letters, and a table of the result.
//!
//! `cargo run --example departures -- [--env dev|mem|prd]`
//!
//! The flights are those that left New York's three airports in the first week of 2013 (nycflights13, CC0).

#![allow(clippy::print_stdout, reason = "the table is the example's result")]

mod board;
mod program;

use std::path::Path;

#[tokio::main]
async fn main() -> ductape::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/departures");
    let env = env_argument().unwrap_or_else(|| "dev".into());
    let report = program::run(&folder.join("ductape.yaml"), &env).await?;
    println!("{report}");
    Ok(())
}

/// The value of `--env`.
fn env_argument() -> Option<String> {
    let mut arguments = std::env::args().skip(1);
    arguments.find(|argument| argument == "--env")?;
    arguments.next()
}
