//! Who may rate whom for what, and what ratings add up to.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use selvedge_chaincode::sha256_hex;
use selvedge_chaincode::testing::{MockLedger, TestCaller, Verdict};
use selvedge_chaincode_reputation::ReputationContract;
use selvedge_chaincode_rfq::RfqContract;
use selvedge_chaincode_shipment::ShipmentContract;
use serde_json::{Value, json};

fn person(org: usize, name: &str) -> TestCaller {
    TestCaller::new(&format!("Org{org}MSP"), name)
}

fn ledger() -> MockLedger {
    let mut ledger = MockLedger::new();
    ledger.install::<ReputationContract>("reputation");
    ledger.install::<RfqContract>("rfq");
    ledger.install::<RfqContract>("other-rfq");
    ledger.install::<ShipmentContract>("shipment");
    ledger
}

fn accepted(ledger: &mut MockLedger, chaincode: &str, id: &str, buyer: usize, supplier: usize) {
    let offer = json!({"id":id,"item":"steel","price":1,"quantity":1,"currency":"EUR","target":format!("Org{supplier}MSP")});
    ledger
        .submit(&person(buyer, "b"), chaincode, "offer", &[&offer.to_string()])
        .unwrap();
    ledger
        .submit(&person(supplier, "s"), chaincode, "accept", &[id])
        .unwrap();
}

fn finished(ledger: &mut MockLedger, chaincode: &str, id: &str, buyer: usize, supplier: usize) {
    accepted(ledger, chaincode, id, buyer, supplier);
    for org in [buyer, supplier] {
        ledger
            .submit(&person(org, "x"), chaincode, "finishDeal", &[id])
            .unwrap();
    }
}

fn rate(ledger: &mut MockLedger, who: &TestCaller, rating: &Value) -> Result<Value, (i32, String)> {
    let tx = ledger
        .submit(who, "reputation", "rate", &[&rating.to_string()])
        .map_err(|error| (error.status(), error.message().to_owned()))?;
    Ok(serde_json::from_slice(tx.result().unwrap()).unwrap())
}

fn ask(ledger: &mut MockLedger, function: &str, arg: &str) -> Value {
    let anyone = person(9, "ann");
    serde_json::from_slice(&ledger.evaluate(&anyone, "reputation", function, &[arg]).unwrap()).unwrap()
}

#[test]
fn only_counterparties_of_a_finished_deal_rate_once() {
    let mut ledger = ledger();
    accepted(&mut ledger, "rfq", "r1", 1, 2);
    let rating = json!({"rfq":"r1","score":4,"criteria":{"quality":5},"comment":"good"});
    let (status, message) = rate(&mut ledger, &person(1, "bea"), &rating).unwrap_err();
    assert_eq!(
        (status, message.contains("RFQ r1 is not finished")),
        (409, true),
        "{message}"
    );
    for org in [1, 2] {
        ledger
            .submit(&person(org, "x"), "rfq", "finishDeal", &["r1"])
            .unwrap();
    }
    let answer = rate(&mut ledger, &person(1, "bea"), &rating).unwrap();
    assert_eq!(answer["id"], "rfq/rfq/r1/Org1MSP/Org2MSP");
    // Another person of the same organisation is the same rater.
    let (status, message) = rate(&mut ledger, &person(1, "ben"), &rating).unwrap_err();
    assert_eq!(
        (status, message.as_str()),
        (409, "Org1MSP has already rated Org2MSP for RFQ r1")
    );
    let own = json!({"rfq":"r1","organization":"Org2MSP","score":5});
    let (status, message) = rate(&mut ledger, &person(2, "sue"), &own).unwrap_err();
    assert_eq!(
        (status, message.contains("cannot rate itself")),
        (403, true),
        "{message}"
    );
    let (status, message) = rate(&mut ledger, &person(3, "otto"), &rating).unwrap_err();
    assert_eq!(
        (status, message.contains("Org3MSP is not a party of RFQ r1")),
        (403, true),
        "{message}"
    );
    let other = json!({"rfq":"r1","organization":"Org3MSP","score":5});
    assert_eq!(rate(&mut ledger, &person(2, "sue"), &other).unwrap_err().0, 403);
    rate(&mut ledger, &person(2, "sue"), &json!({"rfq":"r1","score":"2"})).unwrap();
    let (status, message) = rate(&mut ledger, &person(1, "bea"), &json!({"rfq":"r9","score":1})).unwrap_err();
    assert_eq!(
        (status, message.as_str()),
        (404, "chaincode rfq: RFQ r9 is unknown")
    );
    let device = person(2, "t1").attribute("selvedge.device", "true");
    assert_eq!(rate(&mut ledger, &device, &rating).unwrap_err().0, 403);
    for bad in [
        json!({"score":1}),
        json!({"rfq":"r1","shipment":"s1","score":1}),
        json!({"rfq":"r1","score":0}),
        json!({"rfq":"r1","score":6}),
        json!({"rfq":"r1"}),
        json!({"rfq":"r1","score":1,"chaincode":"a/b"}),
        json!({"rfq":"r1","score":1,"criteria":{"a b":1}}),
    ] {
        assert_eq!(
            rate(&mut ledger, &person(1, "bea"), &bad).unwrap_err().0,
            400,
            "{bad}"
        );
    }

    let reply = json!({"rating":"rfq/rfq/r1/Org1MSP/Org2MSP","text":"thank you"}).to_string();
    let wrong = ledger
        .submit(&person(1, "bea"), "reputation", "reply", &[&reply])
        .unwrap_err();
    assert_eq!(wrong.status(), 403);
    ledger
        .submit(&person(2, "sue"), "reputation", "reply", &[&reply])
        .unwrap();
    let again = ledger
        .submit(&person(2, "sam"), "reputation", "reply", &[&reply])
        .unwrap_err();
    assert_eq!(again.status(), 409);
    assert_eq!(
        ask(&mut ledger, "rating", "rfq/rfq/r1/Org1MSP/Org2MSP")["reply"]["text"],
        "thank you"
    );
    assert_eq!(ask(&mut ledger, "given", "Org2MSP")["ratings"][0]["score"], 2);
}

#[test]
fn whoever_had_the_goods_can_be_rated_for_a_shipment() {
    let mut ledger = ledger();
    let shipment = json!({"id":"s1","goods":"steel","consignee":"Org1MSP","carriers":["Org3MSP","Org4MSP"],"directHandover":true});
    ledger
        .submit(&person(2, "sam"), "shipment", "create", &[&shipment.to_string()])
        .unwrap();
    let rating = json!({"shipment":"s1","score":3,"organization":"Org3MSP"});
    assert_eq!(rate(&mut ledger, &person(1, "bea"), &rating).unwrap_err().0, 409);
    let over = json!({"shipment":"s1","to":"Org3MSP"}).to_string();
    ledger
        .submit(&person(2, "sam"), "shipment", "handOver", &[&over])
        .unwrap();
    ledger
        .submit(&person(1, "bea"), "shipment", "deliver", &["s1"])
        .unwrap();
    let unnamed = json!({"shipment":"s1","score":3});
    let (status, message) = rate(&mut ledger, &person(1, "bea"), &unnamed).unwrap_err();
    assert_eq!(
        (
            status,
            message.contains("several counterparties, Org2MSP, Org3MSP")
        ),
        (400, true),
        "{message}"
    );
    rate(&mut ledger, &person(1, "bea"), &rating).unwrap();
    // Org4 was listed as a carrier and never had the goods.
    let idle = json!({"shipment":"s1","score":1,"organization":"Org4MSP"});
    assert_eq!(rate(&mut ledger, &person(1, "bea"), &idle).unwrap_err().0, 403);
    assert_eq!(rate(&mut ledger, &person(4, "dan"), &rating).unwrap_err().0, 403);
}

#[test]
fn aggregates_are_as_they_were_and_count_known_contracts_only() {
    let mut ledger = ledger();
    for (id, buyer, score) in [("a", 1, 5), ("b", 3, 3), ("c", 1, 2)] {
        finished(&mut ledger, "rfq", id, buyer, 2);
        rate(
            &mut ledger,
            &person(buyer, "x"),
            &json!({"rfq":id,"score":score,"criteria":{"quality":score}}),
        )
        .unwrap();
    }
    // A second RFQ contract: its ratings are kept, but not counted unless asked for.
    finished(&mut ledger, "other-rfq", "a", 1, 2);
    rate(
        &mut ledger,
        &person(1, "x"),
        &json!({"rfq":"a","chaincode":"other-rfq","score":1}),
    )
    .unwrap();
    let all = ask(&mut ledger, "aggregate", "Org2MSP");
    assert_eq!(
        (
            &all["count"],
            &all["sum"],
            &all["mean"],
            &all["raters"],
            &all["others"]
        ),
        (&json!(3), &json!(10), &json!("3.33"), &json!(2), &json!(1))
    );
    assert_eq!(all["scores"], json!({"1":0,"2":1,"3":1,"4":0,"5":1}));
    assert_eq!(
        all["criteria"]["quality"],
        json!({"count":3,"sum":10,"mean":"3.33"})
    );
    let wide = ask(
        &mut ledger,
        "aggregate",
        r#"{"organization":"Org2MSP","sources":["rfq","other-rfq"]}"#,
    );
    assert_eq!((&wide["count"], &wide["others"]), (&json!(4), &json!(0)));

    // As it was after the second rating.
    let ratings = ask(&mut ledger, "ratings", "Org2MSP");
    let at = ratings["ratings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["deal"] == "b")
        .unwrap()["at"]
        .clone();
    let then = ask(
        &mut ledger,
        "aggregate",
        &json!({"organization":"Org2MSP","until":at}).to_string(),
    );
    assert_eq!((&then["count"], &then["sum"]), (&json!(2), &json!(8)));
    let nobody = ask(&mut ledger, "aggregate", "Org7MSP");
    assert_eq!((&nobody["count"], &nobody["mean"]), (&json!(0), &Value::Null));
    assert_eq!(nobody["digest"], json!(sha256_hex(b"")));
}

#[test]
fn ratings_of_one_block_do_not_conflict() {
    let mut ledger = ledger();
    let mut block = Vec::new();
    for number in 0..10 {
        let id = format!("r{number}");
        finished(&mut ledger, "rfq", &id, 1, 2);
    }
    for number in 0..10 {
        let rating = json!({"rfq":format!("r{number}"),"score":4}).to_string();
        block.push(ledger.simulate(&person(1, "x"), "reputation", "rate", &[&rating]));
    }
    let again = json!({"rfq":"r0","score":1}).to_string();
    block.push(ledger.simulate(&person(1, "y"), "reputation", "rate", &[&again]));
    let verdicts = ledger.commit(&block);
    assert!(verdicts[..10].iter().all(|verdict| *verdict == Verdict::Valid));
    assert_eq!(verdicts[10], Verdict::MvccConflict);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// An outsider redoes the sum from the pages of `ratings`, as the documentation says.
    #[test]
    fn anybody_gets_the_same_sum(scores in proptest::collection::vec((1u64..=5, 1usize..4), 0..25)) {
        let mut ledger = ledger();
        for (number, (score, buyer)) in scores.iter().enumerate() {
            let id = format!("r{number}");
            // Organisation 5 is rated by organisations 1 to 3.
            finished(&mut ledger, "rfq", &id, *buyer, 5);
            rate(&mut ledger, &person(*buyer, "x"), &json!({"rfq":id,"score":score})).unwrap();
        }
        let (mut count, mut sum, mut lines) = (0u64, 0u64, String::new());
        let mut by_score: BTreeMap<String, u64> = (1..=5).map(|s| (s.to_string(), 0)).collect();
        let mut bookmark = Value::Null;
        loop {
            let page = ask(&mut ledger, "ratings", &json!({"organization":"Org5MSP","limit":7,"bookmark":bookmark}).to_string());
            for rating in page["ratings"].as_array().unwrap() {
                let score = rating["score"].as_u64().unwrap();
                count += 1;
                sum += score;
                *by_score.get_mut(&score.to_string()).unwrap() += 1;
                lines += &format!("{} {score} {}\n", rating["id"].as_str().unwrap(), rating["txId"].as_str().unwrap());
            }
            bookmark = page["bookmark"].clone();
            if bookmark.is_null() {
                break;
            }
        }
        let all = ask(&mut ledger, "aggregate", "Org5MSP");
        prop_assert_eq!(&all["count"], count);
        prop_assert_eq!(count, scores.len() as u64);
        prop_assert_eq!(&all["sum"], sum);
        prop_assert_eq!(&all["scores"], &json!(by_score));
        prop_assert_eq!(&all["digest"], &json!(sha256_hex(lines.as_bytes())));
    }
}

#[test]
fn the_public_view_has_the_aggregate_and_no_single_rating() {
    let mut ledger = ledger();
    finished(&mut ledger, "rfq", "r1", 1, 2);
    rate(
        &mut ledger,
        &person(1, "buyer"),
        &json!({"rfq": "r1", "score": 4}),
    )
    .unwrap();
    let visitor = person(1, "visitor").attribute("selvedge.view", "public");
    let answer = ledger
        .evaluate(&visitor, "reputation", "aggregate", &["Org2MSP"])
        .unwrap();
    let aggregate: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(aggregate["mean"], "4.00");
    for function in ["ratings", "given"] {
        let error = ledger
            .evaluate(&visitor, "reputation", function, &["Org2MSP"])
            .unwrap_err();
        assert_eq!(error.status(), 403, "{function}");
    }
    finished(&mut ledger, "rfq", "r2", 1, 2);
    let (status, _) = rate(&mut ledger, &visitor, &json!({"rfq": "r2", "score": 1})).unwrap_err();
    assert_eq!(status, 403);
}
