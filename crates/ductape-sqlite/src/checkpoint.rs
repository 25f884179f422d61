//! Moving what is committed from the write-ahead log into the database, beside the writer.
//!
//! SQLite would do this inside the commit that happens to reach the limit, and let one publish in a thousand wait
//! for it. Here a thread with a connection of its own does it, while commits go on. SQLite can only begin the log
//! anew once all of it is moved; under load there is always a little more by then, so that the writer itself moves
//! that rest, and waits for the disk to have it all. Where several processes write at once even that may always leave
//! some, so that past a bound the writer keeps the others from writing while it moves the last.

use crate::turn::Turn;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, InterruptHandle, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
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
    /// Pages in the log after the last commit that wrote; zero once that was looked at.
    pages: Arc<AtomicI32>,
    /// `None` where there is no thread, and the writer does it alone.
    worker: Option<Worker>,
    /// Whether the file is left as it is.
    is_stopped: bool,
}

struct Worker {
    ask: Option<SyncSender<()>>,
    done: Receiver<()>,
    under_way: bool,
    /// Whether it is to leave the file alone.
    stopped: Arc<AtomicBool>,
    interrupt: InterruptHandle,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is at.
enum Progress {
    Idle,
    UnderWay,
    /// It has just finished what it was asked.
    Finished,
    Gone,
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
        let worker = Worker::start(path).inspect_err(|error| {
            tracing::warn!(%error, "no thread for checkpoints");
        });
        Ok(Checkpointer { pages, worker: worker.ok(), is_stopped: false })
    }

    /// Moves what can be moved at once, by the writer itself.
    pub(crate) fn now(&mut self, writer: &Connection) {
        if self.is_stopped {
            return;
        }
        self.worker.iter_mut().for_each(Worker::finish);
        checkpoint(writer, CheckpointMode::PASSIVE);
    }

    /// To be called after each commit, when its answers are sent.
    pub(crate) fn after_commit(&mut self, writer: &Connection, turn: &Turn) {
        let pages = self.pages.swap(0, Ordering::Relaxed);
        if self.is_stopped {
            return;
        }
        if pages >= WAIT_FROM {
            return self.begin_anew(writer, turn);
        }
        let is_much = pages >= MOVE_FROM;
        match (self.worker.as_mut().map_or(Progress::Gone, Worker::look), &mut self.worker) {
            (Progress::Idle, Some(worker)) if is_much => worker.begin(),
            (Progress::Idle | Progress::UnderWay, _) => {}
            (Progress::Finished, _) if is_much => checkpoint(writer, CheckpointMode::PASSIVE),
            (Progress::Finished, _) => {}
            (Progress::Gone, worker) => {
                *worker = None;
                if is_much {
                    checkpoint(writer, CheckpointMode::PASSIVE);
                }
            }
        }
    }

    /// Leaves the file as it is from here on, whatever is under way.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
        if let Some(worker) = self.worker.take() {
            worker.stopped.store(true, Ordering::Release);
            // What it has not begun by now it does not begin.
            worker.interrupt.interrupt();
        }
    }

    /// Moves all, so that the next commit of whatever process begins the log anew.
    fn begin_anew(&mut self, writer: &Connection, turn: &Turn) {
        self.worker.iter_mut().for_each(Worker::finish);
        // What remains is moved while nobody can add to it.
        match turn.wait(Instant::now() + TURN_PATIENCE) {
            Ok(_guard) => checkpoint(writer, CheckpointMode::RESTART),
            Err(error) => tracing::debug!(%error, "the write-ahead log grows on"),
        }
    }
}

impl Worker {
    fn start(path: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let connection = crate::schema::connect(path)?;
        // A connection that has read nothing does not know of the log, and would find nothing to move.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let interrupt = connection.get_interrupt_handle();
        let ((ask, asked), (finish, done)) = (sync_channel(1), sync_channel(1));
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stopped);
        let thread = thread::Builder::new()
            .name("ductape-checkpoint".into())
            .spawn(move || work(&connection, &asked, &finish, &is_stopped))?;
        Ok(Worker { ask: Some(ask), done, under_way: false, stopped, interrupt, thread: Some(thread) })
    }

    fn begin(&mut self) {
        self.under_way = self.ask.as_ref().is_some_and(|ask| ask.try_send(()).is_ok());
    }

    fn look(&mut self) -> Progress {
        match self.done.try_recv() {
            Ok(()) => {
                self.under_way = false;
                Progress::Finished
            }
            Err(TryRecvError::Empty) if self.under_way => Progress::UnderWay,
            Err(TryRecvError::Empty) => Progress::Idle,
            Err(TryRecvError::Disconnected) => Progress::Gone,
        }
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
fn work(connection: &Connection, asked: &Receiver<()>, finish: &SyncSender<()>, stopped: &AtomicBool) {
    while asked.recv().is_ok() && !stopped.load(Ordering::Acquire) {
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
        // The file is to be left as it is.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {}
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

    struct File {
        folder: tempfile::TempDir,
        writer: Connection,
        turn: Turn,
        checkpointer: Checkpointer,
        /// The thread's end of what tells that it is done, where a test stands in for it.
        finish: Option<SyncSender<()>>,
    }

    impl File {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.db");
            let mut writer = Connection::open(&path).unwrap();
            writer.pragma_update(None, "journal_mode", "wal").unwrap();
            writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
            writer.execute_batch("CREATE TABLE t (x)").unwrap();
            let checkpointer = Checkpointer::start(&path, &mut writer).unwrap();
            File { turn: Turn::open(&path).unwrap(), writer, checkpointer, folder, finish: None }
        }

        /// Writes so many pages into the log.
        fn write(&self, pages: i32) -> u64 {
            let bytes = vec![7; 4096 * pages as usize];
            self.writer.execute("INSERT INTO t VALUES (?)", [&bytes]).unwrap();
            bytes.len() as u64
        }

        fn after_commit(&mut self) {
            self.checkpointer.after_commit(&self.writer, &self.turn);
        }

        fn worker(&mut self) -> &mut Worker {
            self.checkpointer.worker.as_mut().unwrap()
        }

        /// Whose thread has moved what there was, and nobody has looked yet.
        fn moved_unnoticed() -> Self {
            let mut file = File::new();
            file.write(MOVE_FROM);
            file.after_commit();
            file.worker().done.recv().unwrap();
            let (finish, unnoticed) = sync_channel(1);
            finish.send(()).unwrap();
            file.worker().done = unnoticed;
            file.finish = Some(finish);
            file
        }

        fn moved(&self) -> u64 {
            std::fs::metadata(self.folder.path().join("a.db")).unwrap().len()
        }
    }

    #[test]
    fn the_thread_moves_what_is_committed_while_the_writer_does_not() {
        let mut file = File::new();
        let (before, written) = (file.moved(), file.write(MOVE_FROM));
        assert_eq!(file.moved(), before);
        file.after_commit();
        assert!(file.worker().under_way);
        file.worker().finish();
        assert!(file.moved() >= written, "{} of {written}", file.moved());
    }

    #[test]
    fn it_is_not_asked_again_for_the_little_that_came_while_it_was_at_it() {
        let mut file = File::moved_unnoticed();
        file.write(1);
        file.after_commit();
        assert!(!file.worker().under_way);
    }

    #[test]
    fn it_is_not_asked_again_where_a_commit_wrote_nothing() {
        let mut file = File::moved_unnoticed();
        for _ in 0..2 {
            file.after_commit();
            assert!(!file.worker().under_way);
        }
    }

    #[test]
    fn a_file_that_is_to_be_left_alone_is_left_alone_at_once() {
        let mut file = File::new();
        file.write(MOVE_FROM);
        let before = file.moved();
        // What the thread begins now it ends at once, as where it is in the middle.
        file.worker().interrupt.interrupt();
        file.after_commit();
        file.checkpointer.stop();
        file.write(MOVE_FROM);
        file.after_commit();
        file.checkpointer.now(&file.writer);
        assert_eq!(file.moved(), before);
    }

    #[test]
    fn past_the_bound_the_writer_moves_all_that_the_thread_has_not() {
        let mut file = File::new();
        let first = file.write(MOVE_FROM);
        file.after_commit();
        let rest = file.write(WAIT_FROM);
        file.after_commit();
        assert!(!file.worker().under_way && file.moved() >= first + rest);
    }

    #[test]
    fn where_the_thread_is_gone_the_writer_does_its_work() {
        let mut file = File::new();
        drop(file.worker().ask.take());
        file.worker().thread.take().unwrap().join().unwrap();
        let written = file.write(MOVE_FROM);
        file.after_commit();
        assert!(file.checkpointer.worker.is_none());
        assert!(file.moved() >= written);
    }
}
