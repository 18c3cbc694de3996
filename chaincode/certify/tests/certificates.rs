//! Certifying, changing and checking records, as an enterprise and an auditor see it.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use selvedge_chaincode::testing::{MockLedger, TestCaller, Verdict};
use selvedge_chaincode_certify::CertifyContract;
use serde_json::{Value, json};

fn ledger() -> MockLedger {
    let mut ledger = MockLedger::new();
    ledger.install::<CertifyContract>("certify");
    ledger
}

fn plant() -> TestCaller {
    TestCaller::new("Org1MSP", "quality")
}

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn ask(ledger: &mut MockLedger, function: &str, arg: &str) -> Value {
    let auditor = TestCaller::new("AuditorMSP", "ann");
    serde_json::from_slice(&ledger.evaluate(&auditor, "certify", function, &[arg]).unwrap()).unwrap()
}

fn refused(ledger: &mut MockLedger, who: &TestCaller, function: &str, arg: &str) -> (i32, String) {
    let error = ledger.submit(who, "certify", function, &[arg]).unwrap_err();
    (error.status(), error.message().to_owned())
}

fn record(record: &str, digit: char) -> String {
    json!({"part": "4711", "record": record, "hash": hash(digit)}).to_string()
}

#[test]
fn a_record_is_certified_changed_and_checked() {
    let mut ledger = ledger();
    let first = ledger
        .submit(&plant(), "certify", "certify", &[&record("r1", 'a')])
        .unwrap();
    let (name, event) = first.event.clone().unwrap();
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!(name, "certify.certified");
    assert_eq!(
        event["records"],
        json!([{"part":"4711","record":"r1","hash":hash('a'),"revision":1}])
    );

    let change = json!({"part":"4711","record":"r1","hash":hash('b').to_uppercase(),"replaces":hash('a'),
        "time":"2026-01-01T08:00:00Z","note":"second run"});
    ledger
        .submit(&plant(), "certify", "certify", &[&change.to_string()])
        .unwrap();

    let line = ask(&mut ledger, "byRecord", r#"{"part":"4711","record":"r1"}"#);
    let line = line["certificates"].as_array().unwrap();
    assert_eq!(line.len(), 2);
    assert_eq!(
        (&line[0]["current"], &line[1]["current"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(line[1]["replaces"], json!(hash('a')));
    assert_eq!(line[1]["hash"], json!(hash('b')));
    assert_eq!(line[0]["txId"], json!(first.tx_id));

    for (digit, verdict, listed) in [('b', "current", 1), ('a', "outdated", 1), ('c', "differs", 2)] {
        let question = json!({"part":"4711","record":"r1","hash":hash(digit)}).to_string();
        let answer = ask(&mut ledger, "check", &question);
        assert_eq!(answer["verdict"], verdict);
        assert_eq!(answer["certificates"].as_array().unwrap().len(), listed);
    }
    assert_eq!(ask(&mut ledger, "check", &hash('b'))["verdict"], "current");
    assert_eq!(ask(&mut ledger, "check", &hash('9'))["verdict"], "unknown");
    let other = json!({"part":"4711","hash":hash('a'),"mspId":"Org2MSP"}).to_string();
    assert_eq!(ask(&mut ledger, "check", &other)["verdict"], "unknown");
    let by = ask(&mut ledger, "byTransaction", &first.tx_id);
    assert_eq!(by["certificates"][0]["record"], "r1");
    assert_eq!(
        ask(&mut ledger, "byHash", &hash('a'))["certificates"][0]["revision"],
        1
    );
}

#[test]
fn what_is_known_is_not_written_again_and_what_differs_is_refused() {
    let mut ledger = ledger();
    ledger
        .submit(&plant(), "certify", "certify", &[&record("r1", 'a')])
        .unwrap();
    let again = ledger.simulate(&plant(), "certify", "certify", &[&record("r1", 'a')]);
    let answer: Value = serde_json::from_slice(again.result().unwrap()).unwrap();
    assert_eq!((&answer["certified"], &answer["known"]), (&json!(0), &json!(1)));
    assert_eq!(answer["certificates"][0]["hash"], json!(hash('a')));
    assert_eq!((again.write_count(), again.event), (0, None));

    let (status, message) = refused(&mut ledger, &plant(), "certify", &record("r1", 'b'));
    assert_eq!(status, 409);
    assert!(message.contains("names it as replaces"), "{message}");
    let wrong = json!({"part":"4711","record":"r1","hash":hash('b'),"replaces":hash('c')}).to_string();
    assert_eq!(refused(&mut ledger, &plant(), "certify", &wrong).0, 409);
    let early = json!({"part":"4711","record":"r9","hash":hash('b'),"replaces":hash('c')}).to_string();
    assert_eq!(refused(&mut ledger, &plant(), "certify", &early).0, 409);
    for bad in [
        r#"{"part":"4711","record":"r1","hash":"10"}"#,
        r#"{"part":"4711","hash":"10"}"#,
        r#"{"record":"r1"}"#,
        r#"{"part":"4711","record":"r1","hash":"","typo":1}"#,
        "[]",
    ] {
        let (status, message) = refused(&mut ledger, &plant(), "certify", bad);
        assert_eq!(status, 400, "{bad}: {message}");
    }
}

#[test]
fn organisations_keep_records_of_the_same_name_apart() {
    let mut ledger = ledger();
    let other = TestCaller::new("Org2MSP", "olaf").attribute("selvedge.device", "true");
    for (who, digit) in [(plant(), 'a'), (other, 'b')] {
        ledger
            .submit(&who, "certify", "certify", &[&record("r1", digit)])
            .unwrap();
    }
    let line = ask(&mut ledger, "byRecord", r#"{"part":4711,"record":"r1"}"#);
    assert_eq!(line["certificates"].as_array().unwrap().len(), 2);
    assert!(
        line["certificates"]
            .as_array()
            .unwrap()
            .iter()
            .all(|c| c["current"] == true)
    );
    let one = ask(
        &mut ledger,
        "byRecord",
        r#"{"part":"4711","record":"r1","mspId":"Org2MSP"}"#,
    );
    assert_eq!(one["certificates"][0]["device"], true);
    let page = ask(&mut ledger, "byPart", r#"{"part":"4711","mspId":"Org2MSP"}"#);
    assert_eq!(page["certificates"].as_array().unwrap().len(), 1);
}

#[test]
fn a_batch_is_taken_as_a_whole_or_not_at_all() {
    let mut ledger = ledger();
    let records: Vec<Value> = (0..500)
        .map(|n| json!({"record": format!("r{n}"), "hash": format!("{n:064x}")}))
        .collect();
    let batch = json!({"part":"4711","algorithm":"SHA3-256","records":records}).to_string();
    let tx = ledger
        .submit(&plant(), "certify", "certifyMany", &[&batch])
        .unwrap();
    let answer: Value = serde_json::from_slice(tx.result().unwrap()).unwrap();
    assert_eq!((&answer["certified"], &answer["known"]), (&json!(500), &json!(0)));
    assert!(answer.get("certificates").is_none());
    let listed = ask(&mut ledger, "byTransaction", &tx.tx_id);
    assert_eq!(listed["certificates"].as_array().unwrap().len(), 500);
    assert_eq!(listed["certificates"][7]["algorithm"], "SHA3-256");

    // The same record twice in a batch is one, and a change within it follows the line.
    let batch = json!([
        {"part":"p","record":"r","hash":hash('a')},
        {"part":"p","record":"r","hash":hash('a')},
        {"part":"p","record":"r","hash":hash('b'),"replaces":hash('a')},
    ]);
    let tx = ledger
        .submit(&plant(), "certify", "certifyMany", &[&batch.to_string()])
        .unwrap();
    let answer: Value = serde_json::from_slice(tx.result().unwrap()).unwrap();
    assert_eq!((&answer["certified"], &answer["known"]), (&json!(2), &json!(1)));

    let keys = ledger.keys("certify").len();
    let batch =
        json!([{"part":"q","record":"r","hash":hash('a')}, {"part":"p","record":"r","hash":hash('c')}]);
    assert_eq!(
        refused(&mut ledger, &plant(), "certifyMany", &batch.to_string()).0,
        409
    );
    assert_eq!(ledger.keys("certify").len(), keys);
    let many: Vec<Value> = (0..501).map(|_| json!({})).collect();
    for bad in ["[]".to_owned(), "{}".to_owned(), json!(many).to_string()] {
        assert_eq!(refused(&mut ledger, &plant(), "certifyMany", &bad).0, 400);
    }
}

#[test]
fn certificates_for_the_same_part_do_not_conflict() {
    let mut ledger = ledger();
    let mut block = Vec::new();
    for n in 0..20 {
        block.push(ledger.simulate(&plant(), "certify", "certify", &[&record(&format!("r{n}"), 'a')]));
    }
    // Two changes of one record do: one of them would be lost.
    block.push(ledger.simulate(&plant(), "certify", "certify", &[&record("r0", 'b')]));
    let verdicts = ledger.commit(&block);
    assert!(verdicts[..20].iter().all(|verdict| *verdict == Verdict::Valid));
    assert_eq!(verdicts[20], Verdict::MvccConflict);
    let first = ask(&mut ledger, "byPart", r#"{"part":"4711","limit":15}"#);
    let rest = json!({"part":"4711","bookmark":first["bookmark"]}).to_string();
    let rest = ask(&mut ledger, "byPart", &rest);
    let count = |page: &Value| page["certificates"].as_array().unwrap().len();
    assert_eq!((count(&first), count(&rest), rest.get("bookmark")), (15, 5, None));
    assert_eq!(ask(&mut ledger, "parts", "")["parts"], json!(["4711"]));
    assert_eq!(ask(&mut ledger, "parts", r#"{"prefix":"5"}"#)["parts"], json!([]));
}

#[test]
fn the_metadata_describe_every_function() {
    let mut ledger = ledger();
    let bytes = ledger
        .evaluate(&plant(), "certify", "org.hyperledger.fabric:GetMetadata", &[])
        .unwrap();
    let metadata: Value = serde_json::from_slice(&bytes).unwrap();
    let contract = &metadata["contracts"]["certify"];
    assert!(!contract["info"]["description"].as_str().unwrap().is_empty());
    for transaction in contract["transactions"].as_array().unwrap() {
        assert!(
            transaction["description"].as_str().unwrap().len() > 10,
            "{transaction}"
        );
    }
}

#[test]
fn the_public_view_learns_whether_and_not_by_whom() {
    let mut ledger = ledger();
    ledger
        .submit(&plant(), "certify", "certify", &[&record("r1", 'a')])
        .unwrap();
    let visitor = plant().attribute("selvedge.view", "public");
    let answer = ledger
        .evaluate(&visitor, "certify", "check", &[&hash('a')])
        .unwrap();
    let seen: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(seen, json!({"verdict": "current", "view": "public"}));
    for (function, arg) in [("byPart", "4711"), ("byHash", &hash('a')), ("parts", "{}")] {
        let error = ledger
            .evaluate(&visitor, "certify", function, &[arg])
            .unwrap_err();
        assert_eq!(error.status(), 403, "{function}");
    }
    let (status, _) = refused(&mut ledger, &visitor, "certify", &record("r2", 'b'));
    assert_eq!(status, 403);
}
