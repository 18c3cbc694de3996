//! The commands that look after devices: their keys for sealed messages, hashes of their passwords.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::sealed::KeyFile;
use crate::{EdgeConfig, EdgeError, hash_password};

/// Which gateway's keys.
#[derive(Debug, Args)]
pub struct KeyConfig {
    /// The gateway's configuration file (YAML). The running gateway notices the change.
    #[arg(short, long)]
    pub config: PathBuf,
}

/// Whose key.
#[derive(Debug, Args)]
pub struct KeyOf {
    /// Id of the device, as it stands in its messages.
    pub device: String,
    /// Which gateway.
    #[command(flatten)]
    pub gateway: KeyConfig,
}

/// Keys of devices that send sealed messages.
#[derive(Debug, Subcommand)]
pub enum DeviceKeyCommand {
    /// Make a key for a device and print it once, as the JSON that the device keeps.
    Add(KeyOf),
    /// Renew a device's key: the next answer brings it the new one.
    Rotate(KeyOf),
    /// Take all keys of a device away; it is not answered any more.
    Revoke(KeyOf),
    /// Show which devices have keys, without the keys.
    List(KeyConfig),
}

fn keys(config: &Path) -> Result<KeyFile, EdgeError> {
    Ok(KeyFile::in_folder(&EdgeConfig::read(config)?.data_dir))
}

impl DeviceKeyCommand {
    /// Runs the command and gives what it has to say.
    ///
    /// # Errors
    /// A sentence for the person who typed it.
    pub fn run(self) -> Result<String, EdgeError> {
        match self {
            Self::Add(of) => {
                let issued = keys(&of.gateway.config)?.add(&of.device)?;
                Ok(serde_json::json!({
                    "device": issued.device, "keyId": issued.key_id, "key": issued.key, "counter": 0,
                })
                .to_string())
            }
            Self::Rotate(of) => {
                let id = keys(&of.gateway.config)?.rotate(&of.device)?;
                Ok(format!("{} will be told key {id} in its next answer", of.device))
            }
            Self::Revoke(of) => {
                let count = keys(&of.gateway.config)?.revoke(&of.device)?;
                Ok(format!("{} has no key any more ({count} taken away)", of.device))
            }
            Self::List(gateway) => {
                let all = keys(&gateway.config)?.list()?;
                let line = |key: &crate::DeviceKeyView| format!("{}  {}  {}", key.id, key.state, key.device);
                Ok(all.iter().map(line).collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

/// The hash for the configuration of a password, which is the first line of the standard input.
///
/// # Errors
/// There is no such line, or it is no usable password.
pub fn hash_password_command() -> Result<String, EdgeError> {
    let bad = |why: String| EdgeError::Config {
        path: PathBuf::from("the standard input"),
        why,
    };
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|e| bad(e.to_string()))?;
    hash_password(line.trim_end_matches(['\n', '\r'])).map_err(bad)
}
