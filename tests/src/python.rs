//! Real clients from PyPI, in an environment of their own beside cargo's other test files.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::within;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

async fn run(what: &str, command: &mut Command) {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within(what, Duration::from_secs(240), running).await;
    let output = output.unwrap_or_else(|e| panic!("{what}: {e}; python3 with venv is needed"));
    assert!(
        output.status.success(),
        "{what} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The interpreter of an environment with the packages of `tests/python/requirements.txt`, made below `target` (cargo's
/// folder for tests) once for each state of that file.
pub async fn interpreter(target: &Path) -> PathBuf {
    let dir = target.join("python");
    let python = dir.join("bin/python");
    let wanted = std::fs::read(scripts().join("requirements.txt")).expect("requirements.txt");
    let installed = dir.join("installed.txt");
    if std::fs::read(&installed).is_ok_and(|done| done == wanted) {
        return python;
    }
    run(
        "python3 -m venv",
        Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir),
    )
    .await;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
    ])
    .arg(scripts().join("requirements.txt"));
    run("pip install", &mut pip).await;
    // Last: an installation that was broken off is done again.
    std::fs::write(&installed, wanted).expect("a note that it is done");
    python
}

/// A script of `tests/python`, ready to be run with more arguments.
pub fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg(scripts().join(name))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Waits for a script's end, which must be a success, and gives what it printed.
pub async fn finish(what: &str, child: Child) -> String {
    let output = within(what, Duration::from_secs(100), child.wait_with_output()).await;
    let output = output.unwrap_or_else(|e| panic!("{what}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{what} ended with {}:\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
