//! Looking certificates up, and checking a hash against them.

use std::collections::BTreeMap;

use selvedge_chaincode::json::Object;
use selvedge_chaincode::{
    Args, Context, DocumentHash, Error, Paging, Response, Result, decode_state, msp_id,
};
use serde::Serialize;

use crate::model::{Certificate, Head, Reference, Verdict};
use crate::{input, keys};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 500;
/// Revisions of one record that are looked at; nobody changes a record that often.
const MAX_REVISIONS: u64 = 10_000;

/// A certificate with what it is now.
#[derive(Serialize)]
pub(crate) struct Listed {
    #[serde(flatten)]
    pub(crate) certificate: Certificate,
    /// True for the last revision of its record.
    pub(crate) current: bool,
}

#[derive(Serialize)]
struct Certificates {
    certificates: Vec<Listed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bookmark: Option<String>,
}

#[derive(Serialize)]
struct Checked {
    verdict: Verdict,
    certificates: Vec<Listed>,
}

/// What the public view has of a check: whoever holds a record learns whether it is certified, not by whom and when.
#[derive(Serialize)]
struct PublicVerdict {
    verdict: Verdict,
    view: &'static str,
}

#[derive(Serialize)]
struct Parts {
    parts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bookmark: Option<String>,
}

/// Loads a certificate that an entry of a list names.
pub(crate) fn load(
    ctx: &Context<'_>,
    part: &str,
    record: &str,
    msp_id: &str,
    revision: u32,
) -> Result<Certificate> {
    ctx.get_json(&keys::certificate(part, record, msp_id, revision)?)?
        .ok_or_else(|| {
            Error::internal(format!(
                "a certificate of record {record} of part {part} is missing"
            ))
        })
}

/// Knows which revision is current, asking once for each record.
struct Heads<'c, 'h> {
    ctx: &'c Context<'h>,
    seen: BTreeMap<(String, String, String), u32>,
}

impl<'c, 'h> Heads<'c, 'h> {
    fn new(ctx: &'c Context<'h>) -> Self {
        Self {
            ctx,
            seen: BTreeMap::new(),
        }
    }

    fn list(&mut self, certificate: Certificate) -> Result<Listed> {
        let Certificate {
            part, record, msp_id, ..
        } = &certificate;
        let name = (part.clone(), record.clone(), msp_id.clone());
        let last = match self.seen.get(&name) {
            Some(last) => *last,
            None => {
                let head: Option<Head> = self.ctx.get_json(&keys::head(part, record, msp_id)?)?;
                let last = head.map_or(0, |head| head.revision);
                self.seen.insert(name, last);
                last
            }
        };
        Ok(Listed {
            current: certificate.revision == last,
            certificate,
        })
    }
}

/// Everything about a record, of one organisation or of all.
fn revisions(ctx: &Context<'_>, part: &str, record: &str, msp_id: Option<&str>) -> Result<Vec<Listed>> {
    let mut heads = Heads::new(ctx);
    let attributes: Vec<&str> = [part, record].into_iter().chain(msp_id).collect();
    let mut all = Vec::new();
    for entry in ctx.composite_range(keys::CERTIFICATE, &attributes)? {
        let (key, value) = entry?;
        all.push(heads.list(decode_state(&key, &value)?)?);
        if u64::try_from(all.len()).unwrap_or(u64::MAX) == MAX_REVISIONS {
            break;
        }
    }
    Ok(all)
}

/// An entry of the hash list, its key's attributes behind the hash.
fn find(ctx: &Context<'_>, heads: &mut Heads<'_, '_>, rest: &[&str]) -> Result<Listed> {
    let [part, record, msp_id, revision] = rest else {
        return Err(Error::internal("an entry of the hash list has a broken key"));
    };
    let revision = revision
        .parse()
        .map_err(|_| Error::internal("an entry of the hash list has a broken revision"))?;
    heads.list(load(ctx, part, record, msp_id, revision)?)
}

fn organization(object: &mut Object<'_>) -> Result<Option<String>> {
    object.optional("mspId").map(|field| msp_id(&field)).transpose()
}

pub(crate) fn by_part(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "part")?;
    let mut object = text.object()?;
    let part = input::part(&mut object)?.ok_or_else(|| Error::bad_request("part is missing"))?;
    let msp_id = organization(&mut object)?;
    let paging = Paging::read(&mut object, DEFAULT_LIMIT, MAX_LIMIT)?;
    object.finish()?;
    let mut heads = Heads::new(ctx);
    let page = paging.collect(ctx, keys::CERTIFICATE, &[&part], |entry| {
        let certificate: Certificate = decode_state(entry.key, entry.value)?;
        let wanted = msp_id.as_ref().is_none_or(|wanted| *wanted == certificate.msp_id);
        wanted.then(|| heads.list(certificate)).transpose()
    })?;
    Response::json(&Certificates {
        certificates: page.items,
        bookmark: page.bookmark,
    })
}

pub(crate) fn by_record(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut object = args.object(0)?;
    let missing = |name: &str| Error::bad_request(format!("record.{name} is missing"));
    let part = input::part(&mut object)?.ok_or_else(|| missing("part"))?;
    let record = input::record(&mut object)?.ok_or_else(|| missing("record"))?;
    let msp_id = organization(&mut object)?;
    object.finish()?;
    Response::json(&Certificates {
        certificates: revisions(ctx, &part, &record, msp_id.as_deref())?,
        bookmark: None,
    })
}

fn required_hash(object: &mut Object<'_>) -> Result<String> {
    let field = object.require("hash")?;
    Ok(field.name(128)?.to_ascii_lowercase())
}

pub(crate) fn by_hash(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "hash")?;
    let mut object = text.object()?;
    let hash = required_hash(&mut object)?;
    let paging = Paging::read(&mut object, DEFAULT_LIMIT, MAX_LIMIT)?;
    object.finish()?;
    let mut heads = Heads::new(ctx);
    let page = paging.collect(ctx, keys::HASH, &[&hash], |entry| {
        find(ctx, &mut heads, entry.rest).map(Some)
    })?;
    Response::json(&Certificates {
        certificates: page.items,
        bookmark: page.bookmark,
    })
}

pub(crate) fn by_transaction(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let tx_id = args.id(0, "txId")?;
    let references: Vec<Reference> = ctx.get_json(&keys::transaction(&tx_id)?)?.unwrap_or_default();
    let mut heads = Heads::new(ctx);
    let certificates = references
        .iter()
        .map(|at| heads.list(load(ctx, &at.part, &at.record, &at.msp_id, at.revision)?))
        .collect::<Result<_>>()?;
    Response::json(&Certificates {
        certificates,
        bookmark: None,
    })
}

/// Takes a hash, or `{"hash","algorithm"?,"part"?,"record"?,"mspId"?}`.
pub(crate) fn check(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "hash")?;
    let mut object = text.object()?;
    let hash = DocumentHash::read(&mut object)?.ok_or_else(|| Error::bad_request("hash.hash is missing"))?;
    let part = input::part(&mut object)?;
    let record = input::record(&mut object)?;
    let msp_id = organization(&mut object)?;
    object.finish()?;
    let (matching, others) = match (&part, &record) {
        (Some(part), Some(record)) => revisions(ctx, part, record, msp_id.as_deref())?
            .into_iter()
            .partition(|listed| listed.certificate.hash == hash),
        (None, Some(_)) => {
            return Err(Error::bad_request(
                "hash.part is missing; a record is named with the part that it is about",
            ));
        }
        (part, None) => (
            with_hash(ctx, &hash, part.as_deref(), msp_id.as_deref())?,
            Vec::new(),
        ),
    };
    let verdict = if matching.iter().any(|listed| listed.current) {
        Verdict::Current
    } else if !matching.is_empty() {
        Verdict::Outdated
    } else if !others.is_empty() {
        Verdict::Differs
    } else {
        Verdict::Unknown
    };
    if ctx.caller().has_public_view()? {
        return Response::json(&PublicVerdict {
            verdict,
            view: "public",
        });
    }
    let certificates = if verdict == Verdict::Differs {
        others
    } else {
        matching
    };
    Response::json(&Checked {
        verdict,
        certificates,
    })
}

/// Certificates with a hash, of one part and organisation or of all; the first [`MAX_LIMIT`].
fn with_hash(
    ctx: &Context<'_>,
    hash: &DocumentHash,
    part: Option<&str>,
    msp_id: Option<&str>,
) -> Result<Vec<Listed>> {
    let mut heads = Heads::new(ctx);
    let mut found = Vec::new();
    let attributes: Vec<&str> = std::iter::once(hash.hash.as_str()).chain(part).collect();
    for entry in ctx.composite_range(keys::HASH, &attributes)? {
        let (key, _) = entry?;
        let parts = selvedge_chaincode::split_composite_key(&key)
            .map(|(_, parts)| parts)
            .unwrap_or_default();
        let listed = find(ctx, &mut heads, parts.get(1..).unwrap_or_default())?;
        let wanted = listed.certificate.hash.algorithm == hash.algorithm
            && msp_id.is_none_or(|wanted| wanted == listed.certificate.msp_id);
        found.extend(wanted.then_some(listed));
        if u64::try_from(found.len()).unwrap_or(u64::MAX) == MAX_LIMIT {
            break;
        }
    }
    Ok(found)
}

pub(crate) fn parts(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "prefix")?;
    let mut object = text.object()?;
    let prefix = object
        .optional("prefix")
        .map(|field| field.name(128))
        .transpose()?;
    let paging = Paging::read(&mut object, DEFAULT_LIMIT, MAX_LIMIT)?;
    object.finish()?;
    let page = paging.collect(ctx, keys::PART, &[], |entry| {
        let part = entry.rest.first().copied().unwrap_or_default();
        let wanted = prefix
            .as_ref()
            .is_none_or(|prefix| part.starts_with(prefix.as_str()));
        Ok(wanted.then(|| part.to_owned()))
    })?;
    Response::json(&Parts {
        parts: page.items,
        bookmark: page.bookmark,
    })
}
