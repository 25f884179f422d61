//! One file as this process sees it: opened once, however many connections use it.

use crate::queue::Queue;
use crate::request::{Request, submit};
use crate::wakes::Wakes;
use crate::{error, writer};
use ductape_core::Result;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// The files that are open, by their canonical paths: two writers in one process would only fight.
static FILES: LazyLock<Mutex<HashMap<PathBuf, Weak<SharedFile>>>> = LazyLock::new(Mutex::default);

/// A file with its writer's thread, which ends when the last user lets go.
pub(crate) struct SharedFile {
    pub(crate) path: PathBuf,
    pub(crate) queue: Arc<Queue>,
    pub(crate) wakes: Arc<Wakes>,
    /// Told when the thread has closed the file.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl SharedFile {
    /// The file of this path, whose folder is made where it is not there. Whether it can be opened shows with the
    /// first request. `patience` is how long its writer waits for another process's lock.
    ///
    /// # Errors
    /// `STORAGE_FAILED` where the folder cannot be made.
    pub(crate) fn open(path: &Path, patience: Duration) -> Result<Arc<Self>> {
        let path = canonical(path)?;
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|_, file| file.strong_count() > 0);
        if let Some(file) = files.get(&path).and_then(Weak::upgrade)
            && !file.queue.is_closed()
        {
            return Ok(file);
        }
        let file = Arc::new(SharedFile::start(path.clone(), patience)?);
        files.insert(path, Arc::downgrade(&file));
        Ok(file)
    }

    fn start(path: PathBuf, patience: Duration) -> Result<Self> {
        let (queue, wakes) = (Arc::<Queue>::default(), Arc::<Wakes>::default());
        let (end, ended) = oneshot::channel();
        let own = (path.clone(), Arc::clone(&queue), Arc::clone(&wakes));
        let thread = std::thread::Builder::new().name("ductape-sqlite".into());
        let started = thread.spawn(move || {
            writer::run(&own.0, &own.1, own.2, patience);
            // Nobody may be waiting.
            let _ = end.send(());
        });
        started.map_err(|e| error::file(e, "start the thread that writes the file", &path))?;
        Ok(SharedFile { path, queue, wakes, ended: Mutex::new(Some(ended)) })
    }

    /// Asks the writer and waits for the answer, no longer than this.
    ///
    /// # Errors
    /// The request's own, `STORAGE_*`, `TIMEOUT`.
    pub(crate) async fn ask<R: Request>(&self, request: R, limit: Duration) -> Result<R::Answer> {
        submit(&self.queue, request).within(limit, &self.path).await
    }

    /// Lets go, and where this was the last user waits until the file is closed.
    pub(crate) async fn close(self: Arc<Self>, limit: Duration) {
        let Some(last) = Arc::into_inner(self) else { return };
        let ended = last.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(last);
        if let Some(ended) = ended {
            // The thread closes the file in any case; only the waiting has an end.
            let _ = tokio::time::timeout(limit, ended).await;
        }
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The one path of a file that may not be there yet.
fn canonical(path: &Path) -> Result<PathBuf> {
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let fault = |e| error::file(e, "make the folder", folder);
    std::fs::create_dir_all(folder).map_err(fault)?;
    let name = path.file_name().ok_or_else(|| {
        error::config("`path` does not end in a file's name", "write `path` as in `.ductape/dev.db`")
    })?;
    Ok(folder.canonicalize().map_err(fault)?.join(name))
}
