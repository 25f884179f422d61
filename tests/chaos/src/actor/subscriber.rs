//! A subscriber: writes down every delivery before it handles it, and handles it as it was told to.

use super::control::{Command, Controls};
use super::observed::{Observed, message_of};
use crate::carrier;
use crate::journal::Journal;
use crate::load::Load;
use crate::plan::Plan;
use crate::record::{Failing, Kind, MessageRef, Record};
use ductape::worker::{Failure, Handler, IntoHandler, Outcome, Subscription};
use ductape::{Clock, Delivery, Ductape, RetryPolicy, Subscribe};
use futures_util::future::{BoxFuture, Either, Ready, ready};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a slow handler takes.
const SLOWLY: Duration = Duration::from_millis(50);

/// What a handler says when it panics because it was told to.
pub const ORDERED_PANIC: &str = "told to";

/// What the next handlers are to do.
#[derive(Default)]
struct Orders {
    panic: AtomicU32,
    hang: AtomicU32,
    /// Whether a key is slow now, so that the others need no lock.
    any_slow: AtomicBool,
    slow: Mutex<Option<(String, Instant)>>,
}

/// The handler of every delivery.
struct Writer {
    plan: Arc<Plan>,
    load: Load,
    group: u8,
    journal: Arc<Journal>,
    orders: Arc<Orders>,
}

pub(super) async fn run(
    plan: Arc<Plan>,
    group: u8,
    jumpy: bool,
    journal: Arc<Journal>,
    mut controls: Controls,
) -> Result<(), String> {
    let orders = Arc::new(Orders::default());
    let clock = plan.clock(jumpy);
    let opened = open(&plan, group, &clock, &journal, &orders, &mut controls).await?;
    let Some((client, subscription)) = opened else { return Ok(()) };
    journal.write(Record::new(Kind::Ready));
    while let Some(command) = controls.recv().await {
        match command {
            Command::Stop => break,
            Command::Panic(count) => drop(orders.panic.fetch_add(count, Ordering::AcqRel)),
            Command::Hang(count) => drop(orders.hang.fetch_add(count, Ordering::AcqRel)),
            Command::Slow(key, time) => orders.slow_for(key, time),
            Command::Jump(by) => clock.advance(by),
            Command::UpTo(_) => {}
        }
    }
    stop(client, subscription, &journal).await
}

async fn stop(client: Ductape, subscription: Subscription, journal: &Journal) -> Result<(), String> {
    journal.write(Record::new(Kind::Stopping));
    let begun = Instant::now();
    subscription.stop().await.map_err(|error| error.to_string())?;
    let took = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
    journal.write(Record::new(Kind::Stopped).extra(took));
    // A connection that cannot be closed now is closed by the end of the process.
    drop(client.close().await);
    Ok(())
}

/// Subscribes, however often that takes; `None` where it is told to stop meanwhile.
async fn open(
    plan: &Arc<Plan>,
    group: u8,
    clock: &Clock,
    journal: &Arc<Journal>,
    orders: &Arc<Orders>,
    controls: &mut Controls,
) -> Result<Option<(Ductape, Subscription)>, String> {
    let carrier = carrier::of(&plan.provider)?;
    loop {
        let observed = Observed { inner: (carrier.provider)(), journal: Arc::clone(journal) };
        let opened = async {
            let client = plan.client(clock.clone(), Some(observed)).await?;
            let handler = writer(plan, group, journal, orders);
            let subscription = client.broker().subscribe(subscribe(plan, group), handler).await?;
            Ok::<_, ductape::Error>((client, subscription))
        };
        match opened.await {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) => tracing_error(&error),
        }
        tokio::select! {
            command = controls.recv() => {
                if matches!(command, None | Some(Command::Stop)) { return Ok(None) }
            }
            // tidy: sleeps because a connection that failed is tried again a little later.
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

fn tracing_error(error: &ductape::Error) {
    use std::io::Write;
    // A file that cannot be written spoils no run.
    let _ = writeln!(std::io::stderr().lock(), "{} cannot subscribe: {error}", crate::journal::now());
}

fn subscribe(plan: &Plan, group: u8) -> Subscribe {
    let policy = RetryPolicy {
        attempts: plan.attempts,
        initial: Duration::from_millis(50),
        max: Duration::from_secs(1),
        ..RetryPolicy::default()
    };
    let subscribe = Subscribe::new(&plan.event)
        .concurrency(plan.concurrency)
        .retry(policy)
        .timeout(plan.handler_timeout)
        .drain_timeout(plan.drain_timeout)
        .lease(plan.lease);
    match plan.groups.get(usize::from(group)).and_then(|group| group.group.clone()) {
        Some(name) => subscribe.group(name),
        None => subscribe,
    }
}

fn writer(plan: &Arc<Plan>, group: u8, journal: &Arc<Journal>, orders: &Arc<Orders>) -> AsHandler {
    AsHandler(Writer {
        plan: Arc::clone(plan),
        load: Load::new(plan.publishers),
        group,
        journal: Arc::clone(journal),
        orders: Arc::clone(orders),
    })
}

/// Marks [`AsHandler`].
struct AsItIs;
struct AsHandler(Writer);

impl IntoHandler<AsItIs> for AsHandler {
    type Handler = Writer;

    fn into_handler(self) -> Writer {
        self.0
    }
}

impl Handler for Writer {
    type Future = Either<Ready<Outcome>, BoxFuture<'static, Outcome>>;

    fn call(&self, delivery: &Delivery) -> Self::Future {
        let Some(message) = self.known(delivery) else { return Either::Left(ready(Ok(()))) };
        let redriven = is_redriven(delivery);
        let delivered = Record::of(Kind::Delivered, message).attempt(delivery.attempt);
        self.journal.write(delivered.detail(redriven.into()).extra(digest(delivery)));
        let failed = Record::of(Kind::Failed, message).attempt(delivery.attempt);
        if self.plan.is_poison(message) {
            self.journal.write(failed.detail(Failing::Abort as u8));
            std::process::abort();
        }
        if take_one(&self.orders.panic) {
            self.journal.write(failed.detail(Failing::Panic as u8));
            std::panic::panic_any(ORDERED_PANIC);
        }
        if take_one(&self.orders.hang) {
            self.journal.write(failed.detail(Failing::Hang as u8));
            return Either::Right(Box::pin(std::future::pending()));
        }
        if self.plan.rejects && self.group == 0 && !redriven && self.is_cancelled(message) {
            self.journal.write(failed.detail(Failing::Reject as u8));
            return Either::Left(ready(Err(Failure::reject("cancelled"))));
        }
        self.handle(message, self.orders.delay(delivery).max(self.plan.handling))
    }
}

impl Writer {
    fn handle(&self, message: MessageRef, delay: Duration) -> <Self as Handler>::Future {
        let handled = Record::of(Kind::Handled, message);
        if delay.is_zero() {
            self.journal.write(handled);
            return Either::Left(ready(Ok(())));
        }
        let journal = Arc::clone(&self.journal);
        Either::Right(Box::pin(async move {
            // tidy: sleeps because this handler is to be slow.
            tokio::time::sleep(delay).await;
            journal.write(handled);
            Ok(())
        }))
    }

    /// Which message it is, where it is one of ours and as it was sent.
    fn known(&self, delivery: &Delivery) -> Option<MessageRef> {
        let message = message_of(delivery);
        let departure = message.and_then(|message| self.load.departure(message));
        let (Some(message), Some(departure)) = (message, departure) else {
            self.journal.write(Record::new(Kind::Foreign));
            return None;
        };
        let key = delivery.message.key.as_ref().map(ductape::Key::as_bytes);
        let same = delivery.message.payload == departure.json
            && key == departure.tail_number.as_ref().map(|tail| tail.as_bytes());
        if !same {
            self.journal.write(Record::of(Kind::Altered, message));
        }
        Some(message)
    }

    fn is_cancelled(&self, message: MessageRef) -> bool {
        self.load.departure(message).is_some_and(|departure| departure.cancelled)
    }
}

fn is_redriven(delivery: &Delivery) -> bool {
    delivery.message.extensions.as_ref().is_some_and(|extensions| extensions.redrive_group.is_some())
}

fn digest(delivery: &Delivery) -> u32 {
    let mut hasher = DefaultHasher::new();
    delivery.position.hash(&mut hasher);
    hasher.finish() as u32
}

fn take_one(count: &AtomicU32) -> bool {
    count.load(Ordering::Relaxed) > 0
        && count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1)).is_ok()
}

impl Orders {
    fn slow_for(&self, key: String, time: Duration) {
        *self.slow.lock().unwrap_or_else(PoisonError::into_inner) = Some((key, Instant::now() + time));
        self.any_slow.store(true, Ordering::Release);
    }

    fn delay(&self, delivery: &Delivery) -> Duration {
        if !self.any_slow.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slow {
            Some((_, until)) if Instant::now() > *until => {
                *slow = None;
                self.any_slow.store(false, Ordering::Release);
                Duration::ZERO
            }
            Some((key, _))
                if delivery.message.key.as_ref().is_some_and(|own| own.as_bytes() == key.as_bytes()) =>
            {
                SLOWLY
            }
            _ => Duration::ZERO,
        }
    }
}
