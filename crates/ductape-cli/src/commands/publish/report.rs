//! What is told of a run: ids, refused lines, and the count at the end.

use super::line::Line;
use super::progress::Progress;
use super::rejects::Rejects;
use super::source::Source;
use crate::failure::{self, Failure, Outcome, message};
use crate::output::Format;
use crate::run::Context;
use crate::terminal::{BAD, styled};
use crate::writer::Writer;
use ductape::{Error, ErrorKind, MessageId, Receipt};
use serde_json::{Map, Value, json};
use std::io::Write as _;
use std::time::Instant;

/// A batch whose results are there: each line with its own, in their order.
pub(super) type Settled = Vec<(Line, Result<Receipt, Error>)>;

/// Tells of a run, and counts.
pub(super) struct Report {
    format: Format,
    source: String,
    single: bool,
    ids: bool,
    rejects: Option<Rejects>,
    progress: Progress,
    writer: Writer,
    begun: Instant,
    published: u64,
    failed: u64,
    /// Failed lines that may have been taken all the same.
    uncertain: u64,
    /// The first fault that is no line's own: going on would fail every line after it.
    halted: Option<Error>,
}

impl Report {
    pub(super) fn new(context: &Context, source: &Source, ids: bool, rejects: Option<Rejects>) -> Self {
        Report {
            format: context.format(),
            source: source.name(),
            single: source.is_single(),
            ids,
            rejects,
            progress: Progress::new(context.format(), source.length().filter(|length| *length > 0)),
            writer: Writer::start(),
            begun: Instant::now(),
            published: 0,
            failed: 0,
            uncertain: 0,
            halted: None,
        }
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Why going on makes no sense.
    pub(super) fn halted(&self) -> bool {
        self.halted.is_some()
    }

    /// Counts a batch first, whatever becomes of telling it, and tells it then.
    pub(super) async fn settled(&mut self, batch: Settled, read: u64) -> Outcome {
        let mut ids = if self.ids { self.writer.buffer() } else { Vec::new() };
        let mut refused = Vec::new();
        for (line, result) in batch {
            match result {
                Ok(receipt) => {
                    self.published += 1;
                    if self.ids {
                        push_id(&mut ids, line.number, &receipt.id);
                    }
                }
                Err(error) => {
                    self.failed += 1;
                    self.uncertain += u64::from(error.is_uncertain());
                    refused.push((line, error));
                }
            }
        }
        self.progress.advance(read, self.published);
        let kept = self.refused(refused);
        let told = match self.ids {
            true => self.writer.write(ids).await,
            false => Ok(()),
        };
        kept.and(told)
    }

    fn refused(&mut self, lines: Vec<(Line, Error)>) -> Outcome {
        if lines.is_empty() {
            return Ok(());
        }
        let text: String = lines.iter().map(|(line, error)| self.words(line.number, error)).collect();
        // Where standard error is gone there is nobody to tell; the count still is right.
        self.progress.aside(|| drop(anstream::stderr().write_all(text.as_bytes())));
        for (line, error) in lines {
            if let Some(rejects) = &mut self.rejects {
                rejects.line(&line.bytes)?;
            }
            if self.halted.is_none() && !is_its_own(error.kind()) {
                self.halted = Some(error);
            }
        }
        Ok(())
    }

    /// A part of a line that is too long to be kept.
    pub(super) fn part(&mut self, bytes: &[u8]) -> Outcome {
        self.rejects.as_mut().map_or(Ok(()), |rejects| rejects.part(bytes))
    }

    fn words(&self, number: u64, error: &Error) -> String {
        if self.format == Format::Json {
            return format!("{}\n", json!({ "line": number, "error": failure::object(error) }));
        }
        let place = if self.single { String::new() } else { format!("line {number}: ") };
        let maybe = if error.is_uncertain() { " (it may have been taken)" } else { "" };
        let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
        let code = styled(BAD, &format!("error[{}]:", error.kind().code()));
        format!("{code} {place}{}{maybe}{help}\n", message(error))
    }

    /// Tells something beside the data.
    pub(super) fn note(&self, text: &str) {
        self.progress.aside(|| failure::note(self.format, text));
    }

    /// Tells that not everything was published, and why.
    pub(super) fn fault(&self, error: &Error) {
        self.progress.aside(|| failure::tell(error, None, self.format));
    }

    /// The count, as the last line. On standard error where standard output is gone.
    pub(super) async fn finish(mut self, outcome: Outcome) -> Outcome {
        self.progress.finish();
        let flushed = self.rejects.as_mut().map_or(Ok(()), Rejects::flush);
        if self.uncertain > 0 {
            self.note(&format!("{} of the failed lines may have been taken", self.uncertain));
        }
        let count = self.count();
        let mut line = self.writer.buffer();
        line.extend_from_slice(count.as_bytes());
        let told = self.writer.write(line).await;
        if told.is_err() {
            let _ = anstream::stderr().write_all(count.as_bytes());
        }
        let complete = if self.failed > 0 { Err(Failure::Said) } else { Ok(()) };
        // A reader that went away before the end has not seen all ids: that is no success.
        let outcome = outcome.and(told).map_err(|failure| match failure {
            Failure::ReaderGone => Failure::Said,
            other => other,
        });
        outcome.and(flushed).and(complete)
    }

    fn count(&self) -> String {
        let seconds = (self.begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let mut count = Map::new();
        count.insert("published".into(), self.published.into());
        count.insert("failed".into(), self.failed.into());
        count.insert("seconds".into(), seconds.into());
        format!("{}\n", Value::from(count))
    }
}

/// Whether a fault is one line's own, so that the next may well be taken.
fn is_its_own(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::MessageInvalid | ErrorKind::MessageTooLarge | ErrorKind::PayloadInvalid)
}

fn push_id(into: &mut Vec<u8>, number: u64, id: &MessageId) {
    // Writing to memory does not fail. An id that Ductape made needs no escapes.
    let _ = writeln!(into, "{{\"line\":{number},\"id\":\"{id}\"}}");
}
