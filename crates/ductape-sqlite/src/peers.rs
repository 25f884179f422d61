//! The processes that consume from the file: whether they live, and waking them.
//!
//! Each has one file beside the database, `<database>-peer-<id>`, that serves for both:
//!
//! - **Life.** The process holds a lock on it that the operating system takes away when the process ends, however
//!   it ends. Who gets the lock knows that the process is dead, and hands what it had to others at once instead of
//!   waiting for its leases.
//! - **Bell.** The process watches the file. Who commits something new for it touches the file; what is in it does
//!   not matter. Nobody polls, and a process is not woken by itself.

use crate::ids::PeerId;
use crate::wakes::Wakes;
use crate::{beside, error};
use ductape_core::Result;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{HashMap, HashSet};
use std::fs::{File, FileTimes, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// This process among those that consume from the file, and the others as far as it has to do with them.
pub(crate) struct Peers {
    database: PathBuf,
    wakes: Arc<Wakes>,
    own: Option<Own>,
    bells: HashMap<PeerId, File>,
}

struct Own {
    id: PeerId,
    /// Held for its lock. The file stays when this is dropped, for others to find it unlocked.
    _lock: File,
    /// `None` where the system would not watch; consumers then look by themselves once a second.
    _watcher: Option<RecommendedWatcher>,
}

impl Peers {
    /// The peers of this database, this process not yet among them.
    pub(crate) fn new(database: &Path, wakes: Arc<Wakes>) -> Self {
        let database = database.to_owned();
        Peers { database, wakes, own: None, bells: HashMap::new() }
    }

    /// This process, which becomes one of them by the first call.
    ///
    /// # Errors
    /// `STORAGE_FAILED` where the file cannot be made or locked.
    pub(crate) fn own(&mut self) -> Result<PeerId> {
        if let Some(own) = &self.own {
            return Ok(own.id);
        }
        let own = self.enter()?;
        Ok(self.own.insert(own).id)
    }

    /// This process, where it is one of them.
    pub(crate) fn own_if_any(&self) -> Option<PeerId> {
        self.own.as_ref().map(|own| own.id)
    }

    fn enter(&self) -> Result<Own> {
        loop {
            let id = PeerId(fastrand::i64(1..));
            let path = self.path(id);
            let lock = match beside::open_new(&self.database, &path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error::file(error, "make a file beside the database", &path)),
            };
            match lock.try_lock() {
                // Somebody may have taken the new file for a dead process's before it was locked.
                Ok(()) if path.exists() => {
                    let watcher = watch(&path, Arc::clone(&self.wakes));
                    return Ok(Own { id, _lock: lock, _watcher: watcher });
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error::file(error, "lock a file", &path)),
            }
        }
    }

    /// Wakes the consumers of these processes.
    pub(crate) fn ring(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        for peer in peers {
            if let Err(error) = self.touch(peer) {
                // It ended meanwhile, or it will look by itself within a second.
                self.bells.remove(&peer);
                tracing::debug!(%error, "a process could not be woken");
            }
        }
    }

    fn touch(&mut self, peer: PeerId) -> io::Result<()> {
        let path = self.path(peer);
        let bell = match self.bells.entry(peer) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => new.insert(open(&path)?),
        };
        match bell.set_times(FileTimes::new().set_modified(SystemTime::now())) {
            // Only its owner may set a file's times, but another user who may write it may ring as well.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bell.write_all(b"!"),
            rung => rung,
        }
    }

    /// Whether this process is certainly dead.
    pub(crate) fn is_dead(&self, peer: PeerId) -> bool {
        // A file that is gone proves nothing; then only the leases tell.
        open(&self.path(peer)).is_ok_and(|file| file.try_lock().is_ok())
    }

    /// Forgets a process that has nothing in the file any more.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.bells.remove(&peer);
        remove(&self.path(peer));
    }

    /// Removes the files of dead processes, but for those of which something is left in the database.
    pub(crate) fn remove_abandoned_files(&self, left: &[PeerId]) {
        let left: HashSet<_> = left.iter().map(|peer| self.path(*peer)).collect();
        let prefix = beside::path(&self.database, "-peer-");
        let (Some(folder), Some(prefix)) =
            (prefix.parent(), prefix.file_name().and_then(|name| name.to_str()))
        else {
            return;
        };
        let Ok(files) = std::fs::read_dir(folder) else { return };
        for file in files.filter_map(|file| file.ok()) {
            let is_peer = file.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
            // The lock is held while the file goes, so that who is about to lock it sees that it is lost.
            if is_peer
                && !left.contains(&file.path())
                && let Ok(abandoned) = open(&file.path())
                && abandoned.try_lock().is_ok()
            {
                remove(&file.path());
            }
        }
    }

    fn path(&self, peer: PeerId) -> PathBuf {
        beside::path(&self.database, &format!("-peer-{:016x}", peer.0))
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(%error, path = %path.display(), "a peer's file was left behind");
        }
        _ => {}
    }
}

fn watch(path: &Path, wakes: Arc<Wakes>) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        // Opening and closing the file are events too.
        if event.map_or(true, |event| event.kind.is_modify() || event.need_rescan()) {
            wakes.wake_all();
        }
    };
    let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
        watcher.watch(path, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| {
            tracing::warn!(%error, "no watching of files: messages of other processes are seen late");
        })
        .ok()
}
