//! Hosts of actors: a process, or a runtime of this one where the provider lives in a single process.

use crate::Fatal;
use crate::actor::{self, Command, Start};
use crate::actor_name::ActorName;
use crate::plan::Plan;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long a runtime that is killed has to end its threads.
const LAST_MOMENT: Duration = Duration::from_secs(10);

/// How actors are hosted.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    /// Each in a process of this program, which must understand `actor FOLDER NAME JUMPY`.
    Processes(PathBuf),
    /// Each in a runtime of this process.
    Runtimes,
}

/// An actor that runs, or has run.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: ActorName,
    /// Whether it was told to stop, so that its end is no surprise.
    pub(crate) stopping: bool,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Process { child: Child, input: Option<ChildStdin> },
    Runtime { runtime: Option<Runtime>, controls: mpsc::UnboundedSender<Command>, work: JoinHandle<bool> },
}

impl Host {
    /// Starts an actor.
    pub(crate) fn start(&self, plan: &Plan, start: Start) -> Result<Running, Fatal> {
        let body = match self {
            Host::Processes(program) => process(program, plan, start)?,
            Host::Runtimes => runtime(plan, start)?,
        };
        Ok(Running { name: start.name, stopping: false, body })
    }
}

fn process(program: &Path, plan: &Plan, start: Start) -> Result<Body, Fatal> {
    let said = std::fs::File::create(plan.folder.join(format!("{}.said", start.name)))?;
    let mut child = tokio::process::Command::new(program)
        .arg("actor")
        .arg(&plan.folder)
        .arg(start.name.to_string())
        .arg(start.jumpy.to_string())
        // What a panic reads to tell its calls would count as memory of the actor: all of its program.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(said)
        .kill_on_drop(true)
        .spawn()?;
    let input = child.stdin.take();
    Ok(Body::Process { child, input })
}

fn runtime(plan: &Plan, start: Start) -> Result<Body, Fatal> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (controls, heard) = mpsc::unbounded_channel();
    let plan = plan.clone();
    let work = runtime.spawn(async move { actor::run(plan, start, heard).await.is_ok() });
    Ok(Body::Runtime { runtime: Some(runtime), controls, work })
}

impl Running {
    /// Tells it something. One that is gone hears nothing.
    pub(crate) async fn tell(&mut self, command: Command) {
        self.stopping |= command == Command::Stop;
        match &mut self.body {
            Body::Process { input: Some(input), .. } => {
                let line = format!("{command}\n");
                // A process that stands still reads later, so a full pipe must not hold up the conductor.
                let told = tokio::time::timeout(Duration::from_millis(100), input.write_all(line.as_bytes()));
                drop(told.await);
            }
            Body::Process { .. } => {}
            Body::Runtime { controls, .. } => drop(controls.send(command)),
        }
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(&mut self) -> Result<(), Fatal> {
        match &mut self.body {
            Body::Process { child, .. } => {
                child.start_kill()?;
                child.wait().await?;
            }
            Body::Runtime { runtime, .. } => {
                if let Some(runtime) = runtime.take() {
                    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(LAST_MOMENT)).await?;
                }
            }
        }
        Ok(())
    }

    /// Lets its process stand still, or go on. A runtime cannot.
    pub(crate) fn stand_still(&self, still: bool) -> Result<(), Fatal> {
        if let Body::Process { child, .. } = &self.body
            && let Some(id) = child.id()
        {
            let signal = if still { Signal::SIGSTOP } else { Signal::SIGCONT };
            kill(Pid::from_raw(id.try_into()?), signal)?;
        }
        Ok(())
    }

    /// Whether it has ended, and then whether in good order.
    pub(crate) async fn ended(&mut self) -> Result<Option<bool>, Fatal> {
        match &mut self.body {
            Body::Process { child, .. } => Ok(child.try_wait()?.map(|status| status.success())),
            Body::Runtime { work, runtime, .. } if work.is_finished() => {
                let well = work.await.unwrap_or(false);
                if let Some(runtime) = runtime.take() {
                    runtime.shutdown_background();
                }
                Ok(Some(well))
            }
            Body::Runtime { .. } => Ok(None),
        }
    }

    /// The id of its process, where it has one of its own.
    pub(crate) fn process(&self) -> Option<u32> {
        match &self.body {
            Body::Process { child, .. } => child.id(),
            Body::Runtime { .. } => None,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Body::Runtime { runtime, .. } = &mut self.body
            && let Some(runtime) = runtime.take()
        {
            runtime.shutdown_background();
        }
    }
}
