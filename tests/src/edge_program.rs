//! The edge gateway's program: `selvedge edge` of this machine, or `selvedge-edge` of another under an emulator.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::process::{binary, target_dir};

/// Names the processors whose build is tried: `aarch64` if absent, `all`, or `none`.
const ARM: &str = "SELVEDGE_ARM";

/// How the gateway is started.
#[derive(Debug, Clone)]
pub struct EdgeProgram(Vec<OsString>);

impl EdgeProgram {
    /// `selvedge edge`.
    pub fn here() -> Self {
        Self(vec![binary().into(), "edge".into()])
    }

    /// `selvedge-edge` as `scripts/edge-arm.sh` built it, under qemu's user-mode emulation, with the processor's name.
    /// Which ones, `SELVEDGE_ARM` says: `aarch64` if absent, `all`, or `none`.
    ///
    /// # Panics
    /// One that is wanted is not built.
    pub fn arm() -> Vec<(&'static str, Self)> {
        let known = [
            (
                "aarch64",
                "aarch64-unknown-linux-gnu",
                "qemu-aarch64",
                "/usr/aarch64-linux-gnu",
            ),
            (
                "armv7",
                "armv7-unknown-linux-gnueabihf",
                "qemu-arm",
                "/usr/arm-linux-gnueabihf",
            ),
        ];
        let wanted = std::env::var(ARM).unwrap_or_else(|_| "aarch64".to_owned());
        let is_wanted = |name: &str| wanted == "all" || wanted == name;
        assert!(
            wanted == "none" || wanted == "all" || known.iter().any(|(name, ..)| is_wanted(name)),
            "{ARM} is '{wanted}'; use aarch64, armv7, all or none"
        );
        let mut programs = Vec::new();
        for (name, target, emulator, libraries) in known {
            if !is_wanted(name) {
                continue;
            }
            let program: PathBuf = target_dir().join(target).join("dist/selvedge-edge");
            assert!(
                program.is_file(),
                "{} does not exist: build it with scripts/edge-arm.sh {name}, or set {ARM}=none to leave this out",
                program.display()
            );
            let words = [
                emulator.into(),
                "-L".into(),
                libraries.into(),
                program.into_os_string(),
            ];
            programs.push((name, Self(words.into())));
        }
        programs
    }

    /// The command, without arguments yet.
    pub(crate) fn command(&self) -> Command {
        let (program, words) = self.0.split_first().expect("a program has a name");
        let mut command = Command::new(program);
        command.args(words);
        command
    }

    /// Runs one of its commands to the end: standard output, or what it said when it failed.
    ///
    /// # Errors
    /// It ended with another status than 0; both outputs.
    pub async fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<String, String> {
        let mut command = tokio::process::Command::from(self.command());
        command
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = command.output().await.map_err(|e| format!("{:?}: {e}", self.0))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }
}
