//! What an endorser's answer means (spec 04 §2.1).

use selvedge_proto::protos;
use tonic::Code;

use crate::endorser::EndorseOutcome;

/// An answer that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// Another peer may do better.
    pub(crate) retry: bool,
    /// The peer could not be reached: ask it last for a while.
    pub(crate) unreachable: bool,
    pub(crate) message: String,
}

impl Failure {
    /// No answer at all.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self {
            code: Code::Unavailable,
            retry: true,
            unreachable: true,
            message: message.into(),
        }
    }

    /// An answer that cannot be used, of a peer that is there.
    pub(crate) fn of_answer(message: impl Into<String>) -> Self {
        Self {
            unreachable: false,
            ..Self::unreachable(message)
        }
    }

    /// The proposal was executed, and refused by what stands in the peer's state.
    pub(crate) fn is_verdict(&self) -> bool {
        matches!(self.code, Code::Unknown | Code::Aborted)
    }
}

/// An answer with a usable response.
pub(crate) type Outcome = Result<protos::ProposalResponse, Failure>;

/// Judges the answer of the endorser in this process.
pub(crate) fn of_local(outcome: EndorseOutcome) -> Outcome {
    match outcome {
        EndorseOutcome::Answered(response) => of_response(*response),
        EndorseOutcome::Refused(why) => Err(Failure {
            code: Code::FailedPrecondition,
            retry: false,
            unreachable: false,
            message: why,
        }),
        EndorseOutcome::Filtered(why) => Err(Failure::of_answer(why)),
    }
}

/// Judges the answer of another peer.
pub(crate) fn of_remote(answer: Result<protos::ProposalResponse, tonic::Status>) -> Outcome {
    match answer {
        Ok(response) => of_response(response),
        Err(status) => Err(Failure {
            // A peer that answers with an error of its own is there.
            unreachable: matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded),
            ..Failure::unreachable(format!("{:?}: {}", status.code(), text_of(&status)))
        }),
    }
}

/// The text of a status with its causes: a failed connection says little in its first line.
fn text_of(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(next) = cause {
        let more = next.to_string();
        if !more.is_empty() && !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}

fn of_response(answer: protos::ProposalResponse) -> Outcome {
    let Some(response) = &answer.response else {
        return Err(Failure::unreachable("the answer holds no response"));
    };
    if (200..400).contains(&response.status) {
        return Ok(answer);
    }
    if answer.payload.is_empty() && response.status == 500 {
        return Err(Failure {
            code: Code::Aborted,
            retry: true,
            unreachable: false,
            message: response.message.clone(),
        });
    }
    Err(Failure {
        code: Code::Unknown,
        retry: false,
        unreachable: false,
        message: format!("chaincode response {}, {}", response.status, response.message),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answer(status: i32, payload: &'static [u8]) -> protos::ProposalResponse {
        protos::ProposalResponse {
            response: Some(protos::Response {
                status,
                message: "words".into(),
                payload: Bytes::new(),
            }),
            payload: Bytes::from_static(payload),
            ..Default::default()
        }
    }

    #[test]
    fn every_row_of_the_table() {
        let judged = |status, payload| of_response(answer(status, payload)).map(drop);
        let failure = |code, retry, message: &str| {
            Err(Failure {
                code,
                retry,
                unreachable: false,
                message: message.to_owned(),
            })
        };
        let rows = [
            (200, &b"p"[..], Ok(())),
            (399, b"p", Ok(())),
            (
                199,
                b"p",
                failure(Code::Unknown, false, "chaincode response 199, words"),
            ),
            (
                400,
                b"",
                failure(Code::Unknown, false, "chaincode response 400, words"),
            ),
            (
                404,
                b"",
                failure(Code::Unknown, false, "chaincode response 404, words"),
            ),
            (
                500,
                b"p",
                failure(Code::Unknown, false, "chaincode response 500, words"),
            ),
            (
                501,
                b"",
                failure(Code::Unknown, false, "chaincode response 501, words"),
            ),
            (500, b"", failure(Code::Aborted, true, "words")),
        ];
        for (status, payload, expected) in rows {
            assert_eq!(judged(status, payload), expected, "status {status}");
        }
    }

    #[test]
    fn only_the_own_endorser_can_refuse_for_good() {
        let refused = of_local(EndorseOutcome::Refused("access denied".into())).unwrap_err();
        assert_eq!((refused.code, refused.retry), (Code::FailedPrecondition, false));
        let filtered = of_local(EndorseOutcome::Filtered("client identity expired".into())).unwrap_err();
        assert_eq!((filtered.code, filtered.retry), (Code::Unavailable, true));
        let remote = of_remote(Err(tonic::Status::unknown("access denied"))).unwrap_err();
        assert_eq!(
            (remote.code, remote.retry, remote.unreachable),
            (Code::Unavailable, true, false)
        );
        let away = of_remote(Err(tonic::Status::unavailable("connection refused"))).unwrap_err();
        assert!(away.unreachable);
    }
}
