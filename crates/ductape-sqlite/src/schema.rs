//! The file's format: its tables, its version, and how a connection to it is opened.
//!
//! - `message` is the log: one row a message however many groups there are, the row ids of one destination side
//!   by side (see [`crate::ids`]). `finish` is the sum of the bytes of all messages of the destination up to this
//!   one, so that what any stretch takes is a difference of two.
//!   `digest` is a hash of all that the row holds of the publisher's, since SQLite itself sees damage to its own
//!   structures alone.
//! - `destination.swept`: all messages before it are deleted, but for those that are parked or claimed still;
//!   `trailing` and `trailing_bytes` say how many those are, and what they take.
//! - `consumer_group.head`: all messages from it on were never handed to this group.
//! - `claim`: what a consumer has in hand, one row for up to 256 deliveries (see [`crate::entries`]).
//! - `parked`: messages before `head` that nobody has in hand: retried, released, expired, or passed over since a
//!   message of the same key is in another consumer's hands. `floor` is when the message may go out, `due` when
//!   it is looked at next: later than `floor` where an earlier one of its key stands in its way.
//!
//! A message before `head` of a group and in neither of the last two is settled there.

use crate::error::{self, Fault, Stage};
use crate::turn::Guard;
use crate::{beside, checkpoint};
use ductape_core::Result;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::path::Path;
use std::time::{Duration, Instant};

/// `Duct`, in the file's header.
const APPLICATION_ID: i64 = 0x4475_6374;
/// Raised with every change of a table.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE destination (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    retain INTEGER,
    swept INTEGER NOT NULL,
    trailing INTEGER NOT NULL,
    trailing_bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE attributes (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    event TEXT NOT NULL,
    content_type TEXT NOT NULL,
    UNIQUE (source, event, content_type)
) STRICT;
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    attributes ANY NOT NULL,
    time INTEGER NOT NULL,
    uid ANY NOT NULL,
    finish INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    key BLOB,
    headers BLOB,
    extensions BLOB,
    payload BLOB NOT NULL
) STRICT;
CREATE VIEW message_bytes AS
    SELECT id, length(payload) + ifnull(length(key), 0) + ifnull(length(headers), 0)
        + ifnull(length(extensions), 0) AS bytes FROM message;
CREATE TABLE consumer_group (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    destination INTEGER NOT NULL,
    name TEXT NOT NULL,
    head INTEGER NOT NULL,
    claims INTEGER NOT NULL,
    UNIQUE (destination, name)
) STRICT;
CREATE TABLE consumer (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer_group INTEGER NOT NULL,
    peer INTEGER NOT NULL,
    member TEXT NOT NULL
) STRICT;
CREATE TABLE claim (
    id INTEGER PRIMARY KEY,
    consumer INTEGER NOT NULL,
    first INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    entries BLOB NOT NULL
) STRICT;
CREATE TABLE parked (
    consumer_group INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    key INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX parked_due ON parked (consumer_group, due, seq);
CREATE INDEX parked_key ON parked (consumer_group, key, seq) WHERE key <> 0;
";

/// How long SQLite itself waits for locks that are held for moments only: recovery, the end of a checkpoint.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);
const LOCK_POLL: Duration = Duration::from_micros(100);

/// Opens the file, makes it where it is not there, and refuses it where it is not ours. A file that is refused is
/// left as it was, and nothing is made beside it.
///
/// # Errors
/// `STORAGE_*`; a foreign, newer or damaged file as `STORAGE_DAMAGED`.
pub(crate) fn open(path: &Path, deadline: Instant) -> Result<Connection> {
    make(path)?;
    patiently(path, deadline, || {
        check_sound(path)?;
        let connection = connect(path)?;
        if connection.is_readonly("main")? {
            return Err(error::read_only(path).into());
        }
        version(&connection, path)?;
        Ok(connection)
    })
}

/// Makes the tables where the file is new, and sets what a writer's connection needs.
///
/// # Errors
/// As [`open`].
pub(crate) fn prepare(
    connection: &mut Connection,
    // One process at a time makes the tables and turns the journal over to WAL.
    _turn: &Guard<'_>,
    path: &Path,
    deadline: Instant,
) -> Result<()> {
    patiently(path, deadline, || make_tables(connection, path))?;
    set_up(connection).map_err(|error| error::storage(error, Stage::Before, path))
}

/// A connection as all have it. Its close leaves the log where it is, until somebody says otherwise: whoever writes does
/// once it is sure whose log that is.
pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // A file of the same name may have taken the place of the one that the log belongs to.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Else every range that is bound anew is planned anew, by statistics that this file has not.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Where an fsync leaves the data in the disk's own cache (macOS), this writes it out. Elsewhere it does nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.busy_handler(Some(|count: i32| {
        std::thread::sleep(LOCK_POLL);
        LOCK_POLL * count.unsigned_abs() < LOCK_PATIENCE
    }))?;
    Ok(connection)
}

/// Tries again for as long as another process's lock is all that stands in the way: one that closes the file last
/// keeps it locked until its log is moved.
fn patiently<T>(path: &Path, deadline: Instant, mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T> {
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(Fault::Refused(error)) => return Err(error),
            Err(Fault::Storage(error)) if error::is_busy(&error) && Instant::now() < deadline => {
                std::thread::sleep(LOCK_POLL);
            }
            Err(Fault::Storage(error)) => return Err(error::storage(error, Stage::Before, path)),
        }
    }
}

fn make_tables(connection: &mut Connection, path: &Path) -> Result<(), Fault> {
    let is_made = version(connection, path)?.is_some();
    // Also of a file that is: a copy by `VACUUM INTO` has no log.
    let is_wal = |row: &rusqlite::Row<'_>| Ok(row.get_ref(0)?.as_str()?.eq_ignore_ascii_case("wal"));
    if !connection.pragma_update_and_check(None, "journal_mode", "wal", is_wal)? {
        return Err(error::no_log(path).into());
    }
    if is_made {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster, where somebody deleted the lock file.
    if version(&transaction, path)?.is_none() {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(transaction.commit()?)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    // Checkpoints have their own policy; see `checkpoint`.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", checkpoint::WAL_KEPT_BYTES)?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The version of the file's tables; `None` where it has none yet.
fn version(connection: &Connection, path: &Path) -> Result<Option<i64>, Fault> {
    let read = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (read("application_id")?, read("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version) {
        (0, 0) if tables == 0 => Ok(None),
        (APPLICATION_ID, VERSION) => Ok(Some(version)),
        (APPLICATION_ID, version) => Err(error::newer(path, version, VERSION).into()),
        _ => Err(error::foreign(path).into()),
    }
}

/// Makes the file where it is not there, readable by its owner alone: payloads may be secret. SQLite gives its
/// log the same mode. A file that is there is not even opened: closing it would drop the locks that another
/// connection of this process has on it (POSIX `fcntl`).
pub(crate) fn make(path: &Path) -> Result<()> {
    match beside::private().create_new(true).open(path) {
        Ok(_) => Ok(()),
        Err(_) if path.is_dir() => Err(error::folder(path)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error::file(error, "make the file", path)),
    }
}

/// Refuses what SQLite would take for a new file although it is none: it would throw the log away.
fn check_sound(path: &Path) -> Result<(), Fault> {
    let len = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if len(path) == 0 && len(&beside::path(path, "-wal")) > 0 {
        return Err(error::emptied(path).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_writes_out_the_cache_of_the_disk_where_an_fsync_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        make(&path).unwrap();
        let connection = connect(&path).unwrap();
        let on: i64 = connection.pragma_query_value(None, "fullfsync", |row| row.get(0)).unwrap();
        assert_eq!(on, 1);
    }
}
