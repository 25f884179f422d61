//! Leases: what an unsettled delivery becomes when its consumer is gone or late.

use crate::rig::*;
use ductape_core::{ErrorKind, Verdict};
use std::time::Duration;

#[tokio::test]
async fn the_end_of_a_lease_counts_the_attempt_and_wakes_a_member_that_waited_before_it_began() {
    let rig = Rig::new().await;
    let (one, other) = (rig.member("billing", Default::default(), 1).await, rig.consumer().await);
    rig.publish(&["a=1"]).await;
    let first = now(&one).await;
    ack_all(&one, &first).await;
    rig.clock.advance(LEASE);
    assert!(now(&one).await.is_empty());
    let waiting = tokio::spawn(async move { (other.receive(10, Duration::from_secs(3600)).await, other) });
    settle_down().await;
    // Both may take it; the one that is asked first does, before the other has run.
    let publisher = rig.publisher().await;
    publisher.publish(vec![message("a=2")]).await;
    let second = now(&one).await;
    assert_eq!(second.len(), 1);
    settle_down().await;
    assert!(!waiting.is_finished());
    rig.clock.advance(LEASE);
    let (got, _other) = within(waiting).await.unwrap();
    assert_eq!(got.unwrap()[0].attempt, 2);
    assert_eq!(settle(&one, &second[0], Verdict::Ack).await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn a_lease_that_is_extended_in_time_holds() {
    let rig = Rig::new().await;
    let (one, other) = (rig.consumer().await, rig.consumer().await);
    rig.publish(&["1"]).await;
    let got = now(&one).await;
    for _ in 0..5 {
        rig.clock.advance(LEASE / 3 * 2);
        one.extend().await.unwrap();
        assert!(now(&other).await.is_empty());
    }
    settle(&one, &got[0], Verdict::Ack).await.unwrap();
    assert_eq!(rig.group("billing").await.lag, Some(0));
}

#[tokio::test]
async fn a_lease_begins_with_the_handing_out_and_not_with_an_earlier_extension() {
    let rig = Rig::new().await;
    let (one, other) = (rig.consumer().await, rig.consumer().await);
    rig.publish(&["1"]).await;
    let _first = now(&one).await;
    one.extend().await.unwrap();
    rig.clock.advance(LEASE / 2);
    rig.publish(&["2"]).await;
    let second = now(&one).await;
    rig.clock.advance(LEASE / 2);
    assert_eq!(texts(&now(&other).await), ["1"]);
    settle(&one, &second[0], Verdict::Ack).await.unwrap();
}

#[tokio::test]
async fn after_the_lease_a_late_ack_is_refused_and_an_extension_saves_nothing() {
    let rig = Rig::new().await;
    let one = rig.consumer().await;
    rig.publish(&["1"]).await;
    let got = now(&one).await;
    rig.clock.advance(LEASE);
    one.extend().await.unwrap();
    let late = settle(&one, &got[0], Verdict::Ack).await.unwrap_err();
    assert_eq!((late.kind(), late.context("group")), (ErrorKind::LeaseLost, Some("billing")));
    assert_eq!(now(&one).await[0].attempt, 2);
}
