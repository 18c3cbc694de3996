//! Exported shipments against GS1's own JSON schema of EPCIS 2.0.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::{Path, PathBuf};

use selvedge_chaincode::testing::{MockLedger, TestCaller};
use selvedge_chaincode_shipment::ShipmentContract;
use selvedge_epcis::{Exporter, Names, Vocabulary};
use selvedge_system_tests::npm;
use serde_json::{Value, json};

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("node-epcis")
}

/// A journey with everything that an export can hold.
fn journey() -> MockLedger {
    let mut ledger = MockLedger::new();
    ledger.install::<ShipmentContract>("shipment");
    let shipper = TestCaller::new("Shipper/MSP", "sam");
    let shipment = json!({"id":"s:1","goods":"steel","quantity":"200.5","consignee":"BuyerMSP","carriers":["CarrierMSP"],
        "conditions":[{"field":"temperature","min":-5,"max":"25"}],"directHandover":true});
    let over = json!({"shipment":"s:1","to":"CarrierMSP","note":"two pallets"});
    let tracker = TestCaller::new("CarrierMSP", "tracker-1").attribute("selvedge.device", "true");
    let readings: Vec<Value> = (0..250)
        .map(|n| {
            let position = match n % 3 {
                0 => json!({"lat":"51.5","lon":"12.25","accuracy":20}),
                1 => json!({"lat":-33,"lon":"-70.123456789","accuracy":"cell id"}),
                _ => Value::Null,
            };
            let values = match n % 5 {
                0 => json!({}),
                _ => json!({"temperature": n - 100, "humidity": "45.50", "g-force / x": "1e-9", "pressure": 1013}),
            };
            json!({"sequence":n,"time":format!("2026-01-01T{:02}:{:02}:00.5Z", n / 60, n % 60),"position":position,"values":values})
        })
        .collect();
    let readings = json!({"shipment":"s:1","stream":"main","readings":readings});
    let buyer = TestCaller::new("BuyerMSP", "bea");
    for (who, function, arg) in [
        (&shipper, "create", shipment),
        (&shipper, "handOver", over),
        (&tracker, "recordReadings", readings),
        (&buyer, "deliver", json!({"shipment":"s:1"})),
    ] {
        ledger
            .submit(who, "shipment", function, &[&arg.to_string()])
            .unwrap();
    }
    ledger
}

fn export(ledger: &mut MockLedger, names: Names, vocabulary: Vocabulary) -> String {
    let anyone = TestCaller::new("AuditorMSP", "ann");
    let get = ledger.evaluate(&anyone, "shipment", "get", &["s:1"]).unwrap();
    let page = json!({"shipment":"s:1","limit":1000}).to_string();
    let page = ledger
        .evaluate(&anyone, "shipment", "readings", &[&page])
        .unwrap();
    let mut exporter = Exporter::new(names, vocabulary, &get).unwrap();
    assert_eq!(exporter.readings(&page).unwrap(), None);
    exporter.finish("2026-02-01T00:00:00Z".parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_conform_to_the_published_schema() {
    let packages = npm::install(&sources(), Path::new(env!("CARGO_TARGET_TMPDIR"))).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut ledger = journey();
    let own = Vocabulary::with(r#"{"pressure":{"type":"Pressure","uom":"A97"}}"#).unwrap();
    let urns = export(&mut ledger, Names::of_channel("trade"), Vocabulary::default());
    let paths = export(&mut ledger, Names::under("https://id.example.com/").unwrap(), own);
    let spoilt = |from: &str, to: &str| {
        assert!(urns.contains(from), "{from}");
        urns.replace(from, to)
    };
    let good = [write("urns.json", &urns), write("paths.json", &paths)];
    let bad = [
        write(
            "step.json",
            &spoilt(r#""bizStep":"receiving""#, r#""bizStep":"taking in""#),
        ),
        write(
            "time.json",
            &spoilt(
                r#""eventTimeZoneOffset":"+00:00""#,
                r#""eventTimeZoneOffset":"UTC""#,
            ),
        ),
        write("field.json", &spoilt("selvedge:sequence", "sequence")),
        write("value.json", &spoilt(r#""value":45.5"#, r#""value":"45.5""#)),
    ];
    let settings = write("settings.json", &json!({"good": good, "bad": bad}).to_string());
    let said = npm::run_script(&sources(), &packages, &settings).await;
    print!("{said}");
    assert!(
        said.contains("all documents are judged as they should be"),
        "{said}"
    );
}
