//! `selvedge-edge diag`: what somebody far away needs to help, in one file, and no secret in it.
//!
//! ```text
//! selvedge-edge-diag-<id>-<time>.tar.gz
//!   config.yaml    the configuration, secrets blanked          doctor.txt, doctor.json   what the doctor says
//!   status.json    /v1/status of the running gateway           metrics.txt               its /metrics
//!   log.txt        the end of its log                          files.txt                 names and sizes in its folder
//!   system.txt     versions, machine, memory, uptime
//! ```
//!
//! Two things keep secrets out: the configuration is written with every secret setting blanked, and every file is searched
//! for the secrets of this gateway (private keys, nonce seed, secret settings) in all forms they could take in a text;
//! what is found is blanked. Files with keys are never read for their own sake, only to know what to search for.

mod redact;
mod secrets;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;

use self::secrets::Secrets;
use crate::EdgeError;
use crate::config::EdgeConfig;
use crate::doctor;

/// Lines of the log that are taken.
const LOG_LINES: usize = 5000;
/// Bytes of one part at most.
const MAX_PART_BYTES: usize = 8 * 1024 * 1024;
/// The unit whose journal is read.
const UNIT: &str = "selvedge-edge";

/// What is wanted of `diag`.
#[derive(Debug, Clone, Default)]
pub struct DiagOptions {
    /// The file to write; named after the gateway and the time, in the current folder, if absent.
    pub out: Option<PathBuf>,
    /// A log file; the journal of the systemd unit `selvedge-edge` if absent.
    pub log: Option<PathBuf>,
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Names of its parts.
    pub parts: Vec<String>,
    /// How many secrets were found in logs or other parts, and blanked.
    pub blanked: usize,
}

/// Collects everything and writes the file (mode 0600).
///
/// # Errors
/// The configuration file cannot be read at all, or the result cannot be written. Parts that cannot be had say why instead.
pub async fn diag(config_path: &Path, options: &DiagOptions) -> Result<Written, EdgeError> {
    let text = std::fs::read_to_string(config_path).map_err(|source| EdgeError::ReadFile {
        path: config_path.to_owned(),
        source,
    })?;
    // A configuration that is not usable is a reason to ask for help.
    let config = EdgeConfig::read(config_path).ok();
    let report = doctor::examine(config_path).await;
    let mut parts: Vec<(&str, Vec<u8>)> = vec![
        ("config.yaml", redact::config(&text).into_bytes()),
        ("doctor.txt", report.text().into_bytes()),
        ("doctor.json", format!("{:#}\n", report.json()).into_bytes()),
        ("system.txt", system().into_bytes()),
        ("log.txt", log(options.log.as_deref()).await),
    ];
    if let Some(config) = &config {
        for (name, path) in [("status.json", "/v1/status"), ("metrics.txt", "/metrics")] {
            let content = doctor::ask(&doctor::local_url(&config.listen), path)
                .await
                .unwrap_or_else(|why| format!("{why}\n").into_bytes());
            parts.push((name, content));
        }
        parts.push(("files.txt", files(&config.data_dir).into_bytes()));
    }

    let secrets = Secrets::collect(&text, config.as_ref());
    let mut blanked = 0;
    for (_, content) in &mut parts {
        content.truncate(MAX_PART_BYTES);
        blanked += secrets.blank(content);
    }

    let id = config.as_ref().map_or("unknown", |c| c.id.as_str());
    let path = options.out.clone().unwrap_or_else(|| default_name(id));
    let failed = |source| EdgeError::WriteFile {
        path: path.clone(),
        source,
    };
    let packed = pack(&parts).map_err(failed)?;
    write_private(&path, &packed).map_err(failed)?;
    Ok(Written {
        path,
        parts: parts.into_iter().map(|(name, _)| name.to_owned()).collect(),
        blanked,
    })
}

fn default_name(id: &str) -> PathBuf {
    let safe: String = id
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let now = now.replace(['-', ':', 'Z'], "").replace('T', "-");
    format!("selvedge-edge-diag-{safe}-{now}.tar.gz").into()
}

fn pack(parts: &[(&str, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    for (name, content) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now.as_secs());
        archive.append_data(
            &mut header,
            Path::new("selvedge-edge-diag").join(name),
            content.as_slice(),
        )?;
    }
    archive.into_inner()?.finish()
}

fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)
}

/// The end of a text, whole lines.
fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    let ends = text.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
    match ends.map(|(i, _)| i).nth(lines) {
        Some(end) => &text[end + 1..],
        None => text,
    }
}

async fn log(file: Option<&Path>) -> Vec<u8> {
    if let Some(file) = file {
        return match std::fs::read(file) {
            Ok(text) => last_lines(&text, LOG_LINES).to_vec(),
            Err(error) => format!("{} cannot be read: {error}\n", file.display()).into_bytes(),
        };
    }
    let lines = LOG_LINES.to_string();
    let journal = tokio::process::Command::new("journalctl")
        .args([
            "--unit",
            UNIT,
            "--lines",
            &lines,
            "--no-pager",
            "--output",
            "short-iso",
        ])
        .stdin(std::process::Stdio::null())
        .output()
        .await;
    match journal {
        Ok(output) if !output.stdout.is_empty() => output.stdout,
        Ok(output) => [b"the journal has nothing: ".as_slice(), &output.stderr, b"\n"].concat(),
        Err(error) => {
            format!("there is no journal here ({error}); name the log with --log FILE\n").into_bytes()
        }
    }
}

/// Names, sizes and modes below a folder, one a line.
fn files(dir: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let mut text = String::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        entries.sort_by_key(std::fs::DirEntry::path);
        for entry in entries {
            let Ok(metadata) = entry.metadata() else { continue };
            let mode = metadata.permissions().mode() & 0o7777;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{mode:04o} {:>12} {}",
                metadata.len(),
                entry.path().display()
            );
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    text
}

fn system() -> String {
    let mut text = format!(
        "selvedge-edge {}\narchitecture: {}\ntime: {}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        humantime::format_rfc3339_seconds(SystemTime::now())
    );
    for path in [
        "/proc/version",
        "/etc/os-release",
        "/sys/firmware/devicetree/base/model",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/self/mountinfo",
    ] {
        if let Ok(content) = std::fs::read(path) {
            let content = String::from_utf8_lossy(&content);
            // Writing to a string does not fail.
            let _ = writeln!(text, "\n== {path}\n{}", content.trim_end_matches(['\0', '\n']));
        }
    }
    text
}

#[cfg(test)]
mod tests;
