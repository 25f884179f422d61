//! The other binaries of this package, run as processes of their own.

use crate::Result;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A binary that was built beside this one.
///
/// # Errors
/// Where it was not.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name).with_extension(std::env::consts::EXE_EXTENSION);
    match path.exists() {
        true => Ok(path),
        false => Err(format!("{} is missing; run `cargo xtask bench embedded`", path.display()).into()),
    }
}

/// Whether a tool answers `--version`.
pub fn has(tool: &str) -> bool {
    let mut command = Command::new(tool);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A sibling that runs beside us and says something line by line. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    /// Starts a sibling.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(name: &str, arguments: &[&OsStr]) -> Result<Self> {
        let mut command = Command::new(sibling(name)?);
        let mut child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("its output is not piped")?);
        Ok(Running { child, lines })
    }

    /// Waits for its next line.
    ///
    /// # Errors
    /// Where it ends before.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line)? {
            0 => Err(format!("a child ended too early: {}", self.child.wait()?).into()),
            _ => Ok(line),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself is no fault.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end. Returns its output and what it wrote as errors.
///
/// # Errors
/// Where it cannot be run, or fails: with its own words.
pub fn output(command: &mut Command) -> Result<(String, String)> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, err) = (text(output.stdout), text(output.stderr));
    match output.status.success() {
        true => Ok((out, err)),
        false => Err(format!("{command:?}: {}\n{err}", output.status).into()),
    }
}

/// The number that a sibling prints as its only line.
///
/// # Errors
/// As [`output`]; or where it prints something else.
pub fn number(name: &str, arguments: &[&OsStr]) -> Result<f64> {
    let (out, _) = output(Command::new(sibling(name)?).args(arguments))?;
    Ok(out.trim().parse().map_err(|_| format!("`{name}` {arguments:?} printed {out:?}"))?)
}

/// Instructions that a sibling executes, counted by callgrind.
///
/// # Errors
/// As [`output`]; or where callgrind says no count.
pub fn instructions(name: &str, arguments: &[impl AsRef<OsStr>]) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(sibling(name)?).args(arguments);
    let (_, err) = output(&mut command)?;
    let count =
        err.lines().find_map(|line| line.split_once("Collected : ")).ok_or("callgrind gave no count")?;
    Ok(count.1.trim().parse()?)
}

/// Calls of these names that a sibling and its threads make, counted by strace.
///
/// # Errors
/// As [`output`].
pub fn system_calls(name: &str, arguments: &[impl AsRef<OsStr>], calls: &str) -> Result<u64> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "|cat >&2", "-e", &format!("trace={calls}")]);
    let (_, err) = output(command.arg(sibling(name)?).args(arguments))?;
    Ok(err.lines().filter(|line| line.contains('(') && !line.contains("resumed>")).count() as u64)
}
