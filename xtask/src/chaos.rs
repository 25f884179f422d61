//! `cargo xtask chaos`: builds the fault harness in release mode and lets it do the work.

use crate::{Failure, Outcome, process};

const PACKAGE: &str = "ductape-chaos";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let run = ["run", "--quiet", "--release", "--package", PACKAGE, "--bin", "chaos", "--"];
    let status = process::run(process::cargo(&run).args(arguments))?;
    status.success().then_some(()).ok_or(Failure::Failed(String::new()))
}
