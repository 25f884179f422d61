//! Servers that we start: as processes of this machine, or in containers with the same configuration.

#[cfg(feature = "docker")]
mod docker;
mod elasticmq;
mod java;
mod kafka;
mod pubsub;
mod rabbitmq;
mod redis;
mod running;

use super::process::{Invocation, Signal};
use super::{Certificates, Endpoint, Error, Kind, Options, artifacts, ping};
pub(super) use running::Runner;
use running::Running;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// How long a server has to end in good order.
const ENDING: Duration = Duration::from_secs(20);
/// How often a server that starts is asked whether it is ready.
const POLL: Duration = Duration::from_millis(20);
/// How many lines of its log an error shows.
const SHOWN_LINES: usize = 30;
/// The user of every server that we start.
const USER: &str = "svc";
/// The password of every server that we start: letters that no configuration file takes for anything else.
const PASSWORD: &str = "Xq7vRt2mKz9w";

/// How to start a server: made once, used at each start.
pub(super) struct Plan {
    /// What is run, as a user would call it.
    program: String,
    run: Invocation,
    /// What is run once before, and the file that it makes.
    first: Option<(Invocation, PathBuf)>,
    endpoint: Endpoint,
    /// How long it may take until it is ready, on a slow and busy machine.
    patience: Duration,
}

/// Where a server's files go.
pub(super) struct Place<'p> {
    /// What it keeps.
    data: PathBuf,
    certificates: Certificates,
    folder: &'p Path,
}

impl Place<'_> {
    /// Writes a configuration file.
    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let file = self.folder.join(name);
        std::fs::write(&file, text).map(|()| file)
    }
}

/// A server that we started.
#[derive(Debug)]
pub(super) struct Native {
    kind: Kind,
    program: String,
    run: Invocation,
    endpoint: Endpoint,
    patience: Duration,
    runner: Runner,
    running: Mutex<Option<Running>>,
    folder: TempDir,
}

impl Native {
    /// Starts one, and returns when it is ready.
    pub(super) async fn start(kind: Kind, options: &Options, runner: Runner) -> Result<Self, Error> {
        let installed = runner.find(kind)?;
        let broken = |error: io::Error| Error::broken(kind, format!("preparing its start: {error}"));
        let folder = tempfile::Builder::new().prefix("ductape-").tempdir().map_err(broken)?;
        let place = prepare(folder.path()).map_err(broken)?;
        let plan = installed.plan(&place, options).map_err(broken)?;
        let Plan { program, run, first, endpoint, patience } = plan;
        let program = runner.describe(program);
        let running = Mutex::new(None);
        let server = Native { kind, program, run, endpoint, patience, runner, running, folder };
        if let Some((invocation, made)) = first {
            server.run_once(&invocation, &made).await?;
        }
        server.restart().await?;
        Ok(server)
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// Kills it where it runs, starts it and waits until it is ready.
    pub(super) async fn restart(&self) -> Result<(), Error> {
        let mut running = self.running.lock().await;
        if let Some(before) = running.take() {
            before.kill().await.map_err(|error| self.broken(error))?;
        }
        let started = running.insert(self.begin(&self.run).await?);
        self.ready(started).await
    }

    async fn begin(&self, invocation: &Invocation) -> Result<Running, Error> {
        let begun = self.runner.start(invocation, self.folder.path(), &self.log_file()).await;
        begun.map_err(|error| self.broken(error))
    }

    /// Runs something to its end; it failed where it did not make its file.
    async fn run_once(&self, invocation: &Invocation, made: &Path) -> Result<(), Error> {
        let mut running = self.begin(invocation).await?;
        running.wait(self.patience).await.map_err(|error| self.broken(error))?;
        if made.exists() { Ok(()) } else { Err(self.broken("preparing its data failed")) }
    }

    pub(super) async fn kill(&self) -> Result<(), Error> {
        match self.running.lock().await.take() {
            Some(running) => running.kill().await.map_err(|error| self.broken(error)),
            None => Ok(()),
        }
    }

    pub(super) async fn stop(&self) -> Result<(), Error> {
        match self.running.lock().await.take() {
            Some(running) => running.end(ENDING).await.map_err(|error| self.broken(error)),
            None => Ok(()),
        }
    }

    pub(super) async fn signal(&self, signal: Signal) -> Result<(), Error> {
        match &mut *self.running.lock().await {
            Some(running) => running.signal(signal).await.map_err(|error| self.broken(error)),
            None => Err(Error::broken(self.kind, "it does not run")),
        }
    }

    pub(super) async fn process_group(&self) -> Option<u32> {
        self.running.lock().await.as_ref()?.process_group()
    }

    /// The end of what it printed, over all its starts.
    pub(super) fn log(&self) -> String {
        let text = std::fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    async fn ready(&self, running: &mut Running) -> Result<(), Error> {
        let deadline = Instant::now() + self.patience;
        loop {
            let Err(error) = ping::ping(self.kind, &self.endpoint).await else { return Ok(()) };
            if running.has_ended().await.map_err(|error| self.broken(error))? {
                return Err(self.broken("it ended before it was ready"));
            }
            if Instant::now() >= deadline {
                return Err(self.broken(format!("it was not ready after {:?}: {error}", self.patience)));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn broken(&self, fault: impl std::fmt::Display) -> Error {
        let log = self.log();
        Error::broken(self.kind, format!("{fault}\n{}: {}\n{log}", self.kind, self.program))
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // Before the folder, which is dropped by itself.
        drop(self.running.get_mut().take());
    }
}

/// What of a kind is installed.
enum Installed {
    ElasticMq(java::Installed),
    Kafka(java::Installed),
    PubSub(java::Installed),
    RabbitMq(rabbitmq::Programs),
    Redis(PathBuf),
}

impl Installed {
    fn plan(&self, place: &Place<'_>, options: &Options) -> io::Result<Plan> {
        match self {
            Installed::ElasticMq(java) => elasticmq::plan(java, place, options),
            Installed::Kafka(java) => kafka::plan(java, place, options),
            Installed::PubSub(java) => pubsub::plan(java, options),
            Installed::RabbitMq(programs) => rabbitmq::plan(programs, place, options),
            Installed::Redis(program) => redis::plan(program, place, options),
        }
    }
}

/// Why no server of this kind can be started, and how to get it; none where one can.
pub(super) fn missing(kind: Kind) -> Option<String> {
    look(kind).err().map(|reason| format!("{reason}; {}", remedy(kind)))
}

/// How to get a server of this kind.
fn remedy(kind: Kind) -> String {
    match kind {
        Kind::PubSub => "get it from https://cloud.google.com/sdk, with the component pubsub-emulator".into(),
        _ => format!("`cargo xtask services install {kind}` gets it"),
    }
}

fn find(kind: Kind) -> Result<Installed, Error> {
    look(kind).map_err(|reason| {
        let variable = kind.variable();
        Error::missing(kind, format!("{reason}; {}, or name one: {variable}=host:port", remedy(kind)))
    })
}

fn look(kind: Kind) -> Result<Installed, String> {
    match kind {
        Kind::Kafka => java::find(&artifacts::KAFKA).map(Installed::Kafka),
        Kind::PubSub => pubsub::find().map(Installed::PubSub),
        Kind::RabbitMq => rabbitmq::find().map(Installed::RabbitMq),
        Kind::Redis => redis::find().map(Installed::Redis),
        Kind::Sqs => java::find(&artifacts::ELASTICMQ).map(Installed::ElasticMq),
    }
}

fn prepare(folder: &Path) -> io::Result<Place<'_>> {
    let data = folder.join("data");
    std::fs::create_dir(&data)?;
    let certificates = Certificates::generate(&folder.join("tls"))?;
    Ok(Place { data, certificates, folder })
}
