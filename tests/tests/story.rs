//! The main story through the gateways of both companies: negotiate, ship, measure, deliver (MISSION A).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::time::Duration;

use selvedge_channel::verify::is_config_block;
use selvedge_sdk::{ChannelInfo, Checkpoint, EventsFrom, Gateway, Invocation, Seek, SeekStart};
use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER, ORG2_PEER, Options, case, checker, json, within};
use serde_json::{Value, json as value};

const BUYER: &str = "User1@org1.example.com";
const SUPPLIER: &str = "User1@org2.example.com";

fn call(chaincode: &str, function: &str, argument: &Value) -> Invocation {
    let text = argument
        .as_str()
        .map_or_else(|| argument.to_string(), str::to_owned);
    Invocation::new(CHANNEL, chaincode, function).arg(text)
}

/// Submits, and waits until every peer has it: the other party acts on its own peer next.
async fn submit(
    network: &Network,
    gateway: &Gateway,
    chaincode: &str,
    function: &str,
    argument: Value,
) -> Value {
    let done = gateway
        .submit_and_wait(&call(chaincode, function, &argument))
        .await;
    let done = done.unwrap_or_else(|e| panic!("{chaincode} {function}: {e}"));
    network.everywhere(done.block_number).await;
    json(&done.result)
}

async fn ask(gateway: &Gateway, chaincode: &str, function: &str, argument: Value) -> Value {
    let answer = gateway.evaluate(&call(chaincode, function, &argument)).await;
    json(&answer.unwrap_or_else(|e| panic!("{chaincode} {function}: {e}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn negotiate_ship_measure_deliver() {
    let network = Network::up(Options {
        authorities: true,
        ..Options::default()
    })
    .await;
    let buyer = network.gateway(BUYER);
    let supplier = network.gateway(SUPPLIER);

    case(
        "offer, counter-offer, acceptance",
        negotiate(&network, &buyer, &supplier),
    )
    .await;
    case("every step is an event, from any place on", events(&supplier)).await;
    case("a shipment with its journey", ship(&network, &buyer, &supplier)).await;
    case("a client that checks endorsements itself", directly(&network)).await;
    case("block streams of peers and orderers agree", streams(&network)).await;
    case(
        "nodes that go down and up again know everything",
        restart(&network),
    )
    .await;

    let chain = checker::check(&network).await;
    assert_eq!(chain.valid_calls("rfq", "offer"), 1);
    assert_eq!(chain.valid_calls("shipment", "recordReadings"), 3);
    network.down().await;
}

async fn negotiate(network: &Network, buyer: &Gateway, supplier: &Gateway) {
    let offer = value!({
        "id": "rfq-1", "item": "Stainless Steel Cutting", "price": 20, "quantity": "200", "currency": "USD",
        "conditions": [{ "field": "temperature", "min": "-25", "max": 25 }, { "field": "humidity", "min": 0, "max": "10" }],
        "target": "Org2MSP",
    });
    let rfq = submit(network, buyer, "rfq", "offer", offer).await;
    assert_eq!((&rfq["turn"], &rfq["price"]), (&value!("Org2MSP"), &value!("20")));
    let counter = value!({
        "id": "rfq-1", "changes": {
            "fields": [{ "field": "price", "newValue": "30" }], "conditions": [], "removedConditions": ["humidity"],
        }, "note": "steel went up",
    });
    let rfq = submit(network, supplier, "rfq", "counterOffer", counter).await;
    assert_eq!((&rfq["turn"], &rfq["price"]), (&value!("Org1MSP"), &value!("30")));
    let rfq = submit(network, buyer, "rfq", "accept", value!("rfq-1")).await;
    assert_eq!(rfq["state"], "accepted");

    for gateway in [buyer, supplier] {
        let history = ask(gateway, "rfq", "history", value!("rfq-1")).await;
        let steps: Vec<_> = history["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["action"].clone())
            .collect();
        assert_eq!(steps, ["offer", "counterOffer", "accept"]);
        let price = &history["history"][1]["changes"];
        assert!(
            price
                .as_array()
                .unwrap()
                .contains(&value!({ "field": "price", "from": "20", "to": "30" })),
            "{price}"
        );
    }
}

async fn events(supplier: &Gateway) {
    let mut all = supplier
        .chaincode_events(CHANNEL, "rfq", EventsFrom::Block(0))
        .await
        .unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(
            within("an event", Duration::from_secs(10), all.next())
                .await
                .unwrap(),
        );
    }
    let names: Vec<_> = seen.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["rfq.offered", "rfq.countered", "rfq.accepted"]);
    assert_eq!(json(&seen[2].payload)["state"], "accepted");

    let after_first = EventsFrom::After(Checkpoint::after_event(&seen[0]));
    let mut rest = supplier
        .chaincode_events(CHANNEL, "rfq", after_first)
        .await
        .unwrap();
    let next = within("an event", Duration::from_secs(10), rest.next())
        .await
        .unwrap();
    assert_eq!(next, seen[1], "a listener goes on behind its checkpoint");
}

async fn ship(network: &Network, buyer: &Gateway, supplier: &Gateway) {
    let device = network.enroll_device("org2.example.com", "tracker-1").await;
    let order =
        value!({ "rfq": "rfq-1", "id": "S-1", "devices": [{ "mspId": "Org2MSP", "id": "tracker-1" }] });
    let shipment = submit(network, supplier, "shipment", "createFromRfq", order).await;
    assert_eq!(
        shipment["conditions"][0]["field"], "temperature",
        "the conditions come along: {shipment}"
    );

    let mut violations = buyer
        .chaincode_events(CHANNEL, "shipment", EventsFrom::Now)
        .await
        .unwrap();
    let tracker = selvedge_sdk::ClientIdentity::from_msp_dir(&device.msp_id, &device.msp_dir).unwrap();
    let tracker = network.gateway_of(tracker, ORG2_PEER);
    let reading = |n: u32, temperature: &str| {
        value!({
            "sequence": n, "time": format!("2016-01-21T09:{n:02}:00Z"),
            "position": { "lat": format!("4{n}.5"), "lon": "8.1" }, "values": { "temperature": temperature },
        })
    };
    let batch = |readings: Vec<Value>| value!({ "shipment": "S-1", "stream": "t", "readings": readings });
    // Out of order, twice, and a too high one.
    submit(
        network,
        &tracker,
        "shipment",
        "recordReadings",
        batch(vec![reading(3, "18.0"), reading(1, "16.5")]),
    )
    .await;
    submit(
        network,
        &tracker,
        "shipment",
        "recordReadings",
        batch(vec![reading(2, "25.5"), reading(4, "17")]),
    )
    .await;
    let again = submit(
        network,
        &tracker,
        "shipment",
        "recordReadings",
        batch(vec![reading(3, "18.0")]),
    )
    .await;
    assert_eq!((&again["recorded"], &again["known"]), (&value!(0), &value!(1)));

    let event = within("the violation's event", Duration::from_secs(10), async {
        loop {
            let event = violations.next().await.unwrap();
            if event.name == "shipment.violation" {
                return event;
            }
        }
    })
    .await;
    assert_eq!(json(&event.payload)["count"], 1);

    let person = buyer
        .submit_and_wait(&call("shipment", "recordReadings", &batch(vec![reading(9, "1")])))
        .await;
    assert_eq!(
        person.unwrap_err().contract_refusal().unwrap().0,
        403,
        "only devices write readings"
    );

    let handover = value!({ "shipment": "S-1", "to": "Org1MSP" });
    submit(network, supplier, "shipment", "offerHandover", handover).await;
    submit(network, buyer, "shipment", "acceptHandover", value!("S-1")).await;
    let delivered = submit(network, buyer, "shipment", "deliver", value!("S-1")).await;
    assert_eq!(delivered["status"], "delivered", "{delivered}");

    let mut summaries = Vec::new();
    for host in [ORG1_PEER, ORG2_PEER] {
        summaries.push(
            ask(
                &network.gateway_at(BUYER, host),
                "shipment",
                "summary",
                value!("S-1"),
            )
            .await,
        );
    }
    assert_eq!(summaries[0], summaries[1], "both peers tell the same journey");
    let summary = &summaries[0];
    assert_eq!(summary["readings"], 4, "{summary}");
    let temperature = &summary["sensors"]["temperature"];
    assert_eq!(
        (&temperature["min"]["value"], &temperature["max"]["value"]),
        (&value!("16.5"), &value!("25.5"))
    );
    assert_eq!(summary["violationCount"], 1, "{summary}");
}

async fn directly(network: &Network) {
    let client = network.direct(BUYER).await;
    let put = Invocation::new(CHANNEL, "probe", "put").arg("direct").arg("42");
    client.submit_and_wait(&put).await.unwrap();
    let got = client
        .evaluate(&Invocation::new(CHANNEL, "probe", "get").arg("direct"))
        .await
        .unwrap();
    assert_eq!(got, "42");
    // A device whose own organisation's peer is away learns the channel's configuration from another one's.
    let buyer = network.identity(BUYER);
    for host in network.peers() {
        let info = ChannelInfo::fetch(&network.peer(&host), &buyer, CHANNEL).await;
        let info = info.unwrap_or_else(|e| panic!("{host}: {e}"));
        assert_eq!(info.orderers.len(), network.orderers().len(), "{host}");
        let block = network.peer(&host).config_block(&buyer, CHANNEL).await;
        let block = block.unwrap_or_else(|e| panic!("{host}: {e}"));
        assert!(is_config_block(&block), "{host}");
    }
}

async fn streams(network: &Network) {
    let height = network.settled().await;
    let user = network.identity(BUYER);
    for host in network.peers() {
        let seek = Seek {
            wait: true,
            ..Seek::one(height)
        };
        let peer = network.peer(&host);
        let mut filtered = peer
            .filtered_blocks(&user, CHANNEL, Seek::from(SeekStart::Oldest))
            .await
            .unwrap();
        for number in 0..height {
            let block = filtered.next().await.unwrap().unwrap();
            assert_eq!((block.number, block.channel_id.as_str()), (number, CHANNEL));
        }
        let mut next = peer.blocks(&user, CHANNEL, seek).await.unwrap();
        let waiting = tokio::spawn(async move { next.next().await });
        let put = Invocation::new(CHANNEL, "probe", "put")
            .arg(format!("seen by {host}"))
            .arg("1");
        let done = network.gateway(BUYER).submit_and_wait(&put).await.unwrap();
        let block = within("the next block", Duration::from_secs(10), waiting)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        if host == network.peers()[0] {
            assert_eq!(block.header.unwrap().number, done.block_number);
        }
    }
}

async fn restart(network: &Network) {
    network
        .cli(&["network", "down"])
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    network.bring_up().await;
    for host in [ORG1_PEER, ORG2_PEER] {
        let rfq = ask(&network.gateway_at(BUYER, host), "rfq", "get", value!("rfq-1")).await;
        assert_eq!(rfq["state"], "accepted");
    }
    network.still_works().await;
}
