//! What the server is told of verdicts: all that wait at once, by whose turn it is, and seen through before the end.

use super::RabbitMqConsumer;
use crate::outstanding::Ack;
use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind, Result};
use futures_util::future::Either;
use futures_util::stream::FuturesOrdered;
use futures_util::{Stream, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What the server is told at once.
struct Orders {
    acks: Vec<Ack>,
    requeues: Vec<u64>,
    /// Whether to ask the queue for a sign that it has them.
    asks: bool,
}

/// From so many acks on that would each be a frame it is worth waiting for those between them.
const SCATTERED: usize = 8;
const GATHERING: Duration = Duration::from_millis(1);

impl RabbitMqConsumer {
    fn is_scattered(&self) -> bool {
        let state = self.state();
        state.requeued.is_empty() && state.open.behind_an_open_one(&state.acked) >= SCATTERED
    }

    fn orders(&self) -> Orders {
        let mut state = self.state();
        let (acked, mut requeues) = (std::mem::take(&mut state.acked), std::mem::take(&mut state.requeued));
        // In the order they were delivered, which is the order in which they come again.
        requeues.sort_unstable();
        // AMQP answers no requeue. And whoever told the last ones may have gone away before they were written.
        let asks = !requeues.is_empty() || state.is_doubtful;
        state.is_doubtful = true;
        Orders { acks: state.open.acks(acked), requeues, asks }
    }

    /// Tells the server what is to be told, once it is this one's turn.
    pub(super) async fn tell_in_turn(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if self.is_scattered() {
            tokio::time::sleep(GATHERING).await;
        }
        let orders = self.orders();
        let told = tokio::time::timeout(self.link.limit, self.tell(orders)).await;
        let mut state = self.state();
        state.is_lost |= !matches!(told, Ok(Ok(())));
        state.is_doubtful = false;
        match told {
            // Whoever told ours before may have failed.
            Ok(Ok(())) if state.is_lost => Err(self.untold()),
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => Err(self.untold()),
        }
    }

    /// Verdicts of which the server may have been told. Their messages come again if it was not.
    fn untold(&self) -> Error {
        Error::new(ErrorKind::ConnectionLost, "the server took no verdicts in time")
            .with_retry(Retry::Uncertain)
            .with_context("destination", &self.destination.name)
            .with_context("group", &self.group)
    }

    async fn tell(&self, orders: Orders) -> lapin::Result<()> {
        let channel = &self.own.channel;
        let (count, started) = (orders.requeues.len() + orders.acks.len(), AtomicUsize::new(0));
        let requeue = BasicNackOptions { multiple: false, requeue: true };
        let requeues = orders.requeues.into_iter().map(|tag| Either::Left(channel.basic_nack(tag, requeue)));
        let acks = orders
            .acks
            .into_iter()
            .map(|Ack { tag, multiple }| Either::Right(channel.basic_ack(tag, BasicAckOptions { multiple })));
        let started = &started;
        let put = |frame| async move {
            started.fetch_add(1, Ordering::Relaxed);
            frame.await
        };
        // Requeues first: an ack that stands for many must not stand for them.
        let mut all: FuturesOrdered<_> = requeues.chain(acks).map(put).collect();
        begin(&mut all, started, count)?;
        while let Some(sent) = all.next().await {
            sent?;
        }
        if orders.asks {
            // What is asked of the queue behind them is answered after them.
            self.look().await?;
        }
        Ok(())
    }

    async fn look(&self) -> lapin::Result<()> {
        let look = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        self.own.channel.queue_declare(self.queue.as_str().into(), look, FieldTable::default()).await?;
        Ok(())
    }

    /// Sees that verdicts reach the queue. While a quorum queue is behind, the server keeps them with the channel, and a
    /// channel that ends forgets them. What is asked of the queue itself is answered behind all that was passed on to it;
    /// what was kept is passed on then, before the channel looks at what it is asked next.
    pub(super) async fn pass_on(&self) -> lapin::Result<()> {
        let channel = &self.own.channel;
        let mut next_in_line = None;
        if self.destination.ordered {
            // A cancel would let another member go on before what is unsettled here. One that queues up behind this
            // consumer gets nothing, and ends with it.
            // The server names it, since a close that was cut short may have left one.
            let (name, unnamed) = (self.queue.as_str().into(), ShortString::default());
            let consume =
                channel.basic_consume(name, unnamed, BasicConsumeOptions::default(), FieldTable::default());
            next_in_line = Some(consume.await?);
        } else {
            channel.basic_cancel(self.tag.clone(), BasicCancelOptions::default()).await?;
        }
        self.look().await?;
        self.look().await?;
        drop(next_in_line);
        Ok(())
    }
}

/// Puts all frames on the channel: the first poll of each does, and one look may not poll them all. So a caller that goes
/// away later leaves nothing half said.
fn begin(
    all: &mut (impl Stream<Item = lapin::Result<()>> + Unpin),
    started: &AtomicUsize,
    count: usize,
) -> lapin::Result<()> {
    // Whoever waits for them polls again, and is woken then.
    let mut cx = Context::from_waker(Waker::noop());
    while started.load(Ordering::Relaxed) < count {
        if let Poll::Ready(Some(sent)) = all.poll_next_unpin(&mut cx) {
            sent?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    /// Is done at the second poll, and woken for it during the first, as by an answer that is quick.
    async fn quick(started: &AtomicUsize) -> lapin::Result<()> {
        started.fetch_add(1, Ordering::Relaxed);
        let mut is_first = true;
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if std::mem::take(&mut is_first) { Poll::Pending } else { Poll::Ready(Ok(())) }
        })
        .await
    }

    #[test]
    fn every_frame_is_begun_though_others_are_done_meanwhile() {
        let started = AtomicUsize::new(0);
        let mut all: FuturesOrdered<_> = (0..100).map(|_| quick(&started)).collect();
        assert!(all.poll_next_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(started.load(Ordering::Relaxed) < 100, "one look polls them all");
        begin(&mut all, &started, 100).unwrap();
        assert_eq!(started.load(Ordering::Relaxed), 100);
    }
}
