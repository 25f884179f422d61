//! SQLITE's yardstick: one connection, one transaction for each batch that goes in and each that comes out.

use crate::Result;
use crate::raw_sqlite::RawSqlite;
use bytes::Bytes;
use ductape_contest::{Contestant, Messages, Seen, Setup, Windows};
use ductape_core::config::Durability;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

pub(super) struct Contender {
    file: Arc<Mutex<RawSqlite>>,
    windows: Windows,
    /// How many messages have been committed.
    inserted: watch::Sender<u64>,
    /// Single messages, which a committer takes together.
    single: mpsc::Sender<(Bytes, oneshot::Sender<()>)>,
}

impl Contestant for Contender {
    async fn open(setup: &Setup) -> Result<Self> {
        let file = RawSqlite::create(&setup.folder.join("raw.db"), Durability::Full)?;
        let windows = Windows::of(setup.corpus);
        let (single, singles) = mpsc::channel(windows.messages());
        let (file, inserted) = (Arc::new(Mutex::new(file)), watch::Sender::new(0));
        tokio::spawn(commit_singles(singles, Arc::clone(&file), inserted.clone(), windows.batch));
        Ok(Contender { file, windows, inserted, single })
    }

    async fn publish(self: Arc<Self>, mut messages: Messages) -> Result<()> {
        while messages.left() > 0 {
            let batch: Vec<Bytes> = messages.batch(self.windows.batch).collect();
            insert(&self.file, &self.inserted, batch).await?;
        }
        Ok(())
    }

    async fn publish_one(self: Arc<Self>, message: Bytes) -> Result<()> {
        let (done, committed) = oneshot::channel();
        self.single.send((message, done)).await?;
        Ok(committed.await?)
    }

    async fn consume(self: Arc<Self>, seen: Seen) -> Result<()> {
        let (mut inserted, mut next) = (self.inserted.subscribe(), 0);
        while !seen.is_complete() {
            let there = *inserted.wait_for(|there| *there > next).await?;
            let end = there.min(next + self.windows.batch as u64);
            let (mut file, notes) = (Arc::clone(&self.file).lock_owned().await, seen.clone());
            let taken = move || file.read_and_delete(next..end, |payload| _ = notes.take(payload));
            tokio::task::spawn_blocking(taken).await??;
            next = end;
        }
        Ok(())
    }
}

async fn insert(
    file: &Arc<Mutex<RawSqlite>>,
    inserted: &watch::Sender<u64>,
    batch: Vec<Bytes>,
) -> Result<()> {
    let mut file = Arc::clone(file).lock_owned().await;
    let there = tokio::task::spawn_blocking(move || file.insert(&batch)).await??;
    inserted.send_modify(|inserted| *inserted = there.max(*inserted));
    Ok(())
}

/// What waits when a commit ends shares the next one.
async fn commit_singles(
    mut singles: mpsc::Receiver<(Bytes, oneshot::Sender<()>)>,
    file: Arc<Mutex<RawSqlite>>,
    inserted: watch::Sender<u64>,
    most: usize,
) {
    let mut waiting = Vec::with_capacity(most);
    while singles.recv_many(&mut waiting, most).await > 0 {
        let (batch, done): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
        // Whoever waits sees that the answer does not come.
        if insert(&file, &inserted, batch).await.is_err() {
            return;
        }
        done.into_iter().for_each(|done| _ = done.send(()));
    }
}
