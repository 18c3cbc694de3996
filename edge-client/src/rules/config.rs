//! Edge rules as they stand in the configuration file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name under which the position of a reading has its rule.
pub(crate) const POSITION: &str = "position";
/// The rule of everything that has none of its own.
const OTHERS: &str = "*";
/// Shortest window.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// What a window tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// The mean of all values.
    Mean,
    /// How many values there were.
    Count,
}

/// Decides which values of a series become transactions. In the file it is `every`, `never`, or a mapping with `rule` and
/// its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Each.
    Every,
    /// None.
    Never,
    /// Those that differ from the last one sent.
    Change(ChangeRule),
    /// Those outside a band, and the first one back inside.
    Outside(OutsideRule),
    /// None by itself; a summary of each span of time.
    Window(WindowRule),
}

/// Settings of `rule: change`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRule {
    /// Smallest difference that counts: in the value's unit, in metres for the position. Any difference if 0.
    #[serde(default)]
    pub by: f64,
    /// A sign of life: after so long an unchanged value is sent as well.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
    pub at_least_every: Option<Duration>,
}

/// Settings of `rule: outside`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideRule {
    /// Lower end of the band; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Upper end of the band; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// A value that has been outside is inside again when it is so far from the ends.
    #[serde(default)]
    pub hysteresis: f64,
    /// A sign of life: after so long a value inside is sent as well.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
    pub at_least_every: Option<Duration>,
}

/// Settings of `rule: window`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRule {
    /// How long a window is. Windows begin at whole multiples of it since 1970, by the readings' own times.
    #[serde(with = "duration")]
    pub length: Duration,
    /// A window stays open for so long after its end, for readings that come late.
    #[serde(default, with = "duration")]
    pub lateness: Duration,
    /// What the summary tells.
    #[serde(default = "all_statistics")]
    pub of: Vec<Statistic>,
    /// Sends the readings that held the smallest and the largest value as well, with their own times and places.
    #[serde(default)]
    pub extremes: bool,
}

fn all_statistics() -> Vec<Statistic> {
    vec![Statistic::Min, Statistic::Max, Statistic::Mean, Statistic::Count]
}

mod duration {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&humantime::format_duration(*value).to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        humantime::parse_duration(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

mod optional_duration {
    use super::{Deserializer, Duration, Serializer, duration};

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => duration::serialize(value, s),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(d).map(Some)
    }
}

/// A rule with its settings, as a mapping.
#[derive(Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "lowercase")]
enum Spelled {
    Every,
    Never,
    Change(ChangeRule),
    Outside(OutsideRule),
    Window(WindowRule),
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.clone() {
            Self::Every => s.serialize_str("every"),
            Self::Never => s.serialize_str("never"),
            Self::Change(rule) => Spelled::Change(rule).serialize(s),
            Self::Outside(rule) => Spelled::Outside(rule).serialize(s),
            Self::Window(rule) => Spelled::Window(rule).serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(d)?;
        let spelled = match &value {
            serde_json::Value::String(name) => serde_json::from_value(serde_json::json!({ "rule": name })),
            _ => serde_json::from_value(value),
        };
        Ok(
            match spelled.map_err(|e| D::Error::custom(format!("not a rule: {e}")))? {
                Spelled::Every => Self::Every,
                Spelled::Never => Self::Never,
                Spelled::Change(rule) => Self::Change(rule),
                Spelled::Outside(rule) => Self::Outside(rule),
                Spelled::Window(rule) => Self::Window(rule),
            },
        )
    }
}

/// The rules of a route, by the names of values; `position` is the position's, `*` that of all others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleSet(BTreeMap<String, Rule>);

impl RuleSet {
    /// The rule of a value.
    pub(crate) fn of(&self, name: &str) -> &Rule {
        self.0
            .get(name)
            .or_else(|| self.0.get(OTHERS))
            .unwrap_or(&Rule::Every)
    }

    /// The rule of the position. The rule of all others is not meant for it unless it needs no numbers.
    pub(crate) fn of_position(&self) -> &Rule {
        match self.0.get(POSITION) {
            Some(rule) => rule,
            None => match self.0.get(OTHERS) {
                Some(rule @ (Rule::Never | Rule::Every)) => rule,
                _ => &Rule::Every,
            },
        }
    }

    /// Whether all rules let everything pass.
    pub(crate) fn passes_all(&self) -> bool {
        self.0.values().all(|rule| *rule == Rule::Every)
    }

    /// Checks that the settings make sense together.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, rule) in &self.0 {
            check_rule(rule).map_err(|why| format!("the rule of '{name}': {why}"))?;
            if name == POSITION && matches!(rule, Rule::Outside(_) | Rule::Window(_)) {
                return Err("the position has the rules 'every', 'never' and 'change' only".to_owned());
            }
        }
        Ok(())
    }
}

fn check_rule(rule: &Rule) -> Result<(), &'static str> {
    match rule {
        Rule::Every | Rule::Never => Ok(()),
        Rule::Change(ChangeRule { by, .. }) => {
            if by.is_finite() && *by >= 0.0 {
                Ok(())
            } else {
                Err("'by' must be 0 or more")
            }
        }
        Rule::Outside(OutsideRule {
            min, max, hysteresis, ..
        }) => {
            if min.is_none() && max.is_none() {
                return Err("it needs 'min' or 'max'");
            }
            if !hysteresis.is_finite() || *hysteresis < 0.0 {
                return Err("'hysteresis' must be 0 or more");
            }
            match (min, max) {
                (Some(min), Some(max)) if min + hysteresis > max - hysteresis => {
                    Err("'hysteresis' leaves nothing of the band between 'min' and 'max'")
                }
                _ => Ok(()),
            }
        }
        Rule::Window(WindowRule { length, of, .. }) => {
            if *length < SHORTEST_WINDOW {
                return Err("'length' must be 1s or more");
            }
            if of.is_empty() {
                return Err("'of' is empty");
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<RuleSet, String> {
        let set: RuleSet = serde_yaml_ng::from_str(yaml).map_err(|e| e.to_string())?;
        set.check()?;
        Ok(set)
    }

    #[test]
    fn rules_are_written_short_or_with_settings() {
        let set = read(
            "temperature: { rule: outside, min: 2, max: 8, hysteresis: 0.5, at_least_every: 1h }\n\
             humidity: { rule: window, length: 1h }\n\
             door: { rule: change }\n\
             position: { rule: change, by: 100 }\n\
             light: never\n",
        )
        .unwrap();
        assert!(matches!(set.of("temperature"), Rule::Outside(r) if r.max == Some(8.0)));
        assert!(matches!(set.of("humidity"), Rule::Window(r) if r.of.len() == 4));
        assert_eq!(set.of("light"), &Rule::Never);
        assert_eq!(set.of("anything"), &Rule::Every);
        assert!(matches!(set.of_position(), Rule::Change(_)));
        assert!(!set.passes_all());
        let again: RuleSet = serde_yaml_ng::from_str(&serde_yaml_ng::to_string(&set).unwrap()).unwrap();
        assert_eq!(again, set);
        assert!(read("{}").unwrap().passes_all());
        assert_eq!(read("'*': never").unwrap().of_position(), &Rule::Never);
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, word) in [
            ("t: sometimes", "sometimes"),
            ("t: { rule: outside }", "'min' or 'max'"),
            (
                "t: { rule: outside, min: 2, max: 3, hysteresis: 1 }",
                "hysteresis",
            ),
            ("t: { rule: change, by: -1 }", "'by'"),
            ("t: { rule: window, length: 1ms }", "length"),
            ("t: { rule: window, length: soon }", "not a rule"),
            ("t: { rule: window, length: 1h, of: [] }", "'of'"),
            ("t: { rule: change, bye: 1 }", "bye"),
            ("position: { rule: window, length: 1h }", "position"),
        ] {
            let why = read(yaml).unwrap_err();
            assert!(why.contains(word), "{yaml}: {why}");
        }
    }
}
