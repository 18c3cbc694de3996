//! The verdict on every transaction of a block, in order.

use std::collections::HashSet;
use std::sync::Arc;

use selvedge_channel::Bundle;
use selvedge_ledger::mvcc::{self, TxInput};
use selvedge_ledger::{StateReader, UpdateBatch};
use selvedge_proto::common::ConfigEnvelope;
use selvedge_proto::go_compat;
use selvedge_proto::protos::TxValidationCode as Code;

use super::namespaces::{KeyPolicies, KnownDefinitions, NamespaceJudge};
use super::open::{Body, Fault, fault};
use super::policies::Policies;
use super::{PreparedBlock, PreparedTx, ProcessError};

/// What a block comes to.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// One code a transaction; none is NOT_VALIDATED.
    pub(crate) codes: Vec<Code>,
    /// Why each transaction that is not VALID is not, by index.
    pub(crate) faults: Vec<(usize, Fault)>,
    /// What the valid ones write.
    pub(crate) updates: UpdateBatch,
    /// The configuration after the block, if it changes it.
    pub(crate) bundle: Option<Arc<Bundle>>,
    /// Of each transaction whose id was looked up, whether it stands in an earlier block.
    pub(crate) known: Vec<Option<bool>>,
}

/// What the judge needs from the ledger beyond the state.
pub(crate) trait ChainView {
    /// Which of these transaction ids stand in earlier blocks, valid or not; answers in the order of the ids.
    fn known_ids(&self, ids: &[&str]) -> Result<Vec<bool>, ProcessError>;
    /// Id of the transaction at a place in an earlier block, for explanations.
    fn tx_id_at(&self, block: u64, index: u64) -> Option<String>;
}

/// Judges a prepared block. `policies` are those of the configuration it was prepared (or refreshed) under, which is the one
/// as of the last committed block; `state` is the state after that block, and `definitions` are of that state.
pub(crate) fn judge(
    prepared: &PreparedBlock,
    policies: &Policies,
    state: &dyn StateReader,
    chain: &dyn ChainView,
    definitions: &mut KnownDefinitions,
) -> Result<Judgement, ProcessError> {
    let mut bundle: Option<Arc<Bundle>> = None;
    let known = known_ids(prepared, chain)?;
    let contents = prepared
        .txs
        .iter()
        .zip(&known)
        .filter(|(_, known)| **known != Some(true))
        .filter_map(|(tx, _)| tx.content());
    let mut namespaces = NamespaceJudge::new(
        prepared.number,
        policies,
        state,
        KeyPolicies::read(contents, state)?,
        definitions,
    );

    let mut verdicts: Vec<Result<(), Fault>> = Vec::with_capacity(prepared.txs.len());
    for (index, (tx, known)) in prepared.txs.iter().zip(&known).enumerate() {
        let verdict = match accepted(tx) {
            Err(fault) => Err(fault),
            Ok(Body::Refused(fault)) => Err(fault.clone()),
            Ok(Body::Config(data)) => {
                let current = bundle.as_ref().unwrap_or_else(|| policies.bundle());
                bundle = Some(Arc::new(apply_config(prepared, index, current, data)?));
                Ok(())
            }
            Ok(Body::Endorser(_)) if *known == Some(true) => Err(fault(
                Code::DuplicateTxid,
                "a transaction with this id stands in an earlier block",
            )),
            Ok(Body::Endorser(endorser)) => match (&endorser.content, endorsers(tx)) {
                (Err(fault), _) => Err(fault.clone()),
                (Ok(content), Some(endorsers)) => namespaces.judge(index, content, endorsers)?,
                (Ok(_), None) => Err(fault(
                    Code::EndorsementPolicyFailure,
                    "no endorsement was checked",
                )),
            },
        };
        verdicts.push(verdict);
    }
    refuse_repeated_ids(prepared, &mut verdicts);

    let mut codes: Vec<Code> = verdicts
        .iter()
        .map(|v| v.as_ref().err().map_or(Code::Valid, |fault| fault.code))
        .collect();
    let mut faults: Vec<(usize, Fault)> = verdicts
        .into_iter()
        .enumerate()
        .filter_map(|(i, v)| Some((i, v.err()?)))
        .collect();
    let inputs: Vec<TxInput<'_>> = prepared.txs.iter().map(mvcc_input).collect();
    let (updates, conflicts) = mvcc::judge(prepared.number, &inputs, &mut codes, state)?;
    for conflict in conflicts {
        let index = usize::try_from(conflict.tx).unwrap_or(usize::MAX);
        let mut why = conflict.to_string();
        if let Some(winner) = conflict.winner
            && let Some(tx_id) = winner_id(prepared, chain, winner.block, winner.tx)
        {
            why.push_str(&format!(" (transaction {tx_id})"));
        }
        faults.push((index, fault(conflict.code(), why)));
    }
    faults.sort_by_key(|(index, _)| *index);
    Ok(Judgement {
        codes,
        faults,
        updates,
        bundle,
        known,
    })
}

fn endorsers(tx: &PreparedTx) -> Option<&super::signatures::Endorsers> {
    tx.checked.as_ref()?.endorsers.as_ref()
}

/// Steps A to B.4: the body of a transaction with sound headers and an accepted creator.
fn accepted(tx: &PreparedTx) -> Result<&Body, Fault> {
    let signed = tx.open.outcome.as_ref().map_err(Clone::clone)?;
    match tx.checked.as_ref().map(|checked| &checked.creator) {
        Some(Ok(_)) => Ok(&signed.body),
        Some(Err(why)) => Err(fault(Code::BadCreatorSignature, why.clone())),
        None => Err(fault(Code::BadCreatorSignature, "the creator was not checked")),
    }
}

/// D.1 for the whole block at one go: only endorser transactions are asked about.
fn known_ids(prepared: &PreparedBlock, chain: &dyn ChainView) -> Result<Vec<Option<bool>>, ProcessError> {
    let asks = |tx: &PreparedTx| matches!(accepted(tx), Ok(Body::Endorser(_)));
    let ids: Vec<&str> = prepared
        .txs
        .iter()
        .filter(|tx| asks(tx))
        .map(|tx| tx.open.tx_id.as_str())
        .collect();
    let mut answers = chain.known_ids(&ids)?.into_iter();
    Ok(prepared
        .txs
        .iter()
        .map(|tx| asks(tx).then(|| answers.next().unwrap_or(false)))
        .collect())
}

/// Step E.
fn apply_config(
    prepared: &PreparedBlock,
    index: usize,
    current: &Bundle,
    data: &bytes::Bytes,
) -> Result<Bundle, ProcessError> {
    let refuse = |why: String| ProcessError::ConfigTransaction {
        channel: current.channel_id().to_owned(),
        number: prepared.number,
        index,
        why,
    };
    let envelope: ConfigEnvelope = go_compat::decode(data.clone()).map_err(|e| refuse(e.to_string()))?;
    current
        .validate_config_tx(&envelope)
        .map_err(|e| refuse(e.to_string()))
}

/// Step F: of the endorser transactions that are VALID so far, one id goes through once.
fn refuse_repeated_ids(prepared: &PreparedBlock, verdicts: &mut [Result<(), Fault>]) {
    let mut seen = HashSet::new();
    for (tx, verdict) in prepared.txs.iter().zip(verdicts) {
        let endorser = matches!(tx.open.outcome.as_ref().map(|t| &t.body), Ok(Body::Endorser(_)));
        if endorser && verdict.is_ok() && !seen.insert(tx.open.tx_id.as_str()) {
            *verdict = Err(fault(
                Code::DuplicateTxid,
                "an earlier transaction of this block has the same id",
            ));
        }
    }
}

fn mvcc_input(tx: &PreparedTx) -> TxInput<'_> {
    match tx.open.outcome.as_ref().map(|signed| &signed.body) {
        Ok(Body::Config(data)) => TxInput {
            rwset: None,
            config: Some(data.clone()),
        },
        _ => TxInput {
            rwset: tx.rwset(),
            config: None,
        },
    }
}

fn winner_id(prepared: &PreparedBlock, chain: &dyn ChainView, block: u64, index: u64) -> Option<String> {
    let id = if block == prepared.number {
        prepared.txs.get(usize::try_from(index).ok()?)?.open.tx_id.clone()
    } else {
        chain.tx_id_at(block, index)?
    };
    (!id.is_empty()).then_some(id)
}
