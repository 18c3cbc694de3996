//! What a way in hands to the buffer.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::identities::IdentityId;

/// What goes first when not everything can go at once, and what goes last when something must be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Bulk data: after everything else.
    Low,
    /// What is not said otherwise.
    #[default]
    Normal,
    /// Before the normal.
    High,
    /// Alarms: before everything else.
    Critical,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];
}

/// A request for a transaction, as a device made it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransactionRequest {
    /// Channel.
    pub channel: String,
    /// Chaincode name.
    pub chaincode: String,
    /// Function.
    pub function: String,
    /// Arguments.
    pub args: Vec<Bytes>,
    /// The device's own name for this request; the same name of the same source is the same request, for ever. Empty if
    /// it gave none.
    pub idempotency_key: String,
    /// Who made it, as far as known.
    pub source: String,
    /// Requests of one source that ask for order are sent one after the other.
    pub ordered: bool,
    /// Whether a transaction that lost a race (MVCC or phantom conflict) is followed by a new one.
    pub retry_conflicts: bool,
    /// What goes first.
    pub priority: Priority,
    /// After this time the request is worth nothing any more and is dropped, if it was not sent by then; none for as long
    /// as the buffer keeps requests. Whole seconds count.
    pub max_age: Option<Duration>,
}

impl TransactionRequest {
    /// Bytes that count against the limits: what the caller said.
    pub fn size(&self) -> usize {
        let texts = [
            &self.channel,
            &self.chaincode,
            &self.function,
            &self.idempotency_key,
            &self.source,
        ];
        texts.iter().map(|t| t.len()).sum::<usize>() + self.args.iter().map(Bytes::len).sum::<usize>()
    }
}

/// What became of a request that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Number in this buffer, for `GET /v1/transactions/{id}`.
    pub id: u64,
    /// It was taken before under this key; nothing was added.
    pub known: bool,
}

impl Priority {
    pub(crate) fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Low,
            1 => Self::Normal,
            2 => Self::High,
            _ => Self::Critical,
        }
    }
}

/// What many requests have in common; said once a segment on disk and kept once in memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Template {
    pub(crate) channel: String,
    pub(crate) chaincode: String,
    pub(crate) function: String,
    pub(crate) source: String,
    /// Whom they are sent by, and so part of their transaction ids.
    pub(crate) identity: IdentityId,
    pub(crate) ordered: bool,
    pub(crate) retry_conflicts: bool,
    pub(crate) priority: Priority,
    /// Seconds; 0 for none.
    pub(crate) max_age_s: u32,
    /// The requests tell of what was dropped; they are never dropped themselves.
    pub(crate) tells_gaps: bool,
}

impl Template {
    pub(crate) fn of(request: &TransactionRequest, identity: IdentityId) -> Self {
        let seconds = |age: Duration| u32::try_from(age.as_secs()).unwrap_or(u32::MAX).max(1);
        Self {
            channel: request.channel.clone(),
            chaincode: request.chaincode.clone(),
            function: request.function.clone(),
            source: request.source.clone(),
            identity,
            ordered: request.ordered,
            retry_conflicts: request.retry_conflicts,
            priority: request.priority,
            max_age_s: request.max_age.map_or(0, seconds),
            tells_gaps: false,
        }
    }
}
