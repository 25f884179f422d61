//! Calls of many items, whose results come apart and are told together.

use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

struct Call<T> {
    results: Vec<Option<Result<T>>>,
    left: usize,
    done: Option<oneshot::Sender<Vec<Result<T>>>>,
}

/// The place of one result. Dropped without an answer, it answers that there is none.
pub(crate) struct Ticket<T> {
    call: Option<Arc<Mutex<Call<T>>>>,
    index: usize,
}

/// All results of a call, in their order.
pub(crate) struct Answer<T>(oneshot::Receiver<Vec<Result<T>>>, usize);

/// A call of so many items.
pub(crate) fn call<T>(count: usize) -> (impl Iterator<Item = Ticket<T>>, Answer<T>) {
    let (done, answer) = oneshot::channel();
    let results = (0..count).map(|_| None).collect();
    let call = Arc::new(Mutex::new(Call { results, left: count, done: Some(done) }));
    let tickets = (0..count).map(move |index| Ticket { call: Some(Arc::clone(&call)), index });
    (tickets, Answer(answer, count))
}

impl<T> Ticket<T> {
    pub(crate) fn answer(mut self, result: Result<T>) {
        self.give(result);
    }

    /// Whether anybody waits for the answer.
    pub(crate) fn is_awaited(&self) -> bool {
        let Some(call) = &self.call else { return false };
        let call = call.lock().unwrap_or_else(PoisonError::into_inner);
        call.done.as_ref().is_some_and(|done| !done.is_closed())
    }

    fn give(&mut self, result: Result<T>) {
        let Some(call) = self.call.take() else { return };
        let mut call = call.lock().unwrap_or_else(PoisonError::into_inner);
        call.results[self.index] = Some(result);
        call.left -= 1;
        if call.left == 0
            && let Some(done) = call.done.take()
        {
            let results = std::mem::take(&mut call.results);
            // Who went away does not want its results.
            let _ = done.send(results.into_iter().flatten().collect());
        }
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        if self.call.is_some() {
            self.give(Err(unanswered()));
        }
    }
}

impl<T> Answer<T> {
    pub(crate) async fn wait(self) -> Vec<Result<T>> {
        let Answer(answer, count) = self;
        if count == 0 {
            return Vec::new();
        }
        answer.await.unwrap_or_else(|_| (0..count).map(|_| Err(unanswered())).collect())
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::ProviderFailed, "the call ended without an answer").with_retry(Retry::Uncertain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_in_the_order_of_the_items_and_a_lost_one_is_told() {
        let (tickets, answer) = call(3);
        let mut tickets: Vec<Ticket<u8>> = tickets.collect();
        tickets.pop().unwrap().answer(Ok(3));
        drop(tickets.pop());
        tickets.pop().unwrap().answer(Ok(1));
        let results = answer.wait().await;
        assert_eq!(*results[0].as_ref().unwrap(), 1);
        assert!(results[1].as_ref().unwrap_err().is_uncertain());
        assert_eq!(*results[2].as_ref().unwrap(), 3);
        assert!(call::<u8>(0).1.wait().await.is_empty());
    }
}
