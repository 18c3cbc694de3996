//! PKCS#11 tokens of SoftHSM2.

use std::path::{Path, PathBuf};
use std::process::Command;

/// PIN of the tokens.
pub const PIN: &str = "1234";
/// Where Debian, Fedora and Arch put SoftHSM2.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib/libsofthsm2.so",
];

/// SoftHSM2's PKCS#11 library.
///
/// # Panics
/// It is not installed.
pub fn library() -> &'static str {
    LIBRARIES
        .into_iter()
        .find(|library| Path::new(library).exists())
        .expect("SoftHSM2 (Debian: softhsm2) is missing; scripts/setup.sh tests installs it")
}

/// Makes an empty token with [`PIN`] below a folder. The configuration that it gives is for `SOFTHSM2_CONF` of whoever uses
/// the token.
///
/// # Panics
/// SoftHSM2 is not installed, or there is a token below the folder already.
pub fn token(folder: &Path, label: &str) -> PathBuf {
    let tokens = folder.join("tokens");
    std::fs::create_dir(&tokens).expect("a folder for the token");
    let config = folder.join("softhsm2.conf");
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    std::fs::write(&config, text).expect("SoftHSM's configuration");
    let made = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", &config)
        .args([
            "--init-token",
            "--free",
            "--label",
            label,
            "--so-pin",
            "4711",
            "--pin",
            PIN,
        ])
        .output()
        .expect("softhsm2-util (Debian: softhsm2) is missing; scripts/setup.sh tests installs it");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    config
}
