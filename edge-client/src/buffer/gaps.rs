//! What was dropped, and how it is told to the ledger.
//!
//! Each drop is a record of its own; here they are added up by where they would have gone, who made them and why, until a
//! gap record tells of them. This sum follows what is written to the files, record by record, so that after any stop it is
//! what the files say: a drop is told once.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::record::{Dropped, StoredGap, Target};
use super::request::Template;

/// Sums kept apart; what comes on top is told without naming the source.
const MAX_SUMS: usize = 1000;

/// Why a request was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// The buffer was full and its policy chose it.
    Full,
    /// It, or the buffer's limit, said that it is worth nothing any more.
    Expired,
    /// Its record on this machine's disk is damaged.
    Damaged,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Expired, Self::Damaged];

    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Full => 0,
            Self::Expired => 1,
            Self::Damaged => 2,
        }
    }

    pub(crate) fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Full,
            1 => Self::Expired,
            _ => Self::Damaged,
        }
    }

    /// As it is told to people and to the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
        }
    }
}

/// What is missing of one source for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Gap {
    pub(crate) count: u64,
    /// Numbers of the first and last request in this buffer.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// When they came in, in unix seconds; 0 for unknown.
    pub(crate) from_s: u32,
    pub(crate) to_s: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct GapKey {
    target: Target,
    source: String,
    reason: DropReason,
}

/// What was dropped and not yet told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gaps {
    sums: BTreeMap<GapKey, Gap>,
}

impl Gaps {
    pub(crate) fn add(&mut self, template: Option<&Template>, dropped: &Dropped) {
        let mut key = GapKey {
            target: template.map_or_else(Target::default, |t| Target {
                channel: t.channel.clone(),
                chaincode: t.chaincode.clone(),
            }),
            source: template.map(|t| t.source.clone()).unwrap_or_default(),
            reason: DropReason::from_number(dropped.reason),
        };
        if self.sums.len() >= MAX_SUMS && !self.sums.contains_key(&key) {
            key.source = String::new();
        }
        let gap = self.sums.entry(key).or_default();
        gap.count += 1;
        if dropped.number > 0 {
            gap.first = if gap.first == 0 {
                dropped.number
            } else {
                gap.first.min(dropped.number)
            };
            gap.last = gap.last.max(dropped.number);
        }
        if dropped.accepted_s > 0 {
            gap.from_s = if gap.from_s == 0 {
                dropped.accepted_s
            } else {
                gap.from_s.min(dropped.accepted_s)
            };
            gap.to_s = gap.to_s.max(dropped.accepted_s);
        }
    }

    /// Targets of which something is to be told.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let mut targets: Vec<Target> = self.sums.keys().map(|k| k.target.clone()).collect();
        targets.dedup();
        targets
    }

    /// Requests that were dropped and not yet told.
    pub(crate) fn untold(&self) -> u64 {
        self.sums.values().map(|gap| gap.count).sum()
    }

    /// What is to be told of a target, as the argument of a contract function; none if there is nothing.
    pub(crate) fn told(&self, gateway: &str, target: &Target) -> Option<Value> {
        let gaps: Vec<Value> = self
            .sums
            .iter()
            .filter(|(key, _)| key.target == *target)
            .map(|(key, gap)| {
                let mut value = json!({
                    "source": key.source, "reason": key.reason.name(), "count": gap.count,
                    "first": gap.first, "last": gap.last,
                });
                for (name, seconds) in [("from", gap.from_s), ("to", gap.to_s)] {
                    if seconds > 0 {
                        let time = UNIX_EPOCH + Duration::from_secs(u64::from(seconds));
                        value[name] = humantime::format_rfc3339_seconds(time).to_string().into();
                    }
                }
                value
            })
            .collect();
        if gaps.is_empty() {
            return None;
        }
        Some(json!({ "gateway": gateway, "gaps": gaps }))
    }

    /// A durable request tells of everything of this target.
    pub(crate) fn clear(&mut self, target: &Target) {
        self.sums.retain(|key, _| key.target != *target);
    }

    pub(crate) fn stored(&self) -> Vec<StoredGap> {
        self.sums
            .iter()
            .map(|(key, gap)| StoredGap {
                channel: key.target.channel.clone(),
                chaincode: key.target.chaincode.clone(),
                source: key.source.clone(),
                reason: key.reason.number(),
                count: gap.count,
                first: gap.first,
                last: gap.last,
                from_s: gap.from_s,
                to_s: gap.to_s,
            })
            .collect()
    }

    pub(crate) fn load(stored: Vec<StoredGap>) -> Self {
        let sums = stored.into_iter().map(|gap| {
            let key = GapKey {
                target: Target {
                    channel: gap.channel,
                    chaincode: gap.chaincode,
                },
                source: gap.source,
                reason: DropReason::from_number(gap.reason),
            };
            let gap = Gap {
                count: gap.count,
                first: gap.first,
                last: gap.last,
                from_s: gap.from_s,
                to_s: gap.to_s,
            };
            (key, gap)
        });
        Self { sums: sums.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::request::TransactionRequest;

    fn template(source: &str) -> Template {
        let request = TransactionRequest {
            channel: "trade".into(),
            chaincode: "shipment".into(),
            source: source.into(),
            ..TransactionRequest::default()
        };
        Template::of(&request, [0; 32])
    }

    fn dropped(number: u64, accepted_s: u32) -> Dropped {
        Dropped {
            number,
            template: 0,
            accepted_s,
            reason: DropReason::Full.number(),
        }
    }

    #[test]
    fn drops_add_up_and_are_told_once() {
        let mut gaps = Gaps::default();
        gaps.add(Some(&template("t1")), &dropped(7, 1_704_067_300));
        gaps.add(Some(&template("t1")), &dropped(5, 1_704_067_200));
        gaps.add(Some(&template("t2")), &dropped(6, 0));
        let again = Gaps::load(gaps.stored());
        assert_eq!(again, gaps);
        let target = gaps.targets().remove(0);
        let told = gaps.told("hall-7", &target).unwrap();
        assert_eq!(
            told["gaps"][0],
            json!({
                "source": "t1", "reason": "full", "count": 2, "first": 5, "last": 7,
                "from": "2024-01-01T00:00:00Z", "to": "2024-01-01T00:01:40Z",
            })
        );
        assert!(told["gaps"][1].get("from").is_none());
        gaps.clear(&target);
        assert!(gaps.told("hall-7", &target).is_none() && gaps.untold() == 0);
    }

    #[test]
    fn many_sources_do_not_fill_the_memory() {
        let mut gaps = Gaps::default();
        for n in 0..5000 {
            gaps.add(Some(&template(&n.to_string())), &dropped(n + 1, 0));
        }
        assert!(gaps.sums.len() <= MAX_SUMS + 1);
        assert_eq!(gaps.untold(), 5000);
    }
}
