//! Logs put together by time. Each is in its own order already.

use super::Log;
use crate::actor_name::ActorName;
use crate::record::Record;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The records of several logs, the earliest first.
pub(super) struct Merged<'l> {
    logs: Vec<Log<'l>>,
    /// The next record of each log that has one, by time and the log's place.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    pending: Vec<Option<Record>>,
}

impl<'l> Merged<'l> {
    pub(super) fn new(logs: Vec<Log<'l>>) -> Self {
        let pending = logs.iter().map(|_| None).collect();
        let mut merged = Merged { logs, next: BinaryHeap::new(), pending };
        (0..merged.logs.len()).for_each(|place| merged.pull(place));
        merged
    }

    fn pull(&mut self, place: usize) {
        if let Some(record) = self.logs[place].records.next() {
            self.next.push(Reverse((record.time, place)));
            self.pending[place] = Some(record);
        }
    }

    pub(super) fn next(&mut self) -> Option<(ActorName, Record)> {
        let Reverse((_, place)) = self.next.pop()?;
        let record = self.pending[place].take()?;
        self.pull(place);
        Some((self.logs[place].name, record))
    }
}
