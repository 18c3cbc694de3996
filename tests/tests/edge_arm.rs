//! The gateway's build for ARM machines, under emulation, against a network of this machine: it enrols, keeps what it is
//! given through an outage and kills, and brings each reading to the ledger once.
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
    CHANNEL, Device, Edge, EdgeProgram, Network, ORG1_PEER, ORG2_PEER, Options, Proxy, case, checker, http,
    json,
};
use serde_json::{Value, json as value};

const DOMAIN: &str = "org1.example.com";
const SHIPPER: &str = "User1@org1.example.com";
/// Readings for each of: before, during and after the outage.
const PART: u64 = 40;

fn batch(shipment: &str, first: u64) -> Value {
    (first..first + PART)
        .map(|sequence| {
            value!({
                "channel": CHANNEL, "chaincode": "shipment", "function": "recordReading",
                "args": [{
                    "shipment": shipment, "stream": "t", "sequence": sequence,
                    "time": format!("2016-01-21T{:02}:{:02}:00Z", sequence / 60, sequence % 60),
                    "values": { "temperature": "7.5" },
                }],
                "source": "t", "idempotencyKey": format!("{shipment}/t/{sequence}"),
            })
        })
        .collect()
}

async fn hand_over(edge: &Edge, shipment: &str, first: u64) {
    let url = format!("{}/v1/transactions", edge.url());
    let answer = http(Method::POST, &url, &batch(shipment, first)).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status.as_u16(), 202, "{text}");
}

async fn holds(edge: &Edge, open: u64) {
    edge.holds(open, Duration::from_secs(60)).await;
}

/// Enrols with the ARM program, as on the Pi.
async fn enroll(network: &Network, program: &EdgeProgram, name: &str) -> Device {
    let register = ["device", "register", "--org", DOMAIN, "--show-secret", name];
    let secret = network.cli(&register).await.unwrap();
    let secret = secret.trim();
    let authority = network.certificate_authority(DOMAIN);
    let (roots, msp) = (
        network.tls_root_file(DOMAIN),
        network.scratch().join("devices").join(name).join("msp"),
    );
    let (roots, msp_dir) = (roots.to_string_lossy(), msp.to_string_lossy());
    let arguments = [
        "enroll",
        "--ca-url",
        &authority.url,
        "--ca-name",
        &authority.name,
        "--tls-roots",
        &roots,
        "--id",
        name,
        "--msp",
        &msp_dir,
    ];
    program
        .run(&arguments, &[("SELVEDGE_SECRET", secret)])
        .await
        .unwrap();
    Device {
        name: name.to_owned(),
        msp_id: network.msp_id(DOMAIN),
        msp_dir: msp,
    }
}

/// What one asks on the Pi when something seems wrong.
async fn doctor(program: &EdgeProgram, edge: &Edge) {
    let config = edge.config().to_string_lossy().into_owned();
    let said = program.run(&["doctor", "--config", &config], &[]).await.unwrap();
    assert!(said.contains("clock") && said.contains("certificate"), "{said}");
    let log = edge.log_file();
    let out = log.with_file_name("diag.tar.gz");
    let (log, file) = (log.to_string_lossy(), out.to_string_lossy());
    let arguments = ["diag", "--config", &config, "--out", &file, "--log", &log];
    program.run(&arguments, &[]).await.unwrap();
    assert!(std::fs::metadata(&out).unwrap().len() > 1000);
}

async fn life_of_a_gateway(network: &Network, name: &str, program: &EdgeProgram) {
    let device = enroll(network, program, &format!("pi-{name}")).await;
    let shipment = format!("S-{name}");
    let create = value!({ "id": shipment, "goods": "steel", "consignee": "Org2MSP", "conditions": [] });
    let create = Invocation::new(CHANNEL, "shipment", "create").arg(create.to_string());
    let created = network.gateway(SHIPPER).submit_and_wait(&create).await.unwrap();
    network.everywhere(created.block_number).await;

    let first = Proxy::start(&network.address(ORG1_PEER)).await;
    let second = Proxy::start(&network.address(ORG2_PEER)).await;
    let proxies = [(ORG1_PEER, first.address()), (ORG2_PEER, second.address())];
    let edge = Edge::start_as(program.clone(), network, &device, &proxies).await;

    hand_over(&edge, &shipment, 0).await;
    holds(&edge, 0).await;

    first.cut();
    second.cut();
    hand_over(&edge, &shipment, PART).await;
    edge.kill();
    edge.restart().await;
    holds(&edge, PART).await;
    first.restore();
    second.restore();

    // In the middle of sending.
    hand_over(&edge, &shipment, 2 * PART).await;
    edge.kill();
    edge.restart().await;
    holds(&edge, 0).await;
    doctor(program, &edge).await;

    let ask = Invocation::new(CHANNEL, "shipment", "summary").arg(shipment.as_str());
    let summary = json(&network.gateway(SHIPPER).evaluate(&ask).await.unwrap());
    assert_eq!(summary["readings"], 3 * PART, "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arm_build_enrols_buffers_and_submits() {
    let programs = EdgeProgram::arm();
    if programs.is_empty() {
        println!("SELVEDGE_ARM=none: left out");
        return;
    }
    let options = Options {
        orderers: 1,
        authorities: true,
        probe: false,
        ..Options::default()
    };
    let network = Network::up(options).await;
    for (name, program) in &programs {
        case(name, life_of_a_gateway(&network, name, program)).await;
    }
    let chain = checker::check(&network).await;
    let committed = chain.valid_calls("shipment", "recordReading") as u64;
    let wanted = 3 * PART * programs.len() as u64;
    assert_eq!(
        committed, wanted,
        "each accepted reading is one valid transaction"
    );
    network.down().await;
}
