//! Append-only logs of records: one a process, written before the process acts on what it writes.

use crate::record::{LEN, Record};
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Nanoseconds on the clock that all processes of this machine share and nobody sets.
pub fn now() -> u64 {
    // The clock is there on every system that the harness runs on; 0 would only spoil the order of its records.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| u64::try_from(time.tv_sec() * 1_000_000_000 + time.tv_nsec()).unwrap_or(0))
}

/// A log that is written. What it was given is with the system when its call returns, and so survives `kill -9`.
#[derive(Debug)]
pub struct Journal(Mutex<File>);

impl Journal {
    /// A new log in this file.
    ///
    /// # Errors
    /// Where the file is there already, or cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        File::options().append(true).create_new(true).open(path).map(|file| Journal(Mutex::new(file)))
    }

    /// Writes one record, at this moment.
    ///
    /// # Panics
    /// Where it cannot be written: an actor that acts without having said so would spoil the whole run.
    pub fn write(&self, record: Record) {
        self.write_all(std::iter::once(record));
    }

    /// Writes records together, all at this moment.
    ///
    /// # Panics
    /// As [`Journal::write`].
    pub fn write_all(&self, records: impl IntoIterator<Item = Record>) {
        let records = records.into_iter();
        let mut bytes = Vec::with_capacity(records.size_hint().0 * LEN);
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock, so that the log is in the order of its times.
        let time = now();
        for record in records {
            bytes.extend_from_slice(&Record { time, ..record }.encode());
        }
        file.write_all(&bytes).expect("the log of an actor is written");
    }
}

/// A log that is read from its beginning, also while it grows.
#[derive(Debug)]
pub struct Reader {
    file: File,
    buffer: Vec<u8>,
    at: usize,
    len: usize,
}

const BUFFER: usize = LEN * 4096;

impl Reader {
    /// The log in this file.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Reader { file: File::open(path)?, buffer: vec![0; BUFFER], at: 0, len: 0 })
    }

    /// The next whole record, where there is one so far. What is no record ends the log.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(&mut self) -> io::Result<Option<Record>> {
        while self.len - self.at < LEN {
            self.buffer.copy_within(self.at..self.len, 0);
            self.len -= self.at;
            self.at = 0;
            let read = self.file.read(&mut self.buffer[self.len..])?;
            if read == 0 {
                return Ok(None);
            }
            self.len += read;
        }
        let bytes: &[u8; LEN] = self.buffer[self.at..self.at + LEN].try_into().map_err(io::Error::other)?;
        let record = Record::decode(bytes);
        if record.is_some() {
            self.at += LEN;
        }
        Ok(record)
    }
}

impl Iterator for Reader {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        self.read().ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Kind, MessageRef};

    #[test]
    fn a_log_is_read_while_it_grows_and_a_record_cut_short_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let journal = Journal::create(&path).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.read().unwrap(), None);
        let message = MessageRef { publisher: 1, number: 2 };
        journal.write_all([Record::new(Kind::Ready), Record::of(Kind::Intent, message).extra(3)]);
        assert_eq!(reader.read().unwrap().unwrap().kind, Kind::Ready);
        let intent = reader.read().unwrap().unwrap();
        assert_eq!((intent.kind, intent.message, intent.extra), (Kind::Intent, message, 3));
        File::options().append(true).open(&path).unwrap().write_all(&[1; LEN - 1]).unwrap();
        assert_eq!(reader.read().unwrap(), None);
    }

    #[test]
    fn nobody_writes_over_the_log_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        Journal::create(&path).unwrap();
        assert!(Journal::create(&path).is_err());
    }
}
