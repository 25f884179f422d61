//! Order by key, while members compete, through retries and redelivery.

use crate::rig::*;
use ductape_core::{Delivery, Start, Verdict};
use std::time::Duration;

const NOW: Verdict = Verdict::Retry(Duration::ZERO);

#[tokio::test]
async fn a_key_is_with_one_member_at_a_time_and_other_keys_go_on() {
    let rig = Rig::new().await;
    let (one, other) = (rig.member("billing", Start::Latest, 1).await, rig.consumer().await);
    rig.publish(&["a=1", "a=2", "b=1", "plain", "a=3"]).await;
    let first = now(&one).await;
    assert_eq!(texts(&first), ["a=1"]);
    assert_eq!(texts(&now(&other).await), ["b=1", "plain"]);
    ack_all(&one, &first).await;
    assert_eq!(texts(&now(&other).await), ["a=2", "a=3"]);
}

#[tokio::test]
async fn a_second_member_that_joins_late_does_not_get_a_key_that_is_in_flight() {
    let rig = Rig::new().await;
    let one = rig.member("billing", Start::Latest, 2).await;
    rig.publish(&["a=1", "b=1", "a=2", "b=2", "c=1"]).await;
    let first = now(&one).await;
    let other = rig.consumer().await;
    assert_eq!(texts(&now(&other).await), ["c=1"]);
    ack_all(&one, &first[..1]).await;
    assert_eq!(texts(&now(&other).await), ["a=2"]);
    ack_all(&one, &first[1..]).await;
    assert_eq!(texts(&now(&other).await), ["b=2"]);
}

#[tokio::test]
async fn a_retry_comes_back_before_the_later_ones_of_its_key() {
    let rig = Rig::new().await;
    let (one, other) = (rig.member("billing", Start::Latest, 1).await, rig.consumer().await);
    rig.publish(&["a=1", "a=2", "a=3"]).await;
    let first = now(&one).await;
    settle(&one, &first[0], NOW).await.unwrap();
    let got = now(&other).await;
    assert_eq!(texts(&got), ["a=1", "a=2", "a=3"]);
    assert_eq!(got.iter().map(|d| d.attempt).collect::<Vec<_>>(), [2, 1, 1]);
}

#[tokio::test]
async fn a_delayed_retry_holds_its_key_and_nothing_else_with_one_member_too() {
    let rig = Rig::new().await;
    let one = rig.member("billing", Start::Latest, 2).await;
    rig.publish(&["a=1", "b=1"]).await;
    let first = now(&one).await;
    settle(&one, &first[0], Verdict::Retry(LEASE / 2)).await.unwrap();
    rig.publish(&["a=2", "b=2", "plain"]).await;
    let second = now(&one).await;
    assert_eq!(texts(&second), ["b=2"]);
    ack_all(&one, &[first[1].clone(), second[0].clone()]).await;
    assert_eq!(texts(&now(&one).await), ["plain"]);
    rig.clock.advance(LEASE / 2);
    assert_eq!(texts(&now(&one).await), ["a=1"]);
}

#[tokio::test]
async fn what_was_released_in_any_order_comes_back_in_the_first_one() {
    let rig = Rig::new().await;
    let (one, other) = (rig.consumer().await, rig.consumer().await);
    rig.publish(&["a=1", "a=2", "a=3", "a=4"]).await;
    let first = now(&one).await;
    assert_eq!(first.len(), 4);
    for index in [2, 0, 3] {
        settle(&one, &first[index], Verdict::Release).await.unwrap();
    }
    // a=2 is still with the first member, so the key is its alone.
    assert!(now(&other).await.is_empty());
    let again = now(&one).await;
    assert_eq!(texts(&again), ["a=1", "a=3", "a=4"]);
    settle(&one, &first[1], NOW).await.unwrap();
    for delivery in &again {
        settle(&one, delivery, NOW).await.unwrap();
    }
    assert_eq!(texts(&now(&other).await), ["a=1", "a=2", "a=3", "a=4"]);
}

#[tokio::test]
async fn the_keys_of_a_member_that_leaves_go_on_with_another_from_where_they_were() {
    let rig = Rig::new().await;
    let (one, other) = (rig.consumer().await, rig.consumer().await);
    rig.publish(&["a=1", "b=1", "a=2"]).await;
    let first = now(&one).await;
    ack_all(&one, &first[1..2]).await;
    rig.publish(&["a=3", "b=2"]).await;
    assert_eq!(texts(&now(&other).await), ["b=2"]);
    drop(one);
    assert_eq!(texts(&now(&other).await), ["a=1", "a=2", "a=3"]);
}

#[tokio::test]
async fn a_lost_lease_gives_the_key_away_in_order() {
    let rig = Rig::new().await;
    let (one, other) = (rig.consumer().await, rig.consumer().await);
    rig.publish(&["a=1", "a=2"]).await;
    assert_eq!(now(&one).await.len(), 2);
    rig.publish(&["a=3"]).await;
    assert!(now(&other).await.is_empty());
    rig.clock.advance(LEASE);
    let got = now(&other).await;
    assert_eq!(texts(&got), ["a=1", "a=2", "a=3"]);
    assert_eq!(got.iter().map(|d| d.attempt).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test]
async fn a_long_backlog_of_one_key_does_not_hide_the_other_keys_near_it() {
    let rig = Rig::new().await;
    let (one, other) = (rig.member("billing", Start::Latest, 1).await, rig.consumer().await);
    let mut names = vec!["a=0".to_owned(); 20_000];
    names.insert(5000, "b=1".to_owned());
    rig.publish(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut held = now(&one).await;
    assert_eq!(texts(&now(&other).await), ["b=1"]);
    // The other member has passed over thousands; all of them still come, in order, to whoever may have them.
    let mut seen: Vec<u64> = Vec::new();
    while seen.len() < 20_000 {
        seen.extend(held.iter().map(number));
        ack_all(&one, &held).await;
        held = now(&one).await;
        let more = now(&other).await;
        seen.extend(more.iter().map(number));
        ack_all(&other, &more).await;
    }
    assert!(seen.is_sorted(), "the key's order broke");
}

fn number(delivery: &Delivery) -> u64 {
    delivery.position.to_string().parse().unwrap()
}
