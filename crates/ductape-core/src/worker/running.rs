//! A handler's call under way: polled first where it was started, then among the other pending ones.

use super::handler::{Handler, Outcome};
use super::shared::Shared;
use super::task::Task;
use crate::delivery::Delivery;
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A place on the heap for one handler future, used again and again: a handler that is ready at its first
/// poll costs no allocation.
pub(super) type Place<F> = Pin<Box<Option<F>>>;

/// How a handler's call ended.
pub(super) enum End {
    /// It returned.
    Returned(Outcome),
    /// It panicked, with these words.
    Panicked(String),
    /// It was given up after its time.
    TimedOut,
}

/// Calls the handler and polls it once. The place is empty again unless the call is pending.
pub(super) fn first_poll<H: Handler>(
    handler: &H,
    delivery: &Delivery,
    place: &mut Place<H::Future>,
    cx: &mut Context<'_>,
) -> Poll<End> {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        place.set(Some(handler.call(delivery)));
        poll_place(place, cx)
    }));
    ended(polled, place)
}

fn poll_place<F: Future<Output = Outcome>>(place: &mut Place<F>, cx: &mut Context<'_>) -> Poll<Outcome> {
    let Some(future) = place.as_mut().as_pin_mut() else {
        return Poll::Pending;
    };
    let polled = future.poll(cx);
    if polled.is_ready() {
        place.set(None);
    }
    polled
}

fn ended<F>(polled: Result<Poll<Outcome>, Box<dyn Any + Send>>, place: &mut Place<F>) -> Poll<End> {
    match polled {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(outcome)) => Poll::Ready(End::Returned(outcome)),
        Err(panic) => {
            empty(place);
            Poll::Ready(End::Panicked(panic_message(&*panic)))
        }
    }
}

/// Drops what is in the place; a panic of that drop has nobody left to tell.
fn empty<F>(place: &mut Place<F>) {
    let _ = catch_unwind(AssertUnwindSafe(|| place.set(None)));
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

/// A pending call with its time limit.
pub(super) struct HandlerRun<F> {
    place: Place<F>,
    limit: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The slots of the concurrency bound, given back when the run is dropped.
    _slot: tokio::sync::OwnedSemaphorePermit,
}

impl<F> HandlerRun<F> {
    pub(super) fn new(
        place: Place<F>,
        limit: Pin<Box<dyn Future<Output = ()> + Send>>,
        slot: tokio::sync::OwnedSemaphorePermit,
    ) -> Self {
        HandlerRun { place, limit, _slot: slot }
    }
}

impl<F: Future<Output = Outcome>> Future for HandlerRun<F> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        let polled = catch_unwind(AssertUnwindSafe(|| poll_place(&mut this.place, cx)));
        if let Poll::Ready(end) = ended(polled, &mut this.place) {
            return Poll::Ready(end);
        }
        this.limit.as_mut().poll(cx).map(|()| {
            empty(&mut this.place);
            End::TimedOut
        })
    }
}

/// Wherever it is given up, a panic of the handler's future stays here.
impl<F> Drop for HandlerRun<F> {
    fn drop(&mut self) {
        empty(&mut self.place);
    }
}

/// Calls the handler once nothing else is under way, and keeps everything else from starting meanwhile.
pub(super) async fn run_alone<H: Handler>(shared: Arc<Shared<H>>, delivery: Delivery) -> End {
    let all = Arc::clone(&shared.slots).acquire_many_owned(shared.concurrency).await;
    let Ok(all) = all else { return End::Panicked("the worker's slots are gone".into()) };
    match catch_unwind(AssertUnwindSafe(|| shared.handler.call(&delivery))) {
        Ok(call) => HandlerRun::new(Box::pin(Some(call)), shared.clock.sleep(shared.timeout), all).await,
        Err(panic) => End::Panicked(panic_message(&*panic)),
    }
}

/// A future that carries its task, so that the task is still there when the future is given up.
pub(super) struct Carrying<F> {
    task: Option<Task>,
    future: F,
}

impl<F> Carrying<F> {
    pub(super) fn new(task: Task, future: F) -> Self {
        Carrying { task: Some(task), future }
    }

    /// Takes the task out of a future that is about to be dropped.
    pub(super) fn abandon(&mut self) -> Option<Task> {
        self.task.take()
    }
}

impl<F: Future + Unpin> Future for Carrying<F> {
    /// The task is gone only from a future that was abandoned, which nobody polls.
    type Output = (Option<Task>, F::Output);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let output = std::task::ready!(Pin::new(&mut self.future).poll(cx));
        Poll::Ready((self.task.take(), output))
    }
}
