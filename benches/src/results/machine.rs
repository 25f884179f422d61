//! When, where and how figures were made.

use crate::usage;
use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Command;

/// When, where and how figures were made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Made {
    /// What to type to make them again.
    pub command: String,
    /// When it began, in UTC.
    pub date: String,
    /// Processor, cores, memory and kernel.
    pub machine: String,
    /// The compiler.
    pub rustc: String,
    /// The commit that was measured; with a `+` where files had been changed since.
    pub commit: String,
    /// Processes that wanted to run in the minute before, on average.
    pub load_before: Option<f64>,
}

impl Made {
    /// Now, here, by `cargo xtask bench` of this name, with those flags that were given.
    pub fn now(bench: &str, flags: &[(bool, &str)]) -> Self {
        let given = flags.iter().filter(|(given, _)| *given).map(|(_, flag)| format!(" {flag}"));
        Made {
            command: format!("cargo xtask bench {bench}{}", given.collect::<String>()),
            date: said("date", &["-u", "+%Y-%m-%d %H:%M"]),
            machine: machine(),
            rustc: said("rustc", &["--version"]),
            commit: commit(),
            load_before: usage::load(),
        }
    }
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpus, "model name").unwrap_or("unknown processor");
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: f64 = field(&memory, "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse().ok())
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores, {:.0} GiB, Linux {}", kib / 1048576.0, said("uname", &["-r"]))
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

fn commit() -> String {
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no", "--", "crates"]);
    said("git", &["rev-parse", "--short", "HEAD"]) + if changed.is_empty() { "" } else { "+" }
}

/// What a program says, or `unknown`.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(|| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().into())
}
