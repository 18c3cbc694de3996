//! Listeners, logins, and what all connections share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::Mutex;
use selvedge_callbacks::{CallbackSettings, EventSource};
use selvedge_comm::{ClientAuth, Connection as Accepted, Connections, ServerTls, TlsIdentity, bind};
use selvedge_msp::Certificate;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::config::{EventFeedConfig, MqttConfig, PayloadKind};
use super::connection::{Connection, Over, read_packet};
use super::sessions::{Session, Sessions, session_key};
use super::topics::TopicRoute;
use super::wire::{self, Connect, MAX_PACKET, NotConnected, Outgoing, Version};
use crate::EdgeError;
use crate::api::transaction_requests;
use crate::guard::Guard;
use crate::intake::arrival::Arrival;
use crate::intake::reading::{self, SentReading};
use crate::intake::sources::Sender;
use crate::intake::{Intake, Refusal};

/// How often it is looked whether the machine's clock was set.
const CLOCK_TICK: Duration = Duration::from_secs(10);
/// A client has to say who it is within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Longest CONNECT packet, in bytes: strangers send it.
const MAX_CONNECT: usize = 64 * 1024;
/// Readings or transactions in one message at most.
const MAX_BATCH: usize = 1000;
/// An earlier connection of the same client has this long to end.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(30);

/// A connection that a later one of the same client may take over.
#[derive(Clone)]
struct Live {
    /// Tells it from a later one.
    number: u64,
    taken_over: CancellationToken,
    ended: CancellationToken,
}

/// What all connections share.
pub(crate) struct Broker {
    routes: Vec<TopicRoute>,
    pub(crate) feeds: Vec<EventFeedConfig>,
    pub(crate) sessions: Sessions,
    pub(crate) source: Arc<dyn EventSource>,
    pub(crate) callbacks: CallbackSettings,
    pub(crate) intake: Arc<Intake>,
    anonymous: bool,
    guard: Guard,
    live: Mutex<HashMap<String, Live>>,
}

/// The listeners.
pub(crate) struct MqttServer {
    broker: Arc<Broker>,
    listeners: Vec<Connections>,
    addresses: Vec<SocketAddr>,
    tls: Option<ServerTls>,
}

fn server_tls(config: &super::config::MqttTlsConfig) -> Result<ServerTls, EdgeError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| EdgeError::ReadFile {
            path: path.to_owned(),
            source,
        })
    };
    let client_roots = match &config.client_roots {
        Some(path) => vec![read(path)?],
        None => Vec::new(),
    };
    Ok(ServerTls {
        identity: TlsIdentity::new(&read(&config.certificate)?, &read(&config.key)?),
        client_auth: if client_roots.is_empty() {
            ClientAuth::Request
        } else {
            ClientAuth::Verify
        },
        client_roots: client_roots.into(),
    })
}

impl MqttServer {
    /// Opens the listeners; the plain one's address comes first.
    pub(crate) async fn open(
        config: MqttConfig,
        data_dir: &Path,
        intake: Arc<Intake>,
        source: Arc<dyn EventSource>,
        callbacks: CallbackSettings,
    ) -> Result<Self, EdgeError> {
        let bad = |why: String| EdgeError::Config {
            path: data_dir.to_owned(),
            why,
        };
        let routes = config
            .topics
            .iter()
            .map(TopicRoute::new)
            .collect::<Result<_, _>>()
            .map_err(bad)?;
        let (mut listeners, mut addresses, mut shown) = (Vec::new(), Vec::new(), None);
        let wanted = [
            config.listen.as_ref().map(|listen| (listen.clone(), None)),
            config.tls.as_ref().map(|tls| (tls.listen.clone(), Some(tls))),
        ];
        for (listen, tls) in wanted.into_iter().flatten() {
            let listener = bind(&listen).await?;
            if let Ok(address) = listener.local_addr() {
                addresses.push(address);
            }
            let tls = tls.map(server_tls).transpose()?;
            shown = shown.or_else(|| tls.clone());
            listeners.push(Connections::accept(listener, tls, &[])?);
        }
        Ok(Self {
            broker: Arc::new(Broker {
                routes,
                feeds: config.events,
                sessions: Sessions::open(&data_dir.join("mqtt.sessions"))?,
                source,
                callbacks,
                intake,
                anonymous: config.anonymous,
                guard: Guard::default(),
                live: Mutex::default(),
            }),
            listeners,
            addresses,
            tls: shown,
        })
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What its TLS listener shows and trusts.
    pub(crate) fn tls(&self) -> Option<ServerTls> {
        self.tls.clone()
    }

    /// Serves until `stop` is cancelled and all connections have ended.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let tasks = tokio_util::task::TaskTracker::new();
        for mut listener in self.listeners {
            let (broker, stop, inner) = (Arc::clone(&self.broker), stop.clone(), tasks.clone());
            tasks.spawn(async move {
                loop {
                    let accepted = tokio::select! {
                        () = stop.cancelled() => return,
                        accepted = listener.next() => accepted,
                    };
                    let Some(accepted) = accepted else { return };
                    inner.spawn(Arc::clone(&broker).serve(accepted, stop.clone()));
                }
            });
        }
        let (broker, stop) = (Arc::clone(&self.broker), stop.clone());
        tasks.spawn(async move {
            let mut tick = tokio::time::interval(CLOCK_TICK);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => {
                        broker.sessions.look_at_clock();
                    }
                }
            }
        });
        tasks.close();
        tasks.wait().await;
    }
}

impl Broker {
    async fn serve(self: Arc<Self>, mut stream: Accepted, stop: CancellationToken) {
        let remote = stream.remote();
        let address = remote.ip().to_canonical();
        if !self.intake.sources.admits(address) || !self.guard.admits(address, Instant::now()) {
            tracing::debug!(%remote, "not listened to");
            return;
        }
        let mut buffer = BytesMut::new();
        let first = tokio::select! {
            () = stop.cancelled() => return,
            first = tokio::time::timeout(CONNECT_WITHIN, read_packet(&mut stream, &mut buffer, MAX_CONNECT)) => first,
        };
        let Ok(Ok(packet)) = first else {
            tracing::debug!(%remote, "no CONNECT came");
            return;
        };
        let refuse = |version, why| (version, Outgoing::NotConnected(why));
        let refused = match wire::read_connect(&packet) {
            Err((why, error)) => {
                tracing::debug!(%remote, error = %error.0, "CONNECT refused");
                refuse(wire::version_of(&packet), why)
            }
            Ok(connect) => match self.log_in(&connect, &stream).await {
                Ok(sender) => {
                    self.guard.succeeded(address);
                    match self.connect(connect, sender, stream, buffer, stop).await {
                        Ok(()) => return,
                        Err((version, why, mut stream)) => {
                            self.say(&mut stream, refuse(version, why)).await;
                            return;
                        }
                    }
                }
                Err(why) => {
                    tracing::warn!(%remote, client = %connect.client_id, ?why, "login refused");
                    self.guard.failed(address, Instant::now());
                    refuse(connect.version, why)
                }
            },
        };
        self.say(&mut stream, refused).await;
    }

    async fn say(&self, stream: &mut Accepted, (version, packet): (Version, Outgoing)) {
        if let Ok(Some(bytes)) = wire::write(version, &packet) {
            // The client may be gone already.
            drop(tokio::time::timeout(CONNECT_WITHIN, stream.write_all(bytes.as_ref())).await);
            drop(stream.shutdown().await);
        }
    }

    async fn log_in(&self, connect: &Connect, stream: &Accepted) -> Result<Sender, NotConnected> {
        if let Some(leaf) = stream.peer_tls().leaf() {
            let known = Certificate::from_der(leaf).ok().and_then(|certificate| {
                Some(
                    self.intake
                        .sources
                        .by_certificate(certificate.common_name()?)?
                        .id
                        .clone(),
                )
            });
            if let Some(id) = known {
                if connect.user.as_ref().is_some_and(|user| *user != id) {
                    return Err(NotConnected::NotAuthorized);
                }
                return Ok(Sender::Source(id));
            }
        }
        match (&connect.user, &connect.password) {
            (Some(user), Some(password)) => {
                if self.intake.sources.log_in(user, password).await {
                    Ok(Sender::Source(user.clone()))
                } else {
                    Err(NotConnected::BadLogin)
                }
            }
            _ if self.anonymous => Ok(Sender::Anyone(stream.remote().ip().to_canonical().to_string())),
            _ => Err(NotConnected::NotAuthorized),
        }
    }

    async fn connect(
        self: &Arc<Self>,
        mut connect: Connect,
        sender: Sender,
        stream: Accepted,
        buffer: BytesMut,
        stop: CancellationToken,
    ) -> Result<(), (Version, NotConnected, Accepted)> {
        let version = connect.version;
        let mut assigned = None;
        if connect.client_id.is_empty() {
            if version == Version::V3 && !connect.clean {
                return Err((version, NotConnected::ClientId, stream));
            }
            connect.client_id = format!("selvedge-{:016x}", rand::random::<u64>());
            assigned = Some(connect.client_id.clone());
        }
        let key = session_key(sender.name(), &connect.client_id);
        let live = Live {
            number: rand::random(),
            taken_over: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        if !self.take_over(&key, &live).await {
            return Err((version, NotConnected::Busy, stream));
        }
        let ended = live.ended.clone().drop_guard();
        let expiry = Sessions::granted(connect.session_expiry);
        let earlier = self.sessions.resume(&key, connect.clean);
        if expiry > 0 && !self.sessions.has_room(&key) {
            return Err((version, NotConnected::Busy, stream));
        }
        let session_present = earlier.is_some();
        let mut session = earlier.unwrap_or_default();
        if expiry > 0
            && self
                .sessions
                .keep(&key, &mut session, expiry)
                .durable()
                .await
                .is_err()
        {
            self.sessions.recover().await;
            return Err((version, NotConnected::Busy, stream));
        }
        tracing::info!(client = %connect.client_id, user = %sender.name(), remote = %stream.remote(), "MQTT client connected");
        let connected = Outgoing::Connected {
            session_present,
            assigned,
            session_expiry: expiry,
        };
        let connection = Connection::new(
            Arc::clone(self),
            &connect,
            sender.clone(),
            key.clone(),
            session,
            expiry,
            stream,
            buffer,
        );
        let (over, session, expiry) = connection.run(connected, stop, live.taken_over.clone()).await;
        self.end(&connect, &sender, &key, &over, session, expiry).await;
        let mut all = self.live.lock();
        if all.get(&key).is_some_and(|l| l.number == live.number) {
            all.remove(&key);
        }
        drop(all);
        drop(ended);
        Ok(())
    }

    /// Ends an earlier connection of the same client and waits until it has.
    async fn take_over(&self, key: &str, live: &Live) -> bool {
        let earlier = self.live.lock().insert(key.to_owned(), live.clone());
        let Some(earlier) = earlier else { return true };
        earlier.taken_over.cancel();
        tokio::time::timeout(TAKE_OVER_WITHIN, earlier.ended.cancelled())
            .await
            .is_ok()
    }

    async fn end(
        &self,
        connect: &Connect,
        sender: &Sender,
        key: &str,
        over: &Over,
        mut session: Session,
        expiry: u32,
    ) {
        let (why, with_will) = match over {
            Over::GoodBye { with_will } => ("good-bye".to_owned(), *with_will),
            Over::Lost => ("the connection broke".to_owned(), true),
            Over::Ended(_, why) => (why.clone(), true),
        };
        tracing::info!(client = %connect.client_id, %why, "MQTT client gone");
        if expiry > 0 {
            drop(self.sessions.keep(key, &mut session, expiry));
        } else {
            self.sessions.forget(key);
        }
        if let (Some(will), true) = (&connect.will, with_will) {
            let published = self
                .publish(sender, &will.topic, &will.payload, self.intake.arrival())
                .await;
            if let Err(refusal) = published {
                tracing::warn!(client = %connect.client_id, %refusal, "the client's will is not taken");
            }
        }
    }

    /// Takes a message; durable when this says so.
    pub(crate) async fn publish(
        &self,
        sender: &Sender,
        topic: &str,
        payload: &[u8],
        arrived: Arrival,
    ) -> Result<(), Refusal> {
        let found = self
            .routes
            .iter()
            .find_map(|route| Some((route.kind, route.read(topic)?)));
        let Some((kind, told)) = found else {
            return Err(Refusal::UnknownTopic(format!(
                "nothing is taken on topic {topic}; see 'mqtt.topics' of the configuration"
            )));
        };
        let differs =
            |own: &Option<String>, told: &Option<String>| own.is_some() && told.is_some() && own != told;
        let readings = match kind {
            PayloadKind::Transactions => {
                let (requests, _) = transaction_requests(payload).map_err(Refusal::Invalid)?;
                let taken = self.intake.transactions(sender, requests).await?;
                return first_refusal(taken.into_iter().map(|r| r.map(drop)));
            }
            PayloadKind::Readings => {
                let (mut readings, _) = reading::parse(payload, MAX_BATCH).map_err(Refusal::Invalid)?;
                for reading in &mut readings {
                    if differs(&reading.source, &told.source) || differs(&reading.stream, &told.stream) {
                        return Err(Refusal::Invalid(
                            "the reading names another source or stream than its topic".to_owned(),
                        ));
                    }
                    reading.source = reading.source.take().or_else(|| told.source.clone());
                    reading.stream = reading.stream.take().or_else(|| told.stream.clone());
                }
                readings
            }
            PayloadKind::Value => {
                let text = std::str::from_utf8(payload)
                    .map_err(|_| Refusal::Invalid("the value is not text".to_owned()))?
                    .trim();
                let value = serde_json::from_str::<Value>(text)
                    .ok()
                    .filter(|value| value.is_number() || value.is_string() || value.is_boolean())
                    .unwrap_or_else(|| Value::from(text));
                vec![SentReading {
                    source: told.source,
                    stream: told.stream,
                    values: told.value.into_iter().map(|name| (name, value.clone())).collect(),
                    ..SentReading::default()
                }]
            }
        };
        let taken = self.intake.readings(sender.clone(), readings, arrived).await?;
        first_refusal(taken.into_iter().map(|r| r.map(drop)))
    }
}

/// A message is taken when all of it is; one that may be taken later decides, since sending it again is safe.
fn first_refusal(results: impl Iterator<Item = Result<(), Refusal>>) -> Result<(), Refusal> {
    let refused: Vec<Refusal> = results.filter_map(Result::err).collect();
    let later = refused.iter().find(|r| r.retry_after().is_some());
    match later.or(refused.first()) {
        Some(refusal) => Err(refusal.clone()),
        None => Ok(()),
    }
}

const _: () = assert!(MAX_CONNECT <= MAX_PACKET);
