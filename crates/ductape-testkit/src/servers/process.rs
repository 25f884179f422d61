//! A server as a process that cannot outlive its owner.
//!
//! ```text
//!  this process ──pipe──▶ sh (leader of a process group)
//!        │                 ├─ the server            its end ends the group
//!        └──signals──────▶ └─ sh: reads the pipe    its end (we are gone) kills the server and removes the folder
//! ```
//!
//! The pipe closes however this process ends, be it by SIGKILL, so that nothing has to run at its end. A system call
//! that would ask the kernel for the same between fork and exec is unsafe code, and Linux' alone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// `$1` is the folder, what follows is the command. Prints the server's process id.
///
/// The mark tells an end for which the reader is to blame from all others, which keep the folder for the next start.
const SUPERVISOR: &str = r#"
exec 3<&0 </dev/null
folder=$1; shift
"$@" >&2 3<&- &
server=$!
{ read -r line; : >"$folder/.abandoned"; kill -KILL "$server"; } <&3 >&2 &
reader=$!
echo "$server"
exec >&2 3<&-
wait "$server"
echo "-- ended with code $?"; exec 2>/dev/null
if [ -e "$folder/.abandoned" ]; then rm -rf "$folder"; fi
kill -KILL "$reader"
wait "$reader"
kill -KILL 0
"#;

/// How long the system may take to end a process that was killed.
const DYING: Duration = Duration::from_secs(10);
/// How often a process is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);

/// A command that can be run again.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) variables: Vec<(&'static str, OsString)>,
}

impl Invocation {
    pub(super) fn new<A: Into<OsString>>(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Invocation {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            variables: Vec::new(),
        }
    }

    pub(super) fn with_variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }
}

/// What a process can be told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    /// End at once.
    Kill,
    /// End in good order.
    End,
    /// Stand still.
    Stall,
    /// Go on.
    Resume,
}

/// A process that runs, or has ended by itself. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    supervisor: Child,
    /// The server's own process.
    server: u32,
    /// Its closing tells the supervisor that nobody owns the server any more.
    _owner: Option<ChildStdin>,
}

impl Process {
    /// Starts it. What it prints goes to the end of `log`. `folder` is removed if this process ends before the server.
    pub(super) fn start(invocation: &Invocation, folder: &Path, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISOR, "sh"]).arg(folder);
        command.arg(&invocation.program).args(&invocation.arguments);
        command.envs(invocation.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).current_dir(folder);
        // Away from the terminal's Ctrl-C, which must not end the supervisor before the server.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut supervisor = command.spawn()?;
        let owner = supervisor.stdin.take();
        match read_id(&mut supervisor) {
            Ok(server) => Ok(Process { supervisor, server, _owner: owner }),
            Err(error) => {
                let _ = supervisor.kill();
                let _ = supervisor.wait();
                Err(error)
            }
        }
    }

    /// Whether it has ended, be it by itself.
    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.supervisor.try_wait()?.is_some())
    }

    /// The process group of the server and of all that it starts.
    pub(super) fn group(&self) -> u32 {
        self.supervisor.id()
    }

    /// Tells it to the server alone: the supervisor must be able to act while the server stands still.
    pub(super) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.has_ended()? {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it does not run"));
        }
        send(self.server, signal)
    }

    /// Kills it (SIGKILL) and waits until the system has it ended, its ports closed and its files released.
    pub(super) async fn kill(mut self) -> io::Result<()> {
        let _ = self.signal(Signal::Kill);
        self.wait(DYING).await
    }

    /// Ends it in good order (SIGTERM); after `patience` it is killed.
    pub(super) async fn end(mut self, patience: Duration) -> io::Result<()> {
        let _ = self.signal(Signal::Resume);
        let _ = self.signal(Signal::End);
        match self.wait(patience).await {
            Ok(()) => Ok(()),
            Err(_) => self.kill().await,
        }
    }

    /// Waits until it has ended by itself.
    pub(super) async fn wait(&mut self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        while !self.has_ended()? {
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("it did not end in {patience:?}"),
                ));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.signal(Signal::Kill);
        let deadline = Instant::now() + DYING;
        while matches!(self.has_ended(), Ok(false)) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        // Reaps it; where the deadline passed it is the supervisor that hangs.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

/// The server's process id, which the supervisor prints first.
fn read_id(supervisor: &mut Child) -> io::Result<u32> {
    let mut line = String::new();
    if let Some(output) = supervisor.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    line.trim().parse().map_err(|_| io::Error::other(format!("the supervisor said `{}`", line.trim())))
}

#[cfg(unix)]
fn send(process: u32, signal: Signal) -> io::Result<()> {
    use nix::sys::signal::{Signal as Unix, kill};
    let signal = match signal {
        Signal::Kill => Unix::SIGKILL,
        Signal::End => Unix::SIGTERM,
        Signal::Stall => Unix::SIGSTOP,
        Signal::Resume => Unix::SIGCONT,
    };
    let process = i32::try_from(process).map_err(io::Error::other)?;
    kill(nix::unistd::Pid::from_raw(process), signal).map_err(io::Error::from)
}

#[cfg(not(unix))]
fn send(_: u32, signal: Signal) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{signal:?} is not known to this system")))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        folder: tempfile::TempDir,
    }

    impl Rig {
        fn new() -> Self {
            Rig { folder: tempfile::tempdir().unwrap() }
        }

        /// Runs a script in the rig's folder.
        fn start(&self, script: &str) -> Process {
            let invocation = Invocation::new("sh", ["-c", script]).with_variable("WORD", "said");
            Process::start(&invocation, self.folder.path(), &self.log()).unwrap()
        }

        fn log(&self) -> PathBuf {
            self.folder.path().join("log")
        }
    }

    fn runs(process: u32) -> bool {
        // A zombie of a parent that does not wait counts as ended.
        let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "{what} did not happen");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_it_prints_and_how_it_ended_is_in_the_log() {
        let rig = Rig::new();
        let mut process = rig.start("echo $WORD; echo loudly >&2; exit 7");
        process.wait(DYING).await.unwrap();
        let log = std::fs::read_to_string(rig.log()).unwrap();
        assert_eq!(log, "said\nloudly\n-- ended with code 7\n");
        assert!(process.signal(Signal::Kill).is_err(), "it is gone");
    }

    #[tokio::test]
    async fn killed_and_dropped_it_ends_and_the_folder_stays() {
        let rig = Rig::new();
        let (one, two) = (rig.start("exec sleep 1000"), rig.start("exec sleep 1000"));
        let servers = [one.server, two.server];
        assert!(servers.into_iter().all(runs));
        one.kill().await.unwrap();
        drop(two);
        assert!(!servers.into_iter().any(runs));
        assert!(rig.folder.path().exists());
    }

    #[tokio::test]
    async fn it_is_asked_to_end_before_it_is_killed() {
        let rig = Rig::new();
        let process = rig.start("trap 'echo in order; exit 0' TERM; echo ready; while :; do :; done");
        until("its start", || std::fs::read_to_string(rig.log()).is_ok_and(|log| log.contains("ready")))
            .await;
        process.end(DYING).await.unwrap();
        assert!(std::fs::read_to_string(rig.log()).unwrap().contains("in order"));

        let deaf = rig.start("trap '' TERM; echo deaf; exec sleep 1000");
        let server = deaf.server;
        until("its start", || std::fs::read_to_string(rig.log()).is_ok_and(|log| log.contains("deaf"))).await;
        deaf.end(Duration::from_millis(50)).await.unwrap();
        assert!(!runs(server));
    }

    #[tokio::test]
    async fn an_owner_that_is_gone_takes_all_with_it() {
        let rig = Rig::new();
        // The grandchild stands for what a server starts for itself.
        let mut process = rig.start("sleep 1000 & echo $! >grandchild; echo >ready; wait");
        until("its start", || rig.folder.path().join("ready").exists()).await;
        let file = rig.folder.path().join("grandchild");
        let grandchild: u32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        process.signal(Signal::Stall).unwrap();
        // As the system does when this process ends.
        drop(process._owner.take());
        until("its end", || !runs(process.server) && !runs(grandchild)).await;
        until("the removal of its folder", || !rig.folder.path().exists()).await;
    }
}
