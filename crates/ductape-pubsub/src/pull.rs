//! The stream of deliveries of one consumer: opened, read into what the consumer holds, kept alive, opened again.
//!
//! The server sends no more than `max_in_flight` that are not settled; what arrives goes at once into the consumer's
//! hold, whose size follows from that. A stream that ends is opened again without a word, since Google ends each now
//! and then, and leases do not end with it. Only when that fails too is the consumer told.

use crate::error::{self, Effect};
use crate::link::{Link, Numbered};
use crate::message;
use crate::outstanding::{Outstanding, Patience};
use crate::protocol::{
    MODIFY_ACK_DEADLINE, ModifyAckDeadlineRequest, Nothing, ReceivedMessage, STREAMING_PULL,
    StreamingPullRequest, StreamingPullResponse,
};
use ductape_core::error::Retry;
use ductape_core::{Delivery, Error, ErrorKind, Position, Result, Token};
use futures_util::{StreamExt, stream};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How often the server is told that we are there; it hangs up on who is silent for 90 s.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a server that answers this may be silent before its stream counts as dead.
pub(crate) const SILENCE: Duration = Duration::from_secs(75);
/// What errors call it.
const STREAM: &str = "the stream of deliveries";
/// The most bytes of deliveries that are not settled.
const MAX_OUTSTANDING_BYTES: i64 = 100 * 1024 * 1024;
/// How long deliveries wait here before others get them.
const PATIENCE: Patience = Patience { beyond: Duration::from_millis(500), unasked: Duration::from_secs(3) };
/// The most ack ids of a request, whose size ends at 512 KiB; an ack id takes up to about 200 bytes.
pub(crate) const MAX_IDS: usize = 1_000;
/// The longest wait before a stream is tried again.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// What a consumer and its stream share.
pub(crate) struct Inbox {
    pub(crate) link: Arc<Link>,
    pub(crate) destination: Arc<str>,
    /// The subscription's full name.
    pub(crate) subscription: String,
    /// Tells this consumer's deliveries from those of another.
    pub(crate) number: u64,
    pub(crate) bound: usize,
    pub(crate) lease: Duration,
    pub(crate) member: Arc<str>,
    pub(crate) held: Mutex<Outstanding>,
    /// Told when there is something to hand out, or a failure to tell.
    pub(crate) arrived: Notify,
    /// Told when something was settled.
    pub(crate) settled: Notify,
    /// Why there is no stream.
    pub(crate) failure: Mutex<Option<Error>>,
    /// Whether the consumer closes: the stream is to end in good order.
    pub(crate) stopping: watch::Sender<bool>,
}

impl Inbox {
    pub(crate) fn held(&self) -> MutexGuard<'_, Outstanding> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Returns when the consumer closes.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            // Without its sender there is no consumer any more.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// Reads the stream until the consumer closes, and then what the server had sent by that time: what nobody reads
    /// could not be given back, and would stay away from others for a whole lease.
    pub(crate) async fn fill(&self) {
        tokio::join!(self.read(), self.share());
    }

    /// Gives back what waits here while other members may have it: what came beyond the bound, which the service keeps
    /// to within a stream and its emulator not even there, and what lapsed here where
    /// nobody asks. Ends when the consumer closes, and never between letting go of something and giving it back.
    async fn share(&self) {
        while tokio::time::timeout(PATIENCE.beyond, self.stopped()).await.is_err() {
            let surplus = {
                let (now, mut held) = (Instant::now(), self.held());
                held.forget_lost(now);
                held.surplus(self.bound, PATIENCE, now)
            };
            self.give_back(surplus).await;
            self.look_again();
        }
    }

    /// Whoever waits for room, or for something to hand out, looks again.
    pub(crate) fn look_again(&self) {
        self.settled.notify_one();
        if self.held().has_ready(self.bound) {
            self.arrived.notify_one();
        }
    }

    /// Gives these back, one request after another, since an order is to be taken up where it begins. What cannot be given
    /// back comes again when its lease ends.
    pub(crate) async fn give_back(&self, ack_ids: Vec<String>) {
        for ack_ids in ack_ids.chunks(MAX_IDS) {
            let what = (MODIFY_ACK_DEADLINE, "the lease", Effect::Same);
            let request = ModifyAckDeadlineRequest {
                subscription: self.subscription.clone(),
                ack_deadline_seconds: 0,
                ack_ids: ack_ids.to_vec(),
            };
            let resource = ("subscription", &*self.subscription);
            if let Err((error, _)) = self.link.call::<_, Nothing>(what, resource, request).await {
                tracing::debug!(%error, "what was not given back comes again when its lease ends");
                break;
            }
        }
    }

    async fn read(&self) {
        let (mut channel, mut seen) = (self.link.channel_changes(), Seen::default());
        while !self.is_stopping() {
            let current = channel.borrow_and_update().clone();
            let before = seen.failed;
            let ended = tokio::select! {
                ended = self.read_stream(current, &mut seen) => ended,
                // It would wait on the old one for good.
                _ = channel.changed() => continue,
            };
            seen.failed = seen.failed.saturating_add(1);
            let failed = seen.failed;
            if let Err(error) = ended {
                tracing::debug!(%error, failed, subscription = self.subscription, "the stream of deliveries ended");
                // Streams end now and then; one that cannot be opened again is another matter.
                if before > 0 || !is_passing(&error) {
                    self.tell(error);
                }
            }
            let _ = tokio::time::timeout(backoff(failed), self.stopped()).await;
        }
    }

    fn tell(&self, error: Error) {
        *self.failure() = Some(error);
        self.arrived.notify_one();
    }

    /// Opens a stream on this channel and reads it until the server ends it, as it does when we end our side, or when it
    /// has run for long.
    async fn read_stream(&self, channel: Numbered, seen: &mut Seen) -> Result<()> {
        let number = channel.number;
        let resource = ("subscription", self.subscription.as_str());
        let what = (STREAMING_PULL, STREAM);
        let opening = self.link.stream::<_, StreamingPullResponse>(channel, what, resource, self.requests());
        let mut stream = self.heard(number, seen, opening).await??;
        loop {
            let answer = self.heard(number, seen, stream.message()).await?;
            let answer =
                answer.map_err(|status| self.link.located(error::rpc(&status, STREAM, Effect::Same)))?;
            let Some(answer) = answer else { return Ok(()) };
            if seen.failed > 0 {
                seen.failed = 0;
                // Nobody has asked since: it is over.
                *self.failure() = None;
            }
            seen.keep_alive |= answer.received_messages.is_empty();
            self.take_in(answer.received_messages);
            tokio::select! {
                () = self.room() => {}
                () = self.stopped() => {}
            }
        }
    }

    /// What the server says. One that is known to say something all the while is given up when it is silent, and with it
    /// its channel: where nothing is called, nobody else notices a network that swallows everything.
    async fn heard<T>(&self, channel: u64, seen: &Seen, said: impl Future<Output = T>) -> Result<T> {
        if !seen.keep_alive {
            return Ok(said.await);
        }
        tokio::time::timeout(SILENCE, said).await.map_err(|_| {
            self.link.renew(channel);
            self.link.located(error::timed_out(STREAM, Effect::Same))
        })
    }

    /// What we say on the stream. It ends when the consumer closes, at which the server ends its side.
    fn requests(&self) -> impl futures_util::Stream<Item = StreamingPullRequest> + Send + use<> {
        let first = StreamingPullRequest {
            subscription: self.subscription.clone(),
            stream_ack_deadline_seconds: self.lease_seconds(),
            client_id: self.member.to_string(),
            max_outstanding_messages: i64::try_from(self.bound).unwrap_or(i64::MAX),
            max_outstanding_bytes: MAX_OUTSTANDING_BYTES,
            protocol_version: 1,
        };
        let requests = stream::unfold(Some(first), |first| async {
            match first {
                Some(first) => Some((first, None)),
                None => {
                    tokio::time::sleep(KEEP_ALIVE).await;
                    Some((StreamingPullRequest::default(), None))
                }
            }
        });
        requests.take_until(self.stopped())
    }

    pub(crate) fn lease_seconds(&self) -> i32 {
        i32::try_from(self.lease.as_secs()).unwrap_or(i32::MAX)
    }

    fn take_in(&self, received: Vec<ReceivedMessage>) {
        if received.is_empty() {
            return;
        }
        let (now, time) = (Instant::now(), self.link.clock.now());
        let mut held = self.held();
        for ReceivedMessage { ack_id, message, delivery_attempt } in received {
            let Some(message) = message else { continue };
            let id = message.message_id.clone();
            held.arrive(ack_id, id, now, |number| {
                let position = Position::Text(message.message_id.as_str().into());
                Delivery {
                    message: message::read(&self.destination, message, time),
                    attempt: u32::try_from(delivery_attempt).unwrap_or(0).max(1),
                    position,
                    token: Token::Numbers(self.number, number),
                }
            });
        }
        drop(held);
        self.arrived.notify_one();
    }

    /// Waits while far more is held than the server should have sent: one that minds no bound, and what was sent
    /// again over a new stream.
    async fn room(&self) {
        loop {
            let settled = self.settled.notified();
            if self.held().len() < self.bound.saturating_mul(2).max(64) {
                return;
            }
            settled.await;
        }
    }
}

/// What is known of the server from one stream to the next.
#[derive(Default)]
struct Seen {
    /// Streams in a row that had no answer.
    failed: u32,
    /// Whether it says now and then that it is there.
    keep_alive: bool,
}

/// Whether it may be over by itself in a moment.
fn is_passing(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionLost | ErrorKind::ConnectFailed | ErrorKind::Timeout | ErrorKind::Throttled
    )
}

/// How the worker is told of it: the consumer is not lost, and opens its stream again by itself.
pub(crate) fn as_told(error: Error) -> Error {
    if error.kind() != ErrorKind::ConnectionLost {
        return error;
    }
    let told = Error::new(ErrorKind::ConnectFailed, error.message()).with_retry(Retry::Safe);
    error.contexts().fold(told, |told, (name, value)| told.with_context(name, value))
}

/// 100 ms, doubling up to [`MAX_BACKOFF`], and up to half of it less by chance.
fn backoff(failed: u32) -> Duration {
    let most = Duration::from_millis(50 << failed.min(10)).min(MAX_BACKOFF);
    most.mul_f64(1.0 - fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_stream_is_no_lost_consumer() {
        let lost = Error::new(ErrorKind::ConnectionLost, "reset").with_context("project", "p");
        let told = as_told(lost);
        assert_eq!((told.kind(), told.retry()), (ErrorKind::ConnectFailed, Retry::Safe));
        assert_eq!((told.message(), told.context("project")), ("reset", Some("p")));
        let gone = Error::new(ErrorKind::DestinationNotFound, "gone");
        assert_eq!(as_told(gone).kind(), ErrorKind::DestinationNotFound);
    }

    #[test]
    fn the_backoff_grows_to_its_bound() {
        assert!(backoff(1) <= Duration::from_millis(100) && backoff(1) >= Duration::from_millis(50));
        assert!(backoff(99) <= MAX_BACKOFF && backoff(99) >= MAX_BACKOFF / 2);
    }
}
