//! Node processes: start them detached, find them again, stop them.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::CliError;
use crate::network::layout::NodeLayout;

/// A stopping node gets this long to end by itself before it is killed.
const STOP_TIME: Duration = Duration::from_secs(10);

/// A running node process, as its pid file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeProcess {
    pid: u32,
}

/// Starts this binary with `arguments` as a process that outlives the command; output goes to the node's log.
pub(crate) fn start(layout: &NodeLayout, arguments: &[&str]) -> Result<NodeProcess, CliError> {
    let write = |path: std::path::PathBuf| move |source| CliError::WriteFile { path, source };
    std::fs::create_dir_all(layout.root()).map_err(write(layout.root().to_owned()))?;
    let log: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(layout.log())
        .map_err(write(layout.log()))?;
    let errors = log.try_clone().map_err(write(layout.log()))?;
    let program = std::env::current_exe().map_err(|e| {
        CliError::said(format!(
            "cannot find the selvedge binary to start nodes with: {e}"
        ))
    })?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|e| CliError::said(format!("cannot start node {}: {e}", layout.root().display())))?;
    let pid = child.id();
    std::fs::write(layout.pid(), pid.to_string()).map_err(write(layout.pid()))?;
    Ok(NodeProcess { pid })
}

impl NodeProcess {
    /// The process of a node, if it is running now.
    pub(crate) fn find(layout: &NodeLayout) -> Option<Self> {
        let pid = std::fs::read_to_string(layout.pid()).ok()?.trim().parse().ok()?;
        let process = Self { pid };
        process.is_selvedge().then_some(process)
    }

    /// A process that is known to be one of ours.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid }
    }

    pub(crate) fn pid(self) -> u32 {
        self.pid
    }

    /// A pid may have been given to another program since the file was written, and a zombie is not running.
    fn is_selvedge(self) -> bool {
        let ours = std::env::current_exe().ok();
        let theirs = std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok();
        let same_name = match (&ours, &theirs) {
            // A rebuilt binary shows as "selvedge (deleted)".
            (Some(a), Some(b)) => {
                let name = |p: &Path| {
                    p.file_name()
                        .map(|n| n.to_string_lossy().replace(" (deleted)", ""))
                };
                name(a) == name(b)
            }
            _ => false,
        };
        same_name && self.state() != Some('Z')
    }

    fn state(self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Resident memory now and at its peak, in KiB.
    pub(crate) fn memory_kib(self) -> Option<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok())
        };
        Some((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// Asks the process to end, and kills it if it does not in time. Returns whether it had to be killed.
    pub(crate) fn stop(self) -> bool {
        self.signal("TERM");
        let deadline = Instant::now() + STOP_TIME;
        while !self.has_ended() {
            if Instant::now() >= deadline {
                self.kill();
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Kills the process at once, as a power cut would.
    pub(crate) fn kill(self) {
        self.signal("KILL");
        while !self.has_ended() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether nothing is left but, perhaps, a zombie for its parent. A process loses its memory, and with it its name,
    /// before its sockets and locks, and its first thread may go before the others: only then can the node be started
    /// again on the same port.
    fn has_ended(self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count);
        match self.state() {
            None => true,
            Some(state) => state == 'Z' && threads <= 1,
        }
    }

    fn signal(self, name: &str) {
        // An error means that the process is gone already, which is what we want.
        drop(
            Command::new("kill")
                .args([format!("-{name}"), self.pid.to_string()])
                .stderr(Stdio::null())
                .status(),
        );
    }
}

/// The last `lines` lines of a node's log.
pub(crate) fn log_tail(layout: &NodeLayout, lines: usize) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(layout.log()) {
        // A log that is not UTF-8 to the end shows as far as it goes.
        drop(file.read_to_string(&mut text));
    }
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
