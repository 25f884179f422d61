//! The conductor: sets the stage, starts the actors, makes the faults, waits for the end, and has everything checked.

mod cast;
mod letters;
mod options;
mod perform;

pub use options::Options;

use crate::Fatal;
use crate::actor::Command;
use crate::actor_name::ActorName;
use crate::carrier::{self, Carrier, Home};
use crate::check::{Promises, Report, check_folder};
use crate::fault::Fault;
use crate::host::Host;
use crate::journal::{Journal, now};
use crate::load::Load;
use crate::measure::{Meter, Used, usage, usage_of_group};
use crate::plan::Plan;
use crate::schedule::{Scheduled, schedule};
use crate::stage::Stage;
use crate::timeline::{self, Sample};
use crate::watch::Watch;
use cast::Cast;
use ductape::Ductape;
use ductape::capability::Ordering;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often the conductor looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long work goes on before a fault hits it, at most.
const MOMENT: Duration = Duration::from_millis(60);
/// How often it takes a sample for the timeline.
const SAMPLE: Duration = Duration::from_millis(250);
/// How long nothing may move while there is something left to do. Longer than a provider needs to notice a dead member
/// or server.
const PATIENCE: Duration = Duration::from_secs(90);
/// Added to a drain timeout, it is how long a stop may take.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What a run came to.
#[derive(Debug)]
pub struct Ended {
    /// What the checker found.
    pub report: Report,
    /// Actors that ended by themselves.
    pub crashes: u64,
    /// Whether there were messages that kill their process.
    pub poisoned: bool,
    /// What was not tried of all that the provider promises, and why: faults that could not be made here, and order.
    pub skipped: Vec<(&'static str, String)>,
    /// What processes used: those that lived long enough for a slope.
    pub used: Vec<(String, Used)>,
    /// How long the run took.
    pub took: Duration,
    /// The picture.
    pub timeline: Option<PathBuf>,
    /// The logs, where they were kept.
    pub logs: Option<PathBuf>,
}

impl Ended {
    /// Whether every promise was kept, and nothing ended by itself that was not to.
    pub fn is_clean(&self) -> bool {
        self.report.is_clean() && (self.crashes == 0 || self.poisoned)
    }
}

/// A run under way.
struct Run {
    options: Options,
    carrier: &'static Carrier,
    plan: Plan,
    stage: Stage,
    journal: Journal,
    cast: Cast,
    watch: Watch,
    client: Ductape,
    samples: Vec<Sample>,
    sampled: Instant,
    meter: Meter,
    begun: Instant,
    faults: u32,
    /// The share of all messages that publishers may go up to for now.
    gate: f64,
    /// What could not be tried after all, and why.
    untried: Vec<(&'static str, String)>,
}

/// Runs the harness once.
///
/// # Errors
/// [`crate::Absent`] where the provider's server is not installed; whatever else keeps a run from its end.
pub async fn run(options: Options) -> Result<Ended, Fatal> {
    let carrier = carrier::of(&options.provider)?;
    let folder = TempDir::with_prefix("chaos-")?;
    let begun = Instant::now();
    let mut run = Run::set_up(options, carrier, folder.path().to_owned()).await?;
    let skipped = run.skipped();
    let wanted = run.wanted(&skipped);
    let scheduled = schedule(&wanted, run.options.kills, run.options.faults, run.options.seed);
    run.play(&scheduled).await?;
    let crashes = run.cast.crashes();
    let report = check_folder(&run.plan.folder, &Load::new(run.plan.publishers), &run.promises().await?)?;
    let timeline = run.draw(&report)?;
    let mut untried: Vec<_> = skipped.into_iter().map(|(fault, why)| (fault.name(), why)).collect();
    untried.append(&mut run.untried);
    untried.extend(carrier.unordered.map(|why| ("order by key", why.to_owned())));
    let (poisoned, used) = (!run.plan.poison.is_empty(), run.meter.used());
    let clean = report.is_clean() && (crashes == 0 || poisoned);
    // The stage goes before the folder that it is in.
    drop(run);
    let logs = if clean { None } else { Some(folder.keep()) };
    Ok(Ended { report, crashes, poisoned, skipped: untried, used, took: begun.elapsed(), timeline, logs })
}

impl Run {
    async fn set_up(options: Options, carrier: &'static Carrier, folder: PathBuf) -> Result<Self, Fatal> {
        let settings: Vec<_> = options.settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        let stage = Stage::set(carrier, &folder, &settings).await?;
        let plan = options.plan(carrier, folder);
        plan.save()?;
        let mut config = (carrier.config)(&stage.place);
        options.amend(&mut config);
        plan.save_catalogue(&config, true)?;
        let client = plan.client(plan.clock(false), None::<ductape::memory::MemoryProvider>).await?;
        let journal = Journal::create(&ActorName::Conductor.log(&plan.folder))?;
        let host = match carrier.home {
            Home::Process => Host::Runtimes,
            _ => Host::Processes(options.program.clone()),
        };
        let watch =
            Watch::new(&plan.folder, plan.publishers, plan.messages, plan.groups.len(), plan.attempts);
        let (cast, now) = (Cast::new(host), Instant::now());
        Ok(Run {
            options,
            carrier,
            plan,
            stage,
            journal,
            cast,
            watch,
            client,
            samples: Vec::new(),
            sampled: now,
            meter: Meter::default(),
            begun: now,
            faults: 0,
            gate: 1.0,
            untried: Vec::new(),
        })
    }

    /// What of the provider's faults cannot be made here.
    fn skipped(&self) -> Vec<(Fault, String)> {
        let possible = self.carrier.faults();
        let mut skipped = Vec::new();
        if possible.contains(&Fault::DiskFull) && self.stage.disk.is_none() {
            skipped.push((Fault::DiskFull, "no right to mount a small file system here".to_owned()));
        }
        skipped
    }

    fn wanted(&self, skipped: &[(Fault, String)]) -> Vec<Fault> {
        let mut faults = self.carrier.faults();
        faults.retain(|fault| !skipped.iter().any(|(other, _)| other == fault));
        if !self.options.only.is_empty() {
            faults.retain(|fault| self.options.only.contains(fault));
        }
        faults
    }

    async fn promises(&self) -> Result<Promises, Fatal> {
        let capabilities = self.client.capabilities(&self.plan.event, None).await?;
        Ok(Promises {
            groups: self.plan.groups.iter().map(|group| group.name.clone()).collect(),
            ordered: capabilities.ordering != Ordering::None && self.carrier.unordered.is_none(),
            acks_hold: self.carrier.acks_hold,
            attempts: u16::try_from(self.plan.attempts)?,
            aftermath: self.plan.lease + self.plan.request_timeout,
            to_the_end: self.options.limit.is_none(),
            stop_within: self.plan.drain_timeout + STOP_GRACE,
        })
    }

    /// The whole run.
    async fn play(&mut self, scheduled: &[Scheduled]) -> Result<(), Fatal> {
        self.client.ensure(&self.plan.event, None).await?;
        self.start_subscribers().await?;
        for index in 0..self.plan.publishers {
            self.start(ActorName::Publisher { index, life: 0 })?;
        }
        for (place, fault) in scheduled.iter().enumerate() {
            self.gate = fault.at;
            self.until("the next fault", |run| run.watch.progress() >= fault.at).await?;
            // What comes until the next fault is let go just before this one, so that it hits work under way, and so
            // that there is work left however long it takes.
            self.gate = scheduled.get(place + 1).map_or(1.0, |next| next.at);
            self.hold(MOMENT.mul_f64(fault.length)).await?;
            self.perform(fault).await?;
        }
        self.gate = 1.0;
        self.until("the last publish", |run| run.all_sent()).await?;
        self.stop_publishers().await?;
        // What is left then is what the checker is for.
        if self.options.limit.is_none() {
            let poison = self.plan.poison.len() as u64;
            drop(self.until("the last delivery", |run| run.watch.lag() <= poison).await);
            self.wait_for_convicts().await?;
        }
        self.stop_subscribers().await?;
        self.dead_letters().await
    }

    fn all_sent(&self) -> bool {
        if self.options.limit.is_some_and(|limit| self.begun.elapsed() >= limit) {
            return true;
        }
        (0..self.plan.publishers).all(|index| self.watch.sent_by(index) >= self.plan.messages)
    }

    /// Looks until something is so, for as long as anything moves.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Run) -> bool) -> Result<(), Fatal> {
        let (mut moved, mut changes) = (Instant::now(), self.watch.changes());
        loop {
            self.look().await?;
            if is_so(self) {
                return Ok(());
            }
            if self.watch.changes() != changes {
                (moved, changes) = (Instant::now(), self.watch.changes());
            }
            if moved.elapsed() > PATIENCE {
                let logs = self.plan.folder.display();
                return Err(
                    format!("nothing moved for {PATIENCE:?} while waiting for {what} ({logs})").into()
                );
            }
            // tidy: sleeps because the condition is looked at anew after it.
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets the run go on for so long.
    async fn hold(&mut self, time: Duration) -> Result<(), Fatal> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look().await?;
            // tidy: sleeps because a fault lasts as long as the plan says.
            tokio::time::sleep(LOOK.min(end.saturating_duration_since(Instant::now()))).await;
        }
        Ok(())
    }

    /// One look: reads logs, gives publishers leave to go on, starts anew what ended, takes a sample.
    async fn look(&mut self) -> Result<(), Fatal> {
        self.watch.look()?;
        let window = self.options.window.unwrap_or(self.carrier.window);
        if self.watch.lag() < window / 2 {
            let share = (window / 2 / u64::from(self.plan.publishers.max(1))).max(1);
            for index in 0..self.plan.publishers {
                let gate = (f64::from(self.plan.messages) * self.gate).ceil() as u32;
                let up_to = u64::from(self.watch.sent_by(index)) + share;
                let up_to = u32::try_from(up_to).unwrap_or(u32::MAX).min(gate);
                if let Some(publisher) = self.cast.publisher(index) {
                    publisher.tell(Command::UpTo(up_to)).await;
                }
            }
        }
        for name in self.cast.take_crashed(&self.journal).await? {
            self.start(name.reborn())?;
        }
        if self.sampled.elapsed() >= SAMPLE {
            self.sampled = Instant::now();
            let handled = (0..self.plan.groups.len()).map(|group| self.watch.handled(group));
            let sample = Sample { time: now(), published: self.watch.sent(), handled: handled.collect() };
            self.samples.push(sample);
            let second = self.begun.elapsed().as_secs_f64();
            self.meter.note(ActorName::Conductor, usage(std::process::id()), second);
            for (name, process) in self.cast.processes() {
                self.meter.note(name, usage(process), second);
            }
            self.meter.note("server", self.stage.server_group().await.and_then(usage_of_group), second);
        }
        Ok(())
    }

    fn draw(&self, report: &Report) -> Result<Option<PathBuf>, Fatal> {
        let Some(folder) = &self.options.out else { return Ok(None) };
        std::fs::create_dir_all(folder)?;
        let file =
            folder.join(format!("{}-{}.svg", self.carrier.kind.to_ascii_lowercase(), self.options.seed));
        let title = format!(
            "{}: {} messages, {} faults, seed {}",
            self.carrier.kind,
            u64::from(self.plan.messages) * u64::from(self.plan.publishers),
            report.faults.len(),
            self.options.seed
        );
        std::fs::write(&file, timeline::draw(&title, &self.samples, report))?;
        Ok(Some(file))
    }
}
