//! Verdicts that SQS does not take at once, and leases that are renewed meanwhile: what a settle says is so, and nothing
//! stays in hand that nobody settles any more.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's")]

mod support;

use ductape_core::{Consumer, ConsumerOptions, Delivery, Destination, ErrorKind, Settlement, Verdict};
use futures_util::poll;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::stand_in::{Reply, StandIn};
use support::{SOON, Topic, ack, connect, message, text};
use tokio::sync::watch;

const DELETE: &str = "DeleteMessageBatch";
const CHANGE: &str = "ChangeMessageVisibilityBatch";
/// Renewed from a sixth of it on, and long enough for a busy machine.
const LEASE: Duration = Duration::from_secs(12);
const LEASE_SECONDS: u64 = 12;

fn throttled() -> Reply {
    Reply::Refused(400, "RequestThrottled", "RequestThrottled")
}

/// A consumer with so many in hand.
async fn consumer_with(
    server: &StandIn,
    count: usize,
    lease: Duration,
) -> (Arc<dyn Consumer>, Vec<Delivery>) {
    let topic = Topic::open(connect(&server.address).await, "orders").await;
    topic.publish((0..count).map(|n| message(None, n.to_string())).collect()).await;
    let consumer = topic.consumer(lease).await;
    let (start, mut held) = (Instant::now(), Vec::new());
    while held.len() < count {
        held.extend(consumer.receive(256, SOON).await.unwrap());
        assert!(start.elapsed() < SOON);
    }
    held.sort_by_key(|delivery| text(delivery).parse::<usize>().unwrap());
    (consumer, held)
}

/// Renews until SQS was asked to so often.
async fn extend_until(server: &StandIn, consumer: &Arc<dyn Consumer>, changes: usize) {
    let start = Instant::now();
    while server.requests(CHANGE).len() < changes {
        assert!(start.elapsed() < SOON, "{:?}", server.counts());
        consumer.extend().await.unwrap();
        // tidy: sleeps because a lease is renewed now and then until the condition holds.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn receipts(body: &Value) -> Vec<String> {
    let entries = body["Entries"].as_array().unwrap().iter();
    entries.map(|entry| entry["ReceiptHandle"].as_str().unwrap().to_owned()).collect()
}

async fn settle(consumer: &Arc<dyn Consumer>, settlement: Settlement) -> ductape_core::Result<()> {
    consumer.settle(vec![settlement]).await.pop().unwrap()
}

#[tokio::test]
async fn what_a_throttled_delete_leaves_is_not_renewed_and_may_be_told_again() {
    let deletes = AtomicUsize::new(0);
    let server = StandIn::start(move |operation, _| match operation {
        DELETE if deletes.fetch_add(1, Ordering::SeqCst) == 0 => throttled(),
        _ => Reply::Usual,
    })
    .await;
    let (consumer, held) = consumer_with(&server, 2, LEASE).await;
    let refused = settle(&consumer, ack(&held[0])).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    extend_until(&server, &consumer, 1).await;
    let renewed: Vec<_> = server.requests(CHANGE).iter().flat_map(receipts).collect();
    assert_eq!(renewed, ["r-1"], "whoever settled the other may be gone");
    settle(&consumer, ack(&held[0])).await.unwrap();
    assert_eq!(server.requests(DELETE).iter().flat_map(receipts).collect::<Vec<_>>(), ["r-0", "r-0"]);
}

#[tokio::test]
async fn an_acknowledgement_of_what_a_renewal_lost_is_told_so() {
    let server = StandIn::start(|operation, _| match operation {
        CHANGE => Reply::Answer(json!({ "Successful": [], "Failed": [
            { "Id": "0", "Code": "ReceiptHandleIsInvalid", "SenderFault": true, "Message": "expired" }] })),
        _ => Reply::Usual,
    })
    .await;
    let (consumer, held) = consumer_with(&server, 1, LEASE).await;
    extend_until(&server, &consumer, 1).await;
    let lost = settle(&consumer, ack(&held[0])).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::LeaseLost);
    assert!(server.requests(DELETE).is_empty());
}

#[tokio::test]
async fn a_throttled_renewal_loses_nothing() {
    let server = StandIn::start(|operation, _| match operation {
        CHANGE => Reply::Answer(json!({ "Successful": [], "Failed": [
            { "Id": "0", "Code": "RequestThrottled", "SenderFault": true, "Message": "slower" }] })),
        _ => Reply::Usual,
    })
    .await;
    let (consumer, held) = consumer_with(&server, 1, LEASE).await;
    let start = Instant::now();
    while consumer.extend().await.is_ok() {
        assert!(start.elapsed() < SOON, "it is never renewed");
        // tidy: sleeps because a lease is renewed now and then until the condition holds.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    settle(&consumer, ack(&held[0])).await.unwrap();
}

#[tokio::test]
async fn who_settles_again_what_is_being_told_hears_what_becomes_of_it() {
    for taken in [true, false] {
        let (open, gate) = watch::channel(false);
        let server = StandIn::start(move |operation, _| match operation {
            DELETE => Reply::Held(gate.clone(), Box::new(if taken { Reply::Usual } else { throttled() })),
            _ => Reply::Usual,
        })
        .await;
        let (consumer, held) = consumer_with(&server, 1, LEASE).await;
        {
            // Given up by its caller, as core does at its deadline.
            let mut first = pin!(settle(&consumer, ack(&held[0])));
            assert!(poll!(&mut first).is_pending());
            server.asked(DELETE, 1).await;
        }
        let mut second = pin!(settle(&consumer, ack(&held[0])));
        assert!(poll!(&mut second).is_pending(), "nothing is known of it");
        open.send_replace(true);
        let said = second.await;
        assert_eq!(
            said.as_ref().err().map(ductape_core::Error::kind),
            (!taken).then_some(ErrorKind::Throttled)
        );
        assert_eq!(server.requests(DELETE).len(), 1);
        if taken {
            settle(&consumer, ack(&held[0])).await.unwrap();
            assert_eq!(server.requests(DELETE).len(), 1, "it is settled");
        }
    }
}

#[tokio::test]
async fn a_delay_outlasts_the_renewals_that_were_on_their_way_or_waited() {
    const DELAY: u64 = 300;
    let (open, gate) = watch::channel(false);
    let server = StandIn::start(move |operation, body| match operation {
        CHANGE if body["Entries"][0]["VisibilityTimeout"] == LEASE_SECONDS => {
            Reply::Held(gate.clone(), Box::new(Reply::Usual))
        }
        _ => Reply::Usual,
    })
    .await;
    let (consumer, held) = consumer_with(&server, 90, LEASE).await;
    let renewing = async {
        let start = Instant::now();
        while server.requests(CHANGE).is_empty() {
            assert!(start.elapsed() < SOON, "nothing is renewed");
            consumer.extend().await.unwrap();
            // tidy: sleeps because a lease is renewed now and then until the condition holds.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let settling = async {
        server.asked(CHANGE, 1).await;
        let retry = Verdict::Retry(Duration::from_secs(DELAY));
        let retry = |delivery: &Delivery| Settlement { token: delivery.token.clone(), verdict: retry };
        for result in consumer.settle(held.iter().map(retry).collect()).await {
            result.unwrap();
        }
        open.send_replace(true);
    };
    futures_util::future::join(renewing, settling).await;
    let renewed: Vec<_> = server
        .requests(CHANGE)
        .iter()
        .filter(|body| body["Entries"][0]["VisibilityTimeout"] == LEASE_SECONDS)
        .flat_map(receipts)
        .collect();
    assert!((1..=80).contains(&renewed.len()), "those of the ninth request were settled: {}", renewed.len());
    let start = Instant::now();
    while server.hidden().values().any(|seconds| *seconds != DELAY) {
        assert!(start.elapsed() < SOON, "{:?}", server.hidden());
        // tidy: sleeps because the condition is looked at anew after it.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.hidden().into_keys().collect::<BTreeSet<_>>().len(), 90);
}

#[tokio::test]
async fn a_delete_that_fails_by_an_unknown_fault_of_the_server_may_be_told_again() {
    let deletes = AtomicUsize::new(0);
    let server = StandIn::start(move |operation, _| match operation {
        DELETE if deletes.fetch_add(1, Ordering::SeqCst) == 0 => {
            Reply::Refused(500, "InternalServiceException", "InternalServiceException")
        }
        _ => Reply::Usual,
    })
    .await;
    let (consumer, held) = consumer_with(&server, 1, LEASE).await;
    let failed = settle(&consumer, ack(&held[0])).await.unwrap_err();
    assert!(failed.is_retryable(), "{failed}");
    settle(&consumer, ack(&held[0])).await.unwrap();
}

#[tokio::test]
async fn a_lease_that_sqs_does_not_have_is_refused() {
    let server = StandIn::start(|_, _| Reply::Usual).await;
    let broker = connect(&server.address).await;
    let destination = Destination::new("orders", "readers");
    broker.ensure(&destination).await.unwrap();
    let longest = Duration::from_secs(43_200);
    for (lease, fits) in [(longest, true), (longest + Duration::from_millis(1), false)] {
        let options = ConsumerOptions { lease, ..ConsumerOptions::new("readers") };
        match broker.consumer(&destination, &options).await {
            Ok(_) => assert!(fits),
            Err(error) => {
                assert!(!fits, "{error}");
                assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
                assert_eq!(error.context("destination"), Some("orders"));
            }
        }
    }
}
