//! Recording contributions.

use selvedge_chaincode::json::is_id;
use selvedge_chaincode::{Args, Context, Error, Response, Result};

use crate::agreement::{Agreement, require_agreed};
use crate::input::{SentContribution, person};
use crate::model::{Contribution, Word};
use crate::{events, keys, queries};

pub(crate) fn load(ctx: &Context<'_>, id: &str) -> Result<Contribution> {
    let unknown = || Error::not_found(format!("idea {id} is unknown"));
    if !is_id(id) {
        return Err(unknown());
    }
    ctx.get_json(&keys::idea(id)?)?.ok_or_else(unknown)
}

pub(crate) fn contribute(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let caller = person(ctx, "contribute ideas")?;
    let sent = SentContribution::read(args.object(0)?, &caller)?;
    let id = match sent.id {
        Some(id) => id,
        None => format!("idea-{}", ctx.tx_id()?.get(..20).unwrap_or_default()),
    };
    let key = keys::idea(&id)?;
    if ctx.get_state(&key)?.is_some() {
        return Err(Error::conflict(format!(
            "there is already an idea {id}; choose another id"
        )));
    }
    for parent in &sent.parents {
        require_agreed(ctx, &load(ctx, &parent.idea)?, "building on it")?;
        ctx.put_state(&keys::child(&parent.idea, &id)?, b"1")?;
    }
    let idea = Contribution {
        id,
        title: sent.title,
        summary: sent.summary,
        hash: sent.hash,
        authors: sent.authors,
        parents: sent.parents,
        contributed_by: caller.clone(),
        created_at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
        note: sent.note,
    };
    ctx.put_json(&key, &idea)?;
    for author in &idea.authors {
        ctx.put_state(&keys::author(&author.person, &idea.id)?, b"1")?;
    }
    // Who contributes it stands to it.
    let word = Word {
        agreed: true,
        at: idea.created_at,
        tx_id: idea.tx_id.clone(),
        note: None,
    };
    ctx.put_json(&keys::word(&idea.id, &caller)?, &word)?;
    let agreement = Agreement::read(ctx, &idea)?.with(&caller, word);
    events::emit(ctx, &idea, agreement.state(), "contributed", &caller, None)?;
    queries::respond(idea, &agreement)
}
