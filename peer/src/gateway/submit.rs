//! Submit: hand a signed transaction to the ordering service (spec 04 §2.4).

use std::time::Duration;

use futures::future::join_all;
use rand::seq::SliceRandom;
use selvedge_channel::{BFT, Bundle};
use selvedge_msp::SignedData;
use selvedge_proto::gateway::{SubmitRequest, SubmitResponse};
use selvedge_proto::{OpenEnvelope, common, open_envelope, orderer};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::orderers::Orderer;
use super::status::{Detail, status};
use super::{Inner, deadline};
use crate::stranger::{self, Stranger};

/// Pause after all orderers have said that they have no leader: an election takes longer than this.
const PAUSE: Duration = Duration::from_millis(100);

const REFUSED: &str = "received unsuccessful response from orderer";

/// What became of an envelope at one orderer.
enum Offer {
    Taken,
    /// It will be refused everywhere.
    Refused(String),
    /// This orderer cannot order now.
    NotNow(String),
    Failed(String),
}

impl Inner {
    pub(super) async fn submit(
        &self,
        request: SubmitRequest,
        deadline: Option<Instant>,
    ) -> Result<SubmitResponse, Status> {
        let Some(envelope) = request.prepared_transaction else {
            return Err(Status::invalid_argument("a prepared transaction is required"));
        };
        if envelope.signature.is_empty() {
            return Err(Status::invalid_argument("prepared transaction must be signed"));
        }
        let Some(channel) = self.context.channel(&request.channel_id) else {
            return Err(self.no_submitter(&request.channel_id, &envelope));
        };
        let bundle = channel.bundle();
        let opened = open_envelope(&envelope);
        let is_member = || {
            let signed = opened.as_ref().map(signed_data);
            signed.is_ok_and(|signed| stranger::is_member(&bundle, &signed))
        };
        // The orderers judge the signer by the channel that the envelope names.
        let is_named = opened
            .as_ref()
            .is_ok_and(|open| open.channel_header.channel_id == request.channel_id);
        if !is_named && !is_member() {
            return Err(self.no_submitter(&request.channel_id, &envelope));
        }
        match self.submit_on(&bundle, &envelope, deadline).await {
            // What failed may tell of the channel.
            Err(_) if !is_member() => Err(self.no_submitter(&request.channel_id, &envelope)),
            submitted => submitted,
        }
    }

    /// The answer to a caller who is no member of the channel, and to everybody when there is none.
    fn no_submitter(&self, channel: &str, envelope: &common::Envelope) -> Status {
        let info = match open_envelope(envelope) {
            Ok(open) => match stranger::judge(&*self.context, channel, &signed_data(&open)) {
                Stranger::Known => {
                    return Status::failed_precondition(format!("channel '{channel}' not found"));
                }
                Stranger::Nobody(why) => format!("status=FORBIDDEN, info={why}"),
            },
            Err(why) => format!("status=BAD_REQUEST, info={why}"),
        };
        status(Code::Aborted, format!("{REFUSED}: {info}"), &[])
    }

    async fn submit_on(
        &self,
        bundle: &Bundle,
        envelope: &common::Envelope,
        deadline: Option<Instant>,
    ) -> Result<SubmitResponse, Status> {
        let orderers = self.orderers.of_channel(bundle);
        if orderers.is_empty() {
            return Err(Status::unavailable("no orderer nodes available"));
        }
        let is_bft = bundle.orderer().is_some_and(|o| o.consensus_type == BFT);
        let work = async {
            if is_bft {
                self.to_quorum(&orderers, envelope).await
            } else {
                self.to_any(orderers, envelope).await
            }
        };
        deadline::within(deadline, work).await.unwrap_or_else(|| {
            Err(Status::deadline_exceeded(
                "submit timeout expired while broadcasting to ordering service",
            ))
        })
    }

    /// Any orderer that takes it. While some say that they have no leader, they are asked again.
    async fn to_any(
        &self,
        mut orderers: Vec<Orderer>,
        envelope: &common::Envelope,
    ) -> Result<SubmitResponse, Status> {
        orderers.shuffle(&mut rand::rng());
        let end = Instant::now() + self.orderers.timeout;
        loop {
            let mut details: Vec<Detail> = Vec::new();
            let mut electing = false;
            for orderer in &orderers {
                match offer(orderer, envelope, end).await {
                    Offer::Taken => return Ok(SubmitResponse {}),
                    Offer::Refused(why) => {
                        details.push(detail(orderer, &why));
                        let message = format!("{REFUSED}: {why}");
                        return Err(status(Code::Aborted, message, &details));
                    }
                    Offer::NotNow(why) => {
                        electing = true;
                        details.push(detail(orderer, &why));
                    }
                    Offer::Failed(why) => details.push(detail(orderer, &why)),
                }
            }
            let again = Instant::now() + PAUSE;
            if !electing || again >= end {
                let message = "no orderers could successfully process transaction";
                return Err(status(Code::Unavailable, message, &details));
            }
            tokio::time::sleep_until(again).await;
        }
    }

    /// A BFT ordering service: enough nodes must take it that the honest ones among them are a majority.
    async fn to_quorum(
        &self,
        orderers: &[Orderer],
        envelope: &common::Envelope,
    ) -> Result<SubmitResponse, Status> {
        let end = Instant::now() + self.orderers.timeout;
        let offers = join_all(orderers.iter().map(|orderer| offer(orderer, envelope, end))).await;
        let mut details = Vec::new();
        let mut taken = 0;
        for (orderer, offer) in orderers.iter().zip(offers) {
            match offer {
                Offer::Taken => taken += 1,
                Offer::Refused(why) | Offer::NotNow(why) | Offer::Failed(why) => {
                    details.push(detail(orderer, &why));
                }
            }
        }
        if taken >= bft_quorum(orderers.len()) {
            return Ok(SubmitResponse {});
        }
        let message = "insufficient number of orderers could successfully process transaction to satisfy quorum requirement";
        Err(status(Code::Unavailable, message, &details))
    }
}

/// An envelope as policies look at it.
fn signed_data(open: &OpenEnvelope) -> SignedData {
    SignedData {
        data: vec![open.payload_bytes.clone()],
        identity: open.signature_header.creator.clone(),
        signature: open.signature.clone(),
    }
}

/// ceil((n + f + 1) / 2) where f = (n - 1) / 3.
fn bft_quorum(nodes: usize) -> usize {
    let faulty = nodes.saturating_sub(1) / 3;
    (nodes + faulty + 1).div_ceil(2)
}

fn detail(orderer: &Orderer, why: &str) -> Detail {
    Detail {
        address: orderer.address.clone(),
        msp_id: orderer.msp_id.clone(),
        message: why.to_owned(),
    }
}

async fn offer(orderer: &Orderer, envelope: &common::Envelope, end: Instant) -> Offer {
    let stream = match &orderer.stream {
        Ok(stream) => stream,
        Err(error) => return Offer::Failed(error.to_string()),
    };
    match tokio::time::timeout_at(end, stream.submit(envelope.clone())).await {
        Err(_) => Offer::Failed("no answer within the broadcast timeout".to_owned()),
        Ok(Err(broken)) => Offer::Failed(broken.to_string()),
        Ok(Ok(answer)) => judge(&answer),
    }
}

fn judge(answer: &orderer::BroadcastResponse) -> Offer {
    if answer.status == common::Status::Success as i32 {
        return Offer::Taken;
    }
    let known = common::Status::try_from(answer.status);
    let name = known.map_or_else(|_| answer.status.to_string(), |s| s.as_str_name().to_owned());
    let why = format!("status={name}, info={}", answer.info);
    match answer.status {
        400..500 => Offer::Refused(why),
        status if status == common::Status::ServiceUnavailable as i32 => Offer::NotNow(why),
        _ => Offer::Failed(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_orderers() {
        let judged = |status, info: &str| {
            judge(&orderer::BroadcastResponse {
                status,
                info: info.to_owned(),
            })
        };
        assert!(matches!(judged(200, ""), Offer::Taken));
        let Offer::Refused(why) = judged(400, "bad") else {
            panic!("400 is final");
        };
        assert_eq!(why, "status=BAD_REQUEST, info=bad");
        assert!(matches!(judged(413, ""), Offer::Refused(_)));
        assert!(matches!(judged(503, "no leader"), Offer::NotNow(_)));
        assert!(matches!(judged(500, ""), Offer::Failed(_)));
        assert!(matches!(judged(0, ""), Offer::Failed(_)));
    }

    #[test]
    fn quorums() {
        let quorums: Vec<usize> = (1..=10).map(bft_quorum).collect();
        assert_eq!(quorums, [1, 2, 2, 3, 4, 4, 5, 6, 6, 7]);
    }
}
