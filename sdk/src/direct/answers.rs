//! What endorsers answer, and what they have to agree on.

use bytes::Bytes;
use selvedge_proto::{payload_differences, protos};

use crate::error::{Error, PayloadMismatch, Retry, state_is_away};

/// An endorser's good answer.
pub(super) struct Answer {
    pub(super) from: String,
    pub(super) payload: Bytes,
    pub(super) endorsement: protos::Endorsement,
}

/// Every endorser must have endorsed.
pub(super) fn all_of(results: Vec<Result<Answer, Error>>) -> Result<Vec<Answer>, Error> {
    let mut answers = Vec::with_capacity(results.len());
    let mut refusal = None;
    let mut failure = None;
    for result in results {
        match result {
            // Its ledger has the transaction; others may only be behind.
            Err(known) if known.retry() == Retry::LookUp => return Err(known),
            Ok(answer) => answers.push(answer),
            Err(refused @ Error::Refused { .. }) => refusal = Some(refused),
            Err(away) => failure = Some(away),
        }
    }
    match (refusal, failure) {
        (Some(refused), _) => Err(refused_by_one(
            refused,
            answers.first().map(|answer| answer.from.as_str()),
        )),
        (None, Some(failure)) => Err(failure),
        (None, None) => Ok(answers),
    }
}

/// What the contract refuses, it refuses for good; unless another endorser ran it with success: then they do not see the
/// same state, as when one of them is behind.
pub(super) fn refused_by_one(refused: Error, accepted_by: Option<&str>) -> Error {
    match (refused, accepted_by) {
        (
            Error::Refused {
                endorser,
                status,
                message,
            },
            Some(other),
        ) => Error::Endorsement {
            endorser,
            why: format!(
                "the contract refuses there what it accepts at {other}: chaincode response {status}, {message}"
            ),
        },
        (refused, _) => refused,
    }
}

/// Takes an answer with status 200 to 399, a payload and an endorsement (spec 02 §5).
pub(super) fn accept(from: &str, answer: protos::ProposalResponse) -> Result<Answer, Error> {
    let response = answer
        .response
        .ok_or_else(|| Error::malformed(from, "the answer holds no response"))?;
    if !(200..400).contains(&response.status) {
        // 500 without payload: the contract was not run at all (spec 04 §2.1). Nor is it the contract that refuses where it
        // was given no state.
        if (response.status == 500 && answer.payload.is_empty()) || state_is_away(&response.message) {
            return Err(Error::Endorsement {
                endorser: from.to_owned(),
                why: response.message,
            });
        }
        return Err(Error::Refused {
            endorser: from.to_owned(),
            status: response.status,
            message: response.message,
        });
    }
    let endorsement = answer
        .endorsement
        .ok_or_else(|| Error::malformed(from, "the answer is not endorsed"))?;
    Ok(Answer {
        from: from.to_owned(),
        payload: answer.payload,
        endorsement,
    })
}

/// The payload that all answers share.
pub(super) fn agreed_payload(answers: &[Answer]) -> Result<Bytes, Error> {
    let Some((first, others)) = answers.split_first() else {
        return Err(Error::Request("no endorser answered".into()));
    };
    for other in others {
        if other.payload != first.payload {
            return Err(Error::Mismatch(Box::new(PayloadMismatch {
                first: first.from.clone(),
                second: other.from.clone(),
                differences: payload_differences(&first.payload, &other.payload),
            })));
        }
    }
    Ok(first.payload.clone())
}
