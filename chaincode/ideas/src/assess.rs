//! Assessments: what others think of a contribution.

use std::collections::BTreeMap;

use selvedge_chaincode::{Args, Context, Error, Response, Result, decode_state, note};
use serde::Serialize;

use crate::agreement::Agreement;
use crate::contribute::load;
use crate::input::person;
use crate::model::Assessment;
use crate::{events, keys};

const MAX_CRITERIA: usize = 16;
const SCORES: std::ops::RangeInclusive<u64> = 1..=10;

/// The sums over one criterion.
#[derive(Serialize, Default)]
pub(crate) struct Sums {
    count: u64,
    sum: u64,
    /// Rounded half up to two places.
    mean: String,
}

/// All assessments of a contribution added up.
#[derive(Serialize, Default)]
pub(crate) struct Summary {
    count: u64,
    criteria: BTreeMap<String, Sums>,
}

/// `sum / count` with two decimals, rounded half up.
fn mean(sum: u64, count: u64) -> String {
    let hundredths = sum
        .saturating_mul(200)
        .saturating_add(count)
        .checked_div(count.saturating_mul(2))
        .unwrap_or(0);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

impl Summary {
    fn of(all: &[Assessment]) -> Self {
        let mut summary = Self::default();
        for assessment in all {
            summary.count += 1;
            for (name, score) in &assessment.scores {
                let sums = summary.criteria.entry(name.clone()).or_default();
                sums.count += 1;
                sums.sum += u64::from(*score);
            }
        }
        for sums in summary.criteria.values_mut() {
            sums.mean = mean(sums.sum, sums.count);
        }
        summary
    }
}

pub(crate) fn assess(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let by = person(ctx, "assess ideas")?;
    let mut object = args.object(0)?;
    let id = object.require("idea")?.id()?;
    let entries = object.require("scores")?;
    let place = entries.path().to_owned();
    let entries = entries.object()?.rest();
    let note = note(&mut object)?;
    object.finish()?;
    if entries.is_empty() || entries.len() > MAX_CRITERIA {
        return Err(Error::bad_request(format!(
            "{place} must have 1 to {MAX_CRITERIA} criteria, not {}",
            entries.len()
        )));
    }
    let mut scores = BTreeMap::new();
    for (name, field) in entries {
        if !selvedge_chaincode::json::is_id(&name) {
            return Err(Error::bad_request(format!(
                "{}: the name of a criterion consists of 1 to 64 letters, digits and . _ : -",
                field.path()
            )));
        }
        let score = field.integer()?;
        if !SCORES.contains(&score) {
            return Err(Error::bad_request(format!(
                "{} must be 1 to 10, not {score}",
                field.path()
            )));
        }
        scores.insert(name, u32::try_from(score).unwrap_or(0));
    }
    let idea = load(ctx, &id)?;
    if idea.is_author(&by) {
        return Err(Error::forbidden(format!(
            "{} is an author of idea {id} and may not assess it",
            by.user
        )));
    }
    let assessment = Assessment {
        scores,
        note,
        at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
        by: by.clone(),
    };
    ctx.put_json(&keys::assessment(&id, &by)?, &assessment)?;
    let state = Agreement::read(ctx, &idea)?.state();
    events::emit(ctx, &idea, state, "assessed", &by, None)?;
    Response::json(&assessment)
}

fn all(ctx: &Context<'_>, idea: &str) -> Result<Vec<Assessment>> {
    let entries = ctx.composite_range(keys::ASSESSMENT, &[idea])?;
    entries
        .map(|entry| {
            let (key, value) = entry?;
            decode_state(&key, &value)
        })
        .collect()
}

/// The sums for a contribution.
pub(crate) fn summary(ctx: &Context<'_>, idea: &str) -> Result<Summary> {
    Ok(Summary::of(&all(ctx, idea)?))
}

#[derive(Serialize)]
struct Assessments<'a> {
    idea: &'a str,
    assessments: &'a [Assessment],
    #[serde(flatten)]
    summary: Summary,
}

pub(crate) fn assessments(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let id = load(ctx, &args.id(0, "idea")?)?.id;
    let all = all(ctx, &id)?;
    Response::json(&Assessments {
        idea: &id,
        summary: Summary::of(&all),
        assessments: &all,
    })
}

#[cfg(test)]
mod tests {
    use super::mean;

    #[test]
    fn means_are_rounded_half_up() {
        for (sum, count, expected) in [
            (10, 1, "10.00"),
            (1, 3, "0.33"),
            (2, 3, "0.67"),
            (1, 8, "0.13"),
            (0, 0, "0.00"),
        ] {
            assert_eq!(mean(sum, count), expected);
        }
    }
}
