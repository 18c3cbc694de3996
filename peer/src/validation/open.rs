//! Opening a transaction: everything that its own bytes decide (spec 03 §3 A, B.1-B.3, B.5, D.2.a-d).
//!
//! A transaction is decoded once, into slices of the block. What fails late in Fabric's order is found here too, but kept
//! beside the rest, since an earlier step that needs the chain (creator, duplicate id) goes first.

use bytes::Bytes;
use selvedge_ledger::rwset::ParsedRwset;
use selvedge_proto::go_compat::{self, GoDecodeError};
use selvedge_proto::protos::TxValidationCode as Code;
use selvedge_proto::{common, compute_tx_id, proposal_hash, protos};

/// A validation code and why it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) why: String,
}

pub(crate) fn fault(code: Code, why: impl Into<String>) -> Fault {
    Fault {
        code,
        why: why.into(),
    }
}

/// One element of a block, opened.
#[derive(Debug)]
pub(crate) struct OpenTx {
    /// `ChannelHeader.tx_id` as it stands; empty where the channel header does not parse, and in config transactions.
    pub(crate) tx_id: String,
    /// Whether the channel header parses.
    pub(crate) opened: bool,
    /// `ChannelHeader.type`; 0 where the channel header does not parse.
    pub(crate) header_type: i32,
    /// The chaincode event, where it decodes, whatever else is wrong with the transaction.
    pub(crate) event: Option<protos::ChaincodeEvent>,
    pub(crate) outcome: Result<SignedTx, Fault>,
}

/// A transaction whose headers are sound (past B.3).
#[derive(Debug)]
pub(crate) struct SignedTx {
    pub(crate) channel_id: String,
    pub(crate) creator: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) signature: Bytes,
    pub(crate) body: Body,
}

/// What a transaction wants, once its creator is accepted.
#[derive(Debug)]
pub(crate) enum Body {
    Endorser(EndorserTx),
    /// `Payload.data` as it stands: a ConfigEnvelope.
    Config(Bytes),
    /// Refused by B.5.
    Refused(Fault),
}

/// An endorser transaction of sound structure (past B.5).
#[derive(Debug)]
pub(crate) struct EndorserTx {
    /// What the endorsers signed, each followed by its own identity.
    pub(crate) response_payload: Bytes,
    pub(crate) endorsements: Vec<protos::Endorsement>,
    /// The outcome of D.2.a-d.
    pub(crate) content: Result<Content, Fault>,
}

/// What the endorsers agreed on.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) chaincode: String,
    pub(crate) rwset: ParsedRwset,
}

/// Opens one element of `BlockData.data`.
pub(crate) fn open(data: &Bytes) -> OpenTx {
    let mut seen = Seen::default();
    let outcome = open_envelope(data, &mut seen);
    let header = seen.header;
    let header_type = header.as_ref().map_or(0, |h| h.r#type);
    let refused_early = header_type == common::HeaderType::EndorserTransaction as i32
        && !matches!(&outcome, Ok(SignedTx { body: Body::Endorser(tx), .. }) if tx.content.is_ok());
    OpenTx {
        opened: header.is_some(),
        header_type,
        tx_id: header.map(|h| h.tx_id).unwrap_or_default(),
        event: seen.event.or_else(|| refused_early.then(|| event_of(seen.data))?),
        outcome,
    }
}

/// The event of a transaction that was refused before its event was come to: filtered blocks show it all the same.
fn event_of(data: Bytes) -> Option<protos::ChaincodeEvent> {
    let transaction: protos::Transaction = go_compat::decode(data).ok()?;
    let action = transaction.actions.into_iter().next()?;
    let payload: protos::ChaincodeActionPayload = go_compat::decode(action.payload).ok()?;
    let response: protos::ProposalResponsePayload =
        go_compat::decode(payload.action?.proposal_response_payload).ok()?;
    let action: protos::ChaincodeAction = go_compat::decode(response.extension).ok()?;
    if action.events.is_empty() {
        return None;
    }
    go_compat::decode(action.events).ok()
}

fn because(code: Code) -> impl Fn(GoDecodeError) -> Fault {
    move |error| fault(code, error.to_string())
}

/// What is worth showing of a transaction however early it fails.
#[derive(Debug, Default)]
struct Seen {
    header: Option<common::ChannelHeader>,
    event: Option<protos::ChaincodeEvent>,
    /// `Payload.data`.
    data: Bytes,
}

fn open_envelope(data: &Bytes, seen: &mut Seen) -> Result<SignedTx, Fault> {
    let envelope: common::Envelope =
        go_compat::decode(data.clone()).map_err(because(Code::InvalidOtherReason))?;
    let payload: common::Payload =
        go_compat::decode(envelope.payload.clone()).map_err(because(Code::BadPayload))?;
    let bad_header = |why: &str| fault(Code::BadCommonHeader, why);
    let header = payload
        .header
        .ok_or_else(|| bad_header("the payload has no header"))?;
    let channel_header: common::ChannelHeader =
        go_compat::decode(header.channel_header.clone()).map_err(because(Code::BadCommonHeader))?;
    seen.header = Some(channel_header.clone());
    seen.data = payload.data.clone();
    let signature_header: common::SignatureHeader =
        go_compat::decode(header.signature_header.clone()).map_err(because(Code::BadCommonHeader))?;
    let computed = compute_tx_id(&signature_header.nonce, &signature_header.creator);

    let kind = common::HeaderType::try_from(channel_header.r#type)
        .ok()
        .filter(|kind| {
            use common::HeaderType as T;
            matches!(kind, T::EndorserTransaction | T::ConfigUpdate | T::Config)
        });
    let Some(kind) = kind else {
        return Err(bad_header(&format!(
            "header type {} is no transaction",
            channel_header.r#type
        )));
    };
    if channel_header.epoch != 0 {
        return Err(bad_header(&format!(
            "the epoch is {} instead of 0",
            channel_header.epoch
        )));
    }
    check_signature_header(&signature_header).map_err(bad_header)?;

    let body = match kind {
        // Empty data is nil in Go, and that is what Fabric's check of B.5 refuses (the spec takes it for impossible);
        // anything else is for the current configuration to judge.
        common::HeaderType::Config if payload.data.is_empty() => Body::Refused(fault(
            Code::InvalidConfigTransaction,
            "the config transaction is empty",
        )),
        common::HeaderType::Config => Body::Config(payload.data),
        common::HeaderType::EndorserTransaction => {
            match open_endorser(
                &channel_header,
                &header.channel_header,
                &computed,
                payload.data,
                &mut seen.event,
            ) {
                Ok(tx) => Body::Endorser(tx),
                Err(fault) => Body::Refused(fault),
            }
        }
        _ => Body::Refused(fault(
            Code::UnsupportedTxPayload,
            "a CONFIG_UPDATE is for the orderer, which turns it into a CONFIG transaction",
        )),
    };
    Ok(SignedTx {
        channel_id: channel_header.channel_id,
        creator: signature_header.creator,
        payload: envelope.payload,
        signature: envelope.signature,
        body,
    })
}

fn check_signature_header(header: &common::SignatureHeader) -> Result<(), &'static str> {
    if header.nonce.is_empty() {
        return Err("the signature header has no nonce");
    }
    if header.creator.is_empty() {
        return Err("the signature header has no creator");
    }
    Ok(())
}

/// B.5 for ENDORSER_TRANSACTION.
fn open_endorser(
    channel_header: &common::ChannelHeader,
    raw_channel_header: &[u8],
    computed_id: &str,
    data: Bytes,
    event: &mut Option<protos::ChaincodeEvent>,
) -> Result<EndorserTx, Fault> {
    if channel_header.tx_id != computed_id {
        return Err(fault(
            Code::BadProposalTxid,
            format!(
                "the transaction id is {:?}, but nonce and creator make {computed_id}",
                bounded(&channel_header.tx_id)
            ),
        ));
    }
    let bad = |why: &str| fault(Code::InvalidEndorserTransaction, why);
    let decode_bad = because(Code::InvalidEndorserTransaction);
    let transaction: protos::Transaction = go_compat::decode(data).map_err(&decode_bad)?;
    let count = transaction.actions.len();
    let mut actions = transaction.actions.into_iter();
    let (Some(action), None) = (actions.next(), actions.next()) else {
        return Err(bad(&format!(
            "the transaction has {count} actions instead of one"
        )));
    };
    let action_header: common::SignatureHeader =
        go_compat::decode(action.header.clone()).map_err(&decode_bad)?;
    check_signature_header(&action_header).map_err(|why| bad(&format!("in the action, {why}")))?;
    let payload: protos::ChaincodeActionPayload = go_compat::decode(action.payload).map_err(&decode_bad)?;
    let endorsed = payload
        .action
        .ok_or_else(|| bad("the action carries no endorsed action"))?;
    let response: protos::ProposalResponsePayload =
        go_compat::decode(endorsed.proposal_response_payload.clone()).map_err(&decode_bad)?;
    if payload.chaincode_proposal_payload.is_empty() {
        return Err(bad("the action carries no proposal"));
    }
    let hash = proposal_hash(
        raw_channel_header,
        &action.header,
        &payload.chaincode_proposal_payload,
    );
    if hash != response.proposal_hash {
        return Err(bad(&format!(
            "the endorsers answered another proposal: hash {}, this one has {}",
            hex::encode(bounded_bytes(&response.proposal_hash)),
            hex::encode(&hash)
        )));
    }
    let content = open_content(channel_header, response.extension, event);
    Ok(EndorserTx {
        response_payload: endorsed.proposal_response_payload,
        endorsements: endorsed.endorsements,
        content,
    })
}

/// D.2.a-d.
fn open_content(
    channel_header: &common::ChannelHeader,
    extension: Bytes,
    event: &mut Option<protos::ChaincodeEvent>,
) -> Result<Content, Fault> {
    let header: protos::ChaincodeHeaderExtension =
        go_compat::decode(channel_header.extension.clone()).map_err(because(Code::BadHeaderExtension))?;
    // Here and for the event below, zero length counts as absent: spec 01 A.4 item 19 says otherwise, but Go decodes
    // such a field to nil, which is what Fabric asks for.
    if extension.is_empty() {
        return Err(fault(
            Code::BadResponsePayload,
            "the response payload has no extension",
        ));
    }
    let action: protos::ChaincodeAction =
        go_compat::decode(extension).map_err(because(Code::BadResponsePayload))?;
    let parsed_event = (!action.events.is_empty())
        .then(|| go_compat::decode::<protos::ChaincodeEvent>(action.events.clone()));
    if let Some(Ok(found)) = &parsed_event {
        *event = Some(found.clone());
    }
    let rwset =
        ParsedRwset::parse(action.results.clone()).map_err(|e| fault(Code::BadRwset, e.to_string()))?;

    let other = |why: String| fault(Code::InvalidOtherReason, why);
    let asked = header
        .chaincode_id
        .ok_or_else(|| other("the channel header names no chaincode".into()))?;
    let ran = action
        .chaincode_id
        .ok_or_else(|| other("the chaincode action names no chaincode".into()))?;
    let invalid = |why: String| fault(Code::InvalidChaincode, why);
    if asked.name.is_empty() {
        return Err(invalid(
            "the chaincode name in the channel header is empty".into(),
        ));
    }
    if asked.name != ran.name {
        return Err(invalid(format!(
            "the channel header names chaincode {:?}, the action {:?}",
            bounded(&asked.name),
            bounded(&ran.name)
        )));
    }
    if ran.version.is_empty() {
        return Err(invalid(format!(
            "the action gives no version of chaincode {:?}",
            bounded(&ran.name)
        )));
    }
    match parsed_event {
        Some(Err(error)) => return Err(other(error.to_string())),
        Some(Ok(event)) if event.chaincode_id != ran.name => {
            return Err(other(format!(
                "the event is of chaincode {:?}, the transaction of {:?}",
                bounded(&event.chaincode_id),
                bounded(&ran.name)
            )));
        }
        _ => {}
    }
    let mut names: Vec<&str> = rwset.namespaces.iter().map(|n| n.namespace.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(fault(
            Code::IllegalWriteset,
            format!(
                "namespace {:?} occurs twice in the read-write set",
                bounded(twice[0])
            ),
        ));
    }
    Ok(Content {
        chaincode: ran.name,
        rwset,
    })
}

/// The start of a text from outside, for an explanation.
pub(crate) fn bounded(text: &str) -> String {
    const MOST: usize = 120;
    if text.chars().nth(MOST).is_none() {
        return text.to_owned();
    }
    text.chars().take(MOST).chain("...".chars()).collect()
}

fn bounded_bytes(bytes: &[u8]) -> &[u8] {
    bytes.get(..32).unwrap_or(bytes)
}
