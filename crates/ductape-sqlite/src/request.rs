//! What the writer's thread is asked, and waiting for its answer.

use crate::error::{self, Fault};
use crate::queue::{Queue, Ticket};
use crate::store::Store;
use ductape_core::Result;
use ductape_core::error::{Error, Retry};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// Something to be done with the file, in a transaction that it may share with others.
pub(crate) trait Request: Send + 'static {
    /// What it is answered with once the transaction is committed.
    type Answer: Send + 'static;

    /// Whether its commit must be on the disk before it is answered.
    fn must_reach_disk(&self) -> bool {
        false
    }

    /// How much it adds to a transaction, in bytes, roughly.
    fn weight(&self) -> usize {
        64
    }

    /// Does it. Called again where the transaction failed because of another request, so that it must leave
    /// itself as it was.
    fn run(&self, store: &mut Store) -> Result<Self::Answer, Fault>;

    /// Told that the transaction of this answer is committed; an answer of one that is not is merely dropped.
    fn committed(_answer: &Self::Answer) {}
}

/// A request with its answer's way back; what the queue holds.
pub(crate) trait Job: Send {
    fn must_reach_disk(&self) -> bool;
    fn weight(&self) -> usize;
    /// Runs the request and keeps its answer. An error is the storage's: the transaction is to be given up.
    fn run(&mut self, store: &mut Store) -> rusqlite::Result<()>;
    /// Sends the kept answer, since the transaction is committed.
    fn committed(self: Box<Self>);
    /// Sends this error, since the transaction failed.
    fn failed(self: Box<Self>, error: Error);
}

struct Asked<R: Request> {
    request: R,
    answer: Option<Result<R::Answer>>,
    sender: Option<oneshot::Sender<Reply<R::Answer>>>,
}

/// An answer, and what was asked, which goes back with it: the one who asked frees its payloads, not the thread that all
/// wait for.
struct Reply<A> {
    answer: Result<A>,
    _asked: Box<dyn Send>,
}

impl<R: Request> Job for Asked<R> {
    fn must_reach_disk(&self) -> bool {
        self.request.must_reach_disk()
    }

    fn weight(&self) -> usize {
        self.request.weight()
    }

    fn run(&mut self, store: &mut Store) -> rusqlite::Result<()> {
        self.answer = Some(match self.request.run(store) {
            Ok(answer) => Ok(answer),
            Err(Fault::Refused(error)) => Err(error),
            Err(Fault::Storage(error)) => return Err(error),
        });
        Ok(())
    }

    fn committed(mut self: Box<Self>) {
        if let Some(answer) = self.answer.take() {
            if let Ok(answer) = &answer {
                R::committed(answer);
            }
            self.reply(answer);
        }
    }

    fn failed(self: Box<Self>, error: Error) {
        self.reply(Err(error));
    }
}

impl<R: Request> Asked<R> {
    fn reply(mut self: Box<Self>, answer: Result<R::Answer>) {
        if let Some(sender) = self.sender.take() {
            // Who asked may have gone away.
            let _ = sender.send(Reply { answer, _asked: self });
        }
    }
}

/// An answer under way. Dropping it takes the request back where it has not begun.
pub(crate) struct Pending<A> {
    queue: Arc<Queue>,
    ticket: Ticket,
    answer: oneshot::Receiver<Reply<A>>,
    answered: bool,
}

/// Puts a request into the queue, at once: requests are run in the order of these calls.
pub(crate) fn submit<R: Request>(queue: &Arc<Queue>, request: R) -> Pending<R::Answer> {
    let (sender, answer) = oneshot::channel();
    let ticket = queue.push(Box::new(Asked { request, answer: None, sender: Some(sender) }));
    Pending { queue: Arc::clone(queue), ticket, answer, answered: false }
}

impl<A> Pending<A> {
    /// Waits for the answer, no longer than this.
    pub(crate) async fn within(mut self, limit: Duration, file: &Path) -> Result<A> {
        match tokio::time::timeout(limit, &mut self).await {
            Ok(answer) => answer.unwrap_or_else(|| Err(error::writer_gone(file))),
            Err(_) => Err(error::timeout(limit, self.take_back(), file)),
        }
    }

    /// As it is, but the request goes its way also where nobody waits any more.
    pub(crate) fn surely(mut self) -> Self {
        self.answered = true;
        self
    }

    /// Takes the request back, and says whether it may have been done.
    fn take_back(&mut self) -> Retry {
        self.answered = true;
        if self.queue.take_back(self.ticket) { Retry::Safe } else { Retry::Uncertain }
    }
}

impl<A> Future for Pending<A> {
    /// `None` where the writer is gone.
    type Output = Option<Result<A>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = std::task::ready!(Pin::new(&mut self.answer).poll(context));
        self.answered = true;
        Poll::Ready(reply.ok().map(|reply| reply.answer))
    }
}

impl<A> Drop for Pending<A> {
    fn drop(&mut self) {
        if !self.answered {
            self.take_back();
        }
    }
}

/// Answers every request of a transaction that failed as one.
pub(crate) fn fail_all(jobs: Vec<Box<dyn Job>>, error: &Error) {
    for job in jobs {
        job.failed(error.replicate());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ductape_core::ErrorKind;
    use std::sync::Mutex;
    use std::thread::{self, ThreadId};

    /// Notes by whom it is freed.
    struct Ask(Arc<Mutex<Option<ThreadId>>>);

    impl Drop for Ask {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = Some(thread::current().id());
        }
    }

    impl Request for Ask {
        type Answer = ();

        fn run(&self, _: &mut Store) -> Result<(), Fault> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn who_asked_frees_what_was_asked() {
        let (queue, freed) = (Arc::<Queue>::default(), Arc::default());
        let asked = submit(&queue, Ask(Arc::clone(&freed)));
        let jobs = queue.take(&crate::queue::Limit { jobs: 1, bytes: 1 }).unwrap();
        let refused = Error::new(ErrorKind::StorageFailed, "as a test");
        thread::spawn(move || fail_all(jobs, &refused)).join().unwrap();
        assert_eq!(*freed.lock().unwrap(), None, "the thread that answers frees nothing");
        assert!(asked.await.unwrap().is_err());
        assert_eq!(*freed.lock().unwrap(), Some(thread::current().id()));
    }
}
