//! ChaincodeEvents: the events of one chaincode, from any place in the chain on (spec 04 §2.7).

use std::sync::Arc;

use futures::Stream;
use prost::Message;
use selvedge_msp::SignedData;
use selvedge_proto::common;
use selvedge_proto::gateway::{
    ChaincodeEventsRequest, ChaincodeEventsResponse, SignedChaincodeEventsRequest,
};
use selvedge_proto::orderer::seek_position::Type as Position;
use selvedge_proto::protos::TxValidationCode;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Inner;
use crate::access;
use crate::channel::PeerChannel;
use crate::committed::CommittedBlock;
use crate::follower::BlockFollower;
use crate::stranger::{self, Stranger};

const RESOURCE: &str = "gateway/ChaincodeEvents";
/// Responses that may wait for a slow client; beyond them its stream waits, not the peer.
const BACKLOG: usize = 16;

/// Where a stream begins.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Start {
    block: u64,
    /// The transaction in that block up to which the client has seen everything.
    after: Option<String>,
}

impl Inner {
    pub(super) async fn chaincode_events(
        &self,
        signed: SignedChaincodeEventsRequest,
        place: OwnedSemaphorePermit,
    ) -> Result<impl Stream<Item = Result<ChaincodeEventsResponse, Status>> + Send + use<>, Status> {
        if signed.request.is_empty() {
            return Err(Status::invalid_argument("a chaincode events request is required"));
        }
        let request = ChaincodeEventsRequest::decode(signed.request.clone())
            .map_err(|e| Status::invalid_argument(format!("invalid chaincode events request: {e}")))?;
        let caller = SignedData {
            data: vec![signed.request.clone()],
            identity: request.identity.clone(),
            signature: signed.signature.clone(),
        };
        let channel = self
            .context
            .channel(&request.channel_id)
            .filter(|channel| stranger::is_member(&channel.bundle(), &caller))
            .ok_or_else(
                || match stranger::judge(&*self.context, &request.channel_id, &caller) {
                    Stranger::Known => {
                        Status::not_found(format!("channel does not exist: {}", request.channel_id))
                    }
                    Stranger::Nobody(why) => Status::permission_denied(format!("permission denied: {why}")),
                },
            )?;
        access::check(
            &channel.bundle(),
            RESOURCE,
            signed.request,
            request.identity.clone(),
            signed.signature,
        )
        .map_err(|why| Status::permission_denied(format!("permission denied: {why}")))?;
        let start = start(&channel, &request)?;

        let (responses, stream) = mpsc::channel(BACKLOG);
        let shutdown = self.shutdown.clone();
        let chaincode = request.chaincode_id;
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = follow(channel, start, &chaincode, &responses) => {}
                // The client has cancelled.
                () = responses.closed() => {}
                () = shutdown.cancelled() => {
                    let _ = responses.try_send(Err(Status::unavailable("the peer is shutting down")));
                }
            }
        });
        Ok(ReceiverStream::new(stream))
    }
}

async fn follow(
    channel: Arc<PeerChannel>,
    start: Start,
    chaincode: &str,
    responses: &mpsc::Sender<Result<ChaincodeEventsResponse, Status>>,
) {
    let mut follower = BlockFollower::new(channel, start.block);
    let mut after = start.after;
    loop {
        let block = match follower.next().await {
            Ok(block) => block,
            Err(error) => {
                // A client that has gone does not need to hear it.
                let _ = responses.send(Err(Status::aborted(error.to_string()))).await;
                return;
            }
        };
        if let Some(response) = events_of(&block, chaincode, after.take().as_deref())
            && responses.send(Ok(response)).await.is_err()
        {
            return;
        }
    }
}

fn start(channel: &PeerChannel, request: &ChaincodeEventsRequest) -> Result<Start, Status> {
    if !request.after_transaction_id.is_empty() {
        let found = channel.ledger().transaction(&request.after_transaction_id);
        if let Some(location) = found.map_err(|e| Status::aborted(e.to_string()))? {
            return Ok(Start {
                block: location.block,
                after: Some(request.after_transaction_id.clone()),
            });
        }
    }
    // Only where the transaction does not say where to begin.
    let position = request.start_position.as_ref().and_then(|p| p.r#type.as_ref());
    let block = match position {
        None | Some(Position::NextCommit(_)) => channel.height(),
        Some(Position::Specified(specified)) => specified.number,
        Some(Position::Oldest(_)) => return Err(wrong_position("oldest")),
        Some(Position::Newest(_)) => return Err(wrong_position("newest")),
    };
    Ok(Start { block, after: None })
}

fn wrong_position(name: &str) -> Status {
    Status::invalid_argument(format!("invalid start position type: {name}"))
}

/// The events of a block, none when there are none. Transactions up to and including `after` are left out.
fn events_of(
    block: &CommittedBlock,
    chaincode: &str,
    after: Option<&str>,
) -> Option<ChaincodeEventsResponse> {
    let skip = after
        .and_then(|after| block.txs.iter().position(|tx| tx.tx_id == after))
        .map_or(0, |index| index + 1);
    let events: Vec<_> = block
        .txs
        .iter()
        .skip(skip)
        .filter(|tx| {
            tx.code == TxValidationCode::Valid
                && tx.header_type == common::HeaderType::EndorserTransaction as i32
        })
        .filter_map(|tx| tx.event.as_ref())
        .filter(|event| {
            event.chaincode_id == chaincode && !event.event_name.is_empty() && !event.tx_id.is_empty()
        })
        .cloned()
        .collect();
    (!events.is_empty()).then_some(ChaincodeEventsResponse {
        events,
        block_number: block.number,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use selvedge_proto::protos::ChaincodeEvent;

    use super::*;
    use crate::committed::CommittedTx;

    fn tx(index: usize, id: &str, code: TxValidationCode, event: Option<(&str, &str)>) -> CommittedTx {
        CommittedTx {
            index,
            tx_id: id.into(),
            opened: true,
            header_type: 3,
            code,
            event: event.map(|(chaincode, name)| ChaincodeEvent {
                chaincode_id: chaincode.into(),
                tx_id: id.into(),
                event_name: name.into(),
                payload: Bytes::from_static(b"p"),
            }),
        }
    }

    fn block() -> CommittedBlock {
        use TxValidationCode::{MvccReadConflict, Valid};
        CommittedBlock {
            number: 9,
            block: common::Block::default(),
            txs: vec![
                tx(0, "a", Valid, Some(("cc", "first"))),
                tx(1, "b", MvccReadConflict, Some(("cc", "refused"))),
                tx(2, "c", Valid, Some(("other", "foreign"))),
                tx(3, "d", Valid, None),
                tx(4, "e", Valid, Some(("cc", ""))),
                tx(5, "f", Valid, Some(("cc", "last"))),
            ],
        }
    }

    fn names(after: Option<&str>) -> Vec<String> {
        let response = events_of(&block(), "cc", after);
        response.map_or_else(Vec::new, |r| r.events.into_iter().map(|e| e.event_name).collect())
    }

    #[test]
    fn only_named_events_of_valid_transactions_of_the_chaincode() {
        assert_eq!(names(None), ["first", "last"]);
        assert!(events_of(&block(), "nobody", None).is_none());
        assert_eq!(events_of(&block(), "cc", None).unwrap().block_number, 9);
    }

    #[test]
    fn resuming_leaves_out_what_was_seen() {
        assert_eq!(names(Some("a")), ["last"]);
        assert_eq!(names(Some("d")), ["last"]);
        assert!(names(Some("f")).is_empty());
        // Not in this block: nothing is left out.
        assert_eq!(names(Some("x")), ["first", "last"]);
    }
}
