//! The rules on made-up readings and on a container's journey.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::intake::arrival::Arrival;
use crate::intake::reading::SentReading;

fn rules(yaml: &str) -> RuleSet {
    let set: RuleSet = serde_yaml_ng::from_str(yaml).unwrap();
    set.check().unwrap();
    set
}

fn reading(sequence: u64, at: u64, values: Value) -> Reading {
    Reading {
        source: "box".into(),
        stream: "t".into(),
        origin: None,
        sequence,
        at,
        time: crate::intake::time::format(at),
        position: None,
        values: serde_json::from_value(values).unwrap(),
        labels: BTreeMap::new(),
        sealed: None,
    }
}

const HOUR: u64 = 3_600_000;

/// Values of `name` that pass, one reading a minute.
fn passing(set: &str, name: &str, values: &[f64]) -> Vec<f64> {
    let set = rules(set);
    let mut engine = Engine::default();
    let mut passed = Vec::new();
    for (sequence, value) in (0..).zip(values) {
        let reading = reading(sequence, sequence * 60_000, json!({ name: value }));
        for out in engine.apply(&set, &reading, 0).unwrap().out {
            passed.push(number(&out.values[name]).unwrap());
        }
    }
    passed
}

#[test]
fn only_changes_pass() {
    let values = [1.0, 1.0, 1.2, 1.5, 1.5, 0.9, 1.0];
    assert_eq!(
        passing("t: {rule: change}", "t", &values),
        [1.0, 1.2, 1.5, 0.9, 1.0]
    );
    assert_eq!(
        passing("t: {rule: change, by: 0.5}", "t", &values),
        [1.0, 1.5, 0.9]
    );
    let still = [1.0; 7];
    assert_eq!(
        passing("t: {rule: change, at_least_every: 3m}", "t", &still),
        [1.0, 1.0, 1.0]
    );
}

#[test]
fn only_what_is_outside_passes_and_the_way_back() {
    let set = "t: {rule: outside, min: 2, max: 8, hysteresis: 1}";
    let values = [5.0, 7.9, 8.1, 7.5, 8.2, 6.9, 5.0, 1.0, 2.5, 3.0, 4.0];
    assert_eq!(
        passing(set, "t", &values),
        [8.1, 7.5, 8.2, 6.9, 1.0, 2.5, 3.0],
        "7.5 is not far enough inside to count as back; 6.9 and 3.0 are"
    );
    let alive = "t: {rule: outside, max: 8, at_least_every: 2m}";
    assert_eq!(passing(alive, "t", &[5.0, 5.1, 5.2, 5.3]), [5.0, 5.2]);
}

#[test]
fn texts_and_positions_have_their_rules_too() {
    let set = rules("door: {rule: change}\nposition: {rule: change, by: 500}\n'*': never");
    let mut engine = Engine::default();
    let mut sent = |sequence, door: &str, lat: f64| {
        let mut reading = reading(sequence, sequence, json!({ "door": door, "light": 3 }));
        reading.position = serde_json::from_value(json!({ "lat": lat, "lon": 12.0 })).unwrap();
        let out = engine.apply(&set, &reading, 0).unwrap().out;
        out.first().map(|r| {
            (
                r.values.len(),
                r.position.is_some(),
                r.values.contains_key("light"),
            )
        })
    };
    assert_eq!(sent(1, "shut", 51.0), Some((1, true, false)));
    assert_eq!(sent(2, "shut", 51.001), None, "111 m");
    assert_eq!(sent(3, "open", 51.001), Some((1, true, false)));
    assert_eq!(sent(4, "open", 51.01), Some((0, true, false)));
}

#[test]
fn a_window_is_told_once_it_is_over() {
    let set = rules("t: {rule: window, length: 1h, extremes: true}\ndoor: every");
    let mut engine = Engine::default();
    let mut apply = |sequence, at, values| engine.apply(&set, &reading(sequence, at, values), at).unwrap();
    assert!(apply(1, 0, json!({ "t": "4.0" })).out.is_empty());
    assert!(apply(2, 60_000, json!({ "t": "7.5" })).out.is_empty());
    let again = apply(2, 60_000, json!({ "t": "7.5" }));
    assert_eq!(again, Applied::default(), "what comes again counts once");
    let passed = apply(3, 120_000, json!({ "t": "2.5", "door": 1 })).out;
    assert_eq!((passed.len(), passed[0].values.len()), (1, 1));
    let out = apply(4, HOUR, json!({ "t": 5 })).out;
    let summary = &out[0];
    assert_eq!(
        (
            summary.stream.as_str(),
            summary.origin.as_deref(),
            summary.sequence,
            summary.time.as_str()
        ),
        ("t.1h", Some("t"), 0, "1970-01-01T00:00:00.000Z")
    );
    assert_eq!(
        serde_json::to_value(&summary.values).unwrap(),
        json!({ "t.min": "2.5", "t.max": "7.5", "t.mean": 4.666_667, "t.count": 3 })
    );
    let extremes: Vec<_> = out[1..].iter().map(|r| (r.stream.as_str(), r.sequence)).collect();
    assert_eq!(extremes, [("t.1h.extremes", 2), ("t.1h.extremes", 3)]);
    // Its window is closed: it passes as it is.
    let late = apply(5, 180_000, json!({ "t": 9 }));
    assert_eq!((late.changed, late.out[0].values["t"].clone()), (false, json!(9)));
}

#[test]
fn a_window_waits_for_late_readings_and_for_no_more_than_its_time() {
    let set = rules("t: {rule: window, length: 1h, lateness: 10m}");
    let mut engine = Engine::default();
    let mut apply = |sequence, at| {
        engine
            .apply(&set, &reading(sequence, at, json!({ "t": 1 })), 5000)
            .unwrap()
            .out
    };
    assert!(apply(1, 0).is_empty());
    assert!(apply(2, HOUR + 9 * 60_000).is_empty());
    assert!(apply(3, 1000).is_empty(), "still in time");
    let out = apply(4, HOUR + 10 * 60_000);
    assert_eq!(out[0].values["t.count"], json!(2));
    // Nothing comes any more: the machine's clock decides.
    assert!(engine.tick(5000 + HOUR + 10 * 60_000 - 1).is_empty());
    let out = engine.tick(5000 + HOUR + 10 * 60_000);
    assert_eq!((out.len(), out[0].values["t.count"].clone()), (1, json!(2)));
    assert!(engine.tick(u64::MAX).is_empty());
}

#[test]
fn the_number_of_streams_is_bounded() {
    let set = rules("t: {rule: change}");
    let mut engine = Engine::default();
    let mut apply = |n: usize| {
        let mut reading = reading(1, 1, json!({ "t": 1 }));
        reading.stream = n.to_string();
        engine.apply(&set, &reading, 1).map(|_| ())
    };
    for n in 0..MAX_STREAMS {
        apply(n).unwrap();
    }
    assert_eq!(apply(MAX_STREAMS), Err(TooManyStreams));
    apply(0).unwrap();
}

/// Reads a tracker's file as readings.
fn journey(path: &Path) -> Vec<Reading> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut all = Vec::new();
    for (sequence, line) in (1..).zip(lines) {
        let mut sent = SentReading {
            sequence: Some(sequence),
            ..SentReading::default()
        };
        for (name, cell) in names
            .iter()
            .zip(line.split(','))
            .filter(|(_, cell)| !cell.is_empty())
        {
            match *name {
                "time_utc" => sent.time = Some(cell.to_owned()),
                "lat" | "lon" | "accuracy" => {}
                other => drop(sent.values.insert(other.to_owned(), json!(cell))),
            }
        }
        if !sent.values.is_empty() {
            all.push(sent.complete("tracker", Arrival { at: 0, number: 0 }, 0).unwrap());
        }
    }
    assert!(all.len() > 100, "{} has a journey", path.display());
    all
}

/// The journey in the project, and those in a folder that `SELVEDGE_JOURNEYS` names.
fn journeys() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../network-configs/journeys/small.csv");
    let mut all = vec![own];
    if let Some(folder) = std::env::var_os("SELVEDGE_JOURNEYS") {
        let files = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path());
        all.extend(files.filter(|f| f.file_name().unwrap().to_string_lossy().starts_with("container-")));
    }
    all
}

#[test]
fn windows_over_a_journey_tell_the_same_as_all_of_it() {
    let set = rules("'*': {rule: window, length: 6h, lateness: 2d, extremes: true}");
    for path in journeys() {
        let readings = journey(&path);
        let mut engine = Engine::default();
        let mut out = Vec::new();
        for reading in &readings {
            out.extend(engine.apply(&set, reading, 0).unwrap().out);
        }
        out.extend(engine.tick(u64::MAX));
        for name in ["temperature", "humidity"] {
            let all: Vec<f64> = readings
                .iter()
                .filter_map(|r| number(r.values.get(name)?))
                .collect();
            // Windows, and what came too late for its window.
            let told = |suffix: &str| -> Vec<f64> {
                let of = |r: &Reading| match r.origin {
                    Some(_) => r.values.get(&format!("{name}.{suffix}")).and_then(number),
                    None => r.values.get(name).and_then(number),
                };
                out.iter().filter_map(of).collect()
            };
            let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let place = format!("{name} in {}", path.display());
            assert!((least(&told("min")) - least(&all)).abs() < 1e-9, "{place}");
            assert!((most(&told("max")) - most(&all)).abs() < 1e-9, "{place}");
            let counted: f64 = out
                .iter()
                .map(|r| match r.origin {
                    Some(_) => r
                        .values
                        .get(&format!("{name}.count"))
                        .and_then(number)
                        .unwrap_or(0.0),
                    None => f64::from(u8::from(r.values.contains_key(name))),
                })
                .sum();
            #[expect(clippy::cast_precision_loss, reason = "a few thousand rows")]
            let rows = all.len() as f64;
            assert!(
                (counted - rows).abs() < 0.5,
                "{place}: each value is in one window"
            );
            // The extremes are readings that were made.
            let extremes = out.iter().filter(|r| r.stream.ends_with(".extremes"));
            for extreme in extremes.filter(|r| r.values.contains_key(name)) {
                let original = readings.iter().find(|r| r.sequence == extreme.sequence).unwrap();
                assert_eq!(original.values[name], extreme.values[name], "{place}");
                assert_eq!(original.time, extreme.time, "{place}");
            }
        }
        let identities: BTreeSet<_> = out.iter().map(|r| (r.stream.clone(), r.sequence)).collect();
        assert_eq!(identities.len(), out.len(), "no two have the same identity");
        assert!(out.len() < readings.len(), "{}", path.display());
    }
}

#[test]
fn on_a_journey_every_violation_passes_a_band() {
    let set = rules("temperature: {rule: outside, min: 0, max: 8, hysteresis: 1}\n'*': never");
    for path in journeys() {
        let readings = journey(&path);
        let mut engine = Engine::default();
        let mut passed = BTreeSet::new();
        for reading in &readings {
            let out = engine.apply(&set, reading, 0).unwrap().out;
            passed.extend(out.iter().map(|r| r.sequence));
        }
        for reading in &readings {
            if let Some(value) = reading.values.get("temperature").and_then(number)
                && !(0.0..=8.0).contains(&value)
            {
                assert!(
                    passed.contains(&reading.sequence),
                    "{}: {reading:?}",
                    path.display()
                );
            }
        }
        assert!(passed.len() < readings.len(), "{}", path.display());
    }
}

#[derive(Debug, Clone)]
enum Act {
    Apply { sequence: u64, at: u64, value: i32 },
    Tick(u64),
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..60_u64, 0..4 * HOUR, -20..20_i32)
            .prop_map(|(sequence, at, value)| Act::Apply { sequence, at, value }),
        1 => (0..8 * HOUR).prop_map(Act::Tick),
        1 => Just(Act::Crash),
    ]
}

proptest! {
    /// Writing the memory down and reading it again changes nothing, wherever that happens.
    #[test]
    fn a_memory_that_is_written_down_is_the_same_memory(acts in prop::collection::vec(act(), 0..80)) {
        let set = rules(
            "w: {rule: window, length: 1h, lateness: 20m, extremes: true}\n\
             c: {rule: change, by: 3, at_least_every: 30m}\n\
             o: {rule: outside, min: -5, max: 5, hysteresis: 2, at_least_every: 1h}",
        );
        let (mut steady, mut shaken) = (Engine::default(), Engine::default());
        for act in acts {
            match act {
                Act::Apply { sequence, at, value } => {
                    let reading = reading(sequence, at, json!({ "w": value, "c": value, "o": value }));
                    prop_assert_eq!(
                        steady.apply(&set, &reading, at).unwrap(),
                        shaken.apply(&set, &reading, at).unwrap()
                    );
                }
                Act::Tick(now) => prop_assert_eq!(steady.tick(now), shaken.tick(now)),
                Act::Crash => {
                    let written = serde_json::to_vec(&shaken.remembered()).unwrap();
                    shaken = Engine::default();
                    shaken.recall(serde_json::from_slice(&written).unwrap());
                }
            }
        }
    }

    /// Each reading with a number is in exactly one summary, or passed because it was late.
    #[test]
    fn no_reading_is_lost_in_windows(
        readings in prop::collection::vec((0..200_u64, 0..6 * HOUR, -100..100_i32), 1..150),
    ) {
        let set = rules("w: {rule: window, length: 1h, lateness: 15m}");
        let mut engine = Engine::default();
        let mut out = Vec::new();
        let mut seen = BTreeSet::new();
        let mut distinct = Vec::new();
        for (sequence, at, value) in readings {
            // A sequence number belongs to one reading.
            if seen.insert(sequence) {
                distinct.push(value);
                out.extend(engine.apply(&set, &reading(sequence, at, json!({ "w": value })), at).unwrap().out);
            }
        }
        out.extend(engine.tick(u64::MAX));
        let mut count = 0;
        let mut sum = 0.0;
        for told in &out {
            match told.values.get("w.count") {
                Some(n) => {
                    let n = n.as_u64().unwrap();
                    count += n;
                    sum += number(&told.values["w.mean"]).unwrap() * f64::from(u32::try_from(n).unwrap());
                    let (min, max) = (number(&told.values["w.min"]).unwrap(), number(&told.values["w.max"]).unwrap());
                    let mean = number(&told.values["w.mean"]).unwrap();
                    prop_assert!(min <= mean + 1e-6 && mean <= max + 1e-6);
                }
                None => {
                    count += 1;
                    sum += number(&told.values["w"]).unwrap();
                }
            }
        }
        prop_assert_eq!(count, distinct.len() as u64);
        let expected: f64 = distinct.iter().map(|v| f64::from(*v)).sum();
        prop_assert!((sum - expected).abs() < 1e-3);
    }
}
