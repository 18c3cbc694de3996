//! The edge gateway is killed again and again, at any moment, while the network behind it is cut, stalled, slowed, half-closed
//! and corrupted: what it has accepted is on the ledger, in one valid transaction each.
//!
//! `SELVEDGE_EDGE_KILLS` sets how many kills there are in each mode; 40 if unset. A thousand take about ten minutes.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use selvedge_comm::Method;
use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::Invocation;
use selvedge_system_tests::{
    CHANNEL, Edge, Network, ORG1_PEER, ORG2_PEER, Options, Proxy, case, checker, http, json,
};
use serde_json::{Value, json as value};

const SHIPPER: &str = "User1@org1.example.com";
/// Readings of the backlog whose draining is measured.
const BACKLOG: u64 = 3000;

fn kills() -> u64 {
    std::env::var("SELVEDGE_EDGE_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(40)
}

fn request(stream: &str, sequence: u64, ordered: bool) -> Value {
    value!({
        "channel": CHANNEL, "chaincode": "shipment", "function": "recordReading",
        "args": [{
            "shipment": "S-1", "stream": stream, "sequence": sequence,
            "time": "2026-01-21T08:00:00Z", "values": { "temperature": format!("{}.5", sequence % 30) },
        }],
        "source": stream, "idempotencyKey": format!("S-1/{stream}/{sequence}"), "ordered": ordered,
    })
}

struct World {
    rng: SmallRng,
    proxies: [Proxy; 2],
    edge: Edge,
    stream: String,
    /// Readings that were handed over and not yet acknowledged; they are handed over again.
    open: Vec<Value>,
    next: u64,
    accepted: u64,
}

impl World {
    /// Another weather for one of the links.
    fn turn_weather(&mut self) {
        let proxy = &self.proxies[self.rng.random_range(0..2)];
        proxy.delay(Duration::ZERO);
        match self.rng.random_range(0..10) {
            0 => proxy.cut(),
            1 => proxy.stall(),
            2 => proxy.half_close(),
            3 => proxy.corrupt(),
            4 => {
                proxy.restore();
                proxy.delay(Duration::from_millis(20));
            }
            _ => proxy.restore(),
        }
    }

    /// Hands over what is open and some new readings; what is not acknowledged stays open.
    async fn hand_over(&mut self, new: u64) {
        for _ in 0..new {
            let ordered = self.next.is_multiple_of(7);
            let stream = if ordered {
                format!("{}-ordered", self.stream)
            } else {
                self.stream.clone()
            };
            self.open.push(request(&stream, self.next, ordered));
            self.next += 1;
        }
        let url = format!("{}/v1/transactions", self.edge.url());
        let batch = Value::from(self.open.clone());
        let Ok(answer) = http(Method::POST, &url, &batch).await else {
            return;
        };
        assert_eq!(
            answer.status.as_u16(),
            202,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        self.accepted += self.open.len() as u64;
        self.open.clear();
    }

    async fn kill_and_restart(&mut self) {
        let life = Duration::from_millis(self.rng.random_range(0..500));
        let new = self.rng.random_range(1..12);
        self.turn_weather();
        // The kill comes at any moment: while readings are handed over, or while they are sent.
        let working = async {
            self.hand_over(new).await;
            std::future::pending::<()>().await;
        };
        let _ = tokio::time::timeout(life, working).await;
        self.edge.kill();
        self.edge.restart().await;
    }

    fn clear_up(&self) {
        for proxy in &self.proxies {
            proxy.restore();
            proxy.delay(Duration::ZERO);
        }
    }

    async fn emptied(&self) {
        self.edge.holds(0, Duration::from_secs(80)).await;
    }
}

async fn storm(network: &Network, mode: &str) -> (u64, u64) {
    let device = network
        .enroll_device("org1.example.com", &format!("tracker-{mode}"))
        .await;
    let proxies = [
        Proxy::start(&network.address(ORG1_PEER)).await,
        Proxy::start(&network.address(ORG2_PEER)).await,
    ];
    let settings = value!({
        "uplink": {
            "mode": mode, "deadline": "3s", "in_flight": 8,
            "merge": [{
                "chaincode": "shipment", "function": "recordReading", "into": "recordReadings", "most": 100,
            }],
        },
    });
    let peers = [
        (ORG1_PEER, proxies[0].address()),
        (ORG2_PEER, proxies[1].address()),
    ];
    let edge = Edge::start_with(network, mode, &device, &peers, &settings).await;
    let mut world = World {
        rng: SmallRng::seed_from_u64(mode.len() as u64),
        proxies,
        edge,
        stream: mode.to_owned(),
        open: Vec::new(),
        next: 0,
        accepted: 0,
    };
    let count = kills();
    let start = Instant::now();
    let mut done = 0;
    while done < count {
        // Some at a time, so that a long run has its cases too.
        let some = (count - done).min(100);
        let until = done + some;
        case(&format!("{mode}: kills {done} to {until}"), async {
            while done < until {
                world.kill_and_restart().await;
                done += 1;
            }
            world.clear_up();
            while !world.open.is_empty() {
                world.hand_over(0).await;
            }
            world.emptied().await;
        })
        .await;
    }
    println!(
        "{mode}: {count} kills in {} s, {} readings accepted",
        start.elapsed().as_secs(),
        world.accepted
    );
    case(&format!("{mode}: a backlog"), async {
        for proxy in &world.proxies {
            proxy.cut();
        }
        let all = world.accepted + BACKLOG;
        while world.accepted < all {
            world.hand_over(100).await;
        }
        world.clear_up();
        let start = Instant::now();
        world.emptied().await;
        println!(
            "{mode}: a backlog of {BACKLOG} readings is drained after {} ms; {} KiB resident",
            start.elapsed().as_millis(),
            world.edge.memory_kib()
        );
    })
    .await;
    let status = world.edge.status().await.unwrap();
    assert_eq!(status["damage"], value!([]), "{status}");
    assert_eq!(status["buffer"]["refused"], 0, "{status}");
    (world.accepted, world.next)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_committed_once_through_kills() {
    let options = Options {
        orderers: 1,
        authorities: true,
        probe: false,
        ..Options::default()
    };
    let network = Network::up(options).await;
    let create = value!({
        "id": "S-1", "goods": "steel", "consignee": "Org2MSP",
        "conditions": [{ "field": "temperature", "max": 25 }],
    });
    let create = Invocation::new(CHANNEL, "shipment", "create").arg(create.to_string());
    let created = network.gateway(SHIPPER).submit_and_wait(&create).await.unwrap();
    network.everywhere(created.block_number).await;

    let mut accepted = 0;
    for mode in ["gateway", "direct"] {
        let (taken, handed_over) = storm(&network, mode).await;
        assert_eq!(taken, handed_over, "everything was taken in the end");
        accepted += taken;
    }

    let ask = Invocation::new(CHANNEL, "shipment", "summary").arg("S-1");
    let summary = json(&network.gateway(SHIPPER).evaluate(&ask).await.unwrap());
    assert_eq!(summary["readings"], accepted, "{summary}");

    let chain = checker::check(&network).await;
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    let mut transactions = 0;
    for recorded in &chain.transactions {
        let many = recorded.function == "recordReadings";
        if recorded.code != TxValidationCode::Valid || !(many || recorded.function == "recordReading") {
            continue;
        }
        transactions += 1;
        let argument = json(&recorded.arguments[0]);
        let list = argument.as_array().cloned().unwrap_or(vec![argument]);
        for reading in list {
            *times
                .entry(format!("{}/{}", reading["stream"], reading["sequence"]))
                .or_default() += 1;
        }
    }
    let twice: Vec<_> = times.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "in more than one valid transaction: {twice:?}");
    assert_eq!(
        times.len() as u64,
        accepted,
        "each accepted reading is in a valid transaction"
    );
    println!("{accepted} readings accepted, each in one of {transactions} valid transactions");
    network.down().await;
}
