//! What the machine is, and what its processes use, from `/proc`.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Clock ticks a second in `/proc/PID/stat`: the same on every Linux of our architectures.
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine that a report was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Processor.
    pub(crate) cpu: String,
    /// Logical cores.
    pub(crate) cores: usize,
    /// Memory in MiB.
    pub(crate) memory_mib: u64,
    /// Kernel release.
    pub(crate) kernel: String,
    /// Load average over a minute before the first run: other work falsifies the rates.
    pub(crate) load_before: String,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(|rest| rest.trim_start_matches([':', '\t', ' ']).trim())
}

impl Machine {
    /// This machine, as far as `/proc` tells.
    pub(crate) fn here() -> Self {
        let kib: u64 = field(&read("/proc/meminfo"), "MemTotal:")
            .and_then(|v| v.trim_end_matches(" kB").parse().ok())
            .unwrap_or(0);
        let load = read("/proc/loadavg");
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// CPU time that a process has used, user and system, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields 14 and 15 are counted from the state, field 3.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// Resident memory of a process now and at its peak, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| field(&status, name)?.trim_end_matches(" kB").parse().ok();
    Some((kib("VmRSS:")?, kib("VmHWM:")?))
}

/// Bytes of the files under a folder.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
            // Files that were allocated ahead count with what is in them.
            Ok(meta) => meta.len().min(allocated(&meta)),
            Err(_) => 0,
        })
        .sum()
}

fn allocated(meta: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    meta.blocks() * 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_measured() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).is_some());
        let (now, peak) = resident_kib(pid).unwrap();
        assert!(now > 0 && peak >= now);
        assert!(Machine::here().cores > 0);
    }
}
