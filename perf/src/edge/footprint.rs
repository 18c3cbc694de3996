//! Program size, memory, bytes on disk, and the start after a kill. None of it needs a network.

use std::path::PathBuf;

use super::{Bench, Figure, Gateway, Uplink, folder, payload_bytes};
use crate::error::PerfError;

const SIZE_LIMIT: u64 = 12_000_000;
const RESIDENT_LIMIT_KIB: u64 = 20_000_000 / 1024;
const BACKLOG_LIMIT: u64 = 1_000_000_000;
/// "In seconds", in the words.
const START_LIMIT_SECONDS: u64 = 10;

#[expect(clippy::cast_precision_loss, reason = "figures for reading")]
fn mega(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

pub(crate) fn sizes(bench: &Bench, more: &[PathBuf]) -> Result<Vec<Figure>, PerfError> {
    std::iter::once(&bench.program)
        .chain(more)
        .map(|program| {
            let bytes = std::fs::metadata(program)
                .map_err(PerfError::file(program))?
                .len();
            Ok(Figure::limited(
                format!("size of {}", program.display()),
                "12 MB",
                mega(bytes),
                bytes < SIZE_LIMIT,
            ))
        })
        .collect()
}

pub(crate) async fn buffer(bench: &Bench, readings: u64) -> Result<Vec<Figure>, PerfError> {
    let folder = folder()?;
    let uplink = Uplink::to_nobody(folder.path())?;
    let mut gateway = Gateway::start(bench, &folder, &uplink, &[]).await?;
    let empty = gateway.resident_kib();
    gateway.fill(0, readings).await?;
    let full = gateway.resident_kib();
    let settled = gateway.settled_kib().await;
    gateway.power_cut().await?;
    let again = gateway.settled_kib().await;
    let each = gateway.buffer_bytes() / readings.max(1);
    let limit = payload_bytes() * 3 / 2 + 100;
    Ok(vec![
        Figure::plain("resident memory, empty buffer", format!("{empty} KiB")),
        Figure::plain(
            format!("the same when the last of {readings} readings has just been taken"),
            format!("{full} KiB"),
        ),
        Figure::limited(
            format!("resident memory, {readings} readings buffered, idle again"),
            format!("{RESIDENT_LIMIT_KIB} KiB"),
            format!("{settled} KiB"),
            settled < RESIDENT_LIMIT_KIB,
        ),
        Figure::limited(
            format!("the same after a kill and a start with {readings} readings"),
            format!("{RESIDENT_LIMIT_KIB} KiB"),
            format!("{again} KiB"),
            again < RESIDENT_LIMIT_KIB,
        ),
        Figure::limited(
            format!(
                "bytes in the buffer's files for a reading of {} bytes",
                payload_bytes()
            ),
            format!("{limit}"),
            format!("{each}"),
            each <= limit,
        ),
    ])
}

pub(crate) async fn recovery(bench: &Bench, backlog: u64) -> Result<Vec<Figure>, PerfError> {
    let folder = folder()?;
    let uplink = Uplink::to_nobody(folder.path())?;
    let mut gateway = Gateway::start(bench, &folder, &uplink, &[]).await?;
    let start = std::time::Instant::now();
    gateway.fill(0, backlog).await?;
    let rate = backlog / start.elapsed().as_secs().max(1);
    let bytes = gateway.buffer_bytes();
    let took = gateway.power_cut().await?;
    let open = gateway.status().await["open"].as_u64().unwrap_or(0);
    Ok(vec![
        Figure::plain("readings taken a second, in lists of 500", format!("{rate}")),
        Figure::limited(
            format!("bytes on disk of {backlog} readings"),
            "1 GB",
            mega(bytes),
            bytes < BACKLOG_LIMIT,
        ),
        Figure::limited(
            format!("from a kill with {backlog} readings to serving again"),
            format!("{START_LIMIT_SECONDS} s"),
            format!("{:.1} s", took.as_secs_f64()),
            took.as_secs() < START_LIMIT_SECONDS,
        ),
        Figure::limited(
            "readings that are there after it",
            format!("{backlog}"),
            format!("{open}"),
            open == backlog,
        ),
        Figure::plain(
            format!("resident memory with {backlog} readings"),
            format!("{} KiB", gateway.resident_kib()),
        ),
    ])
}
