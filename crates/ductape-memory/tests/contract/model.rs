//! Any sequence of calls, against a model so plain that it can be read as the contract.

use crate::rig::*;
use ductape_core::config::MemoryConfig;
use ductape_core::{Consumer, Delivery, Start, Verdict};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const MEMBERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Publishes one message of this key; 0 is none.
    Publish(u8),
    Receive {
        member: usize,
        max: usize,
    },
    /// Settles the n-th delivery that this member was ever handed, of late or long ago.
    Settle {
        member: usize,
        nth: usize,
        verdict: Verdict,
    },
    Extend(usize),
    /// Closes the member and opens another in its place.
    Replace(usize),
    Advance(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let seconds = prop_oneof![Just(0u64), 1..40u64];
    let verdict = prop_oneof![
        5 => Just(Verdict::Ack),
        2 => seconds.prop_map(|s| Verdict::Retry(Duration::from_secs(s))),
        1 => Just(Verdict::Release),
    ];
    let step = prop_oneof![
        6 => (0..4u8).prop_map(Step::Publish),
        5 => (0..MEMBERS, 1..5usize).prop_map(|(member, max)| Step::Receive { member, max }),
        6 => (0..MEMBERS, 0..6usize, verdict).prop_map(|(member, nth, verdict)| Step::Settle { member, nth, verdict }),
        1 => (0..MEMBERS).prop_map(Step::Extend),
        1 => (0..MEMBERS).prop_map(Step::Replace),
        1 => (1..40u64).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 1..120)
}

/// One message that is not settled, as the contract sees it.
#[derive(Clone, Debug)]
struct Unsettled {
    key: u8,
    attempt: u32,
    /// The generation of the member that holds it, and until when.
    held: Option<(usize, u64)>,
    not_before: u64,
}

/// The contract: messages by number, and members by generation.
#[derive(Default)]
struct Model {
    now: u64,
    published: u64,
    unsettled: BTreeMap<u64, Unsettled>,
}

impl Model {
    fn expire(&mut self) {
        for message in self.unsettled.values_mut() {
            message.held = message.held.filter(|(_, until)| self.now < *until);
        }
    }

    /// What this member may and must be handed next: the first whose time has come, of a key that is with nobody
    /// else and of which nothing earlier waits.
    fn next_for(&self, member: usize) -> Option<u64> {
        let may = |(number, message): &(&u64, &Unsettled)| {
            let lane =
                self.unsettled.iter().filter(|(_, other)| message.key != 0 && other.key == message.key);
            message.held.is_none()
                && message.not_before <= self.now
                && lane.clone().all(|(_, other)| other.held.is_none_or(|(owner, _)| owner == member))
                && lane.clone().all(|(earlier, other)| earlier >= *number || other.held.is_some())
        };
        self.unsettled.iter().find(may).map(|(number, _)| *number)
    }

    fn hand_out(&mut self, member: usize, max: usize) -> Vec<(u64, u32)> {
        self.expire();
        let mut handed = Vec::new();
        while handed.len() < max
            && let Some(number) = self.next_for(member)
            && let Some(message) = self.unsettled.get_mut(&number)
        {
            message.attempt += 1;
            message.held = Some((member, self.now + LEASE.as_secs()));
            handed.push((number, message.attempt));
        }
        handed
    }

    fn put_back(&mut self, number: u64, delay: u64, counted: bool) {
        let now = self.now;
        if let Some(message) = self.unsettled.get_mut(&number) {
            message.held = None;
            message.attempt -= u32::from(!counted);
            message.not_before = now + delay;
        }
    }
}

/// A real member, its generation in the model, and all that it was ever handed.
struct Member {
    consumer: Arc<dyn Consumer>,
    generation: usize,
    handed: Vec<Delivery>,
}

struct Pair {
    rig: Rig,
    model: Model,
    members: Vec<Member>,
    generations: usize,
}

impl Pair {
    async fn new() -> Self {
        let rig = Rig::with(MemoryConfig::default()).await;
        let mut pair = Pair { rig, model: Model::default(), members: Vec::new(), generations: 0 };
        for _ in 0..MEMBERS {
            let member = pair.join().await;
            pair.members.push(member);
        }
        pair
    }

    async fn join(&mut self) -> Member {
        self.generations += 1;
        let consumer = self.rig.member("billing", Start::Latest, 1000).await;
        Member { consumer, generation: self.generations, handed: Vec::new() }
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish(key) => self.publish(key).await,
            Step::Receive { member, max } => self.receive(member, max).await,
            Step::Settle { member, nth, verdict } => self.settle(member, nth, verdict).await,
            Step::Extend(member) => self.extend(member).await,
            Step::Replace(member) => self.replace(member).await,
            Step::Advance(seconds) => {
                self.model.now += seconds;
                self.rig.clock.advance(Duration::from_secs(seconds));
            }
        }
    }

    async fn publish(&mut self, key: u8) {
        self.model.published += 1;
        let text = if key == 0 { "plain".to_owned() } else { format!("{key}=") };
        self.rig.publish(&[&text]).await[0].as_ref().unwrap();
        let message = Unsettled { key, attempt: 0, held: None, not_before: 0 };
        self.model.unsettled.insert(self.model.published, message);
    }

    async fn receive(&mut self, member: usize, max: usize) {
        let member = &mut self.members[member];
        let got = member.consumer.receive(max, Duration::ZERO).await.unwrap();
        let real: Vec<_> = got.iter().map(|d| (d.position.to_string().parse().unwrap(), d.attempt)).collect();
        assert_eq!(real, self.model.hand_out(member.generation, max));
        member.handed.extend(got);
    }

    async fn settle(&mut self, member: usize, nth: usize, verdict: Verdict) {
        let member = &mut self.members[member];
        let Some(index) = member.handed.len().checked_sub(nth + 1) else { return };
        let delivery = &member.handed[index];
        self.model.expire();
        let number: u64 = delivery.position.to_string().parse().unwrap();
        let latest = member.handed.iter().rposition(|d| d.position == delivery.position) == Some(index);
        let holder = self.model.unsettled.get(&number).map(|message| message.held.map(|(owner, _)| owner));
        let result = settle(&member.consumer, delivery, verdict).await;
        match (holder, verdict) {
            (None, _) => assert!(result.is_ok(), "settled already, so a second time is harmless"),
            (Some(owner), _) if owner != Some(member.generation) || !latest => assert!(result.is_err()),
            (_, Verdict::Ack) => drop(self.model.unsettled.remove(&number)),
            (_, Verdict::Retry(delay)) => self.model.put_back(number, delay.as_secs(), true),
            (_, Verdict::Release) => self.model.put_back(number, 0, false),
        }
    }

    async fn extend(&mut self, member: usize) {
        let member = &self.members[member];
        member.consumer.extend().await.unwrap();
        self.model.expire();
        let until = self.model.now + LEASE.as_secs();
        for held in self.model.unsettled.values_mut().filter_map(|m| m.held.as_mut()) {
            if held.0 == member.generation {
                held.1 = until;
            }
        }
    }

    async fn replace(&mut self, member: usize) {
        let generation = self.members[member].generation;
        self.members[member].consumer.close().await.unwrap();
        let held = |m: &&u64| self.model.unsettled[m].held.is_some_and(|(owner, _)| owner == generation);
        let released: Vec<u64> = self.model.unsettled.keys().filter(held).copied().collect();
        for number in released {
            self.model.put_back(number, 0, false);
        }
        self.members[member] = self.join().await;
    }

    async fn compare_counts(&mut self) {
        let inspection = self.rig.broker.inspect(&self.rig.destination).await.unwrap();
        let unsettled = self.model.unsettled.len() as u64;
        assert_eq!((inspection.messages, inspection.groups[0].lag), (Some(unsettled), Some(unsettled)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_does_what_the_model_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new().await;
            for step in &steps {
                pair.take(step).await;
                pair.compare_counts().await;
            }
        });
    }
}
