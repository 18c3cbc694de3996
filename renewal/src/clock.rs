//! What time it is, and whether others agree.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time; handed in, so that tests can say what time it is.
pub trait Clock: Send + Sync + 'static {
    /// Seconds since 1970.
    fn now(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}

/// A point in time for people.
pub(crate) fn shown(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    // Beyond the year 9999 there is no such text.
    match UNIX_EPOCH.checked_add(since) {
        Some(time) if seconds < 253_402_300_800 => humantime::format_rfc3339_seconds(time).to_string(),
        _ => format!("{seconds} s after 1970"),
    }
}

/// What to say when the clock here and that of `whose` differ by more than `tolerance`; times are Unix seconds.
#[must_use]
pub fn clock_disagreement(here: i64, there: i64, whose: &str, tolerance: Duration) -> Option<String> {
    let apart = here.abs_diff(there);
    if apart <= tolerance.as_secs() {
        return None;
    }
    let (ahead, behind) = if here > there {
        ("here is ahead", "there is behind")
    } else {
        ("here is behind", "there is ahead")
    };
    Some(format!(
        "the clock here says {}, that of {whose} says {}: either the one {ahead} or the one {behind}, by \
         {}. Set the wrong one (`timedatectl set-ntp true`): nodes refuse requests that are more than 15 minutes off, and \
         certificates seem to have ended or not to have begun",
        shown(here),
        shown(there),
        humantime::format_duration(Duration::from_secs(apart)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_named_with_both_times() {
        let tolerance = Duration::from_secs(30);
        assert_eq!(clock_disagreement(1000, 1030, "u", tolerance), None);
        let said = clock_disagreement(0, 86_400, "https://ca:7054", tolerance).unwrap();
        assert!(said.contains("says 1970-01-01T00:00:00Z") && said.contains("says 1970-01-02T00:00:00Z"));
        assert!(said.contains("here is behind") && said.contains("1day") && said.contains("timedatectl"));
        assert!(
            clock_disagreement(86_400, 0, "u", tolerance)
                .unwrap()
                .contains("here is ahead")
        );
        assert_eq!(shown(i64::MAX), format!("{} s after 1970", i64::MAX));
    }
}
