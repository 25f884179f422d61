//! What processes use: memory and open files, as the system tells, and whether it grows.

use std::collections::BTreeMap;
use std::fs;

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Resident memory in bytes.
    pub memory: u64,
    /// Open files.
    pub files: u64,
}

/// What this process uses; `None` where it is gone, or the system does not tell.
pub(crate) fn usage(process: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.split_whitespace().next()?.parse().ok()?;
    let files = fs::read_dir(format!("/proc/{process}/fd")).ok()?.count() as u64;
    Some(Usage { memory: kib * 1024, files })
}

/// What all processes of a group use together; `None` where it has none, or the system does not tell.
pub(crate) fn usage_of_group(group: u32) -> Option<Usage> {
    let processes =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let members = processes.filter(|process| group_of(*process) == Some(group));
    members
        .filter_map(usage)
        .reduce(|all, one| Usage { memory: all.memory + one.memory, files: all.files + one.files })
}

/// `PID (NAME) STATE PARENT GROUP …`, and a name may hold anything.
fn group_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(2)?.parse().ok()
}

/// What a process used over its life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// The most resident memory, in bytes.
    pub peak: u64,
    /// How fast resident memory grew, in bytes an hour, its first seconds aside.
    pub memory_an_hour: f64,
    /// How fast the number of open files grew, an hour.
    pub files_an_hour: f64,
    /// How long it was looked at, in seconds.
    pub seconds: f64,
}

/// How long a process has to live to have a slope, and how much of that is its start.
const WORTH_A_SLOPE: f64 = 20.0;
const START: f64 = 10.0;

/// What everybody uses, again and again.
#[derive(Debug, Default)]
pub(crate) struct Meter(BTreeMap<String, Vec<(f64, Usage)>>);

impl Meter {
    /// Takes down what somebody uses at this second.
    pub(crate) fn note(&mut self, name: impl ToString, usage: Option<Usage>, second: f64) {
        if let Some(usage) = usage {
            self.0.entry(name.to_string()).or_default().push((second, usage));
        }
    }

    /// What those used that lived long enough.
    pub(crate) fn used(&self) -> Vec<(String, Used)> {
        self.0.iter().filter_map(|(name, points)| Some((name.clone(), used(points)?))).collect()
    }
}

fn used(points: &[(f64, Usage)]) -> Option<Used> {
    let (first, last) = (points.first()?.0, points.last()?.0);
    let seconds = last - first;
    if seconds < WORTH_A_SLOPE {
        return None;
    }
    let grown = points.iter().filter(|(second, _)| *second >= first + START);
    let line = |of: fn(&Usage) -> u64| -> Vec<(f64, f64)> {
        grown.clone().map(|(second, usage)| (second / 3600.0, of(usage) as f64)).collect()
    };
    Some(Used {
        peak: points.iter().map(|(_, usage)| usage.memory).max()?,
        memory_an_hour: slope(&line(|usage| usage.memory)),
        files_an_hour: slope(&line(|usage| usage.files)),
        seconds,
    })
}

/// The slope of the straight line that lies nearest to these points.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        let dx = point.0 - x;
        (above + dx * (point.1 - y), below + dx * dx)
    });
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_a_point_has_none() {
        assert!((slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 2.0).abs() < 1e-9);
        assert!(slope(&[(0.0, 4.0), (1.0, 4.0)]).abs() < 1e-9);
        assert!(slope(&[(1.0, 1.0)]).abs() < 1e-9);
        assert!(slope(&[]).abs() < 1e-9);
    }

    #[test]
    fn what_grows_has_a_slope_and_what_lived_shortly_has_none() {
        let point = |second: u32| {
            let usage = Usage { memory: 1_000_000 + u64::from(second) * 1000, files: 12 };
            (f64::from(second), usage)
        };
        let points: Vec<_> = (0..60).map(point).collect();
        let used = used(&points).unwrap();
        assert!((used.memory_an_hour - 3_600_000.0).abs() < 1.0 && used.files_an_hour.abs() < 1e-9);
        assert_eq!(used.peak, 1_059_000);
        assert_eq!(super::used(&points[..10]), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.memory > 0 && usage.files > 0);
        assert_eq!(super::usage(u32::MAX), None);
        let group = usage_of_group(group_of(std::process::id()).unwrap()).unwrap();
        assert!(group.memory > 0 && group.files > 0);
        assert_eq!(usage_of_group(u32::MAX), None);
    }
}
