//! Building parts in and taking them out.
//!
//! A part that is a product changes with the product around it, so two steps that want the same part conflict. A batch is
//! only named: any number of products take from it at the same time.

use selvedge_chaincode::{Actor, Context, Error, Result, decode_state};

use crate::access::{load_product, route_of};
use crate::keys;
use crate::model::{Action, BuiltInto, Entry, Link, Part, Product, State, UsedPart};
use crate::steps::{Change, apply, save, whereabouts};

/// Builds parts into `product`, in the step that `entry` records.
pub(crate) fn build_in(
    ctx: &Context<'_>,
    product: &Product,
    entry: &Entry,
    actor: &Actor,
    parts: &[UsedPart],
) -> Result<()> {
    for used in parts {
        if let Part::Product(id) = &used.part {
            let part = load_product(ctx, id)?;
            require_usable(ctx, &part, product, actor)?;
            let into = BuiltInto {
                product: product.id.clone(),
                step: entry.step,
            };
            move_part(ctx, part, actor, &product.id, Some(into))?;
        }
        let link = Link {
            quantity: used.quantity.clone(),
            at: entry.at,
            tx_id: entry.tx_id.clone(),
            removed_at: None,
            removed_tx_id: None,
        };
        ctx.put_json(&keys::holds(&product.id, &used.part, entry.step)?, &link)?;
        ctx.put_state(&keys::held_by(&used.part, &product.id, entry.step)?, b"1")?;
    }
    Ok(())
}

/// A part must be finished and free, and belong to those who build it in: made by them, or for them.
fn require_usable(ctx: &Context<'_>, part: &Product, product: &Product, actor: &Actor) -> Result<()> {
    if part.id == product.id {
        return Err(Error::bad_request(format!(
            "step.parts: product {} cannot be built into itself",
            part.id
        )));
    }
    if part.state != State::Finished {
        return Err(Error::conflict(format!(
            "{}; only a finished product can be built in",
            whereabouts(part)
        )));
    }
    let made_for = part.customer.as_ref() == Some(&actor.msp_id);
    if !made_for && !route_of(ctx, part)?.organizations.contains(&actor.msp_id) {
        return Err(Error::forbidden(format!(
            "{} neither makes product {} nor is the customer of order {}, so it may not build it in",
            actor.msp_id, part.id, part.order
        )));
    }
    Ok(())
}

/// Changes the part itself: built into another product, or finished and free again.
fn move_part(
    ctx: &Context<'_>,
    mut part: Product,
    actor: &Actor,
    around: &str,
    into: Option<BuiltInto>,
) -> Result<()> {
    let (action, state) = match into {
        Some(_) => (Action::BuiltIn, State::BuiltIn),
        None => (Action::Removed, State::Finished),
    };
    let change = Change {
        action,
        result: None,
        state,
        next: None,
        note: None,
    };
    let mut entry = apply(ctx, &mut part, actor, change)?;
    entry.product = Some(around.to_owned());
    part.built_into = into;
    save(ctx, None, &part, &entry)
}

/// Takes parts out of `product`, in the step that `entry` records.
pub(crate) fn remove(
    ctx: &Context<'_>,
    product: &Product,
    entry: &Entry,
    actor: &Actor,
    parts: &[Part],
) -> Result<()> {
    for part in parts {
        let not_in = || {
            Error::conflict(format!(
                "{} {} is not in product {}",
                part.kind(),
                part.id(),
                product.id
            ))
        };
        let links = match part {
            Part::Product(id) => {
                let inner = load_product(ctx, id)?;
                let step = inner
                    .built_into
                    .as_ref()
                    .filter(|into| into.product == product.id)
                    .map(|into| into.step)
                    .ok_or_else(not_in)?;
                move_part(ctx, inner, actor, &product.id, None)?;
                let key = keys::holds(&product.id, part, step)?;
                let link: Link = ctx.get_json(&key)?.ok_or_else(not_in)?;
                vec![(key, link)]
            }
            Part::Batch(id) => {
                let mut links = Vec::new();
                // Whoever adds to this range writes the product too, so the range brings no conflicts of its own.
                for item in ctx.composite_range(keys::HOLDS, &[&product.id, part.kind(), id])? {
                    let (key, value) = item?;
                    let link: Link = decode_state(&key, &value)?;
                    if link.removed_at.is_none() {
                        links.push((key, link));
                    }
                }
                links
            }
        };
        if links.is_empty() {
            return Err(not_in());
        }
        for (key, mut link) in links {
            link.removed_at = Some(entry.at);
            link.removed_tx_id = Some(entry.tx_id.clone());
            ctx.put_json(&key, &link)?;
        }
    }
    Ok(())
}
