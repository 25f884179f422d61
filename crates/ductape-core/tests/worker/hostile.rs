//! Handlers, hooks and settings that do what nobody should: the worker goes on, and stops when it is told to.

use crate::bench::{Bench, DEADLINE, text, until};
use ductape_core::delivery::OnRetry;
use ductape_core::worker::Failure;
use ductape_core::{Delivery, RetryPolicy};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Fails "a" in this way, and handles all others.
fn fails_a(
    failure: impl Fn() -> Failure + Send + Sync + 'static,
) -> impl Fn(Delivery) -> std::future::Ready<Result<(), Failure>> + Send + Sync + 'static {
    move |delivery| std::future::ready(if text(&delivery) == "a" { Err(failure()) } else { Ok(()) })
}

#[tokio::test]
async fn a_retry_after_the_end_of_time_waits_and_nothing_else_waits_for_it() {
    let mut bench = Bench::new().await;
    let handler = fails_a(|| Failure::retry_after(Duration::MAX, "never again"));
    let subscription = bench.subscribe(handler).await;
    for key in [Some("k".to_owned()), None] {
        bench.publish([(key, "a".into())]).await;
    }
    until("both put off", || subscription.stats().retried == 2).await;
    bench.publish([(None, "b".into())]).await;
    until("the other is handled", || subscription.stats().acked == 1).await;
    subscription.stop().await.unwrap();
}

#[tokio::test]
async fn a_hook_that_panics_takes_nothing_along() {
    let mut bench = Bench::new().await;
    bench.on_retry = OnRetry::new(|_, _, _| panic!("a hook of the user's"));
    let subscription = bench.subscribe(fails_a(|| Failure::retry("not yet"))).await;
    bench.publish([(Some("k".into()), "a".into()), (Some("l".into()), "b".into())]).await;
    assert_eq!(text(&bench.dead_letters(1).await[0]), "a");
    until("the other is handled", || subscription.stats().acked == 1).await;
    assert_eq!(subscription.stop().await.unwrap().retried, 4);
}

/// Lets a thread go on, at the latest when the test ends.
struct Block(std::sync::mpsc::Sender<()>);

impl Drop for Block {
    fn drop(&mut self) {
        // It may be gone by now.
        let _ = self.0.send(());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_does_not_wait_for_a_handler_that_blocks_its_thread() {
    let mut bench = Bench::new().await;
    bench.options.drain_timeout = Duration::from_millis(50);
    bench.publish_unkeyed(1).await;
    let (go_on, blocked) = std::sync::mpsc::channel();
    let (_block, blocked) = (Block(go_on), Arc::new(std::sync::Mutex::new(blocked)));
    let entered = Arc::new(AtomicBool::new(false));
    let enter = Arc::clone(&entered);
    let subscription = bench
        .subscribe(move |_: Delivery| {
            enter.store(true, Ordering::SeqCst);
            let _ = blocked.lock().unwrap().recv();
            std::future::ready(())
        })
        .await;
    until("it blocks", || entered.load(Ordering::SeqCst)).await;
    let (begun, promised) = (Instant::now(), Duration::from_secs(10));
    tokio::time::timeout(DEADLINE, subscription.stop()).await.expect("it stops").unwrap();
    assert!(begun.elapsed() < promised + bench.options.drain_timeout, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_without_delay_or_end_keep_nothing_else_from_being_handled() {
    let mut bench = Bench::new().await;
    bench.options.concurrency = 1;
    bench.options.retry = RetryPolicy { attempts: u32::MAX, ..RetryPolicy::default() };
    let (begun, done, attempts) =
        (Instant::now(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_done, count) = (Arc::clone(&done), Arc::clone(&attempts));
    let subscription = bench
        .subscribe(move |delivery: Delivery| {
            let again =
                text(&delivery) == "a" && !is_done.load(Ordering::SeqCst) && begun.elapsed() < DEADLINE;
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(if again {
                Err(Failure::retry_after(Duration::ZERO, "again"))
            } else {
                Ok(())
            })
        })
        .await;
    bench.publish([(Some("k".into()), "a".into())]).await;
    until("it is tried again and again", || attempts.load(Ordering::SeqCst) > 10_000).await;
    bench.publish([(Some("l".into()), "b".into())]).await;
    until("the other is handled", || subscription.stats().acked == 1).await;
    assert!(begun.elapsed() < DEADLINE, "not only when the retries ended");
    done.store(true, Ordering::SeqCst);
    until("both are handled", || subscription.stats().acked == 2).await;
    subscription.stop().await.unwrap();
}

/// Never ready, and panics when it is given up.
struct PanicsInDrop;

impl Future for PanicsInDrop {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in the drop of a handler's future");
        }
    }
}

#[tokio::test]
async fn what_panics_when_a_stop_gives_it_up_keeps_no_verdict_back() {
    let mut bench = Bench::new().await;
    bench.options.drain_timeout = Duration::from_millis(50);
    bench.publish_unkeyed(3).await;
    let subscription = bench.subscribe(|_: Delivery| PanicsInDrop).await;
    until("received", || subscription.stats().received == 3).await;
    let stats = subscription.stop().await.unwrap();
    assert_eq!((stats.in_flight, stats.unsettled), (0, 0), "{stats:?}");
    let group = bench.broker.inspect(&bench.destination).await.unwrap().groups.remove(0);
    assert_eq!((group.lag, group.in_flight), (Some(3), 0));
}

#[tokio::test]
async fn what_panics_when_its_time_is_up_is_tried_again() {
    let mut bench = Bench::new().await;
    bench.options.timeout = Duration::from_millis(20);
    bench.publish_unkeyed(1).await;
    let subscription = bench
        .subscribe(|delivery: Delivery| async move {
            if delivery.attempt == 1 {
                PanicsInDrop.await;
            }
        })
        .await;
    until("handled at the second attempt", || subscription.stats().acked == 1).await;
    assert_eq!(subscription.stop().await.unwrap().timed_out, 1);
}
