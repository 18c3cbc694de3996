//! What ratings add up to, in whole numbers, so that anybody who adds them up gets the same.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_chaincode::{
    Args, Context, Error, Response, Result, Timestamp, decode_state, msp_id, sha256_hex,
};
use serde::Serialize;

use crate::keys;
use crate::model::{Rating, Source};

const MAX_SOURCES: usize = 16;

#[derive(Serialize, Default)]
struct Sums {
    count: u64,
    sum: u64,
    /// Null without ratings.
    mean: Option<String>,
}

impl Sums {
    fn add(&mut self, score: u32) {
        self.count += 1;
        self.sum += u64::from(score);
    }

    fn finish(&mut self) {
        self.mean = mean(self.sum, self.count);
    }
}

/// `sum / count` with two decimals, rounded half up.
fn mean(sum: u64, count: u64) -> Option<String> {
    let hundredths = sum
        .checked_mul(200)?
        .checked_add(count)?
        .checked_div(count.checked_mul(2)?)?;
    Some(format!("{}.{:02}", hundredths / 100, hundredths % 100))
}

#[derive(Serialize)]
struct Aggregate {
    organization: String,
    until: Option<Timestamp>,
    sources: Vec<String>,
    #[serde(flatten)]
    all: Sums,
    scores: BTreeMap<u32, u64>,
    criteria: BTreeMap<String, Sums>,
    raters: usize,
    /// Ratings left out because their chaincode is not among the sources.
    others: u64,
    digest: String,
}

/// Takes an MSP id, or `{"organization","until"?,"sources"?}`.
pub(crate) fn aggregate(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "organization")?;
    let mut object = text.object()?;
    let organization = msp_id(&object.require("organization")?)?;
    let until = object.optional("until").map(|field| field.time()).transpose()?;
    let mut sources = Vec::new();
    for field in object.list("sources", MAX_SOURCES)? {
        sources.push(field.id()?);
    }
    object.finish()?;
    if sources.is_empty() {
        sources = [Source::Rfq, Source::Shipment]
            .map(|source| source.as_str().to_owned())
            .to_vec();
    }
    let mut aggregate = Aggregate {
        organization,
        until,
        sources,
        all: Sums::default(),
        scores: (1..=5).map(|score| (score, 0)).collect(),
        criteria: BTreeMap::new(),
        raters: 0,
        others: 0,
        digest: String::new(),
    };
    let mut raters = BTreeSet::new();
    let mut lines = String::new();
    for entry in ctx.composite_range(keys::RATING, &[&aggregate.organization])? {
        let (key, value) = entry?;
        let rating: Rating = decode_state(&key, &value)?;
        if until.is_some_and(|until| rating.at > until) {
            continue;
        }
        if !aggregate.sources.contains(&rating.chaincode) {
            aggregate.others += 1;
            continue;
        }
        aggregate.all.add(rating.score);
        *aggregate
            .scores
            .get_mut(&rating.score)
            .ok_or_else(|| Error::internal(format!("rating {} has a score out of range", rating.id)))? += 1;
        lines.push_str(&format!("{} {} {}\n", rating.id, rating.score, rating.tx_id));
        for (name, score) in &rating.criteria {
            aggregate.criteria.entry(name.clone()).or_default().add(*score);
        }
        raters.insert(rating.by);
    }
    aggregate.all.finish();
    aggregate.criteria.values_mut().for_each(Sums::finish);
    aggregate.raters = raters.len();
    aggregate.digest = sha256_hex(lines.as_bytes());
    Response::json(&aggregate)
}

#[cfg(test)]
mod tests {
    use super::mean;

    #[test]
    fn means_are_rounded_half_up() {
        for (sum, count, expected) in [(12, 3, "4.00"), (9, 2, "4.50"), (14, 3, "4.67"), (33, 8, "4.13")] {
            assert_eq!(mean(sum, count).as_deref(), Some(expected));
        }
        assert_eq!(mean(0, 0), None);
    }
}
