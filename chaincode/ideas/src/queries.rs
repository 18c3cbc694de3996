//! Reading: one contribution, and lists.

use selvedge_chaincode::{Args, Context, Error, Paging, Response, Result, decode_state, msp_id};
use serde::Serialize;

use crate::agreement::Agreement;
use crate::assess::{Summary, summary};
use crate::contribute::load;
use crate::keys;
use crate::model::{Contribution, Person, State, Word};

const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 200;

#[derive(Serialize)]
struct Said {
    #[serde(flatten)]
    author: Person,
    #[serde(flatten)]
    word: Word,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    #[serde(flatten)]
    idea: Contribution,
    state: State,
    agreed_by: Vec<Person>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused_by: Vec<Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assessment: Option<Summary>,
}

fn whole(idea: Contribution, agreement: &Agreement, assessment: Option<Summary>) -> Whole {
    let mut whole = Whole {
        state: agreement.state(),
        idea,
        agreed_by: Vec::new(),
        refused_by: Vec::new(),
        assessment,
    };
    for (author, word) in &agreement.words {
        match word {
            Some(word) if word.agreed => whole.agreed_by.push(author.clone()),
            Some(word) => whole.refused_by.push(Said {
                author: author.clone(),
                word: word.clone(),
            }),
            None => {}
        }
    }
    whole
}

/// Answers with a contribution; without the assessment, whose range would let submitted transactions conflict.
pub(crate) fn respond(idea: Contribution, agreement: &Agreement) -> Result<Response> {
    Response::json(&whole(idea, agreement, None))
}

pub(crate) fn get(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let idea = load(ctx, &args.id(0, "idea")?)?;
    let agreement = Agreement::read(ctx, &idea)?;
    let summary = summary(ctx, &idea.id)?;
    Response::json(&whole(idea, &agreement, Some(summary)))
}

#[derive(Serialize)]
struct Ideas {
    ideas: Vec<Whole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bookmark: Option<String>,
}

pub(crate) fn list(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "state")?;
    let mut object = text.object()?;
    let mut author: Option<(String, Option<String>)> = None;
    if let Some(field) = object.optional("author") {
        let mut object = field.object()?;
        let organization = msp_id(&object.require("mspId")?)?;
        let user = object.optional("user").map(|field| field.name(256)).transpose()?;
        object.finish()?;
        author = Some((organization, user));
    }
    let state = object.optional("state").map(|field| field.text(16)).transpose()?;
    let paging = Paging::read(&mut object, DEFAULT_LIMIT, MAX_LIMIT)?;
    object.finish()?;
    let known = State::ALL.map(State::as_str);
    if let Some(state) = state.as_deref().filter(|state| !known.contains(state)) {
        return Err(Error::bad_request(format!(
            "filter.state must be one of {}, not {state}",
            known.join(", ")
        )));
    }
    let show = |idea: Contribution| -> Result<Option<Whole>> {
        let agreement = Agreement::read(ctx, &idea)?;
        let wanted = state
            .as_deref()
            .is_none_or(|state| state == agreement.state().as_str());
        if !wanted {
            return Ok(None);
        }
        let summary = summary(ctx, &idea.id)?;
        Ok(Some(whole(idea, &agreement, Some(summary))))
    };
    let page = match &author {
        Some((organization, user)) => {
            let attributes: Vec<&str> = std::iter::once(organization.as_str())
                .chain(user.as_deref())
                .collect();
            paging.collect(ctx, keys::AUTHOR, &attributes, |entry| {
                show(load(ctx, entry.rest.last().copied().unwrap_or_default())?)
            })?
        }
        None => paging.collect(ctx, keys::IDEA, &[], |entry| {
            show(decode_state(entry.key, entry.value)?)
        })?,
    };
    Response::json(&Ideas {
        ideas: page.items,
        bookmark: page.bookmark,
    })
}
