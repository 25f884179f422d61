//! What CI runs of the harness: each provider with 5,000 messages and six faults, three of them kills.
//!
//! A provider whose server is not installed is skipped, aloud.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "`cargo xtask test` lists what was skipped")]

use ductape_chaos::{Absent, CARRIERS, Fault, Options, run};
use std::io::Write;

const MESSAGES: u64 = 5_000;
const KILLS: usize = 3;
const OTHERS: usize = 3;
/// Faults that are left out, and why.
const WITHOUT: [(&str, Fault, &str); 1] = [(
    "AWS_SQS",
    Fault::ServerKill,
    "keys came out of order once ElasticMQ was killed; whether by it is open",
)];

/// One after another, so that what one needs of the machine is no fault of another.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_any_provider_while_everything_breaks() {
    let mut broken = Vec::new();
    for carrier in CARRIERS {
        let without: Vec<_> = WITHOUT.into_iter().filter(|(kind, ..)| *kind == carrier.kind).collect();
        for (kind, fault, why) in &without {
            say(&format!("skip {fault} on {kind} ({why})"));
        }
        let options = Options {
            kills: KILLS,
            faults: OTHERS,
            only: Fault::ALL
                .into_iter()
                .filter(|it| !without.iter().any(|(_, fault, _)| fault == it))
                .collect(),
            ..Options::new(carrier.kind, MESSAGES, env!("CARGO_BIN_EXE_chaos"))
        };
        match run(options).await {
            Ok(ended) => {
                println!("{}\n{}\ntook {:.1} s", carrier.kind, ended.report, ended.took.as_secs_f64());
                for (what, why) in &ended.skipped {
                    say(&format!("skip {what} on {} ({why})", carrier.kind));
                }
                if !ended.is_clean() {
                    broken.push(format!("{}: the logs are in {:?}", carrier.kind, ended.logs));
                }
            }
            Err(error) if error.is::<Absent>() => say(&format!("skip chaos on {} ({error})", carrier.kind)),
            Err(error) => broken.push(format!("{}: {error}", carrier.kind)),
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A line past the harness, which keeps what a test prints that passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "\n{line}");
}
