//! The worker over the in-process provider: what a handler's author relies on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod hostile;
mod suspects;

use bench::{Bench, DEADLINE, text, until};
use ductape_core::worker::Failure;
use ductape_core::{Clock, Delivery, RetryPolicy, Timestamp};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_are_handled_and_acknowledged() {
    let mut bench = Bench::new().await;
    bench.publish_unkeyed(10_000).await;
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let subscription = bench
        .subscribe(move |_: Delivery| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        })
        .await;
    until("all acknowledged", || subscription.stats().acked == 10_000).await;
    subscription.stop().await.unwrap();
    assert_eq!((handled.load(Ordering::Relaxed), bench.lag().await), (10_000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_keeps_its_order_through_retries_and_pending_handlers() {
    let mut bench = Bench::new().await;
    let keyed = (0..2000).map(|n| (Some(format!("k{}", n % 17)), n.to_string()));
    bench.publish(keyed).await;
    let seen: Arc<Mutex<HashMap<String, Vec<usize>>>> = Arc::default();
    let log = Arc::clone(&seen);
    let subscription = bench
        .subscribe(move |delivery: Delivery| {
            let log = Arc::clone(&log);
            async move {
                let n: usize = text(&delivery).parse()?;
                if n.is_multiple_of(3) {
                    tokio::task::yield_now().await;
                }
                if n.is_multiple_of(50) && delivery.attempt < 3 {
                    return Err(Failure::retry("not yet"));
                }
                let key = delivery.message.key.as_ref().unwrap().to_string();
                log.lock().unwrap().entry(key).or_default().push(n);
                Ok(())
            }
        })
        .await;
    until("all acknowledged", || subscription.stats().acked == 2000).await;
    let stats = subscription.stop().await.unwrap();
    assert_eq!(stats.retried, 80);
    for (key, numbers) in &*seen.lock().unwrap() {
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
        assert!((117..=118).contains(&numbers.len()), "{key}: {}", numbers.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_handlers_run_than_the_concurrency_and_no_more_is_in_hand_than_the_bound() {
    let mut bench = Bench::new().await;
    bench.options.concurrency = 3;
    bench.max_in_flight = 7;
    bench.publish_unkeyed(200).await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = Arc::clone(&most);
    let subscription = bench
        .subscribe(move |_: Delivery| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
            }
        })
        .await;
    let in_hand = AtomicUsize::new(0);
    until("all acknowledged", || {
        let stats = subscription.stats();
        in_hand.fetch_max(stats.in_flight as usize, Ordering::SeqCst);
        stats.acked == 200
    })
    .await;
    assert_eq!(peak.load(Ordering::SeqCst), 3);
    assert!(in_hand.load(Ordering::SeqCst) <= 7);
    subscription.stop().await.unwrap();
}

/// A turn of a shard starts a few handlers only. The rest must not wait until one that is pending ends.
#[tokio::test]
async fn all_that_may_run_at_once_starts_though_no_handler_ends() {
    let mut bench = Bench::new().await;
    let entered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&entered);
    let subscription = bench
        .subscribe(move |_: Delivery| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>()
        })
        .await;
    for (batch, in_all) in [(1, 1), (8, 9), (3, 12)] {
        bench.publish_unkeyed(batch).await;
        until("all entered", || entered.load(Ordering::Relaxed) == in_all).await;
    }
    drop(subscription);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_panics_or_is_rejected_becomes_a_dead_letter_with_its_bytes_and_reason() {
    let mut bench = Bench::new().await;
    for payload in ["fails", "panics", "rejected", "discarded"] {
        bench.publish([(Some("k".into()), payload.into())]).await;
    }
    let subscription = bench
        .subscribe(|delivery: Delivery| async move {
            match text(&delivery).as_str() {
                "fails" => Err(Failure::retry("no luck")),
                "panics" => panic!("on purpose"),
                "rejected" => Err(Failure::reject("not wanted")),
                _ => Err(Failure::discard("not needed")),
            }
        })
        .await;
    let letters = bench.dead_letters(3).await;
    let told: Vec<_> = letters
        .iter()
        .map(|letter| {
            let dead = letter.message.dead_letter().unwrap();
            assert_eq!((&*dead.destination, &*dead.group), ("orders", "billing"));
            (text(letter), dead.reason.to_string(), dead.attempts)
        })
        .collect();
    let expected = [
        ("fails", "no luck", 5),
        ("panics", "the handler panicked: on purpose", 5),
        ("rejected", "not wanted", 1),
    ];
    assert_eq!(told, expected.map(|(a, b, n)| (a.to_owned(), b.to_owned(), n)));
    until("the last is discarded", || subscription.stats().discarded == 1).await;
    let stats = subscription.stop().await.unwrap();
    assert_eq!((stats.retried, stats.dead_lettered, stats.panicked), (8, 3, 5));
    assert_eq!(bench.lag().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_too_long_is_given_up_and_tried_again() {
    let mut bench = Bench::new().await;
    bench.options.timeout = Duration::from_millis(20);
    bench.publish_unkeyed(1).await;
    let subscription = bench
        .subscribe(|delivery: Delivery| async move {
            if delivery.attempt == 1 {
                std::future::pending::<()>().await;
            }
        })
        .await;
    until("handled at the second attempt", || subscription.stats().acked == 1).await;
    assert_eq!(subscription.stop().await.unwrap().timed_out, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backoff_of_minutes_takes_no_minutes_by_a_manual_clock() {
    let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
    let mut bench = Bench::with_clock(clock.clone()).await;
    bench.options.retry =
        RetryPolicy { initial: Duration::from_secs(120), jitter: 0.0, ..RetryPolicy::default() };
    bench.publish([(Some("k".into()), "1".into()), (Some("k".into()), "2".into())]).await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&seen);
    let subscription = bench
        .subscribe(move |delivery: Delivery| {
            let outcome = if delivery.attempt == 1 && text(&delivery) == "1" {
                Err(Failure::retry("later"))
            } else {
                log.lock().unwrap().push(text(&delivery));
                Ok(())
            };
            std::future::ready(outcome)
        })
        .await;
    until("the first attempt", || subscription.stats().retried == 1).await;
    clock.advance(Duration::from_secs(119));
    assert_eq!(subscription.stats().acked, 0);
    clock.advance(Duration::from_secs(2));
    until("both handled", || subscription.stats().acked == 2).await;
    assert_eq!(*seen.lock().unwrap(), ["1", "2"], "the second waits behind the first of its key");
    subscription.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_runs_and_gives_the_rest_back() {
    let mut bench = Bench::new().await;
    bench.options.concurrency = 2;
    bench.publish_unkeyed(100).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let handler_gate = Arc::clone(&gate);
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let subscription = bench
        .subscribe(move |_: Delivery| {
            let (gate, count) = (Arc::clone(&handler_gate), Arc::clone(&count));
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                drop(gate.acquire().await);
            }
        })
        .await;
    until("two run", || started.load(Ordering::SeqCst) == 2).await;
    subscription.request_stop();
    until("the rest is given back", || subscription.stats().released == 98).await;
    gate.add_permits(2);
    let stats = subscription.stop().await.unwrap();
    assert_eq!((stats.acked, stats.in_flight), (2, 0));
    let group = bench.broker.inspect(&bench.destination).await.unwrap().groups.remove(0);
    assert_eq!((group.lag, group.in_flight), (Some(98), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_gives_back_comes_again_as_if_untried() {
    let mut bench = Bench::new().await;
    bench.publish_unkeyed(1).await;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&attempts);
    let subscription = bench
        .subscribe(move |delivery: Delivery| {
            let mut seen = seen.lock().unwrap();
            seen.push(delivery.attempt);
            std::future::ready(if seen.len() == 1 { Err(Failure::release("not now")) } else { Ok(()) })
        })
        .await;
    until("handled", || subscription.stats().acked == 1).await;
    assert_eq!(subscription.stop().await.unwrap().released, 1);
    assert_eq!(*attempts.lock().unwrap(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_handler_that_hangs() {
    let mut bench = Bench::new().await;
    bench.options.drain_timeout = Duration::from_millis(50);
    bench.publish_unkeyed(1).await;
    let subscription = bench.subscribe(|_: Delivery| std::future::pending::<()>()).await;
    until("received", || subscription.stats().received == 1).await;
    let begun = Instant::now();
    subscription.stop().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(bench.lag().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_handle_stops_the_worker() {
    let bench = Bench::new().await;
    let subscription = bench.subscribe(|_: Delivery| std::future::ready(())).await;
    let mut health = subscription.watch_health();
    drop(subscription);
    let stopped = health.wait_for(|health| *health == ductape_core::worker::Health::Stopped);
    tokio::time::timeout(DEADLINE, stopped).await.expect("stops in time").unwrap();
}
