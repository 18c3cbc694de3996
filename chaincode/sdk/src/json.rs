//! Reading JSON that comes from outside: field by field, lenient where people differ (a number may be a string), strict
//! everywhere else, and with errors that name the exact place, for example `changes.fields[1].newValue`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Decimal, Error, Result, Timestamp};

/// Longest single document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 4 << 20;

/// One JSON value that has not been looked into yet, and where it stood.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    path: String,
    raw: &'a RawValue,
}

/// A JSON object, taken apart by taking its fields one after the other.
///
/// A field that is missing, `null`, or (for the optional readers) an empty string counts as not given. A name that
/// occurs twice is refused, because two readers could choose differently.
#[derive(Debug)]
pub struct Object<'a> {
    path: String,
    fields: BTreeMap<String, &'a RawValue>,
    known: Vec<&'static str>,
}

struct UniqueFields;

impl<'de> Visitor<'de> for UniqueFields {
    type Value = BTreeMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            if fields.contains_key(&name) {
                return Err(de::Error::custom(format_args!("field `{name}` is given twice")));
            }
            fields.insert(name, value);
        }
        Ok(fields)
    }
}

fn object_fields<'a>(text: &'a str, path: &str) -> Result<BTreeMap<String, &'a RawValue>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader
        .deserialize_map(UniqueFields)
        .and_then(|fields| reader.end().map(|()| fields))
        .map_err(|why| Error::bad_request(format!("{path}: {why}")))
}

impl<'a> Field<'a> {
    /// A whole document; `name` is what errors call it.
    ///
    /// # Errors
    /// Status 400 when it is not JSON or longer than [`MAX_DOCUMENT`].
    pub fn parse(text: &'a str, name: &str) -> Result<Self> {
        if text.len() > MAX_DOCUMENT {
            return Err(Error::bad_request(format!(
                "{name} has more than {MAX_DOCUMENT} bytes"
            )));
        }
        let raw = serde_json::from_str(text)
            .map_err(|why| Error::bad_request(format!("{name} is not JSON: {why}")))?;
        Ok(Self {
            path: name.to_owned(),
            raw,
        })
    }

    /// Where the value stood.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn wrong(&self, expected: &str) -> Error {
        let found: String = self.raw.get().chars().take(60).collect();
        Error::bad_request(format!("{} must be {expected}, not {found}", self.path))
    }

    /// True for a JSON object.
    pub fn is_object(&self) -> bool {
        self.raw.get().starts_with('{')
    }

    /// True for `null` and the empty string.
    pub fn is_blank(&self) -> bool {
        matches!(self.raw.get(), "null" | "\"\"")
    }

    /// A JSON string of at most `max` bytes, surrounding blanks removed, not empty and without control characters.
    pub fn text(&self, max: usize) -> Result<String> {
        let text: String = serde_json::from_str(self.raw.get()).map_err(|_| self.wrong("a string"))?;
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::bad_request(format!("{} must not be empty", self.path)));
        }
        if text.len() > max {
            return Err(Error::bad_request(format!(
                "{} has more than {max} bytes",
                self.path
            )));
        }
        if text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t' || c == char::MAX)
        {
            return Err(Error::bad_request(format!(
                "{} contains control characters",
                self.path
            )));
        }
        Ok(text.to_owned())
    }

    /// As [`Field::text`], on one line: for names that become part of keys and messages.
    pub fn name(&self, max: usize) -> Result<String> {
        let text = self.text(max)?;
        if text.contains(char::is_control) {
            return Err(Error::bad_request(format!(
                "{} contains control characters",
                self.path
            )));
        }
        Ok(text)
    }

    /// A string, or a number or boolean as it was written.
    pub fn scalar(&self, max: usize) -> Result<String> {
        let raw = self.raw.get();
        if raw.starts_with('"') {
            self.text(max)
        } else if raw.starts_with(['{', '[']) || raw == "null" {
            Err(self.wrong("a string, a number or a boolean"))
        } else if raw.len() > max {
            Err(Error::bad_request(format!(
                "{} has more than {max} bytes",
                self.path
            )))
        } else {
            Ok(raw.to_owned())
        }
    }

    /// As [`Field::scalar`], on one line: for numbers that enterprises give to parts and places.
    pub fn label(&self, max: usize) -> Result<String> {
        let text = self.scalar(max)?;
        if text.contains(char::is_control) {
            return Err(Error::bad_request(format!(
                "{} contains control characters",
                self.path
            )));
        }
        Ok(text)
    }

    /// A short name that is safe in keys and in URLs: 1 to 64 of `A-Z a-z 0-9 . _ : -`.
    pub fn id(&self) -> Result<String> {
        let id = self.scalar(64)?;
        if !is_id(&id) {
            return Err(Error::bad_request(format!(
                "{} must consist of letters, digits and . _ : - only, not {id}",
                self.path
            )));
        }
        Ok(id)
    }

    /// A decimal number, written as a JSON number or string, every digit kept.
    pub fn decimal(&self) -> Result<Decimal> {
        let raw = self.raw.get();
        let parsed = if raw.starts_with('"') {
            serde_json::from_str::<String>(raw)
                .map_err(|_| self.wrong("a decimal number"))?
                .parse()
        } else {
            raw.parse::<Decimal>()
        };
        parsed.map_err(|_| self.wrong("a decimal number of at most 64 digits before and after the point"))
    }

    /// A whole number from 0 to 2^64-1, written as a JSON number or string.
    pub fn integer(&self) -> Result<u64> {
        let decimal = self.decimal()?;
        decimal
            .as_str()
            .parse()
            .map_err(|_| self.wrong("a whole number from 0 to 18446744073709551615"))
    }

    /// A JSON boolean, or the string `"true"` or `"false"`.
    pub fn boolean(&self) -> Result<bool> {
        match self.raw.get().trim_matches('"') {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    /// A point in time as RFC 3339.
    pub fn time(&self) -> Result<Timestamp> {
        self.text(64)?
            .parse()
            .map_err(|_| self.wrong("an RFC 3339 time such as 2026-03-01T08:15:00Z"))
    }

    /// A JSON object.
    pub fn object(&self) -> Result<Object<'a>> {
        if !self.is_object() {
            return Err(self.wrong("a JSON object"));
        }
        let fields = object_fields(self.raw.get(), &self.path)?;
        Ok(Object {
            path: self.path.clone(),
            fields,
            known: Vec::new(),
        })
    }

    /// A JSON array of at most `max` items.
    pub fn list(&self, max: usize) -> Result<Vec<Field<'a>>> {
        let items: Vec<&'a RawValue> =
            serde_json::from_str(self.raw.get()).map_err(|_| self.wrong("a JSON array"))?;
        if items.len() > max {
            return Err(Error::bad_request(format!(
                "{} has {} items, at most {max} are allowed",
                self.path,
                items.len()
            )));
        }
        let item = |(at, raw)| Field {
            path: format!("{}[{at}]", self.path),
            raw,
        };
        Ok(items.into_iter().enumerate().map(item).collect())
    }
}

/// True for 1 to 64 of `A-Z a-z 0-9 . _ : -`.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-'))
}

impl<'a> Object<'a> {
    /// A whole document that must be an object; `name` is what errors call it.
    ///
    /// # Errors
    /// Status 400 when it is not.
    pub fn parse(text: &'a str, name: &str) -> Result<Self> {
        Field::parse(text, name)?.object()
    }

    /// The errors' name for a field: `field` at the top of the document, the whole path deeper inside.
    fn place(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// Takes a field if it is given and not `null`.
    pub fn take(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.known.push(name);
        let raw = self.fields.remove(name).filter(|raw| raw.get() != "null")?;
        Some(Field {
            path: self.place(name),
            raw,
        })
    }

    /// Takes a field that must be there.
    ///
    /// # Errors
    /// Status 400 naming the missing field.
    pub fn require(&mut self, name: &'static str) -> Result<Field<'a>> {
        let place = self.place(name);
        self.take(name)
            .ok_or_else(|| Error::bad_request(format!("{place} is missing")))
    }

    /// Takes a field if it is given and neither `null` nor an empty string.
    pub fn optional(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.take(name).filter(|field| !field.is_blank())
    }

    /// A boolean that is false when it is not given.
    pub fn flag(&mut self, name: &'static str) -> Result<bool> {
        self.optional(name).map_or(Ok(false), |field| field.boolean())
    }

    /// A list that may be missing.
    pub fn list(&mut self, name: &'static str, max: usize) -> Result<Vec<Field<'a>>> {
        self.take(name)
            .map_or_else(|| Ok(Vec::new()), |field| field.list(max))
    }

    /// Everything that was not taken, by name.
    pub fn rest(self) -> Vec<(String, Field<'a>)> {
        let path = self.path;
        self.fields
            .into_iter()
            .map(|(name, raw)| {
                let path = format!("{path}.{name}");
                (name, Field { path, raw })
            })
            .collect()
    }

    /// Ends the reading: a field that nobody took is most likely misspelt.
    ///
    /// # Errors
    /// Status 400 naming the unknown field and the ones that there are.
    pub fn finish(self) -> Result<()> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::bad_request(format!(
                "{} is unknown here; known fields are {}",
                self.place(name),
                self.known.join(", ")
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_may_be_strings() {
        let mut object = Object::parse(r#"{"a":"1.50","b":1.50,"n":"7","t":"true"}"#, "doc").unwrap();
        assert_eq!(
            object.require("a").unwrap().decimal().unwrap(),
            object.require("b").unwrap().decimal().unwrap()
        );
        assert_eq!(object.require("n").unwrap().integer().unwrap(), 7);
        assert!(object.require("t").unwrap().boolean().unwrap());
        object.finish().unwrap();
    }

    #[test]
    fn errors_name_the_place() {
        let document = Object::parse(r#"{"list":[{"v":1},{"v":[]}],"typo":1}"#, "doc");
        let mut object = document.unwrap();
        let items = object.list("list", 5).unwrap();
        let error = items[1]
            .object()
            .unwrap()
            .require("v")
            .unwrap()
            .decimal()
            .unwrap_err();
        assert_eq!(
            (error.status(), error.message().contains("doc.list[1].v must be")),
            (400, true),
            "{error}"
        );
        assert!(
            object
                .require("id")
                .unwrap_err()
                .message()
                .contains("doc.id is missing")
        );
        let error = object.finish().unwrap_err();
        assert!(
            error.message().contains("doc.typo is unknown") && error.message().contains("list, id"),
            "{error}"
        );
    }

    #[test]
    fn ambiguous_and_broken_documents_are_refused() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1}x"#,
            "[]",
            "{",
            "",
            "nul",
            "\"text\"",
        ] {
            assert_eq!(Object::parse(text, "doc").unwrap_err().status(), 400, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(Object::parse(&deep, "doc").unwrap_err().status(), 400);
    }

    #[test]
    fn texts_and_lists_are_bounded() {
        let field = Field::parse("\"abcd\"", "doc").unwrap();
        assert!(field.text(4).is_ok() && field.text(3).is_err());
        assert!(Field::parse("[1,2,3]", "doc").unwrap().list(2).is_err());
        assert!(Field::parse("\"a\\u0000b\"", "doc").unwrap().text(9).is_err());
        for bad in ["\"a b\"", "\"\"", "\"a/b\"", "\"\\u0000\"", "{}"] {
            assert!(Field::parse(bad, "doc").unwrap().id().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn anything_from_outside_is_read_or_refused(text in ".{0,80}") {
            if let Ok(field) = Field::parse(&text, "doc") {
                let _ = (field.text(9), field.decimal(), field.integer(), field.time(), field.scalar(9), field.id());
                let _ = (field.list(3).is_ok(), field.object().is_ok());
            }
        }
    }
}
