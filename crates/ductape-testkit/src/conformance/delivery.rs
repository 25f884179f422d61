//! What is published arrives, once for each group, as it was.

use super::fixture::{Fixture, Member, message, numbered, same_headers, sort, sorted, text, texts};
use super::outcome::{Outcome, Wanted, check, cut, fault, same, skip};
use super::property::{Property, Section};
use bytes::Bytes;
use ductape_core::capability::{Attempts, Groups};
use ductape_core::guard::Guard;
use ductape_core::message::SessionRef;
use ductape_core::{Delivery, ErrorKind, Message, MessageId, Start, Verdict};
use futures_util::future::try_join_all;
use std::collections::HashMap;
use std::future::Future;
use std::task::Poll;
use std::time::{Duration, Instant};

const fn property(sentence: &'static str, run: fn(Fixture) -> super::property::Running) -> Property {
    Property::new(Section::Delivery, sentence, run)
}

pub(super) const PROPERTIES: &[Property] = &[
    property("payload, key, headers and metadata arrive as they were published", |f| {
        Box::pin(arrives_as_published(f))
    })
    .without_keeping(),
    property("odd UTF-8 in a header survives byte for byte, or the publish is refused", |f| {
        Box::pin(odd_text_survives(f))
    })
    .without_keeping(),
    property("a body that is not UTF-8 survives, and so does an empty one", |f| {
        Box::pin(any_body_survives(f))
    })
    .without_keeping(),
    property("what is published before anyone consumes waits for the default group", |f| {
        Box::pin(waits_for_the_default_group(f))
    }),
    property("a consumer that waits is woken by a publish", |f| Box::pin(wakes_a_waiting_consumer(f)))
        .without_keeping(),
    property("topics are isolated from each other", |f| Box::pin(topics_are_isolated(f))),
    property("two groups each get everything, or the second is UNSUPPORTED", |f| {
        Box::pin(every_group_gets_everything(f))
    }),
    property("members of a group share its messages and each goes to one", |f| Box::pin(members_share(f))),
    property("10,000 messages of parallel publishers all arrive, and none twice without a redelivery", |f| {
        Box::pin(parallel_publishers_lose_nothing(f))
    }),
    property("a message that Ductape did not publish is delivered", |f| Box::pin(foreign_arrives(f))),
    property("the largest message allowed passes and one byte more is refused", |f| {
        Box::pin(size_limit_holds(f))
    }),
    property("a message that is refused takes nothing of its batch with it", |f| {
        Box::pin(batch_fails_one_by_one(f))
    }),
    property("a receive that is dropped loses nothing", |f| Box::pin(dropped_receive_loses_nothing(f))),
];

fn full_message() -> Message {
    let mut message = message(r#"{"orderId":"12345","total":99.99}"#);
    message.key = Some("customer-789".into());
    message.headers =
        [("source-ip", "192.0.2.7"), ("x-Case", "Kept"), ("id", "not the message's")].into_iter().collect();
    let extensions = message.extensions_mut();
    extensions.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    extensions.tracestate = Some("vendor=value".into());
    extensions.session = Some(SessionRef { tag: "user-session".into(), subject: "user-42".into() });
    message
}

async fn arrives_as_published(f: Fixture) -> Outcome {
    let published = full_message();
    let member = f.member().await?;
    f.publish(vec![published.clone()]).await?;
    let delivery = member.take_one().await?;
    same_message(&f, &published, &delivery.message)?;
    same("the attempt of a first delivery", &1, &delivery.attempt)
}

/// Field by field, so that the report names the one that differs.
fn same_message(f: &Fixture, published: &Message, got: &Message) -> Outcome {
    same("the payload", &published.payload, &got.payload)?;
    same("the key", &published.key, &got.key)?;
    same_headers(f, &published.headers, &got.headers)?;
    same("the id", &published.id, &got.id)?;
    same("the time", &published.time, &got.time)?;
    same("the attributes", &published.attributes, &got.attributes)?;
    same("trace context and session", &published.extensions, &got.extensions)
}

async fn odd_text_survives(f: Fixture) -> Outcome {
    let odd = [
        "\u{1f600}\u{200d}\u{1f525}",
        "e\u{301} is not \u{e9}",
        "\u{202e}right to left",
        "\u{feff}begins with a mark",
        "tab\tand line\nand \u{7f}",
        "  spaces around  ",
        "%20+%00 \\u0000 \"quoted\"",
        "",
    ];
    let member = f.member().await?;
    let guard = Guard::new(f.target.provider.kind(), f.capabilities());
    for value in odd {
        let mut published = message("odd");
        published.headers.insert("odd", value);
        if guard.message(&published).is_err() {
            continue;
        }
        let result = f.try_publish(vec![published.clone()]).await?.pop().wanted("a result")?;
        match result {
            Ok(_) => same_message(&f, &published, &take_and_ack_one(&member).await?.message)?,
            Err(error) => {
                let expected = format!("the header {value:?} is taken, or refused as MESSAGE_INVALID");
                check(error.kind() == ErrorKind::MessageInvalid, expected, || error.to_string())?;
            }
        }
    }
    Ok(())
}

async fn take_and_ack_one(member: &Member) -> Outcome<Delivery> {
    member.take_and_ack(1).await?.pop().wanted("a delivery")
}

async fn any_body_survives(f: Fixture) -> Outcome {
    let every_byte: Vec<u8> = (0..=255).collect();
    let bodies = [Bytes::from(every_byte), Bytes::from_static(b"\xff\xfe\x00\x80"), Bytes::new()];
    let member = f.member().await?;
    for body in bodies {
        f.publish(vec![message(body.clone())]).await?;
        same("the payload", &body, &take_and_ack_one(&member).await?.message.payload)?;
    }
    Ok(())
}

async fn waits_for_the_default_group(f: Fixture) -> Outcome {
    let early = numbered("early", 20);
    f.publish_texts(&early).await?;
    let got = f.member().await?.take_and_ack(early.len()).await?;
    same("what was published first", &sort(early), &sorted(&got))
}

async fn wakes_a_waiting_consumer(f: Fixture) -> Outcome {
    let member = f.member().await?;
    let start = Instant::now();
    member.take_nothing("the destination is empty").await?;
    let patience = f.subject.patience;
    let waited = start.elapsed();
    check(waited < patience, format!("an empty answer after the wait, {:?}", f.subject.quiet), || {
        format!("after {waited:?}")
    })?;
    let receive = member.receive(10, patience * 2);
    let publish = async {
        // The receive above is polled first, so it waits by the time this is published.
        f.publish(vec![message("wake")]).await?;
        Ok(Instant::now())
    };
    let (received, published) = futures_util::future::join(receive, publish).await;
    let (received, took) = (received?, published?.elapsed());
    same("what was published", &vec!["wake".to_owned()], &texts(&received))?;
    check(took < patience, format!("it comes within {patience:?} of its publish"), || {
        format!("after {took:?}")
    })
}

async fn topics_are_isolated(f: Fixture) -> Outcome {
    let other = f.moved_to(f.fresh("other")).await?;
    f.publish(vec![message("here")]).await?;
    other.publish(vec![message("there")]).await?;
    for (place, own) in [(&f, "here"), (&other, "there")] {
        let member = place.member().await?;
        let got = member.take_and_ack(1).await?;
        same("the message of this topic alone", &vec![own.to_owned()], &texts(&got))?;
        member.take_nothing("the other message is another topic's").await?;
    }
    Ok(())
}

async fn every_group_gets_everything(f: Fixture) -> Outcome {
    let second = f.another_group();
    if f.capabilities().groups == Groups::One {
        let guard = Guard::new(f.target.provider.kind(), f.capabilities());
        return refused_as_unsupported(guard.subscription(&f.destination, &second, Start::Latest));
    }
    let (one, other) = (f.member().await?, f.member_of(&second, |_| {}).await?);
    let all = numbered("m", 50);
    f.publish_texts(&all).await?;
    let all = sort(all);
    same("all messages in the default group", &all, &sorted(&one.take_and_ack(all.len()).await?))?;
    same("all messages in the second group", &all, &sorted(&other.take_and_ack(all.len()).await?))?;
    one.take_nothing("each group gets each message once").await?;
    other.take_nothing("each group gets each message once").await
}

/// What a false capability answers.
pub(super) fn refused_as_unsupported(result: ductape_core::Result<()>) -> Outcome {
    match result {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
        Err(error) => Err(fault("UNSUPPORTED", error.to_string())),
        Ok(()) => Err(fault("UNSUPPORTED", "it is accepted")),
    }
}

async fn members_share(f: Fixture) -> Outcome {
    let half = |options: &mut ductape_core::ConsumerOptions| options.max_in_flight = 20;
    let (one, other) = (f.member_of(f.group(), half).await?, f.member_of(f.group(), half).await?);
    let all = numbered("m", 40);
    f.publish_texts(&all).await?;
    let mut got = Vec::new();
    let start = Instant::now();
    // Nothing is acknowledged before all have come: a message in both hands would be seen.
    while got.len() < all.len() && start.elapsed() < f.subject.patience {
        got.extend(one.receive(20, f.subject.quiet).await?);
        got.extend(other.receive(20, f.subject.quiet).await?);
    }
    same("each message with one of the two members", &sort(all), &sorted(&got))?;
    one.take_nothing("every message is with a member").await
}

const PUBLISHERS: usize = 8;
const BATCHES: usize = 25;
const BATCH: usize = 50;

async fn parallel_publishers_lose_nothing(f: Fixture) -> Outcome {
    let total = PUBLISHERS * BATCHES * BATCH;
    let publish = try_join_all((0..PUBLISHERS).map(|_| {
        let f = f.clone();
        async move {
            let spawned = tokio::spawn(async move { publish_batches(&f).await });
            spawned.await.map_err(|panic| fault("a publisher that ends", panic.to_string()))?
        }
    }));
    let consume = async {
        let member = f.member().await?;
        count_until(&f, &member, total).await
    };
    let (published, seen) = futures_util::future::try_join(publish, consume).await?;
    let lost = published.iter().flatten().filter(|id| !seen.contains_key(*id)).count();
    same("messages lost", &0, &lost)
}

async fn publish_batches(f: &Fixture) -> Outcome<Vec<MessageId>> {
    let publisher = f.within("a publisher is opened", f.broker.publisher(&f.destination)).await?;
    let mut ids = Vec::new();
    for _ in 0..BATCHES {
        let batch: Vec<_> = (0..BATCH).map(|_| message(vec![b'x'; 64])).collect();
        ids.extend(batch.iter().map(|message| message.id.clone()));
        for result in publisher.publish(batch).await {
            result.wanted("the message is taken")?;
        }
    }
    Ok(ids)
}

/// Receives and acknowledges until so many different ids have come.
async fn count_until(f: &Fixture, member: &Member, total: usize) -> Outcome<HashMap<MessageId, u32>> {
    let counted = f.capabilities().attempts != Attempts::Forgotten;
    let mut seen: HashMap<MessageId, u32> = HashMap::with_capacity(total);
    while seen.len() < total {
        let deliveries = member.receive(256, f.subject.patience).await?;
        check(!deliveries.is_empty(), format!("{total} messages"), || {
            format!("{} and then nothing for {:?}", seen.len(), f.subject.patience)
        })?;
        for delivery in &deliveries {
            let times = seen.entry(delivery.message.id.clone()).or_default();
            *times += 1;
            let twice = *times > 1 && delivery.attempt == 1 && counted;
            check(!twice, "no id twice as a first attempt", || delivery.message.id.to_string())?;
        }
        member.ack(&deliveries).await?;
    }
    Ok(seen)
}

async fn foreign_arrives(f: Fixture) -> Outcome {
    let Some(publish) = &f.subject.foreign else {
        return skip("the subject names no way to publish without Ductape");
    };
    let body = Bytes::from_static(b"not from here \xff");
    let published = publish(f.destination.clone(), body.clone()).await;
    published.map_err(|error| fault("the foreign publish is taken", error.to_string()))?;
    let member = f.member().await?;
    let first = member.take_one().await?;
    same("the payload", &body, &first.message.payload)?;
    member.settle(std::slice::from_ref(&first), Verdict::Retry(Duration::ZERO)).await?;
    let again = member.take_one().await?;
    same("the id on redelivery", &first.message.id, &again.message.id)
}

async fn size_limit_holds(f: Fixture) -> Outcome {
    let limit = f.capabilities().max_message_bytes;
    let mut body = vec![b'x'; limit];
    if let Some(last) = body.last_mut() {
        *last = b'!';
    }
    let (largest, member) = (Bytes::from(body), f.member().await?);
    let guard = Guard::new(f.target.provider.kind(), f.capabilities());
    guard.message(&message(largest.clone())).wanted("a message of the largest size is let through")?;
    f.publish(vec![message(largest.clone())]).await?;
    let got = take_and_ack_one(&member).await?.message.payload;
    check(got == largest, format!("{limit} bytes, unchanged"), || format!("{} bytes, or others", got.len()))?;
    match guard.message(&message(vec![b'x'; limit + 1])) {
        Err(error) => same("the refusal", &ErrorKind::MessageTooLarge, &error.kind()),
        Ok(()) => Err(fault("MESSAGE_TOO_LARGE", "one byte more is let through")),
    }
}

async fn batch_fails_one_by_one(f: Fixture) -> Outcome {
    let mut batch: Vec<_> = numbered("m", 5).into_iter().map(message).collect();
    batch[2] = message(vec![b'x'; f.capabilities().max_message_bytes + 1]);
    let results = f.try_publish(batch).await?;
    let mut taken = Vec::new();
    // Core refuses it before any provider; one that has no limit of its own may take it.
    let too_large_taken = results[2].is_ok();
    for (n, result) in results.into_iter().enumerate().filter(|(n, _)| *n != 2) {
        result.wanted("the others of the batch are taken")?;
        taken.push(format!("m-{n}"));
    }
    let got = f.member().await?.take(taken.len() + usize::from(too_large_taken)).await?;
    let got: Vec<_> = got.iter().filter(|d| d.message.payload.len() < 10).map(text).collect();
    same("the others of the batch", &taken, &sort(got))
}

async fn dropped_receive_loses_nothing(f: Fixture) -> Outcome {
    let member = f.member().await?;
    let all = numbered("m", 120);
    let mut got = Vec::new();
    for (round, part) in all.chunks(3).enumerate() {
        let mut receive = member.consumer.receive(2, f.subject.patience);
        // Given up at another point in each round: before and after there is something to hand out.
        let before = poll_times(&mut receive, round % 3).await;
        f.publish_texts(part).await?;
        let received = match before {
            Some(received) => Some(received),
            None => poll_times(&mut receive, round % 5).await,
        };
        drop(receive);
        let received = received.unwrap_or_else(|| Ok(Vec::new())).wanted("a receive")?;
        member.ack(&received).await?;
        got.extend(received);
    }
    let rest = all.len().saturating_sub(got.len());
    got.extend(member.take_and_ack(rest).await?);
    check(sorted(&got) == sort(all.clone()), "every message, once", || cut(&sorted(&got)))
}

/// Polls at most so many times, with a turn for other tasks after each.
async fn poll_times<T>(work: &mut (impl Future<Output = T> + Unpin), times: usize) -> Option<T> {
    for _ in 0..times {
        if let Poll::Ready(output) = futures_util::poll!(&mut *work) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}
