//! Edge rules as a state machine: no clock, no file. Times are Unix milliseconds that the caller hands in.
//!
//! The same readings in the same order give the same output, so the state after a crash is that of the readings noted
//! before it, applied again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{ChangeRule, OutsideRule, POSITION, Rule, RuleSet, WindowRule};
use super::window::{Counted, Windows, millis};
use crate::intake::reading::{Position, Reading, number};

/// Streams with a memory at most. Names come from devices.
const MAX_STREAMS: usize = 10_000;
const EARTH_RADIUS_METRES: f64 = 6_371_000.0;

/// What a reading led to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Applied {
    /// What is sent.
    pub(crate) out: Vec<Reading>,
    /// The memory is another one now, so the reading has to be noted before anything else happens.
    pub(crate) changed: bool,
}

/// There are too many streams.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyStreams;

/// The last value sent, for `change`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LastSent {
    value: Value,
    at: u64,
}

/// For `outside`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Band {
    is_out: bool,
    sent_at: Option<u64>,
}

/// What is remembered of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    last: BTreeMap<String, LastSent>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    bands: BTreeMap<String, Band>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<(Position, u64)>,
    /// By length in milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    windows: BTreeMap<u64, Windows>,
}

/// The memory of one stream, as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    source: String,
    stream: String,
    memory: Memory,
}

/// All streams.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Engine {
    streams: BTreeMap<(String, String), Memory>,
}

fn due(last: u64, every: Option<std::time::Duration>, at: u64) -> bool {
    every.is_some_and(|every| at >= last.saturating_add(millis(every)))
}

/// Metres between two places, on a sphere.
fn distance(a: &Position, b: &Position) -> Option<f64> {
    let radians = |value: &Value| number(value).map(f64::to_radians);
    let (lat1, lon1, lat2, lon2) = (
        radians(&a.lat)?,
        radians(&a.lon)?,
        radians(&b.lat)?,
        radians(&b.lon)?,
    );
    let h =
        ((lat2 - lat1) / 2.0).sin().powi(2) + lat1.cos() * lat2.cos() * ((lon2 - lon1) / 2.0).sin().powi(2);
    Some(2.0 * EARTH_RADIUS_METRES * h.sqrt().min(1.0).asin())
}

impl Memory {
    /// Whether the value passes; if so it is the last one sent.
    fn change(&mut self, rule: &ChangeRule, name: &str, value: &Value, at: u64) -> bool {
        let passes = match self.last.get(name) {
            None => true,
            Some(last) => {
                let differs = match (number(&last.value), number(value)) {
                    (Some(before), Some(now)) if rule.by > 0.0 => (now - before).abs() >= rule.by,
                    (Some(before), Some(now)) => (now - before).abs() > 0.0,
                    _ => last.value != *value,
                };
                differs || due(last.at, rule.at_least_every, at)
            }
        };
        if passes {
            let value = value.clone();
            self.last.insert(name.to_owned(), LastSent { value, at });
        }
        passes
    }

    /// Whether a number passes, and whether the memory has changed.
    fn outside(&mut self, rule: &OutsideRule, name: &str, value: f64, at: u64) -> (bool, bool) {
        let band = self.bands.entry(name.to_owned()).or_default();
        let within = |margin: f64| {
            rule.min.is_none_or(|min| value >= min + margin)
                && rule.max.is_none_or(|max| value <= max - margin)
        };
        let was_out = band.is_out;
        band.is_out = if was_out {
            !within(rule.hysteresis)
        } else {
            !within(0.0)
        };
        let turned = band.is_out != was_out;
        let sign_of_life = rule.at_least_every.is_some()
            && band.sent_at.is_none_or(|last| due(last, rule.at_least_every, at));
        let passes = band.is_out || turned || sign_of_life;
        if passes && rule.at_least_every.is_some() {
            band.sent_at = Some(at);
        }
        (passes, turned || (passes && rule.at_least_every.is_some()))
    }

    fn moved(&mut self, rule: &ChangeRule, position: &Position, at: u64) -> bool {
        let passes = match &self.place {
            None => true,
            Some((last, sent)) => {
                let far = match distance(last, position) {
                    Some(metres) if rule.by > 0.0 => metres >= rule.by,
                    _ => last != position,
                };
                far || due(*sent, rule.at_least_every, at)
            }
        };
        if passes {
            self.place = Some((position.clone(), at));
        }
        passes
    }
}

impl Engine {
    /// Applies the rules to a reading that arrived at `arrived`.
    pub(crate) fn apply(
        &mut self,
        rules: &RuleSet,
        reading: &Reading,
        arrived: u64,
    ) -> Result<Applied, TooManyStreams> {
        if rules.passes_all() {
            return Ok(Applied {
                out: vec![reading.clone()],
                changed: false,
            });
        }
        let key = (reading.source.clone(), reading.stream.clone());
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&key) {
            return Err(TooManyStreams);
        }
        let memory = self.streams.entry(key).or_default();
        let mut applied = Applied::default();
        let mut passing = Reading {
            values: BTreeMap::new(),
            position: None,
            ..reading.clone()
        };
        let mut windowed: BTreeMap<u64, Vec<(&String, &Value, f64, &WindowRule)>> = BTreeMap::new();
        for (name, value) in &reading.values {
            let passes = match (rules.of(name), number(value)) {
                (Rule::Every, _) => true,
                (Rule::Never, _) => false,
                (Rule::Change(rule), _) => {
                    let passes = memory.change(rule, name, value, reading.at);
                    applied.changed |= passes;
                    passes
                }
                (Rule::Outside(rule), Some(number)) => {
                    let (passes, changed) = memory.outside(rule, name, number, reading.at);
                    applied.changed |= changed;
                    passes
                }
                (Rule::Window(rule), Some(number)) => {
                    let length = millis(rule.length);
                    windowed
                        .entry(length)
                        .or_default()
                        .push((name, value, number, rule));
                    false
                }
                // What is no number cannot be judged, and is not to be lost.
                (Rule::Outside(_) | Rule::Window(_), None) => true,
            };
            if passes {
                passing.values.insert(name.clone(), value.clone());
            }
        }
        let mut summaries = Vec::new();
        for (length, values) in windowed {
            let windows = memory.windows.entry(length).or_default();
            match windows.count(length, reading, &values, arrived) {
                Counted::Yes => {
                    applied.changed = true;
                    summaries.extend(windows.close(length, &reading.source, &reading.stream));
                }
                Counted::Repeated => {}
                Counted::TooLate => {
                    for (name, value, ..) in values {
                        passing.values.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        let place_passes = match (&reading.position, rules.of_position()) {
            (None, _) | (_, Rule::Never) => false,
            (Some(position), Rule::Change(rule)) => {
                let passes = memory.moved(rule, position, reading.at);
                applied.changed |= passes;
                passes
            }
            (Some(_), _) => true,
        };
        let passes = place_passes || !passing.values.is_empty() || reading.sealed.is_some();
        if passes && *rules.of_position() != Rule::Never {
            passing.position.clone_from(&reading.position);
        }
        applied.out.extend(summaries);
        if passes {
            applied.out.push(passing);
        }
        Ok(applied)
    }

    /// Closes the windows of streams that have gone quiet. What comes out is to be sent; nothing has changed if it is
    /// empty.
    pub(crate) fn tick(&mut self, now: u64) -> Vec<Reading> {
        let mut out = Vec::new();
        for ((source, stream), memory) in &mut self.streams {
            for (length, windows) in &mut memory.windows {
                if windows.close_idle(*length, now) {
                    out.extend(windows.close(*length, source, stream));
                }
            }
        }
        out
    }

    /// Everything that is remembered.
    pub(crate) fn remembered(&self) -> Vec<Remembered> {
        self.streams
            .iter()
            .map(|((source, stream), memory)| Remembered {
                source: source.clone(),
                stream: stream.clone(),
                memory: memory.clone(),
            })
            .collect()
    }

    /// Remembers this as well.
    pub(crate) fn recall(&mut self, all: Vec<Remembered>) {
        let all = all.into_iter().map(|r| ((r.source, r.stream), r.memory));
        self.streams.extend(all);
    }
}

/// The position's own name is no value's.
pub(crate) fn is_reserved(name: &str) -> bool {
    name == POSITION
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
