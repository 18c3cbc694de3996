//! Node processes as a test sees them: by their pid files, and only those of its own network.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The folder that cargo builds into: test executables are in `<target>/<profile>/deps`.
fn target_profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its own executable");
    let deps = exe.parent().expect("an executable is in a folder");
    deps.parent().unwrap_or(deps).to_owned()
}

/// Cargo's target folder, with the builds for other machines.
pub(crate) fn target_dir() -> PathBuf {
    let profile = target_profile_dir();
    profile.parent().unwrap_or(&profile).to_owned()
}

/// The binary under test.
pub fn binary() -> PathBuf {
    let path =
        std::env::var_os("SELVEDGE_BIN").map_or_else(|| target_profile_dir().join("selvedge"), PathBuf::from);
    assert!(
        path.is_file(),
        "{} does not exist: build it with `cargo build --release -p selvedge`, or name it in SELVEDGE_BIN",
        path.display()
    );
    path
}

/// The folder of the contracts' modules.
pub(crate) fn contracts() -> PathBuf {
    let path = std::env::var_os("SELVEDGE_CONTRACTS").map_or_else(
        || target_profile_dir().join("../wasm32-unknown-unknown/contract"),
        PathBuf::from,
    );
    assert!(
        path.join("selvedge_chaincode_rfq.wasm").is_file(),
        "{} holds no contracts: build them with scripts/contracts.sh, or name their folder in SELVEDGE_CONTRACTS",
        path.display()
    );
    path
}

/// A node's files.
#[derive(Debug, Clone)]
pub(crate) struct NodeFiles {
    pub(crate) dir: PathBuf,
}

impl NodeFiles {
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("config.yaml")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// The running process, if it is one of ours: its command line names this network's folder.
    pub(crate) fn pid(&self, network: &Path) -> Option<u32> {
        let pid: u32 = std::fs::read_to_string(self.pid_file())
            .ok()?
            .trim()
            .parse()
            .ok()?;
        runs(pid, network).then_some(pid)
    }

    /// Kills the process at once, as a power cut would, and waits until it is gone.
    pub(crate) fn kill(&self, network: &Path) -> bool {
        let Some(pid) = self.pid(network) else {
            return false;
        };
        kill(pid);
        true
    }

    /// Starts the node again with its configuration file; its output is appended to its log.
    pub(crate) fn start(&self, role: &str) -> u32 {
        let mut command = Command::new(binary());
        command.arg(role);
        self.start_program(command)
    }

    /// The same with another program, whose command `start` takes the file.
    pub(crate) fn start_program(&self, mut command: Command) -> u32 {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("log file");
        let child = command
            .args(["start", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", self.dir.display()));
        let pid = child.id();
        std::fs::write(self.pid_file(), pid.to_string()).expect("pid file");
        // Somebody has to take note of its end, or it stays a zombie.
        std::thread::spawn(move || {
            let mut child = child;
            child.wait()
        });
        pid
    }

    /// The end of the log.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        // What Raft says of itself would hide everything else.
        let all: Vec<&str> = text.lines().filter(|l| !l.contains("INFO openraft")).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Whether a process runs and is one of ours: its command line names this folder.
pub(crate) fn runs(pid: u32, folder: &Path) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // A zombie has no command line.
    String::from_utf8_lossy(&command).contains(&*folder.to_string_lossy())
}

/// Kills one of our processes and waits until it is gone.
pub(crate) fn kill(pid: u32) {
    signal(pid, "KILL");
    let start = Instant::now();
    while !has_ended(pid) {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "process {pid} survives SIGKILL"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asks one of our processes to end, and waits until it has.
pub(crate) async fn terminate(pid: u32) {
    signal(pid, "TERM");
    crate::eventually("the process ends", Duration::from_secs(20), || async {
        if has_ended(pid) { Ok(()) } else { Err(pid) }
    })
    .await;
}

/// Whether nothing of a process is left but, perhaps, a zombie for its parent. Its memory goes before its sockets and
/// locks do, and its first thread may go before the others, so only the end of all threads counts.
fn has_ended(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    let zombie = stat
        .rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'));
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    zombie && threads <= 1
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status();
    assert!(sent.is_ok(), "there is no kill command");
}
