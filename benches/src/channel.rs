//! The baseline of MEMORY: a bare bounded channel that moves the same messages, and one counter of what arrived.

use crate::Result;
use crate::workload::BATCH;
use bytes::Bytes;
use ductape_core::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Moves `count` messages of this payload through a channel of `bound`, each sent and received by itself.
///
/// # Errors
/// Where one of both tasks fails.
pub async fn one_by_one(payload: Bytes, count: u64, bound: usize) -> Result<()> {
    moved(payload, count, bound, |mut receiver, acked| async move {
        while let Some(message) = receiver.recv().await {
            acknowledge(&message, &acked);
        }
    })
    .await
}

/// As [`one_by_one`], but received as many at once as there are. Told beside it, since it is the best that a
/// channel can do.
///
/// # Errors
/// Where one of both tasks fails.
pub async fn in_batches(payload: Bytes, count: u64, bound: usize) -> Result<()> {
    moved(payload, count, bound, |mut receiver, acked| async move {
        let mut batch = Vec::with_capacity(BATCH);
        while receiver.recv_many(&mut batch, BATCH).await > 0 {
            batch.drain(..).for_each(|message| acknowledge(&message, &acked));
        }
    })
    .await
}

fn acknowledge(message: &Message, acked: &AtomicU64) {
    std::hint::black_box(&message.payload);
    acked.fetch_add(1, Ordering::AcqRel);
}

async fn moved<F>(
    payload: Bytes,
    count: u64,
    bound: usize,
    consume: impl FnOnce(mpsc::Receiver<Message>, Arc<AtomicU64>) -> F,
) -> Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(bound);
    let acked = Arc::new(AtomicU64::new(0));
    let consumer = tokio::spawn(consume(receiver, Arc::clone(&acked)));
    tokio::spawn(send(sender, crate::ours::template(payload), count)).await??;
    consumer.await?;
    match acked.load(Ordering::Acquire) {
        arrived if arrived == count => Ok(()),
        arrived => Err(format!("{arrived} of {count} messages arrived").into()),
    }
}

async fn send(sender: mpsc::Sender<Message>, template: Message, count: u64) -> Result<()> {
    for _ in 0..count {
        sender.send(template.clone()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::raw;

    #[tokio::test]
    async fn both_ways_move_every_message() {
        one_by_one(raw(64), 1000, 16).await.unwrap();
        in_batches(raw(64), 1000, 16).await.unwrap();
    }
}
