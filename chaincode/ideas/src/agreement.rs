//! Whether the authors stand to their shares. Each author's word is a key of its own.

use selvedge_chaincode::{Args, Context, Error, Response, Result, note};

use crate::contribute::load;
use crate::input::person;
use crate::model::{Contribution, Person, State, Word};
use crate::{events, keys, queries};

/// What the authors have said, in their order.
pub(crate) struct Agreement {
    pub(crate) words: Vec<(Person, Option<Word>)>,
}

impl Agreement {
    pub(crate) fn read(ctx: &Context<'_>, idea: &Contribution) -> Result<Self> {
        let read = |person: &Person| Ok((person.clone(), ctx.get_json(&keys::word(&idea.id, person)?)?));
        let words = idea.authors.iter().map(|author| read(&author.person));
        Ok(Self {
            words: words.collect::<Result<_>>()?,
        })
    }

    /// Adds a word of this very transaction, which reading does not show.
    pub(crate) fn with(mut self, person: &Person, new: Word) -> Self {
        for (_, word) in self.words.iter_mut().filter(|(author, _)| author == person) {
            *word = Some(new.clone());
        }
        self
    }

    pub(crate) fn state(&self) -> State {
        let words = || self.words.iter().map(|(_, word)| word.as_ref());
        if words().flatten().any(|word| !word.agreed) {
            State::Refused
        } else if words().all(|word| word.is_some()) {
            State::Agreed
        } else {
            State::Proposed
        }
    }
}

/// Refuses what is only possible with an idea whose shares are settled.
pub(crate) fn require_agreed(ctx: &Context<'_>, idea: &Contribution, what: &str) -> Result<()> {
    match Agreement::read(ctx, idea)?.state() {
        State::Agreed => Ok(()),
        state => Err(Error::conflict(format!(
            "the shares of idea {} are {}; {what} needs every author's agreement",
            idea.id,
            state.as_str()
        ))),
    }
}

fn say(ctx: &Context<'_>, id: &str, agreed: bool, note: Option<String>) -> Result<Response> {
    let author = person(ctx, "be an author")?;
    let idea = load(ctx, id)?;
    if !idea.is_author(&author) {
        return Err(Error::forbidden(format!(
            "{author} is not an author of idea {id}"
        )));
    }
    let agreement = Agreement::read(ctx, &idea)?;
    let said = agreement.words.iter().find(|(person, _)| *person == author);
    if let Some((_, Some(word))) = said {
        let what = if word.agreed { "agreed to" } else { "refused" };
        return Err(Error::conflict(format!(
            "{author} has already {what} the shares of idea {id}"
        )));
    }
    let word = Word {
        agreed,
        at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
        note,
    };
    ctx.put_json(&keys::word(id, &author)?, &word)?;
    let agreement = agreement.with(&author, word);
    let action = if agreed { "agreed" } else { "refused" };
    events::emit(ctx, &idea, agreement.state(), action, &author, None)?;
    queries::respond(idea, &agreement)
}

pub(crate) fn agree(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "idea")?;
    let mut object = text.object()?;
    let id = object.require("idea")?.id()?;
    let note = note(&mut object)?;
    object.finish()?;
    say(ctx, &id, true, note)
}

pub(crate) fn refuse(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut object = args.object(0)?;
    let id = object.require("idea")?.id()?;
    let note = note(&mut object)?;
    object.finish()?;
    if note.is_none() {
        return Err(Error::bad_request(
            "refusal.note is missing: say what is wrong with the shares",
        ));
    }
    say(ctx, &id, false, note)
}
