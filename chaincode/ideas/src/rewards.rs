//! Rewards: what somebody owes or has paid for a contribution, and who gets which part of it.

use std::collections::BTreeMap;

use selvedge_chaincode::{Args, Context, Decimal, Error, Response, Result, Timestamp, decode_state, note};
use serde::{Deserialize, Serialize};

use crate::agreement::{Agreement, require_agreed};
use crate::contribute::load;
use crate::input::{named_person, person};
use crate::model::{Contribution, Person, Reward, RewardPart};
use crate::split::split;
use crate::{events, keys};

const MAX_CURRENCY: usize = 16;
const MAX_REASON: usize = 1024;
const MAX_REFERENCE: usize = 256;
/// Digits of an amount before and after the point: what fits the arithmetic many times over.
const MAX_WHOLE: usize = 18;
const MAX_PLACES: usize = 8;
/// An amount is split in units of this many decimal places at least.
const MIN_PLACES: usize = 2;
/// Ideas that one reward may reach through parents.
const MAX_REACHED: usize = 2000;
/// Rewards that one answer lists.
const MAX_LISTED: usize = 1000;

/// An amount as a whole number of its smallest units, and how many decimal places those have.
fn units(amount: &Decimal, path: &str) -> Result<(u128, usize)> {
    let text = amount.as_str();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if amount.is_negative() || amount.is_zero() {
        return Err(Error::bad_request(format!(
            "{path} must be greater than 0, but is {amount}"
        )));
    }
    if whole.len() > MAX_WHOLE || fraction.len() > MAX_PLACES {
        return Err(Error::bad_request(format!(
            "{path} has at most {MAX_WHOLE} digits before and {MAX_PLACES} after the point"
        )));
    }
    let places = fraction.len().max(MIN_PLACES);
    let digits = format!("{whole}{fraction:0<places$}");
    let units = digits
        .parse()
        .map_err(|_| Error::internal(format!("{amount} is not a whole number of units")))?;
    Ok((units, places))
}

fn money(units: u128, places: usize) -> String {
    let digits = format!("{units:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{whole}.{fraction}")
}

/// Hands units down: to the authors, and through each parent to its authors and parents.
fn distribute(ctx: &Context<'_>, idea: Contribution, units: u128) -> Result<BTreeMap<Person, u128>> {
    let mut parts: BTreeMap<Person, u128> = BTreeMap::new();
    let mut known: BTreeMap<String, Contribution> = BTreeMap::new();
    let mut open = vec![(idea, units)];
    let mut reached = 0;
    while let Some((idea, units)) = open.pop() {
        reached += 1;
        if reached > MAX_REACHED {
            return Err(Error::bad_request(format!(
                "the reward reaches more than {MAX_REACHED} ideas through parents; reward those directly"
            )));
        }
        let weights: Vec<u32> = idea
            .authors
            .iter()
            .map(|author| author.share.0)
            .chain(idea.parents.iter().map(|parent| parent.share.0))
            .collect();
        let mut amounts = split(units, &weights).into_iter();
        for (author, amount) in idea.authors.iter().zip(&mut amounts) {
            *parts.entry(author.person.clone()).or_default() += amount;
        }
        for (parent, amount) in idea.parents.iter().zip(amounts) {
            if amount == 0 {
                continue;
            }
            let next = match known.get(&parent.idea) {
                Some(next) => next.clone(),
                None => {
                    let next = load(ctx, &parent.idea)?;
                    known.insert(parent.idea.clone(), next.clone());
                    next
                }
            };
            open.push((next, amount));
        }
    }
    Ok(parts)
}

pub(crate) fn reward(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let by = person(ctx, "reward ideas")?;
    let mut object = args.object(0)?;
    let id = match object.optional("id") {
        Some(field) => field.id()?,
        None => format!("rwd-{}", ctx.tx_id()?.get(..20).unwrap_or_default()),
    };
    let idea_id = object.require("idea")?.id()?;
    let field = object.require("amount")?;
    let amount = field.decimal()?;
    let (whole, places) = units(&amount, field.path())?;
    let currency = object.require("currency")?.name(MAX_CURRENCY)?;
    let reason = object
        .optional("reason")
        .map(|field| field.text(MAX_REASON))
        .transpose()?;
    let reference = object
        .optional("reference")
        .map(|field| field.label(MAX_REFERENCE))
        .transpose()?;
    object.finish()?;
    let idea = load(ctx, &idea_id)?;
    require_agreed(ctx, &idea, "a reward")?;
    let key = keys::reward(&idea_id, &id)?;
    if ctx.get_state(&key)?.is_some() {
        return Err(Error::conflict(format!(
            "there is already a reward {id} for idea {idea_id}; choose another id"
        )));
    }
    let parts = distribute(ctx, idea.clone(), whole)?;
    let reward = Reward {
        id,
        idea: idea_id,
        amount,
        currency,
        reason,
        reference,
        by: by.msp_id.clone(),
        user: by.user.clone(),
        at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
        parts: parts
            .into_iter()
            .filter(|(_, units)| *units > 0)
            .map(|(person, units)| RewardPart {
                person,
                amount: money(units, places),
            })
            .collect(),
    };
    ctx.put_json(&key, &reward)?;
    for part in &reward.parts {
        ctx.put_state(&keys::beneficiary(&part.person, &reward.idea, &reward.id)?, b"1")?;
    }
    let state = Agreement::read(ctx, &idea)?.state();
    events::emit(ctx, &idea, state, "rewarded", &by, Some(&reward.id))?;
    Response::json(&show(ctx, reward, None)?)
}

/// A beneficiary's word that he has received his part.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    at: Timestamp,
    tx_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn load_reward(ctx: &Context<'_>, idea: &str, id: &str) -> Result<Reward> {
    ctx.get_json(&keys::reward(idea, id)?)?
        .ok_or_else(|| Error::not_found(format!("reward {id} for idea {idea} is unknown")))
}

pub(crate) fn confirm(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let by = person(ctx, "receive rewards")?;
    let mut object = args.object(0)?;
    let idea_id = object.require("idea")?.id()?;
    let id = object.require("reward")?.id()?;
    let note = note(&mut object)?;
    object.finish()?;
    let idea = load(ctx, &idea_id)?;
    let reward = load_reward(ctx, &idea_id, &id)?;
    if !reward.parts.iter().any(|part| part.person == by) {
        return Err(Error::forbidden(format!(
            "{by} has no part in reward {id} for idea {idea_id}"
        )));
    }
    let key = keys::receipt(&idea_id, &id, &by)?;
    if ctx.get_state(&key)?.is_some() {
        return Err(Error::conflict(format!(
            "{by} has already confirmed reward {id} for idea {idea_id}"
        )));
    }
    let receipt = Receipt {
        at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
        note,
    };
    ctx.put_json(&key, &receipt)?;
    let state = Agreement::read(ctx, &idea)?.state();
    events::emit(ctx, &idea, state, "rewardConfirmed", &by, Some(&id))?;
    Response::json(&show(ctx, reward, Some(&by))?)
}

#[derive(Serialize)]
struct ShownPart {
    #[serde(flatten)]
    part: RewardPart,
    confirmed: bool,
}

/// A reward with what its beneficiaries have confirmed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    idea: String,
    amount: Decimal,
    currency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    by: String,
    user: String,
    at: Timestamp,
    tx_id: String,
    parts: Vec<ShownPart>,
}

/// `new` has confirmed in this very transaction, which reading does not show.
fn show(ctx: &Context<'_>, reward: Reward, new: Option<&Person>) -> Result<Shown> {
    let mut parts = Vec::with_capacity(reward.parts.len());
    for part in reward.parts {
        let key = keys::receipt(&reward.idea, &reward.id, &part.person)?;
        parts.push(ShownPart {
            confirmed: new == Some(&part.person) || ctx.get_state(&key)?.is_some(),
            part,
        });
    }
    Ok(Shown {
        id: reward.id,
        idea: reward.idea,
        amount: reward.amount,
        currency: reward.currency,
        reason: reward.reason,
        reference: reward.reference,
        by: reward.by,
        user: reward.user,
        at: reward.at,
        tx_id: reward.tx_id,
        parts,
    })
}

#[derive(Serialize)]
struct Rewards {
    rewards: Vec<Shown>,
    truncated: bool,
}

/// Takes an idea's id, `{"idea"}`, or `{"beneficiary":{"mspId","user"}}`.
pub(crate) fn rewards(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "idea")?;
    let mut object = text.object()?;
    let idea = object.optional("idea").map(|field| field.id()).transpose()?;
    let beneficiary = match object.optional("beneficiary") {
        Some(field) => {
            let mut object = field.object()?;
            let person = named_person(&mut object)?;
            object.finish()?;
            Some(person)
        }
        None => None,
    };
    object.finish()?;
    let mut answer = Rewards {
        rewards: Vec::new(),
        truncated: false,
    };
    let entries = match (&idea, &beneficiary) {
        (Some(idea), None) => ctx.composite_range(keys::REWARD, &[&load(ctx, idea)?.id])?,
        (None, Some(person)) => ctx.composite_range(keys::BENEFICIARY, &[&person.msp_id, &person.user])?,
        _ => {
            return Err(Error::bad_request(
                "filter must name either an idea or a beneficiary",
            ));
        }
    };
    for entry in entries {
        let (key, value) = entry?;
        if answer.rewards.len() == MAX_LISTED {
            answer.truncated = true;
            break;
        }
        let reward = if idea.is_some() {
            decode_state(&key, &value)?
        } else {
            let (_, parts) = selvedge_chaincode::split_composite_key(&key).unwrap_or_default();
            let [.., idea, id] = parts.as_slice() else {
                return Err(Error::internal(
                    "an entry of the list of rewards has a broken key",
                ));
            };
            load_reward(ctx, idea, id)?
        };
        answer.rewards.push(show(ctx, reward, None)?);
    }
    Response::json(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_become_units_and_back() {
        for (amount, expected) in [
            ("1000", "1000.00"),
            ("0.5", "0.50"),
            ("12.345", "12.345"),
            ("0.00000001", "0.00000001"),
        ] {
            let (units, places) = units(&amount.parse().unwrap(), "amount").unwrap();
            assert_eq!(money(units, places), expected);
        }
        for bad in ["0", "-1", "0.000000001", "1000000000000000000"] {
            assert_eq!(
                units(&bad.parse().unwrap(), "amount").unwrap_err().status(),
                400,
                "{bad}"
            );
        }
    }
}
