//! Whether this machine knows what time it is: peers refuse what is more than 15 minutes off, and a certificate is judged
//! by the clock.

use std::path::Path;
use std::time::SystemTime;

use super::{Area, Report, date, span, unix_seconds};
use crate::config::EdgeConfig;

/// What others may be ahead of or behind us, in seconds, before somebody should look.
const TOLERATED: i64 = 30;
/// What a Fabric peer tolerates in a request for blocks (`peer.authentication.timewindow`), in seconds.
const REFUSED_BEYOND: i64 = 15 * 60;
/// Files that exist while the clock is kept by the network's time.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
/// Names of programs that keep the clock.
const KEEPERS: [&str; 4] = ["chronyd", "ntpd", "ntpsec", "openntpd"];

fn keeper() -> Option<String> {
    if Path::new(SYNCHRONIZED).exists() {
        return Some("systemd-timesyncd".to_owned());
    }
    let processes = std::fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let Ok(name) = std::fs::read_to_string(process.path().join("comm")) else {
            continue;
        };
        if KEEPERS.contains(&name.trim()) {
            return Some(name.trim().to_owned());
        }
    }
    None
}

/// What can be said without asking anybody.
pub(super) fn check_local(report: &mut Report, _config: &EdgeConfig) {
    let now = date(unix_seconds());
    match keeper() {
        Some(keeper) => report.ok(
            Area::Clock,
            format!("it is {now} UTC here; {keeper} keeps the clock"),
        ),
        None => {
            let battery = if Path::new("/dev/rtc0").exists() {
                ""
            } else {
                ", and there is no battery clock: after a power cut without network the time is wrong"
            };
            report.warn(
                Area::Clock,
                format!("it is {now} UTC here, and nothing keeps the clock{battery}"),
                "switch on network time: timedatectl set-ntp true (or install chrony)",
            );
        }
    }
}

/// Compares this clock with what `who` said; `theirs` in Unix seconds. `at_least` means that the other's time is one that
/// has passed, such as that of a transaction on the ledger, so that only a clock that is behind shows.
pub(super) fn compare(report: &mut Report, who: &str, theirs: i64, ours: i64, at_least: bool) {
    let ahead = ours.saturating_sub(theirs);
    let amount = span(ahead.unsigned_abs());
    if ahead < -TOLERATED {
        let what = format!("this clock is {amount} behind {who}");
        let todo = "set the clock: timedatectl set-ntp true. Peers refuse what is more than 15 minutes off";
        if ahead < -REFUSED_BEYOND {
            report.fail(Area::Clock, what, todo);
        } else {
            report.warn(Area::Clock, what, todo);
        }
    } else if at_least {
        report.ok(Area::Clock, format!("this clock is not behind {who}"));
    } else if ahead > TOLERATED {
        let what = format!("this clock is {amount} ahead of {who}");
        let todo = "set the clock: timedatectl set-ntp true. Peers refuse what is more than 15 minutes off";
        if ahead > REFUSED_BEYOND {
            report.fail(Area::Clock, what, todo);
        } else {
            report.warn(Area::Clock, what, todo);
        }
    } else {
        report.ok(Area::Clock, format!("this clock agrees with {who} to {amount}"));
    }
}

/// The `Date` of an HTTP answer, Unix seconds.
pub(super) fn http_date(text: &str) -> Option<i64> {
    let time = httpdate::parse_http_date(text).ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}
