//! What SQS answers and emulators do not: refused keys, throttling, answers that get lost; and what is asked of it.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's")]

mod support;

use ductape_core::error::Retry;
use ductape_core::{Destination, ErrorKind};
use futures_util::future::join_all;
use futures_util::poll;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::stand_in::{Reply, StandIn};
use support::{SECRET, SOON, TOKEN, Topic, ack, connect, message, try_connect};
use tokio::sync::watch;

const LEASE: Duration = Duration::from_secs(30);

type Results = Vec<ductape_core::Result<ductape_core::Position>>;

#[tokio::test]
async fn each_refusal_of_a_connection_has_its_kind_and_a_fix_and_tells_no_secret() {
    for (json, query, words) in [
        ("UnrecognizedClientException", "InvalidClientTokenId", "accessKeyId"),
        ("InvalidSignatureException", "SignatureDoesNotMatch", "secretAccessKey"),
        ("ExpiredTokenException", "ExpiredToken", "expired"),
        ("RequestExpired", "RequestExpired", "clock"),
    ] {
        let server = StandIn::start(move |_, _| Reply::Refused(403, json, query)).await;
        let error = try_connect(&server.address, SOON).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed, "{error}");
        assert_eq!(error.retry(), Retry::Never);
        assert!(error.help().is_some_and(|help| help.contains(words)), "{error}");
        for said in [format!("{error}"), format!("{error:?}")] {
            assert!(!said.contains(SECRET) && !said.contains(TOKEN), "{said}");
        }
    }
}

#[tokio::test]
async fn who_may_not_list_queues_connects_and_who_may_not_use_one_is_told() {
    let denied = |_: &str, _: &_| Reply::Refused(403, "AccessDeniedException", "AccessDenied");
    let server = StandIn::start(denied).await;
    let broker = connect(&server.address).await;
    let error = broker.ensure(&Destination::new("orders", "readers")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(error.context("destination"), Some("orders"));
    assert!(error.help().is_some_and(|help| help.contains("allow")), "{error}");
}

#[tokio::test]
async fn a_port_where_nobody_listens_and_a_server_without_answer_are_told_apart() {
    let closed = try_connect("127.0.0.1:1", SOON).await.map(drop).unwrap_err();
    assert_eq!((closed.kind(), closed.retry()), (ErrorKind::ConnectFailed, Retry::Safe), "{closed}");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let late = try_connect(&address, Duration::from_millis(200)).await.map(drop).unwrap_err();
    assert_eq!((late.kind(), late.retry()), (ErrorKind::Timeout, Retry::Safe), "{late}");
}

#[tokio::test]
async fn a_throttled_message_is_an_error_of_its_own_and_the_others_go_on() {
    let server = StandIn::start(|operation, _| match operation {
        "SendMessageBatch" => Reply::Answer(json!({
            "Successful": [{ "Id": "0", "MessageId": "m-0", "MD5OfMessageBody": "" },
                           { "Id": "2", "MessageId": "m-2", "MD5OfMessageBody": "" }],
            "Failed": [{ "Id": "1", "Code": "RequestThrottled", "SenderFault": true, "Message": "slower" }],
        })),
        _ => Reply::Usual,
    })
    .await;
    let topic = Topic::open(connect(&server.address).await, "orders").await;
    let batch = (0..4).map(|n| message(None, n.to_string())).collect();
    let results = topic.publisher.publish(batch).await;
    assert!(results[0].is_ok() && results[2].is_ok());
    let throttled = results[1].as_ref().unwrap_err();
    assert_eq!(throttled.kind(), ErrorKind::Throttled);
    assert!(matches!(throttled.retry(), Retry::After(_)), "{throttled}");
    // SQS said nothing of the last one.
    assert!(results[3].as_ref().unwrap_err().is_uncertain());
}

#[tokio::test]
async fn a_throttled_request_holds_nothing_else_up() {
    let asked = AtomicUsize::new(0);
    let server = StandIn::start(move |operation, _| match operation {
        "SendMessageBatch" if asked.fetch_add(1, Ordering::SeqCst) == 0 => {
            Reply::Refused(400, "RequestThrottled", "RequestThrottled")
        }
        _ => Reply::Usual,
    })
    .await;
    let topic = Topic::open(connect(&server.address).await, "orders").await;
    let first = topic.publisher.publish(vec![message(None, "1")]).await.pop().unwrap().unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Throttled);
    topic.publish(vec![message(None, "2")]).await;
}

#[tokio::test]
async fn a_lost_answer_is_uncertain_on_a_standard_queue_and_asked_again_on_a_fifo_queue() {
    for (name, sends) in [("orders", 1), ("orders.fifo", 2)] {
        let asked = AtomicUsize::new(0);
        let server = StandIn::start(move |operation, _| match operation {
            "SendMessageBatch" if asked.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Lost,
            _ => Reply::Usual,
        })
        .await;
        let topic = Topic::open(connect(&server.address).await, name).await;
        let result = topic.publisher.publish(vec![message(Some("k"), "1")]).await.pop().unwrap();
        let requests = server.requests("SendMessageBatch");
        assert_eq!(requests.len(), sends, "{name}");
        match sends {
            1 => assert!(result.unwrap_err().is_uncertain()),
            _ => {
                result.unwrap();
                let id = |n: usize| requests[n]["Entries"][0]["MessageDeduplicationId"].clone();
                assert!(id(0).is_string() && id(0) == id(1));
                assert_eq!(requests[0]["Entries"][0]["MessageGroupId"], "k");
            }
        }
    }
}

#[tokio::test]
async fn credentials_that_expire_are_told_by_a_receive_with_the_fix() {
    let server = StandIn::start(|operation, _| match operation {
        "ReceiveMessage" => Reply::Refused(403, "ExpiredTokenException", "ExpiredToken"),
        _ => Reply::Usual,
    })
    .await;
    let topic = Topic::open(connect(&server.address).await, "orders").await;
    let error = topic.consumer(LEASE).await.receive(1, SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    assert!(error.help().is_some_and(|help| help.contains("sessionToken")), "{error}");
}

#[tokio::test]
async fn a_queue_that_is_gone_is_told_with_what_to_do() {
    let server = StandIn::start(|operation, _| match operation {
        "SendMessageBatch" | "ReceiveMessage" => {
            Reply::Refused(400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue")
        }
        _ => Reply::Usual,
    })
    .await;
    let topic = Topic::open(connect(&server.address).await, "orders").await;
    let refused = topic.publisher.publish(vec![message(None, "1")]).await.pop().unwrap().unwrap_err();
    let received = topic.consumer(LEASE).await.receive(1, SOON).await.unwrap_err();
    for error in [refused, received] {
        assert_eq!(error.kind(), ErrorKind::DestinationNotFound);
        assert!(
            error.help().is_some_and(|help| help.contains("gone") && help.contains("make it")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_redrive_policy_of_the_queue_s_own_is_shown_with_what_it_undercuts() {
    for (most, fix) in [(3, true), (20, false)] {
        let policy = json!({ "deadLetterTargetArn": "arn:aws:sqs:r:1:dead", "maxReceiveCount": most });
        let server = StandIn::start(move |operation, _| match operation {
            "GetQueueAttributes" => {
                Reply::Answer(json!({ "Attributes": { "RedrivePolicy": policy.to_string() } }))
            }
            _ => Reply::Usual,
        })
        .await;
        let broker = connect(&server.address).await;
        let destination = Destination::new("orders", "billing");
        broker.ensure(&destination).await.unwrap();
        let seen = broker.inspect(&destination).await.unwrap();
        let [note] = &seen.notes[..] else { panic!("{seen:?}") };
        assert!(
            note.contains("arn:aws:sqs:r:1:dead") && note.contains(&format!("{most} receives")),
            "{note}"
        );
        assert_eq!(note.contains("raise maxReceiveCount"), fix, "{note}");
    }
}

/// Takes `count` messages and acknowledges each by a call of its own, all at once.
async fn consume(topic: &Topic, count: usize) {
    let consumer = topic.consumer(LEASE).await;
    let (start, mut settled) = (Instant::now(), 0);
    while settled < count {
        assert!(start.elapsed() < SOON, "{settled} of {count}");
        let deliveries = consumer.receive(256, SOON).await.unwrap();
        let acks = deliveries.iter().map(|delivery| consumer.settle(vec![ack(delivery)]));
        settled += join_all(acks).await.into_iter().flatten().filter(Result::is_ok).count();
    }
}

#[tokio::test]
async fn a_thousand_messages_cost_a_hundred_sends_and_a_hundred_deletes() {
    let server = StandIn::start(|_, _| Reply::Usual).await;
    let topic = Topic::open(connect(&server.address).await, "orders").await;
    topic.publish((0..1000).map(|n| message(None, n.to_string())).collect()).await;
    assert_eq!(server.counts()["SendMessageBatch"], 100, "of one batch");
    // As many tasks that publish one message each.
    let singles = (0..1000).map(|n| topic.publish(vec![message(None, n.to_string())]));
    join_all(singles).await;
    // A request waits 20 ms for more; on a machine that does much else a few leave before they are full.
    assert!(server.counts()["SendMessageBatch"] <= 210, "{:?}", server.counts());
    consume(&topic, 2000).await;
    let counts = server.counts();
    assert!(counts["DeleteMessageBatch"] <= 220, "{counts:?}");
    assert_eq!(server.len(), 0);
    println!("requests for 2,000 messages: {counts:?}");
}

#[tokio::test]
async fn an_empty_queue_is_asked_once_in_twenty_seconds() {
    let server = StandIn::start(|_, _| Reply::Usual).await;
    let topic = Topic::open(connect(&server.address).await, "orders").await;
    let consumer = topic.consumer(LEASE).await;
    for _ in 0..5 {
        // However often the worker is disturbed, one receive waits at the server.
        let disturbed = tokio::time::timeout(Duration::from_millis(100), consumer.receive(256, SOON)).await;
        assert!(disturbed.is_err());
    }
    let asked = server.requests("ReceiveMessage");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["WaitTimeSeconds"], 20);
    assert_eq!(asked[0]["MaxNumberOfMessages"], 10);
}

#[tokio::test]
async fn what_a_receive_brings_after_the_close_is_given_back_at_once() {
    let server = StandIn::start(|_, _| Reply::Usual).await;
    let topic = Topic::open(connect(&server.address).await, "orders").await;
    let consumer = topic.consumer(LEASE).await;
    let receive = consumer.receive(10, SOON);
    assert!(tokio::time::timeout(Duration::from_millis(200), receive).await.is_err());
    let start = Instant::now();
    consumer.close().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "the close does not wait for the receive");
    topic.publish(vec![message(None, "late")]).await;
    while !server.counts().contains_key("ChangeMessageVisibilityBatch") {
        assert!(start.elapsed() < SOON, "not given back: {:?}", server.counts());
        // tidy: sleeps because the condition is looked at anew after it.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let given = server.requests("ChangeMessageVisibilityBatch");
    assert_eq!(given[0]["Entries"][0]["VisibilityTimeout"], 0);
}

#[tokio::test]
async fn leases_are_renewed_ten_a_request() {
    let server = StandIn::start(|_, _| Reply::Usual).await;
    let topic = Topic::open(connect(&server.address).await, "orders").await;
    topic.publish((0..25).map(|n| message(None, n.to_string())).collect()).await;
    let consumer = topic.consumer(Duration::from_secs(2)).await;
    let (start, mut held) = (Instant::now(), 0);
    while held < 25 {
        held += consumer.receive(256, SOON).await.unwrap().len();
        assert!(start.elapsed() < SOON);
    }
    consumer.extend().await.unwrap();
    assert!(!server.counts().contains_key("ChangeMessageVisibilityBatch"), "they were received just now");
    while server.counts().get("ChangeMessageVisibilityBatch").copied().unwrap_or(0) < 3 {
        assert!(start.elapsed() < SOON, "{:?}", server.counts());
        // tidy: sleeps because a lease is renewed now and then until the condition holds.
        tokio::time::sleep(Duration::from_millis(50)).await;
        consumer.extend().await.unwrap();
    }
    let entries = server.requests("ChangeMessageVisibilityBatch");
    let most = entries.iter().map(|body| body["Entries"].as_array().unwrap().len()).max();
    assert!(most <= Some(10));
}

/// What a queue says of each message when it is asked for the first time and the second.
async fn publish_twice_asked(queue: &str, first: fn() -> Reply, then: fn() -> Reply) -> (StandIn, Results) {
    let asked = AtomicUsize::new(0);
    let server = StandIn::start(move |operation, _| match operation {
        "SendMessageBatch" if asked.fetch_add(1, Ordering::SeqCst) == 0 => first(),
        "SendMessageBatch" => then(),
        _ => Reply::Usual,
    })
    .await;
    let topic = Topic::open(connect(&server.address).await, queue).await;
    let batch = ["a", "a", "b"].map(|key| message(Some(key), key)).into();
    let results = topic.publisher.publish(batch).await;
    (server, results)
}

fn entries(failed: &[(&str, &str)]) -> Reply {
    let code = |id: &str| failed.iter().find(|(of, _)| *of == id).map(|(_, code)| *code);
    let (mut done, mut not) = (Vec::new(), Vec::new());
    for id in ["0", "1", "2"] {
        match code(id) {
            Some(code) => not.push(json!({ "Id": id, "Code": code, "SenderFault": code != "InternalError" })),
            None => done.push(json!({ "Id": id, "MessageId": id, "MD5OfMessageBody": "" })),
        }
    }
    Reply::Answer(json!({ "Successful": done, "Failed": not }))
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_leaves_it_uncertain() {
    let refused = || Reply::Refused(403, "ExpiredTokenException", "ExpiredToken");
    let (_server, results) = publish_twice_asked("orders.fifo", || Reply::Lost, refused).await;
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().is_uncertain()), "{results:?}");
    let one = || entries(&[("1", "InvalidMessageContents")]);
    let (_server, results) = publish_twice_asked("orders.fifo", || Reply::Lost, one).await;
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(results[1].as_ref().unwrap_err().is_uncertain(), "{results:?}");
}

#[tokio::test]
async fn an_entry_that_failed_by_the_server_s_fault_is_sent_again_where_that_keeps_the_order() {
    let failed = || entries(&[("1", "InternalError")]);
    let (server, results) = publish_twice_asked("orders.fifo", failed, || Reply::Usual).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let requests = server.requests("SendMessageBatch");
    let again = requests[1]["Entries"].as_array().unwrap();
    assert_eq!(again.iter().map(|entry| &entry["Id"]).collect::<Vec<_>>(), ["1"]);
    // The second of its group is taken: the first would come after it.
    let overtaken = || entries(&[("0", "InternalError")]);
    let (server, results) = publish_twice_asked("orders.fifo", overtaken, || Reply::Usual).await;
    assert!(results[0].as_ref().unwrap_err().is_uncertain(), "{results:?}");
    assert!(results[1].is_ok() && results[2].is_ok(), "{results:?}");
    assert_eq!(server.requests("SendMessageBatch").len(), 1);
}

#[tokio::test]
async fn a_server_that_fails_by_whatever_code_leaves_a_publish_uncertain() {
    let unknown = || Reply::Refused(500, "InternalServiceException", "InternalServiceException");
    let unavailable = || Reply::Refused(503, "ServiceUnavailable", "ServiceUnavailable");
    for failed in [unknown as fn() -> Reply, unavailable] {
        let (_server, results) = publish_twice_asked("orders", failed, || Reply::Usual).await;
        assert!(results.iter().all(|result| result.as_ref().unwrap_err().is_uncertain()), "{results:?}");
        let (server, results) = publish_twice_asked("orders.fifo", failed, || Reply::Usual).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(server.requests("SendMessageBatch").len(), 2);
    }
}

#[tokio::test]
async fn what_its_caller_gave_up_is_not_sent_later() {
    let (open, gate) = watch::channel(false);
    let server = StandIn::start(move |operation, _| match operation {
        "SendMessageBatch" => Reply::Held(gate.clone(), Box::new(Reply::Usual)),
        _ => Reply::Usual,
    })
    .await;
    let topic = Topic::open(connect(&server.address).await, "orders.fifo").await;
    let batch = |word: &str, count| (0..count).map(|n| message(Some("k"), format!("{word}-{n}"))).collect();
    {
        // The first ten are with the server when the call is given up.
        let mut given_up = Box::pin(topic.publisher.publish(batch("given-up", 25)));
        assert!(poll!(&mut given_up).is_pending());
        server.asked("SendMessageBatch", 1).await;
    }
    let mut kept = Box::pin(topic.publish(batch("kept", 1)));
    assert!(poll!(&mut kept).is_pending());
    open.send_replace(true);
    kept.await;
    let requests = server.requests("SendMessageBatch");
    let sent = requests.iter().flat_map(|body| body["Entries"].as_array().unwrap());
    let sent: Vec<_> = sent.map(|entry| entry["MessageBody"].as_str().unwrap()).collect();
    assert_eq!(sent.len(), 11, "{sent:?}");
    assert_eq!(sent.last(), Some(&"kept-0"));
}
