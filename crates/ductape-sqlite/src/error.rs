//! The faults of this provider: SQLite's codes as kinds with what may be tried again, and what a person may do.

use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind, ProviderKind};
use rusqlite::ErrorCode;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// What a request to the file may end with, apart from its answer.
pub(crate) enum Fault {
    /// The request alone is refused. It wrote nothing, and the rest of its transaction goes on.
    Refused(Error),
    /// The storage failed, and with it the transaction.
    Storage(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Storage(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Refused(error)
    }
}

/// How far a transaction had come when the storage failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before its commit: nothing happened.
    Before,
    /// In its commit: the disk may have it.
    Commit,
}

/// What a code of SQLite's means here.
struct Diagnosis {
    kind: ErrorKind,
    retry: Retry,
    message: &'static str,
    help: &'static str,
}

const FULL: Diagnosis = Diagnosis {
    kind: ErrorKind::StorageFull,
    retry: Retry::Safe,
    message: "the disk is full",
    help: "free space on the file's volume; what was taken is safe, and all goes on by itself once there is room",
};
const DAMAGED: Diagnosis = Diagnosis {
    kind: ErrorKind::StorageDamaged,
    retry: Retry::Never,
    message: "the file is damaged, or not a database; it is left as it is",
    help: "stop every program that uses it, then restore a backup, save what can be read with `sqlite3 FILE .recover`, \
           or move FILE, FILE-wal and FILE-shm away to begin anew",
};
const BUSY: Diagnosis = Diagnosis {
    kind: ErrorKind::StorageFailed,
    retry: Retry::Safe,
    message: "another process kept the file locked",
    help: "look for a program that holds a transaction open on the file, a database browser perhaps",
};
const READ_ONLY: Diagnosis = Diagnosis {
    kind: ErrorKind::StorageFailed,
    retry: Retry::Never,
    message: "the file may not be written",
    help: "allow this user to write the file and its folder",
};
const CANNOT_OPEN: Diagnosis = Diagnosis {
    kind: ErrorKind::StorageFailed,
    retry: Retry::Never,
    message: "the file cannot be opened",
    help: "see that `path` names a file that this user may read and write, in a folder where it may make files",
};
const DISK_FAILED: Diagnosis = Diagnosis {
    kind: ErrorKind::StorageFailed,
    retry: Retry::Safe,
    message: "the disk failed to read or write",
    help: "look for faults of the disk in the system's log, and at quotas and limits of a file's size",
};
const NO_MEMORY: Diagnosis = Diagnosis {
    kind: ErrorKind::StorageFailed,
    retry: Retry::Safe,
    message: "no memory left",
    help: "give the program more memory",
};
const UNFORESEEN: Diagnosis = Diagnosis {
    kind: ErrorKind::ProviderFailed,
    retry: Retry::Never,
    message: "SQLite answered something unforeseen",
    help: "report this, with the code",
};

/// `None` is a row that does not hold what it must.
fn diagnosis(code: Option<ErrorCode>) -> Diagnosis {
    match code {
        None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => DAMAGED,
        Some(ErrorCode::DiskFull) => FULL,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            BUSY
        }
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => READ_ONLY,
        Some(ErrorCode::CannotOpen) => CANNOT_OPEN,
        Some(ErrorCode::SystemIoFailure) => DISK_FAILED,
        Some(ErrorCode::OutOfMemory) => NO_MEMORY,
        Some(_) => UNFORESEEN,
    }
}

impl Diagnosis {
    fn error(self, file: &Path) -> Error {
        provider(self.kind, self.message)
            .with_retry(self.retry)
            .with_help(self.help)
            .with_context("file", file.display())
    }
}

/// The kind, the retry and the help of a fault of SQLite's.
pub(crate) fn storage(error: rusqlite::Error, stage: Stage, file: &Path) -> Error {
    let diagnosis = diagnosis(code(&error));
    // The log may be written by then, and only its index or the disk's word be missing.
    let late = matches!(code(&error), Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory));
    let uncertain = stage == Stage::Commit && late;
    let retry = if uncertain { Retry::Uncertain } else { diagnosis.retry };
    diagnosis.error(file).with_retry(retry).with_source(error)
}

/// SQLite's code; `None` where a row does not hold what it must.
fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.code),
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        _ => None,
    }
}

/// Whether a lock of another connection is all that stood in the way.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        code(error),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}

/// Whether the connection may be part of the fault, so that another should be opened.
pub(crate) fn spoils_connection(error: &rusqlite::Error) -> bool {
    !is_busy(error) && !matches!(code(error), Some(ErrorCode::DiskFull | ErrorCode::ReadOnly))
}

/// Something about the files beside the database failed.
pub(crate) fn file(error: std::io::Error, what: &str, path: &Path) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
        _ => ErrorKind::StorageFailed,
    };
    provider(kind, format!("cannot {what}"))
        .with_help("see that `path` is in a folder that this user may write, with room left")
        .with_context("file", path.display())
        .with_source(error)
}

/// A database that is another program's.
pub(crate) fn foreign(file: &Path) -> Error {
    provider(ErrorKind::StorageDamaged, "the file is another program's database; it is left as it is")
        .with_help("give `path` a file of its own")
        .with_context("file", file.display())
}

/// A database whose tables another release wrote.
pub(crate) fn newer(file: &Path, has: i64, knows: i64) -> Error {
    let message = format!("the file has format {has}, and this release knows {knows}; it is left as it is");
    provider(ErrorKind::StorageDamaged, message)
        .with_help("use the release of Ductape that wrote it, or a later one")
        .with_context("file", file.display())
}

/// A database without a byte whose log is not empty.
pub(crate) fn emptied(file: &Path) -> Error {
    provider(
        ErrorKind::StorageDamaged,
        "the file is empty, and its write-ahead log is not; both are left as they are",
    )
    .with_help("restore a backup, or move FILE, FILE-wal and FILE-shm away to begin anew")
    .with_context("file", file.display())
}

/// A database that was deleted or replaced while it was open.
pub(crate) fn replaced(file: &Path) -> Error {
    provider(ErrorKind::StorageDamaged, "the file was deleted or replaced while it was in use")
        .with_help("put it back, or leave the new one; then start every program again that uses it")
        .with_context("file", file.display())
}

/// A database that cannot have a write-ahead log, by which several processes share it.
pub(crate) fn no_log(file: &Path) -> Error {
    provider(ErrorKind::StorageFailed, "the file cannot have a write-ahead log")
        .with_help("let `path` lie in a file system with shared memory: a local disk, no network share")
        .with_context("file", file.display())
}

/// A folder where the database should be.
pub(crate) fn folder(path: &Path) -> Error {
    provider(ErrorKind::StorageFailed, "there is a folder where the file should be")
        .with_help("let `path` name a file, such as `.ductape/dev.db`")
        .with_context("file", path.display())
}

/// A database that this user may read at most.
pub(crate) fn read_only(file: &Path) -> Error {
    READ_ONLY.error(file)
}

/// The messages in the file take their most bytes.
pub(crate) fn full(destination: &str, max_bytes: i64, slowest: Option<(String, u64)>) -> Error {
    let message = format!("the messages in the file take their most, `maxBytes: {max_bytes}`");
    let error = provider(ErrorKind::DestinationFull, message)
        .with_context("destination", destination)
        .with_retry(Retry::Safe);
    match slowest {
        Some((group, lag)) => error.with_context("group", &group).with_help(format!(
            "the group `{group}` has {lag} messages to settle: start or speed up its subscribers, delete the \
             group if nobody needs it, or raise `maxBytes`"
        )),
        None => error.with_help("settle what waits in the file's other destinations, or raise `maxBytes`"),
    }
}

/// A message that would not fit into an empty file.
pub(crate) fn larger_than_the_file(destination: &str, bytes: i64, max_bytes: i64) -> Error {
    let message =
        format!("the message takes {bytes} bytes, and all in the file together `maxBytes: {max_bytes}`");
    provider(ErrorKind::MessageTooLarge, message)
        .with_context("destination", destination)
        .with_help("raise `maxBytes`, or publish less at once")
}

/// A destination that is not there and may not be made.
pub(crate) fn no_destination(destination: &str) -> Error {
    provider(ErrorKind::DestinationNotFound, "there is no such destination in the file")
        .with_context("destination", destination)
        .with_help("publish to it first, or allow it to be made with `provision: create`")
}

/// A group that is not there, or no longer.
pub(crate) fn no_group(destination: &str, group: &str) -> Error {
    provider(ErrorKind::GroupNotFound, "there is no such group")
        .with_context("destination", destination)
        .with_context("group", group)
        .with_help("open a subscription of the group to make it")
}

/// A delivery that is no longer this consumer's, or settled before.
pub(crate) fn lease_lost(destination: &str, group: &str) -> Error {
    provider(ErrorKind::LeaseLost, "the delivery is no longer this consumer's, or it is settled")
        .with_context("destination", destination)
        .with_context("group", group)
        .with_help("settle once, and within the lease or after extending it")
}

/// A value of the config that cannot be.
pub(crate) fn config(message: impl Into<String>, help: &str) -> Error {
    provider(ErrorKind::ConfigInvalid, message).with_help(help)
}

/// No answer from the file in time.
pub(crate) fn timeout(after: Duration, retry: Retry, file: &Path) -> Error {
    provider(ErrorKind::Timeout, format!("no answer within {after:?}"))
        .with_retry(retry)
        .with_help("the disk is slow, or another program keeps the file locked")
        .with_context("file", file.display())
}

/// The writer's thread is gone.
pub(crate) fn writer_gone(file: &Path) -> Error {
    provider(ErrorKind::ConnectionLost, "the thread that writes the file has ended")
        .with_retry(Retry::Uncertain)
        .with_help("try again: another takes its place. Report this, with what the log says of it")
        .with_context("file", file.display())
}

/// Something used after its close.
pub(crate) fn closed(what: impl fmt::Display) -> Error {
    Error::closed(what).with_context("provider", ProviderKind::Sqlite)
}

fn provider(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, message).with_context("provider", ProviderKind::Sqlite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32, stage: Stage) -> Error {
        let failure = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        storage(failure, stage, Path::new("a.db"))
    }

    #[test]
    fn a_fault_of_sqlite_gets_its_kind_and_its_retry() {
        use rusqlite::ffi::{
            SQLITE_BUSY, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR, SQLITE_NOMEM, SQLITE_NOTADB,
            SQLITE_READONLY,
        };
        let cases = [
            (SQLITE_FULL, Stage::Commit, ErrorKind::StorageFull, Retry::Safe),
            (SQLITE_CORRUPT, Stage::Before, ErrorKind::StorageDamaged, Retry::Never),
            (SQLITE_NOTADB, Stage::Before, ErrorKind::StorageDamaged, Retry::Never),
            (SQLITE_BUSY, Stage::Before, ErrorKind::StorageFailed, Retry::Safe),
            (SQLITE_READONLY, Stage::Before, ErrorKind::StorageFailed, Retry::Never),
            (SQLITE_IOERR, Stage::Before, ErrorKind::StorageFailed, Retry::Safe),
            (SQLITE_IOERR, Stage::Commit, ErrorKind::StorageFailed, Retry::Uncertain),
            (SQLITE_NOMEM, Stage::Before, ErrorKind::StorageFailed, Retry::Safe),
            (SQLITE_NOMEM, Stage::Commit, ErrorKind::StorageFailed, Retry::Uncertain),
        ];
        for (code, stage, kind, retry) in cases {
            let error = of(code, stage);
            assert_eq!((error.kind(), error.retry()), (kind, retry), "code {code} {stage:?}");
            assert_eq!(error.context("file"), Some("a.db"));
            assert!(error.help().is_some());
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_is_damage() {
        let error = storage(rusqlite::Error::InvalidQuery, Stage::Before, Path::new("a.db"));
        assert_eq!(error.kind(), ErrorKind::StorageDamaged);
    }
}
