//! What no emulator does: refuses a message, says nothing, answers late.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stand_in;

use crate::consumer::{GOODBYE, PubSubConsumer};
use crate::protocol::{
    ACKNOWLEDGE, AcknowledgeRequest, MODIFY_ACK_DEADLINE, ModifyAckDeadlineRequest, Nothing, PUBLISH,
    PublishRequest, PublishResponse, PubsubMessage, ReceivedMessage, STREAMING_PULL, StreamingPullRequest,
    StreamingPullResponse,
};
use crate::publisher::PubSubPublisher;
use crate::pull::SILENCE;
use ductape_core::error::Retry;
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{
    Consumer, ConsumerOptions, Delivery, Destination, ErrorKind, Message, Publisher, Settlement, Timestamp,
    Verdict,
};
use stand_in::{Answers, LIMIT, StandIn};
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

fn orders(ordered: bool) -> Destination {
    Destination { ordered, ..Destination::new("orders", "shop") }
}

fn message(text: &str, key: Option<&str>) -> Message {
    let time = Timestamp::from_micros(1_700_000_000_000_000);
    let attributes =
        Attributes { source: "/shop".into(), event: "orders:new".into(), content_type: "text/plain".into() };
    let mut message = Message::new(text.to_owned(), IdSource::new().next(time), time, Arc::new(attributes));
    message.key = key.map(Into::into);
    message
}

fn texts(request: &PublishRequest) -> Vec<String> {
    request.messages.iter().map(|it| String::from_utf8(it.data.to_vec()).unwrap()).collect()
}

/// Takes what it is sent into `taken`, but for requests that hold something bad, of so many at most.
async fn take_good(server: &mut StandIn, taken: &mut Vec<String>, most: usize) {
    for _ in 0..most {
        let call = server.next(PUBLISH).await;
        let texts = texts(&call.read());
        if texts.iter().any(|text| text.contains("bad")) {
            call.refuse(Code::InvalidArgument);
            continue;
        }
        call.answer(&PublishResponse { message_ids: texts.clone() });
        taken.extend(texts);
    }
    // What comes now is too much, and is not answered.
    std::future::pending().await
}

/// One bad message among a hundred.
async fn one_is_bad(ordered: bool, key: Option<&str>) {
    let (mut server, link) = StandIn::start().await;
    let publisher = PubSubPublisher::new(link, &orders(ordered));
    let name = |n| if n == 61 { "bad".to_owned() } else { format!("{n:02}") };
    let batch = (0..100).map(|n| message(&name(n), key)).collect();
    let mut taken = Vec::new();
    let results = tokio::select! {
        results = publisher.publish(batch) => results,
        () = take_good(&mut server, &mut taken, 15) => Vec::new(),
    };
    assert_eq!(results.len(), 100);
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Ok(position) => assert_eq!(position.to_string(), name(n)),
            Err(error) => {
                assert_eq!((n, error.kind(), error.retry()), (61, ErrorKind::MessageInvalid, Retry::Never));
            }
        }
    }
    if key.is_none() {
        taken.sort();
    }
    assert_eq!(taken, (0..100).filter(|n| *n != 61).map(name).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_bad_message_does_not_fail_the_others() {
    one_is_bad(false, None).await;
}

#[tokio::test]
async fn one_bad_message_of_a_key_leaves_a_gap_in_its_order() {
    one_is_bad(true, Some("k")).await;
}

#[tokio::test]
async fn what_is_behind_a_failure_of_its_key_was_not_sent_and_says_why() {
    let (mut server, link) = StandIn::start().await;
    let publisher = PubSubPublisher::new(link, &orders(true));
    let batch = ["first", "bad", "last"].map(|text| message(text, Some("k"))).to_vec();
    let serving = async {
        server.next(PUBLISH).await.refuse(Code::InvalidArgument);
        server.next(PUBLISH).await.refuse(Code::Unavailable);
    };
    let (results, ()) = tokio::join!(publisher.publish(batch), serving);
    let errors: Vec<_> = results.into_iter().map(Result::unwrap_err).collect();
    assert_eq!(errors[0].retry(), Retry::Uncertain);
    for unsent in &errors[1..] {
        assert_eq!((unsent.kind(), unsent.retry()), (ErrorKind::ConnectionLost, Retry::Safe), "{unsent}");
        assert!(unsent.message().contains("not sent"), "{unsent}");
        assert_eq!(unsent.context("destination"), Some("orders"));
    }
}

/// So much time passes at once.
async fn jump(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn calls_that_wait_on_one_dead_channel_replace_it_once() {
    let (mut server, link) = StandIn::start().await;
    let publisher = Arc::new(PubSubPublisher::new(Arc::clone(&link), &orders(false)));
    let publish = || {
        let publisher = Arc::clone(&publisher);
        tokio::spawn(async move { publisher.publish(vec![message("m", None)]).await })
    };
    let first = publish();
    let _unanswered = server.next(PUBLISH).await;
    jump(LIMIT / 2).await;
    let second = publish();
    let _neither = server.next(PUBLISH).await;
    for call in [first, second] {
        jump(LIMIT / 2).await;
        let error = call.await.unwrap().pop().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, Retry::Uncertain), "{error}");
        assert_eq!(link.channel_changes().borrow().number, 1);
    }
}

/// A stream of deliveries and its consumer.
async fn streaming(ordered: bool) -> (StandIn, PubSubConsumer, Answers) {
    let (mut server, link) = StandIn::start().await;
    let consumer = PubSubConsumer::open(link, &orders(ordered), &ConsumerOptions::new("shop"));
    let call = server.next(STREAMING_PULL).await;
    assert!(call.read::<StreamingPullRequest>().subscription.contains("orders"));
    (server, consumer, call.open())
}

fn deliver(ids: &[&str], key: &str) -> StreamingPullResponse {
    let one = |id: &&str| ReceivedMessage {
        ack_id: format!("ack {id}"),
        message: Some(PubsubMessage {
            message_id: (*id).into(),
            ordering_key: key.into(),
            ..PubsubMessage::default()
        }),
        delivery_attempt: 0,
    };
    StreamingPullResponse { received_messages: ids.iter().map(one).collect() }
}

fn ack(delivery: &Delivery) -> Vec<Settlement> {
    vec![Settlement { token: delivery.token.clone(), verdict: Verdict::Ack }]
}

#[tokio::test]
async fn a_stream_that_goes_silent_is_opened_again_on_another_connection() {
    let (mut server, consumer, mut answers) = streaming(false).await;
    answers.send(&StreamingPullResponse::default());
    answers.send(&deliver(&["1"], ""));
    assert_eq!(consumer.receive(1, LIMIT).await.unwrap().len(), 1);
    jump(SILENCE).await;
    let unanswered = server.next(STREAMING_PULL).await;
    assert_eq!(unanswered.connection, 1);
    // Of one that was heard before the opening is not waited for either.
    jump(SILENCE).await;
    let again = server.next(STREAMING_PULL).await;
    assert_eq!(again.connection, 2);
    let mut answers = again.open();
    answers.send(&deliver(&["2"], ""));
    while consumer.receive(1, LIMIT).await.is_err() {}
    assert_eq!(consumer.handed(), 2);
}

#[tokio::test]
async fn a_server_that_never_says_that_it_is_there_may_be_silent() {
    let (_server, consumer, mut answers) = streaming(false).await;
    for id in ["1", "2"] {
        answers.send(&deliver(&[id], ""));
        assert_eq!(consumer.receive(1, LIMIT).await.unwrap().len(), 1);
        jump(SILENCE * 2).await;
    }
    assert_eq!(consumer.inbox.link.channel_changes().borrow().number, 0);
}

#[tokio::test]
async fn a_failure_that_is_over_is_not_told() {
    let (mut server, link) = StandIn::start().await;
    let consumer = PubSubConsumer::open(link, &orders(false), &ConsumerOptions::new("shop"));
    server.next(STREAMING_PULL).await.refuse(Code::NotFound);
    let mut answers = server.next(STREAMING_PULL).await.open();
    assert!(consumer.inbox.failure().is_some());
    answers.send(&deliver(&["1"], ""));
    while consumer.inbox.held().len() == 0 {
        consumer.inbox.arrived.notified().await;
    }
    assert_eq!(consumer.receive(1, LIMIT).await.unwrap().len(), 1);
    assert!(consumer.receive(1, Duration::from_millis(1)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_close_does_not_give_back_what_is_being_acknowledged() {
    let (mut server, consumer, mut answers) = streaming(false).await;
    answers.send(&deliver(&["1", "2"], ""));
    let first = consumer.receive(1, LIMIT).await.unwrap();
    let serving = async {
        let ack = server.next(ACKNOWLEDGE).await;
        assert_eq!(ack.read::<AcknowledgeRequest>().ack_ids, ["ack 1"]);
        let closing = async {
            jump(GOODBYE).await;
            let back = server.next(MODIFY_ACK_DEADLINE).await;
            assert_eq!(back.read::<ModifyAckDeadlineRequest>().ack_ids, ["ack 2"]);
            back.answer(&Nothing {});
        };
        tokio::join!(consumer.close(), closing).0.unwrap();
        ack.answer(&Nothing {});
    };
    let (settled, ()) = tokio::join!(consumer.settle(ack(&first[0])), serving);
    settled.into_iter().for_each(Result::unwrap);
}

#[tokio::test]
async fn a_close_waits_for_what_is_being_acknowledged() {
    let (mut server, consumer, mut answers) = streaming(true).await;
    answers.send(&deliver(&["1", "2"], "k"));
    let first = consumer.receive(1, LIMIT).await.unwrap();
    let serving = async {
        let ack = server.next(ACKNOWLEDGE).await;
        // The server ends its side, and then there is only the acknowledgement to wait for.
        drop(answers);
        while Arc::strong_count(&consumer.inbox) > 1 {
            tokio::task::yield_now().await;
        }
        ack.answer(&Nothing {});
        // What is behind it of its key goes back only now.
        let back = server.next(MODIFY_ACK_DEADLINE).await;
        assert_eq!(back.read::<ModifyAckDeadlineRequest>().ack_ids, ["ack 2"]);
        back.answer(&Nothing {});
    };
    let (settled, closed, ()) = tokio::join!(consumer.settle(ack(&first[0])), consumer.close(), serving);
    settled.into_iter().for_each(Result::unwrap);
    closed.unwrap();
}

#[tokio::test]
async fn a_close_gives_back_what_somebody_gave_up_to_acknowledge() {
    let (mut server, consumer, mut answers) = streaming(false).await;
    answers.send(&deliver(&["1"], ""));
    let first = consumer.receive(1, LIMIT).await.unwrap();
    let _unanswered = tokio::select! {
        call = server.next(ACKNOWLEDGE) => call,
        _ = consumer.settle(ack(&first[0])) => unreachable!("nobody answers"),
    };
    // The server ends its side.
    drop(answers);
    let serving = async {
        let back = server.next(MODIFY_ACK_DEADLINE).await;
        assert_eq!(back.read::<ModifyAckDeadlineRequest>().ack_ids, ["ack 1"]);
        back.answer(&Nothing {});
    };
    tokio::join!(consumer.close(), serving).0.unwrap();
}
