//! What consumers of a real file get.

use super::*;
use crate::admin::Ensure;
use crate::claims::{Claimed, Member};
use crate::log::Append;
use crate::members::Join;
use crate::request::Request;
use crate::schema;
use crate::settle::{Extend, Settle};
use crate::turn::Turn;
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{ConsumerOptions, Delivery, Destination, Settlement, Verdict};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const LEASE: Duration = Duration::from_secs(30);
/// More than one look goes through, and less than two.
const BACKLOG: usize = MOST_PASSED_OVER + MOST_PASSED_OVER / 2;

fn open(path: &Path) -> Store {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut connection = schema::open(path, deadline).unwrap();
    let turn = Turn::open(path).unwrap();
    schema::prepare(&mut connection, &turn.wait(deadline).unwrap(), path, deadline).unwrap();
    Store::new(connection, path, Arc::default())
}

/// The store of a new file with one destination.
fn with_orders(path: &Path) -> Store {
    std::fs::File::create(path).unwrap();
    let mut store = open(path);
    run(&mut store, Ensure { destination: Destination::new("orders", "billing"), retain: None });
    store
}

fn run<R: Request>(store: &mut Store, request: R) -> R::Answer {
    let answer = request.run(store).unwrap_or_else(|_| panic!("a request failed"));
    store.committed();
    answer
}

fn join(store: &mut Store) -> Member {
    join_as(store, "billing")
}

fn join_as(store: &mut Store, group: &str) -> Member {
    let options = ConsumerOptions::new(group);
    let join = Join { destination: "orders".into(), options, queue: Arc::default() };
    run(store, join).member().clone()
}

fn claim(store: &mut Store, member: &Member, now: Timestamp) -> Claimed {
    let member = member.clone();
    run(store, Claim { member, max: 1, max_in_flight: usize::MAX, lease: LEASE, now })
}

fn publish(store: &mut Store, member: &Member, keys: impl Iterator<Item = &'static str>) {
    let attributes = Arc::new(Attributes { source: "".into(), event: "".into(), content_type: "".into() });
    let message = |key: &str| {
        let id = IdSource::new().next(START);
        let mut message = Message::new(b"m".to_vec(), id, START, Arc::clone(&attributes));
        message.key = Some(key.into());
        message
    };
    let batch = keys.map(message).map(message::NewRow::with_message).collect();
    let name = Arc::clone(&member.destination_name);
    let append = Append {
        destination: member.destination,
        name,
        batch,
        full: false,
        max_bytes: None,
        now: START,
        weight: 0,
    };
    run(store, append);
}

fn key(delivery: &Delivery) -> &[u8] {
    delivery.message.key.as_ref().unwrap().as_bytes()
}

#[test]
fn what_is_due_behind_a_backlog_of_a_key_in_other_hands_comes_without_a_pause() {
    let folder = tempfile::tempdir().unwrap();
    let store = &mut with_orders(&folder.path().join("a.db"));
    let (slow, quick) = (join(store), join(store));
    publish(store, &slow, std::iter::repeat_n("slow", BACKLOG).chain(["quick"]));
    assert_eq!(claim(store, &slow, START).deliveries.len(), 1);
    let first = (0..3).find_map(|_| claim(store, &quick, START).deliveries.pop()).unwrap();
    assert_eq!(key(&first), b"quick");
    // Falls due with all that stands aside for the slow one.
    let retry = Settlement { token: first.token, verdict: Verdict::Retry(LEASE) };
    run(store, Settle { member: quick.clone(), batch: vec![retry], now: START });
    let now = START.saturating_add(LEASE);
    run(store, Extend { member: slow, expires: now.saturating_add(LEASE) });
    let looked = claim(store, &quick, now);
    assert!(looked.deliveries.is_empty());
    assert_eq!(looked.next, Some(now), "it looks again at once");
    let second = claim(store, &quick, now).deliveries.pop().unwrap();
    assert_eq!((key(&second), second.attempt), (&b"quick"[..], 2));
    let rest = claim(store, &quick, now);
    assert_eq!(rest.next, Some(now.saturating_add(LEASE)), "and rests when it has seen all");
}

/// The payloads of what a claim of so many gives, in a transaction of its own.
fn claimed(store: &mut Store, member: &Member, max: usize) -> Vec<Vec<u8>> {
    store.begun().unwrap();
    let claim = Claim { member: member.clone(), max, max_in_flight: usize::MAX, lease: LEASE, now: START };
    let deliveries = run(store, claim).deliveries;
    deliveries.into_iter().map(|delivery| delivery.message.payload.to_vec()).collect()
}

#[test]
fn what_was_just_published_is_not_read_from_the_file_unless_another_wrote_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = &mut with_orders(&folder.path().join("a.db"));
    let member = join(store);
    assert!(claimed(store, &member, 9).is_empty());
    let alter = |connection: &rusqlite::Connection| {
        let last = "UPDATE message SET payload = x'00' WHERE id = (SELECT max(id) FROM message)";
        connection.execute_batch(last).unwrap();
    };
    publish(store, &member, ["k"; 3].into_iter());
    // By this connection, as nobody does.
    alter(&store.connection);
    assert_eq!(claimed(store, &member, 1), [b"m"]);
    assert_eq!(claimed(store, &member, 9), [b"m", b"m"], "they are not read");
    publish(store, &member, ["k"; 3].into_iter());
    let path = folder.path().join("a.db");
    alter(&schema::open(&path, Instant::now() + LEASE).unwrap());
    assert_eq!(claimed(store, &member, 2), [b"m", b"m"]);
    let claim = Claim { member, max: 1, max_in_flight: usize::MAX, lease: LEASE, now: START };
    assert!(claim.run(store).is_err(), "it is read, and is not as it was written");
}

#[test]
fn of_what_was_just_published_nothing_comes_before_an_earlier_one_of_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = &mut with_orders(&folder.path().join("a.db"));
    let (slow, quick) = (join(store), join(store));
    assert!(claimed(store, &slow, 9).is_empty());
    publish(store, &slow, ["slow", "slow", "quick", "slow", "quick"].into_iter());
    let first = claim(store, &slow, START).deliveries.pop().unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| claim(store, &quick, START).deliveries.pop()).collect();
    assert!(taken.len() == 2 && taken.iter().all(|delivery| key(delivery) == b"quick"));
    let ack = Settlement { token: first.token, verdict: Verdict::Ack };
    run(store, Settle { member: slow, batch: vec![ack], now: START });
    let rest: Vec<_> = std::iter::from_fn(|| claim(store, &quick, START).deliveries.pop()).collect();
    let sequences: Vec<_> = rest.iter().map(|delivery| delivery.position.clone()).collect();
    assert_eq!(sequences, [2, 4].map(ductape_core::Position::Sequence));
}

#[test]
fn a_message_is_the_same_whether_it_is_read_from_the_file_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = &mut with_orders(&folder.path().join("a.db"));
    let (one, other) = (join(store), join_as(store, "audit"));
    assert!(claimed(store, &one, 9).is_empty() && claimed(store, &other, 9).is_empty());
    let messages = odd_messages();
    let (destination, name) = (one.destination, Arc::clone(&one.destination_name));
    let batch: Vec<_> = messages.iter().cloned().map(message::NewRow::with_message).collect();
    let weighed: i64 = batch.iter().map(|(_, row)| row.bytes).sum();
    let append = Append { destination, name, batch, full: false, max_bytes: None, now: START, weight: 0 };
    run(store, append);
    let sql = "SELECT sum(bytes) FROM message_bytes";
    assert_eq!(store.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), weighed);
    for (member, is_kept) in [(one, true), (other, false)] {
        if !is_kept {
            store.recent.forget();
        }
        assert_eq!(store.recent.get(destination, 1).is_some(), is_kept);
        let ask = Claim { member, max: 99, max_in_flight: 99, lease: LEASE, now: START };
        let deliveries = run(store, ask).deliveries;
        assert!(deliveries.iter().map(|delivery| &delivery.message).eq(&messages), "{is_kept}");
    }
}

/// Of each part of a message what is odd.
fn odd_messages() -> Vec<Message> {
    let attributes =
        Arc::new(Attributes { source: "/s".into(), event: "a:b".into(), content_type: "t".into() });
    let plain = |payload: &'static [u8]| {
        Message::new(payload, IdSource::new().next(START), START, Arc::clone(&attributes))
    };
    let (mut keyed, mut with_headers, mut foreign, mut traced, mut bare) =
        (plain(b"k"), plain(b"h"), plain(b"f"), plain(b""), plain(b"\xff\xfe"));
    keyed.key = Some("k\u{e9}y".into());
    with_headers.headers = [("a", ""), ("a", "\u{1f980}"), ("", "b")].into_iter().collect();
    with_headers.headers.append("bytes", vec![0xff, 0x00]);
    foreign.id = ductape_core::MessageId::parse("not a uuid");
    traced.extensions_mut().traceparent = Some("00-1".into());
    bare.extensions_mut().redrive_group = Some("billing".into());
    vec![plain(b""), keyed, with_headers, foreign, traced, bare]
}
