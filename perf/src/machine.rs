//! What the machine is, and what its processes use, from `/proc` and `ss`.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::reference;

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
    /// Signatures that one core checks in a second while all do so; absent in older reports.
    #[serde(default)]
    pub(crate) checks_per_core: u64,
}

/// CPU time in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Add for Cpu {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }
}

impl Sub for Cpu {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            user: self.user - other.user,
            system: self.system - other.system,
        }
    }
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
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cores,
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
            checks_per_core: reference::checks_per_core(cores),
        }
    }
}

/// Two neighbouring fields of `/proc/PID/stat`, in seconds; the first field of all has number 1.
fn stat(process: &str, number: usize) -> Option<Cpu> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows it is field 3.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(number - 3);
    let mut next = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Cpu {
        user: next()?,
        system: next()?,
    })
}

/// CPU time that a process has used.
pub(crate) fn cpu(pid: u32) -> Option<Cpu> {
    stat(&pid.to_string(), 14)
}

/// CPU time that a process has used, user and system, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    cpu(pid).map(|cpu| cpu.user + cpu.system)
}

/// CPU time that the ended children of this process had used.
pub(crate) fn children_cpu() -> Cpu {
    stat("self", 16).unwrap_or_default()
}

/// Resident memory of a process now and at its peak, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| field(&status, name)?.trim_end_matches(" kB").parse().ok();
    Some((kib("VmRSS:")?, kib("VmHWM:")?))
}

/// Bytes that each process has sent over the TCP connections that it has now; none when there is no `ss` (iproute2) to
/// tell.
pub(crate) fn wire_bytes() -> Option<BTreeMap<u32, u64>> {
    let output = Command::new("ss").args(["-tinpHO"]).output().ok()?;
    output
        .status
        .success()
        .then(|| sent_by_process(&String::from_utf8_lossy(&output.stdout)))
}

fn sent_by_process(text: &str) -> BTreeMap<u32, u64> {
    let number = |line: &str, name: &str| -> Option<u64> {
        let (_, rest) = line.split_once(name)?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let pid = number(line, "pid=").and_then(|pid| u32::try_from(pid).ok());
        if let (Some(pid), Some(sent)) = (pid, number(line, "bytes_sent:")) {
            *all.entry(pid).or_default() += sent;
        }
    }
    all
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
        assert!(cpu(pid).is_some());
        let (now, peak) = resident_kib(pid).unwrap();
        assert!(now > 0 && peak >= now);
        assert!(Machine::here().cores > 0);
    }

    #[test]
    fn connections_of_a_process_are_summed() {
        let text = "ESTAB 0 0 127.0.0.1:1 127.0.0.1:2 users:((\"a b\",pid=7,fd=3)) cubic bytes_sent:100 bytes_acked:90\n\
                    ESTAB 0 0 127.0.0.1:3 127.0.0.1:4 users:((\"a\",pid=7,fd=4)) cubic bytes_sent:11\n\
                    ESTAB 0 0 127.0.0.1:5 127.0.0.1:6 users:((\"b\",pid=8,fd=4)) cubic bytes_received:5\n\
                    TIME-WAIT 0 0 127.0.0.1:5 127.0.0.1:6\n";
        assert_eq!(sent_by_process(text), BTreeMap::from([(7, 111)]));
    }
}
