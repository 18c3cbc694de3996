//! Tenders: sealed offers stay sealed, bidding closes when the parties say so, and the award is an accepted RFQ.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use selvedge_chaincode::testing::{MockLedger, TestCaller, Verdict};
use selvedge_chaincode_rfq::{RfqContract, commitment};
use serde_json::{Value, json};

const SALT: &str = "00112233445566778899aabbccddeeff";

fn org(number: usize) -> TestCaller {
    TestCaller::new(&format!("Org{number}MSP"), "person")
}

fn ledger(extra: &Value) -> MockLedger {
    let mut ledger = MockLedger::new();
    ledger.install::<RfqContract>("rfq");
    let mut tender = json!({"id":"t1","item":"Stainless Steel Cutting","quantity":"200","currency":"USD",
        "suppliers":["Org2MSP","Org3MSP","Org4MSP"],"conditions":[{"field":"humidity","max":10}],
        "criteria":"lowest price","deliveryDate":"2026-05-01T00:00:00Z"});
    for (name, value) in extra.as_object().into_iter().flatten() {
        tender[name] = value.clone();
    }
    let tx = ledger
        .submit(&org(1), "rfq", "openTender", &[&tender.to_string()])
        .unwrap();
    assert_eq!(tx.event.unwrap().0, "tender.opened");
    ledger
}

fn offer(price: u32) -> String {
    json!({"price":price,"conditions":[{"field":"humidity","max":5}],"deliveryDate":"2026-04-20T00:00:00Z"})
        .to_string()
}

fn seal(ledger: &mut MockLedger, number: usize, price: u32) {
    let commitment = commitment("t1", &format!("Org{number}MSP"), SALT, &offer(price));
    let arg = json!({"tender":"t1","commitment":commitment}).to_string();
    ledger.submit(&org(number), "rfq", "sealOffer", &[&arg]).unwrap();
}

fn reveal(ledger: &mut MockLedger, number: usize, price: u32) -> selvedge_chaincode::Result<()> {
    let args = ["t1", &offer(price), SALT];
    ledger.submit(&org(number), "rfq", "revealOffer", &args).map(drop)
}

fn close(ledger: &mut MockLedger, number: usize) -> String {
    let tx = ledger
        .submit(&org(number), "rfq", "closeTender", &["t1"])
        .unwrap();
    tx.event.unwrap().0
}

fn tender(ledger: &mut MockLedger) -> Value {
    let bytes = ledger.evaluate(&org(9), "rfq", "tender", &["t1"]).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn refused(ledger: &mut MockLedger, number: usize, function: &str, args: &[&str]) -> (i32, String) {
    let error = ledger.submit(&org(number), "rfq", function, args).unwrap_err();
    (error.status(), error.message().to_owned())
}

#[test]
fn from_the_invitation_to_the_award() {
    let mut ledger = ledger(&json!({}));
    seal(&mut ledger, 2, 30);
    seal(&mut ledger, 3, 25);
    // A better offer replaces the first one.
    seal(&mut ledger, 2, 28);
    let decline = json!({"tender":"t1","note":"no capacity"}).to_string();
    ledger
        .submit(&org(4), "rfq", "declineTender", &[&decline])
        .unwrap();
    // Nothing of an offer is anywhere to be seen.
    let all: String = ledger
        .keys("rfq")
        .iter()
        .map(|key| String::from_utf8_lossy(ledger.state("rfq", key).unwrap()).into_owned())
        .collect();
    assert!(!all.contains("2026-04-20"), "{all}");
    assert_eq!(
        refused(&mut ledger, 2, "revealOffer", &["t1", &offer(28), SALT]).0,
        409
    );

    // Everybody has answered: the buyer's word is enough.
    assert_eq!(close(&mut ledger, 1), "tender.closed");
    let late = json!({"tender":"t1","commitment":"0".repeat(64)}).to_string();
    let (status, message) = refused(&mut ledger, 3, "sealOffer", &[&late]);
    assert_eq!(
        (status, message.as_str()),
        (409, "bidding of tender t1 is closed")
    );
    let (status, message) = refused(&mut ledger, 2, "revealOffer", &["t1", &offer(30), SALT]);
    assert_eq!(
        (status, message.contains("the same to the byte")),
        (400, true),
        "{message}"
    );
    reveal(&mut ledger, 2, 28).unwrap();
    let award = json!({"tender":"t1","supplier":"Org2MSP"}).to_string();
    let (status, message) = refused(&mut ledger, 1, "award", &[&award]);
    assert_eq!(
        (status, message.contains("Org3MSP has sealed an offer")),
        (409, true),
        "{message}"
    );
    assert_eq!(tender(&mut ledger)["readyToAward"], false);
    reveal(&mut ledger, 3, 25).unwrap();
    assert_eq!(reveal(&mut ledger, 3, 25).unwrap_err().status(), 409);
    let now = tender(&mut ledger);
    assert_eq!(
        (&now["state"], &now["readyToAward"]),
        (&json!("revealing"), &json!(true))
    );
    assert_eq!(now["suppliers"][1]["offer"]["price"], "25");
    assert_eq!(now["suppliers"][2]["state"], "declined");

    assert_eq!(refused(&mut ledger, 2, "award", &[&award]).0, 403);
    let none = json!({"tender":"t1","supplier":"Org4MSP"}).to_string();
    assert_eq!(refused(&mut ledger, 1, "award", &[&none]).0, 409);
    let award = json!({"tender":"t1","supplier":"Org3MSP","rfq":"deal-1","note":"thank you"}).to_string();
    let tx = ledger.submit(&org(1), "rfq", "award", &[&award]).unwrap();
    let (name, event) = tx.event.unwrap();
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!(
        (name.as_str(), &event["rfq"]),
        ("tender.awarded", &json!("deal-1"))
    );

    let rfq: Value =
        serde_json::from_slice(&ledger.evaluate(&org(9), "rfq", "get", &["deal-1"]).unwrap()).unwrap();
    assert_eq!(
        (
            &rfq["state"],
            &rfq["offeror"],
            &rfq["target"],
            &rfq["price"],
            &rfq["tender"]
        ),
        (
            &json!("accepted"),
            &json!("Org1MSP"),
            &json!("Org3MSP"),
            &json!("25"),
            &json!("t1")
        )
    );
    assert_eq!(rfq["conditions"], json!([{"field":"humidity","max":"5"}]));
    assert_eq!(rfq["terms"]["deliveryDate"], "2026-04-20T00:00:00Z");
    assert_eq!(refused(&mut ledger, 1, "cancelTender", &["t1"]).0, 409);
    let history = ledger.evaluate(&org(9), "rfq", "tenderHistory", &["t1"]).unwrap();
    let history: Value = serde_json::from_slice(&history).unwrap();
    let actions: Vec<&str> = history["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        [
            "opened", "sealed", "sealed", "sealed", "declined", "closed", "revealed", "revealed", "awarded"
        ]
    );
}

#[test]
fn a_silent_supplier_is_not_waited_for_forever() {
    let mut ledger = ledger(&json!({"deadline":"2026-01-01T00:00:08Z"}));
    seal(&mut ledger, 2, 30);
    let (status, message) = refused(&mut ledger, 1, "closeTender", &["t1"]);
    assert_eq!(status, 409);
    assert!(message.contains("the deadline of tender t1 is 2026-01-01T00:00:08Z, and this transaction is dated 2026-01-01T00:00:02Z"), "{message}");
    ledger.set_clock("2026-01-01T00:00:10Z".parse().unwrap());
    // The buyer alone cannot shut out the two who are silent.
    assert_eq!(close(&mut ledger, 1), "tender.closing");
    assert_eq!(tender(&mut ledger)["buyerAgreedToClose"], true);
    assert_eq!(refused(&mut ledger, 1, "closeTender", &["t1"]).0, 409);
    assert_eq!(close(&mut ledger, 2), "tender.closing");
    // Who has agreed that bidding is over does not go on bidding.
    let more = json!({"tender":"t1","commitment":"0".repeat(64)}).to_string();
    assert_eq!(refused(&mut ledger, 2, "sealOffer", &[&more]).0, 409);
    // At least half of three is two: one who declines counts.
    ledger.submit(&org(3), "rfq", "declineTender", &["t1"]).unwrap();
    assert_eq!(close(&mut ledger, 4), "tender.closed");

    // Nobody else may act, and strangers not at all.
    assert_eq!(
        refused(&mut ledger, 3, "revealOffer", &["t1", &offer(1), SALT]).0,
        409
    );
    let (status, message) = refused(&mut ledger, 5, "closeTender", &["t1"]);
    assert_eq!(
        (status, message.contains("not a party")),
        (403, true),
        "{message}"
    );
    let (status, message) = refused(&mut ledger, 5, "sealOffer", &[&more]);
    assert_eq!(
        (status, message.contains("is not invited")),
        (403, true),
        "{message}"
    );
}

#[test]
fn who_does_not_reveal_is_left_out_by_agreement() {
    let mut ledger = ledger(&json!({"quorum":1,"revealBy":"2026-01-01T00:01:00Z"}));
    for number in 2..=4 {
        seal(&mut ledger, number, 20 + u32::try_from(number).unwrap());
    }
    assert_eq!(close(&mut ledger, 1), "tender.closed");
    reveal(&mut ledger, 2, 22).unwrap();
    reveal(&mut ledger, 3, 23).unwrap();
    let (status, message) = refused(&mut ledger, 1, "closeTender", &["t1"]);
    assert_eq!(
        (status, message.contains("time for revealing")),
        (409, true),
        "{message}"
    );
    ledger.set_clock("2026-01-01T00:02:00Z".parse().unwrap());
    for (number, event) in [
        (1, "tender.closing"),
        (2, "tender.closing"),
        (3, "tender.revealClosed"),
    ] {
        assert_eq!(close(&mut ledger, number), event);
    }
    assert_eq!(reveal(&mut ledger, 4, 24).unwrap_err().status(), 409);
    let now = tender(&mut ledger);
    assert_eq!(
        (&now["state"], &now["readyToAward"]),
        (&json!("revealed"), &json!(true))
    );
    let award = json!({"tender":"t1","supplier":"Org2MSP"}).to_string();
    ledger.submit(&org(1), "rfq", "award", &[&award]).unwrap();
    assert_eq!(tender(&mut ledger)["rfq"], "t1");
}

#[test]
fn a_seal_fits_nowhere_else() {
    let mut ledger = ledger(&json!({}));
    seal(&mut ledger, 2, 30);
    // Org3 copies the commitment of Org2, to reveal the same offer later.
    let copied = tender(&mut ledger)["suppliers"][0]["commitment"].clone();
    let arg = json!({"tender":"t1","commitment":copied}).to_string();
    ledger.submit(&org(3), "rfq", "sealOffer", &[&arg]).unwrap();
    ledger.submit(&org(4), "rfq", "declineTender", &["t1"]).unwrap();
    close(&mut ledger, 1);
    reveal(&mut ledger, 2, 30).unwrap();
    assert_eq!(reveal(&mut ledger, 3, 30).unwrap_err().status(), 400);
}

#[test]
fn answers_of_one_block_do_not_conflict_but_none_gets_past_the_closing() {
    let mut ledger = ledger(&json!({"quorum":1}));
    let sealed = |number: usize| {
        let commitment = commitment("t1", &format!("Org{number}MSP"), SALT, &offer(30));
        json!({"tender":"t1","commitment":commitment}).to_string()
    };
    let block = [
        ledger.simulate(&org(2), "rfq", "sealOffer", &[&sealed(2)]),
        ledger.simulate(&org(3), "rfq", "sealOffer", &[&sealed(3)]),
    ];
    assert_eq!(ledger.commit(&block), [Verdict::Valid, Verdict::Valid]);
    assert_eq!(close(&mut ledger, 2), "tender.closing");
    let block = [
        ledger.simulate(&org(1), "rfq", "closeTender", &["t1"]),
        ledger.simulate(&org(4), "rfq", "sealOffer", &[&sealed(4)]),
    ];
    assert_eq!(ledger.commit(&block), [Verdict::Valid, Verdict::MvccConflict]);
    let block = [
        ledger.simulate(&org(2), "rfq", "revealOffer", &["t1", &offer(30), SALT]),
        ledger.simulate(&org(3), "rfq", "revealOffer", &["t1", &offer(30), SALT]),
    ];
    assert_eq!(ledger.commit(&block), [Verdict::Valid, Verdict::Valid]);
}

#[test]
fn wrong_requests_are_refused_by_name() {
    let mut ledger = ledger(&json!({}));
    for (arg, says) in [
        (
            r#"{"id":"t2","item":"x","quantity":1,"currency":"EUR","suppliers":[]}"#,
            "suppliers must not be empty",
        ),
        (
            r#"{"id":"t2","item":"x","quantity":1,"currency":"EUR","suppliers":["Org1MSP"]}"#,
            "your own organization",
        ),
        (
            r#"{"id":"t2","item":"x","quantity":1,"currency":"EUR","suppliers":["Org2MSP"],"quorum":2}"#,
            "quorum must be 1 to 1",
        ),
        (
            r#"{"id":"t2","item":"x","quantity":0,"currency":"EUR","suppliers":["Org2MSP"]}"#,
            "greater than 0",
        ),
        (
            r#"{"id":"t2","item":"x","quantity":1,"currency":"EUR","suppliers":["Org2MSP"],"deadline":"2026-02-01T00:00:00Z","revealBy":"2026-01-01T00:00:00Z"}"#,
            "before the deadline",
        ),
    ] {
        let (status, message) = refused(&mut ledger, 1, "openTender", &[arg]);
        assert_eq!((status, message.contains(says)), (400, true), "{message}");
    }
    let (status, message) = refused(
        &mut ledger,
        2,
        "sealOffer",
        &[r#"{"tender":"t1","commitment":"AB"}"#],
    );
    assert_eq!(
        (status, message.contains("64 characters 0-9 a-f")),
        (400, true),
        "{message}"
    );
    assert_eq!(
        refused(&mut ledger, 2, "revealOffer", &["t1", "{}", "short"]).0,
        400
    );
    assert_eq!(
        refused(
            &mut ledger,
            2,
            "sealOffer",
            &[r#"{"tender":"t9","commitment":"00"}"#]
        )
        .0,
        400
    );
    assert_eq!(refused(&mut ledger, 2, "closeTender", &["t9"]).0, 404);
    assert_eq!(refused(&mut ledger, 2, "cancelTender", &["t1"]).0, 403);
    let device = org(2).attribute("selvedge.device", "true");
    assert_eq!(
        ledger
            .submit(&device, "rfq", "declineTender", &["t1"])
            .unwrap_err()
            .status(),
        403
    );
    ledger.submit(&org(1), "rfq", "cancelTender", &["t1"]).unwrap();
    assert_eq!(refused(&mut ledger, 2, "declineTender", &["t1"]).0, 409);
    for filter in ["", "Org4MSP", r#"{"party":"Org1MSP","state":"cancelled"}"#] {
        let page = ledger.evaluate(&org(9), "rfq", "tenders", &[filter]).unwrap();
        let page: Value = serde_json::from_slice(&page).unwrap();
        assert_eq!(page["tenders"][0]["id"], "t1", "{filter}");
    }
    let page = ledger
        .evaluate(&org(9), "rfq", "tenders", &[r#"{"state":"open"}"#])
        .unwrap();
    assert_eq!(page, br#"{"tenders":[]}"#);
}

#[test]
fn the_public_view_shows_that_a_tender_exists() {
    let mut ledger = ledger(&json!({}));
    seal(&mut ledger, 2, 28);
    let visitor = org(1).attribute("selvedge.view", "public");
    let mut ask = |function: &str, arg: &str| ledger.evaluate(&visitor, "rfq", function, &[arg]);
    let one: Value = serde_json::from_slice(&ask("tender", "t1").unwrap()).unwrap();
    let page: Value = serde_json::from_slice(&ask("tenders", "{}").unwrap()).unwrap();
    for seen in [&one, &page["tenders"][0]] {
        let members: Vec<&String> = seen.as_object().unwrap().keys().collect();
        assert!(
            members.iter().all(|name| [
                "id",
                "state",
                "buyer",
                "deadline",
                "createdAt",
                "updatedAt",
                "view"
            ]
            .contains(&name.as_str())),
            "{members:?}"
        );
        assert_eq!((&seen["id"], &seen["view"]), (&json!("t1"), &json!("public")));
    }
    for function in ["tenderHistory", "deal"] {
        assert_eq!(ask(function, "t1").unwrap_err().status(), 403, "{function}");
    }
    // The buyer's organisation, and still only a visitor.
    let error = ledger
        .submit(&visitor, "rfq", "cancelTender", &["t1"])
        .unwrap_err();
    assert_eq!(
        (error.status(), error.message()),
        (
            403,
            "cancelTender of contract rfq belongs to the in-house view, and the caller's certificate says selvedge.view=public"
        )
    );
}
