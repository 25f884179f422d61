//! The client over the in-process provider: the calls of a service, from the catalogue to the dead letters.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use ductape_core::catalogue::Catalogue;
use ductape_core::client::{Client, Incoming, IncomingStream, LetterFilter, NewMessage, Publish, Subscribe};
use ductape_core::worker::Failure;
use ductape_core::{Delivery, ErrorKind, RetryPolicy, Start};
use ductape_memory::MemoryProvider;
use futures_util::future::maybe_done;
use futures_util::poll;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;

const EVENT: &str = "order-events:new-orders";
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order_id: String,
    total: f64,
}

async fn client() -> Client {
    let catalogue = Catalogue::from_yaml(
        "
product: my-product
brokers:
  - name: Order Events
    tag: order-events
    envs:
      - { slug: dev, type: MEMORY, config: {} }
      - { slug: prd, type: KAFKA, config: { brokers: ['localhost:9092'] } }
    topics:
      - name: New Orders
        tag: order-events:new-orders
        validation: strict
        sample: { orderId: '12345', total: 99.99 }
      - { name: Raw, tag: raw }
sessions:
  - { tag: user-session, algorithm: HS256, secret: '${DUCTAPE_TEST_UNSET}', subject: userId }
",
    )
    .unwrap();
    Client::memory(catalogue).provider(MemoryProvider::isolated()).build().await.unwrap()
}

fn order(id: &str) -> Order {
    Order { order_id: id.into(), total: 99.99 }
}

async fn next<T>(receiver: &mut mpsc::Receiver<T>) -> T {
    tokio::time::timeout(DEADLINE, receiver.recv()).await.expect("in time").expect("a message")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_handled_with_its_metadata() {
    let client = client().await;
    let (done, mut handled) = mpsc::channel(1);
    let subscribe = Subscribe::new(EVENT).env("dev").product("my-product").concurrency(16);
    let handler = move |order: Order, delivery: Delivery| {
        let done = done.clone();
        async move { done.send((order, delivery)).await }
    };
    let subscription = client.broker().subscribe(subscribe, handler).await.unwrap();
    let publish =
        Publish::new(EVENT).message(&order("1")).unwrap().key("cust").header("source-ip", "192.0.2.7");
    let receipt = client.broker().publish(publish).await.unwrap();
    let (taken, delivery) = next(&mut handled).await;
    assert_eq!(taken, order("1"));
    let message = &delivery.message;
    assert_eq!((message.id.clone(), message.event(), message.source()), (receipt.id, EVENT, "/my-product"));
    assert_eq!(message.headers.get("source-ip").unwrap().as_str(), Some("192.0.2.7"));
    subscription.stop().await.unwrap();
    client.close().await.unwrap();
}

#[tokio::test]
async fn every_wrong_name_has_its_own_error_with_what_exists() {
    let client = client().await;
    let cases = [
        (None, "order-event:new-orders", None, ErrorKind::BrokerNotFound, "did you mean `order-events`?"),
        (
            None,
            "order-events:new-order",
            None,
            ErrorKind::TopicNotFound,
            "did you mean `order-events:new-orders`?",
        ),
        (None, EVENT, Some("prod"), ErrorKind::BrokerEnvNotFound, "did you mean `prd`?"),
        (Some("my-products"), EVENT, None, ErrorKind::ProductNotFound, "did you mean `my-product`?"),
        (None, "new-orders", None, ErrorKind::TagInvalid, "`broker:topic`"),
    ];
    for (product, event, env, kind, help) in cases {
        let error = client.route(product, event, env).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(help), "{error}");
    }
    let error = client.broker().publish(Publish::new(EVENT).env("prd")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProviderNotEnabled);
    assert!(error.help().unwrap().contains("features = [\"kafka\"]"), "{error}");
}

#[tokio::test]
async fn one_bad_message_of_a_batch_does_not_stop_the_others() {
    let client = client().await;
    let batch = [
        NewMessage::json(&order("1")).unwrap(),
        NewMessage::json(&json!({ "orderId": 7, "total": 1 })).unwrap(),
        NewMessage::json(&order("2")).unwrap().header("ce_id", "mine"),
        NewMessage::json(&order("3")).unwrap().session("user-session", "token-secret"),
        NewMessage::json(&order("4")).unwrap(),
    ];
    let results = client.broker().publish_batch(EVENT, None, batch).await.unwrap();
    let kinds: Vec<_> = results.iter().map(|r| r.as_ref().err().map(|e| e.kind())).collect();
    use ErrorKind::{MessageInvalid, SecretMissing};
    assert_eq!(kinds, [None, Some(MessageInvalid), Some(MessageInvalid), Some(SecretMissing), None]);
    assert!(results[1].as_ref().unwrap_err().to_string().contains("/orderId"), "{:?}", results[1]);
    let told = results[3].as_ref().unwrap_err().to_string();
    assert!(told.contains("DUCTAPE_TEST_UNSET") && !told.contains("token-secret"), "{told}");
    assert_eq!(client.inspect(EVENT, None).await.unwrap().destination.groups[0].lag, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_redriven_to_their_group_alone_and_purged() {
    let client = client().await;
    let (billing_tx, mut billing) = mpsc::channel(16);
    let (audit_tx, mut audit) = mpsc::channel(16);
    let once = RetryPolicy::none();
    let failing = client
        .broker()
        .subscribe(Subscribe::new("order-events:raw").retry(once), |delivery: Delivery| async move {
            Err::<(), _>(Failure::retry(format_args!("cannot handle {:?}", delivery.message.payload)))
        })
        .await
        .unwrap();
    let audit_all = Subscribe::new("order-events:raw").group("audit");
    let auditing = client
        .broker()
        .subscribe(audit_all, move |delivery: Delivery| {
            let audit = audit_tx.clone();
            async move { audit.send(delivery.message.payload).await }
        })
        .await
        .unwrap();
    for body in ["a", "b", "c"] {
        client.broker().publish(Publish::new("order-events:raw").payload(body)).await.unwrap();
    }
    let begun = std::time::Instant::now();
    while failing.stats().dead_lettered < 3 {
        assert!(begun.elapsed() < DEADLINE);
        tokio::task::yield_now().await;
    }
    failing.stop().await.unwrap();
    for _ in 0..3 {
        next(&mut audit).await;
    }
    assert_eq!(client.inspect("order-events:raw", None).await.unwrap().dead_letters, Some(3));

    let letters = client.broker().dead_letters("order-events:raw", None).await.unwrap();
    let mut listed = letters.list(10).await.unwrap();
    listed.sort_by_key(|letter| letter.payload.clone());
    assert_eq!(listed.iter().map(|m| m.payload.clone()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(&*listed[0].dead_letter().unwrap().reason, "cannot handle b\"a\"");
    let id = listed[1].id.to_string();
    assert_eq!(letters.show(&id).await.unwrap().unwrap().payload, "b");
    assert!(letters.show("none").await.unwrap().is_none());
    let counts = letters.redrive(LetterFilter::Ids(std::slice::from_ref(&id))).await.unwrap();
    assert_eq!((counts.taken, counts.left), (1, 2));

    let handling = client
        .broker()
        .subscribe(Subscribe::new("order-events:raw"), move |delivery: Delivery| {
            let billing = billing_tx.clone();
            async move { billing.send(delivery).await }
        })
        .await
        .unwrap();
    let again = next(&mut billing).await;
    assert_eq!((again.message.id.to_string(), &*again.message.payload), (id, &b"b"[..]));
    handling.stop().await.unwrap();
    while auditing.stats().discarded == 0 {
        assert!(begun.elapsed() < DEADLINE, "the other group acknowledges it unseen");
        tokio::task::yield_now().await;
    }
    assert!(audit.try_recv().is_err());
    auditing.stop().await.unwrap();
    assert_eq!(letters.purge(LetterFilter::All).await.unwrap().taken, 2);
    assert_eq!(letters.count().await.unwrap(), 0);
}

#[tokio::test]
async fn deliveries_settled_by_hand_come_back_unless_acknowledged() {
    let client = client().await;
    let raw = "order-events:raw";
    let batch = ["ack", "drop", "reject"].map(NewMessage::raw);
    client.broker().publish_batch(raw, None, batch).await.unwrap();
    let subscribe = || Subscribe::new(raw).start(Start::Earliest);
    let mut stream = client.broker().consume(subscribe()).await.unwrap();
    for _ in 0..3 {
        let incoming = stream.next().await.unwrap().unwrap();
        match &incoming.message.payload[..] {
            b"ack" => incoming.ack().await.unwrap(),
            b"reject" => incoming.reject("not wanted").await.unwrap(),
            _ => drop(incoming),
        }
    }
    let again = tokio::time::timeout(DEADLINE, stream.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((&*again.message.payload, again.attempt), (&b"drop"[..], 1));
    again.ack().await.unwrap();
    stream.close().await;
    let seen = client.inspect(raw, None).await.unwrap();
    assert_eq!((seen.destination.groups[0].lag, seen.dead_letters), (Some(0), Some(1)));
}

#[tokio::test]
async fn many_are_taken_and_acknowledged_at_once() {
    let client = client().await;
    let raw = "order-events:raw";
    client.broker().publish_batch(raw, None, ["1", "2", "3"].map(NewMessage::raw)).await.unwrap();
    let mut stream = client.broker().consume(Subscribe::new(raw).start(Start::Earliest)).await.unwrap();
    let mut taken = Vec::new();
    while taken.len() < 3 {
        let more = tokio::time::timeout(DEADLINE, stream.next_many(3 - taken.len())).await.unwrap();
        taken.extend(more.into_iter().map(|incoming| incoming.unwrap()));
    }
    let last = taken.pop();
    let results = Incoming::ack_all(taken).await;
    assert!(results.len() == 2 && results.iter().all(|result| result.is_ok()), "{results:?}");
    drop(last);
    stream.close().await;
    assert_eq!(client.inspect(raw, None).await.unwrap().destination.groups[0].lag, Some(1));
}

#[tokio::test]
async fn a_message_that_is_forwarded_stays_what_it_was() {
    let client = client().await;
    let (from, to) = ("order-events:raw", "order-events:new-orders");
    let message = NewMessage::raw("1").key("k").header("h", "v");
    client.broker().publish_batch(from, None, [message]).await.unwrap();
    let take = async |event| {
        let subscribe = Subscribe::new(event).start(Start::Earliest);
        let mut stream = client.broker().consume(subscribe).await.unwrap();
        let incoming = tokio::time::timeout(DEADLINE, stream.next()).await.unwrap().unwrap().unwrap();
        let message = incoming.message.clone();
        incoming.ack().await.unwrap();
        stream.close().await;
        message
    };
    let original = take(from).await;
    let mut too_large = original.clone();
    too_large.payload = vec![0; 65 << 20].into();
    let publisher = client.broker().publisher(to, None).await.unwrap();
    let results = publisher.forward([too_large, original.clone()]).await;
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::MessageTooLarge);
    assert_eq!(results[1].as_ref().unwrap().id, original.id);
    assert_eq!(take(to).await, original);
}

#[tokio::test]
async fn publishes_are_taken_in_the_order_in_which_they_were_begun_though_their_task_is_due_to_yield() {
    let client = client().await;
    let publisher = client.broker().publisher("order-events:raw", Some("dev")).await.unwrap();
    let subscribe = Subscribe::new("order-events:raw").env("dev");
    let mut stream = client.broker().consume(subscribe).await.unwrap();
    while tokio::task::coop::has_budget_remaining() {
        tokio::task::consume_budget().await;
    }
    let mut first = pin!(maybe_done(publisher.publish(NewMessage::raw("first").key("k"))));
    // Whatever comes of it, it has begun.
    let _ = poll!(&mut first);
    tokio::task::yield_now().await;
    publisher.publish(NewMessage::raw("second").key("k")).await.unwrap();
    first.as_mut().await;
    first.take_output().unwrap().unwrap();
    for expected in ["first", "second"] {
        let incoming: Incoming =
            tokio::time::timeout(DEADLINE, stream.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(incoming.message.payload, expected);
        incoming.ack().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_redriven_for_another_group_is_not_handed_out_by_hand() {
    let client = client().await;
    let raw = "order-events:raw";
    let mut billing = client.broker().consume(Subscribe::new(raw)).await.unwrap();
    let mut audit = client.broker().consume(Subscribe::new(raw).group("audit")).await.unwrap();
    client.broker().publish(Publish::new(raw).payload("a")).await.unwrap();
    next_by_hand(&mut audit).await.ack().await.unwrap();
    next_by_hand(&mut billing).await.reject("not today").await.unwrap();
    let letters = client.broker().dead_letters(raw, None).await.unwrap();
    assert_eq!(letters.redrive(LetterFilter::All).await.unwrap().taken, 1);
    client.broker().publish(Publish::new(raw).payload("b")).await.unwrap();
    for (stream, expected) in [(&mut billing, &["a", "b"][..]), (&mut audit, &["b"][..])] {
        for payload in expected {
            let incoming = next_by_hand(stream).await;
            assert_eq!(incoming.message.payload, *payload);
            incoming.ack().await.unwrap();
        }
    }
    let groups = async || client.inspect(raw, None).await.unwrap().destination.groups;
    let begun = std::time::Instant::now();
    while groups().await.iter().any(|group| group.lag != Some(0)) {
        assert!(begun.elapsed() < DEADLINE, "all of them are settled");
    }
}

async fn next_by_hand(stream: &mut IncomingStream) -> Incoming {
    tokio::time::timeout(DEADLINE, stream.next()).await.expect("in time").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_fails_again_is_not_redriven_again_by_the_same_call() {
    let client = client().await;
    let raw = "order-events:raw";
    let rejects = |_: Delivery| async { Err::<(), _>(Failure::reject("never")) };
    let rejecting = client.broker().subscribe(Subscribe::new(raw), rejects).await.unwrap();
    let receipt = client.broker().publish(Publish::new(raw).payload("a")).await.unwrap();
    let begun = std::time::Instant::now();
    while rejecting.stats().dead_lettered < 1 {
        assert!(begun.elapsed() < DEADLINE);
        tokio::task::yield_now().await;
    }
    let letters = client.broker().dead_letters(raw, None).await.unwrap();
    let ids = [receipt.id.to_string()];
    let redriven = tokio::time::timeout(DEADLINE, letters.redrive(LetterFilter::Ids(&ids))).await;
    assert_eq!(redriven.expect("it ends").unwrap().taken, 1);
    rejecting.stop().await.unwrap();
}

#[tokio::test]
async fn a_group_that_was_deleted_is_made_again_by_the_next_use() {
    let client = client().await;
    let raw = "order-events:raw";
    client.ensure(raw, None).await.unwrap();
    let group = async || client.inspect(raw, None).await.unwrap().destination.groups.remove(0);
    let name = group().await.name;
    client.delete_group(raw, None, &name).await.unwrap();
    client.ensure(raw, None).await.unwrap();
    assert_eq!(group().await.lag, Some(0));
    client.broker().publish(Publish::new(raw).payload("a")).await.unwrap();
    client.delete_group(raw, None, &name).await.unwrap();
    client.broker().publish(Publish::new(raw).payload("b")).await.unwrap();
    assert_eq!(group().await.lag, Some(1), "the publisher makes it too");
}
