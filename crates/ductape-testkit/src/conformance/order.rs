//! Messages of one key keep their order, whatever happens to them.

use super::delivery::refused_as_unsupported;
use super::fixture::{Fixture, Member, keyed, text, texts};
use super::outcome::{Outcome, check, cut, same};
use super::property::{Property, Section};
use super::service::{Journal, Service, quick};
use ductape_core::capability::Ordering;
use ductape_core::client::NewMessage;
use ductape_core::guard::Guard;
use ductape_core::{Delivery, Failure, Subscription, Verdict};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const fn property(sentence: &'static str, run: fn(Fixture) -> super::property::Running) -> Property {
    Property::new(Section::Order, sentence, run)
}

pub(super) const PROPERTIES: &[Property] = &[
    property("messages of one key come in the order they were published", |f| {
        Box::pin(in_order_of_publish(f))
    }),
    property("overlapping publishes of one key are taken in the order of the calls", |f| {
        Box::pin(in_order_of_calls(f))
    }),
    property("a retried message comes back before the later ones of its key", |f| {
        Box::pin(retry_keeps_order(f))
    }),
    property("a key goes on in order when the member that had it is gone", |f| {
        Box::pin(lost_member_keeps_order(f))
    }),
    property("while a member holds a message of a key, the later ones go to nobody else", |f| {
        Box::pin(key_is_with_one_member(f))
    }),
    property("a key keeps its order through retries and members that leave, with many workers", |f| {
        Box::pin(workers_keep_order(f))
    }),
];

const NOW: Verdict = Verdict::Retry(Duration::ZERO);

/// The fixture on an ordered destination, or `None` where order is refused as it should be.
pub(super) async fn ordered(f: &Fixture) -> Outcome<Option<Fixture>> {
    let destination = ductape_core::Destination { ordered: true, ..f.destination.clone() };
    let capabilities = f.broker.capabilities(&destination);
    if capabilities.ordering != Ordering::None {
        return Ok(Some(f.ordered().await?));
    }
    let guard = Guard::new(f.target.provider.kind(), capabilities);
    refused_as_unsupported(guard.ordering(&destination))?;
    Ok(None)
}

fn numbers(key: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{key}-{n:03}")).collect()
}

async fn publish_keyed(f: &Fixture, key: &str, texts: &[String]) -> Outcome {
    f.publish(texts.iter().map(|text| keyed(key, text.clone())).collect()).await.map(drop)
}

async fn in_order_of_publish(f: Fixture) -> Outcome {
    let Some(f) = ordered(&f).await? else { return Ok(()) };
    let keys = ["a", "b", "c"];
    for part in 0..10 {
        let batch = (part * 10..(part + 1) * 10)
            .flat_map(|n| keys.map(|key| keyed(key, format!("{key}-{n:03}"))))
            .collect();
        f.publish(batch).await?;
    }
    let member = f.member().await?;
    let mut got = Vec::new();
    while got.len() < 300 {
        let count = (300 - got.len()).min(64);
        got.extend(member.take_in_turn(count).await?);
    }
    for (key, got) in by_key(&got) {
        same("the order of one key", &numbers(&key, 0..100), &got)?;
    }
    Ok(())
}

fn by_key(deliveries: &[Delivery]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for delivery in deliveries {
        let key = delivery.message.key.as_ref().map(ToString::to_string).unwrap_or_default();
        keys.entry(key).or_default().push(text(delivery));
    }
    keys
}

async fn in_order_of_calls(f: Fixture) -> Outcome {
    let Some(f) = ordered(&f).await? else { return Ok(()) };
    let publisher = f.within("a publisher is opened", f.broker.publisher(&f.destination)).await?;
    let all = numbers("k", 0..60);
    // Polled in turn by `join_all`: the order of the first polls is the order of the list.
    let calls = all.chunks(3).map(|part| {
        let batch = part.iter().map(|text| keyed("k", text.clone())).collect();
        publisher.publish(batch)
    });
    let results = tokio::time::timeout(f.subject.patience, futures_util::future::join_all(calls)).await;
    let results = results.map_err(|_| super::outcome::fault("every publish ends", "some hang"))?;
    let failed: Vec<_> = results.into_iter().flatten().filter_map(Result::err).collect();
    check(failed.is_empty(), "every message is taken", || cut(&failed))?;
    same("the order of the calls", &all, &texts(&f.member().await?.take_in_turn(all.len()).await?))
}

async fn retry_keeps_order(f: Fixture) -> Outcome {
    let Some(f) = ordered(&f).await? else { return Ok(()) };
    let all = numbers("k", 0..6);
    publish_keyed(&f, "k", &all).await?;
    // One at a time, so that none of the later ones is in hand already.
    let member = f.member_of(f.group(), |options| options.max_in_flight = 1).await?;
    let mut got = Vec::new();
    for n in 0..all.len() * 2 {
        let delivery = member.take_one().await?;
        let verdict = if n % 2 == 0 { NOW } else { Verdict::Ack };
        got.push(text(&delivery));
        member.settle(&[delivery], verdict).await?;
    }
    let expected: Vec<_> = all.iter().flat_map(|text| [text.clone(), text.clone()]).collect();
    same("each message twice before the next", &expected, &got)
}

async fn lost_member_keeps_order(f: Fixture) -> Outcome {
    let Some(f) = ordered(&f).await? else { return Ok(()) };
    let all = numbers("k", 0..12);
    publish_keyed(&f, "k", &all).await?;
    let first = f.member_of(f.group(), |options| options.max_in_flight = 6).await?;
    let got = first.take(6).await?;
    same("the first six", &all[..6], &texts(&got)[..])?;
    first.ack(&got[..2]).await?;
    first.close().await?;
    let second = f.member().await?;
    let mut rest = Vec::new();
    while rest.len() < 10 {
        rest.extend(second.take_and_ack(1).await?);
    }
    same("the rest from the first that was not settled", &all[2..], &texts(&rest)[..])
}

async fn key_is_with_one_member(f: Fixture) -> Outcome {
    let Some(f) = ordered(&f).await? else { return Ok(()) };
    let other_connection = f.reconnected().await?;
    let one = f.member_of(f.group(), |options| options.max_in_flight = 1).await?;
    let other = other_connection.member_of(f.group(), |options| options.max_in_flight = 1).await?;
    let all = numbers("k", 0..6);
    publish_keyed(&f, "k", &all).await?;
    let (mut got, start) = (Vec::new(), Instant::now());
    while got.len() < all.len() {
        let in_time = start.elapsed() < f.subject.patience;
        check(in_time, "all messages of the key", || cut(&got))?;
        for (holder, rival) in [(&one, &other), (&other, &one)] {
            got.extend(take_past_rival(holder, rival, &f).await?);
        }
    }
    same("the order over both members", &all, &got)
}

/// What a member has while its rival looks for a later one of the key, and must not find one.
async fn take_past_rival(holder: &Member, rival: &Member, f: &Fixture) -> Outcome<Option<String>> {
    let Some(delivery) = holder.receive(1, f.subject.quiet).await?.pop() else { return Ok(None) };
    rival.take_nothing("the key is with another member").await?;
    let got = text(&delivery);
    holder.ack(&[delivery]).await?;
    Ok(Some(got))
}

const KEYS: usize = 10;
const OF_A_KEY: usize = 30;

async fn workers_keep_order(f: Fixture) -> Outcome {
    let Some(f) = ordered(&f).await? else { return Ok(()) };
    let (service, journal) = (Service::open(&f).await?, Journal::new());
    let elsewhere = Service::open(&f).await?;
    let leaving = subscribe_with_retries(&service, &journal).await?;
    let staying = subscribe_with_retries(&elsewhere, &journal).await?;
    for n in 0..OF_A_KEY {
        let text = |key| format!("{key}-{n}");
        service.publish((0..KEYS).map(|key| NewMessage::raw(text(key)).key(format!("key-{key}")))).await?;
    }
    journal.wait_for(&f, KEYS * OF_A_KEY / 4).await?;
    service.stop(leaving).await?;
    let coming = subscribe_with_retries(&service, &journal).await?;
    let all = |handled: &Vec<(String, usize)>| {
        (0..KEYS).all(|key| handled.contains(&(key.to_string(), OF_A_KEY - 1)))
    };
    let handled = journal.wait(&f, "the last message of every key", all).await?;
    for (service, subscription) in [(&elsewhere, staying), (&service, coming)] {
        service.stop(subscription).await?;
    }
    for key in 0..KEYS {
        let order = handled.iter().filter(|(of, _)| *of == key.to_string()).map(|(_, n)| *n);
        check_order(order.collect())?;
    }
    Ok(())
}

/// Every third message fails at first, and its lane waits for it.
async fn subscribe_with_retries(
    service: &Service,
    journal: &Journal<(String, usize)>,
) -> Outcome<Subscription> {
    let written = journal.clone();
    let handler = move |delivery: Delivery| {
        let text = text(&delivery);
        let (key, n) = text.split_once('-').unwrap_or_default();
        let (key, n) = (key.to_owned(), n.parse().unwrap_or(usize::MAX));
        let (fails, journal) = (n % 3 == 0 && delivery.attempt == 1, written.clone());
        async move {
            tokio::task::yield_now().await;
            if fails {
                return Err(Failure::retry_after(Duration::from_millis(2), "not at first"));
            }
            journal.write((key, n));
            Ok(())
        }
    };
    service.subscribe(quick().concurrency(8).max_in_flight(32), handler).await
}

/// A redelivery may repeat what was handled; nothing may come before what precedes it.
fn check_order(handled: Vec<usize>) -> Outcome {
    let mut next = 0;
    for n in &handled {
        check(*n <= next, "each message of a key after the one before it", || cut(&handled))?;
        next = next.max(n + 1);
    }
    Ok(())
}
