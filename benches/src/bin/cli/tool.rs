//! The tool as a process: how long it takes and how much memory it ever had.

use ductape_benches::{Result, child};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often a running tool is looked at for its memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The built tool.
pub(crate) struct Tool(PathBuf);

/// What a run took.
pub(crate) struct Took {
    pub(crate) seconds: f64,
    /// The most memory that was seen resident, in KiB.
    pub(crate) peak_kib: f64,
}

impl Tool {
    pub(crate) fn built() -> Result<Self> {
        child::sibling("ductape").map(Tool)
    }

    /// Writes the catalogue of a folder: one topic in a file.
    pub(crate) fn catalogue(&self, folder: &Path, file: &Path) -> Result<()> {
        let catalogue = serde_json::json!({ "product": "bench", "brokers": [{
            "name": "Bench", "tag": "bench",
            "envs": [{ "slug": "dev", "type": "SQLITE", "config": { "path": file } }],
            "topics": [{ "name": "Messages", "tag": "bench:messages" }],
        }]});
        Ok(std::fs::write(folder.join("ductape.json"), catalogue.to_string())?)
    }

    /// Runs it in a folder, its output going to /dev/null.
    pub(crate) fn run(&self, arguments: &[&str], folder: Option<&Path>) -> Result<Took> {
        let mut command = Command::new(&self.0);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        let start = Instant::now();
        let mut child = command.spawn()?;
        let id = child.id();
        let mut peak_kib = 0.0_f64;
        // A short command is waited for at once: looks would be part of its time.
        let status = if folder.is_none() {
            child.wait()?
        } else {
            loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                peak_kib = peak_kib.max(peak_of(id).unwrap_or(0.0));
                std::thread::sleep(LOOK_EVERY);
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        if !status.success() {
            let said = std::io::read_to_string(child.stderr.take().ok_or("no standard error")?)?;
            return Err(format!("ductape {}: {status}\n{said}", arguments.join(" ")).into());
        }
        Ok(Took { seconds, peak_kib })
    }
}

/// `VmHWM` only grows, so the last look has the peak of all before it.
fn peak_of(id: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
