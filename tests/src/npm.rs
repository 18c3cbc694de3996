//! Official clients from npm: their packages are installed beside cargo's other test files, never among the sources.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::within;

async fn run(what: &str, command: &mut Command) -> String {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within(what, Duration::from_secs(240), running).await;
    let output = output.unwrap_or_else(|e| panic!("{what}: {e}; Node 20 and npm are needed"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{what} ended with {}:\n{text}",
        output.status
    );
    text
}

/// Installs the packages of `sources`, a folder with `package.json` and `package-lock.json`, below `target` (cargo's
/// folder for tests), once for each state of the lock file.
pub async fn install(sources: &Path, target: &Path) -> PathBuf {
    let name = sources.file_name().expect("a folder with a name");
    let dir = target.join("npm").join(name);
    let lock = std::fs::read(sources.join("package-lock.json")).expect("package-lock.json");
    let installed = dir.join("installed-lock.json");
    if std::fs::read(&installed).is_ok_and(|done| done == lock) {
        return dir;
    }
    std::fs::create_dir_all(&dir).expect("a folder for packages");
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(sources.join(file), dir.join(file)).expect("a copy");
    }
    let mut npm = Command::new("npm");
    // Optional packages are for hardware keys and would be compiled; the others need no scripts.
    npm.args([
        "ci",
        "--omit=optional",
        "--ignore-scripts",
        "--prefer-offline",
        "--no-audit",
        "--no-fund",
    ])
    .current_dir(&dir);
    run("npm ci", &mut npm).await;
    // Last: an installation that was broken off is done again.
    std::fs::write(&installed, lock).expect("a note that it is done");
    dir
}

/// Runs `client.js` of `sources` with a file of settings; gives what it said.
pub async fn run_script(sources: &Path, packages: &Path, settings: &Path) -> String {
    // Beside its packages, so that `require` finds them.
    let script = packages.join("client.js");
    std::fs::copy(sources.join("client.js"), &script).expect("a copy");
    run("the script", Command::new("node").arg(&script).arg(settings)).await
}
