//! Workloads on a file that another process may have open too.

use ductape_benches::Result;
use ductape_benches::ours::{Ours, publish_and_handle};
use ductape_benches::spread::percentile;
use ductape_benches::usage::{peak_resident_kib, processor_time};
use ductape_benches::workload::{BATCH, Counter, age, raw};
use ductape_core::Delivery;
use ductape_core::config::Durability;
use std::future::ready;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Publishes so many messages, one after the other.
pub(crate) async fn publish(path: &Path, count: u64) -> Result<()> {
    let sqlite = Ours::sqlite(path, Durability::Full).await?;
    sqlite.publish_all(&raw(64), count, 1).await?;
    sqlite.close().await
}

/// Says `ready`, then the median age of so many messages in milliseconds.
pub(crate) async fn latency(path: &Path, count: u64) -> Result<()> {
    let (sqlite, counter) = (Ours::sqlite(path, Durability::Normal).await?, Counter::default());
    let ages = Arc::new(Mutex::new(Vec::new()));
    let (noted, handled) = (Arc::clone(&ages), counter.clone());
    let subscription = sqlite
        .subscribe(move |delivery: Delivery| {
            noted.lock().unwrap_or_else(PoisonError::into_inner).extend(age(&delivery.message.payload));
            handled.add();
            ready(())
        })
        .await?;
    println!("ready");
    counter.reached(count).await;
    println!("{}", percentile(&ages.lock().unwrap_or_else(PoisonError::into_inner), 0.5));
    subscription.stop().await?;
    sqlite.close().await
}

/// Prints what a subscriber with nothing to do takes of a core, in percent.
pub(crate) async fn idle(path: &Path, seconds: u64) -> Result<()> {
    let sqlite = Ours::sqlite(path, Durability::Full).await?;
    let subscription = sqlite.count(&Counter::default()).await?;
    // Opening and its first looks are not idling.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (start, before) = (Instant::now(), processor_time()?);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = processor_time()?.saturating_sub(before);
    println!("{}", used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0);
    subscription.stop().await?;
    sqlite.close().await
}

/// Publishes and handles, as most of the comparisons do.
pub(crate) async fn handle(path: &Path, count: u64) -> Result<()> {
    let sqlite = Arc::new(Ours::sqlite(path, Durability::Normal).await?);
    publish_and_handle(Arc::clone(&sqlite), raw(64), count, BATCH).await?;
    sqlite.close().await
}

/// Works off a backlog, and prints the most memory that this process ever had resident, in KiB.
pub(crate) async fn drain(path: &Path, count: u64) -> Result<()> {
    let (sqlite, counter) = (Ours::sqlite(path, Durability::Normal).await?, Counter::default());
    let subscription = sqlite.count(&counter).await?;
    counter.reached(count).await;
    subscription.stop().await?;
    sqlite.close().await?;
    println!("{}", peak_resident_kib()?);
    Ok(())
}
