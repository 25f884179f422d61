//! Groups: each has its own copy, and its members share it.

use crate::rig::*;
use ductape_core::broker::Provision;
use ductape_core::config::MemoryConfig;
use ductape_core::{Destination, ErrorKind, Start, Verdict};

#[tokio::test]
async fn each_group_gets_every_message_and_members_share() {
    let rig = Rig::new().await;
    let audit = rig.member("audit", Start::Latest, 256).await;
    let (one, other) = (rig.member("billing", Start::Latest, 1).await, rig.consumer().await);
    rig.publish(&["1", "2", "3"]).await;
    let (mine, theirs) = (now(&one).await, now(&other).await);
    assert_eq!((texts(&mine), texts(&theirs)), (vec!["1".into()], vec!["2".into(), "3".into()]));
    assert_eq!(texts(&now(&audit).await), ["1", "2", "3"]);
}

#[tokio::test]
async fn what_is_published_before_anybody_subscribes_waits_for_the_default_group() {
    let rig = Rig::new().await;
    rig.publish(&["1"]).await;
    assert!(now(&rig.member("late", Start::Latest, 10).await).await.is_empty());
    assert_eq!(texts(&now(&rig.consumer().await).await), ["1"]);
}

#[tokio::test]
async fn earliest_gives_a_new_group_all_that_is_kept_and_an_old_group_nothing_more() {
    let rig = Rig::with(MemoryConfig { retain_messages: 2, ..MemoryConfig::default() }).await;
    rig.publish(&["1", "2", "3", "4", "5"]).await;
    let consumer = rig.consumer().await;
    let got = now(&consumer).await;
    ack_all(&consumer, &got[..4]).await;
    // 1 and 2 are beyond retention, 3 and 4 are retained, 5 is unsettled.
    let audit = rig.member("audit", Start::Earliest, 10).await;
    rig.publish(&["6"]).await;
    assert_eq!(rig.group("audit").await.lag, Some(4));
    let replayed = now(&audit).await;
    assert_eq!(texts(&replayed), ["3", "4", "5", "6"]);
    ack_all(&audit, &replayed).await;
    assert!(now(&rig.member("audit", Start::Earliest, 10).await).await.is_empty());
    let inspection = rig.broker.inspect(&rig.destination).await.unwrap();
    assert_eq!((inspection.messages, inspection.bytes), (Some(4), Some(4)));
}

#[tokio::test]
async fn without_retention_a_settled_message_is_gone() {
    let rig = Rig::new().await;
    rig.publish(&["1", "2"]).await;
    let consumer = rig.consumer().await;
    let got = now(&consumer).await;
    ack_all(&consumer, &got[1..]).await;
    let audit = rig.member("audit", Start::Earliest, 10).await;
    assert_eq!(texts(&now(&audit).await), ["1"]);
    settle(&consumer, &got[0], Verdict::Ack).await.unwrap();
    assert_eq!(rig.broker.inspect(&rig.destination).await.unwrap().messages, Some(1));
}

#[tokio::test]
async fn a_deleted_group_makes_room_and_its_consumers_are_told() {
    let rig = Rig::with(MemoryConfig { max_messages: 2, ..MemoryConfig::default() }).await;
    let audit = rig.member("audit", Start::Latest, 1).await;
    let publisher = rig.publisher().await;
    let batch = ["1", "2", "3"].map(message).to_vec();
    let publishing = tokio::spawn(async move { publisher.publish(batch).await });
    let consumer = rig.consumer().await;
    let got = within(consumer.receive(10, PATIENCE)).await.unwrap();
    ack_all(&consumer, &got).await;
    let held = now(&audit).await;
    settle_down().await;
    assert!(!publishing.is_finished());
    let waiter = audit.clone();
    let waiting = tokio::spawn(async move { waiter.receive(10, PATIENCE).await });
    settle_down().await;
    rig.broker.delete_group(&rig.destination, "audit").await.unwrap();
    assert!(within(publishing).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(within(waiting).await.unwrap().unwrap_err().kind(), ErrorKind::GroupNotFound);
    assert_eq!(settle(&audit, &held[0], Verdict::Ack).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(texts(&now(&consumer).await), ["3"]);
    let error = rig.broker.delete_group(&rig.destination, "audit").await.unwrap_err();
    assert_eq!((error.kind(), error.context("group")), (ErrorKind::GroupNotFound, Some("audit")));
}

#[tokio::test]
async fn a_group_made_again_under_its_name_has_nothing_of_the_old_one() {
    let rig = Rig::new().await;
    rig.publish(&["1"]).await;
    let old = rig.consumer().await;
    let held = now(&old).await;
    rig.broker.delete_group(&rig.destination, "billing").await.unwrap();
    rig.broker.ensure(&rig.destination).await.unwrap();
    rig.publish(&["2"]).await;
    assert!(settle(&old, &held[0], Verdict::Ack).await.is_err());
    old.close().await.unwrap();
    assert_eq!(texts(&now(&rig.consumer().await).await), ["2"]);
}

#[tokio::test]
async fn with_no_group_at_all_messages_are_taken_and_go() {
    let rig = Rig::new().await;
    rig.broker.delete_group(&rig.destination, "billing").await.unwrap();
    assert!(rig.publish(&["1", "2"]).await.iter().all(Result::is_ok));
    assert_eq!(rig.broker.inspect(&rig.destination).await.unwrap().messages, Some(0));
    let consumer = rig.member("billing", Start::Earliest, 10).await;
    rig.publish(&["3"]).await;
    assert_eq!(texts(&now(&consumer).await), ["3"]);
}

#[tokio::test]
async fn inspect_counts_without_touching() {
    let rig = Rig::new().await;
    rig.publish(&["1", "22", "333"]).await;
    let consumer = rig.consumer().await;
    let got = consumer.receive(2, PATIENCE).await.unwrap();
    ack_all(&consumer, &got[..1]).await;
    for _ in 0..2 {
        let inspection = rig.broker.inspect(&rig.destination).await.unwrap();
        assert_eq!((inspection.messages, inspection.bytes), (Some(2), Some(5)));
        let group = &inspection.groups[0];
        assert_eq!((group.lag, group.in_flight, group.members), (Some(2), 1, Some(1)));
    }
    let missing = Destination::new("nothing", "billing");
    let error = rig.broker.inspect(&missing).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context("destination")),
        (ErrorKind::DestinationNotFound, Some("nothing"))
    );
    assert!(rig.broker.inspect(&missing).await.is_err(), "looking made it");
}

#[tokio::test]
async fn a_missing_destination_may_not_be_made_under_verify() {
    let rig = Rig::new().await;
    let verify =
        |name: &str| Destination { provision: Provision::Verify, ..Destination::new(name, "billing") };
    let error = rig.broker.ensure(&verify("nothing")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DestinationNotFound);
    rig.broker.ensure(&verify("orders")).await.unwrap();
}

#[tokio::test]
async fn another_bound_for_the_same_destination_is_refused_with_its_name() {
    let mut rig = Rig::new().await;
    rig.config.max_bytes = 7;
    let error = rig.connect_again().await.ensure(&rig.destination).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DestinationMismatch);
    assert!(error.message().contains("maxBytes"), "{error}");
}
