//! The harness measures real networks: every kind of run, small. What it measures is printed, never judged.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const MATRIX: &str = "
defaults: { warmup: 20, transactions: 200, in_flight: 20 }
runs:
  - { name: gateway, endorsers: 2, targets: [{ what: tps, target: 1 }] }
  - { name: devices, devices: 2, processes: 2, pin: true, mode: direct }
  - { name: channels, channels: 2, rate: 100, organizations: 1 }
  - { name: reads, operation: get, organizations: 1 }
  - { name: state, operation: update, prefill_keys: 2500, organizations: 1 }
  - { name: order, kind: order-only, orderers: 3 }
  - { name: commit, kind: commit-only, endorsers: 2 }
  - { name: audit, kind: audit }
  - { name: start, kind: startup, transactions: 1 }
";

fn perf(arguments: &[&str]) -> std::process::Output {
    let output = Command::new(env!("CARGO_BIN_EXE_selvedge-perf"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{complained}");
    println!("{said}");
    output
}

#[test]
fn every_kind_of_run_measures_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::write(at("matrix.yaml"), MATRIX).unwrap();
    perf(&[
        "run",
        "--matrix",
        &at("matrix.yaml"),
        "--json",
        &at("r.json"),
        "--plots",
        &at("plots"),
    ]);
    let report: Value = serde_json::from_slice(&std::fs::read(at("r.json")).unwrap()).unwrap();
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 9);
    for run in runs {
        let name = run["run"]["name"].as_str().unwrap();
        let count = if name == "start" { 1 } else { 200 };
        assert_eq!(run["transactions"], count, "{name}: {run}");
        assert_eq!(run["failures"], serde_json::json!({}), "{name}");
        assert!(run["cpu_ms"].as_f64().unwrap() > 0.0, "{name}");
    }
    let blocks = |n: usize| runs[n]["block_transactions"].as_f64().unwrap();
    assert!(blocks(0) >= 1.0 && blocks(2) >= 1.0);
    assert_eq!(blocks(3), 0.0, "an evaluation is in no block");
    let disk = &runs[0]["processes"][0]["disk_bytes"];
    assert!(disk.as_u64().unwrap() > 0, "{disk}");
    assert!(Path::new(&at("plots")).join("cpu.svg").is_file());
    let compared = perf(&[
        "run",
        "--matrix",
        &at("matrix.yaml"),
        "--only",
        "reads",
        "--compare",
        &at("r.json"),
    ]);
    assert!(String::from_utf8_lossy(&compared.stdout).contains("before"));
}

#[test]
#[ignore = "installs Caliper from npm, which takes minutes: cargo test --release -p selvedge-perf -- --ignored"]
fn caliper_works_unmodified() {
    perf(&["caliper", "--bench", "short.yaml"]);
}
