//! Publish and consume on the embedded providers under criterion: `cargo bench -p ductape-benches`.
//!
//! For watching one number while one changes the code. What the README says of speed is printed by
//! `cargo xtask bench embedded`.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ductape_benches::ours::{BOUND, Ours, publish_and_handle};
use ductape_benches::workload::{BATCH, raw};
use ductape_benches::{Result, channel};
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// Messages of one iteration.
const MESSAGES: u64 = 20_000;

fn memory(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("memory");
    group.throughput(Throughput::Elements(MESSAGES));
    for len in [64, 1024] {
        group.bench_with_input(BenchmarkId::new("publish and handle", len), &len, |bencher, len| {
            bencher.to_async(&runtime).iter(|| async { done(on_memory(*len).await) });
        });
        group.bench_with_input(BenchmarkId::new("bounded channel", len), &len, |bencher, len| {
            bencher
                .to_async(&runtime)
                .iter(|| async { done(channel::one_by_one(raw(*len), MESSAGES, BOUND).await) });
        });
    }
    group.finish();
}

async fn on_memory(len: usize) -> Result<()> {
    publish_and_handle(Arc::new(Ours::memory().await?), raw(len), MESSAGES, BATCH).await
}

fn runtime() -> Runtime {
    done(Builder::new_multi_thread().enable_all().build().map_err(Into::into))
}

/// A benchmark that fails has no number to give.
fn done<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

criterion_group!(benches, memory);
criterion_main!(benches);
