//! The negotiation as its parties see it: MISSION's JSON shapes, turns, refusals, history and events.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use selvedge_chaincode::Contract;
use selvedge_chaincode::testing::{MockLedger, TestCaller};
use selvedge_chaincode_rfq::RfqContract;
use serde_json::{Value, json};

const OFFER: &str = r#"{"id":"rfq-1","item":"Stainless Steel Cutting","price":20,"quantity":"200","currency":"USD",
    "conditions":[{"field":"humidity","min":"0","max":10}],"target":"Org2MSP"}"#;

fn ledger() -> MockLedger {
    let mut ledger = MockLedger::new();
    ledger.install::<RfqContract>("rfq");
    ledger
}

fn buyer() -> TestCaller {
    TestCaller::new("Org1MSP", "buyer")
}

fn supplier() -> TestCaller {
    TestCaller::new("Org2MSP", "supplier")
}

fn ask(ledger: &mut MockLedger, function: &str, arg: &str) -> Value {
    let bytes = ledger
        .evaluate(&TestCaller::new("Org3MSP", "auditor"), "rfq", function, &[arg])
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn refused(ledger: &mut MockLedger, who: &TestCaller, function: &str, arg: &str) -> (i32, String) {
    let error = ledger.submit(who, "rfq", function, &[arg]).unwrap_err();
    (error.status(), error.message().to_owned())
}

#[test]
fn the_stainless_steel_story() {
    let mut ledger = ledger();
    let offered = ledger.submit(&buyer(), "rfq", "offer", &[OFFER]).unwrap();
    let (name, payload) = offered.event.clone().unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(name, "rfq.offered");
    assert_eq!(
        (&payload["id"], &payload["turn"]),
        (&json!("rfq-1"), &json!("Org2MSP"))
    );

    let counter = r#"{"id":"rfq-1","changes":{"fields":[{"field":"price","newValue":"30.00"}],
        "conditions":[{"field":"temperature","max":25}],"removedConditions":["humidity"]},"note":"steel went up"}"#;
    let countered = ledger
        .submit(&supplier(), "rfq", "counterOffer", &[counter])
        .unwrap();
    let (name, payload) = countered.event.clone().unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (name.as_str(), &payload["turn"], &payload["note"]),
        ("rfq.countered", &json!("Org1MSP"), &json!("steel went up"))
    );

    let accepted = ledger.submit(&buyer(), "rfq", "accept", &["rfq-1"]).unwrap();
    assert_eq!(accepted.event.unwrap().0, "rfq.accepted");

    let rfq = ask(&mut ledger, "get", "rfq-1");
    assert_eq!(rfq["state"], "accepted");
    assert_eq!(rfq["turn"], Value::Null);
    assert_eq!((&rfq["price"], &rfq["quantity"]), (&json!("30"), &json!("200")));
    assert_eq!(rfq["conditions"], json!([{"field":"temperature","max":"25"}]));

    let history = ask(&mut ledger, "history", "rfq-1");
    let steps = history["history"].as_array().unwrap();
    assert_eq!(steps.len(), 3);
    assert_eq!(steps[0]["changes"].as_array().unwrap().len(), 5);
    assert_eq!(
        steps[1]["changes"],
        json!([
            {"field":"price","from":"20","to":"30"},
            {"condition":"humidity","from":{"field":"humidity","min":"0","max":"10"},"to":null},
            {"condition":"temperature","from":null,"to":{"field":"temperature","max":"25"}},
        ])
    );
    assert_eq!(
        (&steps[1]["by"], &steps[1]["user"], &steps[1]["txId"]),
        (&json!("Org2MSP"), &json!("supplier"), &json!(countered.tx_id))
    );
    assert_eq!(steps[2]["at"], "2026-01-01T00:00:02Z");
}

#[test]
fn only_the_party_whose_turn_it_is_may_answer() {
    let mut ledger = ledger();
    ledger.submit(&buyer(), "rfq", "offer", &[OFFER]).unwrap();
    for (function, arg) in [
        ("accept", "rfq-1"),
        ("reject", "rfq-1"),
        ("counterOffer", r#"{"id":"rfq-1","note":"please"}"#),
    ] {
        let (status, message) = refused(&mut ledger, &buyer(), function, arg);
        assert_eq!(status, 409);
        assert!(message.contains("but of Org2MSP"), "{message}");
        let (status, message) = refused(&mut ledger, &TestCaller::new("Org3MSP", "carol"), function, arg);
        assert_eq!(status, 403);
        assert!(message.contains("only Org1MSP and Org2MSP"), "{message}");
        let device = supplier().attribute("selvedge.device", "true");
        assert_eq!(refused(&mut ledger, &device, function, arg).0, 403);
    }
    ledger
        .submit(
            &supplier(),
            "rfq",
            "reject",
            &[r#"{"id":"rfq-1","note":"too cheap"}"#],
        )
        .unwrap();
    let (status, message) = refused(&mut ledger, &buyer(), "accept", "rfq-1");
    assert_eq!(
        (status, message.contains("already rejected")),
        (409, true),
        "{message}"
    );
    assert_eq!(refused(&mut ledger, &buyer(), "accept", "rfq-2").0, 404);
    assert_eq!(refused(&mut ledger, &buyer(), "offer", OFFER).0, 409);
}

#[test]
fn wrong_json_is_answered_with_the_field() {
    let mut ledger = ledger();
    let with = |field: &str, value: Value| {
        let mut offer: Value = serde_json::from_str(OFFER).unwrap();
        offer[field] = value;
        offer.to_string()
    };
    let without = |field: &str| {
        let mut offer: Value = serde_json::from_str(OFFER).unwrap();
        offer.as_object_mut().unwrap().remove(field);
        offer.to_string()
    };
    for (arg, named) in [
        (without("price"), "offer.price is missing"),
        (without("target"), "offer.target is missing"),
        (with("price", json!("cheap")), "offer.price must be a decimal"),
        (with("price", json!(-1)), "offer.price must not be negative"),
        (with("quantity", json!("0")), "offer.quantity must be greater"),
        (with("item", json!("")), "offer.item must not be empty"),
        (with("target", json!("Org1MSP")), "offer.target must be the other"),
        (
            with("conditions", json!([{"field":"x"}])),
            "offer.conditions[0] needs min or max",
        ),
        (
            with("conditions", json!([{"field":"x","min":2,"max":1}])),
            "offer.conditions[0]: min 2",
        ),
        (
            with("conditions", json!([{"field":"x","min":"a"}])),
            "offer.conditions[0].min must be",
        ),
        (
            with("conditions", json!([{"field":"x","min":1},{"field":"x","min":1}])),
            "offer.conditions[1]: there is already",
        ),
        (with("id", json!("a b")), "offer.id must consist"),
        (with("turn", json!("Org2MSP")), "turn cannot be negotiated"),
        (with("extra", json!({"a":1})), "offer.extra must be"),
        ("{".to_owned(), "offer is not JSON"),
        ("[]".to_owned(), "offer must be a JSON object"),
    ] {
        let (status, message) = refused(&mut ledger, &buyer(), "offer", &arg);
        assert_eq!(
            (status, message.contains(named)),
            (400, true),
            "{message} / {named}"
        );
    }
    ledger.submit(&buyer(), "rfq", "offer", &[OFFER]).unwrap();
    for (changes, named) in [
        (
            json!({"fields":[{"field":"price"}]}),
            "fields[0].newValue is missing",
        ),
        (
            json!({"fields":[{"field":"target","newValue":"Org3MSP"}]}),
            "target cannot be negotiated",
        ),
        (
            json!({"fields":[{"field":"price","newValue":1},{"field":"price","newValue":2}]}),
            "price is changed twice",
        ),
        (
            json!({"fields":[{"field":"colour","newValue":""}]}),
            "has no field colour",
        ),
        (
            json!({"removedConditions":["pressure"]}),
            "no condition for pressure",
        ),
        (
            json!({"conditions":[{"field":"humidity","max":1}],"removedConditions":[{"field":"humidity"}]}),
            "both set and removed",
        ),
        (json!({"field":[]}), "counterOffer.changes.field is unknown"),
        (
            json!({"fields":[{"field":"price","newValue":"20.0"}]}),
            "changes nothing",
        ),
        (json!({}), "changes nothing"),
    ] {
        let arg = json!({"id":"rfq-1","changes":changes}).to_string();
        let (status, message) = refused(&mut ledger, &supplier(), "counterOffer", &arg);
        assert_eq!(
            (status, message.contains(named)),
            (400, true),
            "{message} / {named}"
        );
    }
    assert_eq!(refused(&mut ledger, &buyer(), "offr", OFFER).0, 400);
    assert!(ledger.submit(&buyer(), "rfq", "accept", &[]).is_err());
}

#[test]
fn amounts_are_exact_and_terms_are_kept() {
    let mut ledger = ledger();
    let offer = r#"{"item":"Ore","price":0.1000000000000000055511151231257827,"quantity":9007199254740993,
        "currency":"EUR","target":"Org2MSP","deliveryDate":"2026-05-01","lots":3}"#;
    let tx = ledger.submit(&buyer(), "rfq", "offer", &[offer]).unwrap();
    let rfq: Value = serde_json::from_slice(&tx.response.payload).unwrap();
    assert_eq!(rfq["price"], "0.1000000000000000055511151231257827");
    assert_eq!(rfq["quantity"], "9007199254740993");
    assert_eq!(rfq["terms"], json!({"deliveryDate":"2026-05-01","lots":"3"}));
    assert_eq!(rfq["id"], format!("rfq-{}", &tx.tx_id[..20]));
    assert_eq!(rfq["conditions"], json!([]));
}

#[test]
fn lists_by_party_and_state_in_pages() {
    let mut ledger = ledger();
    for number in 0..7 {
        let id = format!("r{number}");
        let offer = OFFER
            .replace("rfq-1", &id)
            .replace("Org2MSP", if number % 2 == 0 { "Org2MSP" } else { "Org3MSP" });
        ledger.submit(&buyer(), "rfq", "offer", &[&offer]).unwrap();
    }
    ledger.submit(&supplier(), "rfq", "accept", &["r0"]).unwrap();
    let ids = |page: &Value| -> Vec<String> {
        page["rfqs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rfq| rfq["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&ask(&mut ledger, "list", "")).len(), 7);
    assert_eq!(ids(&ask(&mut ledger, "list", "Org3MSP")), ["r1", "r3", "r5"]);
    assert_eq!(
        ids(&ask(&mut ledger, "list", r#"{"party":"Org2MSP","state":"open"}"#)),
        ["r2", "r4", "r6"]
    );
    assert_eq!(ids(&ask(&mut ledger, "list", r#"{"state":"accepted"}"#)), ["r0"]);
    let mut filter = json!({"party":"Org1MSP","limit":3});
    let mut all = Vec::new();
    loop {
        let page = ask(&mut ledger, "list", &filter.to_string());
        all.extend(ids(&page));
        match page.get("bookmark") {
            Some(bookmark) => filter["bookmark"] = bookmark.clone(),
            None => break,
        }
    }
    assert_eq!(all, ["r0", "r1", "r2", "r3", "r4", "r5", "r6"]);
    let who = buyer();
    assert_eq!(
        ledger
            .evaluate(&who, "rfq", "list", &[r#"{"state":"closed"}"#])
            .unwrap_err()
            .status(),
        400
    );
    assert_eq!(
        ledger
            .evaluate(&who, "rfq", "list", &[r#"{"limit":0}"#])
            .unwrap_err()
            .status(),
        400
    );
}

#[test]
fn of_two_answers_in_one_block_only_the_first_counts() {
    let mut ledger = ledger();
    ledger.submit(&buyer(), "rfq", "offer", &[OFFER]).unwrap();
    let accept = ledger.simulate(&supplier(), "rfq", "accept", &["rfq-1"]);
    let reject = ledger.simulate(&supplier(), "rfq", "reject", &["rfq-1"]);
    use selvedge_chaincode::testing::Verdict::{MvccConflict, Valid};
    assert_eq!(ledger.commit(&[accept, reject]), [Valid, MvccConflict]);
    assert_eq!(ask(&mut ledger, "get", "rfq-1")["state"], "accepted");
}

#[test]
fn metadata_names_every_function() {
    let mut ledger = ledger();
    let metadata = ledger
        .evaluate(&buyer(), "rfq", "org.hyperledger.fabric:GetMetadata", &[])
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();
    let transactions = metadata["contracts"]["rfq"]["transactions"].as_array().unwrap();
    assert_eq!(transactions.len(), RfqContract::FUNCTIONS.len());
    for transaction in transactions {
        assert!(
            transaction["description"].as_str().unwrap().len() > 10,
            "{transaction}"
        );
    }
    assert_eq!(transactions[0]["tag"], json!(["submitTx"]));
    ledger.submit(&buyer(), "rfq", "rfq:offer", &[OFFER]).unwrap();
}

#[test]
fn the_public_view_shows_that_it_exists() {
    let mut ledger = ledger();
    ledger.submit(&buyer(), "rfq", "offer", &[OFFER]).unwrap();
    // Whatever the organisation: the attribute takes away.
    for msp_id in ["Org1MSP", "Org3MSP"] {
        let visitor = TestCaller::new(msp_id, "visitor").attribute("selvedge.view", "public");
        let answer = ledger.evaluate(&visitor, "rfq", "get", &["rfq-1"]).unwrap();
        let seen: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            (&seen["state"], &seen["view"]),
            (&json!("open"), &json!("public"))
        );
        let members: Vec<&String> = seen.as_object().unwrap().keys().collect();
        assert_eq!(
            members,
            [
                "createdAt",
                "id",
                "offeror",
                "state",
                "steps",
                "target",
                "updatedAt",
                "view"
            ]
        );
        let answer = ledger.evaluate(&visitor, "rfq", "list", &[]).unwrap();
        let page: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(page["rfqs"][0], seen);
        let refused = ledger
            .evaluate(&visitor, "rfq", "history", &["rfq-1"])
            .unwrap_err();
        assert_eq!(refused.status(), 403);
    }
}
