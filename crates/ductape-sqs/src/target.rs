//! One request of messages to a queue: sent once, or until it is known whether they were taken.

use crate::error;
use crate::link::Link;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchOutput;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry as Entry;
use ductape_core::{Error, Position, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long after a send without answer a FIFO queue is asked again; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
const WHAT: &str = "the publish";

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) link: Arc<Link>,
    pub(crate) queue: Arc<str>,
    pub(crate) url: Arc<str>,
}

/// A message that a FIFO queue is sent until its result is known.
struct Pending {
    entry: Entry,
    /// Why it is not known whether it was taken: the first such error.
    doubt: Option<Error>,
    result: Option<Result<Position>>,
}

impl Target {
    /// Sends entries whose ids are their places. As many results, in their order.
    pub(crate) async fn send_once(&self, entries: Vec<Entry>) -> Vec<Result<Position>> {
        let count = entries.len();
        match self.send(entries).await {
            Ok(output) => results(output, count),
            Err(error) => (0..count).map(|_| Err(error.replicate())).collect(),
        }
    }

    /// Sends until it is known of each entry whether it was taken, or time is over. A FIFO queue knows what it has, so
    /// sending it again is safe; the message groups of these entries wait meanwhile.
    pub(crate) async fn send_until_known(&self, entries: Vec<Entry>) -> Vec<Result<Position>> {
        let deadline = Instant::now() + self.link.limit;
        let mut all: Vec<_> = entries.into_iter().map(Pending::new).collect();
        let mut pause = PAUSE;
        loop {
            let open: Vec<Entry> =
                all.iter().filter(|one| one.is_open()).map(|one| one.entry.clone()).collect();
            // An answer that is lost must leave time to ask again.
            let late = deadline.min(Instant::now() + self.link.limit / 3);
            let sent = tokio::time::timeout_at(late, self.send(open)).await;
            match sent.unwrap_or_else(|_| Err(error::timeout(WHAT, true))) {
                Ok(output) => answered(&mut all, output),
                Err(error) => refused(&mut all, &error),
            }
            if !all.iter().any(Pending::is_open) || Instant::now() + pause >= deadline {
                return all.into_iter().map(Pending::result).collect();
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn send(&self, entries: Vec<Entry>) -> Result<SendMessageBatchOutput> {
        let request = self.link.client.send_message_batch().queue_url(&*self.url).set_entries(Some(entries));
        self.link.within(WHAT, true, request.send()).await
    }

    pub(crate) fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.queue)
    }
}

impl Pending {
    fn new(entry: Entry) -> Self {
        Pending { entry, doubt: None, result: None }
    }

    fn is_open(&self) -> bool {
        self.result.is_none()
    }

    /// It was not taken by the last send. After one whose end is not known that says nothing of the one before.
    fn refused(&mut self, error: Error, may_be_sent_again: bool) {
        let unknown = error.is_uncertain() || self.doubt.is_some() && error.is_retryable();
        let error = self.doubt.take().unwrap_or(error);
        if unknown && may_be_sent_again {
            self.doubt = Some(error);
        } else {
            self.result = Some(Err(error));
        }
    }

    fn result(self) -> Result<Position> {
        let doubt = self.doubt;
        self.result.unwrap_or_else(|| Err(doubt.unwrap_or_else(|| error::no_result(WHAT, true))))
    }
}

/// The whole request was refused, or has no answer.
fn refused(all: &mut [Pending], error: &Error) {
    all.iter_mut().filter(|one| one.is_open()).for_each(|one| one.refused(error.replicate(), true));
}

/// Each entry has its own answer. One that a later entry of its group has overtaken is not sent again: it would come
/// after that one, and be swapped with it rather than missing.
fn answered(all: &mut [Pending], output: SendMessageBatchOutput) {
    let results = results(output, all.len());
    let mut taken: Vec<Option<String>> = Vec::new();
    for (one, result) in all.iter_mut().zip(results).rev() {
        if !one.is_open() {
            continue;
        }
        match result {
            Ok(position) => {
                taken.push(one.entry.message_group_id.clone());
                one.result = Some(Ok(position));
            }
            Err(error) => {
                let overtaken = taken.contains(&one.entry.message_group_id);
                one.refused(error, !overtaken);
            }
        }
    }
}

/// Each message's own result, by the ids of the entries.
fn results(output: SendMessageBatchOutput, count: usize) -> Vec<Result<Position>> {
    let mut results: Vec<_> = (0..count).map(|_| None).collect();
    let mut set = |id: &str, result| {
        if let Some(place) = id.parse::<usize>().ok().and_then(|id| results.get_mut(id)) {
            *place = Some(result);
        }
    };
    for taken in output.successful {
        set(&taken.id, Ok(Position::Text(taken.message_id.into())));
    }
    for failed in output.failed {
        set(&failed.id, Err(error::entry(&failed, WHAT, true)));
    }
    results.into_iter().map(|result| result.unwrap_or_else(|| Err(error::no_result(WHAT, true)))).collect()
}
