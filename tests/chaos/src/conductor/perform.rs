//! Making faults.

use super::Run;
use crate::Fatal;
use crate::actor::Command;
use crate::actor_name::ActorName;
use crate::fault::Fault;
use crate::load::Load;
use crate::record::{Kind, Record};
use crate::schedule::Scheduled;
use std::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How far a clock jumps.
const JUMP: Duration = Duration::from_secs(20);
/// Times that a rebalance storm moves everybody.
const ROUNDS: usize = 3;

impl Run {
    /// Makes a fault, from its begin to its end.
    pub(super) async fn perform(&mut self, scheduled: &Scheduled) -> Result<(), Fatal> {
        let number = self.faults;
        self.faults += 1;
        self.journal.write(Record::new(Kind::Begins).detail(scheduled.fault as u8).extra(number));
        match scheduled.fault {
            Fault::PublisherKill | Fault::SubscriberKill => self.kill_one(scheduled).await?,
            Fault::PublisherStall | Fault::SubscriberStall => self.stall_one(scheduled).await?,
            Fault::SubscriberStop => self.stop_one(scheduled).await?,
            Fault::Rebalance => self.rebalance().await?,
            Fault::ClockJump => self.jump(scheduled).await?,
            Fault::DiskFull => self.fill_disk(scheduled).await?,
            Fault::Panic => self.tell_one(scheduled, Command::Panic(5)).await,
            Fault::Hang => self.tell_one(scheduled, Command::Hang(1)).await,
            Fault::SlowKey => {
                let key = Load::new(self.plan.publishers).tail_number(scheduled.target).to_owned();
                self.tell_one(scheduled, Command::Slow(key, ms(2000))).await;
            }
            #[cfg(feature = "servers")]
            Fault::ServerKill | Fault::ServerStall => self.break_server(scheduled).await?,
            #[cfg(feature = "servers")]
            Fault::Cut | Fault::NetworkStall | Fault::HalfOpen | Fault::AnswersLost | Fault::Slow => {
                self.break_network(scheduled).await?;
            }
            #[cfg(not(feature = "servers"))]
            other => return Err(format!("{other} needs a server").into()),
        }
        self.journal.write(Record::new(Kind::Over).extra(number));
        Ok(())
    }

    /// Chooses a publisher or a subscriber, as the fault has it.
    fn choose(&mut self, scheduled: &Scheduled) -> Option<ActorName> {
        let publishers = matches!(scheduled.fault, Fault::PublisherKill | Fault::PublisherStall);
        let chosen = self.cast.one(scheduled.target, |name| name.is_subscriber() != publishers)?;
        Some(chosen.name)
    }

    async fn kill_one(&mut self, scheduled: &Scheduled) -> Result<(), Fatal> {
        match self.choose(scheduled) {
            Some(name) => self.kill(name, scheduled.between(ms(0), ms(1500))).await,
            None => Ok(()),
        }
    }

    async fn stall_one(&mut self, scheduled: &Scheduled) -> Result<(), Fatal> {
        let lease = self.plan.lease;
        let time = match scheduled.fault {
            Fault::SubscriberStall => scheduled.between(lease.mul_f64(0.5), lease.mul_f64(2.0)),
            _ => scheduled.between(ms(200), ms(3000)),
        };
        let Some(name) = self.choose(scheduled) else { return Ok(()) };
        self.stand_still(name, true)?;
        let held = self.hold(time).await;
        self.stand_still(name, false)?;
        held
    }

    fn stand_still(&mut self, name: ActorName, still: bool) -> Result<(), Fatal> {
        match self.cast.one(0, |other| other == name) {
            Some(running) => running.stand_still(still),
            None => Ok(()),
        }
    }

    async fn stop_one(&mut self, scheduled: &Scheduled) -> Result<(), Fatal> {
        let Some(name) = self.choose(scheduled) else { return Ok(()) };
        self.stop(name).await?;
        self.hold(scheduled.between(ms(0), ms(1000))).await?;
        self.start(name.reborn())
    }

    /// All but the first member of each group go and come, one after another, without waiting for each other.
    async fn rebalance(&mut self) -> Result<(), Fatal> {
        for _ in 0..ROUNDS {
            let moved =
                |name: &ActorName| matches!(name, ActorName::Subscriber { member, .. } if *member > 0);
            let names: Vec<_> = self.cast.all().map(|running| running.name).filter(moved).collect();
            for name in names {
                self.stop(name).await?;
                self.start(name.reborn())?;
            }
        }
        Ok(())
    }

    /// A member lives ahead of its time for a while. It ends with its clock, which is right again after a restart.
    async fn jump(&mut self, scheduled: &Scheduled) -> Result<(), Fatal> {
        let last = self.options.members.saturating_sub(1);
        let jumpy = |name| matches!(name, ActorName::Subscriber { member, .. } if member == last);
        let Some(running) = self.cast.one(scheduled.target, jumpy) else { return Ok(()) };
        let name = running.name;
        running.tell(Command::Jump(JUMP)).await;
        self.hold(scheduled.between(ms(200), ms(2000))).await?;
        if self.plan.one_clock {
            // Everybody's clock has jumped, and so nobody's is wrong.
            return Ok(());
        }
        self.stop(name).await?;
        self.start(name.reborn())
    }

    async fn tell_one(&mut self, scheduled: &Scheduled, command: Command) {
        if let Some(running) = self.cast.one(scheduled.target, ActorName::is_subscriber) {
            running.tell(command).await;
        }
    }

    async fn fill_disk(&mut self, scheduled: &Scheduled) -> Result<(), Fatal> {
        if let Some(disk) = &self.stage.disk {
            disk.fill()?;
        }
        let held = self.hold(scheduled.between(ms(300), ms(2000))).await;
        if let Some(disk) = &self.stage.disk {
            disk.free()?;
        }
        held
    }

    #[cfg(feature = "servers")]
    async fn break_server(&mut self, scheduled: &Scheduled) -> Result<(), Fatal> {
        let Some(served) = &self.stage.server else { return Ok(()) };
        if scheduled.fault == Fault::ServerKill {
            served.server.kill().await?;
            self.hold(scheduled.between(ms(0), ms(2000))).await?;
            if let Some(served) = &self.stage.server {
                served.server.restart().await?;
            }
            return Ok(());
        }
        served.server.stall().await?;
        let held = self.hold(scheduled.between(ms(500), ms(8000))).await;
        if let Some(served) = &self.stage.server {
            served.server.resume().await?;
        }
        held
    }

    #[cfg(feature = "servers")]
    async fn break_network(&mut self, scheduled: &Scheduled) -> Result<(), Fatal> {
        let Some(served) = &self.stage.server else { return Ok(()) };
        let time = match scheduled.fault {
            Fault::Cut => {
                served.proxy.cut();
                return Ok(());
            }
            Fault::Slow => {
                served.proxy.delay(ms(50));
                served.proxy.rate(500_000);
                scheduled.between(ms(1000), ms(4000))
            }
            Fault::HalfOpen => {
                served.proxy.half_open();
                scheduled.between(ms(500), ms(8000))
            }
            Fault::AnswersLost => {
                served.proxy.drop_answers();
                scheduled.between(ms(500), ms(4000))
            }
            _ => {
                served.proxy.stall();
                scheduled.between(ms(500), ms(8000))
            }
        };
        let held = self.hold(time).await;
        if let Some(served) = &self.stage.server {
            served.proxy.resume();
        }
        held
    }
}
