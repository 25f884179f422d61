//! Opening, stopping, closing and looking.

use super::fixture::{Fixture, Member, message, numbered, sort, sorted, text, until};
use super::outcome::{Outcome, Wanted, check, cut, fault, same, skip};
use super::property::{Property, Section};
use super::service::{Journal, Service, quick};
use crate::fault::{Fault, Faults, FaultyProvider, Operation, Rule};
use ductape_core::broker::{Inspection, Provision};
use ductape_core::capability::{Attempts, Groups};
use ductape_core::client::NewMessage;
use ductape_core::{Delivery, Destination, ErrorKind, Settlement, Subscription, Verdict};
use futures_util::future::{join, join_all, try_join_all};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

const fn property(sentence: &'static str, run: fn(Fixture) -> super::property::Running) -> Property {
    Property::new(Section::Lifecycle, sentence, run)
}

pub(super) const PROPERTIES: &[Property] = &[
    property("a worker stopped in the middle of a backlog and started again misses nothing", |f| {
        Box::pin(stop_and_resume(f))
    }),
    property("a stop ends in its time while the broker takes no verdict", |f| {
        Box::pin(stop_is_bounded(f, &[Operation::Settle]))
    }),
    property("a stop ends in its time while the broker closes no consumer", |f| {
        Box::pin(stop_is_bounded(f, &[Operation::CloseConsumer]))
    }),
    property("a subscription that is dropped gives back what it holds", |f| {
        Box::pin(dropped_subscription_gives_back(f))
    }),
    property("a group keeps what comes while it has no members", |f| Box::pin(empty_group_keeps(f))),
    property("many closes at once all succeed, and so does another", |f| Box::pin(closes_together(f)))
        .without_keeping(),
    property("a close ends a receive that waits", |f| Box::pin(close_ends_a_receive(f))).without_keeping(),
    property("what is used after its close is refused as CLOSED", |f| Box::pin(closed_refuses(f)))
        .without_keeping(),
    property("a ping is answered until the connection is closed", |f| Box::pin(ping_is_true(f)))
        .without_keeping(),
    property(
        "a missing destination is DESTINATION_NOT_FOUND under `provision: verify`, and is not made",
        |f| Box::pin(missing_is_not_found(f)),
    ),
    property("looking at a destination counts what waits and touches nothing", |f| {
        Box::pin(inspect_counts(f))
    }),
    property("a group that is deleted is gone with what waited for it, or deleting is UNSUPPORTED", |f| {
        Box::pin(deleted_group_is_gone(f))
    }),
    property("a config that cannot work is refused with its own error and with help", |f| {
        Box::pin(bad_config_is_refused(f))
    })
    .without_keeping(),
];

const BACKLOG: usize = 200;

/// Handlers that get past the gate write down what they had.
async fn subscribe_gated(
    service: &Service,
    gate: &Arc<Semaphore>,
    journal: &Journal<String>,
) -> Outcome<Subscription> {
    let (gate, journal) = (Arc::clone(gate), journal.clone());
    let handler = move |delivery: Delivery| {
        let (gate, journal) = (Arc::clone(&gate), journal.clone());
        async move {
            if let Ok(permit) = gate.acquire().await {
                permit.forget();
                journal.write(text(&delivery));
            }
        }
    };
    let subscribe = quick().concurrency(8).drain_timeout(Duration::from_millis(50));
    service.subscribe(subscribe, handler).await
}

async fn stop_and_resume(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let (gate, journal) = (Arc::new(Semaphore::new(BACKLOG / 4)), Journal::new());
    let all = numbered("m", BACKLOG);
    service.publish(all.iter().map(|text| NewMessage::raw(text.clone()))).await?;
    let first = subscribe_gated(&service, &gate, &journal).await?;
    journal.wait_for(&f, BACKLOG / 4).await?;
    // What waits at the gate is cut off by the stop, and goes back with the rest.
    service.stop(first).await?;
    gate.add_permits(BACKLOG);
    let resumed = Service::open(&f).await?;
    let second = subscribe_gated(&resumed, &gate, &journal).await?;
    let missing = |seen: &Vec<String>| all.iter().filter(|text| !seen.contains(*text)).count();
    let seen = journal.wait(&f, "every message of the backlog", |seen| missing(seen) == 0).await?;
    resumed.stop(second).await?;
    if f.capabilities().attempts == Attempts::CountedAtWatermark {
        // What was handled above the first that was not comes again there.
        return Ok(());
    }
    same("calls of handlers, one a message", &sort(all), &sort(seen))
}

/// What the worker promises for a stop beyond its drain timeout.
const GRACE: Duration = Duration::from_secs(10);

async fn stop_is_bounded(f: Fixture, hanging: &[Operation]) -> Outcome {
    let faults = Faults::new();
    let faulty = FaultyProvider::over(Arc::clone(&f.target.provider), faults.clone());
    let service = Service::open_on(&f, Arc::new(faulty)).await?;
    let (gate, journal) = (Arc::new(Semaphore::new(0)), Journal::new());
    let subscription = subscribe_gated(&service, &gate, &journal).await?;
    for operation in hanging {
        faults.add(Rule::new(*operation, Fault::Hang));
    }
    service.publish(numbered("m", 20).into_iter().map(NewMessage::raw)).await?;
    gate.add_permits(20);
    journal.wait_for(&f, 1).await?;
    let start = Instant::now();
    // Somewhat more than promised, for a machine that has much to do.
    let limit = GRACE + f.subject.patience;
    let stopped = tokio::time::timeout(limit, subscription.stop()).await;
    // A broker that blocks its thread may hold up the time-out too, so the clock is asked as well.
    let in_time = stopped.is_ok() && start.elapsed() <= limit;
    check(in_time, format!("the stop ends within {GRACE:?} and its drain timeout"), || {
        format!("it took {:?}", start.elapsed())
    })?;
    let hung = hanging.iter().all(|operation| faults.calls(*operation) > 0);
    check(hung, format!("calls of {hanging:?} that hang"), || "none".into())
}

async fn dropped_subscription_gives_back(f: Fixture) -> Outcome {
    let service = Service::open(&f).await?;
    let (entered, never) = (Journal::new(), Arc::new(Semaphore::new(0)));
    let written = entered.clone();
    let handler = move |delivery: Delivery| {
        written.write(text(&delivery));
        let never = Arc::clone(&never);
        async move { drop(never.acquire().await) }
    };
    let subscribe = quick().drain_timeout(Duration::from_millis(50));
    let subscription = service.subscribe(subscribe, handler).await?;
    let all = numbered("m", 5);
    service.publish(all.iter().map(|text| NewMessage::raw(text.clone()))).await?;
    entered.wait_for(&f, all.len()).await?;
    drop(subscription);
    let back = service.f.member().await?.take_and_ack(all.len()).await?;
    same("what it held", &all, &sorted(&back))
}

async fn empty_group_keeps(f: Fixture) -> Outcome {
    let mut groups = vec![f.group().to_owned()];
    if f.capabilities().groups == Groups::Many {
        groups.push(f.another_group());
    }
    for group in &groups {
        f.member_of(group, |_| {}).await?.close().await?;
    }
    let all = numbered("m", 5);
    f.publish_texts(&all).await?;
    for group in &groups {
        let got = f.reconnected().await?.member_of(group, |_| {}).await?.take_and_ack(all.len()).await?;
        same(&format!("what came for {group}"), &all, &sorted(&got))?;
    }
    Ok(())
}

async fn closes_together(f: Fixture) -> Outcome {
    let member = f.member().await?;
    let publisher = f.within("a publisher is opened", f.broker.publisher(&f.destination)).await?;
    f.publish_texts(&numbered("m", 3)).await?;
    try_join_all((0..8).map(|_| member.close())).await?;
    member.close().await?;
    let what = "the connection closes";
    try_join_all((0..8).map(|_| f.within(what, f.broker.close()))).await?;
    f.within(what, f.broker.close()).await?;
    // A publish that meets the close ends, one way or the other.
    let late = f.within("a publish after the close ends", async {
        Ok(join_all((0..4).map(|_| publisher.publish(vec![message("late")]))).await)
    });
    same("results", &4, &late.await?.into_iter().flatten().count())
}

async fn close_ends_a_receive(f: Fixture) -> Outcome {
    let patience = f.subject.patience;
    let connection = f.reconnected().await?;
    for (what, member) in
        [("the consumer", f.member().await?), ("the connection", connection.member().await?)]
    {
        let start = Instant::now();
        let close = async {
            // Polled after the receive below, which waits by then.
            match what {
                "the consumer" => member.close().await,
                _ => connection.within("a connection closes", connection.broker.close()).await,
            }
        };
        let receive = tokio::time::timeout(patience * 2, member.consumer.receive(10, patience * 3));
        let (received, closed) = join(receive, close).await;
        closed?;
        let ended = match received {
            Ok(Ok(deliveries)) => deliveries.is_empty(),
            Ok(Err(error)) => matches!(error.kind(), ErrorKind::Closed | ErrorKind::ConnectionLost),
            Err(_) => false,
        };
        let in_time = start.elapsed() < patience;
        check(ended && in_time, format!("the receive ends with {what}"), || {
            format!("after {:?}", start.elapsed())
        })?;
    }
    Ok(())
}

async fn closed_refuses(f: Fixture) -> Outcome {
    let closed = ErrorKind::Closed;
    let member = f.member().await?;
    f.publish(vec![message("held")]).await?;
    let held = member.take_one().await?;
    member.close().await?;
    consumer_refuses(&f, &member, &held).await?;
    let (broker, place) = (&f.broker, &f.destination);
    let publisher = f.within("a publisher is opened", broker.publisher(place)).await?;
    let member = f.member().await?;
    f.within("the connection closes", broker.close()).await?;
    let publish = async { publisher.publish(vec![message("late")]).await.pop().unwrap_or(Err(no_result())) };
    f.refused("a publish", closed, publish).await?;
    f.refused("a receive", closed, member.consumer.receive(1, f.subject.quiet)).await?;
    f.refused("a ping", closed, broker.ping()).await?;
    f.refused("an ensure", closed, broker.ensure(place)).await?;
    f.refused("an inspection", closed, broker.inspect(place)).await?;
    f.refused("opening a publisher", closed, broker.publisher(place)).await?;
    let options = ductape_core::ConsumerOptions::new(f.group());
    f.refused("opening a consumer", closed, broker.consumer(place, &options)).await
}

/// A consumer that was closed with this in hand.
async fn consumer_refuses(f: &Fixture, member: &Member, held: &Delivery) -> Outcome {
    let consumer = &member.consumer;
    f.refused("a receive", ErrorKind::Closed, consumer.receive(1, f.subject.quiet)).await?;
    let settlement = Settlement { token: held.token.clone(), verdict: Verdict::Ack };
    let settled = consumer.settle(vec![settlement]).await.pop().wanted("one result a settlement")?;
    let refused = |kind| matches!(kind, ErrorKind::Closed | ErrorKind::LeaseLost);
    let kind = settled.as_ref().err().map(ductape_core::Error::kind);
    check(kind.is_some_and(refused), "a late verdict is refused as CLOSED or LEASE_LOST", || cut(&settled))
}

fn no_result() -> ductape_core::Error {
    ductape_core::Error::new(ErrorKind::ProviderFailed, "no result for a message")
}

async fn ping_is_true(f: Fixture) -> Outcome {
    for _ in 0..3 {
        f.within("a ping", f.broker.ping()).await?;
    }
    let other = f.reconnected().await?;
    f.within("the connection closes", f.broker.close()).await?;
    f.refused("a ping of what is closed", ErrorKind::Closed, f.broker.ping()).await?;
    f.within("a ping of another connection", other.broker.ping()).await
}

async fn missing_is_not_found(f: Fixture) -> Outcome {
    let missing = ErrorKind::DestinationNotFound;
    let wanted = Destination { provision: Provision::Verify, ..f.fresh("missing") };
    for _ in 0..2 {
        f.refused("a missing destination", missing, f.broker.ensure(&wanted)).await?;
    }
    f.refused("looking at a missing destination", missing, f.broker.inspect(&wanted)).await?;
    f.ensure(&Destination { provision: Provision::Create, ..wanted.clone() }).await?;
    f.ensure(&wanted).await
}

async fn inspect_counts(f: Fixture) -> Outcome {
    let all = numbered("m", 5);
    f.publish_texts(&all).await?;
    let seen = f.within("an inspection", f.broker.inspect(&f.destination)).await?;
    if seen.groups.iter().any(|seen| seen.name == f.group() && seen.lag.is_none()) {
        return skip("the provider cannot tell a lag");
    }
    for _ in 0..2 {
        inspected(&f, "five wait for the default group", |seen| lag(seen, f.group()) == Some(5)).await?;
    }
    let got = f.member().await?;
    let taken = got.take(all.len()).await?;
    let attempts: Vec<_> = taken.iter().map(|delivery| delivery.attempt).collect();
    same("the attempts, as if nobody had looked", &vec![1; 5], &attempts)?;
    got.ack(&taken).await?;
    got.close().await?;
    inspected(&f, "nothing waits", |seen| lag(seen, f.group()).unwrap_or(0) == 0).await
}

fn lag(seen: &Inspection, group: &str) -> Option<u64> {
    seen.groups.iter().find(|seen| seen.name == group).and_then(|group| group.lag)
}

/// Looks until it is so: the counts of some servers come late.
async fn inspected(f: &Fixture, what: &str, so: impl Fn(&Inspection) -> bool) -> Outcome {
    let look = || f.within("an inspection", f.broker.inspect(&f.destination));
    let seen = until(f.subject.patience, look, so).await?;
    check(seen.1, what, || cut(&seen.0))
}

async fn deleted_group_is_gone(f: Fixture) -> Outcome {
    let group = f.another_group();
    if f.capabilities().groups == Groups::One {
        let deleted = f.broker.delete_group(&f.destination, &group);
        return f.refused("deleting a group", ErrorKind::Unsupported, deleted).await;
    }
    f.member_of(&group, |_| {}).await?.close().await?;
    f.publish(vec![message("old")]).await?;
    f.within("a group is deleted", f.broker.delete_group(&f.destination, &group)).await?;
    let again = f.broker.delete_group(&f.destination, &group);
    f.refused("deleting it again", ErrorKind::GroupNotFound, again).await?;
    let reborn = f.member_of(&group, |_| {}).await?;
    f.publish(vec![message("new")]).await?;
    same("what the group sees that is new", "new", text(&reborn.take_one().await?).as_str())?;
    reborn.take_nothing("the rest was deleted with the group").await?;
    let kept = sorted(&f.member().await?.take_and_ack(2).await?);
    same("what the other group still has", &vec!["new".to_owned(), "old".to_owned()], &kept)
}

async fn bad_config_is_refused(f: Fixture) -> Outcome {
    if f.subject.refused.is_empty() {
        return skip("the subject names no config that cannot work");
    }
    for (config, kind) in &f.subject.refused {
        let connecting = f.target.provider.connect(config, &f.target.options);
        let refused = tokio::time::timeout(f.subject.patience, connecting).await;
        let what = format!("{kind}, with help");
        match refused {
            Ok(Err(error)) => {
                check(error.kind() == *kind && error.help().is_some(), what, || error.to_string())?
            }
            Ok(Ok(_)) => return Err(fault(what, "a connection")),
            Err(_) => return Err(fault(what, format!("nothing within {:?}", f.subject.patience))),
        }
    }
    Ok(())
}
