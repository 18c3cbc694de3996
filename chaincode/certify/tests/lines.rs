//! Random certifications against a model: a record's revisions form one line, and every check follows from it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use selvedge_chaincode::testing::{MockLedger, TestCaller};
use selvedge_chaincode_certify::CertifyContract;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
struct Sent {
    org: usize,
    part: usize,
    record: usize,
    hash: u8,
    replaces: Option<u8>,
}

fn sent() -> impl Strategy<Value = Sent> {
    (
        0usize..2,
        0usize..2,
        0usize..3,
        0u8..4,
        proptest::option::of(0u8..4),
    )
        .prop_map(|(org, part, record, hash, replaces)| Sent {
            org,
            part,
            record,
            hash,
            replaces,
        })
}

fn hash(number: u8) -> String {
    format!("{number:064x}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn revisions_form_a_line(
        all in proptest::collection::vec((sent(), any::<bool>()), 1..60),
    ) {
        let mut ledger = MockLedger::new();
        ledger.install::<CertifyContract>("certify");
        // Hashes of each record, oldest first.
        let mut model: BTreeMap<(usize, usize, usize), Vec<u8>> = BTreeMap::new();
        for (sent, follow) in all {
            let line = model.entry((sent.org, sent.part, sent.record)).or_default();
            let replaces = if follow { line.last().copied() } else { sent.replaces };
            let record = json!({"part": format!("p{}", sent.part), "record": format!("r{}", sent.record),
                "hash": hash(sent.hash), "replaces": replaces.map(hash)});
            let who = TestCaller::new(&format!("Org{}MSP", sent.org), "user");
            let outcome = ledger.submit(&who, "certify", "certify", &[&record.to_string()]);
            let expected = match line.last() {
                Some(last) if *last == sent.hash => Ok(0),
                Some(last) if replaces == Some(*last) => Ok(1),
                None if replaces.is_none() => Ok(1),
                _ => Err(409),
            };
            match (outcome, expected) {
                (Ok(tx), Ok(new)) => {
                    let answer: Value = serde_json::from_slice(tx.result().unwrap()).unwrap();
                    prop_assert_eq!(&answer["certified"], new);
                    if new == 1 {
                        line.push(sent.hash);
                    }
                }
                (Err(error), Err(status)) => prop_assert_eq!(error.status(), status),
                (outcome, expected) => prop_assert!(false, "{record}: {outcome:?}, expected {expected:?}"),
            }
        }
        let anyone = TestCaller::new("AuditorMSP", "ann");
        for ((org, part, record), line) in &model {
            for number in 0..4 {
                let question = json!({"part": format!("p{part}"), "record": format!("r{record}"),
                    "mspId": format!("Org{org}MSP"), "hash": hash(number)});
                let answer = ledger.evaluate(&anyone, "certify", "check", &[&question.to_string()]).unwrap();
                let answer: Value = serde_json::from_slice(&answer).unwrap();
                let expected = match line.last() {
                    None => "unknown",
                    Some(last) if *last == number => "current",
                    Some(_) if line.contains(&number) => "outdated",
                    Some(_) => "differs",
                };
                prop_assert_eq!(&answer["verdict"], expected);
            }
        }
    }
}
