//! What an idea builds on, and what builds on it.

use std::collections::{BTreeSet, VecDeque};

use selvedge_chaincode::{Args, Context, Error, Response, Result, split_composite_key};
use serde::Serialize;

use crate::contribute::load;
use crate::keys;
use crate::model::Share;

const DEFAULT_DEPTH: u64 = 16;
const MAX_DEPTH: u64 = 64;
/// Ideas that one direction lists; it says so when there are more.
const MAX_FOUND: usize = 2000;

#[derive(Serialize)]
struct Relative {
    idea: String,
    title: String,
    depth: u64,
    /// The idea next to it on the way.
    via: String,
    /// The parent's share in its child.
    share: Share,
}

#[derive(Serialize)]
struct Lineage {
    idea: String,
    ancestors: Vec<Relative>,
    descendants: Vec<Relative>,
    truncated: bool,
}

/// Breadth first, each idea once. `neighbours` lists ids with the share on the way there.
fn search(
    ctx: &Context<'_>,
    root: &str,
    depth: u64,
    neighbours: impl Fn(&str) -> Result<Vec<(String, Share)>>,
) -> Result<(Vec<Relative>, bool)> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([root.to_owned()]);
    let mut open = VecDeque::from([(root.to_owned(), 0)]);
    let mut truncated = false;
    while let Some((via, at)) = open.pop_front() {
        let next = neighbours(&via)?;
        if at == depth {
            truncated |= !next.is_empty();
            continue;
        }
        for (idea, share) in next {
            if !seen.insert(idea.clone()) {
                continue;
            }
            if found.len() == MAX_FOUND {
                return Ok((found, true));
            }
            found.push(Relative {
                title: load(ctx, &idea)?.title,
                idea: idea.clone(),
                depth: at + 1,
                via: via.clone(),
                share,
            });
            open.push_back((idea, at + 1));
        }
    }
    Ok((found, truncated))
}

fn parents(ctx: &Context<'_>, id: &str) -> Result<Vec<(String, Share)>> {
    let parents = load(ctx, id)?.parents.into_iter();
    Ok(parents.map(|parent| (parent.idea, parent.share)).collect())
}

fn children(ctx: &Context<'_>, id: &str) -> Result<Vec<(String, Share)>> {
    let mut all = Vec::new();
    for entry in ctx.composite_range(keys::CHILD, &[id])? {
        let (key, _) = entry?;
        let child = split_composite_key(&key)
            .and_then(|(_, parts)| parts.last().copied())
            .ok_or_else(|| Error::internal("an entry of the list of children has a broken key"))?;
        let share = load(ctx, child)?
            .parents
            .into_iter()
            .find(|parent| parent.idea == id)
            .map(|parent| parent.share)
            .ok_or_else(|| Error::internal(format!("idea {child} does not know its parent {id}")))?;
        all.push((child.to_owned(), share));
    }
    Ok(all)
}

pub(crate) fn lineage(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "idea")?;
    let mut object = text.object()?;
    let id = object.require("idea")?.id()?;
    let depth = match object.optional("depth") {
        Some(field) => field.integer()?,
        None => DEFAULT_DEPTH,
    };
    object.finish()?;
    if !(1..=MAX_DEPTH).contains(&depth) {
        return Err(Error::bad_request(format!(
            "idea.depth must be 1 to {MAX_DEPTH}, not {depth}"
        )));
    }
    let idea = load(ctx, &id)?.id;
    let (ancestors, cut_up) = search(ctx, &idea, depth, |id| parents(ctx, id))?;
    let (descendants, cut_down) = search(ctx, &idea, depth, |id| children(ctx, id))?;
    Response::json(&Lineage {
        idea,
        ancestors,
        descendants,
        truncated: cut_up || cut_down,
    })
}
