//! What becomes of messages that were in hand of processes that died.

use crate::bench::{Bench, DEADLINE, text, until};
use ductape_core::broker::ConsumerOptions;
use ductape_core::capability::Attempts;
use ductape_core::worker::Failure;
use ductape_core::{Clock, Delivery, Timestamp};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Takes everything in hand and lets the leases run out, as a process does that dies; so many times.
async fn crash(bench: &Bench, times: usize, count: usize) {
    let lease = Duration::from_secs(1);
    for _ in 0..times {
        let options = ConsumerOptions { lease, ..ConsumerOptions::new("billing") };
        let consumer = bench.broker.consumer(&bench.destination, &options).await.unwrap();
        assert_eq!(consumer.receive(count, DEADLINE).await.unwrap().len(), count);
        bench.clock.advance(lease * 2);
        // Looking is what finds that they ran out.
        assert_eq!(consumer.receive(0, Duration::ZERO).await.unwrap().len(), 0);
        consumer.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_hand_of_processes_that_died_gets_a_last_chance_alone() {
    let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
    let mut bench = Bench::with_clock(clock).await;
    bench.publish([(None, "a".into()), (Some("k".into()), "b".into()), (Some("k".into()), "c".into())]).await;
    crash(&bench, 5, 3).await;
    bench.publish_unkeyed(50).await;
    let running = Arc::new(AtomicUsize::new(0));
    let seen: Arc<Mutex<Vec<(String, u32, usize)>>> = Arc::default();
    let log = Arc::clone(&seen);
    let (broker, destination) = (Arc::clone(&bench.broker), bench.destination.clone());
    let subscription = bench
        .subscribe(move |delivery: Delivery| {
            let (log, running) = (Arc::clone(&log), Arc::clone(&running));
            let (broker, destination) = (Arc::clone(&broker), destination.clone());
            async move {
                if delivery.attempt > 1 {
                    let groups = broker.inspect(&destination).await.unwrap().groups;
                    assert_eq!(groups[0].in_flight, 1, "the others would count as tried, were it to kill us");
                }
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                let most = now.max(running.fetch_sub(1, Ordering::SeqCst));
                log.lock().unwrap().push((text(&delivery), delivery.attempt, most));
            }
        })
        .await;
    until("all acknowledged", || subscription.stats().acked == 53).await;
    assert_eq!(subscription.stop().await.unwrap().dead_lettered, 0);
    let seen = seen.lock().unwrap();
    let suspects: Vec<_> = seen.iter().filter(|(_, attempt, _)| *attempt > 1).collect();
    assert_eq!(suspects.iter().map(|(text, ..)| text.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(suspects.iter().all(|(_, attempt, most)| (*attempt, *most) == (6, 1)), "{suspects:?}");
    assert!(seen.iter().any(|(_, _, most)| *most > 1), "the others run side by side");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_its_last_chance_becomes_a_dead_letter_untried() {
    let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
    let mut bench = Bench::with_clock(clock).await;
    bench.publish_unkeyed(1).await;
    crash(&bench, 8, 1).await;
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let subscription = bench
        .subscribe(move |_: Delivery| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(())
        })
        .await;
    let letters = bench.dead_letters(1).await;
    let dead = letters[0].message.dead_letter().unwrap();
    assert!(dead.reason.starts_with("no attempt came to an end"), "{}", dead.reason);
    subscription.stop().await.unwrap();
    assert_eq!((dead.attempts, handled.load(Ordering::SeqCst)), (9, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_what_is_sent_ahead_counts_as_tried_nothing_is_while_there_are_suspects() {
    let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
    let mut bench = Bench::with_clock(clock).await;
    bench.attempts = Some(Attempts::Overcounted);
    bench.publish_unkeyed(3).await;
    crash(&bench, 5, 3).await;
    bench.publish_unkeyed(500).await;
    let seen: Arc<Mutex<Vec<(u32, u64)>>> = Arc::default();
    let (log, broker, destination) =
        (Arc::clone(&seen), Arc::clone(&bench.broker), bench.destination.clone());
    let subscription = bench
        .subscribe(move |delivery: Delivery| {
            let (log, broker, destination) = (Arc::clone(&log), Arc::clone(&broker), destination.clone());
            async move {
                let groups = broker.inspect(&destination).await.unwrap().groups;
                log.lock().unwrap().push((delivery.attempt, groups[0].in_flight));
            }
        })
        .await;
    until("all acknowledged", || subscription.stats().acked == 503).await;
    let stats = subscription.stop().await.unwrap();
    assert_eq!((stats.reconnects, stats.dead_lettered), (0, 0));
    let seen = seen.lock().unwrap();
    let alone = seen.iter().take_while(|(_, in_flight)| *in_flight == 1).count();
    assert!(alone >= 3 + bench.max_in_flight, "the suspects, and as many as a bound behind them: {alone}");
    assert!(seen.iter().take(3).all(|(attempt, _)| *attempt == 6), "{seen:?}");
    assert!(seen.iter().any(|(_, in_flight)| *in_flight > 1), "the bound is the old one again");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_long_is_not_handled_twice_while_one_comes_at_a_time() {
    let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
    let mut bench = Bench::with_clock(clock.clone()).await;
    bench.attempts = Some(Attempts::Overcounted);
    bench.publish([(None, "suspect".into())]).await;
    crash(&bench, 5, 1).await;
    bench.publish([(None, "long".into())]).await;
    let (entered, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (count, wait) = (Arc::clone(&entered), Arc::clone(&gate));
    let subscription = bench
        .subscribe(move |delivery: Delivery| {
            let (count, wait) = (Arc::clone(&count), Arc::clone(&wait));
            async move {
                if text(&delivery) == "long" {
                    count.fetch_add(1, Ordering::SeqCst);
                    drop(wait.acquire().await);
                }
            }
        })
        .await;
    until("the long one runs", || entered.load(Ordering::SeqCst) == 1).await;
    // More than a receive waits, and less than the handler may take; the worker has a second of its own meanwhile.
    let begun = Instant::now();
    for second in 1..=40 {
        clock.advance(Duration::from_secs(1));
        until("a moment", || begun.elapsed() > Duration::from_millis(50) * second).await;
    }
    assert_eq!(entered.load(Ordering::SeqCst), 1);
    gate.add_permits(1);
    until("both handled", || subscription.stats().acked == 2).await;
    assert_eq!(subscription.stop().await.unwrap().unsettled, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_that_waits_for_its_key_keeps_no_other_key_waiting() {
    let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
    let mut bench = Bench::with_clock(clock).await;
    bench.publish([(Some("k".into()), "1".into()), (Some("k".into()), "2".into())]).await;
    crash(&bench, 5, 2).await;
    bench.publish([(Some("l".into()), "other".into())]).await;
    // The first keeps its key until its dead letter is taken.
    bench.refuse_dead_letters().await;
    bench.options.drain_timeout = Duration::from_millis(50);
    let other = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&other);
    let subscription = bench
        .subscribe(move |delivery: Delivery| {
            let is_other = text(&delivery) == "other";
            count.fetch_add(usize::from(is_other), Ordering::SeqCst);
            std::future::ready(if is_other { Ok(()) } else { Err(Failure::retry("no luck")) })
        })
        .await;
    until("the other key's is handled", || other.load(Ordering::SeqCst) == 1).await;
    subscription.stop().await.unwrap();
}
