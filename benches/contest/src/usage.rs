//! What this process uses, as Linux tells it.

use crate::Result;
use nix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::Duration;

/// The most memory that was ever resident, in KiB (`VmHWM` of proc(5)).
///
/// # Errors
/// Where there is no /proc.
pub fn peak_resident_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The time that all threads have run so far, those that have ended included.
///
/// # Errors
/// Where the system cannot tell.
pub fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// Processes that wanted to run in the last minute, on average; none where nobody tells.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        assert!(peak_resident_kib().unwrap() > 100);
        let before = processor_time().unwrap();
        let end = std::time::Instant::now() + Duration::from_millis(5);
        while std::time::Instant::now() < end {}
        assert!(processor_time().unwrap() > before);
    }
}
