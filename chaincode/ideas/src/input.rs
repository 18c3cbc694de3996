//! Reading what callers send.

use selvedge_chaincode::json::{Field, Object};
use selvedge_chaincode::{Actor, Context, DocumentHash, Error, Result, msp_id, note};

use crate::model::{Author, Parent, Person, Share, WHOLE};

const MAX_USER: usize = 256;
const MAX_TITLE: usize = 256;
const MAX_SUMMARY: usize = 4096;
const MAX_AUTHORS: usize = 64;
const MAX_PARENTS: usize = 32;

/// The person who acts; devices have no ideas.
pub(crate) fn person(ctx: &Context<'_>, what: &str) -> Result<Person> {
    let actor = Actor::person(ctx, what)?;
    Ok(Person {
        msp_id: actor.msp_id,
        user: actor.user,
    })
}

/// Reads `mspId` and `user` of an object.
pub(crate) fn named_person(object: &mut Object<'_>) -> Result<Person> {
    Ok(Person {
        msp_id: msp_id(&object.require("mspId")?)?,
        user: object.require("user")?.name(MAX_USER)?,
    })
}

fn share(field: &Field<'_>) -> Result<Share> {
    let percent = field.decimal()?;
    Share::from_percent(&percent).ok_or_else(|| {
        Error::bad_request(format!(
            "{} must be a percentage greater than 0 and at most 100 with at most two decimals, not {percent}",
            field.path()
        ))
    })
}

/// A contribution as it was sent.
pub(crate) struct SentContribution {
    pub(crate) id: Option<String>,
    pub(crate) title: String,
    pub(crate) summary: Option<String>,
    pub(crate) hash: Option<DocumentHash>,
    pub(crate) authors: Vec<Author>,
    pub(crate) parents: Vec<Parent>,
    pub(crate) note: Option<String>,
}

impl SentContribution {
    /// Reads a contribution of `caller`, who has what the parents leave unless authors are named.
    pub(crate) fn read(mut object: Object<'_>, caller: &Person) -> Result<Self> {
        let id = object.optional("id").map(|field| field.id()).transpose()?;
        let title = object.require("title")?.name(MAX_TITLE)?;
        let summary = object
            .optional("summary")
            .map(|field| field.text(MAX_SUMMARY))
            .transpose()?;
        let hash = DocumentHash::read(&mut object)?;
        let parents = parents(&mut object)?;
        let mut authors = authors(&mut object)?;
        let note = note(&mut object)?;
        object.finish()?;
        let of_parents: u32 = parents.iter().map(|parent| parent.share.0).sum();
        if authors.is_empty() {
            let rest = WHOLE.checked_sub(of_parents).filter(|rest| *rest > 0);
            let rest = rest.ok_or_else(|| {
                Error::bad_request(format!(
                    "the parents have {} percent and leave nothing for the author",
                    Share(of_parents)
                ))
            })?;
            authors.push(Author {
                person: caller.clone(),
                share: Share(rest),
            });
        }
        let together = of_parents + authors.iter().map(|author| author.share.0).sum::<u32>();
        if together != WHOLE {
            return Err(Error::bad_request(format!(
                "the shares of authors and parents are {} together, and must be 100",
                Share(together)
            )));
        }
        if !authors.iter().any(|author| author.person == *caller) {
            return Err(Error::forbidden(format!(
                "{caller} is not among the authors; one of them has to contribute it"
            )));
        }
        Ok(Self {
            id,
            title,
            summary,
            hash,
            authors,
            parents,
            note,
        })
    }
}

fn authors(object: &mut Object<'_>) -> Result<Vec<Author>> {
    let mut authors: Vec<Author> = Vec::new();
    for field in object.list("authors", MAX_AUTHORS)? {
        let mut object = field.object()?;
        let author = Author {
            person: named_person(&mut object)?,
            share: share(&object.require("share")?)?,
        };
        object.finish()?;
        if authors.iter().any(|other| other.person == author.person) {
            return Err(Error::bad_request(format!(
                "{}: {} is named twice",
                field.path(),
                author.person
            )));
        }
        authors.push(author);
    }
    authors.sort_by(|one, other| one.person.cmp(&other.person));
    Ok(authors)
}

fn parents(object: &mut Object<'_>) -> Result<Vec<Parent>> {
    let mut parents: Vec<Parent> = Vec::new();
    for field in object.list("parents", MAX_PARENTS)? {
        let mut object = field.object()?;
        let parent = Parent {
            idea: object.require("idea")?.id()?,
            share: share(&object.require("share")?)?,
        };
        object.finish()?;
        if parents.iter().any(|other| other.idea == parent.idea) {
            return Err(Error::bad_request(format!(
                "{}: idea {} is named twice",
                field.path(),
                parent.idea
            )));
        }
        parents.push(parent);
    }
    parents.sort_by(|one, other| one.idea.cmp(&other.idea));
    Ok(parents)
}
