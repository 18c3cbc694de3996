//! Routes: which transaction a reading becomes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::pattern::Pattern;
use super::reading::Reading;
use crate::buffer::{Priority, TransactionRequest};
use crate::rules::RuleSet;

/// Tells which readings become transactions of which contract. The first route that matches counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Sources that it is for, with `*` for any run of characters.
    #[serde(default)]
    pub source: Pattern,
    /// Streams that it is for.
    #[serde(default)]
    pub stream: Pattern,
    /// The channel.
    pub channel: String,
    /// The chaincode.
    pub chaincode: String,
    /// The function.
    pub function: String,
    /// Its arguments: JSON in which `{source}`, `{stream}`, `{sequence}`, `{time}`, `{time_ms}`, `{position}`, `{values}`,
    /// `{value.NAME}`, `{label.NAME}`, `{sealed}` and `{gateway}` stand for parts of the reading. A text that is nothing but
    /// one of them becomes that part as it is; a member of an object whose part is absent is left out.
    #[serde(default = "default_arguments")]
    pub arguments: Vec<Value>,
    /// Transactions of one source are sent one after the other.
    #[serde(default)]
    pub ordered: bool,
    /// What goes first when not everything can go at once, whatever way the readings came in by.
    #[serde(default)]
    pub priority: Priority,
    /// After this time a reading that nobody has seen is worth nothing any more and is dropped; none for as long as the
    /// buffer keeps requests.
    #[serde(default, with = "crate::config::optional_humantime")]
    pub max_age: Option<Duration>,
    /// Which values are sent; each if absent.
    #[serde(default)]
    pub rules: RuleSet,
}

/// A reading as a plain object.
fn default_arguments() -> Vec<Value> {
    vec![json!({
        "device": "{source}", "stream": "{stream}", "sequence": "{sequence}", "time": "{time}",
        "position": "{position}", "values": "{values}", "sealed": "{sealed}",
    })]
}

/// A part of a reading.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Source,
    Stream,
    Sequence,
    Time,
    TimeMs,
    Position,
    Values,
    Value(String),
    Label(String),
    Sealed,
    Gateway,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Part(Part),
}

/// An argument, read once.
#[derive(Debug, Clone, PartialEq)]
enum Template {
    Constant(Value),
    Part(Part),
    Text(Vec<Piece>),
    List(Vec<Template>),
    Object(Vec<(String, Template)>),
}

/// A route that is ready for use.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) config: RouteConfig,
    arguments: Vec<Template>,
    gateway: String,
}

impl Part {
    fn read(name: &str) -> Result<Self, String> {
        Ok(match name {
            "source" => Self::Source,
            "stream" => Self::Stream,
            "sequence" => Self::Sequence,
            "time" => Self::Time,
            "time_ms" => Self::TimeMs,
            "position" => Self::Position,
            "values" => Self::Values,
            "sealed" => Self::Sealed,
            "gateway" => Self::Gateway,
            other => match other.split_once('.') {
                Some(("value", name)) if !name.is_empty() => Self::Value(name.to_owned()),
                Some(("label", name)) if !name.is_empty() => Self::Label(name.to_owned()),
                _ => return Err(format!("there is no '{{{other}}}' in a reading")),
            },
        })
    }

    fn of(&self, reading: &Reading, gateway: &str) -> Option<Value> {
        Some(match self {
            Self::Source => Value::from(reading.source.as_str()),
            Self::Stream => Value::from(reading.stream.as_str()),
            Self::Sequence => Value::from(reading.sequence),
            Self::Time => Value::from(reading.time.as_str()),
            Self::TimeMs => Value::from(reading.at),
            Self::Position => serde_json::to_value(reading.position.as_ref()?).ok()?,
            Self::Values if reading.values.is_empty() => return None,
            Self::Values => serde_json::to_value(&reading.values).ok()?,
            Self::Value(name) => reading.values.get(name)?.clone(),
            Self::Label(name) => Value::from(reading.labels.get(name)?.as_str()),
            Self::Sealed => Value::from(reading.sealed.as_deref()?),
            Self::Gateway => Value::from(gateway),
        })
    }
}

impl Template {
    fn read(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::read_text(text)?,
            Value::Array(list) => Self::List(list.iter().map(Self::read).collect::<Result<_, _>>()?),
            Value::Object(map) => Self::Object(
                map.iter()
                    .map(|(name, value)| Ok((name.clone(), Self::read(value)?)))
                    .collect::<Result<_, String>>()?,
            ),
            other => Self::Constant(other.clone()),
        })
    }

    fn read_text(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..]
                .find('}')
                .ok_or_else(|| format!("'{text}' has a {{ without its }}"))?
                + open;
            if open > 0 {
                pieces.push(Piece::Text(rest[..open].to_owned()));
            }
            pieces.push(Piece::Part(Part::read(&rest[open + 1..close])?));
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(match pieces.as_slice() {
            [] => Self::Constant(Value::from("")),
            [Piece::Part(part)] => Self::Part(part.clone()),
            [Piece::Text(text)] => Self::Constant(Value::from(text.as_str())),
            _ => Self::Text(pieces),
        })
    }

    fn fill(&self, reading: &Reading, gateway: &str) -> Option<Value> {
        match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Part(part) => part.of(reading, gateway),
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(more) => text.push_str(more),
                        Piece::Part(part) => match part.of(reading, gateway)? {
                            Value::String(more) => text.push_str(&more),
                            other => text.push_str(&other.to_string()),
                        },
                    }
                }
                Some(Value::from(text))
            }
            Self::List(list) => Some(list.iter().filter_map(|t| t.fill(reading, gateway)).collect()),
            Self::Object(members) => {
                let filled = members
                    .iter()
                    .filter_map(|(name, t)| Some((name.clone(), t.fill(reading, gateway)?)));
                Some(Value::Object(filled.collect::<Map<_, _>>()))
            }
        }
    }
}

impl Route {
    /// Reads a route's templates.
    pub(crate) fn new(config: RouteConfig, gateway: &str) -> Result<Self, String> {
        for (what, value) in [
            ("channel", &config.channel),
            ("chaincode", &config.chaincode),
            ("function", &config.function),
        ] {
            if value.is_empty() {
                return Err(format!("'{what}' is empty"));
            }
        }
        config.rules.check()?;
        Ok(Self {
            arguments: config
                .arguments
                .iter()
                .map(Template::read)
                .collect::<Result<_, _>>()?,
            config,
            gateway: gateway.to_owned(),
        })
    }

    pub(crate) fn matches(&self, source: &str, stream: &str) -> bool {
        self.config.source.matches(source) && self.config.stream.matches(stream)
    }

    /// The transaction of a reading. Its key is the reading's identity, so that a reading which comes again, after
    /// whatever time and by whatever way, is the same transaction.
    pub(crate) fn request(&self, reading: &Reading) -> TransactionRequest {
        let args = self
            .arguments
            .iter()
            .map(|template| match template.fill(reading, &self.gateway) {
                Some(Value::String(text)) => text.into(),
                Some(other) => other.to_string().into(),
                None => bytes::Bytes::new(),
            });
        TransactionRequest {
            channel: self.config.channel.clone(),
            chaincode: self.config.chaincode.clone(),
            function: self.config.function.clone(),
            args: args.collect(),
            // The lengths keep names with slashes apart.
            idempotency_key: format!(
                "reading/{}:{}/{}:{}/{}",
                reading.source.len(),
                reading.source,
                reading.stream.len(),
                reading.stream,
                reading.sequence
            ),
            source: reading.source.clone(),
            ordered: self.config.ordered,
            retry_conflicts: true,
            priority: self.config.priority,
            max_age: self.config.max_age,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(value: Value) -> Reading {
        let sent: super::super::reading::SentReading = serde_json::from_value(value).unwrap();
        let arrived = super::super::arrival::Arrival {
            at: 1_453_368_351_000,
            number: 0,
        };
        sent.complete("box-1", arrived, 0).unwrap()
    }

    fn route(yaml: &str) -> Result<Route, String> {
        let config = serde_yaml_ng::from_str(yaml).map_err(|e| e.to_string())?;
        Route::new(config, "hall-7")
    }

    fn first_argument(route: &Route, reading: &Reading) -> Value {
        serde_json::from_slice(&route.request(reading).args[0]).unwrap()
    }

    #[test]
    fn a_reading_becomes_the_contract_s_argument() {
        let route = route(
            "{channel: trade, chaincode: shipment, function: recordReading, source: 'box-*', arguments: [{shipment: 'S-{label.no}', \
             device: '{source}', stream: '{stream}', sequence: '{sequence}', time: '{time}', position: '{position}', values: '{values}', via: '{gateway}'}]}",
        )
        .unwrap();
        assert!(route.matches("box-1", "any") && !route.matches("truck", "any"));
        let full = reading(json!({
            "stream": "t", "sequence": 7, "time": "2016-01-21T09:25:51Z", "values": { "t": "1.50" }, "labels": { "no": "1" },
        }));
        assert_eq!(
            first_argument(&route, &full),
            json!({
                "shipment": "S-1", "device": "box-1", "stream": "t", "sequence": 7, "time": "2016-01-21T09:25:51Z",
                "values": { "t": "1.50" }, "via": "hall-7",
            })
        );
        let request = route.request(&full);
        assert_eq!(request.idempotency_key, "reading/5:box-1/1:t/7");
        assert!(request.retry_conflicts);
        let bare = reading(json!({ "values": { "t": 1 } }));
        assert!(first_argument(&route, &bare).get("shipment").is_none());
    }

    #[test]
    fn arguments_may_be_texts_and_single_values() {
        let route = route(
            "{channel: c, chaincode: kv, function: put, arguments: ['{source}/{stream}/{sequence}', '{value.temperature}', plain, 5]}",
        )
        .unwrap();
        let reading = reading(json!({ "sequence": 3, "values": { "temperature": -1.5 } }));
        let args = route.request(&reading).args;
        assert_eq!(args, ["box-1/readings/3".as_bytes(), b"-1.5", b"plain", b"5"]);
    }

    #[test]
    fn a_route_says_how_urgent_its_readings_are() {
        let alarms =
            route("{channel: c, chaincode: c, function: f, priority: critical, max_age: 2h}").unwrap();
        let reading = reading(json!({ "values": { "t": 1 } }));
        let request = alarms.request(&reading);
        assert_eq!(request.priority, Priority::Critical);
        assert_eq!(request.max_age, Some(Duration::from_secs(7200)));
        let plain = route("{channel: c, chaincode: c, function: f}").unwrap();
        let request = plain.request(&reading);
        assert_eq!((request.priority, request.max_age), (Priority::Normal, None));
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, word) in [
            ("{channel: '', chaincode: c, function: f}", "'channel'"),
            (
                "{channel: c, chaincode: c, function: f, arguments: ['{sauce}']}",
                "{sauce}",
            ),
            (
                "{channel: c, chaincode: c, function: f, arguments: ['{source']}",
                "without its }",
            ),
            (
                "{channel: c, chaincode: c, function: f, priority: urgent}",
                "urgent",
            ),
            (
                "{channel: c, chaincode: c, function: f, rules: {t: {rule: outside}}}",
                "'t'",
            ),
        ] {
            let why = route(yaml).unwrap_err();
            assert!(why.contains(word), "{yaml}: {why}");
        }
    }

    #[test]
    fn names_with_slashes_have_keys_of_their_own() {
        let route = route("{channel: c, chaincode: c, function: f}").unwrap();
        let key = |source: &str, stream: &str| {
            let value = json!({ "source": source, "stream": stream, "sequence": 1, "values": { "t": 1 } });
            route.request(&reading(value)).idempotency_key
        };
        assert_ne!(key("a/1:b", "c"), key("a", "b/1:c"));
    }
}
