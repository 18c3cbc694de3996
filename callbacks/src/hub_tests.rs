//! Subscriptions and streams against a ledger in memory and a receiver on loopback.

use std::collections::VecDeque;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use selvedge_comm::{ClientTls, HttpClient, Method};
use selvedge_sdk::ChaincodeEvent;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::settings::WebhookTarget;
use crate::source::{EventStream, SourceError};

/// A chain of events, one a block, that can be out of reach.
struct Ledger {
    events: watch::Sender<Vec<ChaincodeEvent>>,
    /// Streams of another generation have broken.
    generation: watch::Sender<u64>,
    up: watch::Sender<bool>,
}

impl Ledger {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            events: watch::Sender::new(Vec::new()),
            generation: watch::Sender::new(0),
            up: watch::Sender::new(true),
        })
    }

    fn commit(&self, name: &str) {
        self.events.send_modify(|events| {
            let number = events.len() as u64;
            events.push(ChaincodeEvent {
                block_number: number,
                transaction_id: format!("tx{number}"),
                chaincode: "shipment".into(),
                name: name.into(),
                payload: Bytes::from(format!("{{\"n\":{number}}}")),
            });
        });
    }

    fn break_streams(&self) {
        self.generation.send_modify(|g| *g += 1);
    }

    fn away(&self) -> Result<(), SourceError> {
        if *self.up.borrow() {
            return Ok(());
        }
        Err(SourceError {
            why: "the peer is away".into(),
            refused: false,
        })
    }
}

struct LedgerSource(Arc<Ledger>);

struct Stream {
    at: usize,
    born: u64,
    events: watch::Receiver<Vec<ChaincodeEvent>>,
    generation: watch::Receiver<u64>,
}

#[async_trait]
impl EventStream for Stream {
    async fn next(&mut self) -> Result<ChaincodeEvent, SourceError> {
        loop {
            let broken = SourceError {
                why: "the stream broke".into(),
                refused: false,
            };
            if *self.generation.borrow() != self.born {
                return Err(broken);
            }
            let event = self.events.borrow_and_update().get(self.at).cloned();
            if let Some(event) = event {
                self.at += 1;
                return Ok(event);
            }
            tokio::select! {
                changed = self.events.changed() => changed.map_err(|_| broken)?,
                changed = self.generation.changed() => changed.map_err(|_| broken)?,
            }
        }
    }
}

#[async_trait]
impl EventSource for LedgerSource {
    async fn height(&self, owner: &str, _channel: &str) -> Result<u64, SourceError> {
        self.0.away()?;
        if owner == "stranger" {
            return Err(SourceError {
                why: "you may not read this channel".into(),
                refused: true,
            });
        }
        Ok(self.0.events.borrow().len() as u64)
    }

    async fn open(
        &self,
        _owner: &str,
        _channel: &str,
        _chaincode: &str,
        after: &Checkpoint,
    ) -> Result<Box<dyn EventStream>, SourceError> {
        self.0.away()?;
        let block = usize::try_from(after.block_number).unwrap();
        Ok(Box::new(Stream {
            // One event a block: after a transaction is the next block.
            at: block + usize::from(after.transaction_id.is_some()),
            born: *self.0.generation.borrow(),
            events: self.0.events.subscribe(),
            generation: self.0.generation.subscribe(),
        }))
    }
}

#[derive(Clone)]
struct Script {
    /// Statuses of the next answers; 200 when there are none.
    statuses: Arc<Mutex<VecDeque<u16>>>,
    seen: mpsc::UnboundedSender<(HeaderMap, Bytes, u16)>,
}

async fn receive(State(script): State<Script>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = script.statuses.lock().pop_front().unwrap_or(200);
    script.seen.send((headers, body, status)).unwrap();
    StatusCode::from_u16(status).unwrap()
}

struct Receiver {
    url: String,
    statuses: Arc<Mutex<VecDeque<u16>>>,
    seen: mpsc::UnboundedReceiver<(HeaderMap, Bytes, u16)>,
}

impl Receiver {
    async fn start() -> Self {
        let (seen_in, seen) = mpsc::unbounded_channel();
        let statuses = Arc::new(Mutex::new(VecDeque::new()));
        let script = Script {
            statuses: Arc::clone(&statuses),
            seen: seen_in,
        };
        let router = axum::Router::new()
            .route("/hook", axum::routing::post(receive))
            .with_state(script);
        Self {
            url: format!("{}/hook", serve(router).await),
            statuses,
            seen,
        }
    }

    /// The next call that was answered with success: id and name of its event.
    async fn next_taken(&mut self) -> (String, String) {
        loop {
            let (_, body, status) = self.seen.recv().await.unwrap();
            if status == 200 {
                let event: Value = serde_json::from_slice(&body).unwrap();
                return (
                    event["id"].as_str().unwrap().to_owned(),
                    event["name"].as_str().unwrap().to_owned(),
                );
            }
        }
    }
}

async fn serve(router: axum::Router) -> String {
    let listener = selvedge_comm::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(selvedge_comm::serve_http(
        listener,
        None,
        router,
        std::future::pending(),
    ));
    format!("http://{address}")
}

fn settings() -> CallbackSettings {
    CallbackSettings {
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        allow_http: true,
        ..CallbackSettings::default()
    }
}

fn hub_with(ledger: &Arc<Ledger>, dir: &Path, settings: CallbackSettings) -> Arc<Hub> {
    Hub::start(Arc::new(LedgerSource(Arc::clone(ledger))), dir, settings).unwrap()
}

fn subscription(id: &str, url: &str, name: &str, from: StartAt) -> NewSubscription {
    NewSubscription {
        id: Some(id.into()),
        channel: "trade".into(),
        chaincode: "shipment".into(),
        name: name.parse().unwrap(),
        from,
        webhook: WebhookTarget {
            url: url.into(),
            secret: None,
        },
    }
}

async fn until_state(hub: &Hub, owner: &str, id: &str, state: SubscriptionState) -> SubscriptionView {
    loop {
        let view = hub.get(owner, id).unwrap();
        if view.state == state {
            return view;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_in_order_and_once_through_failures_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new();
    let mut receiver = Receiver::start().await;
    let hub = hub_with(&ledger, folder.path(), settings());
    let new = subscription("s1", &receiver.url, "shipment.*", StartAt::Oldest);
    let created = hub.create("o", new).await.unwrap();
    receiver.statuses.lock().extend([500, 503, 200, 429]);
    let mut expected = Vec::new();
    for n in 0..30 {
        let name = if n % 3 == 2 {
            "other".to_owned()
        } else {
            expected.push((format!("{n}.tx{n}"), format!("shipment.{n}")));
            format!("shipment.{n}")
        };
        ledger.commit(&name);
        if n % 7 == 0 {
            ledger.break_streams();
        }
    }
    let mut taken = Vec::new();
    while taken.len() < expected.len() {
        taken.push(receiver.next_taken().await);
    }
    assert_eq!(taken, expected);

    // The signature is over exactly what was received.
    ledger.commit("shipment.signed");
    let (headers, body, _) = receiver.seen.recv().await.unwrap();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let secret = Secret::parse(&created.secret).unwrap();
    let timestamp = header("webhook-timestamp").parse().unwrap();
    assert_eq!(
        header("webhook-signature"),
        webhook::signature(&secret, &header("webhook-id"), timestamp, &body)
    );
    assert_eq!(header("webhook-id"), "30.tx30");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_leaves_no_gap_not_even_before_the_first_event() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new();
    ledger.commit("old");
    let mut receiver = Receiver::start().await;
    let hub = hub_with(&ledger, folder.path(), settings());
    hub.create("o", subscription("s1", &receiver.url, "", StartAt::Now))
        .await
        .unwrap();
    // "Now" is settled when the view tells a place.
    while hub.get("o", "s1").unwrap().place.is_none() {
        tokio::task::yield_now().await;
    }
    hub.stop().await;
    ledger.commit("while.down");

    let hub = hub_with(&ledger, folder.path(), settings());
    assert_eq!(receiver.next_taken().await.1, "while.down");
    hub.stop().await;
    ledger.commit("again");
    let hub = hub_with(&ledger, folder.path(), settings());
    assert_eq!(
        receiver.next_taken().await.1,
        "again",
        "what was delivered is not repeated after an orderly end"
    );
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_was_left_behind_is_not_that_of_a_new_subscription() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new();
    ledger.commit("old");
    let mut receiver = Receiver::start().await;
    let hub = hub_with(&ledger, folder.path(), settings());
    // A crash between the removal of a subscription's two files leaves its place.
    let mut left = selvedge_sdk::FileCheckpointer::open(&folder.path().join("s1.place")).unwrap();
    left.store(Checkpoint::default()).unwrap();
    hub.create("o", subscription("s1", &receiver.url, "", StartAt::Now))
        .await
        .unwrap();
    while hub.get("o", "s1").unwrap().place.is_none() {
        tokio::task::yield_now().await;
    }
    ledger.commit("new");
    assert_eq!(receiver.next_taken().await.1, "new");
    hub.remove("o", "s1").await.unwrap();
    assert!(!folder.path().join("s1.place").exists());
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_receiver_is_suspended_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new();
    let mut receiver = Receiver::start().await;
    let impatient = CallbackSettings {
        give_up_after: Duration::ZERO,
        ..settings()
    };
    let hub = hub_with(&ledger, folder.path(), impatient.clone());
    receiver.statuses.lock().push_back(500);
    hub.create("o", subscription("s1", &receiver.url, "", StartAt::Oldest))
        .await
        .unwrap();
    ledger.commit("first");
    let view = until_state(&hub, "o", "s1", SubscriptionState::Suspended).await;
    assert!(view.reason.unwrap().contains("500"));
    hub.stop().await;

    // It stays suspended over a restart; nothing is sent meanwhile.
    ledger.commit("second");
    let hub = hub_with(&ledger, folder.path(), impatient);
    assert_eq!(hub.get("o", "s1").unwrap().state, SubscriptionState::Suspended);
    assert!(hub.resume("someone else", "s1", None).await.is_err());
    hub.resume("o", "s1", None).await.unwrap();
    assert_eq!(receiver.next_taken().await.1, "first");
    assert_eq!(receiver.next_taken().await.1, "second");

    // Past an event that it chokes on.
    receiver.statuses.lock().push_back(500);
    ledger.commit("poison");
    until_state(&hub, "o", "s1", SubscriptionState::Suspended).await;
    hub.resume("o", "s1", Some("2.tx2".parse().unwrap()))
        .await
        .unwrap();
    ledger.commit("after");
    assert_eq!(receiver.next_taken().await.1, "after");

    receiver.statuses.lock().push_back(410);
    ledger.commit("unwanted");
    until_state(&hub, "o", "s1", SubscriptionState::Ended).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_names_and_limits_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new();
    let small = CallbackSettings {
        max_subscriptions: 2,
        ..settings()
    };
    let hub = hub_with(&ledger, folder.path(), small);
    let new = |id: &str, url: &str| subscription(id, url, "", StartAt::Now);
    let first = hub.create("a", new("one", "http://127.0.0.1:1/x")).await.unwrap();
    let again = hub.create("a", new("one", "http://127.0.0.1:1/x")).await.unwrap();
    assert_eq!(first.secret, again.secret, "the same again changes nothing");
    let other = hub.create("a", new("one", "http://127.0.0.1:1/y")).await;
    assert!(matches!(other, Err(CallbackError::Exists(_))));
    assert!(matches!(
        hub.create("b", new("one", "http://127.0.0.1:1/x")).await,
        Err(CallbackError::Exists(_))
    ));
    assert!(matches!(hub.get("b", "one"), Err(CallbackError::Unknown(_))));
    assert!(hub.list("b").is_empty());
    assert!(matches!(
        hub.create("b", new("../x", "http://127.0.0.1:1/x")).await,
        Err(CallbackError::Invalid(_))
    ));
    hub.create("b", new("two", "http://127.0.0.1:1/x")).await.unwrap();
    assert!(matches!(
        hub.create("b", new("three", "http://127.0.0.1:1/x")).await,
        Err(CallbackError::Busy(_))
    ));
    hub.remove("b", "two").await.unwrap();
    hub.create("b", new("three", "http://127.0.0.1:1/x"))
        .await
        .unwrap();
    hub.remove("b", "three").await.unwrap();

    // Those of a configuration file follow the file.
    hub.set_fixed("a", vec![new("file", "http://127.0.0.1:1/x")])
        .await
        .unwrap();
    hub.set_fixed("a", vec![new("file", "http://127.0.0.1:1/z")])
        .await
        .unwrap();
    assert_eq!(hub.get("a", "file").unwrap().url, "http://127.0.0.1:1/z");
    assert!(hub.remove("a", "file").await.is_err());
    hub.set_fixed("a", Vec::new()).await.unwrap();
    assert!(hub.get("a", "file").is_err());
    assert!(hub.get("a", "one").is_ok());
    hub.stop().await;
}

/// Reads server-sent events from a socket until there are `count` messages.
async fn read_events(url: &str, path: &str, last: Option<&str>, count: usize) -> Vec<(String, String)> {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let address = url.strip_prefix("http://").unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{last}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(socket).lines();
    let (mut all, mut id, mut name) = (Vec::new(), String::new(), String::new());
    while all.len() < count {
        let line = lines.next_line().await.unwrap().expect("the stream goes on");
        if let Some(value) = line.strip_prefix("id: ") {
            value.clone_into(&mut id);
        } else if let Some(value) = line.strip_prefix("event: ") {
            value.clone_into(&mut name);
        } else if line.is_empty() && !name.is_empty() {
            all.push((std::mem::take(&mut id), std::mem::take(&mut name)));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_streams_resume_from_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new();
    for n in 0..5 {
        ledger.commit(&format!("e{n}"));
    }
    let small = CallbackSettings {
        max_streams: 1,
        ..settings()
    };
    let hub = hub_with(&ledger, folder.path(), small);
    let base = serve(crate::routes(Arc::clone(&hub))).await;
    let path = "/v1/events?channel=trade&chaincode=shipment";
    let pair = |id: &str, name: &str| (id.to_owned(), name.to_owned());

    let all = read_events(&base, &format!("{path}&from=oldest"), None, 3).await;
    assert_eq!(
        all,
        [
            pair("0", "selvedge.start"),
            pair("0.tx0", "e0"),
            pair("1.tx1", "e1")
        ]
    );
    // The place of the one that broke off is free again once its connection is seen to be closed.
    let http = HttpClient::new(ClientTls::default());
    let resumed = loop {
        let answer = hub.streams.available_permits();
        if answer == 1 {
            break read_events(&base, path, Some("1.tx1"), 3).await;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        resumed,
        [
            pair("1.tx1", "selvedge.start"),
            pair("2.tx2", "e2"),
            pair("3.tx3", "e3")
        ]
    );

    let status = |url: String| {
        let http = http.clone();
        async move {
            let answer = http.request(Method::GET, &url, &[], "").await.unwrap();
            (
                answer.status.as_u16(),
                String::from_utf8_lossy(&answer.body).into_owned(),
            )
        }
    };
    assert_eq!(status(format!("{base}/v1/events?channel=trade")).await.0, 400);
    let held = Arc::clone(&hub.streams).acquire_owned().await.unwrap();
    assert_eq!(status(format!("{base}{path}")).await.0, 429);
    drop(held);
    ledger.up.send_replace(false);
    let (code, text) = status(format!("{base}{path}")).await;
    assert_eq!(code, 503);
    assert!(text.contains("the peer is away"), "{text}");
    ledger.up.send_replace(true);
    assert!(matches!(
        hub.stream(
            "stranger",
            EventFilter {
                channel: "trade".into(),
                chaincode: "shipment".into(),
                name: crate::NamePattern::default()
            },
            &StartAt::Now
        )
        .await,
        Err(CallbackError::Forbidden(_))
    ));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_have_a_rest_interface() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new();
    let mut receiver = Receiver::start().await;
    let hub = hub_with(&ledger, folder.path(), settings());
    let base = serve(crate::routes(Arc::clone(&hub))).await;
    let http = HttpClient::new(ClientTls::default());
    let call = |method: Method, path: &str, body: Value| {
        let (http, url) = (http.clone(), format!("{base}{path}"));
        async move {
            let body = if body.is_null() {
                String::new()
            } else {
                body.to_string()
            };
            let answer = http.request(method, &url, &[], body).await.unwrap();
            let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            (answer.status.as_u16(), json)
        }
    };
    let new = json!({
        "channel": "trade", "chaincode": "shipment", "name": "shipment.*", "from": "oldest",
        "webhook": { "url": receiver.url },
    });
    let (status, created) = call(Method::POST, "/v1/subscriptions", new).await;
    assert_eq!(status, 201, "{created}");
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"));
    ledger.commit("shipment.created");
    assert_eq!(receiver.next_taken().await.1, "shipment.created");
    let id = created["id"].as_str().unwrap();
    let (status, view) = call(Method::GET, &format!("/v1/subscriptions/{id}"), Value::Null).await;
    assert_eq!((status, &view["channel"]), (200, &json!("trade")));
    assert!(view.get("secret").is_none());
    let (_, all) = call(Method::GET, "/v1/subscriptions", Value::Null).await;
    assert_eq!(all["subscriptions"].as_array().unwrap().len(), 1);
    let back = json!({ "after": "0" });
    let (status, _) = call(Method::POST, &format!("/v1/subscriptions/{id}/resume"), back).await;
    assert_eq!(status, 200);
    assert_eq!(receiver.next_taken().await.1, "shipment.created");
    let (status, _) = call(Method::DELETE, &format!("/v1/subscriptions/{id}"), Value::Null).await;
    assert_eq!(status, 204);
    for (method, path, body, expected) in [
        (Method::GET, format!("/v1/subscriptions/{id}"), Value::Null, 404),
        (Method::POST, "/v1/subscriptions".to_owned(), json!({}), 400),
        (
            Method::POST,
            "/v1/subscriptions".to_owned(),
            json!({ "channel": "", "chaincode": "c", "webhook": { "url": "http://h" } }),
            400,
        ),
    ] {
        let (status, answer) = call(method, &path, body).await;
        assert_eq!(status, expected, "{path}: {answer}");
    }
    hub.stop().await;
}
