//! MEMORY's yardstick: a bounded channel, whose every message is sent by itself and received with what is there.

use super::metadata::Ids;
use crate::Result;
use bytes::Bytes;
use ductape_contest::{Contestant, Messages, Seen, Setup, Windows};
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};

pub(super) struct Contender {
    sender: mpsc::Sender<Message>,
    receiver: Mutex<mpsc::Receiver<Message>>,
    windows: Windows,
}

/// A message of a service that does without a broker: its payload, and what it is known by.
struct Message {
    _id: [u8; 36],
    payload: Bytes,
}

impl Contestant for Contender {
    async fn open(setup: &Setup) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(setup.messages.max(1) as usize);
        Ok(Contender { sender, receiver: Mutex::new(receiver), windows: Windows::of(setup.corpus) })
    }

    async fn publish(self: Arc<Self>, messages: Messages) -> Result<()> {
        let mut ids = Ids::new();
        for payload in messages {
            self.sender.send(message(&mut ids, payload)).await?;
        }
        Ok(())
    }

    async fn publish_one(self: Arc<Self>, payload: Bytes) -> Result<()> {
        Ok(self.sender.send(message(&mut Ids::new(), payload)).await?)
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let mut receiver = self.receiver.lock().await;
        let mut batch = Vec::with_capacity(self.windows.batch);
        while !seen.is_complete() {
            receiver.recv_many(&mut batch, self.windows.batch).await;
            batch.drain(..).for_each(|message| _ = seen.take(&message.payload));
        }
        Ok(())
    }
}

fn message(ids: &mut Ids, payload: Bytes) -> Message {
    let mut id = [0; 36];
    id.copy_from_slice(ids.next().as_bytes());
    Message { _id: id, payload }
}
