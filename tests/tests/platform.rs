//! The platform's contracts on a real network, each used from two organisations: records are certified and checked against
//! every peer, work goes along a route, a tender becomes a deal, the deal a rating, an idea a reward, and a shipment
//! travels out as EPCIS and in again.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge_msp::{IssueRequest, PrivateKey, SubjectExtra, Usage};
use selvedge_sdk::{ClientIdentity, Invocation};
use selvedge_system_tests::crooked::now;
use selvedge_system_tests::{
    CHANNEL, Network, ORG1_PEER, ORG2_PEER, Options, case, checker, eventually, json as read,
};
use serde_json::{Value, json};

const ONE: &str = "User1@org1.example.com";
const TWO: &str = "User1@org2.example.com";
const THIRD: &str = "peer1.org1.example.com";
const LIMIT: Duration = Duration::from_secs(60);

/// An identity with attributes in its certificate.
fn with_attributes(
    network: &Network,
    domain: &str,
    name: &str,
    attributes: &[(&str, &str)],
) -> ClientIdentity {
    let key = PrivateKey::generate().unwrap();
    let request = IssueRequest {
        public_key: key.public_key().clone(),
        common_name: name.to_owned(),
        organizational_units: vec!["client".to_owned()],
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        attributes: attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        usage: Usage::Identity,
        not_before: now() - 60,
        not_after: now() + 86_400,
        subject_extra: SubjectExtra::default(),
    };
    let certificate = network.authority(domain).issue(&request).unwrap();
    ClientIdentity::new(&network.msp_id(domain), certificate.to_pem().as_bytes(), key).unwrap()
}

async fn submit(network: &Network, user: &str, chaincode: &str, function: &str, arg: &Value) -> Value {
    let arg = arg.as_str().map_or_else(|| arg.to_string(), str::to_owned);
    let call = Invocation::new(CHANNEL, chaincode, function).arg(arg);
    let done = network
        .gateway(user)
        .submit_and_wait(&call)
        .await
        .unwrap_or_else(|e| panic!("{chaincode} {function}: {e}"));
    read(&done.result)
}

/// What a contract refuses with, as status and sentence.
async fn refused(
    network: &Network,
    user: &str,
    chaincode: &str,
    function: &str,
    arg: &Value,
) -> (i32, String) {
    let call = Invocation::new(CHANNEL, chaincode, function).arg(arg.to_string());
    let error = network.gateway(user).submit_and_wait(&call).await.unwrap_err();
    let (status, message) = error
        .contract_refusal()
        .unwrap_or_else(|| panic!("{chaincode} {function}: {error}"));
    (status, message.to_owned())
}

async fn ask(network: &Network, user: &str, chaincode: &str, function: &str, arg: &str) -> Value {
    let call = Invocation::new(CHANNEL, chaincode, function).arg(arg.to_owned());
    read(&network.gateway(user).evaluate(&call).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_platform_works_between_two_organisations() {
    let options = Options {
        orderers: 1,
        platform: true,
        probe: false,
        ..Options::default()
    };
    let network = Network::up(options).await;
    case("records are certified and checked", certify(&network)).await;
    case("work goes along a route", process(&network)).await;
    case("a tender becomes a rated deal", tender(&network)).await;
    case("an idea is rewarded", ideas(&network)).await;
    case("a shipment travels as EPCIS", epcis(&network)).await;
    checker::check(&network).await;
    case("peers that differ are named", crooked_peers(&network)).await;
    network.down().await;
}

async fn certify(network: &Network) {
    let report = network.scratch().join("report.txt");
    let path = report.to_str().unwrap();
    std::fs::write(&report, "torque 12.5 Nm").unwrap();
    let said = network
        .cli(&["certify", "file", path, "--part", "4711", "--as", ONE])
        .await
        .unwrap();
    assert!(said.contains("is certified as revision 1 in block"), "{said}");
    let block = said
        .split("in block ")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .to_owned();
    let again = network
        .cli(&["certify", "file", path, "--part", "4711", "--as", ONE])
        .await
        .unwrap();
    assert!(again.contains("was certified with this hash already"), "{again}");

    // The other organisation checks the same file: both peers agree.
    let check = [
        "certify",
        "check",
        path,
        "--part",
        "4711",
        "--record",
        "report.txt",
        "--as",
        TWO,
    ];
    network.everywhere(block.parse().unwrap()).await;
    let said = network.cli(&check).await.unwrap();
    assert!(
        said.starts_with("current: ") && said.contains("3 of 3 peers say so"),
        "{said}"
    );
    let listed = network
        .cli(&["certify", "check", "--block", &block, "--as", TWO])
        .await
        .unwrap();
    assert!(
        listed.contains("part 4711, record report.txt, revision 1 (current)"),
        "{listed}"
    );

    std::fs::write(&report, "torque 99 Nm").unwrap();
    let said = network.cli(&check).await.unwrap_err();
    assert!(
        said.contains("differs: the record is certified with another hash"),
        "{said}"
    );
    let changed = network
        .cli(&[
            "certify",
            "file",
            path,
            "--part",
            "4711",
            "--changed",
            "--as",
            ONE,
        ])
        .await
        .unwrap();
    assert!(changed.contains("revision 2"), "{changed}");

    let table = network.scratch().join("records.csv");
    std::fs::write(
        &table,
        "part,record,torque\n4712,r1,12.5\n4712,r2,13\n4713,r1,11\n",
    )
    .unwrap();
    let table = table.to_str().unwrap();
    let said = network
        .cli(&["certify", "csv", table, "--as", TWO])
        .await
        .unwrap();
    assert!(
        said.contains("3 records certified, 0 were known already"),
        "{said}"
    );
    network.settled().await;
    let said = network
        .cli(&[
            "certify", "check", "--csv", table, "--owner", "Org2MSP", "--as", ONE,
        ])
        .await
        .unwrap();
    assert!(said.contains("3 of 3 rows are as they were certified"), "{said}");
}

async fn process(network: &Network) {
    let route = json!({"id":"pump","organizations":["Org2MSP"],"operations":[
        {"station":"press","task":"press","allowed":[{"mspId":"Org1MSP","attributes":{"station":"press"}}],
         "next":[{"station":"bench","task":"mount"}]},
        {"station":"bench","task":"mount","allowed":[{"mspId":"Org2MSP"}]}]});
    submit(network, ONE, "process", "defineRoute", &route).await;
    submit(
        network,
        ONE,
        "process",
        "openOrder",
        &json!({"id":"o1","route":"pump","item":"pump 80"}),
    )
    .await;
    submit(
        network,
        ONE,
        "process",
        "start",
        &json!({"order":"o1","products":["p1"]}),
    )
    .await;
    let press = json!({"product":"p1","station":"press","task":"press"});
    let (status, message) = refused(network, ONE, "process", "step", &press).await;
    assert_eq!(
        (status, message.as_str()),
        (
            403,
            "User1@org1.example.com of Org1MSP may not do task press at station press; allowed: Org1MSP with station=press"
        )
    );
    // The machine's certificate has the attribute.
    let machine = with_attributes(
        network,
        "org1.example.com",
        "press-1",
        &[("station", "press"), ("selvedge.device", "true")],
    );
    let call = Invocation::new(CHANNEL, "process", "step").arg(press.to_string());
    network
        .gateway_of(machine, ORG1_PEER)
        .submit_and_wait(&call)
        .await
        .unwrap();
    // The other organisation's peer may have the block a moment later.
    network.settled().await;
    let (status, message) = refused(network, TWO, "process", "step", &press).await;
    assert_eq!(
        (status, message.as_str()),
        (
            409,
            "product p1 waits at station bench for task mount, not at station press for task press"
        )
    );
    let mount =
        json!({"product":"p1","station":"bench","task":"mount","parts":[{"batch":"seal-3","quantity":4}]});
    let done = submit(network, TWO, "process", "step", &mount).await;
    assert_eq!(done["state"], "finished");
    let used = ask(network, TWO, "process", "whereUsed", r#"{"batch":"seal-3"}"#).await;
    assert_eq!(used["found"][0]["product"], "p1");
    let history = ask(network, TWO, "process", "history", "p1").await;
    assert_eq!(history["history"][1]["device"], true);
}

async fn tender(network: &Network) {
    let tender = json!({"id":"t1","item":"cutting","quantity":200,"currency":"EUR","suppliers":["Org2MSP"]});
    submit(network, ONE, "rfq", "openTender", &tender).await;
    let kept = network.scratch().join("t1.sealed.json");
    let kept = kept.to_str().unwrap();
    let seal = [
        "tender",
        "seal",
        "t1",
        "--offer",
        r#"{"price":"28","note":"from stock"}"#,
        "--keep",
        kept,
        "--as",
        TWO,
    ];
    network.cli(&seal).await.unwrap();
    let before = ask(network, ONE, "rfq", "tender", "t1").await;
    assert_eq!(before["suppliers"][0]["state"], "sealed");
    assert!(!before.to_string().contains("from stock"));
    let early = network
        .cli(&["tender", "reveal", kept, "--as", TWO])
        .await
        .unwrap_err();
    assert!(
        early.contains("nothing is revealed before it is closed"),
        "{early}"
    );
    // The contract itself tells a visitor of the buyer's organisation no more than that the tender exists.
    let view = [("selvedge.view", "public")];
    let visitor = network.gateway_of(
        with_attributes(network, "org1.example.com", "visitor", &view),
        ORG1_PEER,
    );
    let call = |function: &str| Invocation::new(CHANNEL, "rfq", function).arg("t1");
    let seen = read(&visitor.evaluate(&call("tender")).await.unwrap());
    assert_eq!(
        (&seen["view"], &seen["state"]),
        (&json!("public"), &json!("open"))
    );
    assert!(
        seen.get("item").is_none() && seen.get("suppliers").is_none(),
        "{seen}"
    );
    let error = visitor.submit_and_wait(&call("closeTender")).await.unwrap_err();
    assert_eq!(
        error.contract_refusal().map(|(status, _)| status),
        Some(403),
        "{error}"
    );
    submit(network, ONE, "rfq", "closeTender", &json!("t1")).await;
    network
        .cli(&["tender", "reveal", kept, "--as", TWO])
        .await
        .unwrap();
    let award = json!({"tender":"t1","supplier":"Org2MSP","rfq":"deal-1"});
    let awarded = submit(network, ONE, "rfq", "award", &award).await;
    assert_eq!(
        (&awarded["state"], &awarded["rfq"]),
        (&json!("awarded"), &json!("deal-1"))
    );

    let plan = json!({"id":"deal-1","milestones":[{"id":"m1","title":"all of it"}]});
    submit(network, ONE, "rfq", "proposeMilestones", &plan).await;
    submit(network, TWO, "rfq", "agreeMilestones", &json!("deal-1")).await;
    let rating = json!({"rfq":"deal-1","score":4,"criteria":{"punctuality":5}});
    let (status, message) = refused(network, ONE, "reputation", "rate", &rating).await;
    assert_eq!(
        (status, message.contains("RFQ deal-1 is not finished")),
        (409, true),
        "{message}"
    );
    let reached = json!({"id":"deal-1","milestone":"m1"});
    submit(network, TWO, "rfq", "reachMilestone", &reached).await;
    let end = submit(network, ONE, "rfq", "confirmMilestone", &reached).await;
    assert_eq!(end["finished"], true);
    submit(network, ONE, "reputation", "rate", &rating).await;
    let (status, _) = refused(network, ONE, "reputation", "rate", &rating).await;
    assert_eq!(status, 409);
    network.settled().await;
    let one = ask(network, ONE, "reputation", "aggregate", "Org2MSP").await;
    let two = ask(network, TWO, "reputation", "aggregate", "Org2MSP").await;
    assert_eq!(one, two);
    assert_eq!((&one["count"], &one["mean"]), (&json!(1), &json!("4.00")));
}

async fn ideas(network: &Network) {
    let idea = json!({"id":"i1","title":"Cold cutting","authors":[
        {"mspId":"Org1MSP","user":ONE,"share":60},{"mspId":"Org2MSP","user":TWO,"share":40}]});
    let proposed = submit(network, ONE, "ideas", "contribute", &idea).await;
    assert_eq!(proposed["state"], "proposed");
    let agreed = submit(network, TWO, "ideas", "agreeShares", &json!("i1")).await;
    assert_eq!(agreed["state"], "agreed");
    let reward = json!({"id":"r1","idea":"i1","amount":"99.99","currency":"EUR"});
    let reward = submit(network, ONE, "ideas", "reward", &reward).await;
    let amounts: Vec<&str> = reward["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["amount"].as_str().unwrap())
        .collect();
    assert_eq!(amounts, ["59.99", "40.00"]);
    let receipt = json!({"idea":"i1","reward":"r1"});
    submit(network, TWO, "ideas", "confirmReward", &receipt).await;
}

async fn epcis(network: &Network) {
    for id in ["s1", "s2"] {
        let shipment = json!({"id":id,"goods":"steel","consignee":"Org2MSP","conditions":[{"field":"temperature","max":25}]});
        submit(network, ONE, "shipment", "create", &shipment).await;
    }
    let gateway = with_attributes(
        network,
        "org1.example.com",
        "gateway",
        &[("selvedge.gateway", "true")],
    );
    let gateway = network.gateway_of(gateway, ORG1_PEER);
    let readings: Vec<Value> = (0..30)
        .map(|n| {
            json!({"sequence":n,"time":format!("2026-01-01T00:{n:02}:00Z"),"position":{"lat":51,"lon":n / 10},
            "values":{"temperature":format!("{}.25", n)}})
        })
        .collect();
    let batch = json!({"shipment":"s1","device":"tracker-1","stream":"main","readings":readings});
    let record = |batch: String| Invocation::new(CHANNEL, "shipment", "recordReadings").arg(batch);
    gateway.submit_and_wait(&record(batch.to_string())).await.unwrap();

    let file = network.scratch().join("s1.json");
    let path = file.to_str().unwrap();
    network
        .cli(&["shipment", "export", "s1", "--out", path, "--as", ONE])
        .await
        .unwrap();
    let document = read(&std::fs::read(&file).unwrap());
    let events = document["epcisBody"]["eventList"].as_array().unwrap();
    assert_eq!(events.len(), 4, "the creation, and three places");
    let dry = [
        "shipment",
        "import",
        path,
        "--shipment",
        "s2",
        "--dry-run",
        "--as",
        ONE,
    ];
    let batches = network.cli(&dry).await.unwrap();
    for batch in batches.lines() {
        gateway.submit_and_wait(&record(batch.to_owned())).await.unwrap();
    }
    let one = ask(network, ONE, "shipment", "summary", "s1").await;
    let two = ask(network, ONE, "shipment", "summary", "s2").await;
    assert_eq!(two["readings"], 30);
    assert_eq!(one["violationCount"], two["violationCount"]);
    assert_eq!(
        one["sensors"]["temperature"]["max"]["value"],
        two["sensors"]["temperature"]["max"]["value"]
    );
    // Who is no device may not record, and is told so.
    let refused = network
        .cli(&["shipment", "import", path, "--shipment", "s2", "--as", ONE])
        .await
        .unwrap_err();
    assert!(
        refused.contains("only enrolled devices may record readings"),
        "{refused}"
    );
}

/// A peer that does not answer, and one that has fallen behind, are named; the majority is believed.
async fn crooked_peers(network: &Network) {
    network.settled().await;
    network.kill(THIRD);
    let report = network.scratch().join("late.txt");
    std::fs::write(&report, "written while a peer was away").unwrap();
    let path = report.to_str().unwrap();
    let said = network
        .cli(&["certify", "file", path, "--part", "4714", "--as", ONE])
        .await
        .unwrap();
    let block: u64 = said
        .split("in block ")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    for host in [ORG1_PEER, ORG2_PEER] {
        eventually("the block is there", LIMIT, || async {
            let height = network.peer_height(host).await?;
            if height > block {
                Ok(())
            } else {
                Err(format!("{host} has {height} blocks"))
            }
        })
        .await;
    }
    let check = [
        "certify",
        "check",
        path,
        "--part",
        "4714",
        "--patience",
        "5",
        "--as",
        TWO,
    ];
    let said = network.cli(&check).await.unwrap();
    assert!(
        said.starts_with("current: ") && said.contains("2 of 3 peers say so"),
        "{said}"
    );
    assert!(
        said.contains(&format!("WARNING: {THIRD} of Org1MSP does not answer")),
        "{said}"
    );

    // It comes back, and cannot catch up because there is no orderer.
    network.kill("orderer0.example.com");
    network.start(THIRD);
    eventually("the peer answers again", LIMIT, || network.peer_height(THIRD)).await;
    let said = network.cli(&check).await.unwrap();
    assert!(
        said.starts_with("current: ") && said.contains("2 of 3 peers say so"),
        "{said}"
    );
    let named =
        format!("WARNING: {THIRD} of Org1MSP answers 'unknown' with 0 certificates, and has {block} blocks");
    assert!(said.contains(&named), "{said}");

    // With two of three gone there is no majority, and nothing is claimed.
    network.kill(THIRD);
    network.kill(ORG2_PEER);
    let mut check = check;
    check[check.len() - 1] = ONE;
    let said = network.cli(&check).await.unwrap_err();
    assert!(said.contains("no answer has a majority of the 3 peers"), "{said}");
}
