//! Publishing what the thread cuts: a few batches under way, their results in the order of the lines.

use super::Template;
use super::line::Line;
use super::lines::{self, Cut, End, Piece};
use super::pace::Pace;
use super::pointer::Pointer;
use super::report::{Report, Settled};
use super::source::Source;
use crate::failure::{Failure, Outcome};
use crate::stop::Stop;
use bytes::Bytes;
use ductape::{Error, ErrorKind, EventPublisher};
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::future::Future;
use std::pin::Pin;
use tokio::sync::mpsc;

/// The most lines of a batch.
const BATCH: usize = 1024;
/// Batches under way at once. With [`BATCH`] below what a publisher takes at once, so that none waits for room and the
/// order of the calls is the order of the lines.
const UNDER_WAY: usize = 8;

/// What is done with each line.
pub(super) struct Job {
    pub(super) publisher: EventPublisher,
    pub(super) template: Template,
    pub(super) pointer: Option<Pointer>,
    /// The largest message, in bytes.
    pub(super) limit: usize,
    pub(super) rate: Option<u64>,
}

/// What has come out of the pipeline.
enum Done {
    Batch { batch: Settled, read: u64 },
    Part(Bytes),
}

type UnderWay = FuturesOrdered<Pin<Box<dyn Future<Output = Done> + Send>>>;

/// Why no more is taken from the source.
enum Reason {
    /// It has ended.
    End(End),
    /// Ctrl-C or SIGTERM.
    Told,
    /// The provider fails.
    Halted,
    /// What is to be told cannot be: ids, or refused lines.
    Untold,
}

pub(super) async fn run(job: Job, source: Source, mut report: Report, mut stop: Stop) -> Outcome {
    let length = source.length();
    let cut = Cut { pointer: job.pointer.clone(), limit: job.limit, most: Pace::most(job.rate, BATCH) };
    let mut pieces = lines::start(source, cut);
    let mut under_way = UnderWay::new();
    let mut last = 0;
    let fed = feed(&job, &mut pieces, &mut under_way, &mut report, &mut stop, &mut last).await;
    drop(pieces);
    let (reason, mut outcome) = match fed {
        Ok(reason) => (reason, Ok(())),
        Err(failure) => (Reason::Untold, Err(failure)),
    };
    let drained = drain(&mut under_way, &mut report, &mut stop).await;
    outcome = outcome.and(drained);
    let ended = close(reason, &report, length, last);
    report.finish(outcome.and(ended)).await
}

/// Takes pieces and hands their lines to the publisher, until there are no more or there is a reason to stop.
async fn feed(
    job: &Job,
    pieces: &mut mpsc::Receiver<Piece>,
    under_way: &mut UnderWay,
    report: &mut Report,
    stop: &mut Stop,
    last: &mut u64,
) -> Outcome<Reason> {
    let mut pace = Pace::new(job.rate);
    loop {
        let next = async {
            pace.due().await;
            pieces.recv().await
        };
        let piece = tokio::select! {
            biased;
            () = stop.wanted() => return Ok(Reason::Told),
            Some(done) = under_way.next() => {
                tell(done, report).await?;
                if report.halted() {
                    return Ok(Reason::Halted);
                }
                continue;
            }
            piece = next, if under_way.len() < UNDER_WAY => piece,
        };
        match piece {
            Some(Piece::Lines { lines, read }) => {
                pace.spend(lines.len());
                *last = lines.last().map_or(*last, |line| line.number);
                under_way.push_back(publish(job, lines, read));
            }
            Some(Piece::Part(part)) => under_way.push_back(Box::pin(async { Done::Part(part) })),
            Some(Piece::End(end)) => return Ok(Reason::End(end)),
            None => {
                let what = "reading ended without a word";
                return Err(Error::new(ErrorKind::ProviderFailed, what)
                    .with_help("report this as a bug")
                    .into());
            }
        }
    }
}

/// Publishes the lines that are messages as one batch, and puts the results beside their lines.
fn publish(job: &Job, lines: Vec<Line>, read: u64) -> Pin<Box<dyn Future<Output = Done> + Send>> {
    let publisher = job.publisher.clone();
    let mut lines = lines;
    let taken = |line: &mut Line| match &mut line.content {
        Ok(key) => {
            let key = key.take();
            Some(job.template.message(line, key))
        }
        Err(_) => None,
    };
    let messages: Vec<_> = lines.iter_mut().filter_map(taken).collect();
    Box::pin(async move {
        let mut results = publisher.publish_batch(messages).await.into_iter();
        let unanswered = || Err(Error::new(ErrorKind::ProviderFailed, "the provider gave no result"));
        let settle = |mut line: Line| {
            let content = std::mem::replace(&mut line.content, Ok(None));
            let result = content.and_then(|_| results.next().unwrap_or_else(unanswered));
            (line, result)
        };
        Done::Batch { batch: lines.into_iter().map(settle).collect(), read }
    })
}

/// Waits for what is under way; a second signal ends that too.
async fn drain(under_way: &mut UnderWay, report: &mut Report, stop: &mut Stop) -> Outcome {
    let mut outcome = Ok(());
    while !under_way.is_empty() {
        let done = tokio::select! {
            biased;
            () = stop.insisted() => {
                report.note("stopped at once: lines under way may have been taken, and are not counted");
                return Err(Failure::Said);
            }
            done = under_way.next() => done,
        };
        let Some(done) = done else { break };
        // What was taken is counted, also where it can no longer be told.
        outcome = outcome.and(tell(done, report).await);
    }
    outcome
}

async fn tell(done: Done, report: &mut Report) -> Outcome {
    match done {
        Done::Batch { batch, read } => report.settled(batch, read).await,
        Done::Part(part) => report.part(&part),
    }
}

/// Says how the source ended, where that is worth a word.
fn close(reason: Reason, report: &Report, length: Option<u64>, last: u64) -> Outcome {
    let go_on = format!("lines from {} on were not published; go on with `tail -n +{}`", last + 1, last + 1);
    let tell = |kind: ErrorKind, what: String| {
        report.fault(&Error::new(kind, what).with_help(go_on.clone()));
        Err(Failure::Said)
    };
    let stopped = |why: &str| tell(ErrorKind::Closed, why.to_owned());
    let unfinished = |what: String| tell(ErrorKind::StorageFailed, what);
    match reason {
        Reason::Told => stopped("told to stop before the end"),
        Reason::Halted => stopped("publishing stopped, since the next lines would fail likewise"),
        Reason::Untold => stopped("publishing stopped, since what it prints can no longer be written"),
        Reason::End(End { error: Some(error), .. }) => {
            unfinished(format!("{} cannot be read to its end: {error}", report.source()))
        }
        Reason::End(end) => match (length, end.length) {
            (Some(_), Some(now)) if now < end.read => unfinished(format!(
                "{} was cut short while it was read: it has {now} bytes, of {} that were read",
                report.source(),
                end.read
            )),
            (Some(before), _) if end.read < before => unfinished(format!(
                "{} was cut short while it was read: {} bytes of {before} could be read",
                report.source(),
                end.read
            )),
            _ => {
                about(&end, report, length);
                Ok(())
            }
        },
    }
}

/// What is no fault, and may surprise.
fn about(end: &End, report: &Report, length: Option<u64>) {
    if end.read == 0 {
        report.note(&format!("{} is empty", report.source()));
    }
    match end.empty {
        0 => {}
        1 => report.note(&format!("line {} is empty and was skipped", end.first_empty)),
        empty => {
            report.note(&format!(
                "{empty} empty lines were skipped, the first of them line {}",
                end.first_empty
            ));
        }
    }
    if length.is_some_and(|before| end.read > before) {
        report.note(&format!("{} grew while it was read; what was added was published too", report.source()));
    }
}
