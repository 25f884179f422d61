//! MEMORY: publish, worker, handler, acknowledgement.

use crate::Effort;
use ductape_benches::ours::{BOUND, Ours, publish_and_handle};
use ductape_benches::report::{Report, Target};
use ductape_benches::spread::{Rounds, rate, timed};
use ductape_benches::workload::{BATCH, raw};
use ductape_benches::{Result, channel, child};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Messages of the shorter of two runs whose difference is counted.
const COUNTED: u64 = 20_000;

pub(crate) fn measure(report: &mut Report, effort: Effort) -> Result<()> {
    report.part(&format!("MEMORY: publish in batches of {BATCH}, worker, handler, ack"));
    instructions(report)?;
    allocations(report)?;
    beside_a_channel(report, effort)
}

fn instructions(report: &mut Report) -> Result<()> {
    let workloads = [("64 B raw", "memory-raw", 600.0), ("JSON of five fields", "memory-json", 1500.0)];
    for (payload, workload, bound) in workloads {
        let name = format!("instructions a message, {payload}");
        if !child::has("valgrind") {
            report.skip(&name, "valgrind is not installed");
            continue;
        }
        let count = |messages: u64| child::instructions("probe", &[workload, &messages.to_string()]);
        let (some, more) = (count(COUNTED)?, count(2 * COUNTED)?);
        let each = more.saturating_sub(some) as f64 / COUNTED as f64;
        let detail = format!("callgrind, {} messages less {COUNTED}", 2 * COUNTED);
        report.line(&name, each, "", Target::AtMost(bound), &detail);
    }
    Ok(())
}

/// What a batch allocates is shared by its messages: "none a message" is less than one in ten messages.
fn allocations(report: &mut Report) -> Result<()> {
    let each = child::number("allocations", &[COUNTED.to_string().as_ref()])?;
    let detail = format!("the payload's own not counted; {:.1} a batch", each * BATCH as f64);
    report.line("allocations a message, 64 B raw", each, "", Target::AtMost(0.1), &detail);
    Ok(())
}

fn beside_a_channel(report: &mut Report, effort: Effort) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let count = 2_000_000 / effort.divisor;
    let (mut ours, mut bare, mut batched) = (Rounds::default(), Rounds::default(), Rounds::default());
    for _ in 0..effort.rounds {
        bare.push(on(&runtime, count, channel::one_by_one(raw(64), count, BOUND))?);
        ours.push(on(&runtime, count, async {
            publish_and_handle(Arc::new(Ours::memory().await?), raw(64), count, BATCH).await
        })?);
        batched.push(on(&runtime, count, channel::in_batches(raw(64), count, BOUND))?);
    }
    let detail = format!("messages/s: ours {ours}, channel {bare}");
    report.line(
        "rate beside a bounded channel",
        ours.median() / bare.median(),
        "x",
        Target::AtLeast(0.5),
        &detail,
    );
    let detail = format!("messages/s: channel with recv_many {batched}");
    report.told("rate beside one that receives in batches", ours.median() / batched.median(), "x", &detail);
    Ok(())
}

fn on(runtime: &Runtime, count: u64, work: impl Future<Output = Result<()>>) -> Result<f64> {
    Ok(rate(count, runtime.block_on(timed(work))?))
}
