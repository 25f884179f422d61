//! Runs contestants as processes of their own, each with a setup on its standard input.

use crate::{Result, child};
use ductape_contest::{About, Measured, Setup};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Who competes, and the program that plays it.
#[derive(Clone, Debug)]
pub struct Player {
    /// What it says of itself.
    pub about: About,
    binary: PathBuf,
    /// The same with every allocation counted.
    counted: PathBuf,
}

impl Player {
    /// One of this package's own.
    ///
    /// # Errors
    /// Where the binaries were not built.
    pub fn own(name: &str) -> Result<Self> {
        let about = About { name: name.into(), confirmed: true, ..About::default() };
        let (binary, counted) = (child::sibling("contestants")?, child::sibling("contestants-counted")?);
        Ok(Player { about, binary, counted })
    }

    /// The peers that programs named `peer-…` in this folder have for a provider.
    ///
    /// # Errors
    /// Where the folder cannot be read, or a program does not answer.
    pub fn peers(folder: &Path, provider: &str) -> Result<Vec<Self>> {
        let mut peers = Vec::new();
        for file in std::fs::read_dir(folder)? {
            let binary = file?.path();
            let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with("peer-") || name.contains('.') || name.ends_with("-counted") {
                continue;
            }
            let (list, _) = child::output(Command::new(&binary).args(["list", provider]))?;
            let counted = binary.with_file_name(format!("{name}-counted"));
            let abouts: Vec<About> = serde_json::from_str(&list)?;
            peers.extend(abouts.into_iter().map(|about| Player {
                about,
                binary: binary.clone(),
                counted: counted.clone(),
            }));
        }
        peers.sort_by(|a, b| a.about.name.cmp(&b.about.name));
        Ok(peers)
    }

    /// Its name with its version.
    pub fn shown(&self) -> String {
        let About { name, version, confirmed, .. } = &self.about;
        let unconfirmed = if *confirmed { "" } else { ", unconfirmed" };
        format!("{name} {version}").trim().to_owned() + unconfirmed
    }

    /// Lets it play.
    ///
    /// # Errors
    /// What it says as it fails.
    pub fn run(&self, setup: &Setup) -> Result<Measured> {
        let (out, _) = played(Command::new(&self.binary).arg(&self.about.name), setup)?;
        measured(&out)
    }

    /// Lets it play with every allocation counted; none where it has no such program.
    ///
    /// # Errors
    /// As [`Player::run`].
    pub fn run_counted(&self, setup: &Setup) -> Result<Option<Measured>> {
        if !self.counted.exists() {
            return Ok(None);
        }
        let (out, _) = played(Command::new(&self.counted).arg(&self.about.name), setup)?;
        measured(&out).map(Some)
    }

    /// Instructions that it executes, all threads and its whole life, counted by callgrind.
    ///
    /// # Errors
    /// As [`Player::run`]; or where callgrind says no count.
    pub fn instructions(&self, setup: &Setup) -> Result<u64> {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&self.binary);
        let (_, err) = played(command.arg(&self.about.name), setup)?;
        let count =
            err.lines().find_map(|line| line.split_once("Collected : ")).ok_or("callgrind gave no count")?;
        Ok(count.1.trim().parse()?)
    }
}

/// Runs to the end with the setup as its input. Returns its output and what it wrote as errors.
fn played(command: &mut Command, setup: &Setup) -> Result<(String, String)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let input = serde_json::to_vec(setup)?;
    // It is shorter than a pipe's buffer, so that writing it never waits for the child.
    child.stdin.take().ok_or("its input is not piped")?.write_all(&input)?;
    let output = child.wait_with_output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, err) = (text(output.stdout), text(output.stderr));
    match output.status.success() {
        true => Ok((out, err)),
        false => Err(last_lines(&err, &output.status.to_string()).into()),
    }
}

/// The end of what was said, in one line.
fn last_lines(said: &str, status: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let end = lines[lines.len().saturating_sub(3)..].join("; ");
    format!("{status}: {end}")
}

/// A contestant may print before its measurements, which stand on the last line.
fn measured(out: &str) -> Result<Measured> {
    let line = out.lines().next_back().unwrap_or_default();
    Ok(serde_json::from_str(line).map_err(|error| format!("{error} in {line:?}"))?)
}
