//! What happens when the network, the server or a consumer's process breaks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rig;

use ductape_core::error::Retry;
use ductape_core::{Broker, Consumer, Delivery, Destination, ErrorKind, Message, Publisher};
use ductape_testkit::servers::Proxy;
use rig::{
    PATIENCE, connect, consumer, message, orders, server, server_that_learns_of_resets, take_until, text,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a call has over a network that breaks: more than a server takes on a busy machine.
const SHORT: Duration = Duration::from_secs(5);
/// Leads a copy of this program to be the consumer that is killed: the server's address, and whether order is asked for.
const CHILD: &str = "DUCTAPE_PUBSUB_KILLED_CONSUMER";

/// Publishes until it is taken; what is uncertain may come twice.
async fn publish_until_taken(broker: &Arc<dyn Broker>, ordered: bool, batch: Vec<Message>) {
    let publisher = broker.publisher(&orders(ordered)).await.unwrap();
    let (start, mut left) = (Instant::now(), batch);
    while !left.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{} messages were not taken", left.len());
        let results = publisher.publish(left.clone()).await;
        let failed = left.into_iter().zip(results).filter_map(|(message, result)| {
            let error = result.err()?;
            assert!(error.is_retryable() || error.is_uncertain(), "{error}");
            Some(message)
        });
        left = failed.collect();
    }
}

fn numbered(count: usize) -> Vec<Message> {
    (0..count).map(|n| message(&n.to_string(), None)).collect()
}

fn all_of(count: usize) -> impl Fn(&[String]) -> bool {
    move |seen| seen.iter().collect::<BTreeSet<_>>().len() == count
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_while_messages_are_sent_lose_none_that_was_taken() {
    let Some(server) = server("cut while sending").await else { return };
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    let direct = connect(&server.endpoint().address, PATIENCE).await.unwrap();
    direct.ensure(&orders(false)).await.unwrap();
    let broker = connect(proxy.address(), SHORT).await.unwrap();
    let publishing = async {
        for part in numbered(2_000).chunks(50) {
            publish_until_taken(&broker, false, part.to_vec()).await;
        }
    };
    let cutting = async {
        loop {
            // tidy: sleeps because a network breaks at no condition
            tokio::time::sleep(Duration::from_millis(40)).await;
            proxy.cut();
        }
    };
    tokio::select! { () = publishing => {}, () = cutting => {} }
    take_until(&*consumer(&direct, &orders(false)).await, all_of(2_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_whose_answer_is_lost_is_uncertain_and_the_next_one_is_taken() {
    let Some(server) = server("an answer that is lost").await else { return };
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    let direct = connect(&server.endpoint().address, PATIENCE).await.unwrap();
    direct.ensure(&orders(true)).await.unwrap();
    let broker = connect(proxy.address(), SHORT).await.unwrap();
    let publisher = broker.publisher(&orders(true)).await.unwrap();
    publisher.publish(vec![message("before", Some("k"))]).await.pop().unwrap().unwrap();
    proxy.drop_answers();
    let results = publisher.publish(vec![message("lost", Some("k")), message("lost too", Some("k"))]).await;
    for result in results {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, Retry::Uncertain), "{error}");
    }
    proxy.resume();
    // The key that failed is open, and the dead connection replaced.
    publish_until_taken(&broker, true, vec![message("after", Some("k"))]).await;
    let wanted = |seen: &[String]| seen.iter().any(|text| text == "after");
    let seen = take_until(&*consumer(&direct, &orders(true)).await, wanted).await;
    assert_eq!(seen, ["before", "lost", "lost too", "after"], "the server had taken it");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_while_messages_are_received_lose_none() {
    cut_while_receiving("cut while receiving", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_while_messages_of_keys_are_received_lose_none() {
    cut_while_receiving("cut while receiving, with keys", true).await;
}

/// Whether all come. Not in which order: what a stream had that was cut, Google's emulator sends after what is new.
async fn cut_while_receiving(test: &str, ordered: bool) {
    let Some(server) = server_that_learns_of_resets(test).await else { return };
    let direct = connect(&server.endpoint().address, PATIENCE).await.unwrap();
    direct.ensure(&orders(ordered)).await.unwrap();
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    let broker = connect(proxy.address(), SHORT).await.unwrap();
    let receiving = consumer(&broker, &orders(ordered)).await;
    publish_until_taken(&direct, ordered, keyed(3_000 / KEYS)).await;
    let breaking = async {
        for _ in 0..10 {
            // tidy: sleeps because a network breaks at no condition
            tokio::time::sleep(Duration::from_millis(150)).await;
            proxy.cut();
        }
    };
    tokio::join!(take_until(&*receiving, all_of(3_000)), breaking);
    receiving.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_stalled_while_messages_are_received_lose_none() {
    let Some(server) = server("stalled while receiving").await else { return };
    let direct = connect(&server.endpoint().address, PATIENCE).await.unwrap();
    direct.ensure(&orders(false)).await.unwrap();
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    let broker = connect(proxy.address(), SHORT).await.unwrap();
    let receiving = consumer(&broker, &orders(false)).await;
    publish_until_taken(&direct, false, numbered(3_000)).await;
    let breaking = async {
        for fault in [Proxy::stall, Proxy::resume].iter().cycle().take(10) {
            // tidy: sleeps because a network breaks at no condition
            tokio::time::sleep(Duration::from_millis(150)).await;
            fault(&proxy);
        }
    };
    tokio::join!(take_until(&*receiving, all_of(3_000)), breaking);
    receiving.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_that_began_anew_is_told_with_what_to_do() {
    let Some(server) = server("an emulator that began anew").await else { return };
    let broker = connect(&server.endpoint().address, PATIENCE).await.unwrap();
    broker.ensure(&orders(false)).await.unwrap();
    let publisher = broker.publisher(&orders(false)).await.unwrap();
    let receiving = consumer(&broker, &orders(false)).await;
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let start = Instant::now();
    let told = loop {
        assert!(start.elapsed() < PATIENCE, "nobody was told");
        match receiving.receive(1, Duration::from_secs(1)).await {
            Err(error) if error.kind() == ErrorKind::DestinationNotFound => break error,
            _ => {}
        }
    };
    assert!(told.help().unwrap().contains("ductape apply"), "{told}");
    let error = publisher.publish(vec![message("m", None)]).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DestinationNotFound, "{error}");
    assert!(error.help().unwrap().contains("ductape apply"), "{error}");
    // And what to do helps.
    broker.ensure(&orders(false)).await.unwrap();
    publish_until_taken(&broker, false, vec![message("m", None)]).await;
    take_until(&*receiving, all_of(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_killed_loses_nothing() {
    killed_consumer("a killed consumer", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_killed_loses_nothing_and_keys_stay_in_order() {
    killed_consumer("a killed consumer, in order", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_in_order_when_members_leave_and_join() {
    let Some(server) = server("members that leave and join").await else { return };
    let broker = connect(&server.endpoint().address, PATIENCE).await.unwrap();
    for round in 0..5 {
        let destination =
            Destination { ordered: true, ..Destination::new(format!("orders-{round}"), "shop") };
        broker.ensure(&destination).await.unwrap();
        let publisher = broker.publisher(&destination).await.unwrap();
        // No lease ends while the machine is busy.
        let member = || rig::leased(&broker, &destination, PATIENCE);
        let (leaving, staying) = (member().await, member().await);
        until_both_are_there(&*publisher, [&*leaving, &*staying]).await;
        assert!(publisher.publish(keyed(EACH)).await.iter().all(Result::is_ok));
        // They have in hand all that there is. What is still to be sent Google's emulator sends to others, while earlier
        // ones of its key are with a member that has left and has not yet given them back.
        let (mut leavings, mut stayings) = (Vec::new(), Vec::new());
        while leavings.len() + stayings.len() < KEYS * EACH {
            leavings.extend(leaving.receive(256, BRIEF).await.unwrap());
            stayings.extend(staying.receive(256, BRIEF).await.unwrap());
        }
        let done = &leavings[..leavings.len() / 3];
        acknowledge(&*leaving, done).await;
        let mut seen: Vec<_> = done.iter().chain(&stayings).map(text).collect();
        let (closed, joining) = tokio::join!(leaving.close(), member());
        closed.unwrap();
        acknowledge(&*staying, &stayings).await;
        let start = Instant::now();
        while !all_of(KEYS * EACH)(&seen) {
            assert!(start.elapsed() < PATIENCE, "not all came: {seen:?}");
            for member in [&staying, &joining] {
                let taken = member.receive(256, BRIEF).await.unwrap();
                seen.extend(taken.iter().map(text));
                acknowledge(&**member, &taken).await;
            }
        }
        in_order(&seen);
        assert_eq!(seen.len(), KEYS * EACH, "what was acknowledged does not come again");
    }
}

/// A key that one of them had before the other was there moves only when all of it is settled.
async fn until_both_are_there(publisher: &dyn Publisher, members: [&dyn Consumer; 2]) {
    let (start, mut had) = (Instant::now(), [false; 2]);
    while had != [true; 2] {
        assert!(start.elapsed() < PATIENCE, "not both have got something: {had:?}");
        let keys = (0..32).map(|key| message("early", Some(&format!("early {key}")))).collect();
        let mut left = publisher.publish(keys).await.into_iter().map(Result::unwrap).count();
        while left > 0 {
            for (member, had) in members.iter().zip(&mut had) {
                let taken = member.receive(left.max(1), BRIEF).await.unwrap();
                acknowledge(*member, &taken).await;
                (left, *had) = (left - taken.len(), *had || !taken.is_empty());
            }
        }
    }
}

async fn acknowledge(member: &dyn Consumer, deliveries: &[Delivery]) {
    member.settle(rig::acks(deliveries)).await.into_iter().for_each(Result::unwrap);
}

/// How long one member is listened to before another.
const BRIEF: Duration = Duration::from_millis(20);
const KEYS: usize = 10;
/// Few enough that one consumer may have all of all keys in hand.
const EACH: usize = 25;

/// `key/number`, so many of each key.
fn keyed(each: usize) -> Vec<Message> {
    let one = |n: usize| message(&format!("{}/{}", n % KEYS, n / KEYS), Some(&format!("k{}", n % KEYS)));
    (0..KEYS * each).map(one).collect()
}

/// Kills a process that has all of all keys in hand, and has acknowledged a part.
async fn killed_consumer(test: &str, ordered: bool) {
    // Without keys, one that does not learn of it sends its share to the dead stream at each end of a lease, until all
    // have come to the living one.
    let server = if ordered { server_that_learns_of_resets(test).await } else { server(test).await };
    let Some(server) = server else { return };
    let broker = connect(&server.endpoint().address, PATIENCE).await.unwrap();
    broker.ensure(&orders(ordered)).await.unwrap();
    publish_until_taken(&broker, ordered, keyed(EACH)).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_consumer_that_is_killed", "--nocapture"])
        .env(CHILD, format!("{} {ordered}", server.endpoint().address))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let handled =
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("handled ").map(str::to_owned));
    let mut seen: Vec<String> = handled.take(KEYS * EACH / 4).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let receiving = consumer(&broker, &orders(ordered)).await;
    let all = |rest: &[String]| seen.iter().chain(rest).collect::<BTreeSet<_>>().len() == KEYS * EACH;
    let rest = take_until(&*receiving, all).await;
    if ordered {
        seen.extend(rest);
        in_order(&seen);
    }
}

fn place(text: &str) -> (usize, usize) {
    let (key, number) = text.split_once('/').unwrap();
    (key.parse().unwrap(), number.parse().unwrap())
}

/// The first sight of each number comes after that of all before it; what comes again begins its key again.
fn in_order(seen: &[String]) {
    let mut next = BTreeMap::<usize, usize>::new();
    for text in seen {
        let (key, number) = place(text);
        let next = next.entry(key).or_default();
        assert!(number <= *next, "{text} came before number {next} of its key: {seen:?}");
        *next = (*next).max(number + 1);
    }
}

/// Not a test by itself: what [`killed_consumer`] starts and kills.
#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_that_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (endpoint, ordered) = told.split_once(' ').unwrap();
    let broker = connect(endpoint, PATIENCE).await.unwrap();
    let receiving = consumer(&broker, &orders(ordered == "true")).await;
    let mut in_hand = Vec::new();
    while in_hand.len() < KEYS * EACH {
        in_hand.extend(receiving.receive(KEYS * EACH, PATIENCE).await.unwrap());
    }
    for delivery in in_hand {
        // On a line of its own: the harness leaves one open.
        writeln!(std::io::stdout().lock(), "\nhandled {}", text(&delivery)).unwrap();
        // One whose lease ended on a slow machine comes again.
        drop(receiving.settle(rig::acks(&[delivery])).await);
    }
    std::future::pending().await
}
