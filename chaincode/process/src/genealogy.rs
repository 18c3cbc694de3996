//! What is in what: searched downwards and upwards, nearest first.

use std::collections::{BTreeSet, VecDeque};

use selvedge_chaincode::json::Object;
use selvedge_chaincode::{
    Args, Context, Decimal, Error, Response, Result, Timestamp, decode_state, split_composite_key,
};
use serde::Serialize;

use crate::access::load_product;
use crate::input::one_part;
use crate::keys;
use crate::model::{Link, Part};

const DEFAULT_DEPTH: u64 = 16;
const MAX_DEPTH: u64 = 64;
/// Parts that one search finds; it says so when there are more.
const MAX_FOUND: usize = 5000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    #[serde(flatten)]
    part: Part,
    depth: u64,
    /// The products between the root and this one.
    path: Vec<String>,
    quantity: Option<Decimal>,
    at: Timestamp,
    tx_id: String,
    removed_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct Tree {
    root: Part,
    truncated: bool,
    found: Vec<Found>,
}

/// How far to search, and whether through what has been taken out again.
struct Search {
    root: Part,
    removed: bool,
    depth: u64,
}

impl Search {
    fn read(mut object: Object<'_>, name: &str) -> Result<Self> {
        let root = one_part(&mut object, name)?;
        let removed = object.flag("removed")?;
        let depth = match object.optional("depth") {
            Some(field) => field.integer()?,
            None => DEFAULT_DEPTH,
        };
        object.finish()?;
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(Error::bad_request(format!(
                "{name}.depth must be 1 to {MAX_DEPTH}, not {depth}"
            )));
        }
        Ok(Self { root, removed, depth })
    }

    /// Breadth first, each part once. `neighbours` lists what a part leads to.
    fn run(self, neighbours: impl Fn(&Part) -> Result<Vec<(Part, Link)>>) -> Result<Tree> {
        let mut tree = Tree {
            root: self.root.clone(),
            truncated: false,
            found: Vec::new(),
        };
        let mut seen = BTreeSet::from([self.root.clone()]);
        let mut open = VecDeque::from([(self.root, 0, Vec::<String>::new())]);
        while let Some((part, depth, path)) = open.pop_front() {
            if depth == self.depth {
                tree.truncated |= !neighbours(&part)?.is_empty();
                continue;
            }
            let mut path = path;
            path.push(part.id().to_owned());
            for (next, link) in neighbours(&part)? {
                if link.removed_at.is_some() && !self.removed {
                    continue;
                }
                if !seen.insert(next.clone()) {
                    // The same part in several steps of one product: no single step tells how much there is.
                    let again = tree
                        .found
                        .iter_mut()
                        .find(|found| found.part == next && found.path == path);
                    again.into_iter().for_each(|found| found.quantity = None);
                    continue;
                }
                if tree.found.len() == MAX_FOUND {
                    tree.truncated = true;
                    return Ok(tree);
                }
                tree.found.push(Found {
                    part: next.clone(),
                    depth: depth + 1,
                    path: path.clone(),
                    quantity: link.quantity,
                    at: link.at,
                    tx_id: link.tx_id,
                    removed_at: link.removed_at,
                });
                open.push_back((next, depth + 1, path.clone()));
            }
        }
        Ok(tree)
    }
}

fn broken() -> Error {
    Error::internal("an entry of the genealogy has a broken key")
}

fn part_of(kind: &str, id: &str) -> Part {
    if kind == "batch" {
        Part::Batch(id.to_owned())
    } else {
        Part::Product(id.to_owned())
    }
}

/// What a product holds.
fn inside(ctx: &Context<'_>, part: &Part) -> Result<Vec<(Part, Link)>> {
    let Part::Product(id) = part else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for entry in ctx.composite_range(keys::HOLDS, &[id])? {
        let (key, value) = entry?;
        let link: Link = decode_state(&key, &value)?;
        let (_, parts) = split_composite_key(&key).ok_or_else(broken)?;
        let [_, kind, part, _] = parts.as_slice() else {
            return Err(broken());
        };
        all.push((part_of(kind, part), link));
    }
    Ok(all)
}

/// What a part is in.
fn around(ctx: &Context<'_>, part: &Part) -> Result<Vec<(Part, Link)>> {
    let mut all = Vec::new();
    for entry in ctx.composite_range(keys::HELD_BY, &[part.kind(), part.id()])? {
        let (key, _) = entry?;
        let (_, parts) = split_composite_key(&key).ok_or_else(broken)?;
        let [_, _, product, step] = parts.as_slice() else {
            return Err(broken());
        };
        let step = step.parse().map_err(|_| broken())?;
        let link: Link = ctx
            .get_json(&keys::holds(product, part, step)?)?
            .ok_or_else(broken)?;
        all.push((Part::Product((*product).to_owned()), link));
    }
    Ok(all)
}

pub(crate) fn genealogy(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "product")?;
    let search = Search::read(text.object()?, "product")?;
    if let Part::Product(id) = &search.root {
        load_product(ctx, id)?;
    }
    Response::json(&search.run(|part| inside(ctx, part))?)
}

pub(crate) fn where_used(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let search = Search::read(args.object(0)?, "part")?;
    Response::json(&search.run(|part| around(ctx, part))?)
}
