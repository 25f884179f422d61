//! Settling: acknowledged for good, again now or later, and never another delivery.

use crate::rig::*;
use ductape_core::{ErrorKind, Settlement, Start, Token, Verdict};
use std::time::Duration;

#[tokio::test]
async fn an_acknowledged_message_never_comes_back() {
    let rig = Rig::new().await;
    rig.publish(&["1", "2"]).await;
    let consumer = rig.consumer().await;
    let got = now(&consumer).await;
    ack_all(&consumer, &got[..1]).await;
    consumer.close().await.unwrap();
    assert_eq!(texts(&now(&rig.consumer().await).await), ["2"]);
    assert_eq!(rig.broker.inspect(&rig.destination).await.unwrap().messages, Some(1));
}

#[tokio::test]
async fn a_retry_counts_the_attempt_and_a_release_does_not() {
    let rig = Rig::new().await;
    rig.publish(&["1"]).await;
    let consumer = rig.consumer().await;
    let mut attempts = Vec::new();
    for verdict in [Verdict::Retry(Duration::ZERO), Verdict::Release, Verdict::Retry(Duration::ZERO)] {
        let got = now(&consumer).await;
        attempts.push(got[0].attempt);
        settle(&consumer, &got[0], verdict).await.unwrap();
    }
    attempts.push(now(&consumer).await[0].attempt);
    assert_eq!(attempts, [1, 2, 2, 3]);
}

#[tokio::test]
async fn a_delay_is_a_floor_and_its_end_wakes_who_waits() {
    let rig = Rig::new().await;
    rig.publish(&["1"]).await;
    let consumer = rig.consumer().await;
    let got = now(&consumer).await;
    settle(&consumer, &got[0], Verdict::Retry(Duration::from_secs(300))).await.unwrap();
    let waiter = consumer.clone();
    let waiting = tokio::spawn(async move { waiter.receive(10, Duration::from_secs(3600)).await });
    settle_down().await;
    rig.clock.advance(Duration::from_secs(299));
    settle_down().await;
    assert!(!waiting.is_finished());
    rig.clock.advance(Duration::from_secs(1));
    let again = within(waiting).await.unwrap().unwrap();
    assert_eq!((texts(&again), again[0].attempt), (vec!["1".into()], 2));
}

#[tokio::test]
async fn settled_out_of_order_nothing_unsettled_is_skipped() {
    let rig = Rig::new().await;
    let names: Vec<_> = (0..600).map(|n| n.to_string()).collect();
    rig.publish(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let consumer = rig.member("billing", Start::Latest, 1000).await;
    let got = now(&consumer).await;
    for delivery in got.iter().rev().filter(|d| text(d).ends_with('7')) {
        settle(&consumer, delivery, Verdict::Ack).await.unwrap();
    }
    consumer.close().await.unwrap();
    let rest = now(&rig.member("billing", Start::Latest, 1000).await).await;
    let expected: Vec<_> = names.iter().filter(|n| !n.ends_with('7')).cloned().collect();
    assert_eq!(texts(&rest), expected);
}

#[tokio::test]
async fn three_hundred_retries_lose_nothing() {
    let rig = Rig::new().await;
    let names: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    rig.publish(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let consumer = rig.consumer().await;
    for round in 1..=3 {
        let got = now(&consumer).await;
        assert_eq!(texts(&got), names);
        assert!(got.iter().all(|d| d.attempt == round));
        for delivery in &got {
            settle(&consumer, delivery, Verdict::Retry(Duration::ZERO)).await.unwrap();
        }
    }
    assert_eq!(rig.group("billing").await.lag, Some(100));
}

#[tokio::test]
async fn settling_twice_changes_nothing() {
    let rig = Rig::new().await;
    rig.publish(&["1", "2"]).await;
    let consumer = rig.consumer().await;
    let got = now(&consumer).await;
    ack_all(&consumer, &got[..1]).await;
    settle(&consumer, &got[0], Verdict::Retry(Duration::ZERO)).await.unwrap();
    settle(&consumer, &got[1], Verdict::Release).await.unwrap();
    let late = settle(&consumer, &got[1], Verdict::Ack).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::LeaseLost);
    let again = now(&consumer).await;
    assert_eq!(texts(&again), ["2"]);
    // The token of the first handing out does not settle the second.
    assert!(settle(&consumer, &got[1], Verdict::Ack).await.is_err());
    assert_eq!(rig.group("billing").await.lag, Some(1));
}

#[tokio::test]
async fn a_token_settles_nothing_in_other_hands_and_a_made_up_one_nothing_at_all() {
    let rig = Rig::new().await;
    let (one, other) = (rig.consumer().await, rig.consumer().await);
    rig.publish(&["1"]).await;
    let got = now(&one).await;
    assert_eq!(settle(&other, &got[0], Verdict::Ack).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    for token in [Token::Numbers(99, 1), Token::Numbers(u64::MAX, u64::MAX), Token::Text("x".into())] {
        let settlement = Settlement { token, verdict: Verdict::Ack };
        assert_eq!(one.settle(vec![settlement]).await[0].as_ref().unwrap_err().kind(), ErrorKind::LeaseLost);
    }
    assert_eq!(rig.group("billing").await.in_flight, 1);
}

#[tokio::test]
async fn what_is_in_flight_stays_within_the_bound_and_a_settlement_wakes_who_waits_at_it() {
    let rig = Rig::new().await;
    rig.publish(&["1", "2", "3"]).await;
    let consumer = rig.member("billing", Start::Latest, 1).await;
    let got = now(&consumer).await;
    assert_eq!(texts(&got), ["1"]);
    assert!(now(&consumer).await.is_empty());
    let waiter = consumer.clone();
    let waiting = tokio::spawn(async move { waiter.receive(10, PATIENCE).await });
    settle_down().await;
    ack_all(&consumer, &got).await;
    assert_eq!(texts(&within(waiting).await.unwrap().unwrap()), ["2"]);
}

#[tokio::test]
async fn a_receive_gives_no_more_than_asked_and_ends_empty_when_nothing_comes() {
    let rig = Rig::new().await;
    rig.publish(&["1", "2", "3"]).await;
    let consumer = rig.consumer().await;
    assert!(within(consumer.receive(0, PATIENCE)).await.unwrap().is_empty());
    assert_eq!(consumer.receive(2, PATIENCE).await.unwrap().len(), 2);
    assert_eq!(consumer.receive(2, PATIENCE).await.unwrap().len(), 1);
    assert!(within(consumer.receive(2, Duration::from_millis(1))).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_receive_that_is_dropped_while_it_waits_loses_nothing() {
    let rig = Rig::new().await;
    let consumer = rig.consumer().await;
    let waiter = consumer.clone();
    let waiting = tokio::spawn(async move { waiter.receive(10, PATIENCE).await });
    settle_down().await;
    rig.publish(&["1"]).await;
    waiting.abort();
    let _ = waiting.await;
    let got = within(consumer.receive(10, PATIENCE)).await.unwrap();
    assert_eq!(texts(&got), ["1"]);
}
