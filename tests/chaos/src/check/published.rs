//! What became of each publish.

use super::Log;
use super::report::PublishReport;
use crate::record::{Kind, MessageRef};
use ductape::ErrorKind;
use std::collections::BTreeMap;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nobody was about to send it.
    Unsent,
    /// It was sent, and nobody knows: its publisher was told so, or died before it was told.
    Uncertain,
    /// It was taken for good.
    Taken,
    /// It was refused.
    Refused,
}

const NONE: u32 = u32::MAX;

/// All publishes of a run.
pub(super) struct Published {
    /// By publisher and number.
    outcomes: Vec<Vec<Outcome>>,
    /// The number of the message of its key that was taken before it, by publisher and number.
    previous: Vec<Vec<u32>>,
    report: PublishReport,
    errors: BTreeMap<&'static str, u64>,
}

impl Published {
    pub(super) fn read<'l>(
        logs: impl Iterator<Item = Log<'l>>,
        key: impl Fn(MessageRef) -> Option<u32>,
    ) -> Self {
        let mut outcomes: Vec<Vec<Outcome>> = Vec::new();
        let mut errors = BTreeMap::new();
        for record in logs.flat_map(|log| log.records) {
            let (outcome, count) = match record.kind {
                Kind::Intent => (Outcome::Uncertain, record.extra),
                Kind::Taken => (Outcome::Taken, record.extra),
                Kind::Refused => (Outcome::Refused, 1),
                Kind::Uncertain => (Outcome::Uncertain, 1),
                _ => continue,
            };
            if matches!(record.kind, Kind::Refused | Kind::Uncertain)
                && let Some(kind) = ErrorKind::ALL.get(usize::from(record.detail))
            {
                *errors.entry(kind.code()).or_default() += 1;
            }
            let (publisher, first) = (usize::from(record.message.publisher), record.message.number as usize);
            if outcomes.len() <= publisher {
                outcomes.resize_with(publisher + 1, Vec::new);
            }
            let (own, end) = (&mut outcomes[publisher], first + count as usize);
            if own.len() < end {
                own.resize(end, Outcome::Unsent);
            }
            own[first..end].fill(outcome);
        }
        let previous = outcomes.iter().enumerate().map(|(publisher, own)| chain(publisher as u16, own, &key));
        let previous = previous.collect();
        let count = |of: Outcome| outcomes.iter().flatten().filter(|outcome| **outcome == of).count() as u64;
        let report = PublishReport {
            taken: count(Outcome::Taken),
            refused: count(Outcome::Refused),
            uncertain: count(Outcome::Uncertain),
        };
        Published { outcomes, previous, report, errors }
    }

    pub(super) fn report(&self) -> PublishReport {
        self.report
    }

    pub(super) fn errors(&self) -> BTreeMap<&'static str, u64> {
        self.errors.clone()
    }

    pub(super) fn outcome(&self, message: MessageRef) -> Outcome {
        let own = self.outcomes.get(usize::from(message.publisher));
        own.and_then(|own| own.get(message.number as usize)).copied().unwrap_or(Outcome::Unsent)
    }

    /// The message of the same key that was taken before this one.
    pub(super) fn previous(&self, message: MessageRef) -> Option<MessageRef> {
        let own = self.previous.get(usize::from(message.publisher))?;
        let number = *own.get(message.number as usize)?;
        (number != NONE).then_some(MessageRef { number, ..message })
    }

    /// How many messages each publisher was about to send.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.outcomes.iter().map(Vec::len)
    }

    /// All messages that were taken.
    pub(super) fn taken(&self) -> impl Iterator<Item = MessageRef> {
        self.outcomes.iter().enumerate().flat_map(|(publisher, own)| {
            let taken = own.iter().enumerate().filter(|(_, outcome)| **outcome == Outcome::Taken);
            taken.map(move |(number, _)| MessageRef { publisher: publisher as u16, number: number as u32 })
        })
    }
}

/// For each message that was taken, the one of its key before it.
fn chain(publisher: u16, outcomes: &[Outcome], key: &impl Fn(MessageRef) -> Option<u32>) -> Vec<u32> {
    let (mut previous, mut last) = (vec![NONE; outcomes.len()], Vec::new());
    for (number, _) in outcomes.iter().enumerate().filter(|(_, outcome)| **outcome == Outcome::Taken) {
        let Some(key) = key(MessageRef { publisher, number: number as u32 }) else { continue };
        let key = key as usize;
        if last.len() <= key {
            last.resize(key + 1, NONE);
        }
        previous[number] = last[key];
        last[key] = number as u32;
    }
    previous
}
