//! Why a call failed, and what may be done about it.

use std::fmt;

use bytes::Bytes;
use prost::Message;
use selvedge_comm::{BroadcastError, CommError};
use selvedge_msp::{IdentityError, KeyError};
use selvedge_proto::{Difference, EnvelopeError, gateway, google, protos};
use tonic::Code;

/// The call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `Gateway.Evaluate`.
    Evaluate,
    /// `Gateway.Endorse`.
    Endorse,
    /// `Gateway.Submit`.
    Submit,
    /// `Gateway.CommitStatus`.
    CommitStatus,
    /// `Gateway.ChaincodeEvents`.
    ChaincodeEvents,
    /// `Endorser.ProcessProposal`.
    ProcessProposal,
    /// One of the `Deliver` services of a peer or an orderer.
    Deliver,
    /// `Discovery.Discover`.
    Discover,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What one node said about a failure (`gateway.ErrorDetail`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorDetail {
    /// `host:port` of the peer or orderer.
    pub address: String,
    /// Its organisation.
    pub msp_id: String,
    /// What it said.
    pub message: String,
}

impl fmt::Display for ErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.address, self.msp_id, self.message)
    }
}

/// A gRPC call that ended with an error status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// Which call.
    pub call: Call,
    /// The gRPC code.
    pub code: Code,
    /// The text of the status.
    pub message: String,
    /// The transaction that the call was about, if any.
    pub transaction_id: Option<String>,
    /// What the single nodes said (spec 04 §1.4).
    pub details: Vec<ErrorDetail>,
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed with {:?}: {}", self.call, self.code, self.message)?;
        if let Some(id) = &self.transaction_id {
            write!(f, " (transaction {id})")?;
        }
        for detail in &self.details {
            write!(f, "; {detail}")?;
        }
        Ok(())
    }
}

impl std::error::Error for RpcError {}

impl RpcError {
    /// Reads a status with the details in `grpc-status-details-bin`. Every `Any` is taken as `gateway.ErrorDetail`, as the
    /// official clients do; what does not decode is left out.
    pub fn from_status(call: Call, transaction_id: Option<&str>, status: &tonic::Status) -> Self {
        let details = google::rpc::Status::decode(Bytes::copy_from_slice(status.details()))
            .map(|s| s.details)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|any| gateway::ErrorDetail::decode(Bytes::from(any.value)).ok())
            .map(|d| ErrorDetail {
                address: d.address,
                msp_id: d.msp_id,
                message: d.message,
            })
            .collect();
        Self {
            call,
            code: status.code(),
            message: status.message().to_owned(),
            transaction_id: transaction_id.map(str::to_owned),
            details,
        }
    }

    /// What a call fails with that had no answer within its limit.
    pub fn deadline(call: Call, transaction_id: Option<&str>, limit: std::time::Duration) -> Self {
        Self {
            call,
            code: Code::DeadlineExceeded,
            message: format!("no answer within {} ms", limit.as_millis()),
            transaction_id: transaction_id.map(str::to_owned),
            details: Vec::new(),
        }
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.message.as_str()).chain(self.details.iter().map(|d| d.message.as_str()))
    }

    fn retry(&self) -> Retry {
        if self.texts().any(|t| t.contains(DUPLICATE)) {
            return Retry::LookUp;
        }
        match self.code {
            Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::NotFound
            | Code::OutOfRange
            | Code::DataLoss => Retry::Never,
            Code::Aborted | Code::Unknown | Code::FailedPrecondition if self.is_refused() => Retry::Never,
            // An orderer that refuses an envelope (400..499) refuses it again.
            Code::Aborted if self.call == Call::Submit => Retry::Never,
            Code::Unavailable if self.is_refused_by_orderers() => Retry::Never,
            Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled | Code::Unknown
                if self.call == Call::Submit =>
            {
                // It may have been ordered; sending the same envelope again is safe, its id is admitted once.
                Retry::SameTransaction
            }
            _ => Retry::SameTransaction,
        }
    }
}

impl RpcError {
    /// Whether the contract says no, and nobody says otherwise. The status itself says so where one endorser was asked
    /// (Evaluate). Where several were (Endorse), it is in the details, and another endorser may have been away only, or even
    /// have accepted: that is so whenever enough could not be collected, since the first must have endorsed for that (spec
    /// 04 §2.3).
    fn is_refused(&self) -> bool {
        if is_final_refusal(&self.message) {
            return true;
        }
        !self.message.contains(NOT_ENOUGH)
            && !self.details.is_empty()
            && self
                .details
                .iter()
                .all(|detail| is_final_refusal(&detail.message))
    }

    /// Whether every orderer that answered refuses the envelope itself: so many of a BFT channel are asked at once that the
    /// gateway does not end with the first refusal (spec 04 §2.4).
    fn is_refused_by_orderers(&self) -> bool {
        self.call == Call::Submit
            && !self.details.is_empty()
            && self
                .details
                .iter()
                .all(|detail| BAD_ENVELOPE.iter().any(|word| detail.message.contains(word)))
    }
}

/// What Fabric's gateway says when the first endorser accepted and others did not.
const NOT_ENOUGH: &str = "failed to collect enough transaction endorsements";

/// What an orderer says of an envelope that it will never take.
const BAD_ENVELOPE: [&str; 2] = ["status=BAD_REQUEST", "status=REQUEST_ENTITY_TOO_LARGE"];

/// Whether a text holds a refusal by the contract that it would repeat.
fn is_final_refusal(text: &str) -> bool {
    contract_refusal(text).is_some_and(|(_, words)| !state_is_away(&words))
}

/// Whether a contract only passes on that the peer could not read the state: Fabric's peer answers the contract's request so
/// when its database is away.
pub(crate) fn state_is_away(words: &str) -> bool {
    STATE_READS
        .iter()
        .any(|read| words.contains(&format!("{read} failed: transaction ID")))
}

/// Requests of a contract that read the state by key. What a rich query fails with may be the contract's own mistake.
const STATE_READS: [&str; 4] = [
    "GET_STATE",
    "GET_STATE_BY_RANGE",
    "GET_STATE_METADATA",
    "QUERY_STATE_NEXT",
];

/// What an endorser says of a transaction id that its ledger holds already.
const DUPLICATE: &str = "duplicate transaction found";

/// The status and message of a contract's refusal inside "chaincode response 404, shipment S-1 is unknown" (spec 04 §2.1).
pub(crate) fn contract_refusal(text: &str) -> Option<(i32, String)> {
    let rest = text.split_once("chaincode response ")?.1;
    let (status, message) = rest.split_once(", ")?;
    Some((status.parse().ok()?, message.to_owned()))
}

/// A transaction that was ordered, and found invalid by every peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitError {
    /// Its id.
    pub transaction_id: String,
    /// Why it is invalid.
    pub code: protos::TxValidationCode,
    /// The block that holds it.
    pub block_number: u64,
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Transaction {} failed to commit with status code {} ({})",
            self.transaction_id,
            self.code as i32,
            self.code.as_str_name()
        )
    }
}

impl std::error::Error for CommitError {}

/// The answer of an endorser that differs from the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadMismatch {
    /// The endorser whose answer is the measure.
    pub first: String,
    /// The endorser that answered otherwise.
    pub second: String,
    /// The places at which they differ.
    pub differences: Vec<Difference>,
}

impl fmt::Display for PayloadMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endorsements of {} and {} differ: ", self.first, self.second)?;
        for (i, difference) in self.differences.iter().enumerate() {
            write!(f, "{}{difference}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Error object of a CA (spec 06 §1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaError {
    /// HTTP status.
    pub status: u16,
    /// Fabric CA's error code (spec 06 §6).
    pub code: i64,
    /// Its text.
    pub message: String,
}

/// What may be done after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same transaction (same nonce and identity, so the same id) may be sent again; it counts once at most.
    SameTransaction,
    /// This transaction is settled as invalid; a new one with a new nonce may succeed.
    NewTransaction,
    /// The ledger knows this id: ask for its commit status before anything else.
    LookUp,
    /// Trying again cannot help.
    Never,
}

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A gRPC call failed.
    #[error("{0}")]
    Rpc(#[from] Box<RpcError>),
    /// The transaction is on the ledger and invalid.
    #[error("{0}")]
    Commit(#[from] CommitError),
    /// The contract answered with a status of 400 or more.
    #[error("chaincode response {status}, {message} (from {endorser})")]
    Refused {
        /// The endorser that ran the contract.
        endorser: String,
        /// The contract's status.
        status: i32,
        /// The contract's words.
        message: String,
    },
    /// Endorsers answered differently.
    #[error("{0}")]
    Mismatch(Box<PayloadMismatch>),
    /// An endorsement cannot be used.
    #[error("endorsement of {endorser} is not usable: {why}")]
    Endorsement {
        /// Who gave it.
        endorser: String,
        /// What is wrong with it.
        why: String,
    },
    /// All endorsements are good, and still not enough.
    #[error("the endorsements do not satisfy the policy: {0}")]
    PolicyNotMet(String),
    /// No orderer took the envelope.
    #[error("transaction {transaction_id} was taken by no orderer: {}", tried.join("; "))]
    Ordering {
        /// The transaction.
        transaction_id: String,
        /// What each orderer said.
        tried: Vec<String>,
        /// An orderer refused it for good (status 400 to 499).
        is_final: bool,
    },
    /// A stream of blocks ended with this status.
    #[error("{from} ended the stream of channel {channel} with status {status}{hint}")]
    DeliverStatus {
        /// The node.
        from: String,
        /// The channel.
        channel: String,
        /// `common.Status` by name, or its number.
        status: String,
        /// What it usually means.
        hint: &'static str,
    },
    /// The node ended a stream that should go on.
    #[error("{from} ended the stream; connect again and resume")]
    StreamEnded {
        /// The node.
        from: String,
    },
    /// The commit was not seen in time; the transaction may still commit.
    #[error("commit of transaction {transaction_id} was not seen within {waited_ms} ms; it may still come")]
    CommitTimeout {
        /// The transaction.
        transaction_id: String,
        /// How long was waited, in milliseconds.
        waited_ms: u128,
    },
    /// An answer lacks a part or does not decode.
    #[error("answer of {from} is not usable: {why}")]
    Malformed {
        /// Who answered.
        from: String,
        /// What is wrong.
        why: String,
    },
    /// A request is not complete, e.g. not signed.
    #[error("{0}")]
    Request(String),
    /// The discovery service of a peer refused a query.
    #[error("discovery at {peer} refused: {why}{hint}")]
    Discovery {
        /// The peer.
        peer: String,
        /// What it said.
        why: String,
        /// What it usually means.
        hint: &'static str,
    },
    /// The CA refused.
    #[error("certificate authority at {url} refused: {} (code {}, HTTP {})", .error.message, .error.code, .error.status)]
    Ca {
        /// Where it is.
        url: String,
        /// What it said.
        error: CaError,
    },
    /// A REST call was refused.
    #[error("{url} answered HTTP {status}: {message}")]
    Rest {
        /// What was called.
        url: String,
        /// HTTP status.
        status: u16,
        /// Its text.
        message: String,
    },
    /// A connection could not be made.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// The own key cannot sign, or a key is not usable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An identity is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The channel's configuration is not usable.
    #[error("configuration of channel {channel} is not usable: {why}")]
    ChannelConfig {
        /// The channel.
        channel: String,
        /// What is wrong.
        why: String,
    },
    /// A file of this client cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn rpc(call: Call, transaction_id: Option<&str>, status: &tonic::Status) -> Self {
        Self::Rpc(Box::new(RpcError::from_status(call, transaction_id, status)))
    }

    pub(crate) fn malformed(from: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::Malformed {
            from: from.into(),
            why: why.to_string(),
        }
    }

    /// What may be done after this failure.
    pub fn retry(&self) -> Retry {
        use protos::TxValidationCode as V;
        match self {
            Self::Rpc(error) => error.retry(),
            Self::Commit(error) => match error.code {
                V::MvccReadConflict | V::PhantomReadConflict => Retry::NewTransaction,
                V::DuplicateTxid => Retry::LookUp,
                _ => Retry::Never,
            },
            Self::Mismatch(_)
            | Self::PolicyNotMet(_)
            | Self::Comm(_)
            | Self::StreamEnded { .. }
            | Self::Malformed { .. } => Retry::SameTransaction,
            Self::Ordering { is_final, .. } => {
                if *is_final {
                    Retry::Never
                } else {
                    Retry::SameTransaction
                }
            }
            Self::CommitTimeout { .. } => Retry::LookUp,
            Self::Endorsement { why, .. } if why.contains(DUPLICATE) => Retry::LookUp,
            Self::Refused { message, .. } if state_is_away(message) => Retry::SameTransaction,
            Self::DeliverStatus { .. } | Self::Endorsement { .. } => Retry::SameTransaction,
            Self::Ca { error, .. } if error.status >= 500 => Retry::SameTransaction,
            Self::Rest { status, .. } if *status >= 500 => Retry::SameTransaction,
            _ => Retry::Never,
        }
    }

    /// The contract's own status and words, when the contract is what said no.
    pub fn contract_refusal(&self) -> Option<(i32, String)> {
        match self {
            Self::Refused { status, message, .. } => Some((*status, message.clone())),
            Self::Rpc(error) => error.texts().find_map(contract_refusal),
            _ => None,
        }
    }
}

impl From<BroadcastError> for Error {
    fn from(error: BroadcastError) -> Self {
        Self::Ordering {
            transaction_id: String::new(),
            tried: vec![error.to_string()],
            is_final: false,
        }
    }
}

impl From<EnvelopeError> for Error {
    fn from(error: EnvelopeError) -> Self {
        Self::Request(error.to_string())
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
