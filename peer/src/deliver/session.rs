//! One client's stream of blocks.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use selvedge_channel::Bundle;
use selvedge_msp::SignedData;
use selvedge_proto::common::Status as Code;
use selvedge_proto::protos::DeliverResponse;
use selvedge_proto::protos::deliver_response::Type;
use selvedge_proto::{OpenEnvelope, common, open_envelope, orderer};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::filtered::filtered_block;
use super::private_data::with_private_data;
use super::seek::resolve;
use crate::access;
use crate::channel::PeerChannel;
use crate::committed::CommittedBlock;
use crate::context::PeerContext;
use crate::follower::BlockFollower;
use crate::metrics::DeliverMetrics;
use crate::stranger::{self, Stranger};

/// Largest difference between the client's clock and ours, in seconds (spec 02 §11).
const TIME_WINDOW_SECONDS: i64 = 15 * 60;

/// Which form of block is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Whole,
    Filtered,
    WithPrivateData,
}

impl Kind {
    fn resource(self) -> &'static str {
        match self {
            Self::Filtered => "event/FilteredBlock",
            Self::Whole | Self::WithPrivateData => "event/Block",
        }
    }

    /// `filtered` and `data_type` of Fabric's metrics.
    fn labels(self) -> [&'static str; 2] {
        match self {
            Self::Whole => ["false", "block"],
            Self::Filtered => ["true", "filtered_block"],
            Self::WithPrivateData => ["false", "block_and_pvtdata"],
        }
    }
}

/// Why a seek ends other than by its last block: the status for the client, and the reason for our log.
#[derive(Debug)]
struct End {
    code: Code,
    why: String,
}

fn end(code: Code, why: impl Into<String>) -> End {
    End {
        code,
        why: why.into(),
    }
}

pub(super) struct Session {
    pub(super) context: Arc<dyn PeerContext>,
    pub(super) kind: Kind,
    /// `Some` when requests must be bound to the certificate that the client showed, if it showed one.
    pub(super) tls_certificate: Option<Option<Arc<[u8]>>>,
    pub(super) responses: mpsc::Sender<Result<DeliverResponse, Status>>,
    pub(super) shutdown: CancellationToken,
    pub(super) metrics: DeliverMetrics,
}

/// A request that has passed all checks.
struct Access {
    channel: Arc<PeerChannel>,
    request: OpenEnvelope,
    /// When the caller's certificate expires, in Unix seconds.
    expires: Option<i64>,
    /// Sequence of the configuration under which the policy was checked last.
    checked: Option<u64>,
}

impl Session {
    /// Serves seeks until the client goes, one fails, or the peer stops. After a seek that ended well another may follow.
    pub(super) async fn run(self, mut requests: Streaming<common::Envelope>) {
        loop {
            let envelope = tokio::select! {
                message = requests.message() => match message {
                    Ok(Some(envelope)) => envelope,
                    Ok(None) => return,
                    // What does not decode is told; a client that has gone does not hear it.
                    Err(status) => {
                        drop(self.responses.send(Err(status)).await);
                        return;
                    }
                },
                () = self.responses.closed() => return,
                () = self.shutdown.cancelled() => return,
            };
            let code = tokio::select! {
                result = self.serve(&envelope) => match result {
                    Ok(()) => Code::Success,
                    Err(end) => {
                        tracing::info!(kind = ?self.kind, status = end.code.as_str_name(), why = %end.why, "deliver ends");
                        end.code
                    }
                },
                // The client has cancelled: nobody is there to be told.
                () = self.responses.closed() => return,
                () = self.shutdown.cancelled() => Code::ServiceUnavailable,
            };
            let response = DeliverResponse {
                r#type: Some(Type::Status(code as i32)),
            };
            if self.responses.send(Ok(response)).await.is_err() || code != Code::Success {
                return;
            }
        }
    }

    async fn serve(&self, envelope: &common::Envelope) -> Result<(), End> {
        let access = self.admit(envelope)?;
        let mut counted = self.metrics.begin(access.channel.id(), self.kind.labels());
        let served = self.send_blocks(access).await;
        counted.success = served.is_ok();
        served
    }

    async fn send_blocks(&self, mut access: Access) -> Result<(), End> {
        let [filtered, data_type] = self.kind.labels();
        let seek = orderer::SeekInfo::decode(access.request.payload.data.clone())
            .map_err(|e| end(Code::BadRequest, format!("SeekInfo: {e}")))?;
        self.check(&mut access)?;
        let height = access.channel.height();
        let range =
            resolve(&seek, height).map_err(|code| end(code, format!("seek {seek:?} at height {height}")))?;
        let mut follower = BlockFollower::new(Arc::clone(&access.channel), range.start);
        loop {
            if range.fail_if_not_ready && !follower.is_ready() {
                let number = follower.position();
                return Err(end(Code::NotFound, format!("block {number} is not there yet")));
            }
            let block = follower
                .next()
                .await
                .map_err(|e| end(Code::InternalServerError, e.to_string()))?;
            self.check(&mut access)?;
            let number = block.number;
            let message = self.message(&access, block).await?;
            if self.responses.send(Ok(message)).await.is_err() {
                return Ok(());
            }
            self.metrics
                .blocks
                .count(&[access.channel.id(), filtered, data_type]);
            if number == range.stop {
                return Ok(());
            }
        }
    }

    /// Everything about the request that does not change while it is served.
    fn admit(&self, envelope: &common::Envelope) -> Result<Access, End> {
        let request = open_envelope(envelope).map_err(|e| end(Code::BadRequest, e.to_string()))?;
        let sent = request.channel_header.timestamp.as_ref().map(|t| t.seconds);
        check_time(sent, now())?;
        if let Some(shown) = &self.tls_certificate {
            check_binding(&request.channel_header.tls_cert_hash, shown.as_deref())?;
        }
        let id = &request.channel_header.channel_id;
        let signed = SignedData {
            data: vec![request.payload_bytes.clone()],
            identity: request.signature_header.creator.clone(),
            signature: request.signature.clone(),
        };
        let channel = self
            .context
            .channel(id)
            .filter(|channel| stranger::is_member(&channel.bundle(), &signed))
            .ok_or_else(|| match stranger::judge(&*self.context, id, &signed) {
                Stranger::Known => end(
                    Code::NotFound,
                    format!("channel {id} is not joined, or the caller is no member of it"),
                ),
                Stranger::Nobody(why) => end(Code::Forbidden, why),
            })?;
        let creator = &request.signature_header.creator;
        let expires = channel
            .bundle()
            .msps()
            .deserialize(creator)
            .ok()
            .map(|identity| identity.certificate().not_after());
        Ok(Access {
            channel,
            request,
            expires,
            checked: None,
        })
    }

    /// May the caller (still) read? Its certificate may expire, and the configuration may change.
    fn check(&self, access: &mut Access) -> Result<(), End> {
        if access.expires.is_some_and(|expires| now() > expires) {
            return Err(end(Code::Forbidden, "the client's certificate has expired"));
        }
        let bundle: Arc<Bundle> = access.channel.bundle();
        if access.checked == Some(bundle.sequence()) {
            return Ok(());
        }
        let request = &access.request;
        access::check(
            &bundle,
            self.kind.resource(),
            request.payload_bytes.clone(),
            request.signature_header.creator.clone(),
            request.signature.clone(),
        )
        .map_err(|why| end(Code::Forbidden, why))?;
        access.checked = Some(bundle.sequence());
        Ok(())
    }

    async fn message(&self, access: &Access, block: Arc<CommittedBlock>) -> Result<DeliverResponse, End> {
        let r#type = match self.kind {
            Kind::Whole => Type::Block(block.block.clone()),
            Kind::Filtered => Type::FilteredBlock(filtered_block(access.channel.id(), &block)),
            Kind::WithPrivateData => {
                let channel = Arc::clone(&access.channel);
                let reader = access.request.signature_header.creator.clone();
                let read = tokio::task::spawn_blocking(move || with_private_data(&channel, &reader, &block));
                let read = read
                    .await
                    .map_err(|e| end(Code::InternalServerError, e.to_string()))?;
                Type::BlockAndPrivateData(read.map_err(|why| end(Code::InternalServerError, why))?)
            }
        };
        Ok(DeliverResponse { r#type: Some(r#type) })
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn check_time(sent: Option<i64>, now: i64) -> Result<(), End> {
    let Some(sent) = sent else {
        return Err(end(Code::BadRequest, "the request has no time stamp"));
    };
    let skew = now.saturating_sub(sent);
    if skew.unsigned_abs() > TIME_WINDOW_SECONDS.unsigned_abs() {
        return Err(end(
            Code::BadRequest,
            format!("the request's clock differs by {skew} s from ours, more than {TIME_WINDOW_SECONDS} s"),
        ));
    }
    Ok(())
}

fn check_binding(claimed: &[u8], shown: Option<&[u8]>) -> Result<(), End> {
    let Some(certificate) = shown else {
        return Err(end(Code::BadRequest, "client didn't send a TLS certificate"));
    };
    if claimed.is_empty() {
        return Err(end(Code::BadRequest, "client didn't include its TLS cert hash"));
    }
    if claimed != Sha256::digest(certificate).as_slice() {
        return Err(end(
            Code::BadRequest,
            "client claimed TLS hash doesn't match computed TLS hash from gRPC stream",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_a_quarter_of_an_hour() {
        assert!(check_time(None, 0).is_err());
        for (sent, fine) in [
            (1000, true),
            (1900, true),
            (1901, false),
            (100, true),
            (99, false),
        ] {
            assert_eq!(check_time(Some(sent), 1000).is_ok(), fine, "{sent}");
        }
        assert!(check_time(Some(i64::MIN), i64::MAX).is_err());
    }

    #[test]
    fn requests_are_bound_to_the_connection() {
        let certificate = b"certificate";
        let hash = Sha256::digest(certificate);
        assert!(check_binding(&hash, Some(certificate)).is_ok());
        assert!(check_binding(&hash, Some(b"another")).is_err());
        assert!(check_binding(&[], Some(certificate)).is_err());
        assert!(check_binding(&hash, None).is_err());
    }
}
