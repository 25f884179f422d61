//! Handlers that fail, and what becomes of their messages.

use super::fixture::{Fixture, message, same_headers, text};
use super::outcome::{Outcome, Wanted, check, cut, same, skip};
use super::property::{Property, Section};
use super::service::{EVENT, Journal, Service, quick};
use crate::fault::{Fault, Faults, FaultyProvider, Operation, Rule};
use bytes::Bytes;
use ductape_core::capability::{Attempts, Groups};
use ductape_core::client::{LetterFilter, NewMessage};
use ductape_core::message::DeadLetter;
use ductape_core::{Delivery, Error, ErrorKind, Failure, Message, Verdict};
use std::sync::Arc;
use std::time::Duration;

const fn property(sentence: &'static str, run: fn(Fixture) -> super::property::Running) -> Property {
    Property::new(Section::Failure, sentence, run)
}

pub(super) const PROPERTIES: &[Property] = &[
    property("attempts count up from one", |f| Box::pin(attempts_count_up(f))),
    property("the attempt number survives its consumer", |f| Box::pin(attempts_survive(f))),
    property("a rejected message skips its retries", |f| Box::pin(reject_skips_retries(f))),
    property("an exhausted message goes to the dead letters with its bytes intact", |f| {
        Box::pin(exhausted_is_buried_intact(f))
    }),
    property(
        "a message that cannot be decoded goes to the dead letters with its bytes and the reason",
        |f| Box::pin(undecodable_is_buried_intact(f)),
    ),
    property(
        "a message with as many headers as are taken can be dead-lettered and redriven with all of them",
        |f| Box::pin(crowded_is_buried_intact(f)),
    ),
    property("a redriven dead letter comes back to the group that gave it up, and to no other", |f| {
        Box::pin(redriven_comes_back(f))
    }),
    property("dead letters are listed without being taken, and purged when asked", |f| {
        Box::pin(letters_are_listed_and_purged(f))
    }),
    property("a message whose dead letter is not taken stays where it is", |f| Box::pin(unburied_stays(f))),
    property("a handler that panics takes nothing else down", |f| Box::pin(panic_is_contained(f))),
    property("a handler that takes too long is given up and tried again", |f| {
        Box::pin(slow_handler_is_given_up(f))
    }),
    property("a worker that loses its consumer opens another and misses nothing", |f| {
        Box::pin(lost_consumer_is_replaced(f))
    }),
];

const NOW: Verdict = Verdict::Retry(Duration::ZERO);

async fn attempts_count_up(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let journal = Journal::new();
    let written = journal.clone();
    let handler = move |delivery: Delivery| {
        written.write((text(&delivery), delivery.attempt));
        let done = delivery.attempt >= 3;
        async move { if done { Ok(()) } else { Err(Failure::retry("not yet")) } }
    };
    let subscription = service.subscribe(quick(), handler).await?;
    let messages = [NewMessage::raw("plain"), NewMessage::raw("keyed").key("k")];
    service.publish(messages).await?;
    let all = journal.wait_for(&f, 6).await?;
    service.stop(subscription).await?;
    for word in ["plain", "keyed"] {
        let attempts: Vec<_> = all.iter().filter(|(text, _)| text == word).map(|(_, n)| *n).collect();
        same(&format!("the attempts of the {word} message"), &vec![1, 2, 3], &attempts)?;
    }
    Ok(())
}

async fn attempts_survive(f: Fixture) -> Outcome {
    if f.capabilities().attempts == Attempts::Forgotten {
        return skip("the provider keeps no count");
    }
    f.publish(vec![message("counted")]).await?;
    for attempt in 1..=3 {
        let again = f.reconnected().await?;
        let member = again.member().await?;
        let delivery = member.take_one().await?;
        let seen = match f.capabilities().attempts {
            Attempts::Overcounted => delivery.attempt.min(attempt),
            _ => delivery.attempt,
        };
        same("the attempt at another consumer", &attempt, &seen)?;
        member.settle(&[delivery], NOW).await?;
        member.close().await?;
    }
    Ok(())
}

/// A message with everything that a dead letter must keep.
fn full() -> NewMessage {
    let body: Vec<u8> = (0..=255).collect();
    NewMessage::raw(body).key("customer-789").header("source-ip", "192.0.2.7").header("x-Odd", "\u{1f525}")
}

/// The letter is the message, and tells of its failure.
fn same_letter(letter: &Message, payload: &Bytes, service: &Service) -> Outcome<DeadLetter> {
    same("the payload", payload, &letter.payload)?;
    let facts = letter.dead_letter().wanted("the facts of the failure in the dead letter")?;
    same("the group that gave it up", service.f.group(), &*facts.group)?;
    same("its destination", &*service.f.destination.name, &*facts.destination)?;
    Ok(facts.clone())
}

async fn reject_skips_retries(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let journal = Journal::new();
    let written = journal.clone();
    let handler = move |delivery: Delivery| {
        written.write(delivery.attempt);
        async { Err(Failure::reject("no such customer")) }
    };
    let subscription = service.subscribe(quick(), handler).await?;
    service.publish([NewMessage::raw("bad")]).await?;
    let letters = service.wait_for_letters(1).await?;
    service.stop(subscription).await?;
    same("the attempts", &vec![1], &journal.entries())?;
    let facts = same_letter(&letters[0], &Bytes::from_static(b"bad"), &service)?;
    same("the reason", "no such customer", &*facts.reason)?;
    same("the attempts in the dead letter", &1, &facts.attempts)?;
    service.f.member().await?.take_nothing("it is in the dead letters").await
}

async fn exhausted_is_buried_intact(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let journal = Journal::new();
    let written = journal.clone();
    let handler = move |delivery: Delivery| {
        written.write(delivery.message);
        async { Err(Failure::retry("the shop is closed")) }
    };
    let subscription = service.subscribe(quick(), handler).await?;
    let receipt = service.publish([full()]).await?.pop().wanted("a receipt")?;
    let letters = service.wait_for_letters(1).await?;
    service.stop(subscription).await?;
    let handled = journal.entries();
    same("the attempts", &3, &handled.len())?;
    let (letter, original) = (&letters[0], &handled[0]);
    let facts = same_letter(letter, &original.payload, &service)?;
    same("the key", &original.key, &letter.key)?;
    same_headers(&service.f, &original.headers, &letter.headers)?;
    same("the id", &receipt.id, &letter.id)?;
    same("the time", &original.time, &letter.time)?;
    same("the attributes", &original.attributes, &letter.attributes)?;
    same("the reason", "the shop is closed", &*facts.reason)?;
    same("the position", receipt.position.to_string().as_str(), &*facts.position)?;
    same("the attempts in the dead letter", &3, &facts.attempts)?;
    service.f.member().await?.take_nothing("it is in the dead letters").await
}

async fn undecodable_is_buried_intact(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let journal = Journal::new();
    let written = journal.clone();
    let handler = move |number: u64| {
        written.write(number);
        async {}
    };
    let subscription = service.subscribe(quick(), handler).await?;
    let bodies = [Bytes::from_static(b"{\"not\": \"a number\"}"), Bytes::from_static(b"\xff\x00\xfe")];
    let messages = bodies.iter().map(|body| NewMessage::raw(body.clone()));
    service.publish(messages.chain([NewMessage::raw("42")])).await?;
    let letters = service.wait_for_letters(2).await?;
    journal.wait(&f, "the message that can be decoded", |numbers| numbers == &[42]).await?;
    service.stop(subscription).await?;
    for body in bodies {
        let letter = letters.iter().find(|letter| letter.payload == body);
        let facts = same_letter(letter.wanted("each body among the dead letters")?, &body, &service)?;
        let reason = facts.reason.contains(ErrorKind::PayloadInvalid.code());
        check(reason, "a reason with PAYLOAD_INVALID", || facts.reason.to_string())?;
        same("the attempts in the dead letter", &1, &facts.attempts)?;
    }
    Ok(())
}

/// More than anyone who means well has.
const MANY_HEADERS: usize = 10_000;

/// The facts of a failure come on top of what was just taken, and must find room.
async fn crowded_is_buried_intact(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let refuse = |_: Delivery| async { Err(Failure::reject("a crowd")) };
    let subscription = service.subscribe(quick(), refuse).await?;
    let publisher = service.publisher().await?;
    let headers = |count| (0..count).map(|n| (format!("h-{n}"), "v")).collect();
    let crowd = |count| NewMessage::raw("crowd").headers(headers(count));
    let (mut taken, mut most, mut refused) = (Vec::new(), 0, MANY_HEADERS + 1);
    let mut tried = MANY_HEADERS;
    while most < tried {
        match publisher.publish(crowd(tried)).await {
            Ok(_) => {
                most = tried;
                taken.push(tried);
            }
            Err(error) => {
                let kinds = [ErrorKind::MessageTooLarge, ErrorKind::MessageInvalid];
                let expected = format!("{tried} headers are taken, or refused as {kinds:?}");
                check(kinds.contains(&error.kind()), expected, || error.to_string())?;
                refused = tried;
            }
        }
        tried = most.midpoint(refused);
    }
    let letters = service.wait_for_letters(taken.len()).await?;
    service.stop(subscription).await?;
    let mut kept: Vec<_> = letters.iter().map(|letter| letter.headers.len()).collect();
    kept.sort_unstable();
    taken.sort_unstable();
    same("how many headers each dead letter has", &taken, &kept)?;
    let letters = service.letters().await?;
    let counts = service.f.within("a redrive", letters.redrive(LetterFilter::All)).await?;
    same("how many are redriven", &(taken.len() as u64), &counts.taken)
}

async fn redriven_comes_back(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let others = match f.capabilities().groups {
        Groups::Many => Some(service.f.member_of(&f.another_group(), |_| {}).await?),
        Groups::One => None,
    };
    let refuse = |_: Delivery| async { Err(Failure::reject("not now")) };
    let subscription = service.subscribe(quick(), refuse).await?;
    service.publish([full()]).await?;
    let letter = service.wait_for_letters(1).await?.remove(0);
    service.stop(subscription).await?;
    let letters = service.letters().await?;
    let counts = f.within("a redrive", letters.redrive(LetterFilter::All)).await?;
    same("letters redriven", &1, &counts.taken)?;
    let journal = Journal::new();
    let written = journal.clone();
    let handler = move |delivery: Delivery| {
        written.write(delivery.message);
        async {}
    };
    let subscription = service.subscribe(quick(), handler).await?;
    let back = journal.wait_for(&f, 1).await?.remove(0);
    service.stop(subscription).await?;
    same("the payload", &letter.payload, &back.payload)?;
    same("the key", &letter.key, &back.key)?;
    same_headers(&service.f, &letter.headers, &back.headers)?;
    same("the id", &letter.id, &back.id)?;
    same("dead letters left", &0, &f.within("a count", letters.count()).await?)?;
    match others {
        Some(others) => unseen_by_others(&service, others).await,
        None => Ok(()),
    }
}

/// The other group had the message once, and its worker acknowledges the redriven one unseen.
async fn unseen_by_others(service: &Service, others: super::fixture::Member) -> Outcome {
    others.take_and_ack(1).await?;
    others.close().await?;
    let journal: Journal<String> = Journal::new();
    let written = journal.clone();
    let handler = move |delivery: Delivery| {
        written.write(text(&delivery));
        async {}
    };
    let subscription = service.subscribe(quick().group(service.f.another_group()), handler).await?;
    // Of the same key, so that the redriven one would be handled before it.
    service.publish([NewMessage::raw("next").key("customer-789")]).await?;
    let seen = journal.wait(&service.f, "the next message", |texts| texts.contains(&"next".into())).await?;
    service.stop(subscription).await?;
    same("what another group sees", &vec!["next".to_owned()], &seen)
}

async fn letters_are_listed_and_purged(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let refuse = |_: Delivery| async { Err(Failure::reject("no")) };
    let subscription = service.subscribe(quick(), refuse).await?;
    let receipts = service.publish((0..5).map(|n| NewMessage::raw(format!("bad-{n}")))).await?;
    let mut found = service.wait_for_letters(5).await?;
    service.stop(subscription).await?;
    let letters = service.letters().await?;
    for _ in 0..2 {
        let again = f.within("dead letters are listed", letters.list(10)).await?;
        same("dead letters listed", &5, &again.len())?;
        found = again;
    }
    let ids = vec![receipts[2].id.to_string()];
    let shown = f.within("a dead letter is shown", letters.show(&ids[0])).await?;
    same("the one shown", &Some(Bytes::from_static(b"bad-2")), &shown.map(|letter| letter.payload))?;
    let purge = f.within("a purge of one", letters.purge(LetterFilter::Ids(&ids))).await?;
    same("letters purged and left", &(1, 4), &(purge.taken, purge.left))?;
    let rest = f.within("dead letters are listed", letters.list(10)).await?;
    let gone = !rest.iter().any(|letter| letter.id == receipts[2].id);
    check(gone && rest.len() == 4, "the four others", || {
        cut(&rest.iter().map(|l| &l.id).collect::<Vec<_>>())
    })?;
    let purge = f.within("a purge of all", letters.purge(LetterFilter::All)).await?;
    same("letters purged", &4, &purge.taken)?;
    same("letters found before", &5, &found.len())
}

async fn unburied_stays(f: Fixture) -> Outcome {
    let faults = Faults::new();
    let refused =
        Error::new(ErrorKind::ProviderFailed, "the dead letters are refused, as the suite asked for");
    let faulty = FaultyProvider::over(Arc::clone(&f.target.provider), faults.clone());
    let service = Service::open_on(&f, Arc::new(faulty)).await?;
    let dead = Arc::clone(&service.dead_letters.name);
    let here = move |name: &str| *name == *dead;
    faults.add(Rule::new(Operation::Publish, Fault::fail(refused)).on(here));
    let refuse = |_: Delivery| async { Err(Failure::reject("no")) };
    let stops_soon = quick().drain_timeout(Duration::from_millis(10));
    let subscription = service.subscribe(stops_soon, refuse).await?;
    service.publish([full()]).await?;
    // The publish of the message, and the first try of its dead letter.
    let tried = tokio::time::timeout(f.subject.patience, faults.wait_for_calls(Operation::Publish, 2)).await;
    check(tried.is_ok(), "a publish of the dead letter", || "none".into())?;
    service.stop(subscription).await?;
    faults.clear();
    let back = service.f.member().await?.take_one().await?;
    let body: Vec<u8> = (0..=255).collect();
    same("the message, where it was", &Bytes::from(body), &back.message.payload)?;
    same("dead letters", &0, &f.within("a count", service.letters().await?.count()).await?)
}

async fn panic_is_contained(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let journal = Journal::new();
    let written = journal.clone();
    let handler = move |delivery: Delivery| {
        let text = text(&delivery);
        let written = written.clone();
        async move {
            // Unwinds as a panic does, without the words of the hook in the output.
            if text == "bomb" {
                std::panic::resume_unwind(Box::new("the handler's fault"));
            }
            written.write(text);
        }
    };
    let subscription = service.subscribe(quick(), handler).await?;
    let texts = ["a", "bomb", "b", "c"];
    service.publish(texts.map(NewMessage::raw)).await?;
    let letters = service.wait_for_letters(1).await?;
    service.publish([NewMessage::raw("after")]).await?;
    let mut handled = journal.wait_for(&f, 4).await?;
    let stats = subscription.stats();
    service.stop(subscription).await?;
    handled.sort();
    same("what else was handled", &["a", "after", "b", "c"].map(String::from).to_vec(), &handled)?;
    same("panics counted", &3, &stats.panicked)?;
    let facts = same_letter(&letters[0], &Bytes::from_static(b"bomb"), &service)?;
    let named = facts.reason.contains("the handler's fault");
    check(named, "a reason with the words of the panic", || facts.reason.to_string())
}

async fn slow_handler_is_given_up(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let journal = Journal::new();
    let written = journal.clone();
    let handler = move |delivery: Delivery| {
        written.write((text(&delivery), delivery.attempt));
        let hangs = delivery.attempt == 1 && text(&delivery) == "slow";
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
        }
    };
    let subscribe = quick().timeout(Duration::from_millis(50)).concurrency(4);
    let subscription = service.subscribe(subscribe, handler).await?;
    service.publish(["slow", "quick"].map(NewMessage::raw)).await?;
    let mut calls = journal.wait_for(&f, 3).await?;
    let stats = subscription.stats();
    service.stop(subscription).await?;
    calls.sort();
    let expected = [("quick", 1), ("slow", 1), ("slow", 2)].map(|(text, n)| (text.to_owned(), n));
    same("the calls", &expected.to_vec(), &calls)?;
    same("time-outs counted", &1, &stats.timed_out)
}

async fn lost_consumer_is_replaced(f: Fixture) -> Outcome {
    let faults = Faults::new();
    let faulty = FaultyProvider::over(Arc::clone(&f.target.provider), faults.clone());
    let service = Service::open_on(&f, Arc::new(faulty)).await?;
    let own = Arc::clone(&service.f.destination.name);
    let lose = Rule::new(Operation::Receive, Fault::LoseConnection).on(move |name| *name == *own);
    faults.add(lose.calls(crate::fault::Calls::Nth(2)));
    let journal = Journal::new();
    let written = journal.clone();
    let handler = move |delivery: Delivery| {
        written.write(text(&delivery));
        async {}
    };
    let subscription = service.subscribe(quick().max_in_flight(20), handler).await?;
    let expected: std::collections::BTreeSet<_> = (0..50).map(|n| format!("m-{n}")).collect();
    for text in &expected {
        service.publish([NewMessage::raw(text.clone())]).await?;
    }
    journal.wait(&f, "every message", |texts| expected.iter().all(|text| texts.contains(text))).await?;
    let stats = subscription.stats();
    service.stop(subscription).await?;
    check(stats.reconnects >= 1, "a consumer opened after the first", || cut(&stats))?;
    check(f.within("a ping", service.client.ping(EVENT, None)).await.is_ok(), "a connection", String::new)
}
