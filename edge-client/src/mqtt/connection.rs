//! One client's connection, from its CONNECT to its end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use selvedge_callbacks::{Event, EventId, Follower, StartAt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::line::{Line, Place};
use super::server::Broker;
use super::sessions::Session;
use super::topics::{level_of, matches, may_match_below};
use super::wire::{self, Connect, Ended, Incoming, MAX_PACKET, Outgoing, RECEIVE_MAXIMUM, Reason, Version};
use crate::intake::Refusal;
use crate::intake::arrival::Arrival;
use crate::intake::sources::Sender;

/// A client that does not take what is sent to it within this time is given up.
const WRITE_WITHIN: Duration = Duration::from_secs(20);
/// Filters of one session at most.
const MAX_FILTERS: usize = 64;
/// Events under way to one client at most.
const MAX_IN_FLIGHT: u16 = 32;
/// A client of version 3 cannot be told to wait: its message waits here, and after this time the connection ends, so that
/// it sends the message again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether the session is to be written again.
const REFRESH: Duration = Duration::from_secs(60);

/// Why a connection is over.
#[derive(Debug)]
pub(crate) enum Over {
    /// The client said good-bye; its will is void unless it says otherwise.
    GoodBye { with_will: bool },
    /// The network or the client broke it.
    Lost,
    /// It is ended from here.
    Ended(Ended, String),
}

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self::Lost
    }
}

/// Reads whole packets. Dropping the future loses nothing.
pub(crate) async fn read_packet<R: AsyncRead + Unpin>(
    reader: &mut R,
    buffer: &mut BytesMut,
    longest: usize,
) -> Result<Bytes, Over> {
    loop {
        let length = wire::packet_length(buffer).map_err(|e| Over::Ended(Ended::Malformed, e.0))?;
        if let Some(length) = length {
            if length > longest {
                let why = format!("a packet of {length} bytes; at most {longest} are taken");
                return Err(Over::Ended(Ended::PacketTooLarge, why));
            }
            if buffer.len() >= length {
                return Ok(buffer.split_to(length).freeze());
            }
        }
        if reader.read_buf(buffer).await? == 0 {
            return Err(Over::Lost);
        }
    }
}

/// A message that was handed to the intake.
struct Taken {
    qos: u8,
    id: u16,
    result: Result<(), Refusal>,
}

/// A feed of events that this client follows.
struct Feed {
    /// Place of the feed in the configuration.
    index: usize,
    task: JoinHandle<()>,
    /// Events sent, with the packet id that an acknowledgement is awaited for.
    sent: VecDeque<(Option<u16>, EventId)>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) struct Connection<S> {
    broker: Arc<Broker>,
    version: Version,
    sender: Sender,
    key: String,
    session: Session,
    /// Seconds that the session lasts after the connection; 0 for no longer.
    expiry: u32,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    buffer: BytesMut,
    keep_alive: Option<Duration>,
    deadline: Instant,
    taking: FuturesOrdered<BoxFuture<'static, Taken>>,
    line: Arc<Line>,
    /// Messages that came.
    came: u64,
    feeds: Vec<Feed>,
    events: mpsc::Receiver<(usize, Event)>,
    events_in: mpsc::Sender<(usize, Event)>,
    in_flight: HashMap<u16, usize>,
    window: u16,
    next_id: u16,
    max_packet: Option<u32>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a connection that is set up"
    )]
    pub(crate) fn new(
        broker: Arc<Broker>,
        connect: &Connect,
        sender: Sender,
        key: String,
        session: Session,
        expiry: u32,
        stream: S,
        buffer: BytesMut,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (events_in, events) = mpsc::channel(1);
        // Half as much again as the client promised (MQTT 5, section 3.1.2.10).
        let keep_alive =
            (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1500));
        Self {
            broker,
            version: connect.version,
            sender,
            key,
            session,
            expiry,
            reader,
            writer,
            buffer,
            keep_alive,
            deadline: Instant::now(),
            taking: FuturesOrdered::new(),
            line: Arc::default(),
            came: 0,
            feeds: Vec::new(),
            events,
            events_in,
            in_flight: HashMap::new(),
            window: connect.receive_maximum.min(MAX_IN_FLIGHT),
            // An acknowledgement that belongs to an earlier connection must not hit a new message.
            next_id: rand::random(),
            max_packet: connect.max_packet,
        }
    }

    async fn write(&mut self, packet: &Outgoing) -> Result<(), Over> {
        let bytes = wire::write(self.version, packet)
            .map_err(|e| Over::Ended(Ended::ProtocolError, format!("a packet cannot be written: {e}")))?;
        let Some(bytes) = bytes else { return Ok(()) };
        tokio::time::timeout(WRITE_WITHIN, self.writer.write_all(bytes.as_ref()))
            .await
            .map_err(|_| Over::Lost)??;
        Ok(())
    }

    /// Serves the client until the connection is over. Gives the session for what follows.
    pub(crate) async fn run(
        mut self,
        connected: Outgoing,
        stop: CancellationToken,
        taken_over: CancellationToken,
    ) -> (Over, Session, u32) {
        let over = match self.serve(&connected, &stop, &taken_over).await {
            Ok(never) => match never {},
            Err(over) => over,
        };
        if let Over::Ended(why, _) = &over {
            // The client may be gone already.
            drop(self.write(&Outgoing::Disconnect(*why)).await);
        }
        // What is being taken goes on being taken, and is not acknowledged: the client sends it again.
        (over, self.session.clone(), self.expiry)
    }

    async fn serve(
        &mut self,
        connected: &Outgoing,
        stop: &CancellationToken,
        taken_over: &CancellationToken,
    ) -> Result<std::convert::Infallible, Over> {
        self.write(connected).await?;
        self.follow_feeds();
        self.heard();
        let mut refresh = tokio::time::interval(REFRESH);
        loop {
            let room = self.taking.len() < usize::from(RECEIVE_MAXIMUM);
            let window_open = self.in_flight.len() < usize::from(self.window);
            tokio::select! {
                () = stop.cancelled() => {
                    return Err(Over::Ended(Ended::ShuttingDown, "the gateway stops".to_owned()));
                }
                () = taken_over.cancelled() => {
                    return Err(Over::Ended(Ended::TakenOver, "the client has connected again".to_owned()));
                }
                Some(taken) = self.taking.next() => {
                    self.line.done();
                    self.acknowledge(taken).await?;
                    if !room {
                        self.heard();
                    }
                }
                Some((feed, event)) = self.events.recv(), if window_open => self.deliver(feed, &event).await?,
                packet = read_packet(&mut self.reader, &mut self.buffer, MAX_PACKET), if room => {
                    let packet = packet?;
                    self.heard();
                    let packet = wire::read(self.version, &packet)
                        .map_err(|e| Over::Ended(Ended::Malformed, e.0))?;
                    self.handle(packet).await?;
                }
                _ = refresh.tick() => {
                    self.broker.sessions.refresh(&self.key, &mut self.session, self.expiry);
                }
                () = tokio::time::sleep_until(self.deadline), if room && self.keep_alive.is_some() => {
                    return Err(Over::Ended(Ended::KeepAlive, "nothing was heard of the client in time".to_owned()));
                }
            }
        }
    }

    fn heard(&mut self) {
        if let Some(keep_alive) = self.keep_alive {
            self.deadline = Instant::now() + keep_alive;
        }
    }

    async fn handle(&mut self, packet: Incoming) -> Result<(), Over> {
        match packet {
            Incoming::Publish {
                qos,
                id,
                topic,
                payload,
            } => {
                let place = (self.version == Version::V3).then(|| self.line.place(self.came));
                self.came += 1;
                let mut taking = Box::pin(take(
                    Arc::clone(&self.broker),
                    place,
                    self.sender.clone(),
                    self.key.clone(),
                    (qos, id),
                    topic,
                    payload,
                ));
                // A first step at once, so that messages get into the buffer in the order in which they came.
                match futures::poll!(&mut taking) {
                    std::task::Poll::Ready(taken) => {
                        self.taking.push_back(Box::pin(std::future::ready(taken)));
                    }
                    std::task::Poll::Pending => self.taking.push_back(taking),
                }
                Ok(())
            }
            Incoming::PubRel(id) => {
                let known = match self.broker.sessions.end(&self.key, id) {
                    Some(ended) => {
                        // The id is free for another message only when that is on disk.
                        if ended.durable().await.is_err() {
                            self.broker.sessions.recover().await;
                            return Err(Over::Lost);
                        }
                        true
                    }
                    None => false,
                };
                self.write(&Outgoing::PubComp(id, known)).await
            }
            Incoming::PubAck(id) => {
                self.acknowledged(id);
                Ok(())
            }
            // Nothing is sent with QoS 2.
            Incoming::PubRec(_) | Incoming::PubComp(_) => Ok(()),
            Incoming::Subscribe { id, filters } => self.subscribe(id, filters).await,
            Incoming::Unsubscribe { id, filters } => {
                let known = filters
                    .iter()
                    .map(|filter| self.session.subscriptions.remove(filter).is_some())
                    .collect();
                self.keep_session().await?;
                self.follow_feeds();
                self.write(&Outgoing::UnsubAck(id, known)).await
            }
            Incoming::Ping => self.write(&Outgoing::Pong).await,
            Incoming::Disconnect {
                with_will,
                session_expiry,
            } => {
                if let (Some(expiry), true) = (session_expiry, self.expiry > 0) {
                    self.expiry = expiry;
                }
                Err(Over::GoodBye { with_will })
            }
        }
    }

    async fn acknowledge(&mut self, taken: Taken) -> Result<(), Over> {
        let (reason, why) = match &taken.result {
            Ok(()) => (Reason::Success, None),
            Err(refusal) => (
                match refusal {
                    Refusal::Forbidden(_) => Reason::NotAuthorized,
                    Refusal::UnknownTopic(_) => Reason::TopicInvalid,
                    Refusal::Invalid(_) | Refusal::TooLong(_) => Reason::PayloadInvalid,
                    Refusal::TooFast { .. } | Refusal::Full { .. } | Refusal::Storage(_) => {
                        Reason::QuotaExceeded
                    }
                    Refusal::Internal(_) => Reason::Failed,
                },
                Some(refusal.to_string().chars().take(200).collect::<String>()),
            ),
        };
        if let Some(why) = &why {
            tracing::info!(client = %self.sender.name(), %why, "message refused");
            if self.version == Version::V3 && taken.qos > 0 {
                // It must be acknowledged or the connection ended (MQTT 3.1.1, section 3.3.5).
                return Err(Over::Ended(Ended::Quota, why.clone()));
            }
        }
        match taken.qos {
            0 => Ok(()),
            1 => self.write(&Outgoing::PubAck(taken.id, reason, why)).await,
            _ => self.write(&Outgoing::PubRec(taken.id, reason, why)).await,
        }
    }

    async fn keep_session(&mut self) -> Result<(), Over> {
        if self.expiry == 0 {
            return Ok(());
        }
        let kept = self
            .broker
            .sessions
            .keep(&self.key, &mut self.session, self.expiry);
        if kept.durable().await.is_err() {
            self.broker.sessions.recover().await;
            return Err(Over::Lost);
        }
        Ok(())
    }

    async fn subscribe(&mut self, id: u16, filters: Vec<(String, u8)>) -> Result<(), Over> {
        let mut granted = Vec::new();
        for (filter, qos) in filters {
            let known = self.session.subscriptions.contains_key(&filter);
            if filter.starts_with("$share/") || (!known && self.session.subscriptions.len() >= MAX_FILTERS) {
                granted.push(None);
                continue;
            }
            let qos = qos.min(1);
            self.session.subscriptions.insert(filter, qos);
            granted.push(Some(qos));
        }
        self.keep_session().await?;
        self.write(&Outgoing::SubAck(id, granted)).await?;
        self.follow_feeds();
        Ok(())
    }

    /// Starts and ends followers, so that each feed that a filter can mean is followed.
    fn follow_feeds(&mut self) {
        for (index, feed) in self.broker.feeds.iter().enumerate() {
            let wanted = self
                .session
                .subscriptions
                .keys()
                .any(|filter| may_match_below(filter, &feed.topic));
            let followed = self.feeds.iter().position(|f| f.index == index);
            match (wanted, followed) {
                (true, None) => {
                    let task = self.follow(index);
                    self.feeds.push(Feed {
                        index,
                        task,
                        sent: VecDeque::new(),
                    });
                }
                (false, Some(place)) => {
                    self.feeds.remove(place);
                    // Who subscribes again begins anew.
                    drop(self.broker.sessions.forget_place(&self.key, &feed.topic));
                    self.in_flight.retain(|_, of| *of != index);
                }
                _ => {}
            }
        }
    }

    fn follow(&self, index: usize) -> JoinHandle<()> {
        let (broker, key, lasts) = (Arc::clone(&self.broker), self.key.clone(), self.expiry > 0);
        let events = self.events_in.clone();
        tokio::spawn(async move {
            let Some(feed) = broker.feeds.get(index) else {
                return;
            };
            let place = broker.sessions.place(&key, &feed.topic).filter(|_| lasts);
            let begins_now = place.is_none();
            let start = place.map_or(StartAt::Now, StartAt::Place);
            let source = Arc::clone(&broker.source);
            let mut follower = Follower::new(source, &broker.callbacks, "", feed.filter(), &start);
            let place = follower.settle_start().await;
            if lasts && begins_now {
                // So that a client which goes before its first event misses nothing.
                drop(
                    broker
                        .sessions
                        .set_place(&key, &feed.topic, &place)
                        .durable()
                        .await,
                );
            }
            loop {
                let event = follower.next().await;
                if events.send((index, event)).await.is_err() {
                    return;
                }
            }
        })
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if self.next_id != 0 && !self.in_flight.contains_key(&self.next_id) {
                return self.next_id;
            }
        }
    }

    async fn deliver(&mut self, index: usize, event: &Event) -> Result<(), Over> {
        let Some(feed) = self.broker.feeds.get(index) else {
            return Ok(());
        };
        let topic = format!("{}/{}", feed.topic, level_of(&event.event.name));
        let qos = self
            .session
            .subscriptions
            .iter()
            .filter(|(filter, _)| matches(filter, &topic))
            .map(|(_, qos)| *qos)
            .max();
        let payload = Bytes::from(event.json());
        let fits = self
            .max_packet
            .is_none_or(|most| payload.len() + topic.len() + 64 <= most as usize);
        let id = match qos {
            Some(1) if fits => Some(self.free_id()),
            _ => None,
        };
        let Some(followed) = self.feeds.iter_mut().find(|f| f.index == index) else {
            return Ok(());
        };
        followed.sent.push_back((id, event.id()));
        if let Some(id) = id {
            self.in_flight.insert(id, index);
        }
        if let (Some(qos), true) = (qos, fits) {
            let packet = Outgoing::Publish {
                qos,
                id: id.unwrap_or_default(),
                dup: false,
                topic,
                payload,
            };
            self.write(&packet).await?;
        }
        self.move_place(index);
        Ok(())
    }

    fn acknowledged(&mut self, id: u16) {
        let Some(index) = self.in_flight.remove(&id) else {
            return;
        };
        if let Some(feed) = self.feeds.iter_mut().find(|f| f.index == index) {
            for (waiting, _) in &mut feed.sent {
                if *waiting == Some(id) {
                    *waiting = None;
                }
            }
        }
        self.move_place(index);
    }

    /// Moves the place behind everything that needs no acknowledgement any more.
    fn move_place(&mut self, index: usize) {
        let Some(feed) = self.feeds.iter_mut().find(|f| f.index == index) else {
            return;
        };
        let mut place = None;
        while let Some((None, _)) = feed.sent.front() {
            place = feed.sent.pop_front().map(|(_, place)| place);
        }
        if let (Some(place), true, Some(config)) = (place, self.expiry > 0, self.broker.feeds.get(index)) {
            // Not waited for: after a crash the event comes again.
            drop(self.broker.sessions.set_place(&self.key, &config.topic, &place));
        }
    }
}

/// Hands a message to the intake; done when it is durable or refused. One of version 3 has a place in its client's line.
async fn take(
    broker: Arc<Broker>,
    mut place: Option<Place>,
    sender: Sender,
    key: String,
    (qos, id): (u8, u16),
    topic: String,
    payload: Bytes,
) -> Taken {
    let mut arrived = broker.intake.arrival();
    if qos == 2 {
        match broker.sessions.begun(&key, id) {
            // It comes again: with its first number it is the same message.
            Some(first) => arrived = Arrival::numbered(first),
            None => {
                if let Err(error) = broker.sessions.begin(&key, id, arrived.number).durable().await {
                    broker.sessions.recover().await;
                    let result = Err(error.into());
                    return Taken { qos, id, result };
                }
            }
        }
    }
    if let Some(place) = &mut place {
        place.turn().await;
    }
    let mut began = Instant::now();
    let result = loop {
        let result = broker.publish(&sender, &topic, &payload, arrived).await;
        let pause = match &result {
            Err(refusal) if qos > 0 => refusal.retry_after(),
            _ => None,
        };
        match (pause, &mut place) {
            (Some(pause), Some(place)) if began.elapsed() + pause <= PATIENCE => {
                place.wait();
                tokio::time::sleep(pause).await;
                let waits_for_others = Instant::now();
                place.first().await;
                began += waits_for_others.elapsed();
            }
            _ => break result,
        }
    };
    if qos == 2 && result.is_err() {
        // A refused message is over with this answer (MQTT 5, section 4.3.3).
        if let Some(ended) = broker.sessions.end(&key, id) {
            drop(ended.durable().await);
        }
    }
    Taken { qos, id, result }
}
