//! A catalogue in a file: found upward from a folder, locked while it is written, replaced as a whole.

use super::parse::{Format, read};
use super::store::{Snapshot, Store, conflict};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::rewrite;
use async_trait::async_trait;
use serde_json::Value;
use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The names that are looked for, in this order.
const NAMES: [&str; 4] = ["ductape.yaml", "ductape.yml", "ductape.json", "ductape.toml"];
/// How long to wait for another writer.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// The largest catalogue, in bytes.
const MAX_BYTES: u64 = 8 << 20;

/// The catalogue's file of a folder, or of the nearest above it that has one.
///
/// # Errors
/// `CATALOGUE_NOT_FOUND`, saying where it looked and how to make one.
pub fn find(from: &Path) -> Result<PathBuf> {
    let from = std::path::absolute(from).unwrap_or_else(|_| from.to_owned());
    let found = from.ancestors().flat_map(|dir| NAMES.map(|name| dir.join(name))).find(|path| path.is_file());
    found.ok_or_else(|| {
        let what = format!("no {} in {} or above it", NAMES.join(", "), from.display());
        Error::new(ErrorKind::CatalogueNotFound, what)
            .with_help("make one with `ductape init`, or name one with `--catalogue` or DUCTAPE_CATALOGUE")
    })
}

/// Keeps a catalogue in a file. Comments and order of what a change does not touch stay.
///
/// Writers take a lock on `.NAME.lock` beside the file, so that two of them never lose a change; what a reader sees is
/// always a whole catalogue.
#[derive(Clone, Debug)]
pub struct FileStore {
    path: PathBuf,
}

impl FileStore {
    /// A store of this file; its ending says how it is written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        FileStore { path: path.into() }
    }

    fn load_now(&self) -> Result<(Snapshot, String)> {
        let text = self.text()?;
        let (catalogue, document) =
            read(&text, Format::of(&self.path)).map_err(|error| self.located(error))?;
        let snapshot = Snapshot { catalogue: Arc::new(catalogue), document, revision: revision(&text) };
        Ok((snapshot, text))
    }

    fn text(&self) -> Result<String> {
        let read = || -> std::io::Result<String> {
            let metadata = fs::metadata(&self.path)?;
            if metadata.is_dir() {
                return Err(std::io::Error::other("it is a folder"));
            }
            if metadata.len() > MAX_BYTES {
                return Err(std::io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
            }
            fs::read_to_string(&self.path)
        };
        read().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorKind::CatalogueNotFound, format!("there is no {}", self.path.display()))
                    .with_help("make one with `ductape init`, or name another file")
            }
            _ => Error::new(ErrorKind::CatalogueInvalid, format!("{} cannot be read", self.path.display()))
                .with_source(error)
                .with_help("name a file that may be read and is UTF-8"),
        })
    }

    fn commit_now(&self, expected: &str, document: &Value) -> Result<Snapshot> {
        let _lock = self.lock()?;
        let (current, text) = self.load_now()?;
        if current.revision != expected {
            return Err(conflict(&self.path.display().to_string()));
        }
        let catalogue = super::parse::typed(document).map_err(|error| self.located(error))?;
        let format = Format::of(&self.path).inner();
        let changed = rewrite::rewrite(&text, format, document).map_err(|fault| {
            Error::new(ErrorKind::CatalogueInvalid, format!("the file cannot be changed: {}", fault.message))
                .with_context("line", fault.line)
                .with_help("make the change by hand")
                .with_context("file", self.path.display())
        })?;
        self.replace(&changed).map_err(|error| {
            Error::new(ErrorKind::StorageFailed, "the catalogue cannot be written")
                .with_source(error)
                .with_context("file", self.path.display())
                .with_help("see that its folder may be written to and has room; nothing was changed")
        })?;
        Ok(Snapshot {
            catalogue: Arc::new(catalogue),
            document: document.clone(),
            revision: revision(&changed),
        })
    }

    /// Waits for other writers. The lock goes with the handle, also when the process dies.
    fn lock(&self) -> Result<File> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let path = self.path.with_file_name(format!(".{name}.lock"));
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::StorageFailed, "the catalogue cannot be locked")
                .with_source(error)
                .with_context("file", path.display())
                .with_help("see that its folder may be written to")
        };
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        ErrorKind::CatalogueConflict,
                        "somebody else is writing the catalogue",
                    )
                    .with_retry(Retry::Safe)
                    .with_context("file", self.path.display())
                    .with_help("nothing was written; try again"));
                }
            }
        }
    }

    /// Writes beside it, makes that durable, and puts it in its place in one step.
    fn replace(&self, text: &str) -> std::io::Result<()> {
        // A link stays one: what it points to is replaced.
        let target = fs::canonicalize(&self.path)?;
        let dir = target.parent().unwrap_or(Path::new("."));
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.set_permissions(fs::metadata(&target)?.permissions())?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &target)?;
            File::open(dir)?.sync_all()
        };
        write().inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    fn located(&self, error: Error) -> Error {
        error.with_context("file", self.path.display())
    }
}

fn revision(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[async_trait]
impl Store for FileStore {
    async fn load(&self) -> Result<Snapshot> {
        let store = self.clone();
        blocking(move || store.load_now().map(|(snapshot, _)| snapshot)).await
    }

    async fn commit(&self, revision: &str, document: &Value) -> Result<Snapshot> {
        let (store, revision, document) = (self.clone(), revision.to_owned(), document.clone());
        blocking(move || store.commit_now(&revision, &document)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::new(ErrorKind::StorageFailed, "reading the catalogue ended badly").with_source(error))
        }
    }
}
