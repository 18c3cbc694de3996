//! What the operating system says of the process, under the names that Prometheus's own clients use. Linux only;
//! elsewhere these metrics are missing.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::metrics::{Metrics, Sample};

/// Unit of the times in `/proc/<pid>/stat`, per second: fixed at 100 for user space on every Linux platform.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process's metrics.
pub(crate) struct Process;

fn one(value: Option<f64>) -> Vec<Sample> {
    value.map(|v| (Vec::new(), v)).into_iter().collect()
}

impl Process {
    pub(crate) fn register(metrics: &Metrics) {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        metrics.gauge(
            "process_start_time_seconds",
            "When the node was started, in Unix seconds.",
            &[],
            move || one(started.map(|s| s.as_secs_f64())),
        );
        metrics.gauge(
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM, in bytes.",
            &[],
            || one(read("/proc/self/status").and_then(|s| resident_bytes(&s))),
        );
        metrics.counter(
            "process_cpu_seconds_total",
            "Processor time of the process, user and system, in seconds.",
            &[],
            || one(read("/proc/self/stat").and_then(|s| cpu_seconds(&s))),
        );
        metrics.gauge("process_open_fds", "File descriptors that are open.", &[], || {
            one(open_files())
        });
        metrics.gauge(
            "process_max_fds",
            "File descriptors that may be open.",
            &[],
            || one(read("/proc/self/limits").and_then(|s| max_files(&s))),
        );
        metrics.gauge("process_threads", "Threads of the process.", &[], || {
            one(read("/proc/self/status").and_then(|s| field(&s, "Threads:")))
        });
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident_bytes(status: &str) -> Option<f64> {
    field(status, "VmRSS:").map(|kib| kib * 1024.0)
}

/// The name in parentheses may hold spaces and parentheses itself, so fields are counted from its end.
pub(crate) fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn open_files() -> Option<f64> {
    // The listing itself is one of them.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(count).ok().map(f64::from)
}

fn max_files(limits: &str) -> Option<f64> {
    field(limits, "Max open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_understood() {
        let status = "Name:\tselvedge\nVmRSS:\t    2048 kB\nThreads:\t9\n";
        assert_eq!(resident_bytes(status), Some(2_097_152.0));
        assert_eq!(field(status, "Threads:"), Some(9.0));
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("42 (selvedge"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096       files\n";
        assert_eq!(max_files(limits), Some(1024.0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_all_of_them() {
        let text = Metrics::new().text();
        for name in [
            "process_start_time_seconds",
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_max_fds",
            "process_threads",
        ] {
            assert!(text.lines().any(|l| l.starts_with(&format!("{name} "))), "{name}");
        }
    }
}
