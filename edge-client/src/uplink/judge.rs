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
    /// Index of the peer that was used.
    pub(crate) peer: usize,
}

pub(crate) fn failed_in(state: State) -> impl FnOnce(Error) -> (State, Error) {
    move |error| (state, error)
}

/// What follows from a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nobody was reached: nothing can be sent now.
    Unreachable,
    /// Somebody has to mend something (a permission, a certificate, a contract that is not there), or no orderer takes
    /// anything: nothing of this channel and contract can be sent now, and nothing of it is lost.
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

/// Orderers and peers say so of an identity that another one can replace, or an administrator can let in.
const OF_IDENTITIES: [&str; 5] = [
    "FORBIDDEN",
    "expired",
    "access denied",
    "Failed evaluating policy",
    "creator",
];

/// And so of a channel, contract or clock that somebody can mend.
const MENDABLE: [&str; 4] = [
    "NOT_FOUND",
    "is not defined",
    "make sure the chaincode",
    "incorrect timestamp",
];

/// What a contract says, whatever its words, nobody mends for a whole channel.
fn says(text: &str, words: &[&str]) -> bool {
    !text.contains("chaincode response ") && words.iter().any(|word| text.contains(word))
}

fn mendable(text: &str) -> bool {
    says(text, &OF_IDENTITIES) || says(text, &MENDABLE)
}

/// What the nodes say in an error, each by itself.
fn texts(error: &Error) -> Vec<String> {
    match error {
        Error::Rpc(rpc) => std::iter::once(rpc.message.clone())
            .chain(rpc.details.iter().map(|detail| detail.message.clone()))
            .collect(),
        Error::Ordering { tried, .. } => tried.clone(),
        other => vec![other.to_string()],
    }
}

fn is_mendable_error(error: &Error) -> bool {
    texts(error).iter().any(|text| mendable(text))
}

/// Whether it is the identity that is refused, so that another may be taken.
pub(crate) fn refuses_identity(error: &Error) -> bool {
    let by_code = matches!(error, Error::Rpc(rpc) if matches!(rpc.code, Code::PermissionDenied | Code::Unauthenticated));
    by_code || texts(error).iter().any(|text| says(text, &OF_IDENTITIES))
}

/// Whether another peer may do what this one does not: it may be in the channel, reach the orderers, or know who endorses.
pub(crate) fn another_peer_may_help(state: State, error: &Error) -> bool {
    match meaning_at(state, error) {
        Meaning::Unreachable | Meaning::Held => true,
        Meaning::Repeat => {
            matches!(error, Error::Rpc(rpc) if rpc.code == Code::Aborted)
                && error.contract_refusal().is_none()
        }
        Meaning::LookUp | Meaning::Conflict | Meaning::Refused => false,
    }
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
            Error::DeliverStatus { .. } | Error::PolicyNotMet(_) | Error::Ordering { .. } => Meaning::Held,
            Error::Rpc(rpc) => match rpc.code {
                // With details: somebody was reached, and reached no orderer.
                Code::FailedPrecondition | Code::Unavailable => Meaning::Held,
                // An endorser that refuses the proposal before it runs it gives no better code.
                Code::Aborted | Code::Unknown if is_mendable_error(error) => Meaning::Held,
                _ => Meaning::Repeat,
            },
            _ => Meaning::Repeat,
        },
        Retry::Never => match error {
            Error::Rpc(rpc) => match rpc.code {
                // What is asked makes no sense, and will not tomorrow.
                Code::InvalidArgument | Code::OutOfRange => Meaning::Refused,
                Code::Aborted | Code::Unavailable if !is_mendable_error(error) => Meaning::Refused,
                _ => Meaning::Held,
            },
            Error::Ordering { .. } if !is_mendable_error(error) => Meaning::Refused,
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
    use selvedge_sdk::{Call, ErrorDetail, RpcError};

    use super::*;

    fn rpc(call: Call, code: Code, message: &str) -> Error {
        with_details(call, code, message, &[])
    }

    fn with_details(call: Call, code: Code, message: &str, details: &[&str]) -> Error {
        let details = details.iter().map(|said| ErrorDetail {
            address: "n:1".into(),
            msp_id: "Org1MSP".into(),
            message: (*said).to_owned(),
        });
        Error::Rpc(Box::new(RpcError {
            call,
            code,
            message: message.to_owned(),
            transaction_id: None,
            details: details.collect(),
        }))
    }

    const NO_ENDORSEMENT: &str = "failed to endorse transaction, see attached details for more info";

    #[test]
    fn what_details_say_counts_each_by_itself() {
        use Meaning::{Held, Refused, Repeat};
        for (call, code, details, expected) in [
            (
                Call::Endorse,
                Code::Aborted,
                &["access denied: channel [trade] creator org [Org1MSP]"][..],
                Held,
            ),
            (
                Call::Endorse,
                Code::Aborted,
                &["make sure the chaincode shipment has been successfully defined on channel trade"],
                Held,
            ),
            (
                Call::Endorse,
                Code::Aborted,
                &["request unauthorized due to incorrect timestamp 2016-01-21"],
                Held,
            ),
            (
                Call::ProcessProposal,
                Code::Unknown,
                &["proposal client identity expired"],
                Held,
            ),
            (Call::Endorse, Code::Aborted, &["connection refused"], Repeat),
            // The contract's words are about this request, even where they sound like an administrator's.
            (
                Call::Endorse,
                Code::Aborted,
                &[
                    "chaincode response 409, the offer has expired",
                    "connection refused",
                ],
                Repeat,
            ),
            (Call::Submit, Code::Unavailable, &["connection refused"], Held),
            (
                Call::Submit,
                Code::Unavailable,
                &["status=BAD_REQUEST, info=message payload is 9 bytes and exceeds maximum allowed 8 bytes"],
                Refused,
            ),
            (
                Call::Submit,
                Code::Unavailable,
                &["status=BAD_REQUEST, info=identity expired"],
                Held,
            ),
        ] {
            let error = with_details(call, code, NO_ENDORSEMENT, details);
            assert_eq!(meaning(&error), expected, "{error}");
        }
    }

    #[test]
    fn another_peer_is_asked_when_it_may_know_better() {
        let at = |call, code, details: &[&str]| {
            let error = with_details(call, code, "said", details);
            another_peer_may_help(State::EndorsementError, &error)
        };
        assert!(at(Call::Endorse, Code::Unavailable, &[]));
        assert!(at(Call::Submit, Code::Unavailable, &["connection refused"]));
        assert!(at(Call::Endorse, Code::FailedPrecondition, &[]));
        assert!(at(Call::Endorse, Code::PermissionDenied, &[]));
        assert!(at(Call::Endorse, Code::Aborted, &["chaincode stream terminated"]));
        assert!(!at(
            Call::Endorse,
            Code::Aborted,
            &["chaincode response 404, unknown"]
        ));
        assert!(!at(
            Call::Endorse,
            Code::Aborted,
            &["chaincode response 404, unknown", "connection refused"]
        ));
        assert!(!at(Call::Endorse, Code::InvalidArgument, &[]));
    }

    #[test]
    fn a_refused_identity_is_told_from_the_rest() {
        let denied = "access denied: channel [trade] creator org [Org1MSP]";
        let refused = |code, details: &[&str]| {
            refuses_identity(&with_details(Call::Endorse, code, NO_ENDORSEMENT, details))
        };
        assert!(refused(Code::Aborted, &[denied]));
        assert!(refused(Code::PermissionDenied, &[]));
        assert!(!refused(
            Code::Aborted,
            &["make sure the chaincode shipment has been defined"]
        ));
        assert!(!refused(
            Code::Aborted,
            &["chaincode response 403, access denied"]
        ));
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
                Error::Ordering {
                    transaction_id: "t".into(),
                    tried: vec!["o:1: status=SERVICE_UNAVAILABLE, info=no leader".into()],
                    is_final: false,
                },
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
