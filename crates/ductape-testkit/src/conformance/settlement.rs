//! What is said about a delivery holds, and what is not said comes back.

use super::fixture::{Fixture, Member, message, numbered, sort, sorted, text, texts, until};
use super::outcome::{Outcome, check, cut, fault, same, skip};
use super::property::{Property, Section};
use super::service::{Journal, Service, quick};
use ductape_core::capability::{Attempts, Delay};
use ductape_core::client::NewMessage;
use ductape_core::{Delivery, ErrorKind, Verdict};
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

const fn property(sentence: &'static str, run: fn(Fixture) -> super::property::Running) -> Property {
    Property::new(Section::Settlement, sentence, run)
}

pub(super) const PROPERTIES: &[Property] = &[
    property("an acknowledged message never comes back, even on a new connection", |f| {
        Box::pin(ack_is_for_good(f))
    }),
    property("a retried message comes back", |f| Box::pin(retry_comes_back(f))),
    property("a delayed retry does not come back before its time", |f| Box::pin(delay_is_a_floor(f))),
    property("a released message comes back", |f| Box::pin(release_comes_back(f))),
    property("a hundred messages retried three times lose nothing", |f| Box::pin(retries_lose_nothing(f))),
    property("settling out of order never skips an unsettled message", |f| Box::pin(gaps_are_kept(f))),
    property("one delivery is in flight when the bound is one", |f| Box::pin(one_in_flight(f))),
    property("at the bound nothing more is handed out, and a settled one makes room", |f| {
        Box::pin(bound_holds(f))
    }),
    property("a worker at its bound pauses, and goes on when its handlers make room", |f| {
        Box::pin(worker_pauses_and_resumes(f))
    }),
    property("settling twice is harmless", |f| Box::pin(settling_twice_is_harmless(f))),
    property("an unsettled delivery of a closed consumer comes back", |f| {
        Box::pin(closed_consumer_gives_back(f))
    }),
    property("a close that was cut short is taken up by the next", |f| Box::pin(cut_close_is_taken_up(f))),
    property("an unsettled delivery of a closed connection comes back", |f| {
        Box::pin(closed_connection_gives_back(f))
    }),
    property("a lease that ran out gives the delivery to another, and a late verdict changes nothing", |f| {
        Box::pin(lost_lease_gives_away(f))
    }),
    property("a renewed lease keeps the delivery", |f| Box::pin(renewed_lease_keeps(f))),
];

const NOW: Verdict = Verdict::Retry(Duration::ZERO);

async fn ack_is_for_good(f: Fixture) -> Outcome {
    let member = f.member().await?;
    f.publish_texts(&numbered("done", 20)).await?;
    member.take_and_ack(20).await?;
    member.take_nothing("all are acknowledged").await?;
    f.publish_texts(&numbered("close", 250)).await?;
    // Closed with the last verdicts just taken.
    member.take_and_ack(250).await?;
    member.close().await?;
    let again = f.reconnected().await?;
    let member = again.member().await?;
    // Were an acknowledged one to come, it would come with or before this one.
    again.publish(vec![message("new")]).await?;
    let got = member.take_and_ack(1).await?;
    same("the only message that is not acknowledged", &vec!["new".to_owned()], &texts(&got))?;
    member.take_nothing("all are acknowledged").await
}

async fn retry_comes_back(f: Fixture) -> Outcome {
    let member = f.member().await?;
    f.publish(vec![message("again")]).await?;
    for attempt in 1..=3 {
        let delivery = member.take_one().await?;
        same("the message", "again", text(&delivery).as_str())?;
        if f.capabilities().attempts == Attempts::Counted {
            same("its attempt", &attempt, &delivery.attempt)?;
        }
        let verdict = if attempt < 3 { NOW } else { Verdict::Ack };
        member.settle(slice::from_ref(&delivery), verdict).await?;
    }
    member.take_nothing("it is acknowledged").await
}

/// How early a message may come: clocks tick in milliseconds on some servers.
const TICK: Duration = Duration::from_millis(20);

async fn delay_is_a_floor(f: Fixture) -> Outcome {
    let delay = Duration::from_millis(400);
    let delay = match f.capabilities().delay {
        Delay::None => return skip("the provider does not delay: the worker waits, and that is tried there"),
        // Seconds are the unit of some servers.
        Delay::UpTo(longest) if longest >= Duration::from_secs(1) => delay,
        Delay::UpTo(longest) => longest,
    };
    let member = f.member().await?;
    f.publish(vec![message("later")]).await?;
    let first = member.take_one().await?;
    let start = Instant::now();
    member.settle(slice::from_ref(&first), Verdict::Retry(delay)).await?;
    let again = member.take_one().await?;
    let took = start.elapsed();
    member.ack(&[again]).await?;
    check(took + TICK >= delay, format!("the message not before {delay:?}"), || format!("after {took:?}"))
}

async fn release_comes_back(f: Fixture) -> Outcome {
    let (one, other) = (f.member().await?, f.member().await?);
    f.publish(vec![message("untried")]).await?;
    let (holder, delivery) = match one.receive(1, f.subject.patience / 4).await?.pop() {
        Some(delivery) => (&one, delivery),
        None => (&other, other.take_one().await?),
    };
    holder.settle(&[delivery], Verdict::Release).await?;
    let again = take_from_either(&f, &one, &other).await?;
    same("the released message", "untried", text(&again.1).as_str())?;
    again.0.ack(&[again.1]).await
}

/// A delivery, whichever of two members it comes to.
async fn take_from_either<'m>(
    f: &Fixture,
    one: &'m Member,
    other: &'m Member,
) -> Outcome<(&'m Member, Delivery)> {
    let start = Instant::now();
    while start.elapsed() < f.subject.patience {
        for member in [one, other] {
            if let Some(delivery) = member.receive(1, f.subject.quiet).await?.pop() {
                return Ok((member, delivery));
            }
        }
    }
    Err(fault("a delivery to one of two members", format!("nothing within {:?}", f.subject.patience)))
}

async fn retries_lose_nothing(f: Fixture) -> Outcome {
    let member = f.member().await?;
    let all = numbered("m", 100);
    f.publish_texts(&all).await?;
    let all = sort(all);
    for round in 1..=3 {
        let got = member.take(all.len()).await?;
        same(&format!("all messages in round {round}"), &all, &sorted(&got))?;
        member.settle(&got, NOW).await?;
    }
    same("all messages at last", &all, &sorted(&member.take_and_ack(all.len()).await?))?;
    member.take_nothing("all are acknowledged").await
}

async fn gaps_are_kept(f: Fixture) -> Outcome {
    let member = f.member().await?;
    f.publish_texts(&numbered("m", 20)).await?;
    let mut got = member.take(20).await?;
    got.sort_by_key(text);
    let (acked, mut kept): (Vec<_>, Vec<_>) = got.into_iter().enumerate().partition(|(n, _)| n % 2 == 1);
    let acked: Vec<_> = acked.into_iter().rev().map(|(_, delivery)| delivery).collect();
    member.ack(&acked).await?;
    member.close().await?;
    let back = f.reconnected().await?.member().await?.drain(40).await?;
    let (acked, back) = (texts(&acked), sorted(&back));
    kept.retain(|(_, delivery)| !back.contains(&text(delivery)));
    check(kept.is_empty(), "every message that was not settled", || {
        format!("without {}", cut(&kept.iter().map(|(_, delivery)| text(delivery)).collect::<Vec<_>>()))
    })?;
    if f.capabilities().attempts == Attempts::CountedAtWatermark {
        // A watermark keeps what was acknowledged above a gap for as long as the gap is there.
        return Ok(());
    }
    let returned: Vec<_> = back.iter().filter(|text| acked.contains(text)).collect();
    check(returned.is_empty(), "no message that was acknowledged", || cut(&returned))
}

async fn one_in_flight(f: Fixture) -> Outcome {
    let member = f.member_of(f.group(), |options| options.max_in_flight = 1).await?;
    let all = numbered("m", 5);
    f.publish_texts(&all).await?;
    let mut got = Vec::new();
    for _ in &all {
        let mut received = member.receive(10, f.subject.patience).await?;
        same("deliveries at once", &1, &received.len())?;
        member.take_nothing("one is in flight, and that is the bound").await?;
        member.ack(&received).await?;
        got.append(&mut received);
    }
    same("all messages, one at a time", &all, &sorted(&got))
}

async fn bound_holds(f: Fixture) -> Outcome {
    let bound = 8;
    let member = f.member_of(f.group(), |options| options.max_in_flight = bound).await?;
    let all = numbered("m", 18);
    f.publish_texts(&all).await?;
    let mut hand = member.take(bound).await?;
    member.take_nothing("as many are in flight as the bound allows").await?;
    let settled = hand.split_off(bound - 3);
    member.ack(&settled).await?;
    let more = member.take(settled.len()).await?;
    member.take_nothing("the bound is reached again").await?;
    hand.extend(more);
    member.ack(&hand).await?;
    let rest = member.take_and_ack(all.len() - bound - 3).await?;
    let got = [settled, hand, rest].concat();
    same("all messages", &sort(all), &sorted(&got))
}

async fn worker_pauses_and_resumes(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let (gate, journal) = (Arc::new(Semaphore::new(0)), Journal::new());
    let (guarded, written) = (Arc::clone(&gate), journal.clone());
    let handler = move |delivery: Delivery| {
        let (gate, journal) = (Arc::clone(&guarded), written.clone());
        async move {
            drop(gate.acquire().await);
            journal.write(text(&delivery));
        }
    };
    let bound = 8;
    let subscribe = quick().concurrency(2).max_in_flight(bound);
    let subscription = service.subscribe(subscribe, handler).await?;
    let all = numbered("m", 60);
    service.publish(all.iter().map(|text| NewMessage::raw(text.clone()))).await?;
    let received = || async { Ok(subscription.stats().received) };
    let (full, _) = until(f.subject.patience, received, |received| *received >= bound as u64).await?;
    same("deliveries received up to the bound", &(bound as u64), &full)?;
    let (more, _) = until(f.subject.quiet, received, |received| *received > bound as u64).await?;
    same("deliveries received while no handler ends", &(bound as u64), &more)?;
    gate.add_permits(1);
    let handled = journal.wait_for(&f, all.len()).await?;
    service.stop(subscription).await?;
    same("what was handled", &sort(all), &sort(handled))
}

async fn settling_twice_is_harmless(f: Fixture) -> Outcome {
    let member = f.member().await?;
    f.publish_texts(&numbered("m", 3)).await?;
    let mut got = member.take(3).await?;
    got.sort_by_key(text);
    let done = slice::from_ref(&got[0]);
    member.ack(done).await?;
    for verdict in [Verdict::Ack, NOW, Verdict::Release] {
        let second = member.try_settle(done, verdict).await?.pop();
        let harmless = match &second {
            Some(Err(error)) => error.kind() == ErrorKind::LeaseLost,
            other => other.is_some(),
        };
        check(harmless, format!("Ok or LEASE_LOST for {verdict:?} of what is settled"), || cut(&second))?;
    }
    member.take_nothing("one is acknowledged and two are in flight").await?;
    member.settle(&got[1..], NOW).await?;
    let back = member.take_and_ack(2).await?;
    same("the two that were retried", &vec!["m-1".to_owned(), "m-2".to_owned()], &sorted(&back))?;
    member.take_nothing("all are acknowledged").await
}

async fn closed_consumer_gives_back(f: Fixture) -> Outcome {
    let all = numbered("m", 10);
    f.publish_texts(&all).await?;
    let member = f.member().await?;
    let got = member.take(all.len()).await?;
    member.ack(&got[..4]).await?;
    member.close().await?;
    let unsettled = sorted(&got[4..]);
    let back = f.member().await?.take_and_ack(unsettled.len()).await?;
    same("what was not settled", &unsettled, &sorted(&back))
}

async fn cut_close_is_taken_up(f: Fixture) -> Outcome {
    let all = numbered("m", 10);
    f.publish_texts(&all).await?;
    let member = f.member().await?;
    let got = member.take(all.len()).await?;
    member.ack(&got[..4]).await?;
    // It is looked at once, and given up where it has to wait for anything.
    let _ = tokio::time::timeout(Duration::ZERO, member.consumer.close()).await;
    member.close().await?;
    let unsettled = sorted(&got[4..]);
    let back = f.member().await?.take_and_ack(unsettled.len()).await?;
    same("what was not settled", &unsettled, &sorted(&back))
}

async fn closed_connection_gives_back(f: Fixture) -> Outcome {
    let all = numbered("m", 10);
    f.publish_texts(&all).await?;
    let lost = f.reconnected().await?;
    let _member = {
        let member = lost.member().await?;
        member.take(all.len()).await?;
        member
    };
    f.within("a connection closes", lost.broker.close()).await?;
    let back = f.member().await?.take_and_ack(all.len()).await?;
    same("what was not settled", &sort(all), &sorted(&back))
}

const NO_LEASES: &str = "the provider has no leases";

async fn lost_lease_gives_away(f: Fixture) -> Outcome {
    let Some(lease) = f.subject.lease else { return skip(NO_LEASES) };
    let slow = f.member_of(f.group(), |options| options.lease = lease).await?;
    f.publish(vec![message("slow")]).await?;
    let first = slow.take_one().await?;
    let other = f.reconnected().await?.member().await?;
    let again = other.take_one().await?;
    same("the message, at another member", "slow", text(&again).as_str())?;
    if f.capabilities().attempts == Attempts::Counted {
        same("its attempt", &2, &again.attempt)?;
    }
    let late = slow.try_settle(&[first], NOW).await?.pop();
    let harmless = !matches!(&late, Some(Err(error)) if error.kind() != ErrorKind::LeaseLost);
    check(harmless, "Ok or LEASE_LOST for a verdict that comes late", || cut(&late))?;
    slow.take_nothing("the message is with another member").await?;
    other.ack(&[again]).await?;
    other.take_nothing("it is acknowledged").await
}

async fn renewed_lease_keeps(f: Fixture) -> Outcome {
    let Some(lease) = f.subject.lease else { return skip(NO_LEASES) };
    let slow = f.member_of(f.group(), |options| options.lease = lease).await?;
    f.publish(vec![message("slow")]).await?;
    let first = slow.take_one().await?;
    let other = f.reconnected().await?.member().await?;
    let start = Instant::now();
    while start.elapsed() < lease * 2 {
        f.within("the lease is renewed", slow.consumer.extend()).await?;
        let stolen = other.receive(1, lease / 4).await?;
        check(stolen.is_empty(), "no delivery: its lease is renewed", || cut(&texts(&stolen)))?;
    }
    slow.ack(&[first]).await?;
    other.take_nothing("it is acknowledged").await
}
