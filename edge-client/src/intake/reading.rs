//! Readings: what devices measure, as they send it and as it goes on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arrival::Arrival;
use super::time;

/// Values in a reading at most.
const MAX_VALUES: usize = 256;
/// Longest name of a source, stream, value or label, in bytes.
const MAX_NAME: usize = 128;
/// Longest text of a value or label, in bytes.
const MAX_TEXT: usize = 4096;
/// Longest sealed content, in base64 characters.
const MAX_SEALED: usize = 512 * 1024;
/// The stream of readings that name none.
pub(crate) const DEFAULT_STREAM: &str = "readings";

/// Where a reading was taken; members are numbers, or texts with a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Degrees north.
    pub lat: Value,
    /// Degrees east.
    pub lon: Value,
    /// Metres, or how the position was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Value>,
}

/// A reading as a device sends it. Everything but the values may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SentReading {
    /// Who measured; the sender itself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Which of its series this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Its number in the stream, which identifies it for ever. Without one its time in milliseconds stands for it; without
    /// that too, the number of its message's arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// When it was taken (RFC 3339); the time of its arrival if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Where it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// What was measured, by name: numbers, or texts with a number, for edge rules and most contracts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Value>,
    /// Texts for the templates of the configuration, such as a shipment's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Content that only its owner can open, in base64; it passes through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

/// A reading with nothing left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reading {
    pub(crate) source: String,
    pub(crate) stream: String,
    /// The stream that a summary or an extreme was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<String>,
    pub(crate) sequence: u64,
    /// Unix milliseconds.
    pub(crate) at: u64,
    /// RFC 3339, as the device wrote it.
    pub(crate) time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<Position>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) values: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sealed: Option<String>,
}

/// The number in a value, if it is one.
pub(crate) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(flag) => Some(if *flag { 1.0 } else { 0.0 }),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    number.filter(|n: &f64| n.is_finite())
}

fn named(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!(
            "{what} must have 1 to {MAX_NAME} bytes without control characters"
        ));
    }
    Ok(())
}

impl SentReading {
    /// Checks the reading and fills in what was left out. `arrived` is when its message came, and `place` its place in the
    /// message.
    pub(crate) fn complete(self, sender: &str, arrived: Arrival, place: u64) -> Result<Reading, String> {
        let source = self.source.unwrap_or_else(|| sender.to_owned());
        let stream = self.stream.unwrap_or_else(|| DEFAULT_STREAM.to_owned());
        named("'source'", &source)?;
        named("'stream'", &stream)?;
        let (at, time, identity) = match self.time {
            Some(text) => {
                let at = time::parse(&text)?;
                (at, text, at)
            }
            // Readings of one message are told apart by their places in it.
            None => (
                arrived.at,
                time::format(arrived.at),
                arrived.number.saturating_mul(1000).saturating_add(place),
            ),
        };
        if self.values.len() > MAX_VALUES || self.labels.len() > MAX_VALUES {
            return Err(format!(
                "a reading has at most {MAX_VALUES} values and as many labels"
            ));
        }
        for (name, value) in &self.values {
            named("the name of a value", name)?;
            match value {
                Value::Number(_) | Value::Bool(_) => {}
                Value::String(text) if text.len() <= MAX_TEXT => {}
                _ => {
                    return Err(format!(
                        "value '{name}' must be a number or a text of at most {MAX_TEXT} bytes"
                    ));
                }
            }
        }
        for (name, text) in &self.labels {
            named("the name of a label", name)?;
            if text.len() > MAX_TEXT {
                return Err(format!("label '{name}' has more than {MAX_TEXT} bytes"));
            }
        }
        if let Some(position) = &self.position {
            for (name, value, limit) in [("lat", &position.lat, 90.0), ("lon", &position.lon, 180.0)] {
                if number(value).is_none_or(|degrees| degrees.abs() > limit) {
                    return Err(format!("position.{name} must be -{limit} to {limit} degrees"));
                }
            }
        }
        if let Some(sealed) = &self.sealed {
            use base64::Engine as _;
            if sealed.len() > MAX_SEALED || base64::engine::general_purpose::STANDARD.decode(sealed).is_err()
            {
                return Err(format!(
                    "'sealed' must be base64 of at most {MAX_SEALED} characters"
                ));
            }
        }
        if self.values.is_empty() && self.position.is_none() && self.sealed.is_none() {
            return Err("a reading needs values, a position, or sealed content".to_owned());
        }
        Ok(Reading {
            source,
            stream,
            origin: None,
            sequence: self.sequence.unwrap_or(identity),
            at,
            time,
            position: self.position,
            values: self.values,
            labels: self.labels,
            sealed: self.sealed,
        })
    }
}

/// Reads one reading or a list of them.
pub(crate) fn parse(body: &[u8], most: usize) -> Result<(Vec<SentReading>, bool), String> {
    let wrong = |e: serde_json::Error| format!("this is not a reading: {e}");
    let is_list = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    if !is_list {
        return Ok((vec![serde_json::from_slice(body).map_err(wrong)?], false));
    }
    let list: Vec<SentReading> = serde_json::from_slice(body).map_err(wrong)?;
    if list.is_empty() || list.len() > most {
        return Err(format!(
            "a list holds 1 to {most} readings; this one has {}",
            list.len()
        ));
    }
    Ok((list, true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arrival(at: u64) -> Arrival {
        Arrival { at, number: at }
    }

    fn sent(value: Value) -> SentReading {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let reading = sent(json!({ "values": { "temperature": 4 } }))
            .complete("box-1", arrival(1_453_368_351_000), 2)
            .unwrap();
        assert_eq!(
            (reading.source.as_str(), reading.stream.as_str()),
            ("box-1", "readings")
        );
        assert_eq!(reading.sequence, 1_453_368_351_000_002);
        assert_eq!(reading.time, "2016-01-21T09:25:51.000Z");
        let full = json!({
            "source": "s", "stream": "t", "sequence": 7, "time": "2016-01-21T10:25:51+01:00",
            "position": { "lat": "51.3", "lon": 12.4 }, "values": { "t": "1.50" },
        });
        let reading = sent(full).complete("box-1", arrival(5), 0).unwrap();
        assert_eq!((reading.source.as_str(), reading.sequence), ("s", 7));
        assert_eq!(reading.at, 1_453_368_351_000);
        assert_eq!(reading.values["t"], json!("1.50"), "digits stay as they are");
    }

    #[test]
    fn mistakes_are_named() {
        for (value, word) in [
            (json!({}), "needs values"),
            (json!({ "values": { "t": [1] } }), "'t'"),
            (json!({ "values": { "": 1 } }), "name of a value"),
            (json!({ "values": { "t": 1 }, "time": "yesterday" }), "yesterday"),
            (json!({ "values": { "t": 1 }, "stream": "" }), "'stream'"),
            (json!({ "position": { "lat": 91, "lon": 0 } }), "position.lat"),
            (json!({ "sealed": "???" }), "base64"),
        ] {
            let why = sent(value.clone()).complete("s", arrival(0), 0).unwrap_err();
            assert!(why.contains(word), "{value}: {why}");
        }
        assert!(parse(b"[]", 10).unwrap_err().contains("1 to 10"));
        assert!(parse(br#"{"valuez":{}}"#, 10).unwrap_err().contains("valuez"));
    }

    #[test]
    fn numbers_come_in_many_clothes() {
        assert_eq!(number(&json!("-12.50")), Some(-12.5));
        assert_eq!(number(&json!(true)), Some(1.0));
        assert_eq!(number(&json!("NaN")), None);
        assert_eq!(number(&json!("open")), None);
    }
}
