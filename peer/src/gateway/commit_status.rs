//! CommitStatus: what became of a transaction, now or when it commits (spec 04 §2.6).

use prost::Message;
use selvedge_channel::authenticate;
use selvedge_msp::SignedData;
use selvedge_proto::gateway::{CommitStatusRequest, CommitStatusResponse, SignedCommitStatusRequest};
use tokio::time::Instant;
use tonic::Status;

use super::commit_hub::Verdict;
use super::{Inner, deadline};
use crate::access;
use crate::stranger::{self, Stranger};

const RESOURCE: &str = "gateway/CommitStatus";

impl Inner {
    pub(super) async fn commit_status(
        &self,
        signed: SignedCommitStatusRequest,
        deadline: Option<Instant>,
    ) -> Result<CommitStatusResponse, Status> {
        let request = open(&signed)?;
        let denied = |why: String| Status::permission_denied(format!("permission denied: {why}"));
        let caller = SignedData {
            data: vec![signed.request.clone()],
            identity: request.identity.clone(),
            signature: signed.signature.clone(),
        };
        // One bundle for both questions, so that the signature need not be verified for each of them.
        let member = self.context.channel(&request.channel_id).and_then(|channel| {
            let bundle = channel.bundle();
            let identity = authenticate(bundle.msps(), &caller).ok()?;
            Some((channel, bundle, identity))
        });
        let (channel, bundle, identity) = member.ok_or_else(|| {
            denied(
                match stranger::judge(&*self.context, &request.channel_id, &caller) {
                    Stranger::Known => format!("channel does not exist: {}", request.channel_id),
                    Stranger::Nobody(why) => why,
                },
            )
        })?;
        access::check_authenticated(&bundle, RESOURCE, identity).map_err(denied)?;

        let hub = self.hub(&channel);
        let mut waiter = hub.register(&request.transaction_id);
        let found = hub.look_up(&request.transaction_id);
        if let Some(verdict) = found.map_err(|e| Status::aborted(e.to_string()))? {
            return Ok(response(verdict));
        }
        match deadline::within(deadline, waiter.verdict()).await {
            Some(Some(verdict)) => Ok(response(verdict)),
            Some(None) => Err(Status::unavailable("the peer is shutting down")),
            None => Err(Status::deadline_exceeded("context deadline exceeded")),
        }
    }
}

fn response(verdict: Verdict) -> CommitStatusResponse {
    CommitStatusResponse {
        result: verdict.code as i32,
        block_number: verdict.block,
    }
}

fn open(signed: &SignedCommitStatusRequest) -> Result<CommitStatusRequest, Status> {
    if signed.request.is_empty() {
        return Err(Status::invalid_argument("a commit status request is required"));
    }
    let request = CommitStatusRequest::decode(signed.request.clone())
        .map_err(|e| Status::invalid_argument(format!("invalid status request: {e}")))?;
    for (absent, message) in [
        (request.identity.is_empty(), "no identity provided"),
        (request.channel_id.is_empty(), "no channel ID provided"),
        (
            request.transaction_id.is_empty(),
            "transaction ID should not be empty",
        ),
    ] {
        if absent {
            return Err(Status::invalid_argument(message));
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn incomplete_requests_are_refused_by_their_first_gap() {
        let refused = |identity: &'static [u8], channel_id: &str, transaction_id: &str| {
            let request = CommitStatusRequest {
                transaction_id: transaction_id.into(),
                channel_id: channel_id.into(),
                identity: Bytes::from_static(identity),
            };
            let signed = SignedCommitStatusRequest {
                request: request.encode_to_vec().into(),
                signature: Bytes::new(),
            };
            open(&signed).map(drop).map_err(|s| s.message().to_owned())
        };
        let error = |text: &str| Err(text.to_owned());
        assert_eq!(refused(b"", "", ""), error("a commit status request is required"));
        assert_eq!(refused(b"", "c", "t"), error("no identity provided"));
        assert_eq!(refused(b"i", "", "t"), error("no channel ID provided"));
        assert_eq!(
            refused(b"i", "c", ""),
            error("transaction ID should not be empty")
        );
        assert_eq!(refused(b"i", "c", "t"), Ok(()));
        let junk = SignedCommitStatusRequest {
            request: Bytes::from_static(&[0xff]),
            signature: Bytes::new(),
        };
        assert!(
            open(&junk)
                .unwrap_err()
                .message()
                .starts_with("invalid status request: ")
        );
    }
}
