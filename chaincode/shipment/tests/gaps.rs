//! What a gateway had to drop is recorded once.

mod common;

use common::{ask, buyer, device, ledger, refused};

const TOLD: &str = r#"{"gateway":"hall-7","gaps":[
    {"source":"t1","reason":"full","count":12,"first":907,"last":951,"from":"2026-01-01T08:00:00Z","to":"2026-01-01T09:00:00Z"},
    {"source":"","reason":"damaged","count":1,"first":0,"last":0}]}"#;

#[test]
fn gaps_are_recorded_once() {
    let mut ledger = ledger();
    let gateway = device("BuyerMSP", "hall-7");
    for expected in [r#"{"recorded":2,"known":0}"#, r#"{"recorded":1,"known":1}"#] {
        let tx = ledger
            .submit(&gateway, "shipment", "recordGaps", &[TOLD])
            .unwrap();
        assert_eq!(String::from_utf8_lossy(tx.result().unwrap()), expected);
    }
    let all = ask(&mut ledger, "gaps", &[]);
    assert_eq!(all["gaps"].as_array().unwrap().len(), 3);
    let one = ask(&mut ledger, "gaps", &["BuyerMSP", "hall-7"])["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|gap| gap["source"] == "t1")
        .cloned()
        .unwrap();
    assert_eq!((&one["count"], &one["reason"]), (&12.into(), &"full".into()));
    assert!(
        ask(&mut ledger, "gaps", &["CarrierMSP"])["gaps"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn only_devices_tell_of_gaps_and_nonsense_is_refused() {
    let mut ledger = ledger();
    assert_eq!(refused(&mut ledger, &buyer(), "recordGaps", TOLD).0, 403);
    let gateway = device("BuyerMSP", "hall-7");
    for wrong in [
        r#"{"gateway":"hall-7","gaps":[{"reason":"full","count":0}]}"#,
        r#"{"gateway":"hall-7","gaps":[{"reason":"full","count":1,"extra":1}]}"#,
        r#"{"gaps":[]}"#,
    ] {
        assert_eq!(
            refused(&mut ledger, &gateway, "recordGaps", wrong).0,
            400,
            "{wrong}"
        );
    }
}
