//! Moving what is committed from the write-ahead log into the database, beside the writer.
//!
//! SQLite would do this inside the commit that happens to reach the limit, and let one publish in a thousand wait
//! for it. Here a thread with a connection of its own does it, while commits go on. SQLite can only begin the log
//! anew once all of it is moved; under load there is always a little more by then, so that the writer itself moves
//! that rest, which is short. Where several processes write at once even that may always leave some, so that past
//! a bound the writer keeps the others from writing while it moves the last.

use crate::turn::Turn;
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// From so many pages in the log on they are moved: 4 MiB.
const MOVE_FROM: i32 = 1000;
/// From so many pages on the writer waits for it, and keeps others from writing: 64 MiB. This bounds the log.
const WAIT_FROM: i32 = 16_000;
/// How long other processes may write on when the bound is reached; after the next commit it is tried again.
const TURN_PATIENCE: Duration = Duration::from_millis(500);
/// What the log's file is cut to when it begins anew.
pub(crate) const WAL_KEPT_BYTES: i64 = 16 << 20;

/// The writer's end of the thread, which ends with it.
pub(crate) struct Checkpointer {
    /// Pages in the log after the last commit.
    pages: Arc<AtomicI32>,
    /// `None` where there is no thread, and the writer does it alone.
    worker: Option<Worker>,
}

struct Worker {
    ask: Option<SyncSender<()>>,
    done: Receiver<()>,
    under_way: bool,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread, and lets the writer's connection count the log's pages.
    pub(crate) fn start(path: &Path, writer: &mut Connection) -> Result<Self> {
        let pages = Arc::new(AtomicI32::new(0));
        let counter = Arc::clone(&pages);
        writer.wal_hook(Some(move |_: &mut Wal, pages| {
            counter.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let connection = crate::schema::connect(path)?;
        // A connection that has read nothing does not know of the log, and would find nothing to move.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        // The writer's connection is closed after this one, and does it then.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let worker = Worker::start(connection).inspect_err(|error| {
            tracing::warn!(%error, "no thread for checkpoints");
        });
        Ok(Checkpointer { pages, worker: worker.ok() })
    }

    /// Moves what can be moved at once, by the writer itself.
    pub(crate) fn now(&self, writer: &Connection) {
        checkpoint(writer, CheckpointMode::PASSIVE);
    }

    /// To be called after each commit, when its answers are sent.
    pub(crate) fn after_commit(&mut self, writer: &Connection, turn: &Turn) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages >= WAIT_FROM {
            self.begin_anew(writer, turn);
        } else if let Some(worker) = &mut self.worker
            && (worker.under_way || pages >= MOVE_FROM)
        {
            let finished = worker.under_way && worker.is_done();
            if finished && pages >= MOVE_FROM {
                checkpoint(writer, CheckpointMode::PASSIVE);
            } else if !worker.under_way {
                worker.begin();
            }
        } else if pages >= MOVE_FROM {
            checkpoint(writer, CheckpointMode::PASSIVE);
        }
    }

    /// Moves all, so that the next commit of whatever process begins the log anew.
    fn begin_anew(&mut self, writer: &Connection, turn: &Turn) {
        if let Some(worker) = &mut self.worker {
            worker.finish();
        }
        // What remains is moved while nobody can add to it.
        match turn.wait(Instant::now() + TURN_PATIENCE) {
            Ok(_guard) => checkpoint(writer, CheckpointMode::RESTART),
            Err(error) => tracing::debug!(%error, "the write-ahead log grows on"),
        }
    }
}

impl Worker {
    fn start(connection: Connection) -> std::io::Result<Self> {
        let ((ask, asked), (finish, done)) = (sync_channel(1), sync_channel(1));
        let thread = thread::Builder::new().name("ductape-checkpoint".into());
        let thread = thread.spawn(move || work(&connection, &asked, &finish))?;
        Ok(Worker { ask: Some(ask), done, under_way: false, thread: Some(thread) })
    }

    fn begin(&mut self) {
        self.under_way = self.ask.as_ref().is_some_and(|ask| ask.try_send(()).is_ok());
    }

    fn is_done(&mut self) -> bool {
        let done = self.done.try_recv().is_ok();
        self.under_way &= !done;
        done
    }

    fn finish(&mut self) {
        if self.under_way {
            // It answers, or it is gone.
            let _ = self.done.recv();
            self.under_way = false;
        }
    }
}

impl Drop for Worker {
    /// Waits until the thread has closed its connection, so that who closed the file finds it closed.
    fn drop(&mut self) {
        drop(self.ask.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread for checkpoints panicked");
        }
    }
}

/// The thread's work.
fn work(connection: &Connection, asked: &Receiver<()>, finish: &SyncSender<()>) {
    while asked.recv().is_ok() {
        checkpoint(connection, CheckpointMode::PASSIVE);
        if finish.send(()).is_err() {
            return;
        }
    }
}

/// Moves what is committed. What cannot be moved now is moved after a later commit.
fn checkpoint(connection: &Connection, mode: CheckpointMode) {
    match connection.wal_checkpoint_v2(None::<&str>, mode) {
        // Another process is at it.
        Err(error) if crate::error::is_busy(&error) => {}
        // What is committed stays so.
        Err(error) => tracing::warn!(%error, "the write-ahead log could not be moved"),
        Ok((UNKNOWN, _)) => tracing::warn!("the write-ahead log is not known where it is to be moved"),
        Ok(_) => {}
    }
}

/// How many pages the log has, for a connection that does not know of it.
const UNKNOWN: i32 = -1;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    #[test]
    fn the_thread_moves_what_is_committed_while_the_writer_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", "wal").unwrap();
        writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        writer.execute_batch("CREATE TABLE t (x)").unwrap();
        let turn = Turn::open(&path).unwrap();
        let mut checkpointer = Checkpointer::start(&path, &mut writer).unwrap();
        let length = || std::fs::metadata(&path).unwrap().len();
        let before = length();
        let bytes = vec![7; 4096 * MOVE_FROM as usize];
        writer.execute("INSERT INTO t VALUES (?)", [&bytes]).unwrap();
        assert_eq!(length(), before);
        checkpointer.after_commit(&writer, &turn);
        let worker = checkpointer.worker.as_mut().unwrap();
        assert!(worker.under_way);
        worker.finish();
        assert!(length() >= bytes.len() as u64, "{} of {}", length(), bytes.len());
    }
}
