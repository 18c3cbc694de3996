//! Topics: which a filter means, and what is published on which.

use super::config::{PayloadKind, TopicConfig};

/// Whether a filter with `+` and `#` means a topic (MQTT 5, section 4.7).
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether a filter means any topic that is `prefix`, `/`, and one more level.
pub(crate) fn may_match_below(filter: &str, prefix: &str) -> bool {
    let (mut filter, mut prefix) = (filter.split('/'), prefix.split('/'));
    loop {
        match (filter.next(), prefix.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            // One level is left for the name.
            (Some(last), None) => return last == "#" || filter.next().is_none_or(|more| more == "#"),
            _ => return false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Fixed(String),
    Source,
    Stream,
    Value,
}

/// A topic of the configuration, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicRoute {
    levels: Vec<Level>,
    pub(crate) kind: PayloadKind,
}

/// What a topic tells of its messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) source: Option<String>,
    pub(crate) stream: Option<String>,
    pub(crate) value: Option<String>,
}

impl TopicRoute {
    pub(crate) fn new(config: &TopicConfig) -> Result<Self, String> {
        let levels: Vec<Level> = config
            .topic
            .split('/')
            .map(|level| match level {
                "{source}" => Level::Source,
                "{stream}" => Level::Stream,
                "{value}" => Level::Value,
                fixed => Level::Fixed(fixed.to_owned()),
            })
            .collect();
        let odd = levels.iter().any(|level| match level {
            Level::Fixed(text) => text.contains(['{', '}', '+', '#', '\0']),
            _ => false,
        });
        if odd || config.topic.is_empty() {
            return Err(format!(
                "mqtt: topic '{}' may have {{source}}, {{stream}} and {{value}}, each as a whole level",
                config.topic
            ));
        }
        let has_value = levels.contains(&Level::Value);
        if has_value != (config.payload == PayloadKind::Value) {
            return Err(format!(
                "mqtt: topic '{}': {{value}} and 'payload: value' belong together",
                config.topic
            ));
        }
        Ok(Self {
            levels,
            kind: config.payload,
        })
    }

    /// What the topic tells, if it is one of these.
    pub(crate) fn read(&self, topic: &str) -> Option<Told> {
        let mut told = Told::default();
        let mut levels = topic.split('/');
        for level in &self.levels {
            let text = levels.next()?;
            match level {
                Level::Fixed(fixed) if fixed == text => {}
                Level::Fixed(_) => return None,
                _ if text.is_empty() => return None,
                Level::Source => told.source = Some(text.to_owned()),
                Level::Stream => told.stream = Some(text.to_owned()),
                Level::Value => told.value = Some(text.to_owned()),
            }
        }
        levels.next().is_none().then_some(told)
    }
}

/// The level of a topic that an event's name becomes.
pub(crate) fn level_of(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    name.replace(['/', '+', '#', '\0'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/b", "a/b", true),
            ("+", "a/b", false),
            ("a", "a/b", false),
            ("a/b", "a", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn feeds_are_followed_when_a_filter_can_mean_them() {
        for (filter, expected) in [
            ("#", true),
            ("events/#", true),
            ("events/trade/#", true),
            ("events/trade/+", true),
            ("events/+/shipment.created", true),
            ("events/trade/shipment.created/#", true),
            ("events/trade", false),
            ("events/trade/a/b", false),
            ("other/#", false),
        ] {
            assert_eq!(may_match_below(filter, "events/trade"), expected, "{filter}");
        }
    }

    #[test]
    fn topics_tell_source_stream_and_value() {
        let route = |topic: &str, payload| {
            TopicRoute::new(&TopicConfig {
                topic: topic.into(),
                payload,
            })
        };
        let values = route("v/{source}/{value}", PayloadKind::Value).unwrap();
        let told = values.read("v/box-1/temperature").unwrap();
        assert_eq!(
            (told.source.as_deref(), told.value.as_deref()),
            (Some("box-1"), Some("temperature"))
        );
        for topic in ["v/box-1", "v/box-1/t/x", "w/box-1/t", "v//t"] {
            assert_eq!(values.read(topic), None, "{topic}");
        }
        for (topic, payload) in [
            ("", PayloadKind::Readings),
            ("a/{sauce}", PayloadKind::Readings),
            ("a/+", PayloadKind::Readings),
            ("a/{value}", PayloadKind::Readings),
            ("a", PayloadKind::Value),
        ] {
            assert!(route(topic, payload).is_err(), "{topic}");
        }
        assert_eq!(level_of("a/b#"), "a_b_");
    }
}
