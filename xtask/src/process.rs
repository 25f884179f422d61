//! Running other programs so that none outlives this one.
//!
//! Every child leads a process group of its own. On Ctrl-C or SIGTERM the whole group is told to end, so that test
//! binaries that cargo started, and processes that they started, go too.

use crate::{Failure, root};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
#[cfg(unix)]
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};

/// The group leaders that run now.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static HANDLER: Mutex<bool> = Mutex::new(false);

/// A cargo command in the workspace's folder, of the cargo that runs this.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    ours(Command::new(program()), arguments)
}

/// The same, with what the processor has left when everything else has had its share.
pub(crate) fn cargo_in_the_background(arguments: &[&str]) -> Command {
    if !cfg!(unix) {
        return cargo(arguments);
    }
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(program());
    ours(nice, arguments)
}

fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn ours(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    // What cargo told this program about itself. Build scripts that look at it would run again, and what they build be
    // built again, each time after a cargo that was started by hand.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_CRATE_NAME"
        {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs to the end, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus, Failure> {
    let mut child = spawn(command)?;
    wait(&mut child)
}

/// Runs to the end and hands on every line of its output as it comes.
pub(crate) fn run_by_line(command: &mut Command, mut line: impl FnMut(&str)) -> Result<ExitStatus, Failure> {
    let mut child = spawn(command.stdout(Stdio::piped()))?;
    if let Some(output) = child.stdout.take() {
        each_line(output, &mut line)?;
    }
    wait(&mut child)
}

/// The same with its standard error, in the order in which they come. Its group leader's number is told as it starts.
pub(crate) fn run_by_line_of_both(
    mut command: Command,
    started: impl FnOnce(u32),
    mut line: impl FnMut(&str),
) -> Result<ExitStatus, Failure> {
    let piped = std::io::pipe().and_then(|(output, input)| Ok((output, input.try_clone()?, input)));
    let (output, out, err) = piped.map_err(|fault| Failure::Failed(format!("making a pipe: {fault}")))?;
    let mut child = spawn(command.stdout(out).stderr(err))?;
    // It holds the pipe's other end.
    drop(command);
    started(child.id());
    each_line(output, &mut line)?;
    wait(&mut child)
}

fn each_line(output: impl Read, line: &mut impl FnMut(&str)) -> Result<(), Failure> {
    for bytes in BufReader::new(output).split(b'\n') {
        let bytes = bytes.map_err(|fault| Failure::Failed(format!("reading its output: {fault}")))?;
        line(&String::from_utf8_lossy(&bytes));
    }
    Ok(())
}

/// Runs to the end and returns its output; a failure is one of ours, with what it said.
pub(crate) fn output_of(command: &mut Command) -> Result<String, Failure> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|fault| Failure::Failed(format!("{shown}: {fault}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::Failed(format!("{shown}: {}\n{said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Starts it as the leader of a group that ends with us.
pub(crate) fn spawn(command: &mut Command) -> Result<Child, Failure> {
    end_children_with_us();
    #[cfg(unix)]
    command.process_group(0);
    let child = command.spawn().map_err(|fault| Failure::Failed(format!("{command:?}: {fault}")))?;
    running().push(child.id());
    Ok(child)
}

/// Waits for what [`spawn`] started.
pub(crate) fn wait(child: &mut Child) -> Result<ExitStatus, Failure> {
    let status = child.wait().map_err(|fault| Failure::Failed(format!("waiting for a process: {fault}")));
    running().retain(|leader| *leader != child.id());
    status
}

fn running() -> MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Tells a whole group to end.
pub(crate) fn end_group(leader: u32) {
    // `kill` and not a system call, since a call would be unsafe code.
    let _ = Command::new("kill").args(["-TERM", "--", &format!("-{leader}")]).status();
}

fn end_children_with_us() {
    let mut installed = HANDLER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !*installed {
        *installed = ctrlc::set_handler(end).is_ok();
    }
}

fn end() {
    running().iter().copied().for_each(end_group);
    // As the shell counts an end by SIGINT.
    std::process::exit(130);
}
