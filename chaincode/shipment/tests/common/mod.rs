//! A ledger with both contracts and the identities that the tests act with.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its own part; a failed step is a failed test"
)]

use selvedge_chaincode::testing::{MockLedger, TestCaller};
use selvedge_chaincode_rfq::RfqContract;
use selvedge_chaincode_shipment::ShipmentContract;
use serde_json::Value;

pub(crate) fn ledger() -> MockLedger {
    let mut ledger = MockLedger::new();
    ledger.install::<RfqContract>("rfq");
    ledger.install::<ShipmentContract>("shipment");
    ledger
}

pub(crate) fn buyer() -> TestCaller {
    TestCaller::new("BuyerMSP", "bea")
}

pub(crate) fn supplier() -> TestCaller {
    TestCaller::new("SupplierMSP", "sam")
}

pub(crate) fn carrier() -> TestCaller {
    TestCaller::new("CarrierMSP", "carl")
}

pub(crate) fn device(msp_id: &str, id: &str) -> TestCaller {
    TestCaller::new(msp_id, id).attribute("selvedge.device", "true")
}

pub(crate) fn ask(ledger: &mut MockLedger, function: &str, args: &[&str]) -> Value {
    let auditor = TestCaller::new("AuditorMSP", "ann");
    serde_json::from_slice(&ledger.evaluate(&auditor, "shipment", function, args).unwrap()).unwrap()
}

pub(crate) fn refused(ledger: &mut MockLedger, who: &TestCaller, function: &str, arg: &str) -> (i32, String) {
    let error = ledger.submit(who, "shipment", function, &[arg]).unwrap_err();
    (error.status(), error.message().to_owned())
}

/// A shipment `s1` from supplier to buyer, at most 25 degrees and 5 to 60 % humidity.
pub(crate) fn with_shipment() -> MockLedger {
    let mut ledger = ledger();
    let shipment = r#"{"id":"s1","goods":"steel","consignee":"BuyerMSP","carriers":["CarrierMSP"],
        "conditions":[{"field":"temperature","max":25},{"field":"humidity","min":"5","max":"60"}]}"#;
    ledger
        .submit(&supplier(), "shipment", "create", &[shipment])
        .unwrap();
    ledger
}
