//! One receive at the server.

use crate::consumer::{Member, Shared, seconds};
use crate::error;
use crate::hand::Held;
use crate::message::{self, Incoming};
use aws_sdk_sqs::types::{Message as Native, MessageSystemAttributeName as System};
use ductape_core::error::Retry;
use ductape_core::{Delivery, Error, ErrorKind, Result, Token};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const WHAT: &str = "the receive";

/// Asks for messages, waits at the server until there are any, and puts them into the hand; of a consumer that was
/// closed meanwhile, back.
pub(crate) async fn poll(member: Arc<Member>, asked: usize, wait: Duration) {
    let shared = &member.shared;
    let sent = Instant::now();
    let wait = Duration::from_secs(seconds(wait).unsigned_abs().into());
    let received = receive(shared, asked, wait).await;
    let now = Instant::now();
    // An answer that was long on its way brings what was taken long ago: no later than when the wait was over.
    let taken = now.min(sent + wait);
    let incoming = received.map(|natives| {
        let at = shared.link.clock.now();
        let read = natives.into_iter().filter_map(|native| message::read(&shared.queue, native, at));
        read.collect::<Vec<_>>()
    });
    {
        let mut hand = shared.hand();
        match incoming {
            Ok(incoming) => {
                hand.polled(asked, Ok(incoming.len()));
                for incoming in incoming {
                    let number = hand.number();
                    let (held, delivery) = hold(shared, incoming, number, taken);
                    hand.add(number, held, delivery);
                }
            }
            Err(error) => hand.polled(asked, Err(error)),
        }
    }
    if shared.is_closed() { member.let_go() } else { shared.changed.notify_one() }
}

fn hold(shared: &Shared, incoming: Incoming, number: u64, taken: Instant) -> (Held, Delivery) {
    let Incoming { message, attempt, position, receipt, group } = incoming;
    let expires = taken + shared.lease;
    let held = Held { receipt: receipt.into(), group, expires, since: taken, doubtful: false };
    (held, Delivery { message, attempt, position, token: Token::Numbers(shared.number, number) })
}

async fn receive(shared: &Shared, asked: usize, wait: Duration) -> Result<Vec<Native>> {
    let request = shared
        .link
        .client
        .receive_message()
        .queue_url(&*shared.url)
        .max_number_of_messages(i32::try_from(asked).unwrap_or(i32::MAX))
        .wait_time_seconds(seconds(wait))
        .visibility_timeout(seconds(shared.lease))
        .message_attribute_names("All")
        .message_system_attribute_names(System::ApproximateReceiveCount)
        .message_system_attribute_names(System::SentTimestamp)
        .message_system_attribute_names(System::MessageGroupId);
    let answer = tokio::time::timeout(shared.link.limit + wait, request.send());
    match answer.await {
        Ok(Ok(output)) => Ok(output.messages.unwrap_or_default()),
        Ok(Err(failed)) => Err(not_lost(error::call(&failed, WHAT, false))),
        Err(_) => Err(error::timeout(WHAT, false)),
    }
}

/// A connection that is cut costs one receive and not the consumer, which would give up the leases of all that it
/// handed out: the next receive connects anew.
fn not_lost(error: Error) -> Error {
    if error.kind() != ErrorKind::ConnectionLost {
        return error;
    }
    Error::new(ErrorKind::ConnectFailed, error.message().to_owned())
        .with_retry(Retry::Safe)
        .with_help("the next receive connects anew by itself; see that the server is up")
}
