//! The disk that holds the buffer: room, whether it keeps what it is given, and how fast it wears.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Area, Report, bytes};
use crate::config::EdgeConfig;

/// The one file that the doctor writes, for a moment.
const PROBE: &str = "doctor.probe";
const PROBE_BYTES: usize = 4096;
/// A disk that takes longer than this to keep 4 KiB will hold up the devices.
const SLOW: Duration = Duration::from_millis(500);
/// Room beside the buffer's own limit, in bytes, for logs and updates.
const SPARE: u64 = 100_000_000;
/// Whole rewrites of a card a year from which on it will not live long: cheap cards stand 300 to 1,000.
const REWRITES_A_YEAR: u64 = 100;
const SECTOR_BYTES: u64 = 512;
const SECONDS_A_YEAR: u64 = 365 * 24 * 3600;
/// A rate over less than this says nothing about a year, in seconds.
const SHORTEST_UPTIME: u64 = 3600;

/// Where a folder is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    kind: String,
    source: String,
    read_only: bool,
}

/// The mount that holds `path`, from the text of `/proc/self/mountinfo`: the longest mount point above it.
fn mount_of(path: &Path, mountinfo: &str) -> Option<Mount> {
    let mut best: Option<(usize, Mount)> = None;
    for line in mountinfo.lines() {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(4);
        let (Some(point), Some(options)) = (left.next(), left.next()) else {
            continue;
        };
        let point = point.replace("\\040", " ");
        if !path.starts_with(&point) {
            continue;
        }
        let mut right = right.split(' ');
        let (Some(kind), Some(source)) = (right.next(), right.next()) else {
            continue;
        };
        let read_only = options.split(',').any(|o| o == "ro");
        // A later mount on the same point hides the earlier one.
        if best.as_ref().is_none_or(|(length, _)| point.len() >= *length) {
            let mount = Mount {
                kind: kind.to_owned(),
                source: source.to_owned(),
                read_only,
            };
            best = Some((point.len(), mount));
        }
    }
    best.map(|(_, mount)| mount)
}

/// The nearest folder that exists, from `path` upwards.
fn existing(path: &Path) -> PathBuf {
    let mut path = path;
    while !path.exists() {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => path = parent,
            _ => return PathBuf::from("."),
        }
    }
    path.to_owned()
}

pub(super) fn check(report: &mut Report, config: &EdgeConfig) {
    let dir = existing(&config.data_dir);
    let dir = dir.canonicalize().unwrap_or(dir);
    room(report, config, &dir);
    let mount = std::fs::read_to_string("/proc/self/mountinfo")
        .ok()
        .and_then(|text| mount_of(&dir, &text));
    if let Some(mount) = &mount {
        kind(report, config, mount);
    }
    if mount.as_ref().is_none_or(|m| !m.read_only) {
        keeps(report, config);
    }
    if let Some(mount) = &mount {
        wear(report, mount);
    }
}

fn room(report: &mut Report, config: &EdgeConfig, dir: &Path) {
    let stat = match rustix::fs::statvfs(dir) {
        Ok(stat) => stat,
        Err(error) => {
            report.fail(
                Area::Disk,
                format!("the disk below {} cannot be looked at: {error}", dir.display()),
                "check that the disk is there and mounted",
            );
            return;
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let size = stat.f_blocks.saturating_mul(stat.f_frsize);
    // A file is a few bytes longer than the requests in it, and two half-dead ones may stand beside it.
    let needed = config.buffer.max_bytes.saturating_mul(5) / 4 + SPARE;
    let what = format!(
        "{} of {} are free; the buffer may take {}",
        bytes(free),
        bytes(size),
        bytes(config.buffer.max_bytes)
    );
    if free < SPARE {
        report.fail(
            Area::Disk,
            what,
            "make room: the gateway refuses requests (HTTP 507) when nothing can be written",
        );
    } else if free < needed {
        report.warn(
            Area::Disk,
            what,
            "make room, or lower buffer.max_bytes: the disk will be full before the buffer is",
        );
    } else {
        report.ok(Area::Disk, what);
    }
    if stat.f_files > 0 && stat.f_favail < 1000 {
        report.warn(
            Area::Disk,
            format!("only {} files more can be made", stat.f_favail),
            "remove small files; the disk is out of inodes",
        );
    }
}

fn kind(report: &mut Report, config: &EdgeConfig, mount: &Mount) {
    let place = config.data_dir.display();
    if mount.read_only {
        report.fail(
            Area::Disk,
            format!(
                "{place} is on a disk that is mounted read-only ({})",
                mount.source
            ),
            "a worn-out card turns read-only: see dmesg; otherwise mount it read-write",
        );
        return;
    }
    match mount.kind.as_str() {
        "tmpfs" | "ramfs" => report.fail(
            Area::Disk,
            format!(
                "{place} is in memory ({}): a power cut loses what was acknowledged",
                mount.kind
            ),
            "set data_dir to a folder on the card or disk",
        ),
        "vfat" | "exfat" | "msdos" => report.warn(
            Area::Disk,
            format!(
                "{place} is on a {} file system, which a power cut may damage",
                mount.kind
            ),
            "use ext4 or f2fs",
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "fuse.sshfs" => report.warn(
            Area::Disk,
            format!("{place} is on a network drive ({})", mount.kind),
            "keep the buffer on this machine: it is there for when the network is not",
        ),
        _ => {}
    }
}

/// Writes a small file, has it kept, and reads it back.
fn probe(path: &Path) -> std::io::Result<Duration> {
    // Random content, so that nothing along the way can know it.
    let mut content = vec![0; PROBE_BYTES];
    rand::Rng::fill(&mut rand::rng(), &mut content[..]);
    let start = Instant::now();
    let mut file = std::fs::File::create(path)?;
    file.write_all(&content)?;
    file.sync_data()?;
    let took = start.elapsed();
    let mut back = Vec::with_capacity(PROBE_BYTES);
    std::fs::File::open(path)?.read_to_end(&mut back)?;
    if back == content {
        Ok(took)
    } else {
        Err(std::io::Error::other(
            "what was read back is not what was written",
        ))
    }
}

fn keeps(report: &mut Report, config: &EdgeConfig) {
    let dir = existing(&config.data_dir);
    let path = dir.join(PROBE);
    let result = probe(&path);
    // It may not have been made at all.
    drop(std::fs::remove_file(&path));
    match result {
        Ok(took) if took > SLOW => report.warn(
            Area::Disk,
            format!("the disk took {} ms to keep 4 kB (fsync)", took.as_millis()),
            "devices wait that long for each 202; use a better card (A1 or A2), or send readings in lists",
        ),
        Ok(took) => report.ok(
            Area::Disk,
            format!(
                "{} keeps what is written (fsync of 4 kB took {}.{} ms)",
                dir.display(),
                took.as_micros() / 1000,
                took.as_micros() % 1000 / 100
            ),
        ),
        Err(error) => report.fail(
            Area::Disk,
            format!("{} does not keep what is written: {error}", dir.display()),
            "run the doctor as the user that the gateway runs as, and give that user the folder; if it is, see dmesg",
        ),
    }
}

fn read_number(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let word = text.split_whitespace().next()?;
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

/// The whole disk below `/sys/class/block` that a partition such as `/dev/mmcblk0p2` belongs to.
fn whole_disk(source: &str) -> Option<PathBuf> {
    let name = Path::new(source).canonicalize().ok()?;
    let name = name.strip_prefix("/dev").ok()?;
    let part = Path::new("/sys/class/block").join(name).canonicalize().ok()?;
    if part.join("partition").exists() {
        part.parent().map(Path::to_owned)
    } else {
        Some(part)
    }
}

/// How often a disk of `size` bytes is rewritten in a year when `written` bytes went to it in `seconds`.
fn rewrites_a_year(written: u64, seconds: u64, size: u64) -> u64 {
    let a_year = u128::from(written) * u128::from(SECONDS_A_YEAR) / u128::from(seconds.max(1));
    u64::try_from(a_year / u128::from(size.max(1))).unwrap_or(u64::MAX)
}

fn wear(report: &mut Report, mount: &Mount) {
    let Some(disk) = whole_disk(&mount.source) else {
        return;
    };
    let name = disk
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    life_used(report, &name, &disk.join("device"));
    let stat = std::fs::read_to_string(disk.join("stat")).unwrap_or_default();
    let sectors = stat.split_whitespace().nth(6).and_then(|w| w.parse::<u64>().ok());
    let size = read_number(&disk.join("size"))
        .unwrap_or(0)
        .saturating_mul(SECTOR_BYTES);
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: Option<u64> = uptime.split('.').next().and_then(|s| s.parse().ok());
    let (Some(sectors), Some(uptime)) = (sectors, uptime) else {
        return;
    };
    if uptime < SHORTEST_UPTIME || size == 0 {
        return;
    }
    let written = sectors.saturating_mul(SECTOR_BYTES);
    let rewrites = rewrites_a_year(written, uptime, size);
    let what = format!(
        "{name} ({}) took {} since this machine started {} ago: at that rate it is rewritten {rewrites} times a year",
        bytes(size),
        bytes(written),
        super::span(uptime)
    );
    if rewrites > REWRITES_A_YEAR {
        report.warn(
            Area::Disk,
            what,
            "cheap cards stand some hundred rewrites: look for what else writes (logs, swap), or use an industrial card",
        );
    } else {
        report.ok(Area::Disk, what);
    }
}

/// What an eMMC chip says of its own wear (JEDEC 5.0: 1 is up to 10 % of its life, 11 is beyond it). Cards do not tell.
fn life_used(report: &mut Report, name: &str, device: &Path) {
    let text = std::fs::read_to_string(device.join("life_time")).unwrap_or_default();
    let worst = text
        .split_whitespace()
        .filter_map(|w| u64::from_str_radix(w.trim_start_matches("0x"), 16).ok())
        .max()
        .filter(|used| *used > 0);
    let Some(used) = worst else { return };
    match used {
        11.. => report.fail(
            Area::Disk,
            format!("{name} says that its life is used up"),
            "replace it now; let the buffer drain first if the network is there",
        ),
        9 | 10 => report.warn(
            Area::Disk,
            format!("{name} says that up to {} % of its life is used", used * 10),
            "plan its replacement",
        ),
        _ => report.ok(
            Area::Disk,
            format!("{name} says that at most {} % of its life is used", used * 10),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw\n\
        30 22 0:26 / /run rw,nosuid - tmpfs tmpfs rw\n\
        31 22 8:1 / /mnt/my\\040card ro,relatime - vfat /dev/sda1 ro\n";

    #[test]
    fn the_nearest_mount_counts() {
        let kind = |path: &str| mount_of(Path::new(path), MOUNTS).map(|m| (m.kind, m.read_only));
        assert_eq!(kind("/var/lib/selvedge"), Some(("ext4".into(), false)));
        assert_eq!(kind("/run/edge"), Some(("tmpfs".into(), false)));
        assert_eq!(kind("/runner"), Some(("ext4".into(), false)));
        assert_eq!(kind("/mnt/my card/data"), Some(("vfat".into(), true)));
        assert_eq!(mount_of(Path::new("/x"), ""), None);
    }

    #[test]
    fn rates_are_scaled_to_a_year() {
        // 32 GB card, 1 GB a day.
        assert_eq!(rewrites_a_year(1_000_000_000, 86_400, 32_000_000_000), 11);
        assert_eq!(rewrites_a_year(u64::MAX, 1, 1), u64::MAX);
    }

    #[test]
    fn a_disk_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PROBE);
        assert!(probe(&path).is_ok());
        assert!(probe(&dir.path().join("no/such/folder")).is_err());
        assert_eq!(existing(&dir.path().join("a/b")), dir.path());
    }

    #[test]
    fn a_chip_tells_its_wear() {
        let dir = tempfile::tempdir().unwrap();
        let level = |text: &str| {
            std::fs::write(dir.path().join("life_time"), text).unwrap();
            let mut report = Report::default();
            life_used(&mut report, "mmcblk0", dir.path());
            report.checks.pop().map(|c| c.level)
        };
        assert_eq!(level("0x01 0x02\n"), Some(super::super::Level::Ok));
        assert_eq!(level("0x01 0x0A\n"), Some(super::super::Level::Warning));
        assert_eq!(level("0x0b 0x01\n"), Some(super::super::Level::Failed));
        assert_eq!(level("0x00 0x00\n"), None);
    }
}
