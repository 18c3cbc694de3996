//! Why transactions were refused, kept for `selvedge explain` and for whoever reads the log.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_proto::protos::TxValidationCode;

/// How many refusals are kept per channel.
const CAPACITY: usize = 4096;
/// Longest explanation, in bytes.
const LONGEST: usize = 4096;

/// One refused transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The channel.
    pub channel: String,
    /// Number of the block that holds it.
    pub block: u64,
    /// Its place in the block.
    pub index: usize,
    /// Its id; empty where the envelope yields none.
    pub tx_id: String,
    /// The code it got.
    pub code: TxValidationCode,
    /// Which rule it broke, and how.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "transaction {} (channel {}, block {}, index {}) is {}: {}",
            if self.tx_id.is_empty() {
                "without id"
            } else {
                &self.tx_id
            },
            self.channel,
            self.block,
            self.index,
            self.code.as_str_name(),
            self.reason
        )
    }
}

/// The last refusals of a channel by transaction id.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<String, Arc<Refusal>>,
    order: VecDeque<Arc<Refusal>>,
}

impl RefusalLog {
    /// Logs a refusal and keeps it. Of one id the latest is found.
    pub(crate) fn add(&self, mut refusal: Refusal) {
        truncate(&mut refusal.reason, LONGEST);
        truncate(&mut refusal.tx_id, 256);
        tracing::warn!(
            channel = %refusal.channel,
            block = refusal.block,
            index = refusal.index,
            tx_id = %refusal.tx_id,
            code = refusal.code.as_str_name(),
            reason = %refusal.reason,
            "transaction refused"
        );
        let refusal = Arc::new(refusal);
        let mut kept = self.0.lock();
        kept.order.push_back(Arc::clone(&refusal));
        kept.by_id.insert(refusal.tx_id.clone(), refusal);
        if kept.order.len() > CAPACITY
            && let Some(oldest) = kept.order.pop_front()
            && kept
                .by_id
                .get(&oldest.tx_id)
                .is_some_and(|found| Arc::ptr_eq(found, &oldest))
        {
            kept.by_id.remove(&oldest.tx_id);
        }
    }

    pub(crate) fn get(&self, tx_id: &str) -> Option<Arc<Refusal>> {
        self.0.lock().by_id.get(tx_id).cloned()
    }
}

fn truncate(text: &mut String, longest: usize) {
    if text.len() > longest {
        let end = (0..=longest)
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(id: usize, reason: &str) -> Refusal {
        Refusal {
            channel: "c".into(),
            block: 1,
            index: id,
            tx_id: id.to_string(),
            code: TxValidationCode::MvccReadConflict,
            reason: reason.into(),
        }
    }

    #[test]
    fn bounded_in_number_and_length() {
        let log = RefusalLog::default();
        for id in 0..=CAPACITY {
            log.add(refusal(id, &"ü".repeat(LONGEST)));
        }
        assert!(log.get("0").is_none());
        let kept = log.get("1").unwrap();
        assert!(kept.reason.len() <= LONGEST + 3 && kept.reason.ends_with("..."));
        assert_eq!(log.0.lock().order.len(), CAPACITY);
    }

    #[test]
    fn of_one_id_the_latest_is_found() {
        let log = RefusalLog::default();
        log.add(refusal(7, "first"));
        log.add(refusal(7, "second"));
        assert_eq!(log.get("7").unwrap().reason, "second");
        assert!(
            log.get("7")
                .unwrap()
                .to_string()
                .contains("MVCC_READ_CONFLICT: second")
        );
    }
}
