//! What a failed attempt means for the request, for its channel and contract, and for the connection.

use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::{CommitStatus, Error, Retry};
use tonic::Code;

use crate::buffer::{Outcome, State};

/// A stage of an attempt that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) state: State,
    pub(crate) error: Error,
}

pub(crate) fn failed_in(state: State) -> impl FnOnce(Error) -> Failed {
    move |error| Failed { state, error }
}

/// What follows from a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nobody was reached: nothing can be sent now.
    Unreachable,
    /// Somebody has to mend something (a permission, a certificate, a contract that is not there): nothing of this channel
    /// and contract can be sent now, and nothing of it is lost.
    Held,
    /// This attempt failed; it is repeated.
    Repeat,
    /// The ledger may know the transaction.
    LookUp,
    /// It lost a race.
    Conflict,
    /// The contract or an orderer refuses it for good.
    Refused,
}

/// Orderers and peers say so of an identity or channel that an administrator can mend.
const MENDABLE: [&str; 7] = [
    "FORBIDDEN",
    "NOT_FOUND",
    "expired",
    "access denied",
    "Failed evaluating policy",
    "creator",
    "is not defined",
];

fn mendable(text: &str) -> bool {
    MENDABLE.iter().any(|word| text.contains(word))
}

/// Reads a failure.
pub(crate) fn meaning(error: &Error) -> Meaning {
    if is_unreachable(error) {
        return Meaning::Unreachable;
    }
    if error.contract_refusal().is_some() && error.retry() == Retry::Never {
        return Meaning::Refused;
    }
    match error.retry() {
        Retry::LookUp => Meaning::LookUp,
        Retry::NewTransaction => Meaning::Conflict,
        Retry::SameTransaction => match error {
            Error::Endorsement { why, .. } if mendable(why) => Meaning::Held,
            Error::DeliverStatus { .. } | Error::PolicyNotMet(_) => Meaning::Held,
            Error::Rpc(rpc) if rpc.code == Code::FailedPrecondition => Meaning::Held,
            _ => Meaning::Repeat,
        },
        Retry::Never => match error {
            Error::Rpc(rpc) => match rpc.code {
                // What is asked makes no sense, and will not tomorrow.
                Code::InvalidArgument | Code::OutOfRange => Meaning::Refused,
                Code::Aborted if !mendable(&error.to_string()) => Meaning::Refused,
                _ => Meaning::Held,
            },
            Error::Ordering { .. } if !mendable(&error.to_string()) => Meaning::Refused,
            Error::Commit(_) => Meaning::Refused,
            _ => Meaning::Held,
        },
    }
}

/// Whether nobody was reached, as opposed to somebody who said no.
fn is_unreachable(error: &Error) -> bool {
    match error {
        Error::Rpc(rpc) => {
            matches!(
                rpc.code,
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
            ) && rpc.details.is_empty()
        }
        Error::Comm(_) | Error::StreamEnded { .. } => true,
        _ => false,
    }
}

/// Verdicts about the endorsements and not about the request: the policy or the contract was changed meanwhile, or asks for
/// endorsers that this gateway does not have. The id is spent; a new transaction may succeed when somebody has mended it.
pub(crate) fn is_mendable(code: TxValidationCode) -> bool {
    matches!(
        code,
        TxValidationCode::EndorsementPolicyFailure
            | TxValidationCode::ExpiredChaincode
            | TxValidationCode::ChaincodeVersionConflict
    )
}

/// What a failure to learn the verdict means: it is none, whatever it says.
pub(crate) fn meaning_at(state: State, error: &Error) -> Meaning {
    match meaning(error) {
        Meaning::Refused | Meaning::Conflict if state == State::CommitError => Meaning::Repeat,
        other => other,
    }
}

/// What the verdict of the peers means. None where it is about another transaction with this id: then the first one's
/// verdict counts, and is looked up.
pub(crate) fn verdict(status: &CommitStatus) -> Option<Outcome> {
    let reason = || {
        format!(
            "transaction {} is invalid in block {}: {}",
            status.transaction_id,
            status.block_number,
            status.code.as_str_name()
        )
    };
    match status.code {
        TxValidationCode::Valid => Some(Outcome::Committed {
            block: status.block_number,
        }),
        TxValidationCode::DuplicateTxid => None,
        TxValidationCode::MvccReadConflict | TxValidationCode::PhantomReadConflict => {
            Some(Outcome::Conflict { reason: reason() })
        }
        code if is_mendable(code) => Some(Outcome::Conflict { reason: reason() }),
        _ => Some(Outcome::Refused { reason: reason() }),
    }
}

#[cfg(test)]
mod tests {
    use selvedge_sdk::{Call, RpcError};

    use super::*;

    fn rpc(call: Call, code: Code, message: &str) -> Error {
        Error::Rpc(Box::new(RpcError {
            call,
            code,
            message: message.to_owned(),
            transaction_id: None,
            details: Vec::new(),
        }))
    }

    #[test]
    fn only_what_nobody_can_mend_ends_a_request() {
        for (error, expected) in [
            (
                rpc(Call::Endorse, Code::Unavailable, "no route"),
                Meaning::Unreachable,
            ),
            (
                rpc(
                    Call::Endorse,
                    Code::Aborted,
                    "chaincode response 404, shipment S-1 is unknown",
                ),
                Meaning::Refused,
            ),
            (
                rpc(
                    Call::Endorse,
                    Code::PermissionDenied,
                    "access denied: channel [trade]",
                ),
                Meaning::Held,
            ),
            (
                rpc(Call::Endorse, Code::NotFound, "channel does not exist"),
                Meaning::Held,
            ),
            (
                rpc(Call::Endorse, Code::FailedPrecondition, "no combination of peers"),
                Meaning::Held,
            ),
            (
                rpc(Call::Submit, Code::Aborted, "received unsuccessful response"),
                Meaning::Refused,
            ),
            (
                rpc(Call::Endorse, Code::Aborted, "duplicate transaction found"),
                Meaning::LookUp,
            ),
            (
                Error::Ordering {
                    transaction_id: "t".into(),
                    tried: vec!["o:1: status=FORBIDDEN, info=identity".into()],
                    is_final: true,
                },
                Meaning::Held,
            ),
            (
                Error::Ordering {
                    transaction_id: "t".into(),
                    tried: vec!["o:1: status=REQUEST_ENTITY_TOO_LARGE, info=big".into()],
                    is_final: true,
                },
                Meaning::Refused,
            ),
            (
                Error::Endorsement {
                    endorser: "p".into(),
                    why: "access denied: creator org [Org1MSP]".into(),
                },
                Meaning::Held,
            ),
        ] {
            assert_eq!(meaning(&error), expected, "{error}");
        }
    }

    #[test]
    fn verdicts() {
        let status = |code| CommitStatus {
            transaction_id: "t".into(),
            code,
            block_number: 4,
        };
        assert_eq!(
            verdict(&status(TxValidationCode::Valid)),
            Some(Outcome::Committed { block: 4 })
        );
        assert_eq!(verdict(&status(TxValidationCode::DuplicateTxid)), None);
        assert!(matches!(
            verdict(&status(TxValidationCode::PhantomReadConflict)),
            Some(Outcome::Conflict { .. })
        ));
        assert!(matches!(
            verdict(&status(TxValidationCode::EndorsementPolicyFailure)),
            Some(Outcome::Conflict { .. })
        ));
        assert!(matches!(
            verdict(&status(TxValidationCode::IllegalWriteset)),
            Some(Outcome::Refused { .. })
        ));
    }

    #[test]
    fn who_does_not_tell_the_verdict_has_not_given_one() {
        let error = rpc(Call::CommitStatus, Code::InvalidArgument, "no such thing");
        assert_eq!(meaning_at(State::CommitError, &error), Meaning::Repeat);
        assert_eq!(meaning_at(State::EndorsementError, &error), Meaning::Refused);
        let denied = rpc(Call::CommitStatus, Code::PermissionDenied, "access denied");
        assert_eq!(meaning_at(State::CommitError, &denied), Meaning::Held);
    }
}
