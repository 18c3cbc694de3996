//! What stands in a transaction's bytes, read slowly: spec 03 §3 A, B.1-B.3, B.5 and D.2.a-d.

use selvedge_proto::common::HeaderType;
use selvedge_proto::protos::TxValidationCode as Code;

use crate::reference::sha256;
use crate::wire::{Fields, Read, Unreadable};

/// Block and index of the transaction that wrote something.
pub(crate) type Version = (u64, u64);

/// Names and values of a key's metadata.
pub(crate) type Metadata = Vec<(String, Vec<u8>)>;

/// A transaction as far as it can be read.
pub(crate) struct Opened {
    /// What the index keeps of it.
    pub(crate) indexed_id: Option<String>,
    pub(crate) channel_id: String,
    pub(crate) creator: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) is_config: bool,
    /// The code of A-B.3, or what comes after the creator was found good: the code of B.5, or its content.
    pub(crate) signed: Result<Result<Endorsed, Code>, Code>,
}

pub(crate) struct Endorsed {
    pub(crate) response_payload: Vec<u8>,
    /// Endorsers and signatures.
    pub(crate) endorsements: Vec<(Vec<u8>, Vec<u8>)>,
    /// The code of D.2.a-d, or what was endorsed.
    pub(crate) content: Result<Content, Code>,
}

pub(crate) struct Content {
    pub(crate) chaincode: String,
    pub(crate) namespaces: Vec<Ns>,
}

pub(crate) struct Ns {
    pub(crate) name: String,
    /// What is public, and then each entry of a collection.
    pub(crate) scopes: Vec<Scope>,
}

impl Ns {
    pub(crate) fn writes(&self) -> bool {
        self.scopes.iter().any(|scope| scope.written().next().is_some())
    }
}

pub(crate) struct Scope {
    /// Namespace in the state: `ns`, or `ns$$hcollection` for hashes.
    pub(crate) place: String,
    pub(crate) collection: Option<String>,
    pub(crate) reads: Vec<(Vec<u8>, Option<Version>)>,
    pub(crate) queries: Vec<Query>,
    /// `None` deletes.
    pub(crate) values: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// No entries clear.
    pub(crate) metadata: Vec<(Vec<u8>, Metadata)>,
}

impl Scope {
    /// The keys that are written, value or metadata.
    pub(crate) fn written(&self) -> impl Iterator<Item = &Vec<u8>> {
        let values = self.values.iter().map(|(key, _)| key);
        values.chain(self.metadata.iter().map(|(key, _)| key))
    }
}

pub(crate) struct Query {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
    pub(crate) exhausted: bool,
    pub(crate) results: Vec<(Vec<u8>, Option<Version>)>,
    /// The results are known by a tree of this degree instead.
    pub(crate) summary: Option<u32>,
}

impl Opened {
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Ns> {
        let endorsed = self.signed.as_ref().ok().and_then(|signed| signed.as_ref().ok());
        let content = endorsed.and_then(|endorsed| endorsed.content.as_ref().ok());
        content.into_iter().flat_map(|content| &content.namespaces)
    }
}

pub(crate) fn open(bytes: &[u8]) -> Opened {
    let mut opened = Opened {
        indexed_id: None,
        channel_id: String::new(),
        creator: Vec::new(),
        payload: Vec::new(),
        signature: Vec::new(),
        is_config: false,
        signed: Err(Code::InvalidOtherReason),
    };
    opened.signed = envelope(bytes, &mut opened);
    opened
}

fn envelope(bytes: &[u8], opened: &mut Opened) -> Result<Result<Endorsed, Code>, Code> {
    let as_code = |code: Code| move |_: Unreadable| code;
    let fields = Fields::read(bytes).map_err(as_code(Code::InvalidOtherReason))?;
    opened.payload = fields.blob(1);
    opened.signature = fields.blob(2);

    let payload = Fields::read(&opened.payload).map_err(as_code(Code::BadPayload))?;
    let header = payload.message(1, Ok).map_err(as_code(Code::BadPayload))?;
    let bad = Code::BadCommonHeader;
    let header = header.ok_or(bad)?;
    let (raw_channel_header, raw_signature_header) = (header.blob(1), header.blob(2));
    let channel_header = ChannelHeader::read(&raw_channel_header).map_err(as_code(bad))?;
    opened.indexed_id = (!channel_header.tx_id.is_empty()).then(|| channel_header.tx_id.clone());
    let signature_header = Fields::read(&raw_signature_header).map_err(as_code(bad))?;
    let (creator, nonce) = (signature_header.blob(1), signature_header.blob(2));
    let computed = hex::encode(sha256(&[&nonce, &creator]));
    opened.indexed_id.get_or_insert_with(|| computed.clone());
    opened.channel_id.clone_from(&channel_header.channel_id);
    opened.creator.clone_from(&creator);
    let is = |kind: HeaderType| channel_header.kind == kind as u32;
    let is_transaction =
        is(HeaderType::EndorserTransaction) || is(HeaderType::ConfigUpdate) || is(HeaderType::Config);
    if !is_transaction || channel_header.epoch != 0 || nonce.is_empty() || creator.is_empty() {
        return Err(bad);
    }
    if is(HeaderType::ConfigUpdate) {
        return Ok(Err(Code::UnsupportedTxPayload));
    }
    if is(HeaderType::Config) {
        opened.is_config = !payload.blob(2).is_empty();
        return Ok(Err(Code::InvalidConfigTransaction));
    }
    if channel_header.tx_id != computed {
        return Ok(Err(Code::BadProposalTxid));
    }
    let endorsed = endorsed(&payload.blob(2), &raw_channel_header, &channel_header.extension);
    Ok(match endorsed {
        Ok(Some(endorsed)) => Ok(endorsed),
        Ok(None) | Err(Unreadable) => Err(Code::InvalidEndorserTransaction),
    })
}

struct ChannelHeader {
    kind: u32,
    channel_id: String,
    tx_id: String,
    epoch: u64,
    extension: Vec<u8>,
}

impl ChannelHeader {
    fn read(bytes: &[u8]) -> Read<Self> {
        let fields = Fields::read(bytes)?;
        fields.message(3, Ok)?;
        Ok(Self {
            kind: fields.number32(1),
            channel_id: fields.text(4)?,
            tx_id: fields.text(5)?,
            epoch: fields.number(6),
            extension: fields.blob(7),
        })
    }
}

/// The structure of B.5; `None` where it unmarshals but is not sound.
fn endorsed(data: &[u8], raw_channel_header: &[u8], extension: &[u8]) -> Read<Option<Endorsed>> {
    let actions = Fields::read(data)?.messages(1, |action| Ok((action.blob(1), action.blob(2))))?;
    let [(action_header, action_payload)] = actions.as_slice() else {
        return Ok(None);
    };
    let header = Fields::read(action_header)?;
    if header.blob(1).is_empty() || header.blob(2).is_empty() {
        return Ok(None);
    }
    let payload = Fields::read(action_payload)?;
    let endorsement = |fields: Fields| Ok((fields.blob(1), fields.blob(2)));
    let action = payload.message(2, |action| Ok((action.blob(1), action.messages(2, endorsement)?)))?;
    let Some((response_payload, endorsements)) = action else {
        return Ok(None);
    };
    let response = Fields::read(&response_payload)?;
    let asked = sha256(&[raw_channel_header, action_header, &payload.blob(1)]);
    if payload.blob(1).is_empty() || response.blob(1) != asked {
        return Ok(None);
    }
    Ok(Some(Endorsed {
        content: content(extension, &response.blob(2)),
        response_payload,
        endorsements,
    }))
}

/// Path, name and version.
fn chaincode_id(fields: Fields) -> Read<(String, String)> {
    fields.text(1)?;
    Ok((fields.text(2)?, fields.text(3)?))
}

struct Action {
    results: Vec<u8>,
    events: Vec<u8>,
    chaincode: Option<(String, String)>,
}

impl Action {
    fn read(bytes: &[u8]) -> Read<Self> {
        let fields = Fields::read(bytes)?;
        fields.message(3, |response| response.text(2))?;
        Ok(Self {
            results: fields.blob(1),
            events: fields.blob(2),
            chaincode: fields.message(4, chaincode_id)?,
        })
    }
}

/// Name of the chaincode that an event is of.
fn event(bytes: &[u8]) -> Read<String> {
    let fields = Fields::read(bytes)?;
    fields.text(2)?;
    fields.text(3)?;
    fields.text(1)
}

/// D.2.a-d.
fn content(extension: &[u8], action: &[u8]) -> Result<Content, Code> {
    let asked = Fields::read(extension).and_then(|fields| fields.message(2, chaincode_id));
    let asked = asked.map_err(|Unreadable| Code::BadHeaderExtension)?;
    if action.is_empty() {
        return Err(Code::BadResponsePayload);
    }
    let action = Action::read(action).map_err(|Unreadable| Code::BadResponsePayload)?;
    let namespaces = results(&action.results).map_err(|Unreadable| Code::BadRwset)?;
    let (asked, _) = asked.ok_or(Code::InvalidOtherReason)?;
    let (name, version) = action.chaincode.ok_or(Code::InvalidOtherReason)?;
    if asked.is_empty() || asked != name || version.is_empty() {
        return Err(Code::InvalidChaincode);
    }
    if !action.events.is_empty() && event(&action.events) != Ok(name.clone()) {
        return Err(Code::InvalidOtherReason);
    }
    for (index, ns) in namespaces.iter().enumerate() {
        if namespaces[..index].iter().any(|other| other.name == ns.name) {
            return Err(Code::IllegalWriteset);
        }
    }
    Ok(Content {
        chaincode: name,
        namespaces,
    })
}

fn results(bytes: &[u8]) -> Read<Vec<Ns>> {
    Fields::read(bytes)?
        .messages(2, |ns| {
            let hashed = |c: Fields| Ok((c.text(1)?, c.blob(2)));
            Ok((ns.text(1)?, ns.blob(2), ns.messages(3, hashed)?))
        })?
        .into_iter()
        .map(|(name, public, hashed)| {
            let mut scopes = vec![public_scope(&name, &public)?];
            for (collection, bytes) in hashed {
                scopes.push(hashed_scope(&name, collection, &bytes)?);
            }
            Ok(Ns { name, scopes })
        })
        .collect()
}

fn version(fields: Fields) -> Read<Version> {
    Ok((fields.number(1), fields.number(2)))
}

fn read(fields: Fields) -> Read<(Vec<u8>, Option<Version>)> {
    Ok((fields.text(1)?.into_bytes(), fields.message(2, version)?))
}

fn metadata_entries(fields: &Fields) -> Read<Metadata> {
    fields.messages(2, |entry| Ok((entry.text(1)?, entry.blob(2))))
}

fn query(fields: Fields) -> Read<Query> {
    let raw = |fields: Fields| fields.messages(1, read);
    fields.messages(4, raw)?;
    fields.messages(5, Ok)?;
    let (results, summary) = match fields.last_of(4, 5) {
        Some((4, fields)) => (raw(fields)?, None),
        Some((_, fields)) => (Vec::new(), Some(fields.number32(1))),
        None => (Vec::new(), None),
    };
    Ok(Query {
        start: fields.text(1)?.into_bytes(),
        end: fields.text(2)?.into_bytes(),
        exhausted: fields.truth(3),
        results,
        summary,
    })
}

fn public_scope(ns: &str, bytes: &[u8]) -> Read<Scope> {
    let fields = Fields::read(bytes)?;
    Ok(Scope {
        place: ns.to_owned(),
        collection: None,
        reads: fields.messages(1, read)?,
        queries: fields.messages(2, query)?,
        values: fields.messages(3, |write| {
            let value = write.blob(3);
            let deletes = write.truth(2) || value.is_empty();
            Ok((write.text(1)?.into_bytes(), (!deletes).then_some(value)))
        })?,
        metadata: fields.messages(4, |write| {
            Ok((write.text(1)?.into_bytes(), metadata_entries(&write)?))
        })?,
    })
}

fn hashed_scope(ns: &str, collection: String, bytes: &[u8]) -> Read<Scope> {
    let fields = Fields::read(bytes)?;
    Ok(Scope {
        place: format!("{ns}$$h{collection}"),
        collection: Some(collection),
        reads: fields.messages(1, |read| Ok((read.blob(1), read.message(2, version)?)))?,
        queries: Vec::new(),
        values: fields.messages(2, |write| {
            let hash = write.blob(3);
            let deletes = write.truth(2) || hash.is_empty() || hash == sha256(&[]);
            Ok((write.blob(1), (!deletes).then_some(hash)))
        })?,
        metadata: fields.messages(3, |write| Ok((write.blob(1), metadata_entries(&write)?)))?,
    })
}
