//! The ways into an edge gateway and out of it, with real clients of each, against a whole network: whatever was
//! acknowledged is on the ledger exactly once, and whoever listens hears of every event, through kills of the gateway.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use selvedge_comm::Method;
use selvedge_sdk::Invocation;
use selvedge_system_tests::{
    CHANNEL, Edge, Network, ORG1_PEER, ORG2_PEER, Options, case, checker, eventually, http, json, ports,
    python,
};
use serde_json::{Value, json as value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

const SHIPPER: &str = "User1@org1.example.com";
const DEVICE: &str = "edge-1";
/// Messages of each MQTT client.
const MESSAGES: u64 = 120;
/// Events that listeners wait for.
const EVENTS: u64 = 12;

struct Addresses {
    mqtt: String,
    sealed: String,
    hook: String,
}

fn settings(addresses: &Addresses) -> Value {
    value!({
        "readings": [{
            "channel": CHANNEL, "chaincode": "shipment", "function": "recordReading",
            "arguments": [{
                "shipment": "S-1", "stream": "{stream}", "sequence": "{sequence}", "time": "{time}",
                "position": "{position}", "values": "{values}",
            }],
        }],
        "devices": {
            "mqtt": {
                "listen": addresses.mqtt, "anonymous": true,
                "events": [{ "topic": "events/shipment", "channel": CHANNEL, "chaincode": "shipment", "name": "shipment.*" }],
            },
            "sealed": { "listen": addresses.sealed },
            "folders": [{ "path": "in", "source": DEVICE, "every": "50ms" }],
        },
        "callbacks": {
            "settings": { "allow_http": true, "first_pause": "50ms", "longest_pause": "500ms" },
            "webhooks": [{
                "id": "erp", "channel": CHANNEL, "chaincode": "shipment", "name": "shipment.violation",
                "webhook": { "url": addresses.hook, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" },
            }],
        },
    })
}

async fn emptied(edge: &Edge) {
    edge.holds(0, Duration::from_secs(60)).await;
}

async fn summary(network: &Network) -> Value {
    let ask = Invocation::new(CHANNEL, "shipment", "summary").arg("S-1");
    json(&network.gateway(SHIPPER).evaluate(&ask).await.unwrap())
}

/// Readings of a stream on the ledger, and how many are missing between the first and the last. A name that ends in `*` stands
/// for all that begin so.
async fn stream_of(network: &Network, stream: &str) -> (u64, u64) {
    let summary = summary(network).await;
    let all = summary["streams"].as_array().cloned().unwrap_or_default();
    let is_it = |name: &str| match stream.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == stream,
    };
    let found = all.iter().find(|s| s["stream"].as_str().is_some_and(is_it));
    let found = found.unwrap_or_else(|| panic!("no stream {stream} in {summary}"));
    (
        found["count"].as_u64().unwrap(),
        found["missing"].as_u64().unwrap_or(0),
    )
}

/// A receiver of web hooks that fails now and then, and keeps the ids of what it took.
async fn receiver(listener: TcpListener, taken: Arc<Mutex<Vec<String>>>) {
    let mut calls = 0_u32;
    loop {
        let Ok((mut socket, _)) = listener.accept().await else {
            return;
        };
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if socket.read_exact(&mut byte).await.is_err() {
                break;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let header = |name: &str| {
            let line = head.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_default().to_owned()
        };
        let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
        if socket.read_exact(&mut body).await.is_err() {
            continue;
        }
        calls += 1;
        let fails = calls.is_multiple_of(4);
        let answer = if fails {
            "503 Service Unavailable"
        } else {
            "200 OK"
        };
        if !fails {
            let event: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(header("webhook-id"), event["id"].as_str().unwrap());
            assert!(header("webhook-signature").starts_with("v1,"));
            assert_eq!(event["name"], "shipment.violation");
            taken
                .lock()
                .unwrap()
                .push(event["id"].as_str().unwrap().to_owned());
        }
        let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        // The caller may have been killed.
        drop(socket.write_all(answer.as_bytes()).await);
    }
}

/// Reads server-sent events for as long as they come, coming back after each end, until there are `count` ids.
async fn read_stream(edge: &str, count: usize) -> Vec<String> {
    let address = edge.strip_prefix("http://").unwrap().to_owned();
    let (mut ids, mut last) = (Vec::new(), String::new());
    while ids.len() < count {
        let Ok(mut socket) = TcpStream::connect(&address).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let from = if last.is_empty() { "&from=oldest" } else { "" };
        let request = format!(
            "GET /v1/events?channel={CHANNEL}&chaincode=shipment&name=shipment.violation{from} HTTP/1.1\r\n\
             host: edge\r\nlast-event-id: {last}\r\n\r\n"
        );
        if socket.write_all(request.as_bytes()).await.is_err() {
            continue;
        }
        let mut lines = BufReader::new(socket).lines();
        let (mut id, mut kind) = (String::new(), String::new());
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut kind);
            } else if line.is_empty() && !id.is_empty() {
                last.clone_from(&id);
                // Chunked transfer ends a chunk with an empty line of its own, which is no second event.
                if std::mem::take(&mut kind) == "shipment.violation" {
                    ids.push(id.clone());
                }
                if ids.len() == count {
                    break;
                }
            }
        }
    }
    ids
}

/// Reports readings that break the shipment's condition, one event each.
async fn violate(edge: &Edge, first: u64, count: u64) {
    for sequence in first..first + count {
        let reading = value!({
            "source": DEVICE, "stream": "hot", "sequence": sequence,
            "time": format!("2026-01-13T00:{sequence:02}:00Z"), "values": { "temperature": 60 },
        });
        eventually("the reading is taken", Duration::from_secs(20), || async {
            let answer = http(Method::POST, &format!("{}/v1/readings", edge.url()), &reading).await?;
            match answer.status.as_u16() {
                202 => Ok(()),
                other => Err(format!("HTTP {other}: {}", String::from_utf8_lossy(&answer.body))),
            }
        })
        .await;
    }
}

/// Ids in what a listener printed, without repeats; a repeat must be of an id that came before.
fn distinct(ids: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for id in ids {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    all
}

fn places(ids: &[String]) -> Vec<u64> {
    ids.iter()
        .map(|id| id.split('.').next().unwrap().parse().unwrap())
        .collect()
}

async fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        output.status.success(),
        format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_and_every_way_out() {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let interpreter = python::interpreter(&target).await;
    let options = Options {
        orderers: 1,
        authorities: true,
        ..Options::default()
    };
    let network = Network::up(options).await;
    let device = network.enroll_device("org1.example.com", DEVICE).await;
    let create = value!({
        "id": "S-1", "goods": "steel", "consignee": "Org2MSP",
        "conditions": [{ "field": "temperature", "max": 50 }],
    });
    let create = Invocation::new(CHANNEL, "shipment", "create").arg(create.to_string());
    let created = network.gateway(SHIPPER).submit_and_wait(&create).await.unwrap();
    network.everywhere(created.block_number).await;

    let hook = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = Addresses {
        mqtt: ports::listen(),
        sealed: ports::listen(),
        hook: format!("http://{}/hook", hook.local_addr().unwrap()),
    };
    let taken = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn(receiver(hook, Arc::clone(&taken)));
    let peers = [
        (ORG1_PEER, network.address(ORG1_PEER)),
        (ORG2_PEER, network.address(ORG2_PEER)),
    ];
    let peers: Vec<(&str, &str)> = peers
        .iter()
        .map(|(host, address)| (*host, address.as_str()))
        .collect();
    let edge = Edge::start(&network, &device, &peers).await;
    edge.kill();
    edge.configure(&settings(&addresses));
    edge.restart().await;

    case(
        "MQTT 3.1.1 and 5, killed between PUBLISH and PUBACK",
        mqtt(&network, &edge, &interpreter, &addresses),
    )
    .await;
    case(
        "events to all who listen",
        events(&edge, &interpreter, &addresses, &taken),
    )
    .await;
    case(
        "sealed messages of a device without TLS",
        sealed(&network, &edge, &interpreter, &addresses),
    )
    .await;
    case("a file in the watched folder", folder(&network, &edge)).await;

    let all = summary(&network).await;
    let chain = checker::check(&network).await;
    let valid = chain.valid_calls("shipment", "recordReading") as u64;
    assert_eq!(
        all["readings"].as_u64().unwrap(),
        valid,
        "each reading is one valid transaction: {all}"
    );
    network.down().await;
}

async fn mqtt(network: &Network, edge: &Edge, interpreter: &Path, addresses: &Addresses) {
    let (host, port) = addresses.mqtt.split_once(':').unwrap();
    let start = |version: &str| {
        python::script(interpreter, "mqtt_publish.py")
            .args([host, port, version, &format!("m{version}"), &MESSAGES.to_string()])
            .spawn()
            .unwrap()
    };
    let (mut three, five) = (start("3"), start("5"));
    // At each so many acknowledgements the gateway is killed, with messages under way.
    let mut lines = BufReader::new(three.stdout.take().unwrap()).lines();
    let mut acknowledged = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        acknowledged = line.rsplit(' ').next().unwrap().parse().unwrap();
        if acknowledged % 30 == 15 {
            edge.kill();
            edge.restart().await;
        }
    }
    python::finish("the client of version 3.1.1", three).await;
    python::finish("the client of version 5", five).await;
    assert_eq!(acknowledged, MESSAGES);
    emptied(edge).await;
    for stream in ["m3", "m5"] {
        assert_eq!(stream_of(network, stream).await, (MESSAGES, 0), "{stream}");
    }
}

async fn events(edge: &Edge, interpreter: &Path, addresses: &Addresses, taken: &Arc<Mutex<Vec<String>>>) {
    let (host, port) = addresses.mqtt.split_once(':').unwrap();
    let mut listeners = Vec::new();
    for version in ["3", "5"] {
        let mut child = python::script(interpreter, "mqtt_events.py")
            .args([host, port, version, &EVENTS.to_string()])
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Only what commits after the subscription is promised to it.
        while let Some(line) = lines.next_line().await.unwrap() {
            if line == "subscribed" {
                break;
            }
        }
        listeners.push((child, lines));
    }
    // "Now" becomes a block when the gateway has asked a peer; its place is written then.
    eventually("the web hook has its place", Duration::from_secs(20), || async {
        let answer = http(
            Method::GET,
            &format!("{}/v1/subscriptions/erp", edge.url()),
            &Value::Null,
        )
        .await?;
        let view = json(&answer.body);
        if view["place"].is_string() {
            Ok(())
        } else {
            Err(view.to_string())
        }
    })
    .await;
    let stream = tokio::spawn({
        let url = edge.url();
        async move { read_stream(&url, usize::try_from(EVENTS).unwrap()).await }
    });
    violate(edge, 0, EVENTS / 2).await;
    edge.kill();
    edge.restart().await;
    violate(edge, EVENTS / 2, EVENTS / 2).await;
    emptied(edge).await;

    let streamed = stream.await.unwrap();
    assert_eq!(
        distinct(streamed.clone()),
        streamed,
        "a reader with its place hears nothing twice"
    );
    assert!(places(&streamed).is_sorted(), "{streamed:?}");
    for (child, mut lines) in listeners {
        let mut ids = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(event) = line.strip_prefix("event ") {
                let (topic, id) = event.split_once(' ').unwrap();
                assert_eq!(topic, "events/shipment/shipment.violation");
                ids.push(id.to_owned());
            }
        }
        python::finish("the listener", child).await;
        let ids = distinct(ids);
        assert_eq!(ids, streamed, "over MQTT the same events, in the same order");
    }
    eventually(
        "the web hook has every event",
        Duration::from_secs(40),
        || async {
            let ids = distinct(taken.lock().unwrap().clone());
            if ids == streamed {
                Ok(())
            } else {
                Err(format!("{ids:?} instead of {streamed:?}"))
            }
        },
    )
    .await;
}

async fn sealed(network: &Network, edge: &Edge, interpreter: &Path, addresses: &Addresses) {
    let config = edge.folder().join("config.yaml");
    let config = config.to_str().unwrap();
    let issued = network
        .cli(&["edge", "device-key", "add", DEVICE, "--config", config])
        .await
        .unwrap();
    let memory = edge.folder().join("device.json");
    std::fs::write(&memory, issued).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge-client/examples/sealed_device.py");
    let send = |content: Value| {
        let mut command = Command::new(interpreter);
        command
            .arg(&script)
            .arg(&memory)
            .arg(&addresses.sealed)
            .arg(content.to_string());
        command.kill_on_drop(true);
        async move { run(&mut command).await }
    };
    let reading = |sequence: u64| {
        value!({
            "stream": "sealed", "sequence": sequence, "time": format!("2026-01-14T00:{sequence:02}:00Z"),
            "values": { "temperature": 5 },
        })
    };
    let (done, answer) = send(reading(0)).await;
    assert!(done && answer.contains("\"taken\""), "{answer}");
    network
        .cli(&["edge", "device-key", "rotate", DEVICE, "--config", config])
        .await
        .unwrap();
    let before = json(&std::fs::read(&memory).unwrap());
    // Its answer brings the new key, which the next message is sealed with.
    for sequence in 1..4 {
        let (done, answer) = send(reading(sequence)).await;
        assert!(done, "{answer}");
    }
    let after = json(&std::fs::read(&memory).unwrap());
    assert_ne!(before["keyId"], after["keyId"]);
    edge.kill();
    edge.restart().await;
    let (done, answer) = send(value!([reading(4), reading(5)])).await;
    assert!(done, "{answer}");
    // A device that has lost its counter is told so, and its reading is not taken for an old one.
    let mut restored = json(&std::fs::read(&memory).unwrap());
    restored["counter"] = value!(restored["counter"].as_u64().unwrap() - 1);
    std::fs::write(&memory, restored.to_string()).unwrap();
    let (done, answer) = send(reading(6)).await;
    assert!(!done && answer.contains("\"replayed\""), "{answer}");
    let (done, answer) = send(reading(6)).await;
    assert!(done && answer.contains("\"taken\""), "{answer}");
    network
        .cli(&["edge", "device-key", "revoke", DEVICE, "--config", config])
        .await
        .unwrap();
    let (done, answer) = send(reading(7)).await;
    assert!(!done && answer.contains("ended the connection"), "{answer}");
    emptied(edge).await;
    assert_eq!(stream_of(network, "sealed").await, (7, 0));
}

async fn folder(network: &Network, edge: &Edge) {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("../network-configs/journeys/small.csv");
    let text = std::fs::read_to_string(small).unwrap();
    let excerpt: String = text.lines().take(41).map(|line| format!("{line}\n")).collect();
    let folder = edge.folder().join("in");
    std::fs::write(folder.join("journey.part"), excerpt).unwrap();
    std::fs::rename(folder.join("journey.part"), folder.join("journey.csv")).unwrap();
    eventually("the file is done", Duration::from_secs(20), || async {
        let done = folder.join("done/journey.csv");
        if done.exists() { Ok(()) } else { Err(edge.log()) }
    })
    .await;
    emptied(edge).await;
    let (readings, _) = stream_of(network, "journey-*").await;
    assert_eq!(readings, 40);
}
