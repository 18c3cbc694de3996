//! A shipment from agreement to delivery: who may do what, and what the parties see.

mod common;

use common::{ask, buyer, carrier, device, ledger, refused, supplier, with_shipment};
use selvedge_chaincode::testing::{TestCaller, Verdict};
use serde_json::{Value, json};

const READING: &str = r#"{"shipment":"s1","stream":"main","sequence":1,"time":"2026-01-01T08:00:00+01:00",
    "position":{"lat":51.373299,"lon":"12.4613","accuracy":"cellid"},"values":{"temperature":"16.80","humidity":30.9,"light":null,"door":""}}"#;

fn reading(sequence: u64, time: &str, temperature: &str) -> String {
    json!({"shipment":"s1","stream":"main","sequence":sequence,"time":time,"values":{"temperature":temperature}}).to_string()
}

#[test]
fn an_accepted_rfq_becomes_a_shipment() {
    let mut ledger = ledger();
    let offer = r#"{"id":"r1","item":"Stainless Steel Cutting","price":20,"quantity":200,"currency":"USD",
        "conditions":[{"field":"temperature","min":-5,"max":"25"}],"target":"SupplierMSP","deliveryDate":"2026-05-01T00:00:00Z"}"#;
    ledger.submit(&buyer(), "rfq", "offer", &[offer]).unwrap();
    let create = r#"{"id":"s1","rfq":"r1","carriers":["CarrierMSP"],"devices":["tracker-1"]}"#;
    let (status, message) = refused(&mut ledger, &buyer(), "createFromRfq", create);
    assert_eq!(
        (status, message.contains("RFQ r1 is open")),
        (409, true),
        "{message}"
    );
    ledger.submit(&supplier(), "rfq", "accept", &["r1"]).unwrap();
    assert_eq!(refused(&mut ledger, &carrier(), "createFromRfq", create).0, 403);
    let (status, message) = refused(&mut ledger, &buyer(), "createFromRfq", "r9");
    assert_eq!(
        (status, message.contains("RFQ r9 is unknown")),
        (404, true),
        "{message}"
    );

    let tx = ledger
        .submit(&buyer(), "shipment", "createFromRfq", &[create])
        .unwrap();
    let (name, payload) = tx.event.clone().unwrap();
    let shipment: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(name, "shipment.created");
    assert_eq!(
        shipment["conditions"],
        json!([{"field":"temperature","min":"-5","max":"25"}])
    );
    assert_eq!(
        (&shipment["shipper"], &shipment["consignee"]),
        (&json!("SupplierMSP"), &json!("BuyerMSP"))
    );
    assert_eq!(shipment["rfq"], json!({"chaincode":"rfq","id":"r1"}));
    assert_eq!(
        (&shipment["quantity"], &shipment["deliverBy"]),
        (&json!("200"), &json!("2026-05-01T00:00:00Z"))
    );

    let (status, message) = refused(
        &mut ledger,
        &supplier(),
        "createFromRfq",
        r#"{"id":"s2","rfq":"r1"}"#,
    );
    assert_eq!(
        (status, message.contains("already become shipment s1")),
        (409, true),
        "{message}"
    );
    assert_eq!(ask(&mut ledger, "get", &["s1"])["holder"], "SupplierMSP");
}

#[test]
fn custody_passes_in_two_steps_and_only_between_parties() {
    let mut ledger = with_shipment();
    let offer = r#"{"shipment":"s1","to":"CarrierMSP","note":"dock 4"}"#;
    assert_eq!(refused(&mut ledger, &carrier(), "offerHandover", offer).0, 403);
    assert_eq!(
        refused(
            &mut ledger,
            &supplier(),
            "offerHandover",
            r#"{"shipment":"s1","to":"OtherMSP"}"#
        )
        .0,
        400
    );
    assert_eq!(
        refused(
            &mut ledger,
            &supplier(),
            "offerHandover",
            r#"{"shipment":"s1","to":"SupplierMSP"}"#
        )
        .0,
        400
    );
    assert_eq!(
        refused(
            &mut ledger,
            &supplier(),
            "offerHandover",
            r#"{"shipment":"s9","to":"CarrierMSP"}"#
        )
        .0,
        404
    );
    assert_eq!(refused(&mut ledger, &carrier(), "acceptHandover", "s1").0, 409);
    assert_eq!(refused(&mut ledger, &supplier(), "handOver", offer).0, 409);
    assert_eq!(
        refused(&mut ledger, &device("SupplierMSP", "d1"), "offerHandover", offer).0,
        403
    );

    let tx = ledger
        .submit(&supplier(), "shipment", "offerHandover", &[offer])
        .unwrap();
    let (name, payload) = tx.event.unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (name.as_str(), &payload["action"], &payload["holder"]),
        ("shipment.custody", &json!("offered"), &json!("SupplierMSP"))
    );
    assert_eq!(
        refused(
            &mut ledger,
            &supplier(),
            "offerHandover",
            r#"{"shipment":"s1","to":"BuyerMSP"}"#
        )
        .0,
        409
    );
    assert_eq!(refused(&mut ledger, &buyer(), "acceptHandover", "s1").0, 403);
    assert_eq!(
        refused(
            &mut ledger,
            &TestCaller::new("OtherMSP", "x"),
            "acceptHandover",
            "s1"
        )
        .0,
        403
    );
    ledger
        .submit(&carrier(), "shipment", "refuseHandover", &["s1"])
        .unwrap();
    ledger
        .submit(&supplier(), "shipment", "offerHandover", &[offer])
        .unwrap();
    ledger
        .submit(&carrier(), "shipment", "acceptHandover", &["s1"])
        .unwrap();
    let summary = ask(&mut ledger, "summary", &["s1"]);
    assert_eq!(
        (&summary["status"], &summary["holder"]),
        (&json!("inTransit"), &json!("CarrierMSP"))
    );
    assert_eq!(summary["custody"][1]["note"], "dock 4");

    assert_eq!(refused(&mut ledger, &supplier(), "deliver", "s1").0, 403);
    let tx = ledger.submit(&buyer(), "shipment", "deliver", &["s1"]).unwrap();
    assert_eq!(tx.event.unwrap().0, "shipment.delivered");
    let summary = ask(&mut ledger, "summary", &["s1"]);
    let holders: Vec<_> = summary["custody"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["holder"])
        .collect();
    assert_eq!(holders, ["SupplierMSP", "CarrierMSP", "BuyerMSP"]);
    assert_eq!(refused(&mut ledger, &buyer(), "deliver", "s1").0, 409);
    assert_eq!(refused(&mut ledger, &buyer(), "offerHandover", offer).0, 409);
}

#[test]
fn custody_passes_in_one_step_where_that_was_agreed() {
    let mut ledger = ledger();
    let shipment = r#"{"id":"s1","goods":"steel","consignee":"BuyerMSP","carriers":["CarrierMSP"],"directHandover":"true"}"#;
    ledger
        .submit(&supplier(), "shipment", "create", &[shipment])
        .unwrap();
    ledger
        .submit(
            &supplier(),
            "shipment",
            "handOver",
            &[r#"{"shipment":"s1","to":"CarrierMSP"}"#],
        )
        .unwrap();
    assert_eq!(ask(&mut ledger, "get", &["s1"])["holder"], "CarrierMSP");
    ledger
        .submit(
            &carrier(),
            "shipment",
            "amend",
            &[r#"{"shipment":"s1","carriers":["RailMSP"]}"#],
        )
        .unwrap();
    ledger
        .submit(
            &carrier(),
            "shipment",
            "handOver",
            &[r#"{"shipment":"s1","to":"RailMSP"}"#],
        )
        .unwrap();
    assert_eq!(
        refused(&mut ledger, &carrier(), "amend", r#"{"shipment":"s1"}"#).0,
        403
    );
    assert_eq!(
        ask(&mut ledger, "list", &["RailMSP"])["shipments"][0]["holder"],
        "RailMSP"
    );
    assert_eq!(
        ask(&mut ledger, "list", &[r#"{"status":"delivered"}"#])["shipments"],
        json!([])
    );
}

#[test]
fn a_reading_is_kept_exactly_and_once() {
    let mut ledger = with_shipment();
    let tracker = device("CarrierMSP", "tracker-1");
    let tx = ledger
        .submit(&tracker, "shipment", "recordReading", &[READING])
        .unwrap();
    assert_eq!((tx.write_count(), &tx.event), (1, &None));
    let again = READING
        .replace("\"16.80\"", "16.8")
        .replace("2026-01-01T08:00:00+01:00", "2026-01-01T07:00:00.000Z");
    let tx = ledger
        .submit(&tracker, "shipment", "recordReading", &[&again])
        .unwrap();
    assert_eq!(tx.write_count(), 0);
    assert_eq!(
        serde_json::from_slice::<Value>(&tx.response.payload).unwrap()["known"],
        1
    );
    for other in [
        READING.replace("16.80", "16.81"),
        READING.replace("51.373299", "51.3733"),
        READING.replace("08:00:00", "08:00:01"),
    ] {
        let (status, message) = refused(&mut ledger, &tracker, "recordReading", &other);
        assert_eq!(
            (status, message.contains("already recorded with other content")),
            (409, true),
            "{message}"
        );
    }
    let page = ask(&mut ledger, "readings", &["s1"]);
    let stored = &page["readings"][0];
    assert_eq!(stored["values"], json!({"temperature":"16.8","humidity":"30.9"}));
    assert_eq!(
        stored["position"],
        json!({"lat":"51.373299","lon":"12.4613","accuracy":"cellid"})
    );
    assert_eq!(
        (&stored["time"], &stored["mspId"], &stored["late"]),
        (
            &json!("2026-01-01T07:00:00Z"),
            &json!("CarrierMSP"),
            &json!(false)
        )
    );
}

#[test]
fn only_enrolled_and_listed_devices_write() {
    let mut ledger = with_shipment();
    let record = |who: &TestCaller, text: &str, ledger: &mut _| refused(ledger, who, "recordReading", text);
    let (status, message) = record(&carrier(), READING, &mut ledger);
    assert_eq!(
        (status, message.contains("selvedge.device")),
        (403, true),
        "{message}"
    );
    assert_eq!(
        record(
            &carrier().attribute("selvedge.device", "yes"),
            READING,
            &mut ledger
        )
        .0,
        403
    );
    assert_eq!(record(&device("OtherMSP", "d"), READING, &mut ledger).0, 403);
    assert_eq!(
        record(
            &device("CarrierMSP", "d"),
            &READING.replace("s1", "s2"),
            &mut ledger
        )
        .0,
        404
    );
    let named = READING.replace("\"stream\"", "\"device\":\"probe\",\"stream\"");
    assert_eq!(record(&device("CarrierMSP", "d"), &named, &mut ledger).0, 403);
    let gateway = TestCaller::new("CarrierMSP", "gw").attribute("selvedge.gateway", "true");
    ledger
        .submit(&gateway, "shipment", "recordReading", &[&named])
        .unwrap();
    assert_eq!(
        ask(&mut ledger, "readings", &["s1"])["readings"][0]["gateway"],
        "gw"
    );

    let listed = r#"{"id":"s2","goods":"steel","consignee":"BuyerMSP","devices":["t1",{"mspId":"RailMSP","id":"t2"}]}"#;
    ledger
        .submit(&supplier(), "shipment", "create", &[listed])
        .unwrap();
    let text = READING.replace("s1", "s2");
    ledger
        .submit(
            &device("SupplierMSP", "t1"),
            "shipment",
            "recordReading",
            &[&text],
        )
        .unwrap();
    ledger
        .submit(&device("RailMSP", "t2"), "shipment", "recordReading", &[&text])
        .unwrap();
    let renamed = device("SupplierMSP", "certificate-7").attribute("selvedge.device.id", "t1");
    assert_eq!(
        ledger
            .submit(&renamed, "shipment", "recordReading", &[&text])
            .unwrap()
            .write_count(),
        0
    );
    assert_eq!(record(&device("RailMSP", "t1"), &text, &mut ledger).0, 403);
    assert_eq!(record(&device("SupplierMSP", "t2"), &text, &mut ledger).0, 403);
    assert_eq!(record(&device("BuyerMSP", "t3"), &text, &mut ledger).0, 403);
    ledger
        .submit(
            &supplier(),
            "shipment",
            "amend",
            &[r#"{"shipment":"s2","devices":["t3"]}"#],
        )
        .unwrap();
    ledger
        .submit(&device("BuyerMSP", "t3"), "shipment", "recordReading", &[&text])
        .unwrap();
    assert_eq!(
        refused(
            &mut ledger,
            &supplier(),
            "amend",
            r#"{"shipment":"s1","devices":["t3"]}"#
        )
        .0,
        409
    );
}

#[test]
fn readings_never_conflict_with_each_other_nor_with_custody() {
    let mut ledger = with_shipment();
    let mut block = vec![ledger.simulate(
        &supplier(),
        "shipment",
        "offerHandover",
        &[r#"{"shipment":"s1","to":"CarrierMSP"}"#],
    )];
    for sequence in 0..20 {
        let tracker = device("CarrierMSP", if sequence % 2 == 0 { "a" } else { "b" });
        let text = reading(sequence, "2026-01-01T08:00:00Z", "20");
        block.push(ledger.simulate(&tracker, "shipment", "recordReading", &[&text]));
    }
    assert_eq!(ledger.commit(&block), vec![Verdict::Valid; 21]);
    let twice: Vec<_> = (0..2)
        .map(|_| {
            ledger.simulate(
                &device("CarrierMSP", "c"),
                "shipment",
                "recordReading",
                &[&reading(1, "2026-01-01T08:00:00Z", "20")],
            )
        })
        .collect();
    assert_eq!(ledger.commit(&twice), [Verdict::Valid, Verdict::MvccConflict]);
}

#[test]
fn a_violation_is_announced_by_the_transaction_that_records_it() {
    let mut ledger = with_shipment();
    let batch = r#"{"shipment":"s1","stream":"main","readings":[
        {"sequence":1,"time":"2026-01-01T08:00:00Z","values":{"temperature":"25"}},
        {"sequence":2,"time":"2026-01-01T08:05:00Z","values":{"temperature":"25.000000000000000001","humidity":4}},
        {"sequence":2,"time":"2026-01-01T08:05:00Z","values":{"temperature":"25.000000000000000001","humidity":4}},
        {"sequence":3,"time":"2026-01-01T08:10:00Z","values":{"humidity":"60.1"}}]}"#;
    let tracker = device("CarrierMSP", "t");
    let tx = ledger
        .submit(&tracker, "shipment", "recordReadings", &[batch])
        .unwrap();
    let (name, payload) = tx.event.unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (name.as_str(), &payload["count"]),
        ("shipment.violation", &json!(3))
    );
    assert_eq!(payload["violations"][0]["value"], "25.000000000000000001");
    assert_eq!(payload["violations"][2]["max"], "60");
    let outcome: Value = serde_json::from_slice(&tx.response.payload).unwrap();
    assert_eq!((&outcome["recorded"], &outcome["known"]), (&json!(3), &json!(1)));
    let again = ledger
        .submit(&tracker, "shipment", "recordReadings", &[batch])
        .unwrap();
    assert_eq!(
        (
            again.event,
            ledger
                .keys("shipment")
                .iter()
                .filter(|key| key.contains("reading"))
                .count()
        ),
        (None, 3)
    );

    let summary = ask(&mut ledger, "summary", &["s1"]);
    assert_eq!(
        (&summary["conditionsHeld"], &summary["violationCount"]),
        (&json!(false), &json!(3))
    );
    assert_eq!(
        summary["violationsByField"],
        json!({"temperature":1,"humidity":2})
    );
    let short = ask(
        &mut ledger,
        "summary",
        &[r#"{"shipment":"s1","maxViolations":1,"maxRoute":0}"#],
    );
    assert_eq!(
        (
            short["violations"].as_array().unwrap().len(),
            &short["violationCount"]
        ),
        (1, &json!(3))
    );
}

#[test]
fn a_batch_is_taken_as_a_whole_or_not_at_all() {
    let mut ledger = with_shipment();
    let tracker = device("CarrierMSP", "t");
    let differing = format!(
        "[{},{}]",
        reading(1, "2026-01-01T08:00:00Z", "1"),
        reading(1, "2026-01-01T08:00:00Z", "2")
    );
    assert_eq!(
        refused(&mut ledger, &tracker, "recordReadings", &differing).0,
        409
    );
    assert_eq!(ask(&mut ledger, "summary", &["s1"])["readings"], 0);
    let many = vec![reading(1, "2026-01-01T08:00:00Z", "1"); 501].join(",");
    assert_eq!(
        refused(&mut ledger, &tracker, "recordReadings", &format!("[{many}]")).0,
        400
    );
    assert_eq!(refused(&mut ledger, &tracker, "recordReadings", "[]").0, 400);
}

#[test]
fn late_readings_are_kept_and_flagged() {
    let mut ledger = with_shipment();
    let tracker = device("CarrierMSP", "t");
    ledger
        .submit(
            &tracker,
            "shipment",
            "recordReading",
            &[&reading(1, "2025-12-30T08:00:00Z", "20")],
        )
        .unwrap();
    ledger.submit(&buyer(), "shipment", "deliver", &["s1"]).unwrap();
    ledger
        .submit(
            &tracker,
            "shipment",
            "recordReading",
            &[&reading(2, "2025-12-31T08:00:00Z", "21")],
        )
        .unwrap();
    ledger
        .submit(
            &tracker,
            "shipment",
            "recordReading",
            &[&reading(3, "2026-02-01T08:00:00Z", "40")],
        )
        .unwrap();
    let summary = ask(&mut ledger, "summary", &["s1"]);
    assert_eq!(
        (
            &summary["readings"],
            &summary["lateReadings"],
            &summary["readingsAfterDelivery"]
        ),
        (&json!(3), &json!(2), &json!(1))
    );
    // Too warm only in the consignee's hands: the conditions of the shipment held.
    assert_eq!(
        (&summary["conditionsHeld"], &summary["violationCount"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(summary["violations"][0]["afterDelivery"], true);
    let page = ask(&mut ledger, "readings", &["s1"]);
    let flags: Vec<_> = page["readings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (&r["late"], &r["afterDelivery"]))
        .collect();
    assert_eq!(
        flags,
        [
            (&json!(false), &json!(false)),
            (&json!(true), &json!(false)),
            (&json!(true), &json!(true))
        ]
    );
}

#[test]
fn readings_come_in_pages() {
    let mut ledger = with_shipment();
    for (msp_id, stream) in [("CarrierMSP", "a"), ("CarrierMSP", "b"), ("BuyerMSP", "a")] {
        let batch: Vec<_> = [9_u64, 10, 0, u64::MAX]
            .map(|sequence| json!({"sequence":sequence.to_string(),"time":"2026-01-01T08:00:00Z"}))
            .to_vec();
        let batch = json!({"shipment":"s1","stream":stream,"readings":batch}).to_string();
        ledger
            .submit(&device(msp_id, "t"), "shipment", "recordReadings", &[&batch])
            .unwrap();
    }
    let (mut from, mut seen) = (String::new(), Vec::new());
    loop {
        let page = ask(&mut ledger, "readings", &["s1", &from, "5"]);
        for reading in page["readings"].as_array().unwrap() {
            seen.push((
                reading["mspId"].clone(),
                reading["stream"].clone(),
                reading["sequence"].as_u64().unwrap(),
            ));
        }
        match page.get("bookmark") {
            Some(bookmark) => from = bookmark.as_str().unwrap().to_owned(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 12);
    assert_eq!(
        seen[..4].iter().map(|entry| entry.2).collect::<Vec<_>>(),
        [0, 9, 10, u64::MAX]
    );
    let auditor = TestCaller::new("AuditorMSP", "ann");
    for args in [
        ["s1", "nonsense", ""],
        ["s1", "", "0"],
        ["s1", "", "1001"],
        ["s1", "", "x"],
    ] {
        assert_eq!(
            ledger
                .evaluate(&auditor, "shipment", "readings", &args)
                .unwrap_err()
                .status(),
            400,
            "{args:?}"
        );
    }
    assert_eq!(
        ledger
            .evaluate(&auditor, "shipment", "readings", &["s2"])
            .unwrap_err()
            .status(),
        404
    );
}

#[test]
fn wrong_readings_are_answered_with_the_field() {
    let mut ledger = with_shipment();
    let tracker = device("CarrierMSP", "t");
    for (from, to, named) in [
        ("\"sequence\":1,", "", "reading.sequence is missing"),
        (
            "\"sequence\":1",
            "\"sequence\":-1",
            "reading.sequence must be a whole number",
        ),
        (
            "\"sequence\":1",
            "\"sequence\":1.5",
            "reading.sequence must be a whole number",
        ),
        (
            "2026-01-01T08:00:00+01:00",
            "yesterday",
            "reading.time must be an RFC 3339 time",
        ),
        ("51.373299", "91", "reading.position.lat must be -90 to 90"),
        ("30.9", "\"wet\"", "reading.values.humidity must be a decimal"),
        ("\"stream\":\"main\",", "", "reading.stream is missing"),
        ("\"values\"", "\"valves\"", "reading.valves is unknown"),
        (
            "\"shipment\":\"s1\"",
            "\"shipment\":\"s\\u0000\"",
            "reading.shipment contains control",
        ),
    ] {
        let (status, message) = refused(&mut ledger, &tracker, "recordReading", &READING.replace(from, to));
        assert_eq!(
            (status, message.contains(named)),
            (400, true),
            "{message} / {named}"
        );
    }
    for (function, arg) in [
        ("create", r#"{"goods":"x"}"#),
        ("create", r#"{"goods":"x","consignee":"SupplierMSP"}"#),
        ("deliver", ""),
    ] {
        assert_eq!(
            refused(&mut ledger, &supplier(), function, arg).0,
            400,
            "{function} {arg}"
        );
    }
    assert_eq!(
        refused(
            &mut ledger,
            &supplier(),
            "create",
            r#"{"id":"s1","goods":"x","consignee":"BuyerMSP"}"#
        )
        .0,
        409
    );
}

#[test]
fn the_public_view_shows_that_it_exists() {
    let mut ledger = with_shipment();
    let visitor = TestCaller::new("BuyerMSP", "visitor").attribute("selvedge.view", "public");
    let answer = ledger.evaluate(&visitor, "shipment", "get", &["s1"]).unwrap();
    let seen: Value = serde_json::from_slice(&answer).unwrap();
    let members: Vec<&String> = seen.as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        ["consignee", "createdAt", "id", "shipper", "status", "view"]
    );
    let answer = ledger.evaluate(&visitor, "shipment", "list", &[]).unwrap();
    let page: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(page["shipments"][0], seen);
    for function in ["readings", "summary"] {
        let refused = ledger
            .evaluate(&visitor, "shipment", function, &["s1"])
            .unwrap_err();
        assert_eq!(refused.status(), 403, "{function}");
    }
}
