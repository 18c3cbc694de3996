//! A journey out as EPCIS and in again, with the shipment contract on both sides.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use proptest::prelude::*;
use selvedge_chaincode::testing::{MockLedger, TestCaller};
use selvedge_chaincode_shipment::ShipmentContract;
use selvedge_epcis::{Exporter, ImportOptions, Names, Vocabulary, import};
use serde_json::{Value, json};

fn shipper() -> TestCaller {
    TestCaller::new("ShipperMSP", "sam")
}

fn tracker() -> TestCaller {
    TestCaller::new("CarrierMSP", "tracker-1").attribute("selvedge.device", "true")
}

fn gateway() -> TestCaller {
    TestCaller::new("CarrierMSP", "gateway").attribute("selvedge.gateway", "true")
}

fn ledger(ids: &[&str]) -> MockLedger {
    let mut ledger = MockLedger::new();
    ledger.install::<ShipmentContract>("shipment");
    for id in ids {
        let shipment = json!({"id":id,"goods":"steel","quantity":"200.50","consignee":"BuyerMSP","carriers":["CarrierMSP"],
            "conditions":[{"field":"temperature","max":"25"},{"field":"humidity","min":5}],"directHandover":true});
        ledger
            .submit(&shipper(), "shipment", "create", &[&shipment.to_string()])
            .unwrap();
    }
    ledger
}

fn export(ledger: &mut MockLedger, id: &str, names: Names) -> String {
    let get = ledger.evaluate(&shipper(), "shipment", "get", &[id]).unwrap();
    let mut exporter = Exporter::new(names, Vocabulary::default(), &get).unwrap();
    let mut from = None;
    loop {
        let page = json!({"shipment":id,"from":from,"limit":7}).to_string();
        let page = ledger
            .evaluate(&shipper(), "shipment", "readings", &[&page])
            .unwrap();
        from = exporter.readings(&page).unwrap();
        if from.is_none() {
            return exporter.finish("2026-02-01T00:00:00Z".parse().unwrap()).unwrap();
        }
    }
}

fn options(shipment: &str) -> ImportOptions {
    ImportOptions {
        shipment: shipment.to_owned(),
        epc: None,
        device: None,
        stream: None,
        vocabulary: Vocabulary::default(),
    }
}

/// What the readings of a shipment say, without what tells how they came there.
fn content(ledger: &mut MockLedger, id: &str) -> Vec<Value> {
    let page = json!({"shipment":id,"limit":1000}).to_string();
    let page = ledger
        .evaluate(&shipper(), "shipment", "readings", &[&page])
        .unwrap();
    let page: Value = serde_json::from_slice(&page).unwrap();
    let strip = |mut reading: Value| {
        let fields = reading.as_object_mut().unwrap();
        for name in [
            "shipment",
            "gateway",
            "recordedAt",
            "txId",
            "late",
            "afterDelivery",
        ] {
            fields.remove(name);
        }
        reading
    };
    page["readings"]
        .as_array()
        .unwrap()
        .iter()
        .cloned()
        .map(strip)
        .collect()
}

#[test]
fn custody_and_readings_become_events() {
    let mut ledger = ledger(&["s1"]);
    let over = json!({"shipment":"s1","to":"CarrierMSP","note":"two pallets"}).to_string();
    ledger
        .submit(&shipper(), "shipment", "handOver", &[&over])
        .unwrap();
    let readings = json!({"shipment":"s1","stream":"main","readings":[
        {"sequence":1,"time":"2025-12-31T23:00:10Z","position":{"lat":"51.50","lon":12.5,"accuracy":20},"values":{"temperature":"24.90","door":0}},
        {"sequence":2,"time":"2025-12-31T23:00:20Z","position":{"lat":"51.50","lon":12.5,"accuracy":20},"values":{"temperature":25.1}},
        {"sequence":3,"time":"2025-12-31T23:00:30Z","position":{"lat":52,"lon":13,"accuracy":"cellid"}},
    ]});
    ledger
        .submit(&tracker(), "shipment", "recordReadings", &[&readings.to_string()])
        .unwrap();
    ledger
        .submit(
            &TestCaller::new("BuyerMSP", "bea"),
            "shipment",
            "deliver",
            &["s1"],
        )
        .unwrap();
    let document = export(
        &mut ledger,
        "s1",
        Names::under("https://id.example.com/").unwrap(),
    );
    assert!(
        document.contains(r#""value":24.9"#) && document.contains(r#""selvedge:quantity":200.5"#),
        "{document}"
    );
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["type"], "EPCISDocument");
    let events = document["epcisBody"]["eventList"].as_array().unwrap();
    let steps: Vec<&str> = events.iter().map(|e| e["bizStep"].as_str().unwrap()).collect();
    assert_eq!(
        steps,
        [
            "sensor_reporting",
            "sensor_reporting",
            "commissioning",
            "accepting",
            "receiving"
        ]
    );
    assert_eq!(
        events[3]["destinationList"][0]["destination"],
        "https://id.example.com/organization/CarrierMSP"
    );
    assert_eq!(events[3]["selvedge:note"], "two pallets");
    assert_eq!(
        events[4]["persistentDisposition"],
        json!({"set":["non_conformant"]})
    );
    let first = &events[0];
    assert_eq!(first["readPoint"]["id"], "geo:51.5,12.5;u=20");
    assert_eq!(first["eventTime"], "2025-12-31T23:00:20Z");
    let elements = first["sensorElementList"].as_array().unwrap();
    assert_eq!(elements.len(), 2);
    let report = |element: &Value, field: &str| {
        let reports = element["sensorReport"].as_array().unwrap();
        reports
            .iter()
            .find(|r| r["selvedge:field"] == field)
            .unwrap()
            .clone()
    };
    let hot = report(&elements[1], "temperature");
    assert_eq!(
        (&hot["type"], &hot["uom"], &hot["exception"]),
        (&json!("Temperature"), &json!("CEL"), &json!("ALARM_CONDITION"))
    );
    assert!(report(&elements[0], "temperature").get("exception").is_none());
    assert_eq!(
        report(&elements[0], "door")["type"],
        "https://id.example.com/measurement/door"
    );
    assert_eq!(events[1]["readPoint"]["id"], "geo:52,13;accuracy=cellid");
}

#[test]
fn the_readings_of_others_are_taken_and_repeated_without_harm() {
    let mut ledger = ledger(&["s1"]);
    let document = r#"{"@context":["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"],"type":"EPCISDocument",
        "schemaVersion":"2.0","creationDate":"2026-01-05T00:00:00Z","epcisBody":{"eventList":[
        {"type":"ObjectEvent","eventTime":"2026-01-02T03:00:00+01:00","eventTimeZoneOffset":"+01:00","action":"OBSERVE",
         "epcList":["urn:epc:id:sscc:4012345.1234567890"],"readPoint":{"id":"urn:epc:id:sgln:4012345.00005.0"},
         "sensorElementList":[{"sensorMetadata":{"time":"2026-01-02T02:55:00+01:00","deviceID":"urn:epc:id:giai:4000001.111"},
          "sensorReport":[{"type":"Temperature","value":26.0000000000000000001,"uom":"CEL"},
           {"type":"gs1:RelativeHumidity","value":12.1,"uom":"P1"},
           {"type":"Temperature","minValue":70,"maxValue":80.5,"uom":"FAH","time":"2026-01-02T02:56:00+01:00"},
           {"type":"Acceleration","component":"cbv:Comp-x","value":0.5},
           {"type":"https://example.com/Door","booleanValue":true}]}]},
        {"type":"AggregationEvent","eventTime":"2026-01-02T04:00:00Z","eventTimeZoneOffset":"+00:00","action":"OBSERVE"}]}}"#;
    let imported = import(document, &options("s1")).unwrap();
    assert_eq!(imported.readings, 2);
    assert_eq!(
        imported.skipped,
        ["event 0, sensor element 0, report 4: https://example.com/Door has no number"]
    );
    let mut known = Vec::new();
    for _ in 0..2 {
        for batch in &imported.batches {
            let tx = ledger
                .submit(&gateway(), "shipment", "recordReadings", &[batch])
                .unwrap();
            let answer: Value = serde_json::from_slice(tx.result().unwrap()).unwrap();
            known.push((answer["recorded"].clone(), answer["known"].clone()));
        }
    }
    assert_eq!(known, [(json!(2), json!(0)), (json!(0), json!(2))]);
    let readings = content(&mut ledger, "s1");
    assert_eq!(readings[0]["device"], "4000001.111");
    assert_eq!(readings[0]["time"], "2026-01-02T01:55:00Z");
    assert_eq!(
        readings[0]["values"],
        json!({"temperature":"26.0000000000000000001","humidity":"12.1","acceleration.Comp-x":"0.5"})
    );
    // Fahrenheit is never compared with a limit in degrees Celsius.
    assert_eq!(
        readings[1]["values"],
        json!({"temperature.FAH.min":"70","temperature.FAH.max":"80.5"})
    );
    assert_eq!(readings[0]["violates"][0]["field"], "temperature");
    assert_eq!(readings[1].get("violates"), None);

    let spelt = serde_json::to_string_pretty(
        &serde_json::from_str::<Value>(&document.replace("26.0000000000000000001", "26")).unwrap(),
    )
    .unwrap();
    let again = import(&spelt, &options("s1")).unwrap();
    assert_ne!(again.batches, imported.batches);
    assert_eq!(import(document, &options("s1")).unwrap(), imported);
    let none = ImportOptions {
        epc: Some("urn:other".to_owned()),
        ..options("s1")
    };
    assert_eq!(import(document, &none).unwrap().readings, 0);
    let single = r#"{"type":"ObjectEvent","eventTime":"2026-01-02T03:00:00Z","readPoint":{"id":"geo:1,2"},
        "sensorElementList":[{"sensorReport":[{"type":"Temperature","value":1}]}]}"#;
    let own = ImportOptions {
        stream: Some("lab".to_owned()),
        device: Some("d1".to_owned()),
        ..options("s1")
    };
    assert_eq!(
        import(single, &own).unwrap().batches,
        [
            r#"{"shipment":"s1","device":"d1","stream":"lab","readings":[{"sequence":0,"time":"2026-01-02T03:00:00Z","position":{"lat":"1","lon":"2"},"values":{"temperature":"1"}}]}"#
        ]
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let wrap = |event: &str| format!(r#"{{"type":"EPCISDocument","epcisBody":{{"eventList":[{event}]}}}}"#);
    for (document, says) in [
        ("", "not an EPCIS 2.0 document"),
        ("[]", "not an EPCIS 2.0 document"),
        (r#"{"type":"Invoice"}"#, "its type is Invoice"),
        (
            &wrap(
                r#"{"eventTime":"noon","sensorElementList":[{"sensorReport":[{"type":"Temperature","value":1}]}]}"#,
            ),
            "event 0, sensor element 0, report 0: noon is not an RFC 3339 time",
        ),
        (
            &wrap(
                r#"{"eventTime":"2026-01-01T00:00:00Z","readPoint":{"id":"geo:99,1"},"sensorElementList":[]}"#,
            ),
            "event 0, readPoint: geo:99,1 is not a geo URI",
        ),
        (
            &wrap(
                r#"{"eventTime":"2026-01-01T00:00:00Z","sensorElementList":[{"sensorReport":[{"type":"Temperature","value":1},{"type":"Temperature","value":2}]}]}"#,
            ),
            "temperature is 2 and 1 at the same time",
        ),
    ] {
        let error = import(document, &options("s1")).unwrap_err().to_string();
        assert!(error.contains(says), "{document}: {error}");
    }
    assert!(import("{}", &options("a b")).is_err());
    assert!(Exporter::new(Names::of_channel("trade"), Vocabulary::default(), b"{}").is_err());
}

/// Minute, place (tenths of degrees, kind of accuracy), and two values.
type Drawn = (i32, Option<(i32, i32, u8)>, Option<i64>, Option<u16>);

fn reading() -> impl Strategy<Value = Drawn> {
    (
        0i32..600,
        proptest::option::of((-900i32..=900, -1800i32..=1800, 0u8..4)),
        proptest::option::of(any::<i64>()),
        proptest::option::of(any::<u16>()),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// What goes out comes in again as the same readings, digit by digit, under either kind of name.
    #[test]
    fn readings_survive_the_way_out_and_in(all in proptest::collection::vec(reading(), 1..40), urn in any::<bool>()) {
        let mut ledger = ledger(&["s1", "s2"]);
        let readings: Vec<Value> = all.iter().enumerate().map(|(sequence, (second, place, fine, count))| {
            let position = place.map(|(lat, lon, accuracy)| match accuracy {
                0 => json!({"lat":format!("{lat}e-1"),"lon":format!("{lon}e-1")}),
                1 => json!({"lat":format!("{lat}e-1"),"lon":format!("{lon}e-1"),"accuracy":"cell id/3"}),
                metres => json!({"lat":format!("{lat}e-1"),"lon":format!("{lon}e-1"),"accuracy":metres}),
            });
            let mut values = serde_json::Map::new();
            values.extend(fine.map(|fine| ("temperature".to_owned(), json!(format!("{fine}e-9")))));
            values.extend(count.map(|count| ("g-force / x".to_owned(), json!(count))));
            json!({"sequence":sequence * 3,"time":format!("2026-01-01T{:02}:{:02}:00Z", second / 60, second % 60),
                "position":position,"values":values})
        }).collect();
        let batch = json!({"shipment":"s1","stream":"main:1","readings":readings});
        ledger.submit(&tracker(), "shipment", "recordReadings", &[&batch.to_string()]).unwrap();
        let names = if urn { Names::of_channel("trade") } else { Names::under("https://id.example.com/e/").unwrap() };
        let document = export(&mut ledger, "s1", names);
        let imported = import(&document, &options("s2")).unwrap();
        prop_assert_eq!(imported.readings, readings.len());
        for batch in &imported.batches {
            ledger.submit(&gateway(), "shipment", "recordReadings", &[batch]).unwrap();
        }
        prop_assert_eq!(content(&mut ledger, "s1"), content(&mut ledger, "s2"));
    }

    #[test]
    fn anything_from_outside_is_read_or_refused(text in ".{0,200}") {
        let _ = import(&text, &options("s1"));
        let _ = import(&format!(r#"{{"type":"ObjectEvent","eventTime":{text:?},"sensorElementList":[{{"sensorReport":[{{"type":{text:?},"value":1}}]}}]}}"#), &options("s1"));
    }
}
