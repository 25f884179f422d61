//! Prints how many allocations each further message costs on the raw path of MEMORY, payloads not counted.
//!
//! A binary of its own, since counting would weigh on every other measurement.
#![allow(clippy::print_stdout, reason = "its output is what its parent reads")]

use ductape_benches::Result;
use ductape_benches::ours::{Ours, publish_and_handle};
use ductape_benches::workload::{BATCH, raw};
use ductape_contest::allocator::{Counting, allocations};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<()> {
    let count = std::env::args().nth(1).ok_or("allocations COUNT")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The first run grows what is kept.
    let (_, some, more) = (of(&runtime, count)?, of(&runtime, count)?, of(&runtime, 2 * count)?);
    println!("{}", (more as f64 - some as f64) / count as f64);
    Ok(())
}

fn of(runtime: &tokio::runtime::Runtime, count: u64) -> Result<u64> {
    let before = allocations();
    runtime.block_on(async {
        publish_and_handle(Arc::new(Ours::memory().await?), raw(64), count, BATCH).await
    })?;
    Ok(allocations() - before)
}
