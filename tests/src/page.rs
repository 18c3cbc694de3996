//! Pages of the documentation, whose commands a test runs as they stand there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::process::{binary, contracts};
use crate::{Network, within};

/// The code blocks of one section of a page.
#[derive(Debug)]
pub struct Section {
    place: String,
    /// Language and content.
    blocks: Vec<(String, String)>,
}

impl Section {
    /// Reads the section under a heading of a page in `docs/`, up to the next heading of the same rank.
    pub fn read(page: &str, heading: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let section = text
            .split("\n## ")
            .find(|section| section.lines().next() == Some(heading))
            .unwrap_or_else(|| panic!("{page} has no section '{heading}'"));
        let mut blocks: Vec<(String, String)> = Vec::new();
        let mut within_block = false;
        for line in section.lines() {
            match line.strip_prefix("```") {
                Some(language) if !within_block => {
                    blocks.push((language.to_owned(), String::new()));
                    within_block = true;
                }
                Some(_) => within_block = false,
                None if within_block => {
                    if let Some((_, content)) = blocks.last_mut() {
                        content.push_str(line);
                        content.push('\n');
                    }
                }
                None => {}
            }
        }
        Self {
            place: format!("section '{heading}' of docs/{page}"),
            blocks,
        }
    }

    fn of_language(&self, language: &str) -> Vec<&str> {
        let found = self.blocks.iter().filter(|(l, _)| l == language);
        found.map(|(_, content)| content.as_str()).collect()
    }

    /// The blocks of shell commands, of which there must be `count`: a test knows what each of them is for.
    pub fn commands<const COUNT: usize>(&self) -> [&str; COUNT] {
        let blocks = self.of_language("sh");
        blocks.try_into().unwrap_or_else(|blocks: Vec<&str>| {
            panic!(
                "{} has {} blocks of commands, the test knows {COUNT}: {blocks:#?}",
                self.place,
                blocks.len()
            )
        })
    }

    /// The first block of YAML.
    pub fn yaml(&self) -> serde_json::Value {
        let blocks = self.of_language("yaml");
        let text = blocks
            .first()
            .unwrap_or_else(|| panic!("{} shows no YAML", self.place));
        serde_yaml_ng::from_str(text).unwrap_or_else(|e| panic!("the YAML in {}: {e}", self.place))
    }
}

impl Network {
    /// A terminal of somebody who has read "A network" in `docs/operations.md`: `selvedge` is found, `SELVEDGE_NETWORK` is
    /// set, and `my-network.yaml` lies in the folder.
    fn terminal(&self, script: &str) -> Command {
        let folder = self.scratch();
        let link = |target: PathBuf, name: &str| {
            let place = folder.join(name);
            std::fs::create_dir_all(place.parent().unwrap_or(folder)).expect("a folder for links");
            if !place.exists() {
                let target = std::path::absolute(target).expect("an absolute path");
                std::os::unix::fs::symlink(target, place).expect("a link");
            }
        };
        link(binary(), "bin/selvedge");
        link(contracts(), "target/wasm32-unknown-unknown/contract");
        link(self.file(), "my-network.yaml");
        let mut path = folder.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new("bash");
        command
            .args(["-c", script])
            .current_dir(folder)
            .env("PATH", path)
            .env("SELVEDGE_NETWORK", self.dir())
            .env("CARGO_TARGET_DIR", folder.join("target"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs commands of a page one after the other, until one fails; gives what they print.
    ///
    /// # Errors
    /// One failed: what all of them printed.
    pub async fn shell(&self, script: &str) -> Result<String, String> {
        let mut command = self.terminal(&format!("set -euo pipefail\n{script}"));
        let running = command.output();
        let output = within("the commands of a page", Duration::from_secs(180), running)
            .await
            .expect("there is a bash");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "{script}ended with {}:\n{printed}{errors}",
            output.status
        ))
    }

    /// Starts commands that do not end by themselves, in a terminal of their own.
    pub fn second_terminal(&self, script: &str) -> Terminal {
        let log = self.scratch().join("second-terminal.log");
        let file = std::fs::File::create(&log).expect("a log file");
        let mut command = self.terminal(script);
        command
            .stdout(Stdio::from(file.try_clone().expect("a log file")))
            .stderr(Stdio::from(file));
        let child = command.spawn().expect("there is a bash");
        Terminal { child, log }
    }
}

/// A terminal in which commands run until it is closed.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    log: PathBuf,
}

impl Terminal {
    /// What was printed so far.
    pub fn printed(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends the commands; gives what they printed.
    pub async fn close(mut self) -> String {
        let ended = self.child.try_wait().expect("the shell is ours");
        assert!(
            ended.is_none(),
            "the shell has ended by itself: {}",
            self.printed()
        );
        self.child.kill().await.expect("the shell is ours");
        self.printed()
    }
}
