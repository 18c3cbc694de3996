//! Deliver: blocks to whoever may read the channel (spec 05 §4).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use selvedge_channel::authenticate;
use selvedge_msp::policy::SignedData;
use selvedge_proto::{common, open_envelope, orderer};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::chain::Chain;
use crate::channel::{OrdererChannel, Role};
use crate::filter;
use crate::registrar::Registrar;

/// Largest difference between the request's timestamp and this node's clock, in seconds.
const TIME_WINDOW: i64 = 15 * 60;
/// How often a waiting stream looks whether there is still a leader and the certificate still valid.
const LOOK: Duration = Duration::from_secs(1);

/// `filtered` and `data_type` of Fabric's metrics.
const KIND: [&str; 2] = ["false", "block"];

type Answers = mpsc::Sender<Result<orderer::DeliverResponse, Status>>;

/// What the caller of a Deliver stream is known by.
pub(crate) struct Caller {
    /// SHA-256 of its TLS certificate, if it showed one.
    pub(crate) certificate_hash: Option<[u8; 32]>,
    /// The listener demands client certificates, so requests must name theirs (spec 02 §12).
    pub(crate) bound: bool,
}

/// A request that has passed the checks at its start.
struct Session {
    channel: Arc<OrdererChannel>,
    chain: Arc<Chain>,
    signed: SignedData,
    expires: Option<i64>,
    strict: bool,
    fail_if_not_ready: bool,
    headers_only: bool,
    next: u64,
    stop: u64,
    /// Configuration sequence under which the caller was last found to be a reader.
    allowed_under: Option<u64>,
}

/// The stream is over: the client went away, or the node stops.
struct Gone;

enum End {
    Status(common::Status),
    Gone,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Serves the requests of one stream until the client ends it or an answer other than SUCCESS.
pub(crate) async fn serve(
    registrar: Arc<Registrar>,
    caller: Caller,
    mut requests: Streaming<common::Envelope>,
    answers: Answers,
) {
    loop {
        let envelope = tokio::select! {
            () = answers.closed() => return,
            next = requests.message() => match next {
                Ok(Some(envelope)) => envelope,
                Ok(None) => return,
                // What does not decode is told; a client that has gone does not hear it.
                Err(status) => {
                    drop(answers.send(Err(status)).await);
                    return;
                }
            },
        };
        let end = match open(&registrar, &caller, &envelope) {
            Ok(mut session) => session.run_measured(&answers).await,
            Err(status) => End::Status(status),
        };
        let End::Status(status) = end else { return };
        let answer = orderer::DeliverResponse {
            r#type: Some(orderer::deliver_response::Type::Status(status as i32)),
        };
        if answers.send(Ok(answer)).await.is_err() || status != common::Status::Success {
            return;
        }
    }
}

fn open(
    registrar: &Registrar,
    caller: &Caller,
    envelope: &common::Envelope,
) -> Result<Session, common::Status> {
    use common::Status::{BadRequest, Forbidden, NotFound, ServiceUnavailable};
    let refused = |status: common::Status, why: &str| {
        tracing::debug!(?status, why, "Deliver request refused");
        status
    };
    let open = open_envelope(envelope).map_err(|e| refused(BadRequest, &e.to_string()))?;
    let header = &open.channel_header;
    let stamp = header
        .timestamp
        .as_ref()
        .ok_or_else(|| refused(BadRequest, "the request has no timestamp"))?;
    if stamp.seconds.saturating_sub(filter::now()).saturating_abs() > TIME_WINDOW {
        return Err(refused(
            BadRequest,
            "the request's timestamp is more than 15 minutes off",
        ));
    }
    if caller.bound
        && caller.certificate_hash.as_ref().map(<[u8; 32]>::as_slice) != Some(&header.tls_cert_hash)
    {
        return Err(refused(
            BadRequest,
            "the request is not bound to the caller's TLS certificate",
        ));
    }
    let signed = filter::signed_data(&open);
    let no_channel = |why: &str| match registrar.knows(&signed) {
        Ok(()) => refused(NotFound, why),
        Err(unknown) => refused(Forbidden, &unknown.to_string()),
    };
    let channel = registrar
        .get(&header.channel_id)
        .ok_or_else(|| no_channel("the channel is not served here"))?;
    let Some(chain) = channel.chain() else {
        return Err(if channel.awaits(&signed) {
            refused(ServiceUnavailable, "the channel is being onboarded")
        } else {
            no_channel("the caller is no member, and the channel is being onboarded")
        });
    };
    // Who is no member must not learn that there is such a channel: the answer is that of a channel that is not served.
    if let Err(why) = authenticate(chain.bundle().msps(), &signed) {
        return Err(no_channel(&format!("the caller is no member: {why}")));
    }
    let seek = orderer::SeekInfo::decode(open.payload.data.clone())
        .map_err(|e| refused(BadRequest, &format!("SeekInfo does not decode: {e}")))?;
    let mut session = Session {
        signed,
        expires: filter::creator_expiry(&chain.bundle(), &open.signature_header.creator),
        strict: seek.error_response() == orderer::seek_info::SeekErrorResponse::Strict,
        fail_if_not_ready: seek.behavior() == orderer::seek_info::SeekBehavior::FailIfNotReady,
        headers_only: seek.content_type() == orderer::seek_info::SeekContentType::HeaderWithSig,
        next: 0,
        stop: 0,
        allowed_under: None,
        channel,
        chain,
    };
    session.check_leader()?;
    session.check_reader()?;
    session.range(&seek)?;
    Ok(session)
}

impl Session {
    fn check_leader(&self) -> Result<(), common::Status> {
        let errored = match self.channel.role() {
            Role::Consenter(consensus) => consensus.leader().is_none(),
            Role::Failed(_) => true,
            Role::Follower | Role::Onboarding | Role::Opening => false,
        };
        if errored && self.strict {
            return Err(common::Status::ServiceUnavailable);
        }
        Ok(())
    }

    /// The caller's certificate is valid, and the configuration in force lets it read.
    fn check_reader(&mut self) -> Result<(), common::Status> {
        if self.expires.is_some_and(|at| at < filter::now()) {
            return Err(common::Status::Forbidden);
        }
        let bundle = self.chain.bundle();
        if self.allowed_under != Some(bundle.sequence()) {
            let signed = std::slice::from_ref(&self.signed);
            if let Err(refusal) = bundle.evaluate_signed("/Channel/Readers", signed) {
                tracing::info!(channel = self.chain.channel(), %refusal, "a client may not read the channel");
                return Err(common::Status::Forbidden);
            }
            self.allowed_under = Some(bundle.sequence());
        }
        Ok(())
    }

    /// First and last block of the request (spec 05 §4 items 7 to 9).
    fn range(&mut self, seek: &orderer::SeekInfo) -> Result<(), common::Status> {
        use orderer::seek_position::Type;
        let height = self.chain.height();
        let newest = height.saturating_sub(1);
        let (Some(start), Some(stop)) = (&seek.start, &seek.stop) else {
            return Err(common::Status::BadRequest);
        };
        // What has no beginning is not found, wherever it should end.
        self.next = match &start.r#type {
            Some(Type::Oldest(_)) => 0,
            Some(Type::Newest(_)) => newest,
            Some(Type::NextCommit(_)) => height,
            Some(Type::Specified(at)) if at.number <= height => at.number,
            Some(Type::Specified(_)) | None => return Err(common::Status::NotFound),
        };
        self.stop = match &stop.r#type {
            Some(Type::Oldest(_)) => self.next,
            Some(Type::Newest(_)) if matches!(start.r#type, Some(Type::Newest(_))) => self.next,
            Some(Type::Newest(_)) => newest,
            Some(Type::Specified(at)) if at.number < self.next => return Err(common::Status::BadRequest),
            Some(Type::Specified(at)) => at.number,
            Some(Type::NextCommit(_)) | None => 0,
        };
        Ok(())
    }

    async fn run_measured(&mut self, answers: &Answers) -> End {
        let (channel, id) = (Arc::clone(&self.channel), self.chain.channel().to_owned());
        let metrics = channel.metrics();
        let [filtered, data_type] = KIND;
        metrics.requests_received.count(&[&id, filtered, data_type]);
        let end = self.run(answers).await;
        let success = matches!(end, End::Status(common::Status::Success));
        let success = if success { "true" } else { "false" };
        metrics
            .requests_completed
            .count(&[&id, filtered, data_type, success]);
        end
    }

    async fn run(&mut self, answers: &Answers) -> End {
        match self.deliver(answers).await {
            Ok(()) => End::Status(common::Status::Success),
            Err(end) => end,
        }
    }

    async fn deliver(&mut self, answers: &Answers) -> Result<(), End> {
        loop {
            if self.next >= self.chain.height() {
                if self.fail_if_not_ready {
                    return Err(End::Status(common::Status::NotFound));
                }
                self.wait(answers).await?;
            }
            self.check_reader().map_err(End::Status)?;
            let block = self.load().await.map_err(End::Status)?;
            let answer = orderer::DeliverResponse {
                r#type: Some(orderer::deliver_response::Type::Block(block)),
            };
            tokio::select! {
                // A client that does not read holds nothing but its own stream.
                () = self.channel.stopping().cancelled_owned() => return Err(End::Gone),
                sent = answers.send(Ok(answer)) => sent.map_err(|_| Gone)?,
            }
            let [filtered, data_type] = KIND;
            let place = [self.chain.channel(), filtered, data_type];
            self.channel.metrics().blocks_sent.count(&place);
            if self.next == self.stop {
                return Ok(());
            }
            self.next += 1;
        }
    }

    async fn wait(&mut self, answers: &Answers) -> Result<(), End> {
        let mut height = self.chain.store().watch();
        let mut roles = self.channel.roles();
        let next = self.next;
        loop {
            self.check_leader().map_err(End::Status)?;
            self.check_reader().map_err(End::Status)?;
            tokio::select! {
                reached = height.wait_for(|h| *h > next) => {
                    return reached.map(drop).map_err(|_| End::Gone);
                }
                () = answers.closed() => return Err(End::Gone),
                () = self.channel.stopping().cancelled_owned() => {
                    return Err(End::Status(common::Status::ServiceUnavailable));
                }
                _ = roles.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn load(&self) -> Result<common::Block, common::Status> {
        let (chain, number) = (Arc::clone(&self.chain), self.next);
        let read = tokio::task::spawn_blocking(move || chain.store().get(number)).await;
        let bytes: Bytes = match read {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Err(common::Status::NotFound),
            Ok(Err(why)) => {
                tracing::error!(channel = self.chain.channel(), number, %why, "a block cannot be read");
                return Err(common::Status::InternalServerError);
            }
            Err(_) => return Err(common::Status::InternalServerError),
        };
        // The block's parts point into `bytes`; nothing is copied until it is written to the connection.
        let mut block = common::Block::decode(bytes).map_err(|_| common::Status::InternalServerError)?;
        if self.headers_only && !selvedge_channel::verify::is_config_block(&block) {
            block.data = None;
        }
        Ok(block)
    }
}
