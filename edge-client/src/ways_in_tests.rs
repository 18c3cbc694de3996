//! The ways in, each against a gateway from its files, without a network behind it: what it takes stays in its buffer.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mqtt_proto::{Pid, QoS, QosPid, TopicFilter, TopicName, v3, v5};
use selvedge_comm::{ClientTls, HttpAnswer, HttpClient, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::testing::write_identity;
use crate::{Edge, EdgeConfig, KeyFile, hash_password};

/// A gateway with its folder.
struct Gateway {
    folder: tempfile::TempDir,
    edge: Edge,
    http: HttpClient,
}

impl Gateway {
    /// Starts a gateway whose configuration has `more` beside what every one has.
    async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_identity(&folder.path().join("msp"));
        // Nobody listens on port 1.
        let text = format!(
            "id: edge0\nlisten: '127.0.0.1:0'\nmsp_id: Org1MSP\nmsp_dir: msp\ndata_dir: data\n\
             uplink: {{peers: [{{address: '127.0.0.1:1', msp_id: Org1MSP}}]}}\n{more}\n"
        );
        std::fs::write(folder.path().join("edge.yaml"), text).unwrap();
        let edge = Self::run(folder.path()).await;
        Self {
            folder,
            edge,
            http: HttpClient::new(ClientTls::default()),
        }
    }

    async fn run(folder: &Path) -> Edge {
        let config = EdgeConfig::read(&folder.join("edge.yaml")).unwrap();
        Edge::start(config).await.unwrap()
    }

    async fn restart(self) -> Self {
        self.edge.stop().await.unwrap();
        let edge = Self::run(self.folder.path()).await;
        Self { edge, ..self }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> HttpAnswer {
        let url = format!("http://{}{path}", self.edge.address());
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.http.request(method, &url, headers, body).await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.call(Method::POST, path, &[], body).await;
        let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        (answer.status.as_u16(), json)
    }

    /// Requests in the buffer.
    async fn open(&self) -> u64 {
        let answer = self.call(Method::GET, "/v1/status", &[], &Value::Null).await;
        let status: Value = serde_json::from_slice(&answer.body).unwrap();
        status["open"].as_u64().unwrap()
    }

    async fn until_open(&self, count: u64) {
        while self.open().await != count {
            tokio::task::yield_now().await;
        }
    }
}

const ROUTE: &str = "readings: [{channel: trade, chaincode: shipment, function: recordReading}]";

fn reading(sequence: u64, time: &str, temperature: f64) -> Value {
    json!({ "source": "box-1", "stream": "t", "sequence": sequence, "time": time, "values": { "temperature": temperature } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rest_takes_readings_and_says_why_not() {
    let gateway = Gateway::start(
        "readings: [{source: 'box-*', channel: trade, chaincode: shipment, function: recordReading}]",
    )
    .await;
    let one = reading(1, "2026-01-12T06:05:00Z", 4.5);
    let (status, answer) = gateway.post("/v1/readings", &one).await;
    assert_eq!(status, 202, "{answer}");
    let (status, again) = gateway.post("/v1/readings", &one).await;
    assert_eq!(
        (status, &again["id"]),
        (202, &answer["id"]),
        "the same reading is the same request"
    );
    let list = json!([reading(2, "2026-01-12T06:05:01Z", 5.0), { "source": "truck", "values": { "t": 1 } }]);
    let (status, answer) = gateway.post("/v1/readings", &list).await;
    assert_eq!(status, 207, "{answer}");
    assert!(
        answer["readings"][1]["error"]
            .as_str()
            .unwrap()
            .contains("no route")
    );
    for (body, word) in [
        (json!({ "source": "truck", "values": { "t": 1 } }), "no route"),
        (json!({ "source": "box-1" }), "needs values"),
        (
            json!({ "values": { "position": 1 }, "source": "box-1" }),
            "'position'",
        ),
        (json!("x"), "not a reading"),
    ] {
        let (status, answer) = gateway.post("/v1/readings", &body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(word), "{answer}");
    }
    gateway.until_open(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_buffer_and_a_fast_source_are_told_to_wait() {
    let full = Gateway::start(&format!("{ROUTE}\nbuffer: {{max_entries: 1}}")).await;
    let (status, _) = full
        .post("/v1/readings", &reading(1, "2026-01-12T06:05:00Z", 1.0))
        .await;
    assert_eq!(status, 202);
    for path in ["/v1/readings", "/v1/transactions"] {
        let body = if path == "/v1/readings" {
            reading(2, "2026-01-12T06:05:01Z", 1.0)
        } else {
            json!({ "channel": "c", "chaincode": "c", "function": "f" })
        };
        let answer = full.call(Method::POST, path, &[], &body).await;
        assert_eq!(answer.status.as_u16(), 429, "{path}");
        let pause: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!(pause >= 1);
    }

    let fast = Gateway::start(&format!(
        "{ROUTE}\ndevices: {{rate: {{per_second: 0.01, burst: 1}}}}"
    ))
    .await;
    let (status, _) = fast
        .post("/v1/readings", &reading(1, "2026-01-12T06:05:00Z", 1.0))
        .await;
    assert_eq!(status, 202);
    let second = fast
        .call(
            Method::POST,
            "/v1/readings",
            &[],
            &reading(2, "2026-01-12T06:05:01Z", 1.0),
        )
        .await;
    assert_eq!(second.status.as_u16(), 429);
    let pause: u64 = second.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((90..=100).contains(&pause), "{pause}");
    fast.until_open(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_log_in_where_they_must() {
    let hash = hash_password("secret").unwrap();
    let gateway = Gateway::start(&format!(
        "{ROUTE}\ndevices: {{rest: {{login: true}}, sources: [{{id: box-1, password: '{hash}'}}, \
         {{id: erp, password: '{hash}', transactions: true}}]}}"
    ))
    .await;
    // box-1:secret, box-1:wrong, erp:secret
    let (right, wrong, erp) = (
        "Basic Ym94LTE6c2VjcmV0",
        "Basic Ym94LTE6d3Jvbmc=",
        "Basic ZXJwOnNlY3JldA==",
    );
    let own = reading(1, "2026-01-12T06:05:00Z", 1.0);
    let others = json!({ "source": "truck", "values": { "t": 1 } });
    let request = json!({ "channel": "c", "chaincode": "c", "function": "f" });
    for (path, login, body, expected) in [
        ("/v1/readings", None, &own, 401),
        ("/v1/readings", Some(wrong), &own, 401),
        ("/v1/readings", Some("Bearer x"), &own, 401),
        ("/v1/readings", Some(right), &own, 202),
        ("/v1/readings", Some(right), &others, 403),
        ("/v1/transactions", Some(right), &request, 403),
        ("/v1/transactions", Some(erp), &request, 202),
        ("/v1/subscriptions", None, &request, 401),
    ] {
        let headers: Vec<(&str, &str)> = login.iter().map(|l| ("authorization", *l)).collect();
        let answer = gateway.call(Method::POST, path, &headers, body).await;
        assert_eq!(answer.status.as_u16(), expected, "{path} {login:?} {body}");
    }

    let far = Gateway::start(&format!("{ROUTE}\ndevices: {{addresses: ['10.0.0.0/8']}}")).await;
    let (status, answer) = far.post("/v1/readings", &own).await;
    assert_eq!(status, 403, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_is_that_of_the_server() {
    let gateway = Gateway::start(ROUTE).await;
    let answer = gateway
        .call(Method::GET, "/v1/openapi.json", &[], &Value::Null)
        .await;
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    let mut calls = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = match method.as_str() {
                "get" => Method::GET,
                "post" => Method::POST,
                "delete" => Method::DELETE,
                _ => continue,
            };
            calls += 1;
            // An empty body, and an id that nobody has: the answer must be one that the description names.
            let answer = gateway
                .call(method.clone(), &path.replace("{id}", "0"), &[], &Value::Null)
                .await;
            let status = answer.status.as_u16().to_string();
            let named = operation["responses"].as_object().unwrap();
            assert!(named.contains_key(&status), "{method} {path} answered {status}");
            assert_ne!(status, "405", "{path}");
        }
    }
    assert_eq!(calls, 11);
    // What the server answers has the members that the description demands.
    let (_, request) = gateway
        .post(
            "/v1/transactions",
            &json!({ "channel": "c", "chaincode": "c", "function": "f" }),
        )
        .await;
    for member in document["components"]["schemas"]["Request"]["required"]
        .as_array()
        .unwrap()
    {
        assert!(request.get(member.as_str().unwrap()).is_some(), "{request}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_outlives_a_restart() {
    let rules = "readings: [{channel: trade, chaincode: shipment, function: recordReading, \
                 rules: {temperature: {rule: window, length: 1h}}}]";
    let mut gateway = Gateway::start(rules).await;
    for minute in 0..10 {
        let time = format!("2026-01-12T06:{minute:02}:00Z");
        let (status, answer) = gateway.post("/v1/readings", &reading(minute, &time, 4.0)).await;
        assert_eq!((status, &answer), (202, &json!({ "kept": true })));
        if minute == 5 {
            gateway = gateway.restart().await;
        }
    }
    assert_eq!(gateway.open().await, 0);
    gateway = gateway.restart().await;
    let (status, _) = gateway
        .post("/v1/readings", &reading(60, "2026-01-12T07:00:00Z", 9.0))
        .await;
    assert_eq!(status, 202);
    gateway.until_open(1).await;
    // The journal is applied again at the next start: the summary is not there twice.
    gateway = gateway.restart().await;
    let late = reading(61, "2026-01-12T06:30:00Z", 4.0);
    let (_, answer) = gateway.post("/v1/readings", &late).await;
    assert!(answer["id"].is_u64(), "its window is closed: {answer}");
    gateway.until_open(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_keep_the_order_of_a_source_that_wants_it() {
    let gateway = Gateway::start(
        "readings: [{channel: trade, chaincode: shipment, function: recordReading, ordered: true, \
         rules: {temperature: {rule: outside, min: 2, max: 8}}}]",
    )
    .await;
    // The first one is noted, since it leaves the band; the second one changes nothing that the rules remember.
    let list = json!([
        reading(1, "2026-01-12T06:05:00Z", 9.0),
        reading(2, "2026-01-12T06:05:01Z", 9.5)
    ]);
    let (status, answer) = gateway.post("/v1/readings", &list).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["readings"], json!([{ "kept": true }, { "id": 2 }]));
    gateway.until_open(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_on_where_it_was_left_and_a_new_one_under_its_name_is_new() {
    let config = |entries: u32| {
        format!(
            "{ROUTE}\nbuffer: {{max_entries: {entries}}}\n\
             devices: {{folders: [{{path: in, source: tracker, every: 20ms}}]}}"
        )
    };
    let mut gateway = Gateway::start(&config(3)).await;
    let folder = gateway.folder.path().join("in");
    let until = |path: PathBuf| async move {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    let table = |first: u32| {
        let rows = (first..first + 5).map(|n| format!("2026-01-12T06:05:{n:02}Z,{n}\n"));
        format!("time,temperature\n{}", rows.collect::<String>())
    };
    std::fs::write(folder.join(".trip"), table(0)).unwrap();
    std::fs::rename(folder.join(".trip"), folder.join("trip.csv")).unwrap();
    gateway.until_open(3).await;
    let noted = gateway.data().join("folders");
    while !std::fs::read(&noted).is_ok_and(|bytes| bytes.windows(8).any(|w| w == b"\"rows\":3")) {
        tokio::task::yield_now().await;
    }
    // The first rows are long forgotten when there is room for the others.
    gateway.edge.stop().await.unwrap();
    std::fs::remove_dir_all(gateway.folder.path().join("data/buffer")).unwrap();
    let yaml = gateway.folder.path().join("edge.yaml");
    let text = std::fs::read_to_string(&yaml).unwrap();
    std::fs::write(&yaml, text.replace("max_entries: 3", "max_entries: 99")).unwrap();
    gateway.edge = Gateway::run(gateway.folder.path()).await;
    until(folder.join("done/trip.csv")).await;
    assert_eq!(gateway.open().await, 2);

    std::fs::write(folder.join(".trip"), table(10)).unwrap();
    std::fs::rename(folder.join(".trip"), folder.join("trip.csv")).unwrap();
    until(folder.join("done/1-trip.csv")).await;
    assert_eq!(gateway.open().await, 7, "other rows are other readings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_stream_that_many_files_share_are_known_by_their_time() {
    let gateway = Gateway::start(&format!(
        "{ROUTE}\ndevices: {{folders: [{{path: in, source: tracker, stream: trips, every: 20ms}}]}}"
    ))
    .await;
    let folder = gateway.folder.path().join("in");
    let until = |path: PathBuf| async move {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    for (name, text) in [
        (
            "a.csv",
            "time,t\n2026-01-12T06:05:00Z,1\n2026-01-12T06:06:00Z,2\n",
        ),
        (
            "b.csv",
            "time,t\n2026-01-12T06:06:00Z,2\n2026-01-12T06:07:00Z,3\n",
        ),
    ] {
        std::fs::write(folder.join(".new"), text).unwrap();
        std::fs::rename(folder.join(".new"), folder.join(name)).unwrap();
        until(folder.join("done").join(name)).await;
    }
    assert_eq!(gateway.open().await, 3);
    std::fs::write(
        folder.join(".new"),
        "time,t\n2026-01-12T06:08:00Z,1\n2026-01-12T06:08:00Z,2\n",
    )
    .unwrap();
    std::fs::rename(folder.join(".new"), folder.join("c.csv")).unwrap();
    until(folder.join("failed/c.csv")).await;
    let reason = std::fs::read_to_string(folder.join("failed/c.csv.reason.txt")).unwrap();
    assert!(reason.contains("rows 1 and 2"), "{reason}");
    assert_eq!(gateway.open().await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_taken_whole_or_put_aside_with_the_reason() {
    let gateway = Gateway::start(&format!(
        "{ROUTE}\ndevices: {{folders: [{{path: in, source: tracker, every: 20ms}}]}}"
    ))
    .await;
    let folder = gateway.folder.path().join("in");
    let drop_file = |name: &str, text: &str| {
        let temporary = folder.join(format!(".{name}"));
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(&temporary, folder.join(name)).unwrap();
    };
    let until = |path: PathBuf| async move {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    drop_file(
        "trip.csv",
        "time,temperature\n2026-01-12T06:05:00Z,4.5\n2026-01-12T06:06:00Z,4.6\n",
    );
    until(folder.join("done/trip.csv")).await;
    assert_eq!(gateway.open().await, 2);
    // The same again is nothing new.
    drop_file(
        "trip.csv",
        "time,temperature\n2026-01-12T06:05:00Z,4.5\n2026-01-12T06:06:00Z,4.6\n",
    );
    until(folder.join("done/1-trip.csv")).await;
    assert_eq!(gateway.open().await, 2);
    drop_file(
        "bad.csv",
        "time,temperature\n2026-01-12T06:05:00Z,4.5\nyesterday,4.6\n",
    );
    until(folder.join("failed/bad.csv")).await;
    let reason = std::fs::read_to_string(folder.join("failed/bad.csv.reason.txt")).unwrap();
    assert!(
        reason.contains("row 2") && reason.contains("yesterday"),
        "{reason}"
    );
    assert_eq!(gateway.open().await, 2, "nothing of a bad file is taken");
    drop_file("more.json", r#"[{"values":{"t":1}},{"values":{"t":2}}]"#);
    until(folder.join("done/more.json")).await;
    assert_eq!(gateway.open().await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sensors_are_read_below_a_root() {
    let folder = tempfile::tempdir().unwrap();
    let chip = folder.path().join("class/hwmon/hwmon0");
    std::fs::create_dir_all(&chip).unwrap();
    std::fs::write(chip.join("name"), "probe\n").unwrap();
    std::fs::write(chip.join("temp1_input"), "21500\n").unwrap();
    let gateway = Gateway::start(&format!(
        "{ROUTE}\ndevices: {{sys_root: '{}', sensors: [{{stream: s, every: 1h, chip: probe, values: {{t: {{channel: temp1}}}}}}]}}",
        folder.path().display()
    ))
    .await;
    gateway.until_open(1).await;
}

/// A client of MQTT that does one thing after the other.
struct Mqtt {
    socket: TcpStream,
    five: bool,
}

impl Mqtt {
    async fn open(gateway: &Gateway) -> TcpStream {
        TcpStream::connect(gateway.edge.mqtt_addresses()[0])
            .await
            .unwrap()
    }

    /// Connects with version 5 and gives the reason code.
    async fn five(gateway: &Gateway, client: &str, login: Option<(&str, &str)>, expiry: u32) -> (Self, u8) {
        let mut connect = v5::Connect::new(client.into(), 60);
        connect.clean_start = false;
        connect.properties.session_expiry_interval = Some(expiry);
        connect.username = login.map(|(user, _)| user.into());
        connect.password = login.map(|(_, password)| Bytes::copy_from_slice(password.as_bytes()));
        let mut this = Self {
            socket: Self::open(gateway).await,
            five: true,
        };
        this.send(v5::Packet::from(connect).encode().unwrap().as_ref())
            .await;
        let answer = this.receive().await.unwrap();
        (this, answer[3])
    }

    async fn three(gateway: &Gateway, client: &str) -> (Self, u8) {
        let connect = v3::Packet::Connect(v3::Connect::new(client.into(), 60));
        let mut this = Self {
            socket: Self::open(gateway).await,
            five: false,
        };
        this.send(connect.encode().unwrap().as_ref()).await;
        let answer = this.receive().await.unwrap();
        (this, answer[3])
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The next packet; none when the connection has ended.
    async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 2];
        self.socket.read_exact(&mut packet).await.ok()?;
        // Nothing here is longer than 127 bytes but events.
        assert!(packet[1] < 128);
        let mut rest = vec![0; usize::from(packet[1])];
        self.socket.read_exact(&mut rest).await.ok()?;
        packet.extend(rest);
        Some(packet)
    }

    async fn publish(&mut self, qos: u8, id: u16, topic: &str, payload: &str) {
        let qos_pid = match qos {
            0 => QosPid::Level0,
            1 => QosPid::Level1(Pid::try_from(id).unwrap()),
            _ => QosPid::Level2(Pid::try_from(id).unwrap()),
        };
        let (topic, payload) = (
            TopicName::try_from(topic).unwrap(),
            Bytes::copy_from_slice(payload.as_bytes()),
        );
        let bytes = if self.five {
            v5::Packet::from(v5::Publish::new(qos_pid, topic, payload))
                .encode()
                .unwrap()
        } else {
            v3::Packet::Publish(v3::Publish::new(qos_pid, topic, payload))
                .encode()
                .unwrap()
        };
        self.send(bytes.as_ref()).await;
    }

    /// Reason code of the next acknowledgement, whose kind and id must be these.
    async fn acknowledged(&mut self, kind: u8, id: u16) -> u8 {
        let packet = self.receive().await.expect("an acknowledgement");
        assert_eq!(
            (packet[0] >> 4, u16::from_be_bytes([packet[2], packet[3]])),
            (kind, id),
            "{packet:?}"
        );
        packet.get(4).copied().unwrap_or_default()
    }
}

const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBCOMP: u8 = 7;

fn mqtt(more: &str) -> String {
    format!("{ROUTE}\ndevices: {{mqtt: {{listen: '127.0.0.1:0', anonymous: true}}{more}}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_acknowledges_what_is_stored() {
    let gateway = Gateway::start(&mqtt("")).await;
    let (mut five, code) = Mqtt::five(&gateway, "c5", None, 0).await;
    assert_eq!(code, 0);
    let (mut three, code) = Mqtt::three(&gateway, "c3").await;
    assert_eq!(code, 0);
    five.publish(1, 7, "readings/box-1/t", r#"{"sequence":1,"values":{"t":1}}"#)
        .await;
    assert_eq!(five.acknowledged(PUBACK, 7).await, 0);
    assert_eq!(gateway.open().await, 1);
    three
        .publish(
            1,
            8,
            "readings/box-1",
            r#"[{"sequence":1,"values":{"t":1}},{"sequence":2,"values":{"t":2}}]"#,
        )
        .await;
    three.acknowledged(PUBACK, 8).await;
    assert_eq!(gateway.open().await, 3);
    three.publish(1, 9, "values/box-1/t/temperature", "21.5").await;
    three.acknowledged(PUBACK, 9).await;
    five.publish(0, 0, "readings/box-1", r#"{"sequence":3,"values":{"t":1}}"#)
        .await;
    gateway.until_open(5).await;
    five.publish(
        1,
        10,
        "transactions",
        r#"{"channel":"c","chaincode":"c","function":"f"}"#,
    )
    .await;
    assert_eq!(five.acknowledged(PUBACK, 10).await, 0);
    assert_eq!(gateway.open().await, 6);
    // Many at once are acknowledged in their order.
    for id in 20..60 {
        five.publish(
            1,
            id,
            "readings/box-2",
            &format!(r#"{{"sequence":{id},"values":{{"t":1}}}}"#),
        )
        .await;
    }
    for id in 20..60 {
        assert_eq!(five.acknowledged(PUBACK, id).await, 0);
    }
    assert_eq!(gateway.open().await, 46);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_says_why_not_in_version_five_and_ends_in_three() {
    let gateway = Gateway::start(&mqtt("")).await;
    let (mut five, _) = Mqtt::five(&gateway, "c5", None, 0).await;
    for (id, topic, payload, expected) in [
        (1, "elsewhere", "1", 0x90),
        (2, "readings/box-1", "nonsense", 0x99),
        (
            3,
            "readings/box-1",
            r#"{"source":"other","values":{"t":1}}"#,
            0x99,
        ),
    ] {
        five.publish(1, id, topic, payload).await;
        assert_eq!(five.acknowledged(PUBACK, id).await, expected, "{topic} {payload}");
    }
    let (mut three, _) = Mqtt::three(&gateway, "c3").await;
    three.publish(1, 1, "elsewhere", "1").await;
    assert_eq!(
        three.receive().await,
        None,
        "not acknowledged, the connection ends"
    );
    // Garbage ends a connection and nothing else.
    five.send(b"\x30\x05\x00\x09abc").await;
    let end = five.receive().await.expect("a DISCONNECT");
    assert_eq!((end[0], end[2]), (0xe0, 0x81));

    let full = Gateway::start(&format!("{}\nbuffer: {{max_entries: 1}}", mqtt(""))).await;
    let (mut five, _) = Mqtt::five(&full, "c5", None, 0).await;
    five.publish(1, 1, "readings/box-1", r#"{"sequence":1,"values":{"t":1}}"#)
        .await;
    assert_eq!(five.acknowledged(PUBACK, 1).await, 0);
    five.publish(1, 2, "readings/box-1", r#"{"sequence":2,"values":{"t":1}}"#)
        .await;
    assert_eq!(five.acknowledged(PUBACK, 2).await, 0x97, "quota exceeded");
    five.publish(2, 3, "readings/box-1", r#"{"sequence":3,"values":{"t":1}}"#)
        .await;
    assert_eq!(five.acknowledged(PUBREC, 3).await, 0x97);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_takes_a_message_of_qos_two_once_through_a_restart() {
    let mut gateway = Gateway::start(&mqtt("")).await;
    let reading = r#"{"values":{"t":1}}"#;
    let (mut five, _) = Mqtt::five(&gateway, "c5", None, 600).await;
    five.publish(2, 5, "readings/box-1", reading).await;
    assert_eq!(five.acknowledged(PUBREC, 5).await, 0);
    assert_eq!(gateway.open().await, 1);
    drop(five);
    gateway = gateway.restart().await;
    // The client has not seen the PUBREC: it sends the message again. It has neither a time nor a number.
    let (mut five, _) = Mqtt::five(&gateway, "c5", None, 600).await;
    five.publish(2, 5, "readings/box-1", reading).await;
    assert_eq!(five.acknowledged(PUBREC, 5).await, 0);
    assert_eq!(gateway.open().await, 1, "it is the same message");
    five.send(&[0x62, 2, 0, 5]).await;
    assert_eq!(five.acknowledged(PUBCOMP, 5).await, 0);
    five.send(&[0x62, 2, 0, 5]).await;
    assert_eq!(
        five.acknowledged(PUBCOMP, 5).await,
        0x92,
        "nothing is under this id any more"
    );
    five.publish(2, 5, "readings/box-1", reading).await;
    assert_eq!(five.acknowledged(PUBREC, 5).await, 0);
    assert_eq!(gateway.open().await, 2, "the id serves another message now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_clients_log_in_and_take_over() {
    let hash = hash_password("secret").unwrap();
    let gateway = Gateway::start(&format!(
        "{ROUTE}\ndevices: {{mqtt: {{listen: '127.0.0.1:0'}}, sources: [{{id: box-1, password: '{hash}'}}]}}"
    ))
    .await;
    assert_eq!(
        Mqtt::five(&gateway, "c", Some(("box-1", "wrong")), 0).await.1,
        0x86
    );
    assert_eq!(Mqtt::five(&gateway, "c", None, 0).await.1, 0x87);
    let (mut first, code) = Mqtt::five(&gateway, "c", Some(("box-1", "secret")), 600).await;
    assert_eq!(code, 0);
    first
        .publish(1, 1, "readings/truck", r#"{"values":{"t":1}}"#)
        .await;
    assert_eq!(
        first.acknowledged(PUBACK, 1).await,
        0x87,
        "not for another source"
    );
    first
        .publish(
            1,
            2,
            "transactions",
            r#"{"channel":"c","chaincode":"c","function":"f"}"#,
        )
        .await;
    assert_eq!(
        first.acknowledged(PUBACK, 2).await,
        0x87,
        "not whole transactions"
    );
    first.publish(1, 3, "readings", r#"{"values":{"t":1}}"#).await;
    assert_eq!(first.acknowledged(PUBACK, 3).await, 0);

    let options = v5::SubscriptionOptions::new(QoS::Level2);
    let filter = TopicFilter::try_from("events/#").unwrap();
    let subscribe = v5::Subscribe::new(Pid::try_from(9).unwrap(), vec![(filter, options)]);
    first
        .send(v5::Packet::from(subscribe).encode().unwrap().as_ref())
        .await;
    let suback = first.receive().await.unwrap();
    assert_eq!(
        (suback[0], suback[5]),
        (0x90, 1),
        "QoS 1 is what events come with"
    );

    let mut connect = v5::Connect::new("c".into(), 60);
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(600);
    connect.username = Some("box-1".into());
    connect.password = Some(Bytes::from_static(b"secret"));
    let mut second = Mqtt {
        socket: Mqtt::open(&gateway).await,
        five: true,
    };
    second
        .send(v5::Packet::from(connect).encode().unwrap().as_ref())
        .await;
    let end = first.receive().await.expect("a DISCONNECT");
    assert_eq!((end[0], end[2]), (0xe0, 0x8e), "session taken over");
    let connack = second.receive().await.unwrap();
    assert_eq!((connack[2], connack[3]), (1, 0), "the session is present");
    second.send(&[0xc0, 0]).await;
    assert_eq!(second.receive().await.unwrap(), [0xd0, 0]);
}

mod sealed {
    use super::*;
    use crate::sealed::testing::{Device, Heard};

    async fn gateway() -> (Gateway, Device) {
        let gateway = Gateway::start(&format!(
            "{ROUTE}\ndevices: {{sealed: {{listen: '127.0.0.1:0'}}}}"
        ))
        .await;
        let issued = KeyFile::in_folder(&gateway.data()).add("box-1").unwrap();
        let device = Device::new(&issued);
        (gateway, device)
    }

    async fn connect(gateway: &Gateway) -> TcpStream {
        TcpStream::connect(gateway.edge.sealed_address().unwrap())
            .await
            .unwrap()
    }

    const READING: &[u8] = br#"{"values":{"t":1}}"#;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_message_is_taken_once_whoever_sends_it_again() {
        let (mut gateway, mut device) = gateway().await;
        let mut socket = connect(&gateway).await;
        let frame = device.seal("box-1", 1, READING);
        let heard = device.exchange(&mut socket, &frame).await.unwrap();
        assert_eq!((heard.status, heard.counter), (0, 1));
        assert_eq!(gateway.open().await, 1);
        assert_eq!(
            device.exchange(&mut socket, &frame).await.unwrap().status,
            1,
            "known"
        );
        gateway = gateway.restart().await;
        let mut socket = connect(&gateway).await;
        assert_eq!(
            device.exchange(&mut socket, &frame).await.unwrap().status,
            1,
            "still known"
        );
        for _ in 0..70 {
            let frame = device.seal("box-1", 1, READING);
            assert_eq!(device.exchange(&mut socket, &frame).await.unwrap().status, 0);
        }
        let heard = device.exchange(&mut socket, &frame).await.unwrap();
        assert_eq!(
            (heard.status, heard.highest),
            (4, 71),
            "too old to know, and not taken"
        );
        assert_eq!(gateway.open().await, 71);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_not_sealed_by_the_device_is_not_answered() {
        let (gateway, mut device) = gateway().await;
        let other = KeyFile::in_folder(&gateway.data()).add("box-2").unwrap();
        let mut other = Device::new(&other);
        let good = device.seal("box-1", 1, READING);
        let mut changed = good.clone();
        *changed.last_mut().unwrap() ^= 1;
        let mut unknown = good.clone();
        unknown[4] ^= 1;
        for (what, frame) in [
            ("changed", changed),
            ("unknown key", unknown),
            ("another device's id", other.seal("box-1", 1, READING)),
            ("no frame", vec![0, 3, 1, 2, 3]),
        ] {
            let mut socket = connect(&gateway).await;
            assert!(device.exchange(&mut socket, &frame).await.is_none(), "{what}");
        }
        assert_eq!(gateway.open().await, 0);
        let mut socket = connect(&gateway).await;
        assert_eq!(device.exchange(&mut socket, &good).await.unwrap().status, 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keys_are_renewed_on_the_way_and_revoked_at_once() {
        let (gateway, mut device) = gateway().await;
        let keys = KeyFile::in_folder(&gateway.data());
        let mut socket = connect(&gateway).await;
        let hello = device.seal("box-1", 0, b"");
        let heard = device.exchange(&mut socket, &hello).await.unwrap();
        assert!(heard.next_key.is_none() && heard.time > 1_600_000_000_000);
        keys.rotate("box-1").unwrap();
        let frame = device.seal("box-1", 1, READING);
        let heard: Heard = device.exchange(&mut socket, &frame).await.unwrap();
        let mut renewed = device.renewed(heard.next_key.expect("a new key"));
        let frame = renewed.seal("box-1", 1, br#"{"sequence":1,"values":{"t":1}}"#);
        assert_eq!(renewed.exchange(&mut socket, &frame).await.unwrap().status, 0);
        let states: Vec<String> = keys.list().unwrap().into_iter().map(|k| k.state).collect();
        assert_eq!(states, ["old", "current"]);
        keys.revoke("box-1").unwrap();
        let frame = renewed.seal("box-1", 1, READING);
        assert!(renewed.exchange(&mut socket, &frame).await.is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn refusals_and_content_for_the_owner() {
        let (gateway, mut device) = gateway().await;
        let mut socket = connect(&gateway).await;
        let bad = device.seal("box-1", 1, b"nonsense");
        let heard = device.exchange(&mut socket, &bad).await.unwrap();
        assert_eq!(heard.status, 2);
        assert!(heard.text.contains("not a reading"), "{}", heard.text);
        let opaque = device.seal("box-1", 3, b"\x00\x0e{\"sequence\":5}only its owner reads this");
        assert_eq!(device.exchange(&mut socket, &opaque).await.unwrap().status, 0);
        let transaction = device.seal("box-1", 2, br#"{"channel":"c","chaincode":"c","function":"f"}"#);
        assert_eq!(
            device.exchange(&mut socket, &transaction).await.unwrap().status,
            2,
            "readings only"
        );
        assert_eq!(gateway.open().await, 1);
    }
}
