//! Who runs.

use super::{PATIENCE, Run};
use crate::Fatal;
use crate::actor::{Command, Start};
use crate::actor_name::ActorName;
use crate::host::{Host, Running};
use crate::journal::Journal;
use crate::record::{Ending, Kind, MessageRef, Record};
use std::time::{Duration, Instant};

/// All actors that run.
#[derive(Debug)]
pub(super) struct Cast {
    host: Host,
    running: Vec<Running>,
    crashes: u64,
}

impl Cast {
    pub(super) fn new(host: Host) -> Self {
        Cast { host, running: Vec::new(), crashes: 0 }
    }

    pub(super) fn crashes(&self) -> u64 {
        self.crashes
    }

    /// The publisher of this index.
    pub(super) fn publisher(&mut self, wanted: u16) -> Option<&mut Running> {
        self.running
            .iter_mut()
            .find(|running| matches!(running.name, ActorName::Publisher { index, .. } if index == wanted))
    }

    /// One that is fit for a fault: an index into them, by its remainder.
    pub(super) fn one(&mut self, target: u64, fit: impl Fn(ActorName) -> bool) -> Option<&mut Running> {
        let mut fit: Vec<&mut Running> =
            self.running.iter_mut().filter(|running| fit(running.name)).collect();
        if fit.is_empty() {
            return None;
        }
        let index = target as usize % fit.len();
        Some(fit.swap_remove(index))
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Running> {
        self.running.iter_mut()
    }

    /// The processes of all that have one of their own.
    pub(super) fn processes(&self) -> Vec<(ActorName, u32)> {
        self.running.iter().filter_map(|running| Some((running.name, running.process()?))).collect()
    }

    fn take(&mut self, name: ActorName) -> Option<Running> {
        let place = self.running.iter().position(|running| running.name == name)?;
        Some(self.running.swap_remove(place))
    }

    /// Takes away who ended without having been told to.
    pub(super) async fn take_crashed(&mut self, journal: &Journal) -> Result<Vec<ActorName>, Fatal> {
        let mut crashed = Vec::new();
        for running in &mut self.running {
            if !running.stopping && running.ended().await?.is_some() {
                crashed.push(running.name);
            }
        }
        for name in &crashed {
            drop(self.take(*name));
            self.crashes += 1;
            ended(journal, *name, Ending::Crashed);
        }
        Ok(crashed)
    }
}

fn ended(journal: &Journal, name: ActorName, how: Ending) {
    let actor = MessageRef { publisher: 0, number: name.code() };
    journal.write(Record::of(Kind::Ended, actor).detail(how as u8));
}

impl Run {
    /// Starts an actor. The last member of each group has a clock that can be made to jump.
    pub(super) fn start(&mut self, name: ActorName) -> Result<(), Fatal> {
        let last = self.options.members.saturating_sub(1);
        let jumpy = matches!(name, ActorName::Subscriber { member, .. } if member == last);
        let running = self.cast.host.start(&self.plan, Start { name, jumpy })?;
        self.cast.running.push(running);
        self.watch.follow(name);
        Ok(())
    }

    /// Starts every member of every group, and waits until they are there.
    pub(super) async fn start_subscribers(&mut self) -> Result<(), Fatal> {
        let mut names = Vec::new();
        for (group, plan) in self.plan.groups.iter().enumerate() {
            let group = group as u8;
            names.extend((0..plan.members).map(|member| ActorName::Subscriber { group, member, life: 0 }));
        }
        for name in &names {
            self.start(*name)?;
        }
        self.until("the subscribers", |run| names.iter().all(|name| run.watch.is_ready(*name))).await
    }

    /// Kills an actor, and starts it anew after a while.
    pub(super) async fn kill(&mut self, name: ActorName, pause: Duration) -> Result<(), Fatal> {
        if let Some(mut running) = self.cast.take(name) {
            running.kill().await?;
            ended(&self.journal, name, Ending::Killed);
        }
        self.hold(pause).await?;
        self.start(name.reborn())
    }

    /// Tells an actor to stop, and waits until it has.
    pub(super) async fn stop(&mut self, name: ActorName) -> Result<(), Fatal> {
        let Some(mut running) = self.cast.take(name) else { return Ok(()) };
        running.tell(Command::Stop).await;
        let begun = Instant::now();
        loop {
            if let Some(well) = running.ended().await? {
                let how = if well { Ending::Stopped } else { Ending::Crashed };
                self.cast.crashes += u64::from(!well);
                ended(&self.journal, name, how);
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                running.kill().await?;
                ended(&self.journal, name, Ending::Killed);
                return Err(format!("{name} did not stop within {PATIENCE:?}").into());
            }
            self.hold(super::LOOK).await?;
        }
    }

    pub(super) async fn stop_publishers(&mut self) -> Result<(), Fatal> {
        self.stop_all(|name| matches!(name, ActorName::Publisher { .. })).await
    }

    pub(super) async fn stop_subscribers(&mut self) -> Result<(), Fatal> {
        self.stop_all(ActorName::is_subscriber).await
    }

    async fn stop_all(&mut self, which: impl Fn(ActorName) -> bool) -> Result<(), Fatal> {
        let names: Vec<_> = self.cast.all().map(|running| running.name).filter(|name| which(*name)).collect();
        for running in self.cast.all().filter(|running| which(running.name)) {
            running.tell(Command::Stop).await;
        }
        for name in names {
            self.stop(name).await?;
        }
        Ok(())
    }
}
