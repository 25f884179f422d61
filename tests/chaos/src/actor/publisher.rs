//! A publisher: publishes its departures in order, some batches at once, and never the same message twice. What failed
//! is written down as refused or uncertain, and the next message takes its place in the order.

use super::control::{Command, Controls};
use super::observed::code;
use crate::actor_name::{ActorName, logs_in};
use crate::journal::{Journal, Reader};
use crate::load::{IDENTITY, Load, identity};
use crate::plan::Plan;
use crate::record::{Kind, MessageRef, Record};
use ductape::{EventPublisher, NewMessage, Receipt, Result as Published};
use futures_util::future::{Either, ready};
use futures_util::stream::{FuturesOrdered, StreamExt};
use futures_util::{Future, poll};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Publishes under way at once.
const PIPELINE: usize = 4;
/// How long to wait after a failure, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

type Call = Pin<Box<dyn Future<Output = (u32, Vec<Published<Receipt>>)> + Send>>;

struct Publisher {
    plan: Arc<Plan>,
    load: Load,
    index: u16,
    journal: Arc<Journal>,
    publisher: EventPublisher,
    next: u32,
    up_to: u32,
    chance: fastrand::Rng,
    pause: Duration,
    resume_at: Instant,
    begun: Instant,
    first: u32,
}

pub(super) async fn run(
    plan: Arc<Plan>,
    index: u16,
    journal: Arc<Journal>,
    mut controls: Controls,
) -> Result<(), String> {
    let first = first_number(&plan, index).map_err(|error| format!("the earlier logs: {error}"))?;
    let Some(publisher) = open(&plan, &mut controls).await else { return Ok(()) };
    let now = Instant::now();
    let actor = Publisher {
        load: Load::new(plan.publishers),
        index,
        journal,
        publisher,
        next: first,
        up_to: first,
        chance: fastrand::Rng::with_seed(plan.seed ^ u64::from(index) << 32 ^ u64::from(first)),
        pause: PAUSES.0,
        resume_at: now,
        begun: now,
        first,
        plan,
    };
    actor.journal.write(Record::new(Kind::Ready));
    actor.publish(controls).await;
    Ok(())
}

/// Where its earlier lives ended: past the last message that one of them was about to send.
fn first_number(plan: &Plan, own: u16) -> std::io::Result<u32> {
    let mut first = 0;
    for name in logs_in(&plan.folder)? {
        if matches!(name, ActorName::Publisher { index, .. } if index == own) {
            let log = Reader::open(&name.log(&plan.folder))?;
            let ends = log.filter(|record| record.kind == Kind::Intent);
            first = ends.map(|record| record.message.number + record.extra).fold(first, u32::max);
        }
    }
    Ok(first)
}

/// Opens the publisher, however often that takes; `None` where it is told to stop meanwhile.
async fn open(plan: &Plan, controls: &mut Controls) -> Option<EventPublisher> {
    loop {
        let opened = async {
            let client = plan.client(plan.clock(false), None::<ductape::memory::MemoryProvider>).await?;
            client.broker().publisher(&plan.event, None).await
        };
        if let Ok(publisher) = opened.await {
            return Some(publisher);
        }
        tokio::select! {
            command = controls.recv() => if matches!(command, None | Some(Command::Stop)) { return None },
            // tidy: sleeps because a connection that failed is tried again a little later.
            () = tokio::time::sleep(PAUSES.1) => {}
        }
    }
}

impl Publisher {
    async fn publish(mut self, mut controls: Controls) {
        let mut under_way: FuturesOrdered<Either<_, Call>> = FuturesOrdered::new();
        let mut stopping = false;
        loop {
            if stopping && under_way.is_empty() {
                return self.journal.write(Record::new(Kind::Stopped));
            }
            let may_begin = !stopping && self.next < self.up_to && under_way.len() < PIPELINE;
            tokio::select! {
                biased;
                command = controls.recv() => match command {
                    Some(Command::UpTo(number)) => self.up_to = number.min(self.plan.messages),
                    Some(Command::Stop) | None => stopping = true,
                    Some(_) => {}
                },
                // tidy: sleeps because messages are published at a steady rate.
                () = tokio::time::sleep_until(self.due()), if may_begin => {
                    let mut call = self.begin();
                    // Polled once at once: the order of these first polls is the order of the messages.
                    under_way.push_back(match poll!(&mut call) {
                        Poll::Ready(results) => Either::Left(ready(results)),
                        Poll::Pending => Either::Right(call),
                    });
                }
                Some((first, results)) = under_way.next(), if !under_way.is_empty() => self.note(first, results),
            }
        }
    }

    /// When the next batch may begin.
    fn due(&self) -> Instant {
        match self.plan.rate {
            Some(rate) if rate > 0.0 => {
                let paced = Duration::from_secs_f64(f64::from(self.next - self.first) / rate);
                self.resume_at.max(self.begun + paced)
            }
            _ => self.resume_at,
        }
    }

    fn begin(&mut self) -> Call {
        let most = (self.up_to - self.next).min(self.plan.batch.max(1) as u32);
        let (first, count) = (self.next, self.chance.u32(1..=most.max(1)));
        self.next += count;
        let message = |number| MessageRef { publisher: self.index, number };
        self.journal.write(Record::of(Kind::Intent, message(first)).extra(count));
        let messages: Vec<NewMessage> =
            (first..self.next).map(|number| self.compose(message(number))).collect();
        let publisher = self.publisher.clone();
        Box::pin(async move { (first, publisher.publish_batch(messages).await) })
    }

    fn compose(&self, message: MessageRef) -> NewMessage {
        let Some(departure) = self.load.departure(message) else { return NewMessage::raw("") };
        let new = NewMessage::json_bytes(departure.json).header(IDENTITY, identity(message));
        match &departure.tail_number {
            Some(tail) => new.key(&**tail),
            None => new,
        }
    }

    fn note(&mut self, first: u32, results: Vec<Published<Receipt>>) {
        let mut records: Vec<Record> = Vec::new();
        let mut failed = None;
        for (number, result) in (first..).zip(results) {
            let message = MessageRef { publisher: self.index, number };
            match (result, records.last_mut()) {
                (Ok(_), Some(run)) if run.kind == Kind::Taken => run.extra += 1,
                (Ok(_), _) => records.push(Record::of(Kind::Taken, message).extra(1)),
                (Err(error), _) => {
                    let kind = if error.is_uncertain() { Kind::Uncertain } else { Kind::Refused };
                    records.push(Record::of(kind, message).detail(code(&error)));
                    failed = Some(error);
                }
            }
        }
        self.journal.write_all(records);
        match failed {
            None => self.pause = PAUSES.0,
            Some(error) => {
                say(&error);
                self.resume_at = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// On standard error, which goes into the actor's own file.
fn say(error: &ductape::Error) {
    use std::io::Write;
    // A file that cannot be written spoils no run.
    let _ = writeln!(std::io::stderr().lock(), "{} {error}", crate::journal::now());
}
