//! Cutting a source into lines, in a thread of its own: reading may block, and checking takes time that the provider
//! can use.

use super::line::Line;
use super::pointer::Pointer;
use super::source::Source;
use bytes::{Bytes, BytesMut};
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Bytes asked for at once.
const READ: usize = 128 << 10;
/// Pieces that wait for the pipeline.
const WAITING: usize = 4;
/// The byte order mark of UTF-8.
const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

/// What the thread hands over, in the order of the source.
#[derive(Debug)]
pub(super) enum Piece {
    /// Lines to publish, and how many bytes of the source they end at.
    Lines { lines: Vec<Line>, read: u64 },
    /// A part of a line over the limit, for whoever keeps refused lines.
    Part(Bytes),
    /// The source has ended.
    End(End),
}

/// How a source ended.
#[derive(Debug, Default)]
pub(super) struct End {
    /// Bytes read in all.
    pub(super) read: u64,
    /// Empty lines, and the first of them.
    pub(super) empty: u64,
    pub(super) first_empty: u64,
    /// How long the file is by now, where that can be told.
    pub(super) length: Option<u64>,
    /// Why it could not be read to its end.
    pub(super) error: Option<io::Error>,
}

/// How lines are cut.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) pointer: Option<Pointer>,
    /// The longest line, in bytes.
    pub(super) limit: usize,
    /// The most lines of one piece.
    pub(super) most: usize,
}

/// Starts the thread. It ends with the source, or when nobody takes its pieces.
pub(super) fn start(source: Source, cut: Cut) -> mpsc::Receiver<Piece> {
    let (pieces, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || Cutter::new(source, cut, pieces).run());
    receiver
}

struct Cutter {
    source: Source,
    cut: Cut,
    pieces: mpsc::Sender<Piece>,
    /// What is read and not cut yet.
    buffer: BytesMut,
    /// Whether it is known that no byte order mark follows.
    begun: bool,
    /// Lines that are cut and not handed over yet.
    ready: Vec<Line>,
    /// Lines seen so far.
    number: u64,
    /// Bytes cut so far.
    cut_bytes: u64,
    /// Bytes of the line over the limit that is being skipped.
    skipping: Option<u64>,
    end: End,
}

/// Nobody takes pieces any more.
struct Gone;

impl Cutter {
    fn new(source: Source, cut: Cut, pieces: mpsc::Sender<Piece>) -> Self {
        Cutter {
            source,
            cut,
            pieces,
            buffer: BytesMut::new(),
            begun: false,
            ready: Vec::new(),
            number: 0,
            cut_bytes: 0,
            skipping: None,
            end: End::default(),
        }
    }

    fn run(mut self) {
        if self.read().is_ok() {
            self.end.length = self.source.length_now();
            // Nobody may be there to hear of the end.
            let _ = self.pieces.blocking_send(Piece::End(self.end));
        }
    }

    fn read(&mut self) -> Result<(), Gone> {
        loop {
            let old = self.buffer.len();
            self.buffer.resize(old + READ, 0);
            let read = self.source.read(&mut self.buffer[old..]);
            self.buffer.truncate(old + read.as_ref().map_or(0, |read| *read));
            match read {
                Ok(0) => return self.last(),
                Ok(read) => self.end.read += read as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // What was read of the line that it broke off in is no line.
                    self.end.error = Some(error);
                    return Ok(());
                }
            }
            match self.begun {
                true => self.take(old)?,
                false => self.begin()?,
            }
        }
    }

    /// Takes a byte order mark away, once there is enough to tell.
    fn begin(&mut self) -> Result<(), Gone> {
        if self.buffer.len() < BOM.len() && BOM.starts_with(&self.buffer) {
            return Ok(());
        }
        if self.buffer.starts_with(&BOM) {
            self.cut_bytes += BOM.len() as u64;
            drop(self.buffer.split_to(BOM.len()));
        }
        self.begun = true;
        self.take(0)
    }

    /// Takes the lines that are complete; what is before `searched` holds no line end.
    fn take(&mut self, searched: usize) -> Result<(), Gone> {
        if let Some(at) = memchr::memrchr(b'\n', &self.buffer[searched..]) {
            let block = self.buffer.split_to(searched + at + 1).freeze();
            self.lines(&block)?;
        }
        match self.skipping.is_some() || self.buffer.len() > self.cut.limit {
            true => self.skip(),
            false => Ok(()),
        }
    }

    /// Hands on a part of a line over the limit.
    fn skip(&mut self) -> Result<(), Gone> {
        let part = self.buffer.split().freeze();
        self.cut_bytes += part.len() as u64;
        *self.skipping.get_or_insert(0) += part.len() as u64;
        self.part(part)
    }

    /// The last line, which may lack its end.
    fn last(&mut self) -> Result<(), Gone> {
        let block = self.buffer.split().freeze();
        if block.is_empty() && self.skipping.is_none() {
            return Ok(());
        }
        self.lines(&block)
    }

    /// Cuts a block, each of whose lines is complete.
    fn lines(&mut self, block: &Bytes) -> Result<(), Gone> {
        let mut start = 0;
        while start < block.len() || self.skipping.is_some() {
            let end = memchr::memchr(b'\n', &block[start..]).map_or(block.len(), |at| start + at);
            self.line(block.slice(start..end))?;
            let next = (end + 1).min(block.len());
            self.cut_bytes += (next - start) as u64;
            start = next;
            if self.ready.len() >= self.cut.most {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn line(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.number += 1;
        if let Some(skipped) = self.skipping.take() {
            return self.too_long(skipped + bytes.len() as u64, bytes);
        }
        let end = bytes.len() - usize::from(bytes.ends_with(b"\r"));
        let bytes = bytes.slice(..end);
        if bytes.len() > self.cut.limit {
            return self.too_long(bytes.len() as u64, bytes);
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            self.end.empty += 1;
            self.end.first_empty = if self.end.first_empty == 0 { self.number } else { self.end.first_empty };
            return Ok(());
        }
        self.ready.push(Line::read(self.number, bytes, self.cut.pointer.as_ref()));
        Ok(())
    }

    fn too_long(&mut self, size: u64, last: Bytes) -> Result<(), Gone> {
        self.part(last)?;
        self.ready.push(Line::too_long(self.number, size, self.cut.limit));
        Ok(())
    }

    fn part(&mut self, part: Bytes) -> Result<(), Gone> {
        self.flush()?;
        self.send(Piece::Part(part))
    }

    fn flush(&mut self) -> Result<(), Gone> {
        match std::mem::take(&mut self.ready) {
            lines if lines.is_empty() => Ok(()),
            lines => self.send(Piece::Lines { lines, read: self.cut_bytes }),
        }
    }

    fn send(&self, piece: Piece) -> Result<(), Gone> {
        self.pieces.blocking_send(piece).map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What becomes of a text, with lines of at most `limit` bytes, of which `most` make a piece.
    fn cut(text: &[u8], limit: usize, most: usize) -> (Vec<(u64, String)>, Vec<u8>, End) {
        let source = Source::Message(io::Cursor::new(text.to_vec()));
        let mut pieces = start(source, Cut { pointer: None, limit, most });
        let (mut lines, mut parts) = (Vec::new(), Vec::new());
        loop {
            match pieces.blocking_recv().unwrap() {
                Piece::Lines { lines: piece, .. } => lines.extend(piece.into_iter().map(|line| {
                    let text = String::from_utf8_lossy(&line.bytes).into_owned();
                    (line.number, text)
                })),
                Piece::Part(part) => parts.extend_from_slice(&part),
                Piece::End(end) => return (lines, parts, end),
            }
        }
    }

    #[test]
    fn ends_marks_and_empty_lines_are_taken_away() {
        let (lines, _, end) = cut(b"\xef\xbb\xbf1\r\n\n  \n2\n3", 100, 2);
        assert_eq!(lines, [(1, "1".into()), (4, "2".into()), (5, "3".into())]);
        assert_eq!((end.empty, end.first_empty, end.read), (2, 2, 13));
        assert_eq!(cut(b"\xef\xbb", 100, 2).0.len(), 1);
        assert_eq!(cut(b"", 100, 2).0.len(), 0);
    }

    #[test]
    fn a_line_over_the_limit_is_handed_on_in_parts_and_costs_no_other() {
        let long = "x".repeat(READ * 3);
        let text = format!("1\n{long}\n2\n{long}");
        let (lines, parts, _) = cut(text.as_bytes(), READ, 10);
        let numbers: Vec<_> = lines.iter().map(|(number, text)| (*number, text.len())).collect();
        assert_eq!(numbers, [(1, 1), (2, 0), (3, 1), (4, 0)]);
        assert_eq!(parts.len(), 2 * long.len());
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_text(lines in prop::collection::vec("[a-z]{1,9}", 0..20), most in 1_usize..9, end: bool) {
            let text = lines.join("\n") + if end { "\n" } else { "" };
            let (cut, parts, _) = cut(text.as_bytes(), 4, most);
            let kept: String = cut.iter().map(|(_, text)| text.as_str()).collect();
            let expected: String = lines.iter().filter(|line| line.len() <= 4).map(String::as_str).collect();
            prop_assert_eq!(kept, expected);
            prop_assert_eq!(cut.len(), lines.len());
            let long: String = lines.iter().filter(|line| line.len() > 4).map(String::as_str).collect();
            prop_assert_eq!(String::from_utf8(parts).unwrap(), long);
        }
    }
}
