//! The committing peer's judgement of a block (spec 03 §3-§6).
//!
//! ```text
//!  prepare: in parallel, ahead of the chain          judge: in order, state after the previous block
//!  ────────────────────────────────────              ─────────────────────────────────────────────
//!  open        what the bytes alone decide           duplicates, definitions, policies, key-level
//!  signatures  creator and endorsers                 policies, config transactions, MVCC
//! ```
//!
//! Signatures and identities are checked under the configuration that is current when a block is prepared. Should a config
//! block come in between, they are checked again: a verdict depends on the chain alone, never on timing.

mod judge;
mod namespaces;
mod open;
mod policies;
mod pool;
mod signatures;

use std::sync::Arc;

use selvedge_channel::Bundle;
use selvedge_ledger::LedgerError;
use selvedge_ledger::rwset::ParsedRwset;
use selvedge_proto::common;

pub(crate) use judge::{ChainView, judge};
pub(crate) use namespaces::KnownDefinitions;
pub(crate) use open::{OpenTx, open};
pub(crate) use policies::Policies;
pub use pool::{ValidatorPool, ValidatorPoolError};

use crate::endorsements::OwnEndorsements;
use open::{Body, Content, SignedTx};
use signatures::Checked;

/// Why a block could not be processed. No transaction is to blame that an honest network lets in; the channel stands still
/// until the cause is removed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The block is not the next one.
    #[error("block {got} of channel {channel} cannot be processed: the next one is {expected}")]
    NotNext {
        /// The channel.
        channel: String,
        /// The number that is next.
        expected: u64,
        /// The number given.
        got: u64,
    },
    /// The block lacks a part.
    #[error("block {number} of channel {channel} cannot be processed: {why}; fetch it from another orderer")]
    BadBlock {
        /// The channel.
        channel: String,
        /// Its number, 0 where it has no header.
        number: u64,
        /// What is missing.
        why: &'static str,
    },
    /// A config transaction does not apply, which no honest orderer lets happen (spec 03 §3 E).
    #[error(
        "config transaction {index} of block {number} of channel {channel} does not apply: {why}; the channel stands \
         still, ask the ordering service's operators how it came to be"
    )]
    ConfigTransaction {
        /// The channel.
        channel: String,
        /// Number of the block.
        number: u64,
        /// Place in the block.
        index: usize,
        /// Which rule it breaks.
        why: String,
    },
    /// A chaincode definition names a validation plugin that does not exist here.
    #[error(
        "chaincode {chaincode:?} is defined with validation plugin {plugin:?}, this peer has \"vscc\" alone and cannot judge \
         its transactions; the channel stands still"
    )]
    UnknownPlugin {
        /// The chaincode.
        chaincode: String,
        /// The plugin.
        plugin: String,
    },
}

/// A block whose transactions are opened and whose signatures are checked.
#[derive(Debug)]
pub struct PreparedBlock {
    pub(crate) number: u64,
    pub(crate) block: common::Block,
    pub(crate) txs: Vec<PreparedTx>,
    /// The configuration that the signatures were checked under.
    bundle: Arc<Bundle>,
}

#[derive(Debug)]
pub(crate) struct PreparedTx {
    pub(crate) open: OpenTx,
    /// `None` where the headers are not sound.
    pub(crate) checked: Option<Checked>,
}

impl PreparedTx {
    /// What the endorsers of an endorser transaction agreed on.
    pub(crate) fn content(&self) -> Option<&Content> {
        match &self.open.outcome.as_ref().ok()?.body {
            Body::Endorser(endorser) => endorser.content.as_ref().ok(),
            _ => None,
        }
    }

    /// The read/write set of an endorser transaction.
    pub(crate) fn rwset(&self) -> Option<&ParsedRwset> {
        self.content().map(|content| &content.rwset)
    }
}

impl PreparedBlock {
    /// Number of the block.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Checks the signatures again if the configuration has changed since.
    pub(crate) fn refresh(
        &mut self,
        bundle: &Arc<Bundle>,
        own: &Arc<OwnEndorsements>,
        validators: &ValidatorPool,
    ) {
        if Arc::ptr_eq(&self.bundle, bundle) {
            return;
        }
        let (current, own) = (Arc::clone(bundle), Arc::clone(own));
        self.txs = validators.map(std::mem::take(&mut self.txs), move |tx| PreparedTx {
            checked: check(&tx.open, &current, &own),
            ..tx
        });
        self.bundle = Arc::clone(bundle);
    }
}

/// Opens all transactions of a block and checks their signatures, on all threads of a pool.
pub(crate) fn prepare(
    block: common::Block,
    bundle: Arc<Bundle>,
    own: &Arc<OwnEndorsements>,
    validators: &ValidatorPool,
) -> Result<PreparedBlock, ProcessError> {
    let bad = |number, why| ProcessError::BadBlock {
        channel: bundle.channel_id().to_owned(),
        number,
        why,
    };
    let number = block
        .header
        .as_ref()
        .ok_or_else(|| bad(0, "it has no header"))?
        .number;
    let data = block.data.as_ref().ok_or_else(|| bad(number, "it has no data"))?;
    let (current, own) = (Arc::clone(&bundle), Arc::clone(own));
    let txs = validators.map(data.data.clone(), move |data| {
        let open = open(&data);
        let checked = check(&open, &current, &own);
        PreparedTx { open, checked }
    });
    Ok(PreparedBlock {
        number,
        block,
        txs,
        bundle,
    })
}

fn check(open: &OpenTx, bundle: &Bundle, own: &OwnEndorsements) -> Option<Checked> {
    let tx: &SignedTx = open.outcome.as_ref().ok()?;
    Some(signatures::check(tx, bundle, own))
}
