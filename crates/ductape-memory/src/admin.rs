//! Destinations and groups: made, looked at, forgotten.

use crate::broker::MemoryBroker;
use crate::error;
use crate::log::Limits;
use ductape_core::broker::{GroupInspection, Inspection, Provision};
use ductape_core::{Destination, Result};

impl MemoryBroker {
    /// Makes the destination and its default group where they are not there, and compares the bounds.
    pub(crate) fn ensure_now(&self, destination: &Destination) -> Result<()> {
        let place = match destination.provision {
            Provision::Create => self.0.store.get_or_make(&destination.name, &self.0.limits),
            Provision::Verify => self.0.store.get(&destination.name)?,
        };
        let mut state = place.lock();
        compare(&destination.name, state.log.limits(), &self.0.limits)?;
        state.group_or_new(&destination.default_group, false);
        Ok(())
    }

    /// What is kept, and how far each group is. Leases and delays that have ended count as ended only once
    /// somebody receives or settles, since looking changes nothing.
    pub(crate) fn inspect_now(&self, destination: &Destination) -> Result<Inspection> {
        let place = self.0.store.get(&destination.name)?;
        let state = place.lock();
        let (messages, bytes) = state.log.kept();
        let groups = state.groups.iter().map(|group| GroupInspection {
            name: group.name.to_string(),
            lag: Some(group.lag(&state.log)),
            in_flight: group.in_flight() as u64,
            members: Some(group.members() as u64),
        });
        Ok(Inspection {
            messages: Some(messages as u64),
            bytes: Some(bytes as u64),
            groups: groups.collect(),
            notes: Vec::new(),
        })
    }

    /// Forgets a group; its consumers are told at their next call, or now if they wait.
    pub(crate) fn delete_group_now(&self, destination: &Destination, name: &str) -> Result<()> {
        let place = self.0.store.get(&destination.name)?;
        let mut state = place.lock();
        let index = state.groups.iter().position(|group| *group.name == *name);
        let index = index.ok_or_else(|| error::no_group(&destination.name, name))?;
        let group = state.groups.remove(index);
        for number in group.unsettled(&state.log) {
            state.log.settled(number);
        }
        place.tell_room(&state);
        group.changed.notify_waiters();
        Ok(())
    }
}

fn compare(destination: &str, has: &Limits, wants: &Limits) -> Result<()> {
    let settings = [
        ("maxMessages", has.max_messages, wants.max_messages),
        ("maxBytes", has.max_bytes, wants.max_bytes),
        ("retainMessages", has.retain, wants.retain),
    ];
    match settings.into_iter().find(|(_, has, wants)| has != wants) {
        Some((setting, has, wants)) => Err(error::mismatch(destination, setting, has, wants)),
        None => Ok(()),
    }
}
