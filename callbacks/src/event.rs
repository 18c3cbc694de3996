//! Events as subscribers see them: their ids, their JSON, and which of them somebody wants.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use selvedge_sdk::{ChaincodeEvent, Checkpoint};
use serde::{Deserialize, Serialize};

use crate::CallbackError;

/// Longest transaction id in an [`EventId`], in bytes. Fabric's have 64.
const MAX_TRANSACTION_ID: usize = 128;
/// Longest name of a channel, chaincode or event pattern, in bytes.
const MAX_NAME: usize = 256;

/// A place in a channel: after an event (`block.transaction`), or before a block (`block`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventId(Checkpoint);

impl EventId {
    /// The id of an event, which is also the place after it.
    pub fn of(event: &ChaincodeEvent) -> Self {
        Self(Checkpoint::after_event(event))
    }

    /// The place before a block.
    pub fn before_block(number: u64) -> Self {
        Self(Checkpoint {
            block_number: number,
            transaction_id: None,
        })
    }

    /// The place as a checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.0
    }
}

impl From<Checkpoint> for EventId {
    fn from(checkpoint: Checkpoint) -> Self {
        Self(checkpoint)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.transaction_id {
            Some(transaction) => write!(f, "{}.{transaction}", self.0.block_number),
            None => write!(f, "{}", self.0.block_number),
        }
    }
}

impl FromStr for EventId {
    type Err = CallbackError;

    fn from_str(text: &str) -> Result<Self, CallbackError> {
        let wrong = || {
            CallbackError::Invalid(format!(
                "'{}' is not an event id; it has the form BLOCK.TRANSACTION or BLOCK",
                text.chars().take(80).collect::<String>()
            ))
        };
        let (block, transaction) = match text.split_once('.') {
            Some((block, transaction)) => (block, Some(transaction)),
            None => (text, None),
        };
        let plausible = |id: &str| {
            (1..=MAX_TRANSACTION_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        if transaction.is_some_and(|id| !plausible(id)) {
            return Err(wrong());
        }
        Ok(Self(Checkpoint {
            block_number: block.parse().map_err(|_| wrong())?,
            transaction_id: transaction.map(str::to_owned),
        }))
    }
}

/// Names of events, with `*` for any run of characters: `shipment.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether a name is one of those meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            // The earliest place leaves most for the parts that follow.
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

impl Default for NamePattern {
    fn default() -> Self {
        Self("*".to_owned())
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NamePattern {
    type Err = CallbackError;

    fn from_str(text: &str) -> Result<Self, CallbackError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for NamePattern {
    type Error = CallbackError;

    fn try_from(text: String) -> Result<Self, CallbackError> {
        if text.len() > MAX_NAME {
            return Err(CallbackError::Invalid(format!(
                "an event name pattern has at most {MAX_NAME} bytes"
            )));
        }
        Ok(if text.is_empty() {
            Self::default()
        } else {
            Self(text)
        })
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.0
    }
}

/// Which events somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// The channel.
    pub channel: String,
    /// The chaincode.
    pub chaincode: String,
    /// Names of events; all if absent.
    #[serde(default)]
    pub name: NamePattern,
}

impl EventFilter {
    /// Checks that the filter names a channel and a chaincode.
    ///
    /// # Errors
    /// Says which part is missing or too long.
    pub fn check(&self) -> Result<(), CallbackError> {
        for (what, value) in [("channel", &self.channel), ("chaincode", &self.chaincode)] {
            if value.is_empty() || value.len() > MAX_NAME {
                return Err(CallbackError::Invalid(format!(
                    "'{what}' must have 1 to {MAX_NAME} bytes"
                )));
            }
        }
        Ok(())
    }
}

/// An event that matched a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its channel.
    pub channel: String,
    /// What the ledger holds.
    pub event: ChaincodeEvent,
}

impl Event {
    /// Its id.
    pub fn id(&self) -> EventId {
        EventId::of(&self.event)
    }

    /// `{"id","channel","chaincode","name","block","transactionId","payload"}` on one line. A payload that is JSON stands
    /// there as the contract wrote it, digits and order included; any other is `payloadBase64` instead.
    pub fn json(&self) -> String {
        let event = &self.event;
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut out = format!(
            "{{\"id\":{},\"channel\":{},\"chaincode\":{},\"name\":{},\"block\":{},\"transactionId\":{}",
            quoted(&self.id().to_string()),
            quoted(&self.channel),
            quoted(&event.chaincode),
            quoted(&event.name),
            event.block_number,
            quoted(&event.transaction_id),
        );
        let json = std::str::from_utf8(&event.payload)
            .ok()
            .filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        // In JSON a bare line break is only ever white space. Writing to a text cannot fail.
        let written = match json {
            Some(text) => write!(out, ",\"payload\":{}}}", text.replace(['\n', '\r'], " ")),
            None => write!(
                out,
                ",\"payloadBase64\":\"{}\"}}",
                STANDARD.encode(&event.payload)
            ),
        };
        debug_assert!(written.is_ok());
        out
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    pub(crate) fn event(block: u64, tx: &str, name: &str, payload: &'static str) -> Event {
        Event {
            channel: "trade".into(),
            event: ChaincodeEvent {
                block_number: block,
                transaction_id: tx.into(),
                chaincode: "shipment".into(),
                name: name.into(),
                payload: Bytes::from_static(payload.as_bytes()),
            },
        }
    }

    #[test]
    fn ids_are_places_and_back() {
        for text in ["12.ab34", "0", "18446744073709551615.f"] {
            assert_eq!(text.parse::<EventId>().unwrap().to_string(), text);
        }
        let id = event(7, "aa", "n", "").id();
        assert_eq!(id.to_string(), "7.aa");
        assert_eq!(id.checkpoint().transaction_id.as_deref(), Some("aa"));
        for text in [
            "",
            ".",
            "x.ab",
            "1.",
            "1.a b",
            "1.a.b",
            "-1",
            "18446744073709551616",
        ] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_match_names() {
        let matches = |pattern: &str, name: &str| pattern.parse::<NamePattern>().unwrap().matches(name);
        for (pattern, name, expected) in [
            ("", "anything", true),
            ("*", "", true),
            ("shipment.*", "shipment.created", true),
            ("shipment.*", "rfq.created", false),
            ("*.created", "rfq.created", true),
            ("*.created", "rfq.created2", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn payloads_stand_in_the_json_as_they_were_written() {
        let json = event(7, "aa", "n\"1", "{\"b\": 1.50,\n\"a\":2}").json();
        assert!(json.contains(r#""payload":{"b": 1.50, "a":2}"#), "{json}");
        assert!(!json.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["name"], "n\"1");
        assert_eq!(value["id"], "7.aa");
        let binary = event(7, "aa", "n", "not json").json();
        let value: serde_json::Value = serde_json::from_str(&binary).unwrap();
        assert_eq!(value["payloadBase64"], json!("bm90IGpzb24="));
    }
}
