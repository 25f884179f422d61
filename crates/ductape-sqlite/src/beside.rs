//! The files beside the database: their names, and their mode and owner, which are the database's.

use crate::error;
use ductape_core::Result;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A file beside the database: its name and this ending.
pub(crate) fn path(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Opens a file beside the database, making it where it is not there. Whoever may use the database may use it.
pub(crate) fn open(database: &Path, path: &Path) -> io::Result<File> {
    let file = private().create(true).truncate(false).open(path)?;
    share(&file, database);
    Ok(file)
}

/// As [`open`], for a file that must not be there yet.
pub(crate) fn open_new(database: &Path, path: &Path) -> io::Result<File> {
    let file = private().create_new(true).open(path)?;
    share(&file, database);
    Ok(file)
}

/// Opening for reading and writing, where what is made is readable by its owner alone.
pub(crate) fn private() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Gives the file the owner and the mode of the database, as SQLite does with its log: else what root makes in
/// passing would lock the service's own user out. Who is neither owner nor root cannot, and need not: the file is
/// then another's who could.
#[cfg(unix)]
fn share(file: &File, database: &Path) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let (Ok(own), Ok(main)) = (file.metadata(), std::fs::metadata(database)) else { return };
    let mode = main.mode() & 0o666;
    let shared = (own.uid(), own.gid()) == (main.uid(), main.gid())
        || fchown(file, Some(main.uid()), Some(main.gid())).is_ok();
    if shared && own.mode() & 0o777 != mode && file.set_permissions(PermissionsExt::from_mode(mode)).is_err()
    {
        tracing::debug!(file = %database.display(), "the mode of a file beside the database stays as it is");
    }
}

#[cfg(not(unix))]
fn share(_: &File, _: &Path) {}

/// Which file a path names, to tell whether it still names the one that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity([u64; 2]);

impl Identity {
    /// # Errors
    /// `STORAGE_DAMAGED` where the path names another file now, or none.
    pub(crate) fn check(self, path: &Path) -> Result<()> {
        match Identity::of(path) {
            Ok(now) if now == self => Ok(()),
            _ => Err(error::replaced(path)),
        }
    }

    /// Of the file that the path names now.
    ///
    /// # Errors
    /// The system's, where there is none.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        #[cfg(unix)]
        return Ok(Identity([
            std::os::unix::fs::MetadataExt::dev(&metadata),
            std::os::unix::fs::MetadataExt::ino(&metadata),
        ]));
        #[cfg(not(unix))]
        {
            // Elsewhere an open file can neither be deleted nor replaced.
            drop(metadata);
            Ok(Identity([0; 2]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let kept = [open_new(&a, &a).unwrap(), open(&a, &b).unwrap()];
        let before = Identity::of(&a).unwrap();
        assert_eq!(Identity::of(&a).unwrap(), before);
        std::fs::rename(&b, &a).unwrap();
        assert_ne!(Identity::of(&a).unwrap(), before);
        assert!(Identity::of(&b).is_err());
        drop(kept);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_beside_has_the_mode_of_the_database() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        let file = open_new(&database, &database).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&database), 0o600);
        file.set_permissions(PermissionsExt::from_mode(0o664)).unwrap();
        let beside = path(&database, "-turn");
        drop(open(&database, &beside).unwrap());
        assert_eq!(mode(&beside), 0o664);
    }
}
