//! What is published is delivered: whole, in order by key, to every group, once settled never again.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod support;

use ductape_core::broker::Start;
use ductape_core::message::{DeadLetter, Extensions, SessionRef};
use ductape_core::{Broker, ConsumerOptions, Delivery, Message, MessageId, Position, Timestamp, Verdict};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::*;

fn full_message() -> Message {
    let mut message = plain(b"\xff\x00 not text");
    message.key = Some("k\u{e9}y".into());
    message.headers.append("twice", "1");
    message.headers.append("twice", vec![0xff, 0]);
    message.headers.append("", "");
    *message.extensions_mut() = Extensions {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        tracestate: Some("a=b".into()),
        session: Some(SessionRef { tag: "user-session".into(), subject: "42".into() }),
        dead_letter: Some(DeadLetter {
            reason: "why".into(),
            attempts: 5,
            failed_at: Timestamp::from_micros(1),
            destination: "orders".into(),
            group: "billing".into(),
            position: "7".into(),
        }),
        redrive_group: Some("billing".into()),
    };
    message
}

#[tokio::test]
async fn a_message_comes_as_it_was_published() {
    let file = File::new();
    let topic = file.topic().await;
    let mut foreign = plain(b"");
    foreign.id = MessageId::Text("42".into());
    let published = vec![full_message(), foreign];
    topic.publisher.publish(published.clone()).await.into_iter().for_each(|result| drop(result.unwrap()));
    let deliveries = topic.take().await;
    let came: Vec<_> = deliveries.iter().map(|delivery| delivery.message.clone()).collect();
    assert_eq!(came, published);
    assert_eq!(deliveries[1].position, Position::Sequence(2));
    assert_eq!(attempts(&deliveries), [1, 1]);
}

#[tokio::test]
async fn what_is_published_before_a_consumer_waits_and_survives_the_connection() {
    let file = File::new();
    let topic = file.topic().await;
    topic.publish(&["a", "b"]).await;
    topic.broker.close().await.unwrap();
    let topic = file.topic().await;
    let deliveries = topic.take().await;
    assert_eq!(texts(&deliveries), ["a", "b"]);
    ack(&*topic.consumer, &deliveries[..1]).await;
    topic.broker.close().await.unwrap();
    let topic = file.topic().await;
    assert_eq!(texts(&topic.take().await), ["b"]);
    topic.nothing().await;
}

#[tokio::test]
async fn every_group_gets_all_and_members_share() {
    let file = File::new();
    let topic = file.topic().await;
    let audit = topic.broker.consumer(&orders(), &ConsumerOptions::new("audit")).await.unwrap();
    let second = member(&*topic.broker).await;
    topic.publish(&["a", "b", "c", "d"]).await;
    let first_two = topic.consumer.receive(2, SOON).await.unwrap();
    let others = take(&*second).await;
    assert_eq!(
        (texts(&first_two), texts(&others)),
        (vec!["a".into(), "b".into()], vec!["c".into(), "d".into()])
    );
    assert_eq!(texts(&take(&*audit).await), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_new_group_begins_where_it_is_told() {
    let file = File::new();
    let topic = file.topic().await;
    topic.publish(&["a"]).await;
    let latest = topic.broker.consumer(&orders(), &ConsumerOptions::new("latest")).await.unwrap();
    let earliest = ConsumerOptions { start: Start::Earliest, ..ConsumerOptions::new("earliest") };
    let earliest = topic.broker.consumer(&orders(), &earliest).await.unwrap();
    topic.publish(&["b"]).await;
    assert_eq!(texts(&take(&*latest).await), ["b"]);
    assert_eq!(texts(&take(&*earliest).await), ["a", "b"]);
}

#[tokio::test]
async fn a_key_stays_with_one_member_until_it_is_settled() {
    let file = File::new();
    let topic = file.topic().await;
    let second = member(&*topic.broker).await;
    topic.publish(&["k:1", "j:1", "k:2", "j:2", "x"]).await;
    let first = topic.consumer.receive(1, SOON).await.unwrap();
    assert_eq!(texts(&first), ["k:1"]);
    let others = take(&*second).await;
    assert_eq!(texts(&others), ["j:1", "j:2", "x"]);
    nothing(&*second).await;
    assert_eq!(texts(&topic.take().await), ["k:2"], "the same member may have more of its key");
    settle(&*topic.consumer, &first, Verdict::Retry(Duration::ZERO)).await;
    nothing_of_key_but(&topic, "k:1").await;
}

async fn nothing_of_key_but(topic: &Topic, text: &str) {
    topic.publish(&["k:3"]).await;
    let deliveries = topic.take().await;
    assert_eq!(texts(&deliveries), [text, "k:3"]);
    assert_eq!(attempts(&deliveries), [2, 1]);
}

#[tokio::test]
async fn order_by_key_survives_a_release_to_another_member() {
    let file = File::new();
    let topic = file.topic().await;
    topic.publish(&["k:1", "k:2", "k:3"]).await;
    let deliveries = topic.take().await;
    let second = member(&*topic.broker).await;
    settle(&*topic.consumer, &deliveries[..1], Verdict::Release).await;
    let back = take(&*second).await;
    assert_eq!((texts(&back), attempts(&back)), (vec!["k:1".into()], vec![1]), "a release is not counted");
    settle(&*topic.consumer, &deliveries[2..], Verdict::Release).await;
    nothing(&*second).await;
    ack(&*topic.consumer, &deliveries[1..2]).await;
    assert_eq!(texts(&take(&*second).await), ["k:3"]);
}

#[tokio::test]
async fn a_delayed_retry_holds_its_key_and_no_other_until_it_is_due() {
    let file = File::new();
    let topic = file.topic().await;
    topic.publish(&["k:1", "k:2", "j:1"]).await;
    let first = topic.consumer.receive(1, SOON).await.unwrap();
    settle(&*topic.consumer, &first, Verdict::Retry(Duration::from_secs(60))).await;
    assert_eq!(texts(&topic.take().await), ["j:1"]);
    file.clock.advance(Duration::from_secs(59));
    topic.consumer.extend().await.unwrap();
    topic.nothing().await;
    let waiting = tokio::spawn({
        let consumer = topic.consumer.clone();
        async move { take(&*consumer).await }
    });
    file.clock.advance(Duration::from_secs(1));
    let deliveries = waiting.await.unwrap();
    assert_eq!((texts(&deliveries), attempts(&deliveries)), (vec!["k:1".into(), "k:2".into()], vec![2, 1]));
}

#[tokio::test]
async fn settling_out_of_order_settles_nothing_else() {
    let file = File::new();
    let topic = file.topic().await;
    topic.publish(&["a", "b", "c"]).await;
    let deliveries = topic.take().await;
    ack(&*topic.consumer, &deliveries[2..]).await;
    ack(&*topic.consumer, &deliveries[..1]).await;
    topic.consumer.close().await.unwrap();
    let next = member(&*topic.broker).await;
    let back = take(&*next).await;
    assert_eq!((texts(&back), attempts(&back)), (vec!["b".into()], vec![1]));
}

#[tokio::test]
async fn settling_twice_changes_nothing() {
    let file = File::new();
    let topic = file.topic().await;
    topic.publish(&["a", "b"]).await;
    let deliveries = topic.take().await;
    ack(&*topic.consumer, &deliveries[..1]).await;
    let again = settlements(&deliveries[..1], Verdict::Retry(Duration::ZERO));
    let results = topic.consumer.settle(again).await;
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ductape_core::ErrorKind::LeaseLost);
    topic.nothing().await;
}

#[tokio::test]
async fn never_more_is_in_flight_than_the_bound() {
    let file = File::new();
    let topic = file.topic().await;
    let options = ConsumerOptions { max_in_flight: 3, ..options() };
    topic.consumer.close().await.unwrap();
    let consumer = topic.broker.consumer(&orders(), &options).await.unwrap();
    topic.publish(&["a", "b", "c", "d", "e"]).await;
    let first = take(&*consumer).await;
    assert_eq!(first.len(), 3);
    nothing(&*consumer).await;
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { take(&*consumer).await }
    });
    ack(&*consumer, &first[1..2]).await;
    assert_eq!(texts(&waiting.await.unwrap()), ["d"]);
}

#[tokio::test]
async fn a_lease_that_is_over_brings_the_message_back_and_counts() {
    let file = File::new();
    let topic = file.topic().await;
    topic.publish(&["a", "b"]).await;
    let lost = topic.take().await;
    file.clock.advance(LEASE / 2);
    topic.consumer.extend().await.unwrap();
    file.clock.advance(LEASE / 2);
    topic.nothing().await;
    file.clock.advance(LEASE / 2);
    let second = member(&*topic.broker).await;
    let back = take(&*second).await;
    assert_eq!((texts(&back), attempts(&back)), (vec!["a".into(), "b".into()], vec![2, 2]));
    let late = topic.consumer.settle(settlements(&lost, Verdict::Ack)).await;
    assert!(late.iter().all(|result| result.is_err()), "a lease that is lost settles nothing");
    ack(&*second, &back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_that_is_dropped_loses_nothing() {
    let file = File::new();
    let topic = file.topic().await;
    let mut seen = HashSet::new();
    for round in 0..200 {
        topic.publish(&[&format!("{round}")]).await;
        // Dropped somewhere between the question and its answer, each time elsewhere.
        let receive = topic.consumer.receive(10, SOON);
        let taken = tokio::time::timeout(Duration::from_micros(round), receive).await;
        let deliveries: Vec<Delivery> = taken.map(Result::unwrap).unwrap_or_default();
        ack(&*topic.consumer, &deliveries).await;
        seen.extend(texts(&deliveries));
    }
    while seen.len() < 200 {
        let deliveries = topic.take().await;
        assert_eq!(attempts(&deliveries), vec![1; deliveries.len()], "nothing was handed out and lost");
        ack(&*topic.consumer, &deliveries).await;
        seen.extend(texts(&deliveries));
    }
}

#[tokio::test]
async fn a_hundred_retries_three_times_over_lose_nothing_and_keep_the_order() {
    let file = File::new();
    let topic = file.topic().await;
    let all: Vec<String> = (0..100).map(|n| format!("{}:{n}", n % 7)).collect();
    topic.publish(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for round in 1..=3 {
        let deliveries = topic.take().await;
        assert_eq!(texts(&deliveries), all);
        assert_eq!(attempts(&deliveries), vec![round; 100]);
        settle(&*topic.consumer, &deliveries, Verdict::Retry(Duration::ZERO)).await;
    }
    ack(&*topic.consumer, &topic.take().await).await;
    topic.nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_from_parallel_publishers_come_once_each_and_in_order() {
    let file = File::by_the_clock();
    let topic = file.topic().await;
    let publishers: Vec<_> = (0..20)
        .map(|publisher| {
            let broker = topic.broker.clone();
            tokio::spawn(async move {
                let own = broker.publisher(&orders()).await.unwrap();
                for n in 0..500 {
                    let results = own.publish(vec![keyed(&format!("{publisher}:{n}"))]).await;
                    results.into_iter().for_each(|result| drop(result.unwrap()));
                }
            })
        })
        .collect();
    let mut next = [0; 20];
    while next.iter().sum::<usize>() < 10_000 {
        let deliveries = topic.take().await;
        for text in texts(&deliveries) {
            let (publisher, n) = text.split_once(':').unwrap();
            let expected = &mut next[publisher.parse::<usize>().unwrap()];
            assert_eq!(n, expected.to_string(), "of publisher {publisher}");
            *expected += 1;
        }
        ack(&*topic.consumer, &deliveries).await;
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    topic.nothing().await;
}

const KEYS: usize = 5;
const EACH: usize = 100;

/// Which messages of each key were handled, in the order they were.
type Handled = Arc<Mutex<[Vec<usize>; KEYS]>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn competing_members_that_come_and_go_keep_the_order_of_each_key() {
    let file = File::by_the_clock();
    let topic = file.topic().await;
    topic.consumer.close().await.unwrap();
    let all: Vec<String> = (0..KEYS * EACH).map(|n| format!("{}:{}", n % KEYS, n / KEYS)).collect();
    topic.publish(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let handled = Handled::default();
    let members: Vec<_> =
        (0..4).map(|_| tokio::spawn(come_and_go(topic.broker.clone(), Arc::clone(&handled)))).collect();
    for member in members {
        member.await.unwrap();
    }
    for key in handled.lock().unwrap().iter() {
        assert_eq!(*key, (0..EACH).collect::<Vec<_>>());
    }
}

/// Handles a few as a new member and gives the rest back, over and over until all are handled.
async fn come_and_go(broker: Arc<dyn Broker>, handled: Handled) {
    while !handled.lock().unwrap().iter().all(|key| key.len() == EACH) {
        let consumer = member(&*broker).await;
        for delivery in consumer.receive(7, MOMENT).await.unwrap() {
            if fastrand::u32(..10) == 0 {
                break;
            }
            let text = &texts(std::slice::from_ref(&delivery))[0];
            let (key, n) = text.split_once(':').unwrap();
            handled.lock().unwrap()[key.parse::<usize>().unwrap()].push(n.parse().unwrap());
            ack(&*consumer, &[delivery]).await;
        }
        consumer.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_dropped_receive_left_lying_past_its_lease_comes_again_though_leases_are_renewed() {
    let file = File::new();
    let topic = file.topic().await;
    topic.publish(&["k:1", "k:2"]).await;
    {
        // Asks for one, and goes away before the answer.
        let mut receive = std::pin::pin!(topic.consumer.receive(1, SOON));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(receive.as_mut().poll(cx))).await;
        assert!(first.is_pending());
    }
    until("the claim", || async { topic.broker.inspect(&orders()).await.unwrap().groups[0].in_flight == 1 })
        .await;
    // As after a pause of the whole machine: the lease is over, and the worker's next act is to renew it.
    file.clock.advance(LEASE + LEASE);
    topic.consumer.extend().await.unwrap();
    let mut seen = texts(&topic.take().await);
    if seen.len() < 2 {
        seen.extend(texts(&topic.take().await));
    }
    assert_eq!(seen, ["k:1", "k:2"]);
}

#[tokio::test]
async fn a_close_that_its_caller_gives_up_on_is_done_all_the_same() {
    let file = File::new();
    let topic = file.topic().await;
    for round in 0..20 {
        let leaver = member(&*topic.broker).await;
        topic.publish(&["k:1"]).await;
        assert_eq!(take(&*leaver).await.len(), 1, "round {round}");
        {
            let mut close = std::pin::pin!(leaver.close());
            // Gone before the file's thread has so much as looked.
            let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(close.as_mut().poll(cx))).await;
        }
        let came = topic.take().await;
        ack(&*topic.consumer, &came).await;
    }
}
