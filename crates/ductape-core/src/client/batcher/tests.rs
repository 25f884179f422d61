//! What the batcher puts together, and in which order, with a provider that answers when it is let.

use super::*;
use crate::message::{Attributes, IdSource, OCTET_STREAM};
use crate::time::Timestamp;
use futures_util::future::join;
use futures_util::poll;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

const LIMITS: Limits = Limits { max_messages: 4, max_bytes: 100, in_flight: 1 };
const PANICS: &str = "panics";

/// Notes each batch when it comes, and answers when it is let.
struct Recorder {
    batches: Mutex<Vec<Vec<String>>>,
    answers: Semaphore,
}

#[async_trait]
impl Publisher for Recorder {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        let payload = |message: &Message| String::from_utf8(message.payload.to_vec()).unwrap();
        let payloads: Vec<_> = batch.iter().map(payload).collect();
        self.batches.lock().unwrap().push(payloads.clone());
        self.answers.acquire().await.unwrap().forget();
        assert!(!payloads.iter().any(|payload| payload == PANICS), "made to panic");
        payloads.into_iter().map(|payload| Ok(Position::Text(payload.into()))).collect()
    }
}

impl Recorder {
    fn start(limits: Limits) -> (Arc<Self>, Batcher) {
        let recorder = Arc::new(Recorder { batches: Mutex::default(), answers: Semaphore::new(0) });
        let batcher = Batcher::start(Arc::clone(&recorder) as Arc<dyn Publisher>, limits);
        (recorder, batcher)
    }

    fn batches(&self) -> Vec<Vec<String>> {
        self.batches.lock().unwrap().clone()
    }

    /// Waits until so many batches are with the provider.
    async fn has(&self, batches: usize) {
        let come = async {
            while self.batches.lock().unwrap().len() < batches {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), come).await.expect("the batches come");
    }

    fn let_answer(&self, batches: usize) {
        self.answers.add_permits(batches);
    }
}

fn messages(payloads: &[&str]) -> Vec<Message> {
    let (mut ids, now) = (IdSource::new(), Timestamp::from_micros(1_000_000));
    let attributes = Arc::new(Attributes {
        source: "/shop".into(),
        event: "orders:new".into(),
        content_type: OCTET_STREAM.into(),
    });
    let message = |payload: &&str| {
        Message::new(payload.as_bytes().to_vec(), ids.next(now), now, Arc::clone(&attributes))
    };
    payloads.iter().map(message).collect()
}

fn texts(results: Vec<Result<Position>>) -> Vec<String> {
    results.into_iter().map(|result| result.unwrap().to_string()).collect()
}

#[tokio::test]
async fn who_is_alone_is_with_the_provider_at_once() {
    let (recorder, batcher) = Recorder::start(LIMITS);
    let mut alone = pin!(batcher.publish(messages(&["a", "b"])));
    assert!(poll!(&mut alone).is_pending());
    assert_eq!(recorder.batches(), [["a", "b"]]);
    recorder.let_answer(1);
    assert_eq!(texts(alone.await), ["a", "b"]);
}

#[tokio::test]
async fn what_comes_while_a_call_is_under_way_goes_together_and_each_has_its_own_results() {
    let (recorder, batcher) = Recorder::start(LIMITS);
    let mut first = pin!(batcher.publish(messages(&["a"])));
    let mut second = pin!(batcher.publish(messages(&["b"])));
    let mut third = pin!(batcher.publish(messages(&["c", "d", "e"])));
    let mut fourth = pin!(batcher.publish(messages(&["f"])));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending());
    recorder.has(2).await;
    assert_eq!(recorder.batches(), [vec!["a"], vec!["b", "c", "d", "e"]], "as many as fit");
    recorder.let_answer(3);
    assert_eq!(texts(fourth.await), ["f"]);
    assert_eq!(texts(third.await), ["c", "d", "e"]);
    assert_eq!(texts(second.await), ["b"]);
    assert_eq!(texts(first.await), ["a"]);
}

#[tokio::test]
async fn nobody_overtakes_who_waits() {
    let (recorder, batcher) = Recorder::start(LIMITS);
    let mut first = pin!(batcher.publish(messages(&["a"])));
    let mut second = pin!(batcher.publish(messages(&["b"])));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    recorder.let_answer(1);
    assert!(poll!(&mut first).is_ready(), "so nobody publishes by himself now");
    let mut third = pin!(batcher.publish(messages(&["c"])));
    assert!(poll!(&mut third).is_pending());
    assert_eq!(recorder.batches(), [["a"]], "the second is before the third");
    recorder.let_answer(1);
    assert_eq!(texts(third.await), ["c"]);
    assert_eq!(recorder.batches(), [vec!["a"], vec!["b", "c"]]);
    let mut alone = pin!(batcher.publish(messages(&["d"])));
    assert!(poll!(&mut alone).is_pending());
    assert_eq!(recorder.batches().last().unwrap(), &["d"], "and after them nobody waits any more");
}

#[tokio::test]
async fn a_caller_that_does_not_go_on_or_goes_away_stops_no_other() {
    let (recorder, batcher) = Recorder::start(LIMITS);
    let mut stopped = Box::pin(batcher.publish(messages(&["a"])));
    assert!(poll!(&mut stopped).is_pending());
    let mut gone = Box::pin(batcher.publish(messages(&["b"])));
    assert!(poll!(&mut gone).is_pending());
    drop(gone);
    let mut other = pin!(batcher.publish(messages(&["c"])));
    assert!(poll!(&mut other).is_pending());
    recorder.has(2).await;
    // The first is in line for an answer too, and leaves it there.
    recorder.let_answer(2);
    assert_eq!(texts(other.await), ["c"]);
    drop(stopped);
    assert_eq!(texts(batcher.publish(messages(&["d"])).await), ["d"]);
    assert_eq!(recorder.batches(), [vec!["a"], vec!["b", "c"], vec!["d"]]);
}

#[tokio::test]
async fn a_batch_is_cut_to_what_a_call_may_hold_and_its_results_come_back_in_order() {
    let (recorder, batcher) = Recorder::start(LIMITS);
    recorder.let_answer(3);
    let long = "x".repeat(60);
    let payloads = ["a", "b", "c", "d", "e", &long, &long];
    assert_eq!(texts(batcher.publish(messages(&payloads)).await), payloads);
    let batches = recorder.batches();
    assert_eq!(batches, [vec!["a", "b", "c", "d"], vec!["e", &long], vec![&long]]);
}

#[tokio::test]
async fn a_provider_that_panics_leaves_its_batch_uncertain_and_serves_the_next() {
    let (recorder, batcher) = Recorder::start(LIMITS);
    let mut first = pin!(batcher.publish(messages(&["a"])));
    let mut second = pin!(batcher.publish(messages(&[PANICS, "b"])));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    recorder.let_answer(3);
    let results = second.await;
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(|result| result.as_ref().is_err_and(Error::is_uncertain)));
    assert_eq!(texts(first.await), ["a"]);
    assert_eq!(texts(batcher.publish(messages(&["c"])).await), ["c"]);
}

#[tokio::test]
async fn nobody_overtakes_who_waited_for_room_in_the_queue() {
    let limits = Limits { max_messages: QUEUED_CALLS, max_bytes: usize::MAX, in_flight: 1 };
    let (recorder, batcher) = Recorder::start(limits);
    // The first is with the provider, and all others are in the queue.
    let mut full: Vec<_> = (0..=QUEUED_CALLS).map(|_| Box::pin(batcher.publish(messages(&["x"])))).collect();
    for call in &mut full {
        assert!(poll!(call).is_pending());
    }
    let mut waits = pin!(batcher.publish(messages(&["first"])));
    assert!(poll!(&mut waits).is_pending());
    // The collecting task takes the queue, and there is room for many.
    recorder.has(2).await;
    let mut late = pin!(batcher.publish(messages(&["second"])));
    assert!(poll!(&mut late).is_pending());
    recorder.let_answer(QUEUED_CALLS);
    assert_eq!(texts(join(waits, late).await.0), ["first"]);
    let after: Vec<_> = recorder.batches()[2..].concat();
    assert_eq!(after, ["first", "second"]);
}
