//! How the binary is linked: so that an idle node keeps little of it in memory (docs/performance.md).

use std::process::Command;

/// The first version of the C library that can load packed relocations.
const PACKED_RELOCATIONS: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let gnu_linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux")
        && std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    if !gnu_linux {
        return;
    }
    // RocksDB has an initialiser in nearly every object file; side by side they do not pull in all of its code.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,keep-text-section-prefix");
    // 60,000 addresses to adjust take 1.5 MB of tables otherwise, read at every start.
    if built_for_here() && c_library().is_some_and(|version| version >= PACKED_RELOCATIONS) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn built_for_here() -> bool {
    std::env::var("HOST").is_ok_and(|host| std::env::var("TARGET").is_ok_and(|target| target == host))
}

/// Version of this machine's C library.
fn c_library() -> Option<(u32, u32)> {
    let answer = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
