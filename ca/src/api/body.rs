//! Request bodies as Go's JSON decoder takes them: keys in any case, unknown keys ignored, `null` like absent
//! (spec 06 §1).

use serde_json::{Map, Value};

use crate::error::Refusal;

/// The fields of a JSON object, by lower-case name.
#[derive(Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

fn wrong(name: &str, wanted: &str) -> Refusal {
    Refusal::new(400, 5, format!("field '{name}' must be {wanted}"))
}

impl Fields {
    fn of(object: Map<String, Value>) -> Self {
        Self(
            object
                .into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k.to_lowercase(), v))
                .collect(),
        )
    }

    /// Reads a body; an empty one has no fields.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => Ok(Self::of(object)),
            Ok(_) => Err(Refusal::new(400, 5, "the body must be a JSON object")),
            Err(e) => Err(Refusal::new(400, 5, format!("the body is not JSON: {e}"))),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<String, Refusal> {
        match self.0.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<i64, Refusal> {
        match self.0.get(name) {
            None => Ok(0),
            Some(value) => value.as_i64().ok_or_else(|| wrong(name, "a whole number")),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.0.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        match self.0.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| {
                    item.as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| wrong(name, "a list of strings"))
                })
                .collect(),
            Some(_) => Err(wrong(name, "a list of strings")),
        }
    }

    /// An object; none if the field is absent.
    pub(super) fn object(&self, name: &str) -> Result<Option<Fields>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields::of(object.clone()))),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    /// A list of objects; none if the field is absent.
    pub(super) fn objects(&self, name: &str) -> Result<Option<Vec<Fields>>, Refusal> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let items = value.as_array().ok_or_else(|| wrong(name, "a list of objects"))?;
        items
            .iter()
            .map(|item| match item {
                Value::Object(object) => Ok(Fields::of(object.clone())),
                _ => Err(wrong(name, "a list of objects")),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_any_case_and_null_like_absent() {
        let fields =
            Fields::parse(br#"{"CAName":"x","secret":null,"Max_Enrollments":3,"other":[1]}"#).unwrap();
        assert_eq!(fields.text("caname").unwrap(), "x");
        assert_eq!(fields.text("secret").unwrap(), "");
        assert_eq!(fields.number("max_enrollments").unwrap(), 3);
        assert!(fields.objects("attrs").unwrap().is_none());
    }

    #[test]
    fn wrong_types_name_the_field() {
        let fields = Fields::parse(br#"{"id":5}"#).unwrap();
        assert!(fields.text("id").unwrap_err().message.contains("'id'"));
        assert_eq!(Fields::parse(b"[1]").unwrap_err().code, 5);
        assert_eq!(Fields::parse(b"{").unwrap_err().code, 5);
    }
}
