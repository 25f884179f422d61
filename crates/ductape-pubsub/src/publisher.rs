//! Publishing: a batch becomes a few requests at once; of an ordered destination one a key, and one after another.
//!
//! ```text
//!  batch ─▶ attributes, sizes ─▶ any order: requests of ≤ 1,000 messages and ≤ 10 MB, all at once
//!                             └▶ ordered: lanes by key ─▶ turn at the key ─▶ its requests in their order
//! ```
//!
//! Google asks that a request holds messages of one ordering key only. One bad message, such as one that does not fit the
//! topic's schema, gets its whole request refused, and the answer does not say which it is: such a request is sent again
//! in halves, until each bad one is alone. Any other failure is told to each message of its request. What of the key is
//! behind it in the same call was not sent, and says so; the next call begins afresh, so no key stays shut.

use crate::error::Effect;
use crate::link::Link;
use crate::message::{self, MAX_REQUEST_BYTES};
use crate::names;
use crate::protocol::{PUBLISH, PublishRequest, PublishResponse, PubsubMessage};
use crate::turns::{Turn, Turns};
use async_trait::async_trait;
use ductape_core::capability::Batching;
use ductape_core::error::Retry;
use ductape_core::{Destination, Error, ErrorKind, Message, Position, Publisher, Result};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message as _;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The most messages of a request (<https://cloud.google.com/pubsub/quotas#resource_limits>).
const MAX_REQUEST_MESSAGES: usize = 1_000;
/// Requests of one publisher under way at once; HTTP/2 servers take about a hundred of a connection.
const MAX_REQUESTS: usize = 64;
/// What core puts together into one call: a request's worth, and enough calls to keep the network busy.
pub(crate) const BATCHING: Batching = Batching::Core {
    max_messages: MAX_REQUEST_MESSAGES,
    max_bytes: message::MAX_MESSAGE_BYTES,
    in_flight: 8,
};

/// Publishes to one destination.
pub(crate) struct PubSubPublisher {
    link: Arc<Link>,
    destination: Destination,
    topic: String,
    turns: Arc<Turns>,
    requests: Semaphore,
}

/// A message that is fit to go out, and its place in the batch.
struct Outgoing {
    place: usize,
    bytes: usize,
    message: PubsubMessage,
}

/// What goes out one after another.
struct Lane {
    turn: Option<Turn>,
    messages: Vec<Outgoing>,
}

impl Lane {
    /// One that waits for no other.
    fn free(messages: Vec<Outgoing>) -> Self {
        Lane { turn: None, messages }
    }
}

type Results = Vec<(usize, Result<Position>)>;

#[async_trait]
impl Publisher for PubSubPublisher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        let mut results: Vec<_> = batch.iter().map(|_| None).collect();
        let mut outgoing = Vec::with_capacity(batch.len());
        for (place, message) in batch.iter().enumerate() {
            match self.outgoing(place, message) {
                Ok(message) => outgoing.push(message),
                Err(error) => results[place] = Some(Err(error)),
            }
        }
        let send = |lane| self.send_lane(&batch, lane);
        let mut lanes: FuturesUnordered<_> = self.lanes(outgoing).into_iter().map(send).collect();
        while let Some((sent, halves)) = lanes.next().await {
            for (place, result) in sent {
                results[place] = Some(result);
            }
            lanes.extend(halves.into_iter().map(send));
        }
        results.into_iter().map(|result| result.unwrap_or_else(|| Err(unanswered()))).collect()
    }
}

impl PubSubPublisher {
    pub(crate) fn new(link: Arc<Link>, destination: &Destination) -> Self {
        PubSubPublisher {
            topic: names::topic(&link.project, &destination.name),
            destination: destination.clone(),
            turns: Arc::default(),
            requests: Semaphore::new(MAX_REQUESTS),
            link,
        }
    }

    fn outgoing(&self, place: usize, message: &Message) -> Result<Outgoing> {
        let written =
            message::write(message, self.destination.ordered).map_err(|error| self.located(error))?;
        Ok(Outgoing { place, bytes: written.encoded_len() + 8, message: written })
    }

    /// Sorts messages by their ordering key, and takes the turns at the keys. What has none goes out in requests that
    /// do not wait for each other.
    fn lanes(&self, outgoing: Vec<Outgoing>) -> Vec<Lane> {
        let mut free = Vec::new();
        let mut keyed: Vec<Vec<Outgoing>> = Vec::new();
        let mut by_key: HashMap<String, usize> = HashMap::new();
        for one in outgoing {
            if one.message.ordering_key.is_empty() {
                free.push(one);
                continue;
            }
            match by_key.get(&one.message.ordering_key) {
                Some(lane) => keyed[*lane].push(one),
                None => {
                    by_key.insert(one.message.ordering_key.clone(), keyed.len());
                    keyed.push(vec![one]);
                }
            }
        }
        let turns = self.turns.take(keyed.iter().map(|lane| &*lane[0].message.ordering_key));
        let keyed = keyed.into_iter().zip(turns);
        let keyed = keyed.map(|(messages, turn)| Lane { turn: Some(turn), messages });
        let free = requests(free).into_iter().map(Lane::free);
        free.chain(keyed).collect()
    }

    /// Sends what is in a lane. Of one without order the halves of a refused request are lanes of their own, to be sent.
    async fn send_lane(&self, batch: &[Message], mut lane: Lane) -> (Results, Vec<Lane>) {
        if let Some(turn) = &mut lane.turn {
            turn.begin().await;
        }
        let mut results = Vec::with_capacity(lane.messages.len());
        let mut waiting: VecDeque<_> = requests(lane.messages).into();
        while let Some(request) = waiting.pop_front() {
            let failure = match self.send(request).await {
                Ok(sent) => {
                    let failure =
                        sent.iter().find_map(|(_, result)| Some(result.as_ref().err()?.replicate()));
                    results.extend(sent);
                    failure
                }
                Err((places, error)) if places.len() > 1 && is_refusal(&error) => {
                    let (first, second) = places.split_at(places.len() / 2);
                    waiting.push_front(self.again(batch, second));
                    waiting.push_front(self.again(batch, first));
                    None
                }
                Err((places, error)) => {
                    results.extend(places.into_iter().map(|place| (place, Err(error.replicate()))));
                    // It leaves a gap: none of it was taken.
                    (!is_refusal(&error)).then_some(error)
                }
            };
            if lane.turn.is_none() {
                break;
            }
            // Were the rest sent, it might get there before what has no answer.
            if let Some(failure) = failure {
                let behind = |unsent: Outgoing| (unsent.place, Err(behind_a_failure(&failure)));
                results.extend(waiting.drain(..).flatten().map(behind));
            }
        }
        (results, waiting.into_iter().map(Lane::free).collect())
    }

    /// As one request, or with why not and for which.
    async fn send(&self, request: Vec<Outgoing>) -> Result<Results, (Vec<usize>, Error)> {
        // Never closed.
        let _permit = self.requests.acquire().await;
        let (places, messages): (Vec<_>, _) = request.into_iter().map(|one| (one.place, one.message)).unzip();
        let request = PublishRequest { topic: self.topic.clone(), messages };
        let what = (PUBLISH, "the publish", Effect::Doubles);
        match self.link.call::<_, PublishResponse>(what, ("topic", &self.topic), request).await {
            Ok(answer) => Ok(taken(places, answer.message_ids)),
            Err((error, _)) => Err((places, self.located(error))),
        }
    }

    /// Messages that went out before, written anew: keeping each until its answer would cost all those that are taken.
    fn again(&self, batch: &[Message], places: &[usize]) -> Vec<Outgoing> {
        // Those that cannot be written never went out.
        places.iter().filter_map(|place| self.outgoing(*place, &batch[*place]).ok()).collect()
    }

    fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.destination.name)
    }
}

/// Cuts messages into requests that the service takes.
fn requests(messages: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut requests: Vec<Vec<Outgoing>> = Vec::new();
    let mut bytes = 0;
    for one in messages {
        bytes += one.bytes;
        match requests.last_mut() {
            Some(request) if request.len() < MAX_REQUEST_MESSAGES && bytes < MAX_REQUEST_BYTES - 1024 => {
                request.push(one);
            }
            _ => {
                bytes = one.bytes;
                requests.push(vec![one]);
            }
        }
    }
    requests
}

/// The service answers with as many ids as messages, in their order.
fn taken(places: Vec<usize>, ids: Vec<String>) -> Results {
    let mut ids = ids.into_iter();
    let position = |place| {
        let id = ids.next().ok_or_else(unanswered);
        (place, id.map(|id| Position::Text(id.into())))
    };
    places.into_iter().map(position).collect()
}

fn unanswered() -> Error {
    Error::new(ErrorKind::ProviderFailed, "the server answered without the message's id")
        .with_retry(Retry::Uncertain)
}

/// Whether the server refused what it was sent for what it is, and has none of it.
fn is_refusal(error: &Error) -> bool {
    error.kind() == ErrorKind::MessageInvalid
}

/// What is behind fails in the same way, but was not sent: where that one is uncertain, this one is not.
fn behind_a_failure(failure: &Error) -> Error {
    let retry = if failure.is_uncertain() { Retry::Safe } else { failure.retry() };
    let words = format!("not sent: a message of the same key before it failed: {}", failure.message());
    let behind = Error::new(failure.kind(), words).with_retry(retry);
    let behind = match failure.help() {
        Some(help) => behind.with_help(help),
        None => behind,
    };
    failure.contexts().fold(behind, |behind, (name, value)| behind.with_context(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(sizes: &[usize]) -> Vec<Outgoing> {
        let one = |(place, bytes): (usize, &usize)| Outgoing {
            place,
            bytes: *bytes,
            message: PubsubMessage::default(),
        };
        sizes.iter().enumerate().map(one).collect()
    }

    fn cut(sizes: &[usize]) -> Vec<Vec<usize>> {
        let places = |request: Vec<Outgoing>| request.into_iter().map(|one| one.place).collect();
        requests(outgoing(sizes)).into_iter().map(places).collect()
    }

    #[test]
    fn requests_are_cut_by_count_and_by_bytes() {
        assert_eq!(cut(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(cut(&[1, 2, 3]), [[0, 1, 2]]);
        assert_eq!(cut(&[6_000_000, 3_000_000, 3_000_000]), [vec![0, 1], vec![2]]);
        assert_eq!(cut(&[9_999_000, 9_999_000]), [[0], [1]]);
        let many = cut(&[1; 2_500]);
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
    }

    #[test]
    fn a_message_without_an_id_in_the_answer_is_uncertain() {
        let results = taken(vec![3, 5], vec!["a".into()]);
        assert_eq!(results[0].0, 3);
        assert!(results[0].1.as_ref().is_ok_and(|position| position.to_string() == "a"));
        assert!(results[1].1.as_ref().is_err_and(Error::is_uncertain));
    }
}
