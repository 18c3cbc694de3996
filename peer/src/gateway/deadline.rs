//! The time that a client leaves us.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// Answering a little before the client gives up lets it hear the reason.
const MARGIN: Duration = Duration::from_millis(20);

/// How long the client waits, by the metadata of its call; none for ever.
pub(crate) fn limit_of(metadata: &MetadataMap) -> Option<Duration> {
    parse(metadata.get("grpc-timeout")?.to_str().ok()?)
}

/// When the answer must be on its way to a client that waits so long from now on.
pub(crate) fn after(limit: Duration) -> Option<Instant> {
    let margin = MARGIN.min(limit / 10);
    Instant::now().checked_add(limit.saturating_sub(margin))
}

/// `grpc-timeout`: at most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// Runs `work` until the deadline; `None` when it passed first.
pub(crate) async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        None => Some(work.await),
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_grpc_timeout() {
        let cases = [
            ("5S", Some(Duration::from_secs(5))),
            ("1500m", Some(Duration::from_millis(1500))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("7u", Some(Duration::from_micros(7))),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("5x", None),
            ("-1S", None),
            ("ü", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
