//! Copying a batch: in rounds, each message until it is taken.

use crate::failure::{self, Failure, Outcome};
use crate::output::Format;
use crate::stop::Stop;
use ductape::{Error, ErrorKind, EventPublisher, Incoming, Key, Receipt, RetryPolicy};
use std::collections::HashMap;
use std::time::Duration;

/// What became of the messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) copied: u64,
    /// Refused by the target, and gone past.
    pub(super) failed: u64,
}

/// What the target said of a round.
#[derive(Default)]
struct Sorted {
    taken: Vec<Incoming>,
    /// Refused, and gone past.
    skipped: Vec<Incoming>,
    /// To be tried again, since the target could not, with the first reason.
    left: Vec<Incoming>,
    fault: Option<Error>,
    /// The first that was refused for good, by its id.
    refused: Option<(String, Error)>,
}

/// Copies batches to one target.
#[derive(Debug)]
pub(super) struct Copier {
    format: Format,
    publisher: EventPublisher,
    skip_refused: bool,
    retry: RetryPolicy,
}

impl Copier {
    pub(super) fn new(format: Format, publisher: EventPublisher, skip_refused: bool) -> Self {
        let retry = RetryPolicy {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(30),
            ..RetryPolicy::default()
        };
        Copier { format, publisher, skip_refused, retry }
    }

    /// Copies a batch and acknowledges what was taken. What is left, after a refusal or a stop, is given back.
    pub(super) async fn copy(&self, batch: Vec<Incoming>, stop: &mut Stop, counts: &mut Counts) -> Outcome {
        for round in rounds(batch) {
            if !self.round(round, stop, counts).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Copies until all of a round are taken or refused. Whether to go on.
    async fn round(&self, mut round: Vec<Incoming>, stop: &mut Stop, counts: &mut Counts) -> Outcome<bool> {
        let mut failed = 0;
        loop {
            let messages = round.iter().map(|incoming| incoming.message.clone());
            let results = self.publisher.forward(messages).await;
            let sorted = self.sort(round, results);
            counts.copied += sorted.taken.len() as u64;
            counts.failed += sorted.skipped.len() as u64;
            self.acknowledge(sorted.taken.into_iter().chain(sorted.skipped).collect()).await;
            if let Some((id, error)) = sorted.refused {
                return Err(stopped(&id, error));
            }
            let Some(error) = sorted.fault else { return Ok(true) };
            failed += 1;
            failure::tell(&error.with_help("it is tried again"), None, self.format);
            tokio::select! {
                () = stop.wanted() => return Ok(false),
                () = tokio::time::sleep(self.retry.delay(failed, 0.5)) => {}
            }
            round = sorted.left;
        }
    }

    fn sort(&self, round: Vec<Incoming>, results: Vec<ductape::Result<Receipt>>) -> Sorted {
        let mut sorted = Sorted::default();
        for (incoming, result) in round.into_iter().zip(results) {
            match result {
                Ok(_) => sorted.taken.push(incoming),
                Err(error) if self.skip_refused && is_its_own(error.kind()) => {
                    self.tell(&incoming, &error);
                    sorted.skipped.push(incoming);
                }
                Err(error) if error.is_retryable() || error.is_uncertain() => {
                    sorted.fault.get_or_insert(error);
                    sorted.left.push(incoming);
                }
                Err(error) => {
                    sorted.refused.get_or_insert_with(|| (incoming.message.id.to_string(), error));
                }
            }
        }
        sorted
    }

    async fn acknowledge(&self, taken: Vec<Incoming>) {
        if taken.is_empty() {
            return;
        }
        for result in Incoming::ack_all(taken).await {
            if let Err(error) = result {
                failure::tell(&error.with_help("it was copied, and is copied again"), None, self.format);
            }
        }
    }

    fn tell(&self, incoming: &Incoming, error: &Error) {
        let error = error.replicate().with_context("message", &incoming.message.id);
        failure::tell(&error.with_help("it was not copied"), None, self.format);
    }
}

fn stopped(id: &str, error: Error) -> Failure {
    let help = match is_its_own(error.kind()) {
        true => "mend the target, or give `--skip-refused` to go past it; run again to go on where it was",
        false => "mend the target and run again; it goes on where it was",
    };
    error.with_context("message", id).with_help(help).into()
}

/// Whether the target refuses this very message, whatever its state.
fn is_its_own(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::MessageInvalid | ErrorKind::MessageTooLarge)
}

/// Deals a batch out so that no key stands twice in a round, each in the first round that it can be in.
fn rounds(batch: Vec<Incoming>) -> Vec<Vec<Incoming>> {
    let mut rounds: Vec<Vec<Incoming>> = Vec::new();
    let mut seen: HashMap<Key, usize> = HashMap::new();
    for incoming in batch {
        let round = match incoming.message.key.clone() {
            Some(key) => {
                let next = seen.entry(key).or_default();
                *next += 1;
                *next - 1
            }
            None => 0,
        };
        if rounds.len() <= round {
            rounds.resize_with(round + 1, Vec::new);
        }
        rounds[round].push(incoming);
    }
    rounds
}
