//! Taking turns at the file's write lock.
//!
//! SQLite's own lock is not fair: a process that commits and begins again at once leaves a moment of
//! microseconds in which another could get in, and so one busy publisher could starve every other process.
//! Therefore who wants the write lock first takes this one, waits for the write lock while holding it, and lets it
//! go once it has the write lock. A writer that comes again finds somebody else holding the turn, and waits.
//!
//! ```text
//!   A  ──turn──▶ begin … commit ──turn?───────── waits ─▶ turn ──▶ begin …
//!   B            turn ─── waits for write lock ──▶ begin … commit
//! ```

use crate::{beside, error};
use ductape_core::Result;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Waits begin this short, and double up to the most.
const FIRST_WAIT: Duration = Duration::from_micros(50);
const LONGEST_WAIT: Duration = Duration::from_millis(2);

/// The lock file beside the database.
pub(crate) struct Turn {
    file: File,
    path: PathBuf,
}

/// Has the turn until it is dropped.
pub(crate) struct Guard<'t>(&'t File);

impl Turn {
    /// Opens the lock file of this database, making it where it is not there.
    pub(crate) fn open(database: &Path) -> Result<Self> {
        let path = beside::path(database, "-turn");
        let file = beside::open(database, &path).map_err(|e| error::file(e, "make the lock file", &path))?;
        Ok(Turn { file, path })
    }

    /// Waits for the turn until the deadline.
    ///
    /// # Errors
    /// `STORAGE_FAILED` where another process keeps it, or the file system has no locks.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<Guard<'_>> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.file.try_lock() {
                Ok(()) => return Ok(Guard(&self.file)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(wait);
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Err(TryLockError::WouldBlock) => {
                    let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                    let error =
                        error::file(late, "get a turn at the file: another process keeps it", &self.path);
                    return Err(error.with_retry(ductape_core::error::Retry::Safe));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error::file(error, "lock a file: the file system has no locks", &self.path));
                }
            }
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the turn at the file was not given back");
        }
    }
}
