//! What the benchmarks share: the workloads, both sides of each comparison, medians, and the report.
//!
//! `cargo xtask bench embedded` runs the binary `embedded`. It measures both sides of a comparison in turn, in
//! one run, and starts the binaries `probe` and `allocations` for what needs a process of its own: instruction
//! counts under valgrind, calls counted by strace, resident memory, an idle subscriber's time.
#![allow(clippy::print_stdout, reason = "the report goes to the terminal")]

pub mod channel;
pub mod child;
pub mod contestants;
pub mod observed;
pub mod ours;
pub mod raw_sqlite;
pub mod referee;
pub mod report;
pub mod results;
pub mod server;
pub mod spread;
pub mod workload;

pub use ductape_contest::usage;

/// Whatever goes wrong ends the benchmark with its words.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
