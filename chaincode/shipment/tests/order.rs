//! The summary does not depend on how readings arrived: any order, any repetition, any batching, any devices in between.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod common;

use common::{ask, device, with_shipment};
use proptest::prelude::*;
use selvedge_chaincode::Decimal;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
struct Sent {
    device: u8,
    sequence: u64,
    minute: u32,
    temperature: Option<i32>,
    humidity: Option<i32>,
    place: Option<u8>,
}

impl Sent {
    fn json(&self) -> Value {
        let mut values = serde_json::Map::new();
        if let Some(tenths) = self.temperature {
            values.insert("temperature".into(), json!(format!("{tenths}e-1")));
        }
        if let Some(humidity) = self.humidity {
            values.insert("humidity".into(), json!(humidity));
        }
        let (hour, minute) = (self.minute / 60, self.minute % 60);
        let position = self
            .place
            .map(|place| json!({"lat": place, "lon": "12.5", "accuracy": 20}));
        json!({"shipment":"s1","stream":"main","sequence":self.sequence,"time":format!("2026-01-01T{hour:02}:{minute:02}:00Z"),
            "position":position,"values":values})
    }
}

/// A journey with few distinct times and values, so that ties occur.
fn journey() -> impl Strategy<Value = Vec<Sent>> {
    let one = (
        0u8..3,
        0u32..30,
        proptest::option::of(-50i32..350),
        proptest::option::of(0i32..80),
        proptest::option::of(0u8..4),
    );
    proptest::collection::vec(one, 1..40).prop_map(|all| {
        let number = |(sequence, (device, minute, temperature, humidity, place))| Sent {
            device,
            sequence,
            minute,
            temperature,
            humidity,
            place,
        };
        (0..).zip(all).map(number).collect()
    })
}

/// Sends readings as batches of the given sizes and hands back the summary without what names the transactions.
fn summary(readings: &[Sent], sizes: &[usize]) -> Value {
    let mut ledger = with_shipment();
    let mut rest = readings;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        // A batch is one device's, as its certificate signs the transaction.
        let sender = rest[0].device;
        let same = rest
            .iter()
            .take(*size)
            .take_while(|reading| reading.device == sender)
            .count();
        let (batch, after) = rest.split_at(same);
        let batch: Vec<Value> = batch.iter().map(Sent::json).collect();
        let tracker = device("CarrierMSP", &format!("t{sender}"));
        ledger
            .submit(
                &tracker,
                "shipment",
                "recordReadings",
                &[&json!(batch).to_string()],
            )
            .unwrap();
        rest = after;
    }
    let mut summary = ask(&mut ledger, "summary", &["s1"]);
    for violation in summary["violations"].as_array_mut().unwrap() {
        violation.as_object_mut().unwrap().remove("txId").unwrap();
    }
    summary
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_arrival_gives_the_same_summary(
        (readings, shuffled) in journey().prop_flat_map(|readings| {
            // Everything once in any order, and some of it again.
            let all = Just(readings.clone()).prop_shuffle();
            let again = proptest::sample::subsequence(readings.clone(), 0..=readings.len()).prop_shuffle();
            let mixed = (all, again).prop_map(|(mut all, again)| { all.extend(again); all });
            (Just(readings), mixed.prop_shuffle())
        }),
        sizes in proptest::collection::vec(1usize..20, 1..5),
    ) {
        let expected = summary(&readings, &[1]);
        prop_assert_eq!(&summary(&shuffled, &sizes), &expected);

        // And it is the right one, worked out from the readings in another way.
        prop_assert_eq!(&expected["readings"], readings.len());
        let temperatures: Vec<i32> = readings.iter().filter_map(|r| r.temperature).collect();
        let sensor = &expected["sensors"]["temperature"];
        if let (Some(min), Some(max)) = (temperatures.iter().min(), temperatures.iter().max()) {
            let tenths = |tenths: &i32| format!("{tenths}e-1").parse::<Decimal>().unwrap().to_string();
            prop_assert_eq!(&sensor["count"], temperatures.len());
            prop_assert_eq!(&sensor["min"]["value"], &tenths(min));
            prop_assert_eq!(&sensor["max"]["value"], &tenths(max));
            let cause = readings.iter().filter(|r| r.temperature == Some(*min)).map(|r| (r.minute, r.device, r.sequence)).min().unwrap();
            prop_assert_eq!(&sensor["min"]["sequence"], cause.2);
        }
        let broken = temperatures.iter().filter(|t| **t > 250).count()
            + readings.iter().filter_map(|r| r.humidity).filter(|h| !(5..=60).contains(h)).count();
        prop_assert_eq!(&expected["violationCount"], broken);
        let on_route: u64 = expected["route"].as_array().unwrap().iter().map(|p| p["readings"].as_u64().unwrap()).sum();
        prop_assert_eq!(on_route, readings.iter().filter(|r| r.place.is_some()).count() as u64);
    }
}
