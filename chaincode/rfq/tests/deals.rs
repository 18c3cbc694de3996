//! The deal behind an accepted RFQ: milestones and its end.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test is a failed test"
)]

use proptest::prelude::*;
use selvedge_chaincode::testing::{MockLedger, TestCaller};
use selvedge_chaincode_rfq::RfqContract;
use serde_json::{Value, json};

fn buyer() -> TestCaller {
    TestCaller::new("Org1MSP", "buyer")
}

fn supplier() -> TestCaller {
    TestCaller::new("Org2MSP", "supplier")
}

fn ledger() -> MockLedger {
    let mut ledger = MockLedger::new();
    ledger.install::<RfqContract>("rfq");
    let offer = r#"{"id":"r1","item":"steel","price":20,"quantity":2,"currency":"USD","target":"Org2MSP"}"#;
    ledger.submit(&buyer(), "rfq", "offer", &[offer]).unwrap();
    ledger
}

fn accepted() -> MockLedger {
    let mut ledger = ledger();
    ledger.submit(&supplier(), "rfq", "accept", &["r1"]).unwrap();
    ledger
}

fn deal(ledger: &mut MockLedger) -> Value {
    let bytes = ledger
        .evaluate(&TestCaller::new("Org3MSP", "ann"), "rfq", "deal", &["r1"])
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn submit(ledger: &mut MockLedger, who: &TestCaller, function: &str, arg: &Value) -> (String, Value) {
    let tx = ledger
        .submit(who, "rfq", function, &[&arg.to_string()])
        .unwrap_or_else(|error| panic!("{function} {arg}: {error}"));
    let (name, _) = tx.event.clone().unwrap();
    (name, serde_json::from_slice(tx.result().unwrap()).unwrap())
}

fn refused(ledger: &mut MockLedger, who: &TestCaller, function: &str, arg: &Value) -> (i32, String) {
    let error = ledger
        .submit(who, "rfq", function, &[&arg.to_string()])
        .unwrap_err();
    (error.status(), error.message().to_owned())
}

fn plan(ids: &[&str]) -> Value {
    let milestones: Vec<Value> = ids
        .iter()
        .map(|id| json!({"id":id,"title":format!("part {id}"),"amount":"10.0"}))
        .collect();
    json!({"id":"r1","milestones":milestones})
}

#[test]
fn milestones_are_agreed_reached_and_confirmed_by_two() {
    let mut ledger = accepted();
    submit(&mut ledger, &buyer(), "proposeMilestones", &plan(&["m1"]));
    let (status, message) = refused(&mut ledger, &buyer(), "agreeMilestones", &json!({"id":"r1"}));
    assert_eq!(
        (status, message.contains("Org2MSP has to agree")),
        (403, true),
        "{message}"
    );
    let meant = deal(&mut ledger)["proposal"]["txId"].clone();
    submit(&mut ledger, &buyer(), "proposeMilestones", &plan(&["m1", "m2"]));
    // The supplier has looked at the first proposal and agrees to nothing else.
    let (status, message) = refused(
        &mut ledger,
        &supplier(),
        "agreeMilestones",
        &json!({"id":"r1","proposal":meant}),
    );
    assert_eq!(
        (status, message.contains("has been replaced")),
        (409, true),
        "{message}"
    );
    let (name, _) = submit(&mut ledger, &supplier(), "agreeMilestones", &json!({"id":"r1"}));
    assert_eq!(name, "deal.agreed");

    let m1 = json!({"id":"r1","milestone":"m1"});
    let (status, message) = refused(&mut ledger, &buyer(), "reachMilestone", &m1);
    assert_eq!(
        (status, message.as_str()),
        (403, "milestone m1 is Org2MSP's to report")
    );
    assert_eq!(refused(&mut ledger, &buyer(), "confirmMilestone", &m1).0, 409);
    let with_evidence =
        json!({"id":"r1","milestone":"m1","evidence":{"hash":"ab".repeat(32),"record":"note-7"}});
    submit(&mut ledger, &supplier(), "reachMilestone", &with_evidence);
    assert_eq!(refused(&mut ledger, &supplier(), "confirmMilestone", &m1).0, 403);
    assert_eq!(refused(&mut ledger, &buyer(), "refuseMilestone", &m1).0, 400);
    let refusal = json!({"id":"r1","milestone":"m1","note":"half of it is missing"});
    submit(&mut ledger, &buyer(), "refuseMilestone", &refusal);
    submit(&mut ledger, &supplier(), "reachMilestone", &with_evidence);
    // A new plan has to keep what has been reached.
    let (status, message) = refused(&mut ledger, &buyer(), "proposeMilestones", &plan(&["m2"]));
    assert_eq!(
        (status, message.contains("m1 of RFQ r1 has been reached already")),
        (409, true),
        "{message}"
    );
    let (name, answer) = submit(&mut ledger, &buyer(), "confirmMilestone", &m1);
    assert_eq!(
        (name.as_str(), &answer["finished"]),
        ("deal.confirmed", &json!(false))
    );
    let m2 = json!({"id":"r1","milestone":"m2"});
    submit(&mut ledger, &supplier(), "reachMilestone", &m2);
    let (name, answer) = submit(&mut ledger, &buyer(), "confirmMilestone", &m2);
    assert_eq!(
        (name.as_str(), &answer["finished"]),
        ("deal.finished", &json!(true))
    );

    let end = deal(&mut ledger);
    assert_eq!(end["milestones"][0]["evidence"]["record"], "note-7");
    assert_eq!(end["milestones"][0]["amount"], "10");
    assert_eq!(end["finishedAt"], end["milestones"][1]["confirmedAt"]);
    let actions: Vec<&str> = end["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        [
            "proposed",
            "proposed",
            "agreed",
            "reached",
            "refused",
            "reached",
            "confirmed",
            "reached",
            "confirmed"
        ]
    );
    let (status, message) = refused(&mut ledger, &buyer(), "finishDeal", &json!({"id":"r1"}));
    assert_eq!(
        (status, message.contains("is finished since")),
        (409, true),
        "{message}"
    );
}

#[test]
fn both_words_finish_a_deal_and_strangers_have_none() {
    let mut ledger = ledger();
    let id = json!({"id":"r1"});
    assert_eq!(refused(&mut ledger, &buyer(), "finishDeal", &id).0, 409);
    let open = ledger.evaluate(&buyer(), "rfq", "deal", &["r1"]).unwrap_err();
    assert_eq!(open.status(), 409);
    ledger.submit(&supplier(), "rfq", "accept", &["r1"]).unwrap();
    let stranger = TestCaller::new("Org3MSP", "carol");
    for function in ["finishDeal", "agreeMilestones"] {
        assert_eq!(refused(&mut ledger, &stranger, function, &id).0, 403);
    }
    let device = supplier().attribute("selvedge.device", "true");
    assert_eq!(refused(&mut ledger, &device, "finishDeal", &id).0, 403);
    let (name, _) = submit(&mut ledger, &buyer(), "finishDeal", &id);
    assert_eq!(name, "deal.finishing");
    assert_eq!(refused(&mut ledger, &buyer(), "finishDeal", &id).0, 409);
    let (name, answer) = submit(&mut ledger, &supplier(), "finishDeal", &id);
    assert_eq!(
        (name.as_str(), &answer["finished"]),
        ("deal.finished", &json!(true))
    );
    assert_eq!(deal(&mut ledger)["finishAgreedBy"], json!(["Org1MSP", "Org2MSP"]));
}

#[test]
fn wrong_plans_are_refused_by_name() {
    let mut ledger = accepted();
    for (milestones, says) in [
        (json!([]), "must not be empty"),
        (
            json!([{"id":"m","title":"x"},{"id":"m","title":"y"}]),
            "already a milestone m",
        ),
        (
            json!([{"id":"m","title":"x","amount":-1}]),
            "must not be negative",
        ),
        (json!([{"id":"m","title":"x","by":"Org3MSP"}]), "must be a party"),
        (json!([{"id":"m"}]), "title is missing"),
    ] {
        let proposal = json!({"id":"r1","milestones":milestones});
        let (status, message) = refused(&mut ledger, &buyer(), "proposeMilestones", &proposal);
        assert_eq!((status, message.contains(says)), (400, true), "{message}");
    }
    assert_eq!(
        refused(&mut ledger, &supplier(), "agreeMilestones", &json!({"id":"r1"})).0,
        409
    );
    let unknown = json!({"id":"r1","milestone":"m9"});
    assert_eq!(
        refused(&mut ledger, &supplier(), "reachMilestone", &unknown).0,
        404
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the two parties try: a milestone is confirmed only by the other side and after it was reported, and the
    /// deal is finished exactly when all are confirmed or both have said so.
    #[test]
    fn nobody_does_both_sides(moves in proptest::collection::vec((any::<bool>(), 0usize..3, 0u8..4), 1..40)) {
        let mut ledger = accepted();
        let by = ["Org2MSP", "Org2MSP", "Org1MSP"];
        let milestones: Vec<Value> = by.iter().enumerate()
            .map(|(n, by)| json!({"id":format!("m{n}"),"title":"x","by":by})).collect();
        submit(&mut ledger, &buyer(), "proposeMilestones", &json!({"id":"r1","milestones":milestones}));
        submit(&mut ledger, &supplier(), "agreeMilestones", &json!({"id":"r1"}));
        let mut states = [0u8; 3];
        let mut said = [false; 2];
        for (is_buyer, number, action) in moves {
            let finished = states.iter().all(|s| *s == 2) || said.iter().all(|s| *s);
            let (who, msp) = if is_buyer { (buyer(), "Org1MSP") } else { (supplier(), "Org2MSP") };
            let own = by[number] == msp;
            let arg = json!({"id":"r1","milestone":format!("m{number}"),"note":"x"});
            let (function, allowed) = match action {
                0 => ("reachMilestone", own && states[number] == 0),
                1 => ("confirmMilestone", !own && states[number] == 1),
                2 => ("refuseMilestone", !own && states[number] == 1),
                _ => ("finishDeal", !said[usize::from(is_buyer)]),
            };
            let arg = if action == 3 { json!({"id":"r1"}) } else { arg };
            let outcome = ledger.submit(&who, "rfq", function, &[&arg.to_string()]);
            prop_assert_eq!(outcome.is_ok(), allowed && !finished, "{} {:?}", function, outcome);
            if outcome.is_ok() {
                match action {
                    0 => states[number] = 1,
                    1 => states[number] = 2,
                    2 => states[number] = 0,
                    _ => said[usize::from(is_buyer)] = true,
                }
            }
        }
        let finished = states.iter().all(|s| *s == 2) || said.iter().all(|s| *s);
        prop_assert_eq!(&deal(&mut ledger)["finished"], finished);
    }
}
