//! Both sides of every line of the capabilities: what is promised works, and what is not is refused.

use super::delivery::refused_as_unsupported;
use super::fixture::{Fixture, message, numbered, same_headers, sorted, text};
use super::outcome::{Outcome, Wanted, check, cut, same};
use super::property::{Property, Section};
use super::service::{EVENT, Journal, Service, quick};
use ductape_core::capability::{Groups, HeaderNames, HeaderValues, Ordering, Replay};
use ductape_core::client::{NewMessage, Subscribe};
use ductape_core::guard::Guard;
use ductape_core::message::HeaderValue;
use ductape_core::{Delivery, Destination, ErrorKind, Failure, Headers, Start};
use std::time::{Duration, Instant};

const fn property(sentence: &'static str, run: fn(Fixture) -> super::property::Running) -> Property {
    Property::new(Section::Capability, sentence, run)
}

pub(super) const PROPERTIES: &[Property] = &[
    property("a retry waits for its time, whether the provider can delay or the worker must", |f| {
        Box::pin(retry_is_delayed(f))
    }),
    property("a new group starts with the earliest that is kept, or asking for it is UNSUPPORTED", |f| {
        Box::pin(starts_earliest(f))
    }),
    property("a new group starts with what is published from then on", |f| Box::pin(starts_latest(f))),
    property("a second group is served, or is UNSUPPORTED to whoever subscribes as one", |f| {
        Box::pin(second_group(f))
    }),
    property("a destination that is asked for order keeps it, or asking is UNSUPPORTED", |f| {
        Box::pin(order_is_kept_or_refused(f))
    }),
    property(
        "a payload as large as is allowed passes through a client and a larger one is MESSAGE_TOO_LARGE",
        |f| Box::pin(size_through_a_client(f)),
    )
    .without_keeping(),
    property("as many headers as are allowed arrive, and one more is MESSAGE_INVALID", |f| {
        Box::pin(header_count(f))
    })
    .without_keeping(),
    property("header values of any bytes arrive as they are, or are MESSAGE_INVALID", |f| {
        Box::pin(header_bytes(f))
    })
    .without_keeping(),
    property("headers of one name arrive in their order, or are MESSAGE_INVALID", |f| {
        Box::pin(header_names(f))
    })
    .without_keeping(),
    property("capabilities are the same on every connection", |f| Box::pin(capabilities_agree(f)))
        .without_keeping(),
];

/// How early a handler may be called: clocks tick in milliseconds on some servers.
const TICK: Duration = Duration::from_millis(20);

async fn retry_is_delayed(f: Fixture) -> Outcome {
    let (service, journal) = (Service::open(&f).await?, Journal::new());
    let delay = Duration::from_millis(300);
    let (written, start) = (journal.clone(), Instant::now());
    let handler = move |delivery: Delivery| {
        written.write(start.elapsed());
        let done = delivery.attempt > 1;
        async move { if done { Ok(()) } else { Err(Failure::retry_after(delay, "not yet")) } }
    };
    let subscription = service.subscribe(quick(), handler).await?;
    service.publish([NewMessage::raw("later")]).await?;
    let calls = journal.wait_for(&f, 2).await?;
    service.stop(subscription).await?;
    let waited = calls[1].saturating_sub(calls[0]);
    check(waited + TICK >= delay, format!("the second attempt {delay:?} after the first"), || {
        format!("after {waited:?}")
    })
}

/// What a subscription with these options is refused as.
async fn subscription_is_unsupported(f: &Fixture, subscribe: Subscribe) -> Outcome {
    let service = Service::open(f).await?;
    let subscribed = service.client.broker().subscribe(subscribe, |_: Delivery| async {}).await;
    refused_as_unsupported(subscribed.map(drop))
}

async fn starts_earliest(f: Fixture) -> Outcome {
    let capabilities = f.capabilities();
    if capabilities.replay == Replay::None {
        return subscription_is_unsupported(&f, quick().start(Start::Earliest)).await;
    }
    if capabilities.groups == Groups::One {
        // Its one group is there from the start.
        return Ok(());
    }
    let all = numbered("kept", 5);
    f.publish_texts(&all).await?;
    let group = f.another_group();
    let member = f.member_of(&group, |options| options.start = Start::Earliest).await?;
    same("what is kept", &all, &sorted(&member.take_and_ack(all.len()).await?))?;
    member.close().await?;
    let again = f.member_of(&group, |options| options.start = Start::Earliest).await?;
    again.take_nothing("the group is not new any more").await?;
    same("what another group still has", &all, &sorted(&f.member().await?.take_and_ack(all.len()).await?))
}

async fn starts_latest(f: Fixture) -> Outcome {
    if f.capabilities().groups == Groups::One {
        // Its one group is there from the start.
        return Ok(());
    }
    f.publish(vec![message("before")]).await?;
    let member = f.member_of(&f.another_group(), |_| {}).await?;
    f.publish(vec![message("after")]).await?;
    same("what is published later", "after", text(&member.take_one().await?).as_str())?;
    member.take_nothing("the rest was published before the group was there").await
}

async fn second_group(f: Fixture) -> Outcome {
    let subscribe = || quick().group(f.another_group());
    if f.capabilities().groups == Groups::One {
        return subscription_is_unsupported(&f, subscribe()).await;
    }
    let (service, journal) = (Service::open(&f).await?, Journal::new());
    let mut subscriptions = Vec::new();
    for subscribe in [quick(), subscribe()] {
        let written = journal.clone();
        let handler = move |delivery: Delivery| {
            written.write(text(&delivery));
            async {}
        };
        subscriptions.push(service.subscribe(subscribe, handler).await?);
    }
    service.publish([NewMessage::raw("for both")]).await?;
    journal.wait_for(&f, 2).await?;
    for subscription in subscriptions {
        service.stop(subscription).await?;
    }
    same("calls of handlers", &2, &journal.entries().len())
}

async fn order_is_kept_or_refused(f: Fixture) -> Outcome {
    let ordered = f.at(Destination { ordered: true, ..f.fresh("ordered") });
    let service = Service::open(&ordered).await?;
    if ordered.capabilities().ordering == Ordering::None {
        let publisher = service.client.broker().publisher(EVENT, None).await;
        refused_as_unsupported(publisher.map(drop))?;
        return subscription_is_unsupported(&ordered, quick()).await;
    }
    let all = numbered("m", 9);
    service.publish(all.iter().map(|text| NewMessage::raw(text.clone()).key("k"))).await?;
    let got = service.f.member().await?.take_and_ack(all.len()).await?;
    same("the order of the key", &all, &super::fixture::texts(&got))
}

async fn size_through_a_client(f: Fixture) -> Outcome {
    let limit = f.capabilities().max_message_bytes;
    let service = Service::open(&f).await?;
    let member = service.f.member().await?;
    service.publish([NewMessage::raw(vec![b'x'; limit])]).await?;
    same("the bytes that arrive", &limit, &member.take_and_ack(1).await?[0].message.payload.len())?;
    let publisher = service.publisher().await?;
    let over = publisher.publish(NewMessage::raw(vec![b'x'; limit + 1]));
    f.refused("one byte more", ErrorKind::MessageTooLarge, over).await
}

/// Publishes these headers if the guard lets them through, and compares them; or sees them refused.
async fn arrive_or_are_refused(f: &Fixture, headers: Headers, allowed: bool) -> Outcome {
    let mut published = message("with headers");
    published.headers = headers;
    let checked = Guard::new(f.target.provider.kind(), f.capabilities()).message(&published);
    match checked {
        Err(error) if !allowed => same("the refusal", &ErrorKind::MessageInvalid, &error.kind()),
        Ok(()) if !allowed => check(false, "MESSAGE_INVALID", || "it is let through".into()),
        checked => {
            checked.wanted("headers that the capabilities allow are let through")?;
            let member = f.member().await?;
            f.publish(vec![published.clone()]).await?;
            let got = member.take_and_ack(1).await?;
            member.close().await?;
            same_headers(f, &published.headers, &got[0].message.headers)
        }
    }
}

async fn header_count(f: Fixture) -> Outcome {
    let headers = |count| (0..count).map(|n| (format!("x-{n}"), n.to_string())).collect::<Headers>();
    match f.capabilities().max_headers {
        Some(most) => {
            arrive_or_are_refused(&f, headers(most), true).await?;
            arrive_or_are_refused(&f, headers(most + 1), false).await
        }
        None => arrive_or_are_refused(&f, headers(100), true).await,
    }
}

async fn header_bytes(f: Fixture) -> Outcome {
    let allowed = f.capabilities().header_values == HeaderValues::Bytes;
    let values: [&[u8]; 3] = [b"\xff\xfe", b"\x00\x01", b"\xed\xa0\x80"];
    for value in values {
        let mut headers = Headers::default();
        headers.append("x-bytes", HeaderValue::from(value.to_vec()));
        let text = std::str::from_utf8(value).is_ok();
        if allowed || !text {
            arrive_or_are_refused(&f, headers, allowed).await?;
        }
    }
    Ok(())
}

async fn header_names(f: Fixture) -> Outcome {
    let allowed = f.capabilities().header_names == HeaderNames::Repeatable;
    let mut headers = Headers::default();
    for (name, value) in [("x-twice", "1"), ("x-between", "2"), ("x-twice", "3")] {
        headers.append(name, value);
    }
    arrive_or_are_refused(&f, headers, allowed).await
}

async fn capabilities_agree(f: Fixture) -> Outcome {
    let (here, there) = (f.capabilities(), f.reconnected().await?.capabilities());
    same("the capabilities on another connection", &here, &there)?;
    check(here.max_message_bytes > 0, "messages of at least one byte", || cut(&here))?;
    let service = Service::open(&f).await?;
    let told = f.within("capabilities", service.client.capabilities(EVENT, None)).await?;
    same("the capabilities that a client tells", &here, &told)
}
