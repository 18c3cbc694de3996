//! Transactions that are signed before they are sent: what a real endorsement of this network looks like, with other keys,
//! signed anew by the client and the endorsers. Orderers and committing peers see no difference.

use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use rayon::prelude::*;
use selvedge_proto::prost::Message;
use selvedge_proto::{
    common, kvrwset, proposal_hash, protos, rwset, stripped_proposal_payload, transaction_action,
    transaction_payload,
};
use selvedge_sdk::{ClientIdentity, Invocation, Nonce, Proposal};

use crate::access::{Access, CONTRACT};
use crate::error::PerfError;
use crate::matrix::Run;

/// Keys that one prefilling transaction writes.
pub(crate) const KEYS_PER_TRANSACTION: u64 = 1000;
/// Key of the transaction that is the pattern of all others.
const PATTERN_KEY: &str = "pattern";

/// Name of the n-th key of a prefilled state.
pub(crate) fn prefilled_key(n: u64) -> String {
    format!("p{n:010}")
}

/// Makes signed transactions. Clones share the keys.
#[derive(Clone)]
pub(crate) struct Presigner {
    client: ClientIdentity,
    endorsers: Vec<ClientIdentity>,
    channel: String,
    pattern: protos::ChaincodeAction,
    value: Bytes,
}

fn no(what: impl std::fmt::Display) -> PerfError {
    PerfError::Network(format!("transactions cannot be signed ahead: {what}"))
}

impl Presigner {
    /// Lets the network endorse one transaction as the pattern.
    pub(crate) async fn prepare(run: &Run, access: &Access, channel: &str) -> Result<Self, PerfError> {
        let value = Bytes::from("v".repeat(run.value_bytes));
        let put = Invocation::new(channel, CONTRACT, "put")
            .arg(PATTERN_KEY)
            .arg(value.as_ref());
        let gateway = access.gateways(1, 0)?.into_iter().next();
        let gateway = gateway.ok_or_else(|| no("there is no gateway"))?;
        let failed = || PerfError::client("cannot get an endorsement as the pattern");
        let proposal = gateway.propose(&put).map_err(failed())?;
        let transaction = gateway.endorse(&proposal).await.map_err(failed())?;
        let pattern = transaction_action(transaction.envelope().payload.clone()).map_err(no)?;
        let endorsers = (1..=run.endorsers)
            .map(|org| access.endorser(org))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            client: access.device(0)?,
            endorsers,
            channel: channel.to_owned(),
            pattern,
            value,
        })
    }

    /// Transactions that write one new key each, signed on all cores.
    pub(crate) async fn puts(&self, numbers: Range<u64>) -> Result<Vec<common::Envelope>, PerfError> {
        let this = self.clone();
        on_all_cores(move || {
            numbers
                .into_par_iter()
                .map(|n| this.transaction(&[format!("r{n}")]))
                .collect()
        })
        .await
    }

    /// Transactions that write the prefilled keys of these numbers.
    pub(crate) async fn prefill(&self, keys: Range<u64>) -> Result<Vec<common::Envelope>, PerfError> {
        let this = self.clone();
        on_all_cores(move || {
            let count = (keys.end - keys.start).div_ceil(KEYS_PER_TRANSACTION);
            (0..count)
                .into_par_iter()
                .map(|n| {
                    let start = keys.start + n * KEYS_PER_TRANSACTION;
                    let end = keys.end.min(start + KEYS_PER_TRANSACTION);
                    let keys: Vec<String> = (start..end).map(prefilled_key).collect();
                    this.transaction(&keys)
                })
                .collect()
        })
        .await
    }

    /// The pattern's results with these keys written instead of the pattern's; `keys` are sorted.
    fn results(&self, keys: &[String]) -> Result<Bytes, PerfError> {
        let mut all = rwset::TxReadWriteSet::decode(self.pattern.results.clone()).map_err(no)?;
        let own = all.ns_rwset.iter_mut().find(|ns| ns.namespace == CONTRACT);
        let own = own.ok_or_else(|| no("the pattern writes nothing"))?;
        let mut set = kvrwset::KvrwSet::decode(own.rwset.clone()).map_err(no)?;
        set.writes = keys
            .iter()
            .map(|key| kvrwset::KvWrite {
                key: key.clone(),
                is_delete: false,
                value: self.value.clone(),
            })
            .collect();
        own.rwset = set.encode_to_vec().into();
        Ok(all.encode_to_vec().into())
    }

    fn transaction(&self, keys: &[String]) -> Result<common::Envelope, PerfError> {
        let first = keys.first().map_or(PATTERN_KEY, String::as_str);
        let put = Invocation::new(&self.channel, CONTRACT, "put")
            .arg(first)
            .arg(self.value.as_ref());
        let nonce = Nonce::random().map_err(no)?;
        let proposal = Proposal::new(&put, self.client.creator(), &nonce, SystemTime::now());
        let proposal = protos::Proposal::decode(proposal.bytes().clone()).map_err(no)?;
        let header = common::Header::decode(proposal.header.clone()).map_err(no)?;
        let asked = protos::ChaincodeProposalPayload::decode(proposal.payload.clone()).map_err(no)?;
        let action = protos::ChaincodeAction {
            results: self.results(keys)?,
            ..self.pattern.clone()
        };
        let answer = protos::ProposalResponsePayload {
            proposal_hash: proposal_hash(
                &header.channel_header,
                &header.signature_header,
                &stripped_proposal_payload(asked.input),
            ),
            extension: action.encode_to_vec().into(),
        };
        let answer = Bytes::from(answer.encode_to_vec());
        let endorsements = self
            .endorsers
            .iter()
            .map(|endorser| {
                let creator = endorser.creator().clone();
                let signed = [answer.as_ref(), creator.as_ref()].concat();
                Ok(protos::Endorsement {
                    signature: endorser.sign(&signed).map_err(no)?,
                    endorser: creator,
                })
            })
            .collect::<Result<_, PerfError>>()?;
        let payload = transaction_payload(&proposal, answer, endorsements).map_err(no)?;
        Ok(common::Envelope {
            signature: self.client.sign(&payload).map_err(no)?,
            payload,
        })
    }
}

async fn on_all_cores<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PerfError> + Send + 'static,
) -> Result<T, PerfError> {
    tokio::task::spawn_blocking(work).await.map_err(no)?
}
