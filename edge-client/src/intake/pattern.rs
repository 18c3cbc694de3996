//! Names with `*` for any run of characters.

use serde::{Deserialize, Serialize};

/// A pattern for names of sources and streams; `*` alone is all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Default for Pattern {
    fn default() -> Self {
        Self("*".to_owned())
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Pattern {
    /// Whether a name is one of those meant.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == name;
        };
        let Some(mut name) = name.strip_prefix(first) else {
            return false;
        };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            // The earliest place leaves most for the parts that follow.
            match name.find(part) {
                Some(at) => name = &name[at + part.len()..],
                None => return false,
            }
        }
        name.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("truck-*", "truck-17", true),
            ("truck-*", "box-1", false),
            ("*-17", "truck-17", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("a*a", "a", false),
            ("one", "one", true),
            ("one", "ones", false),
        ] {
            assert_eq!(Pattern::from(pattern).matches(name), expected, "{pattern} {name}");
        }
    }
}
