//! Compiles the message definitions with `protox`, so that no `protoc` is needed, and writes the table of field kinds
//! that `go_compat` decides by.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

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

fn collect<'a>(
    prefix: &str,
    message: &'a DescriptorProto,
    found: &mut BTreeMap<String, &'a DescriptorProto>,
) {
    let name = if prefix.is_empty() {
        message.name().to_owned()
    } else {
        format!("{prefix}.{}", message.name())
    };
    for nested in &message.nested_type {
        collect(&name, nested, found);
    }
    found.insert(name, message);
}

/// A Rust expression: every message sorted by name, its fields sorted by number.
fn schema_table(descriptors: &FileDescriptorSet) -> Result<String, Box<dyn std::error::Error>> {
    let mut messages = BTreeMap::new();
    for file in &descriptors.file {
        for message in &file.message_type {
            collect(file.package(), message, &mut messages);
        }
    }
    let places: BTreeMap<&str, usize> = messages
        .keys()
        .enumerate()
        .map(|(i, n)| (n.as_str(), i))
        .collect();
    let mut table = String::from("&[\n");
    for (name, message) in &messages {
        write!(table, "MessageSchema {{ name: {name:?}, fields: &[")?;
        let mut fields: Vec<_> = message.field.iter().collect();
        fields.sort_by_key(|f| f.number());
        for field in fields {
            let kind = match field.r#type() {
                Type::String => "Kind::String".to_owned(),
                Type::Bytes => "Kind::Bytes".to_owned(),
                Type::Message => {
                    let target = field.type_name().trim_start_matches('.');
                    let place = places
                        .get(target)
                        .ok_or_else(|| format!("{target} is not defined"))?;
                    format!("Kind::Message({place})")
                }
                Type::Group => {
                    return Err(format!("{name}.{}: groups are not supported", field.name()).into());
                }
                Type::Int32
                | Type::Int64
                | Type::Uint32
                | Type::Uint64
                | Type::Sint32
                | Type::Sint64
                | Type::Bool
                | Type::Enum => "Kind::Varint".to_owned(),
                other => {
                    return Err(format!("{name}.{}: go_compat has no {other:?} yet", field.name()).into());
                }
            };
            let repeated = field.label() == Label::Repeated;
            write!(
                table,
                "FieldSchema {{ number: {}, kind: {kind}, repeated: {repeated} }}, ",
                field.number()
            )?;
        }
        table.push_str("] },\n");
    }
    table.push(']');
    Ok(table)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=fabric");
    println!("cargo:rerun-if-changed=selvedge");
    let mut files = Vec::new();
    proto_files(Path::new("fabric"), &mut files)?;
    proto_files(Path::new("selvedge"), &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("go_schema.rs"), schema_table(&descriptors)?)?;
    let mut config = tonic_prost_build::Config::new();
    // `go_compat` finds a message's schema by its name.
    config.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        // Without the `connect` helpers, whose name clashes with the rpc protos.Chaincode/Connect; `comm` makes channels.
        .build_transport(false)
        .include_file("messages.rs")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
