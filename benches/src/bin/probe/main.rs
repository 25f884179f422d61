//! One workload in a process of its own, for those who measure it from outside: `probe WORKLOAD ARGUMENTS`.
//!
//! What it prints on its last line is the measurement, where it makes one itself.
#![allow(clippy::print_stdout, reason = "its output is what its parent reads")]

mod sqlite;

use ductape_benches::Result;
use ductape_benches::ours::{Ours, publish_and_handle};
use ductape_benches::workload::{BATCH, Counter, Order, order, raw};
use std::future::ready;
use std::sync::Arc;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // One thread, so that instruction counts repeat.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.as_slice() {
            ["memory-raw", count] => memory_raw(count.parse()?).await,
            ["memory-json", count] => memory_json(count.parse()?).await,
            ["sqlite-handle", path, count] => sqlite::handle(path.as_ref(), count.parse()?).await,
            ["sqlite-publish", path, count] => sqlite::publish(path.as_ref(), count.parse()?).await,
            ["sqlite-latency", path, count] => sqlite::latency(path.as_ref(), count.parse()?).await,
            ["sqlite-idle", path, seconds] => sqlite::idle(path.as_ref(), seconds.parse()?).await,
            ["sqlite-drain", path, count] => sqlite::drain(path.as_ref(), count.parse()?).await,
            other => Err(format!("there is no workload {other:?}").into()),
        }
    })
}

async fn memory_raw(count: u64) -> Result<()> {
    publish_and_handle(Arc::new(Ours::memory().await?), raw(64), count, BATCH).await
}

async fn memory_json(count: u64) -> Result<()> {
    let (ours, counter) = (Arc::new(Ours::memory().await?), Counter::default());
    let handled = counter.clone();
    let subscription = ours
        .subscribe(move |order: Order| {
            std::hint::black_box(&order);
            handled.add();
            ready(())
        })
        .await?;
    let publisher = Arc::clone(&ours);
    let payload = order()?;
    let published = tokio::spawn(async move { publisher.publish_all(&payload, count, BATCH).await });
    counter.reached(count).await;
    published.await??;
    subscription.stop().await?;
    Ok(())
}
