//! Running the commands of the demo as a user would type them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::error::{CliError, During};

/// Prints steps and runs commands of this same binary.
#[derive(Debug)]
pub(super) struct Shell {
    program: PathBuf,
    network: PathBuf,
    started: Instant,
    step: u32,
}

/// Quotes an argument as a shell wants it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

impl Shell {
    pub(super) fn new(network: &Path) -> Result<Self, CliError> {
        let program = std::env::current_exe().during(|| "cannot find the selvedge binary".to_owned())?;
        Ok(Self {
            program,
            network: network.to_owned(),
            started: Instant::now(),
            step: 0,
        })
    }

    /// Time since the demo began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Announces a step.
    pub(super) fn step(&mut self, title: &str) {
        self.step += 1;
        println!("\n=== {}. {title}", self.step);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_of("selvedge", &self.program, arguments)
    }

    fn command_of(&self, name: &str, program: &Path, arguments: &[&str]) -> Command {
        let shown: Vec<String> = arguments.iter().map(|a| quoted(a)).collect();
        println!("$ {name} {}", shown.join(" "));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("SELVEDGE_NETWORK", &self.network)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end and prints what it says. Returns its standard output.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<String, CliError> {
        let (success, output, errors) = self.finish(self.command(arguments)).await?;
        show(&output, usize::MAX);
        show(&errors, usize::MAX);
        if success {
            return Ok(output);
        }
        Err(CliError::said(format!(
            "the demo stops: `selvedge {}` failed: {}",
            arguments.join(" "),
            errors.trim()
        )))
    }

    /// Runs a command whose answer is long: prints its first lines only.
    pub(super) async fn run_quietly(&self, arguments: &[&str], lines: usize) -> Result<String, CliError> {
        let (success, output, errors) = self.finish(self.command(arguments)).await?;
        show(&output, lines);
        if success {
            return Ok(output);
        }
        Err(CliError::said(format!(
            "the demo stops: `selvedge {}` failed: {}",
            arguments.join(" "),
            errors.trim()
        )))
    }

    /// Runs a command that must be refused, and prints why it was.
    pub(super) async fn run_refused(&self, arguments: &[&str]) -> Result<(), CliError> {
        let (success, _, errors) = self.finish(self.command(arguments)).await?;
        show(&errors, usize::MAX);
        if success {
            return Err(CliError::said(format!(
                "the demo stops: `selvedge {}` should have been refused",
                arguments.join(" ")
            )));
        }
        Ok(())
    }

    async fn finish(&self, mut command: Command) -> Result<(bool, String, String), CliError> {
        let output = command
            .output()
            .await
            .during(|| "cannot run a selvedge command".to_owned())?;
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    }

    /// Starts a command that goes on beside the demo; it ends with the demo at the latest.
    pub(super) fn start(&self, arguments: &[&str]) -> Result<Child, CliError> {
        Self::spawn(self.command(arguments), None)
    }

    /// Starts the edge gateway: the small program made for it where it was built, else this binary in that role.
    pub(super) fn start_edge(&self, config: &str, log: &Path) -> Result<Child, CliError> {
        let small = self.program.with_file_name("selvedge-edge");
        let command = if small.exists() {
            self.command_of("selvedge-edge", &small, &["--config", config])
        } else {
            self.command(&["edge", "start", "--config", config])
        };
        Self::spawn(command, Some(log))
    }

    fn spawn(mut command: Command, log: Option<&Path>) -> Result<Child, CliError> {
        command.kill_on_drop(true);
        if let Some(path) = log {
            let open = || std::fs::OpenOptions::new().create(true).append(true).open(path);
            let failed = |source| CliError::WriteFile {
                path: path.to_owned(),
                source,
            };
            command
                .stdout(open().map_err(failed)?)
                .stderr(open().map_err(failed)?);
        }
        command
            .spawn()
            .during(|| "cannot start a selvedge command".to_owned())
    }
}

fn show(text: &str, lines: usize) {
    let total = text.lines().count();
    for line in text.lines().take(lines) {
        println!("    {line}");
    }
    if total > lines {
        println!("    … ({} more lines)", total - lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_as_a_shell_wants_them() {
        assert_eq!(quoted("User1@org1.example.com"), "User1@org1.example.com");
        assert_eq!(quoted(r#"{"a":1}"#), r#"'{"a":1}'"#);
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
