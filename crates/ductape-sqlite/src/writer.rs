//! The thread that writes the file: one a file and process.
//!
//! ```text
//!  tasks ──push──▶ queue ──take──▶ turn ▶ BEGIN ▶ run every job ▶ sweep ▶ COMMIT ──▶ answers
//!                                                     │                               bells
//!                                     storage failed: ROLLBACK, then each job alone   checkpoint
//! ```
//!
//! All jobs that came while the last transaction was under way share the next one, and with it one fsync. A
//! transaction that holds a publish under `durability: full` waits for the disk; one of claims and settlements
//! alone does not, since losing those with the power merely delivers some messages again.

use crate::beside::Identity;
use crate::checkpoint::Checkpointer;
use crate::error::{self, Stage};
use crate::ids::PeerId;
use crate::opening::prepared;
use crate::queue::{Limit, Queue};
use crate::request::{Job, fail_all};
use crate::schema;
use crate::store::{Store, Transaction};
use crate::turn::Turn;
use crate::wakes::Wakes;
use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind, Result};
use rusqlite::config::DbConfig;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one transaction may hold, so that none takes long.
const LIMIT: Limit = Limit { jobs: 1024, bytes: 8 << 20 };

/// How often other processes are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The thread's own state.
struct Writer {
    path: PathBuf,
    /// The file that is open, which the path may name no more.
    identity: Identity,
    wakes: Arc<Wakes>,
    /// How long another process may keep the write lock.
    patience: Duration,
    turn: Turn,
    /// Before the store, since its connection is to be closed before the store's.
    checkpointer: Checkpointer,
    store: Store,
    /// Whether commits wait for the disk, as the connection is set now.
    full: bool,
    /// Whether the connection is to be replaced before it is used again.
    spoiled: bool,
    looked: Instant,
}

/// A transaction that failed, all of it.
struct Failed {
    error: Error,
    /// Whether its jobs may fare better one by one.
    try_alone: bool,
}

/// Damage, after which the file is left as it is: writing on could make it worse.
struct Damage(Error);

/// Serves the queue until it is closed and empty.
pub(crate) fn run(path: &Path, queue: &Queue, wakes: Arc<Wakes>, patience: Duration) {
    // Nobody waits for a thread that is gone, whatever ended it.
    let _abandon = Abandon(queue);
    let mut writer = Writer::open(path, wakes, patience);
    while let Some(jobs) = queue.take(&LIMIT) {
        match &mut writer {
            Ok(open) => {
                if let Err(Damage(error)) = open.serve(jobs, false) {
                    writer = Err(error);
                }
            }
            Err(error) => fail_all(jobs, error),
        }
    }
    if let Ok(writer) = &mut writer {
        writer.say_goodbye();
    }
}

struct Abandon<'q>(&'q Queue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Writer {
    fn open(path: &Path, wakes: Arc<Wakes>, patience: Duration) -> Result<Self> {
        let deadline = Instant::now() + patience;
        schema::make(path)?;
        // Before it is opened: else another that takes its place in between would pass for it.
        let identity = Identity::of(path).map_err(|_| error::replaced(path))?;
        let connection = schema::open(path, deadline)?;
        let turn = Turn::open(path)?;
        let (connection, checkpointer) = prepared(connection, identity, &turn, path, deadline)?;
        let mut writer = Writer {
            path: path.to_owned(),
            identity,
            store: Store::new(connection, path, Arc::clone(&wakes)),
            wakes,
            patience,
            turn,
            checkpointer,
            full: false,
            spoiled: false,
            looked: Instant::now(),
        };
        writer.bury_the_dead().map_err(|Damage(error)| error)?;
        writer.store.remove_abandoned_files();
        Ok(writer)
    }

    /// Does the jobs and answers them. `doubtful` is whether an earlier commit of theirs may be on the disk.
    fn serve(&mut self, mut jobs: Vec<Box<dyn Job>>, doubtful: bool) -> Result<(), Damage> {
        match self.attempt(&mut jobs) {
            Ok((done, peers)) => {
                jobs.into_iter().for_each(Job::committed);
                self.follow(done, peers)
            }
            Err(failed) if jobs.len() == 1 || !failed.try_alone => {
                // Before anybody hears of it, and begins to save what can be saved.
                let checked = self.check(&failed.error);
                fail_all(jobs, &told(&failed.error, doubtful));
                checked
            }
            Err(failed) => {
                tracing::debug!(error = %failed.error, jobs = jobs.len(), "a transaction failed; trying each job alone");
                self.serve_each(jobs, doubtful || failed.error.retry() == Retry::Uncertain)
            }
        }
    }

    fn serve_each(&mut self, jobs: Vec<Box<dyn Job>>, doubtful: bool) -> Result<(), Damage> {
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            if let Err(Damage(error)) = self.serve(vec![job], doubtful) {
                fail_all(jobs.collect(), &told(&error, doubtful));
                return Err(Damage(error));
            }
        }
        Ok(())
    }

    /// Runs the jobs in one transaction. Answers what follows from it, and which processes are to be woken.
    fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(Transaction, HashSet<PeerId>), Failed> {
        self.begin(jobs.iter().any(|job| job.must_reach_disk()))?;
        let prepared = prepare(&mut self.store, jobs).map_err(|error| (error, Stage::Before));
        let committed = prepared.and_then(|peers| match execute(&self.store, "COMMIT") {
            Ok(()) => Ok(peers),
            Err(error) => Err((error, Stage::Commit)),
        });
        match committed {
            Ok(peers) => Ok((self.store.committed(), peers)),
            Err((error, stage)) => Err(self.roll_back(error, stage)),
        }
    }

    /// Takes the write lock, in turn with other processes.
    fn begin(&mut self, full: bool) -> Result<(), Failed> {
        let deadline = Instant::now() + self.patience;
        let unable = |error| Failed { error, try_alone: false };
        // What is written to a file that was deleted or replaced would be lost without a word.
        self.identity.check(&self.path).map_err(unable)?;
        self.reopen_if_spoiled(deadline).map_err(unable)?;
        let guard = self.turn.wait(deadline).map_err(unable)?;
        let storage = |error| unable(error::storage(error, Stage::Before, &self.path));
        if self.full != full {
            let pragma = if full { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.store.connection.execute_batch(pragma).map_err(storage)?;
            self.full = full;
        }
        loop {
            match execute(&self.store, "BEGIN IMMEDIATE") {
                Ok(()) => break,
                Err(error) if error::is_busy(&error) && Instant::now() < deadline => {}
                Err(error) => {
                    self.spoiled |= error::spoils_connection(&error);
                    return Err(storage(error));
                }
            }
        }
        drop(guard);
        Ok(())
    }

    fn roll_back(&mut self, error: rusqlite::Error, stage: Stage) -> Failed {
        self.store.rolled_back();
        self.spoiled |= error::spoils_connection(&error);
        // Some faults roll back by themselves.
        if !self.store.connection.is_autocommit() {
            self.spoiled |= execute(&self.store, "ROLLBACK").is_err();
        }
        let error = error::storage(error, stage, &self.path);
        if error.kind() == ErrorKind::StorageFull {
            // The log's room can be used again once it is moved.
            self.checkpointer.now(&self.store.connection);
        }
        Failed { try_alone: error.kind() != ErrorKind::StorageDamaged, error }
    }

    fn reopen_if_spoiled(&mut self, deadline: Instant) -> Result<()> {
        if !self.spoiled {
            return Ok(());
        }
        let connection = schema::open(&self.path, deadline)?;
        // Another connection counts versions in its own way.
        self.store.recent.forget();
        (self.store.connection, self.checkpointer) =
            prepared(connection, self.identity, &self.turn, &self.path, deadline)?;
        (self.full, self.spoiled) = (false, false);
        Ok(())
    }

    /// Whether the file can be used on. Where it cannot, it is left as it is.
    fn check(&mut self, error: &Error) -> Result<(), Damage> {
        if error.kind() != ErrorKind::StorageDamaged {
            return Ok(());
        }
        tracing::error!(%error, "the file is not used any more");
        self.leave_as_it_is();
        Err(Damage(error.replicate()))
    }

    /// What a committed transaction asks for besides its answers.
    fn follow(&mut self, done: Transaction, peers: HashSet<PeerId>) -> Result<(), Damage> {
        for destination in &done.to_wake {
            self.wakes.wake(*destination);
        }
        self.store.peers.ring(peers);
        self.checkpointer.after_commit(&self.store.connection, &self.turn);
        if self.looked.elapsed() >= LOOK_EVERY { self.bury_the_dead() } else { Ok(()) }
    }

    /// Gives what processes that died had in hand to others.
    fn bury_the_dead(&mut self) -> Result<(), Damage> {
        self.looked = Instant::now();
        // Where they cannot be read the next request will say why.
        for peer in self.store.other_peers().unwrap_or_default() {
            if self.store.peers.is_dead(peer) {
                self.bury(peer)?;
            }
        }
        Ok(())
    }

    /// Writes nothing to the file from here on, nor moves its log, not even at the close. Others see the lock gone.
    fn leave_as_it_is(&mut self) {
        self.checkpointer.stop();
        let option = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if let Err(error) = self.store.connection.set_db_config(option, true) {
            tracing::warn!(%error, "a damaged file may be written when it is closed");
        }
    }

    /// Gives what consumers of this process still have to others. Where that fails, others see the lock gone.
    fn say_goodbye(&mut self) {
        let own = self.store.peers.own_if_any();
        let buried = own.map_or(Ok(()), |own| self.bury(own));
        // By now another file may have the name, and a log of its own.
        if buried.is_ok() && self.identity.check(&self.path).is_err() {
            self.leave_as_it_is();
        }
    }

    /// Gives what a dead process had in hand to others. Where that fails its leases will end.
    fn bury(&mut self, peer: PeerId) -> Result<(), Damage> {
        let buried = self.begin(false).and_then(|()| {
            let prepared = self.store.bury(peer).and_then(|()| peers_to_wake(&self.store));
            match prepared.and_then(|peers| execute(&self.store, "COMMIT").map(|()| peers)) {
                Ok(peers) => Ok((self.store.committed(), peers)),
                Err(error) => Err(self.roll_back(error, Stage::Before)),
            }
        });
        match buried {
            Ok((done, peers)) => {
                tracing::debug!(peer = peer.0, "a process that consumed from the file is gone");
                self.store.peers.forget(peer);
                self.follow(done, peers)
            }
            Err(failed) => {
                tracing::warn!(error = %failed.error, "a dead process keeps its deliveries for now");
                self.check(&failed.error)
            }
        }
    }
}

/// What the callers of jobs hear of a failure. A commit that failed when the disk was to confirm it may have written
/// all: should the process die now, the next to open the file finds it, whatever failed since and was sure to.
fn told(error: &Error, doubtful: bool) -> Error {
    let error = error.replicate();
    if doubtful { error.with_retry(Retry::Uncertain) } else { error }
}

/// Does all of a transaction but its commit, and answers which processes it is to wake.
fn prepare(store: &mut Store, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<HashSet<PeerId>> {
    store.begun()?;
    for job in jobs {
        job.run(store)?;
    }
    store.sweep_all()?;
    peers_to_wake(store)
}

fn peers_to_wake(store: &Store) -> rusqlite::Result<HashSet<PeerId>> {
    let mut peers = HashSet::new();
    for destination in &store.transaction.to_wake {
        peers.extend(store.peers_of(*destination)?);
    }
    Ok(peers)
}

fn execute(store: &Store, sql: &str) -> rusqlite::Result<()> {
    store.statement(sql)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests;
