//! What a message costs in this provider: publish, receive and settle, in batches, counted by valgrind.
//!
//! ```text
//! cargo build --release -p ductape-memory --example instructions
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='*measured*' \
//!     target/release/examples/instructions 200000 256
//! ```
//!
//! "Collected" divided by the messages is instructions a message, batches and futures included; making the
//! messages and dropping the deliveries are not in it, since they are the callers'. A second run with twice
//! the messages under `--tool=memcheck` shows by the difference in "allocs" that none is made a message.

use ductape_core::config::{MemoryConfig, ProviderConfig};
use ductape_core::message::{Attributes, IdSource, OCTET_STREAM};
use ductape_core::{
    ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Error, Message, Position, Provider,
    Publisher, Result, Settlement, Timestamp, Verdict,
};
use ductape_memory::MemoryProvider;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const PAYLOAD: &[u8] = &[7; 64];

#[inline(never)]
fn measured_publish(publisher: &dyn Publisher, batch: Vec<Message>) -> Vec<Result<Position>> {
    at_once(publisher.publish(batch)).unwrap_or_default()
}

#[inline(never)]
fn measured_receive(consumer: &dyn Consumer, max: usize) -> Result<Vec<Delivery>> {
    at_once(consumer.receive(max, Duration::from_secs(1))).unwrap_or_else(|| Ok(Vec::new()))
}

#[inline(never)]
fn measured_settle(consumer: &dyn Consumer, batch: Vec<Settlement>) -> Vec<Result<()>> {
    at_once(consumer.settle(batch)).unwrap_or_default()
}

/// The output of a future that is ready at its first poll, as all are here: there is room, and there are messages.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (messages, batch) = (number(200_000)?, number(256)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    // Without a budget, so that every future is ready at its first poll.
    Ok(runtime.block_on(tokio::task::coop::unconstrained(run(messages, batch)))?)
}

async fn run(messages: usize, batch: usize) -> Result<(), Error> {
    let config = ProviderConfig::Memory(MemoryConfig::default());
    let broker = MemoryProvider::isolated().connect(&config, &ConnectOptions::default()).await?;
    let destination = Destination::new("orders", "billing");
    broker.ensure(&destination).await?;
    let publisher = broker.publisher(&destination).await?;
    let options = ConsumerOptions { max_in_flight: batch, ..ConsumerOptions::new("billing") };
    let consumer = broker.consumer(&destination, &options).await?;
    let attributes = Arc::new(Attributes {
        source: "/shop".into(),
        event: "shop:orders".into(),
        content_type: OCTET_STREAM.into(),
    });
    let mut ids = IdSource::new();
    for _ in 0..messages / batch {
        let time = Timestamp::from_micros(0);
        let make = |_| Message::new(PAYLOAD, ids.next(time), time, Arc::clone(&attributes));
        for result in measured_publish(&*publisher, (0..batch).map(make).collect()) {
            result?;
        }
        let deliveries = measured_receive(&*consumer, batch)?;
        let ack = |d: Delivery| Settlement { token: d.token, verdict: Verdict::Ack };
        for result in measured_settle(&*consumer, deliveries.into_iter().map(ack).collect()) {
            result?;
        }
    }
    let left = broker.inspect(&destination).await?.messages;
    assert_eq!(left, Some(0), "messages are left, so not all was measured");
    Ok(())
}
