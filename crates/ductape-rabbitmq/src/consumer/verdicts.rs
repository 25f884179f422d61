//! What the server is told of verdicts: all that wait at once, by whose turn it is, and seen through before the end.

use super::RabbitMqConsumer;
use crate::outstanding::Ack;
use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind, Result};
use futures_util::StreamExt;
use futures_util::future::Either;
use futures_util::stream::FuturesOrdered;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use std::time::Duration;

/// What the server is told at once.
struct Orders {
    acks: Vec<Ack>,
    requeues: Vec<u64>,
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
        Orders { acks: state.open.acks(acked), requeues }
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
        let requeues_any = !orders.requeues.is_empty();
        let requeue = BasicNackOptions { multiple: false, requeue: true };
        let requeues = orders.requeues.into_iter().map(|tag| Either::Left(channel.basic_nack(tag, requeue)));
        let acks = orders
            .acks
            .into_iter()
            .map(|Ack { tag, multiple }| Either::Right(channel.basic_ack(tag, BasicAckOptions { multiple })));
        // Requeues first: an ack that stands for many must not stand for them. All frames are on the channel after
        // the first look, so a caller that goes away then leaves nothing half said.
        let mut all: FuturesOrdered<_> = requeues.chain(acks).collect();
        while let Some(sent) = all.next().await {
            sent?;
        }
        if requeues_any {
            // AMQP answers no requeue. What is asked of the queue behind it is answered after it.
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
