//! What the conductor did: faults with their times, and how actors ended.

use super::Log;
use crate::fault::Fault;
use crate::record::{Ending, Kind};
use std::collections::HashMap;

/// A fault and its time, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultTime {
    /// What it was.
    pub fault: Fault,
    /// When it began.
    pub begin: u64,
    /// When it was over; the end of time where the run ended before.
    pub end: u64,
}

/// What the conductor wrote down.
#[derive(Default)]
pub(super) struct World {
    faults: Vec<FaultTime>,
    /// By the actor's code.
    ended: HashMap<u32, (u64, Ending)>,
    pub(super) redriven: bool,
}

impl World {
    pub(super) fn read<'l>(logs: impl Iterator<Item = Log<'l>>) -> Self {
        let (mut world, mut numbers) = (World::default(), HashMap::new());
        for record in logs.flat_map(|log| log.records) {
            match record.kind {
                Kind::Begins => {
                    if let Some(fault) = Fault::from_byte(record.detail) {
                        numbers.insert(record.extra, world.faults.len());
                        world.faults.push(FaultTime { fault, begin: record.time, end: u64::MAX });
                    }
                }
                Kind::Over => {
                    if let Some(place) = numbers.get(&record.extra) {
                        world.faults[*place].end = record.time;
                    }
                }
                Kind::Ended => {
                    let ending = match record.detail {
                        0 => Ending::Stopped,
                        1 => Ending::Killed,
                        _ => Ending::Crashed,
                    };
                    world.ended.insert(record.message.number, (record.time, ending));
                }
                Kind::Redriven => world.redriven = true,
                _ => {}
            }
        }
        world
    }

    pub(super) fn faults(&self) -> Vec<FaultTime> {
        self.faults.clone()
    }

    /// How an actor ended, where it had by this time.
    pub(super) fn ended_by(&self, actor: u32, time: u64) -> Option<Ending> {
        self.ended.get(&actor).filter(|(at, _)| *at <= time).map(|(_, ending)| *ending)
    }

    /// The last fault that could have moved a delivery between these times.
    pub(super) fn moving_between(&self, from: u64, to: u64, aftermath: u64) -> Option<Fault> {
        let overlaps = |fault: &&FaultTime| fault.begin <= to && fault.end.saturating_add(aftermath) >= from;
        let mut moving = self.faults.iter().filter(overlaps).filter(|fault| fault.fault.moves_deliveries());
        moving.next_back().map(|fault| fault.fault)
    }
}
