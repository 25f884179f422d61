//! Who waits for delivery reports: a batch, not a message.
//!
//! The client library gives a report for each message, and hands back one number that was given with it. The number is
//! the batch's place in a table and the message's place in the batch. A report writes two atomics and counts down;
//! the last one wakes whoever published the batch.

use crate::error;
use ductape_core::{Error, Position, Result};
use futures_util::task::AtomicWaker;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// Messages of one batch: 24 bits of a tag.
pub(crate) const MAX_BATCH: usize = 1 << 24;
const BATCHES: usize = 1 << 24;
const _: () = assert!(usize::BITS == 64, "a tag has 64 bits");

/// A batch whose reports are not all here.
#[derive(Debug)]
pub(crate) struct Batch {
    reports: Box<[Report]>,
    /// Reports that are missing, and one for whoever is still sending.
    missing: AtomicUsize,
    waker: AtomicWaker,
    failed: Mutex<Vec<(usize, Error)>>,
}

#[derive(Debug)]
struct Report {
    partition: AtomicI32,
    /// Below zero where there is none, or it is a fault.
    offset: AtomicI64,
}

impl Batch {
    fn new(count: usize) -> Self {
        let report = || Report { partition: AtomicI32::new(-1), offset: AtomicI64::new(-1) };
        Batch {
            reports: std::iter::repeat_with(report).take(count).collect(),
            missing: AtomicUsize::new(count + 1),
            waker: AtomicWaker::new(),
            failed: Mutex::default(),
        }
    }

    fn failed(&self) -> MutexGuard<'_, Vec<(usize, Error)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn results(&self, undelivered: impl Fn(Error) -> Error) -> Vec<Result<Position>> {
        let mut results: Vec<_> = self.reports.iter().map(|report| Ok(report.position())).collect();
        for (index, error) in self.failed().drain(..) {
            results[index] = Err(undelivered(error));
        }
        results
    }
}

impl Report {
    fn position(&self) -> Position {
        let partition = self.partition.load(Ordering::Relaxed).unsigned_abs();
        let offset = self.offset.load(Ordering::Relaxed).unsigned_abs();
        Position::Partition { partition, offset }
    }
}

/// Where batches lie while they wait.
#[derive(Debug)]
pub(crate) struct Batches {
    /// Tells the batches of one producer from those of another.
    number: u64,
    table: Mutex<Table>,
}

impl Default for Batches {
    fn default() -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Batches { number: NUMBERS.fetch_add(1, Ordering::Relaxed), table: Mutex::default() }
    }
}

#[derive(Debug, Default)]
struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Place {
    /// Tells the batches of one place from each other.
    turn: u16,
    batch: Option<Arc<Batch>>,
}

/// Which message of which batch: 16 bits of a turn, 24 of a place, 24 of an index.
#[derive(Clone, Copy)]
struct Tag(u64);

impl Tag {
    fn new(turn: u16, place: u32) -> Self {
        Tag(u64::from(turn) << 48 | u64::from(place) << 24)
    }

    fn batch(self) -> u64 {
        self.0 >> 24
    }

    fn place(self) -> usize {
        (self.0 >> 24) as usize & (BATCHES - 1)
    }

    fn index(self) -> usize {
        self.0 as usize & (MAX_BATCH - 1)
    }
}

/// A batch, by its producer and its tag.
type Found = ((u64, u64), Arc<Batch>);

thread_local! {
    /// The batch of the last report on this thread: reports come in runs, so few have to look it up.
    static LAST: RefCell<Option<Found>> = const { RefCell::new(None) };
}

impl Batches {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch of so many messages, of which none is sent. At most [`MAX_BATCH`].
    pub(crate) fn open(&self, count: usize) -> Sending<'_> {
        let batch = Arc::new(Batch::new(count));
        let mut table = self.table();
        let place = table.free.pop().unwrap_or_else(|| {
            table.places.push(Place::default());
            (table.places.len() - 1) as u32
        });
        let entry = &mut table.places[place as usize];
        entry.turn = entry.turn.wrapping_add(1);
        entry.batch = Some(Arc::clone(&batch));
        Sending { batches: self, batch, tag: Tag::new(entry.turn, place), unsent: count }
    }

    /// Takes a report in: the partition and offset that a message was given, or why it was not.
    pub(crate) fn report(&self, tag: usize, outcome: Result<(i32, i64), Code>) {
        let tag = Tag(tag as u64);
        let Some(batch) = self.find(tag) else { return };
        match outcome {
            Ok((partition, offset)) => {
                let report = &batch.reports[tag.index()];
                report.partition.store(partition, Ordering::Relaxed);
                report.offset.store(offset, Ordering::Relaxed);
            }
            Err(code) => batch.failed().push((tag.index(), error::undelivered(code))),
        }
        self.count_down(tag, &batch, 1);
    }

    fn find(&self, tag: Tag) -> Option<Arc<Batch>> {
        let wanted = (self.number, tag.batch());
        LAST.with_borrow_mut(|last| match last {
            Some((key, batch)) if *key == wanted => Some(Arc::clone(batch)),
            _ => {
                let found = self.table().places.get(tag.place())?.batch.clone()?;
                *last = Some((wanted, Arc::clone(&found)));
                Some(found)
            }
        })
    }

    fn count_down(&self, tag: Tag, batch: &Batch, by: usize) {
        if batch.missing.fetch_sub(by, Ordering::AcqRel) != by {
            return;
        }
        let mut table = self.table();
        if let Some(place) = table.places.get_mut(tag.place()) {
            place.batch = None;
            table.free.push(tag.place() as u32);
        }
        drop(table);
        LAST.with_borrow_mut(|last| last.take_if(|(key, _)| *key == (self.number, tag.batch())));
        batch.waker.wake();
    }
}

/// A batch that is being sent. Dropped before its end, it does without what was not sent.
pub(crate) struct Sending<'b> {
    batches: &'b Batches,
    batch: Arc<Batch>,
    tag: Tag,
    unsent: usize,
}

impl Sending<'_> {
    /// What the client library hands back with the report of this message.
    pub(crate) fn tag(&self, index: usize) -> usize {
        self.tag.0 as usize | index
    }

    /// The next message is sent: its report will come.
    pub(crate) fn sent(&mut self) {
        self.unsent -= 1;
    }

    /// The next message is not sent, and no report will come.
    pub(crate) fn refused(&mut self, index: usize, error: Error) {
        self.batch.failed().push((index, error));
        self.unsent -= 1;
        self.batches.count_down(self.tag, &self.batch, 1);
    }

    /// All reports, once they are here. `undelivered` adds to an error where it was.
    pub(crate) async fn results(self, undelivered: impl Fn(Error) -> Error) -> Vec<Result<Position>> {
        let batch = Arc::clone(&self.batch);
        drop(self);
        poll_fn(|cx| {
            batch.waker.register(cx.waker());
            if batch.missing.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        batch.results(undelivered)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.batches.count_down(self.tag, &self.batch, self.unsent + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn plain(error: Error) -> Error {
        error
    }

    #[test]
    fn a_batch_ends_with_its_last_report_and_keeps_the_order_of_its_messages() {
        let batches = Batches::default();
        let mut sending = batches.open(3);
        let tags: Vec<_> = (0..3).map(|index| sending.tag(index)).collect();
        (0..3).for_each(|_| sending.sent());
        let mut results = Box::pin(sending.results(plain));
        batches.report(tags[2], Ok((1, 7)));
        batches.report(tags[0], Ok((0, 5)));
        assert!(results.as_mut().now_or_never().is_none());
        batches.report(tags[1], Err(Code::MessageSizeTooLarge));
        let results = results.now_or_never().unwrap();
        assert_eq!(*results[0].as_ref().unwrap(), Position::Partition { partition: 0, offset: 5 });
        assert!(results[1].is_err());
        assert_eq!(*results[2].as_ref().unwrap(), Position::Partition { partition: 1, offset: 7 });
    }

    #[test]
    fn a_batch_that_is_given_up_halfway_leaves_nothing_behind() {
        let batches = Batches::default();
        let mut sending = batches.open(3);
        let tag = sending.tag(0);
        sending.sent();
        drop(sending);
        assert!(batches.table().places[0].batch.is_some(), "one report is missing");
        batches.report(tag, Ok((0, 0)));
        assert!(batches.table().places[0].batch.is_none());
        assert_eq!(batches.table().free, [0]);
    }

    #[test]
    fn a_place_is_taken_again_and_a_late_report_of_its_last_batch_changes_nothing() {
        let batches = Batches::default();
        let first = batches.open(1).tag(0);
        let mut second = batches.open(1);
        assert_eq!(Tag(first as u64).place(), Tag(second.tag(0) as u64).place());
        assert_ne!(Tag(first as u64).batch(), Tag(second.tag(0) as u64).batch());
        let tag = second.tag(0);
        second.sent();
        batches.report(tag, Ok((2, 9)));
        let results = second.results(plain).now_or_never().unwrap();
        assert_eq!(*results[0].as_ref().unwrap(), Position::Partition { partition: 2, offset: 9 });
    }

    #[test]
    fn reports_from_many_batches_and_threads_all_count() {
        let batches = Batches::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let batches = &batches;
                scope.spawn(move || {
                    for round in 0..500 {
                        let mut sending = batches.open(5);
                        let tags: Vec<_> = (0..5).map(|index| sending.tag(index)).collect();
                        (0..5).for_each(|_| sending.sent());
                        tags.iter().for_each(|tag| batches.report(*tag, Ok((thread, round))));
                        let results = sending.results(plain).now_or_never().unwrap();
                        let offset = round.unsigned_abs();
                        let position = Position::Partition { partition: thread.unsigned_abs(), offset };
                        assert!(results.iter().all(|result| *result.as_ref().unwrap() == position));
                    }
                });
            }
        });
        assert!(batches.table().places.iter().all(|place| place.batch.is_none()));
    }
}
