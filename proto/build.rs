//! Compiles the message definitions with `protox`, so that no `protoc` is needed.

use std::path::{Path, PathBuf};

fn proto_files(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=fabric");
    println!("cargo:rerun-if-changed=selvedge");
    let mut files = Vec::new();
    proto_files(Path::new("fabric"), &mut files)?;
    proto_files(Path::new("selvedge"), &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        // Without the `connect` helpers, whose name clashes with the rpc protos.Chaincode/Connect; `comm` makes channels.
        .build_transport(false)
        .include_file("messages.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
