//! Certifying records, one or many.

use std::collections::BTreeMap;

use selvedge_chaincode::{Actor, Args, Context, Error, Response, Result};
use serde::Serialize;

use crate::input::{Common, SentRecord};
use crate::model::{Certificate, Head, Reference};
use crate::queries::{Listed, load};
use crate::{events, keys};

/// Records that one transaction may carry.
const MAX_BATCH: usize = 500;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// Records that are new, or have a new revision.
    certified: usize,
    /// Records that were certified with this hash already, or twice in the batch.
    known: usize,
    tx_id: String,
    /// The certificate; only where one record was sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<Listed>,
}

pub(crate) fn certify(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let sent = SentRecord::read(&args.field(0)?, &Common::default())?;
    let (part, record) = (sent.part.clone(), sent.record.clone());
    let (mut outcome, mut new) = record_all(ctx, vec![sent])?;
    let certificate = match new.pop() {
        Some(new) => new,
        None => {
            let msp_id = ctx.caller().msp_id()?;
            let head = head(ctx, &part, &record, &msp_id)?
                .ok_or_else(|| Error::internal("a known record has no certificate"))?;
            load(ctx, &part, &record, &msp_id, head.revision)?
        }
    };
    outcome.certificates = vec![Listed {
        certificate,
        current: true,
    }];
    Response::json(&outcome)
}

/// Takes `[record, ...]`, or `{"part"?,"algorithm"?,"records":[...]}` with the common parts said once. The answer has no
/// certificates, because it is stored with the transaction.
pub(crate) fn certify_many(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let field = args.field(0)?;
    let (common, list) = if field.is_object() {
        let mut object = field.object()?;
        let common = Common::read(&mut object)?;
        let list = object.require("records")?.list(MAX_BATCH)?;
        object.finish()?;
        (common, list)
    } else {
        (Common::default(), field.list(MAX_BATCH)?)
    };
    if list.is_empty() {
        return Err(Error::bad_request(format!("{} has no records", field.path())));
    }
    let sent = list
        .iter()
        .map(|field| SentRecord::read(field, &common))
        .collect::<Result<Vec<_>>>()?;
    Response::json(&record_all(ctx, sent)?.0)
}

fn head(ctx: &Context<'_>, part: &str, record: &str, msp_id: &str) -> Result<Option<Head>> {
    ctx.get_json(&keys::head(part, record, msp_id)?)
}

/// Writes what is new. The only keys read are the heads of the records' lines.
fn record_all(ctx: &Context<'_>, batch: Vec<SentRecord>) -> Result<(Outcome, Vec<Certificate>)> {
    let actor = Actor::of(ctx)?;
    let (tx_id, at) = (ctx.tx_id()?, ctx.timestamp()?);
    let certificate_hash = ctx.caller().certificate_hash()?;
    // What this transaction has written itself, which reading would not show.
    let mut heads: BTreeMap<(String, String), Head> = BTreeMap::new();
    let mut new: Vec<Certificate> = Vec::new();
    let mut known = 0;
    for sent in batch {
        let name = (sent.part.clone(), sent.record.clone());
        let before = match heads.get(&name) {
            Some(head) => Some(head.clone()),
            None => head(ctx, &sent.part, &sent.record, &actor.msp_id)?,
        };
        let Some(revision) = next_revision(&sent, before.as_ref())? else {
            known += 1;
            continue;
        };
        let certificate = Certificate {
            part: sent.part,
            msp_id: actor.msp_id.clone(),
            record: sent.record,
            revision,
            hash: sent.hash,
            time: sent.time,
            user: actor.user.clone(),
            device: actor.device,
            certificate_hash: certificate_hash.clone(),
            replaces: before.map(|head| head.hash.hash),
            note: sent.note,
            certified_at: at,
            tx_id: tx_id.clone(),
        };
        heads.insert(name, write(ctx, &certificate)?);
        new.push(certificate);
    }
    if !new.is_empty() {
        let references: Vec<Reference> = new
            .iter()
            .map(|certificate| Reference {
                part: certificate.part.clone(),
                record: certificate.record.clone(),
                msp_id: certificate.msp_id.clone(),
                revision: certificate.revision,
            })
            .collect();
        ctx.put_json(&keys::transaction(&tx_id)?, &references)?;
    }
    events::certified(ctx, &new)?;
    let outcome = Outcome {
        certified: new.len(),
        known,
        tx_id,
        certificates: Vec::new(),
    };
    Ok((outcome, new))
}

/// The number of the revision that the record becomes; none when it is what the line ends with anyway.
fn next_revision(sent: &SentRecord, before: Option<&Head>) -> Result<Option<u32>> {
    let SentRecord { part, record, .. } = sent;
    let Some(head) = before else {
        return match &sent.replaces {
            None => Ok(Some(1)),
            Some(hash) => Err(Error::conflict(format!(
                "record {record} of part {part} is not certified yet, so it cannot replace {hash}"
            ))),
        };
    };
    if head.hash == sent.hash {
        return Ok(None);
    }
    match &sent.replaces {
        Some(replaces) if *replaces == head.hash.hash => Ok(Some(head.revision.saturating_add(1))),
        Some(replaces) => Err(Error::conflict(format!(
            "record {record} of part {part} has the hash {} now (revision {}), not {replaces}",
            head.hash.hash, head.revision
        ))),
        None => Err(Error::conflict(format!(
            "record {record} of part {part} is certified with hash {}; a changed record names it as replaces",
            head.hash.hash
        ))),
    }
}

fn write(ctx: &Context<'_>, certificate: &Certificate) -> Result<Head> {
    let Certificate {
        part,
        record,
        msp_id,
        revision,
        hash,
        ..
    } = certificate;
    let head = Head {
        revision: *revision,
        hash: hash.clone(),
    };
    ctx.put_json(&keys::certificate(part, record, msp_id, *revision)?, certificate)?;
    ctx.put_json(&keys::head(part, record, msp_id)?, &head)?;
    ctx.put_state(&keys::hash(&hash.hash, part, record, msp_id, *revision)?, b"1")?;
    ctx.put_state(&keys::part(part)?, b"1")?;
    Ok(head)
}
