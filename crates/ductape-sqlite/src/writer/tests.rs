//! The writer against real files.

use super::*;
use crate::admin::{DeleteGroup, Ensure, Ping};
use crate::claims::{Claim, Member};
use crate::error::Fault;
use crate::log::Append;
use crate::members::{Join, Leave, Seat};
use crate::message::NewRow;
use crate::request::{Request, submit};
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{ConsumerOptions, Destination, Message, Timestamp};
use rusqlite::Connection;

fn new_file(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path).unwrap();
    path.canonicalize().unwrap()
}

fn open(path: &Path) -> Writer {
    Writer::open(path, Arc::default(), Duration::from_secs(10)).unwrap()
}

/// Begins a log that belongs to one file, and puts another in its place. What this holds.
fn replace(path: &Path, writer: &Writer, other: &Path) -> Vec<u8> {
    writer.store.connection.execute_batch("INSERT INTO destination VALUES (7, 'a', NULL, 0, 0, 0)").unwrap();
    drop(open(other));
    let held = std::fs::read(other).unwrap();
    std::fs::rename(other, path).unwrap();
    held
}

#[test]
fn a_file_that_took_the_place_of_ours_while_we_opened_it_gets_nothing_of_our_log() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (new_file(folder.path(), "a.db"), new_file(folder.path(), "b.db"));
    let (writer, identity) = (open(&path), Identity::of(&path).unwrap());
    let held = replace(&path, &writer, &other);
    // As where the connection is made anew, and as where the file was replaced after it was opened.
    let deadline = Instant::now() + Duration::from_secs(10);
    let of_other = schema::open(&path, deadline).unwrap();
    let prepared = prepared(of_other, identity, &writer.turn, &path, deadline);
    assert_eq!(prepared.err().unwrap().kind(), error::replaced(&path).kind());
    assert!(std::fs::read(&path).unwrap() == held, "it was written");
}

#[test]
fn a_copy_that_has_no_log_gets_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (new_file(folder.path(), "a.db"), folder.path().join("copy.db"));
    let vacuum = format!("VACUUM INTO '{}'", copy.display());
    open(&path).store.connection.execute_batch(&vacuum).unwrap();
    let mode = |connection: &Connection| -> String {
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap()
    };
    assert_eq!(mode(&Connection::open(&copy).unwrap()), "delete");
    assert_eq!(mode(&open(&copy).store.connection), "wal");
}

#[tokio::test]
async fn after_a_commit_that_may_be_on_the_disk_no_failure_is_a_sure_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = new_file(folder.path(), "a.db");
    let mut writer = Writer::open(&path, Arc::default(), Duration::from_millis(10)).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for (doubtful, retry) in [(false, Retry::Safe), (true, Retry::Uncertain)] {
        let queue = Arc::<Queue>::default();
        let asked = [submit(&queue, Ping), submit(&queue, Ping)];
        let jobs = queue.take(&LIMIT).unwrap();
        assert!(writer.serve_each(jobs, doubtful).is_ok());
        for asked in asked {
            let failed = asked.within(Duration::from_secs(20), &path).await.unwrap_err();
            assert_eq!((failed.kind(), failed.retry()), (ErrorKind::StorageFailed, retry));
        }
    }
}

/// A writer that publishes and consumes, as a process does.
struct Process {
    writer: Writer,
    queue: Arc<Queue>,
    path: PathBuf,
}

impl Process {
    fn new(path: &Path) -> Self {
        Process { writer: open(path), queue: Arc::default(), path: path.to_owned() }
    }

    /// With a consumer that has seen that there is nothing yet.
    async fn consuming(path: &Path) -> (Self, Seat) {
        let mut own = Process::new(path);
        let seat = own.join().await;
        assert!(own.claim(seat.member()).await.unwrap().is_empty());
        (own, seat)
    }

    async fn ask<R: Request>(&mut self, request: R) -> Result<R::Answer> {
        let asked = submit(&self.queue, request);
        let jobs = self.queue.take(&LIMIT).unwrap();
        // The answer tells what became of it.
        drop(self.writer.serve(jobs, false));
        asked.within(Duration::from_secs(20), &self.path).await
    }

    async fn join(&mut self) -> Seat {
        self.ask(Ensure { destination: Destination::new("orders", "billing"), retain: None }).await.unwrap();
        let options = ConsumerOptions::new("billing");
        self.ask(Join { destination: "orders".into(), options, queue: Arc::clone(&self.queue) })
            .await
            .unwrap()
    }

    async fn claim(&mut self, member: &Member) -> Result<Vec<Vec<u8>>> {
        let (member, lease, now) = (member.clone(), Duration::from_secs(30), Timestamp::default());
        let claimed = self.ask(Claim { member, max: 9, max_in_flight: 99, lease, now }).await?;
        Ok(claimed.deliveries.iter().map(|delivery| delivery.message.payload.to_vec()).collect())
    }
}

fn append(member: &Member, payloads: &[&'static str]) -> Append {
    let time = Timestamp::default();
    let attributes = Arc::new(Attributes { source: "".into(), event: "".into(), content_type: "".into() });
    let message = |payload: &&'static str| {
        Message::new(*payload, IdSource::new().next(time), time, Arc::clone(&attributes))
    };
    Append {
        destination: member.destination,
        name: Arc::clone(&member.destination_name),
        batch: payloads.iter().map(message).map(NewRow::with_message).collect(),
        full: false,
        max_bytes: None,
        now: time,
        weight: 0,
    }
}

#[tokio::test]
async fn what_another_process_has_published_since_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = new_file(folder.path(), "a.db");
    let (mut own, seat) = Process::consuming(&path).await;
    let (mut other, member) = (Process::new(&path), seat.member());
    for round in 0..3 {
        own.ask(append(member, &["own"])).await.unwrap();
        assert_eq!(own.claim(member).await.unwrap(), [b"own"], "{round}");
        other.ask(append(member, &["other"])).await.unwrap();
        assert_eq!(own.claim(member).await.unwrap(), [b"other"], "{round}");
        own.ask(append(member, &["own"])).await.unwrap();
        assert_eq!(own.claim(member).await.unwrap(), [b"own"], "{round}");
        other.ask(append(member, &["other"])).await.unwrap();
        own.ask(append(member, &["own"])).await.unwrap();
        assert_eq!(own.claim(member).await.unwrap(), [&b"other"[..], b"own"], "{round}");
        other.ask(append(member, &["other"])).await.unwrap();
        assert_eq!(own.claim(member).await.unwrap(), [b"other"], "{round}");
    }
}

/// Has the storage fail.
struct Fails;

impl Request for Fails {
    type Answer = ();

    fn run(&self, _: &mut Store) -> Result<(), Fault> {
        Err(Fault::Storage(rusqlite::Error::QueryReturnedNoRows))
    }
}

#[tokio::test]
async fn what_a_transaction_published_that_failed_is_handed_out_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (mut own, seat) = Process::consuming(&new_file(folder.path(), "a.db")).await;
    let member = seat.member();
    own.ask(append(member, &["kept"])).await.unwrap();
    let _asked = (submit(&own.queue, append(member, &["lost"])), submit(&own.queue, Fails));
    let mut jobs = own.queue.take(&LIMIT).unwrap();
    assert!(jobs.len() == 2 && own.writer.attempt(&mut jobs).is_err());
    assert_eq!(own.claim(member).await.unwrap(), [b"kept"]);
    own.ask(append(member, &["next"])).await.unwrap();
    assert_eq!(own.claim(member).await.unwrap(), [b"next"]);
}

#[tokio::test]
async fn by_another_connection_nothing_is_known_of_what_the_last_one_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (mut own, seat) = Process::consuming(&new_file(folder.path(), "a.db")).await;
    let member = seat.member();
    own.ask(append(member, &["message"])).await.unwrap();
    // What it finds of the file is what the next connection finds too, so that the version alone may tell nothing.
    own.writer.store.connection.execute("UPDATE message SET payload = x'00'", []).unwrap();
    own.writer.spoiled = true;
    let damaged = own.claim(member).await.unwrap_err();
    assert_eq!(damaged.kind(), ErrorKind::StorageDamaged, "it is read, and is not as it was written");
}

#[tokio::test]
async fn nothing_is_kept_once_its_readers_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    for (deletes, name) in [(false, "a.db"), (true, "b.db")] {
        let (mut own, seat) = Process::consuming(&new_file(folder.path(), name)).await;
        let member = seat.member();
        own.ask(append(member, &["message"])).await.unwrap();
        assert!(!own.writer.store.recent.is_empty());
        match deletes {
            false => own.ask(Leave { member: member.clone(), lost: false }).await.unwrap(),
            true => {
                let (destination, group) = ("orders".into(), "billing".into());
                own.ask(DeleteGroup { destination, group, now: Timestamp::default() }).await.unwrap();
            }
        }
        assert!(own.writer.store.recent.is_empty(), "{deletes}");
        if !deletes {
            // What was not handed out is for the next one.
            let seat = own.join().await;
            assert_eq!(own.claim(seat.member()).await.unwrap(), [b"message"]);
        }
    }
}
