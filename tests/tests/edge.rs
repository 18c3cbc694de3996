//! The edge gateway: whatever it has accepted is on the ledger exactly once, through cuts of the network and kills of its
//! process.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::time::Duration;

use selvedge_comm::Method;
use selvedge_sdk::Invocation;
use selvedge_system_tests::{
    CHANNEL, Edge, Network, ORG1_PEER, ORG2_PEER, Options, Proxy, case, checker, eventually, http, json,
};
use serde_json::{Value, json as value};

const SHIPPER: &str = "User1@org1.example.com";
const READINGS: u64 = 400;
const BATCH: u64 = 20;

fn request(sequence: u64) -> Value {
    value!({
        "channel": CHANNEL, "chaincode": "shipment", "function": "recordReading",
        "args": [{
            "shipment": "S-1", "stream": "t", "sequence": sequence,
            "time": format!("2016-01-21T{:02}:{:02}:00Z", sequence / 60, sequence % 60),
            "values": { "temperature": format!("{}.5", sequence % 30) },
        }],
        "source": "t", "idempotencyKey": format!("S-1/t/{sequence}"),
    })
}

/// Hands a batch over until the gateway has taken all of it.
async fn hand_over(edge: &Edge, first: u64) {
    let batch: Value = (first..first + BATCH).map(request).collect();
    eventually(
        "the edge gateway takes the readings",
        Duration::from_secs(30),
        || async {
            let answer = http(Method::POST, &format!("{}/v1/transactions", edge.url()), &batch).await?;
            match answer.status.as_u16() {
                202 => Ok(()),
                other => Err(format!("HTTP {other}: {}", String::from_utf8_lossy(&answer.body))),
            }
        },
    )
    .await;
}

async fn emptied(edge: &Edge) {
    edge.holds(0, Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_is_committed_exactly_once() {
    let options = Options {
        orderers: 1,
        authorities: true,
        probe: true,
        ..Options::default()
    };
    let network = Network::up(options).await;
    let device = network.enroll_device("org1.example.com", "tracker-1").await;
    let create = value!({
        "id": "S-1", "goods": "steel", "consignee": "Org2MSP",
        "conditions": [{ "field": "temperature", "max": 25 }],
    });
    let create = Invocation::new(CHANNEL, "shipment", "create").arg(create.to_string());
    let created = network.gateway(SHIPPER).submit_and_wait(&create).await.unwrap();
    network.everywhere(created.block_number).await;

    let first = Proxy::start(&network.address(ORG1_PEER)).await;
    let second = Proxy::start(&network.address(ORG2_PEER)).await;
    let proxies = [(ORG1_PEER, first.address()), (ORG2_PEER, second.address())];
    let edge = Edge::start(&network, &device, &proxies).await;

    case("readings through cuts and kills", async {
        let mut sent = 0;
        let mut round = 0_u32;
        while sent < READINGS {
            hand_over(&edge, sent).await;
            sent += BATCH;
            round += 1;
            match round % 10 {
                1 => edge.kill(),
                2 => {
                    first.cut();
                    second.cut();
                }
                4 => first.stall(),
                6 => {
                    first.half_close();
                    second.half_close();
                }
                8 => first.delay(Duration::from_millis(30)),
                9 => edge.kill(),
                _ => {
                    first.restore();
                    second.restore();
                    first.delay(Duration::ZERO);
                }
            }
            if round % 10 == 1 || round % 10 == 9 {
                edge.restart().await;
            }
        }
        first.restore();
        second.restore();
        first.delay(Duration::ZERO);
        emptied(&edge).await;
    })
    .await;

    case("a request that comes again changes nothing", async {
        hand_over(&edge, 0).await;
        edge.kill();
        edge.restart().await;
        hand_over(&edge, BATCH).await;
        emptied(&edge).await;
    })
    .await;

    case("a long outage", async {
        first.cut();
        second.cut();
        hand_over(&edge, READINGS).await;
        edge.kill();
        edge.restart().await;
        eventually("the edge gateway notices", Duration::from_secs(20), || async {
            let status = edge.status().await?;
            if status["uplink"]["connected"] == false {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .await;
        assert_eq!(edge.status().await.unwrap()["open"], BATCH);
        first.restore();
        second.restore();
        emptied(&edge).await;
    })
    .await;

    case("refusals are told to the caller", refusals(&edge)).await;
    let memory = edge.memory_kib();
    println!("edge gateway: {memory} KiB resident");
    assert!(memory < 30 * 1024, "the edge gateway takes {memory} KiB");

    let ask = Invocation::new(CHANNEL, "shipment", "summary").arg("S-1");
    let summary = json(&network.gateway(SHIPPER).evaluate(&ask).await.unwrap());
    assert_eq!(summary["readings"], READINGS + BATCH, "{summary}");
    assert_eq!(
        summary["streams"][0]["missing"].as_u64().unwrap_or(0),
        0,
        "{summary}"
    );
    let chain = checker::check(&network).await;
    let committed = chain.valid_calls("shipment", "recordReading") as u64;
    assert_eq!(
        committed,
        READINGS + BATCH,
        "each accepted reading is one valid transaction"
    );
    network.down().await;
}

async fn refusals(edge: &Edge) {
    let url = format!("{}/v1/transactions", edge.url());
    for (body, word) in [
        (value!({ "channel": CHANNEL }), "chaincode"),
        (
            value!({ "channel": "", "chaincode": "shipment", "function": "f" }),
            "channel",
        ),
        (value!("nonsense"), "request"),
    ] {
        let answer = http(Method::POST, &url, &body).await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status.as_u16(), 400, "{body}: {text}");
        assert!(text.contains(word), "{body}: {text}");
    }
    // The contract's refusal comes back with its words: there is no such shipment.
    let mut unknown = request(1);
    unknown["args"][0]["shipment"] = value!("S-404");
    unknown["idempotencyKey"] = value!("unknown shipment");
    let answer = http(Method::POST, &url, &unknown).await.unwrap();
    assert_eq!(answer.status.as_u16(), 202);
    let id = json(&answer.body)["id"].as_u64().unwrap();
    let view = edge.reaches(id, "refused", Duration::from_secs(20)).await;
    assert!(view["reason"].as_str().unwrap().contains("S-404"), "{view}");
    assert_eq!(
        http(Method::GET, &format!("{url}/999999"), &Value::Null)
            .await
            .unwrap()
            .status
            .as_u16(),
        404
    );
}
