//! The end of a run: its dead letters are read, written down, redriven, and read again.

use super::Run;
use crate::Fatal;
use crate::actor_name::ActorName;
use crate::load::{IDENTITY, read_identity};
use crate::record::{Kind, Record};
use ductape::{Clock, LetterFilter, Message};
use std::time::{Duration, Instant};

/// How long the provider has to show its dead letters, after whatever was broken.
const READ_WITHIN: Duration = Duration::from_secs(60);

impl Run {
    pub(super) async fn dead_letters(&mut self) -> Result<(), Fatal> {
        let letters = match self.read_letters().await {
            // A server that is full to the brim may not even make the group that reads them.
            Err(error) if self.options.limit.is_some() => {
                self.untried.push(("dead letters", error.to_string()));
                return Ok(());
            }
            read => read?,
        };
        for letter in &letters {
            if let Some((group, record)) = self.record(letter) {
                self.journal.write(record);
                self.watch.expect_redriven(group, record.message);
            }
        }
        // Where the run does not go on to its end, they would come after all of a backlog.
        if !self.plan.poison.is_empty() || self.options.limit.is_some() {
            return Ok(());
        }
        let begun = Clock::system().now();
        self.redrive(letters.len()).await?;
        self.journal.write(Record::new(Kind::Redriven));
        for letter in self.read_letters().await? {
            // What died since is no leftover: a duplicate of a message that is rejected is rejected again.
            let is_left = letter.dead_letter().is_some_and(|dead| dead.failed_at <= begun);
            if let Some((_, record)) = self.record(&letter).filter(|_| is_left) {
                self.journal.write(Record { kind: Kind::Leftover, ..record });
            }
        }
        Ok(())
    }

    /// Waits until what kills its process is among the dead letters of every group, for as long as it goes on killing:
    /// each time its lease has to run out before it comes again.
    pub(super) async fn wait_for_convicts(&mut self) -> Result<(), Fatal> {
        let wanted = self.plan.poison.len() * self.plan.groups.len();
        let (mut crashes, mut crashed) = (self.cast.crashes(), Instant::now());
        while wanted > 0
            && self.read_letters().await?.len() < wanted
            && crashed.elapsed() < READ_WITHIN + self.carrier.lease
        {
            self.hold(Duration::from_millis(500)).await?;
            if self.cast.crashes() > crashes {
                (crashes, crashed) = (self.cast.crashes(), Instant::now());
            }
        }
        Ok(())
    }

    fn record(&self, letter: &Message) -> Option<(u8, Record)> {
        let message = read_identity(letter.headers.get(IDENTITY)?.as_str()?)?;
        let dead = letter.dead_letter()?;
        // The default group's name is the provider's, so whatever is no other group is the default one.
        let named = self.plan.groups.iter().position(|group| group.group.as_deref() == Some(&*dead.group));
        let group = named.unwrap_or(0) as u8;
        Some((group, Record::of(Kind::Dead, message).detail(group).attempt(dead.attempts)))
    }

    /// Subscribers come back for the redriven ones, and stop when they have handled them.
    async fn redrive(&mut self, count: usize) -> Result<(), Fatal> {
        if count == 0 {
            return Ok(());
        }
        for group in 0..self.plan.groups.len() as u8 {
            // A life that nobody has had: each fault of the run starts one at most.
            self.start(ActorName::Subscriber { group, member: 0, life: u16::MAX })?;
        }
        let (mut taken, begun) = (0, Instant::now());
        // Who lived ahead of its time left letters of times that are still to come; those are not redriven before.
        while taken < count as u64 && begun.elapsed() < READ_WITHIN {
            let letters = self.client.broker().dead_letters(&self.plan.event, None).await?;
            match letters.redrive(LetterFilter::All).await?.taken {
                0 => self.hold(Duration::from_millis(500)).await?,
                some => taken += some,
            }
        }
        // What is left then is what the checker is for.
        drop(self.until("the redriven letters", |run| run.watch.redriven_open() == 0).await);
        self.stop_subscribers().await
    }

    /// All dead letters. A provider that has just been broken may need a moment.
    async fn read_letters(&self) -> Result<Vec<Message>, Fatal> {
        let begun = Instant::now();
        loop {
            let read = async {
                let letters = self.client.broker().dead_letters(&self.plan.event, None).await?;
                letters.list(usize::MAX).await
            };
            match read.await {
                Ok(letters) => return Ok(letters),
                Err(error) if begun.elapsed() > READ_WITHIN => return Err(error.into()),
                // tidy: sleeps because a server that just came back is asked again a little later.
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }
}
