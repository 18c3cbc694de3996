//! Asking every peer the same, and going by the majority: for those who do not want to take one peer's word.
//!
//! A single peer can be wrong about what is on the ledger (a disk fault, a forged database), or lag behind. A survey asks
//! all of them at the same time, compares the answers byte for byte, and names who differs and who is silent.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use selvedge_msp::SigningIdentity;

use crate::error::Error;
use crate::peer::PeerClient;
use crate::proposal::Invocation;

/// What a contract said on one peer: a refusal is an answer too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// Status of the contract's response.
    pub status: i32,
    /// Its message, mostly of refusals.
    pub message: String,
    /// Its result.
    pub payload: Bytes,
}

/// How one peer took part.
#[derive(Debug)]
pub struct Participant {
    /// The peer's organisation.
    pub msp_id: String,
    /// `host:port` of the peer.
    pub address: String,
    /// What the contract said there, or why there is no answer.
    pub answer: Result<Answer, Error>,
    /// Blocks that the peer has of the channel, as it said right after answering; none when it did not say.
    pub height: Option<u64>,
}

/// The answers of all peers that were asked, in the order of asking.
#[derive(Debug)]
pub struct Survey {
    /// Who took part, and how.
    pub participants: Vec<Participant>,
}

/// What more than half of those asked said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Majority {
    /// The answer.
    pub answer: Answer,
    /// Positions of those who gave it among the participants.
    pub agreeing: Vec<usize>,
}

impl Survey {
    /// Asks every peer at the same time, none for longer than `limit`.
    pub async fn ask(
        peers: &[PeerClient],
        identity: &SigningIdentity,
        invocation: &Invocation,
        limit: Duration,
    ) -> Self {
        let asked = peers
            .iter()
            .map(|peer| ask_one(peer, identity, invocation, limit));
        Self {
            participants: futures::future::join_all(asked).await,
        }
    }

    /// The answer that more than half of those asked gave; who is silent counts as one who does not agree.
    pub fn majority(&self) -> Option<Majority> {
        let mut votes: BTreeMap<&Answer, Vec<usize>> = BTreeMap::new();
        for (at, participant) in self.participants.iter().enumerate() {
            if let Ok(answer) = &participant.answer {
                votes.entry(answer).or_default().push(at);
            }
        }
        votes
            .into_iter()
            .find(|(_, agreeing)| agreeing.len() * 2 > self.participants.len())
            .map(|(answer, agreeing)| Majority {
                answer: answer.clone(),
                agreeing,
            })
    }
}

async fn ask_one(
    peer: &PeerClient,
    identity: &SigningIdentity,
    invocation: &Invocation,
    limit: Duration,
) -> Participant {
    let late = || Error::Request(format!("it does not answer within {} s", limit.as_secs_f32()));
    let called = tokio::time::timeout(limit, peer.call(identity, invocation)).await;
    let answer = match called.map_err(|_| late()).and_then(|result| result) {
        Ok(response) => Ok(Answer {
            status: response.status,
            message: response.message,
            payload: response.payload,
        }),
        Err(Error::Refused { status, message, .. }) => Ok(Answer {
            status,
            message,
            payload: Bytes::new(),
        }),
        Err(error) => Err(error),
    };
    // Only to tell who lags behind; a peer that did not answer once is not waited for a second time.
    let height = match &answer {
        Ok(_) => tokio::time::timeout(limit, peer.chain_info(identity, invocation.channel()))
            .await
            .ok()
            .and_then(Result::ok)
            .map(|info| info.height),
        Err(_) => None,
    };
    Participant {
        msp_id: peer.msp_id().to_owned(),
        address: peer.address().to_owned(),
        answer,
        height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(answers: &[Option<&'static str>]) -> Survey {
        let participant = |answer: &Option<&'static str>| Participant {
            msp_id: "Org1MSP".to_owned(),
            address: "peer".to_owned(),
            answer: answer.map_or_else(
                || Err(Error::Request("it is away".to_owned())),
                |text| {
                    Ok(Answer {
                        status: 200,
                        message: String::new(),
                        payload: Bytes::from_static(text.as_bytes()),
                    })
                },
            ),
            height: None,
        };
        Survey {
            participants: answers.iter().map(participant).collect(),
        }
    }

    #[test]
    fn a_majority_is_more_than_half_of_those_asked() {
        for (answers, expected) in [
            (vec![Some("a")], Some(("a", vec![0]))),
            (vec![Some("a"), Some("a")], Some(("a", vec![0, 1]))),
            (vec![Some("a"), Some("b")], None),
            (vec![Some("a"), None], None),
            (vec![Some("b"), Some("a"), Some("b")], Some(("b", vec![0, 2]))),
            (vec![Some("a"), None, Some("a")], Some(("a", vec![0, 2]))),
            (vec![Some("a"), None, None], None),
            (vec![None, None], None),
            (vec![], None),
        ] {
            let found = survey(&answers).majority();
            let found = found.as_ref().map(|m| {
                (
                    std::str::from_utf8(&m.answer.payload).unwrap(),
                    m.agreeing.clone(),
                )
            });
            assert_eq!(found, expected, "{answers:?}");
        }
    }
}
