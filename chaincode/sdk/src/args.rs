//! The arguments of an invocation, read by position and with errors that name the parameter.

use serde::de::DeserializeOwned;

use crate::contract::Function;
use crate::json::{Field, Object};
use crate::{Error, Result};

/// The arguments of an invocation after the function's name. Their number has been checked against the function's
/// parameters. Positions count from 0; arguments are UTF-8 unless read as [`Args::bytes`].
#[derive(Debug)]
pub struct Args {
    items: Vec<Vec<u8>>,
    parameters: &'static [&'static str],
}

impl Args {
    pub(crate) fn new(function: &Function, items: Vec<Vec<u8>>) -> Result<Self> {
        let most = function.parameters.len();
        let least = function
            .parameters
            .iter()
            .filter(|name| !name.ends_with('?'))
            .count();
        if (least..=most).contains(&items.len()) {
            return Ok(Self {
                items,
                parameters: function.parameters,
            });
        }
        let expected = if least == most {
            format!("{most}")
        } else {
            format!("{least} to {most}")
        };
        Err(Error::bad_request(format!(
            "{} takes {expected} arguments ({}), but {} were given",
            function.name,
            function.parameters.join(", "),
            items.len()
        )))
    }

    fn name(&self, at: usize) -> &'static str {
        self.parameters
            .get(at)
            .map_or("argument", |name| name.trim_end_matches('?'))
    }

    /// The raw bytes of an argument; empty when it was left out.
    pub fn bytes(&self, at: usize) -> &[u8] {
        self.items.get(at).map_or(&[], Vec::as_slice)
    }

    fn utf8(&self, at: usize) -> Result<&str> {
        std::str::from_utf8(self.bytes(at))
            .map_err(|_| Error::bad_request(format!("{} is not UTF-8", self.name(at))))
    }

    /// An argument as text. 400 when it is empty or not UTF-8.
    pub fn text(&self, at: usize) -> Result<&str> {
        self.optional_text(at)?
            .ok_or_else(|| Error::bad_request(format!("{} must not be empty", self.name(at))))
    }

    /// An argument as text; `None` when it is empty or was left out.
    pub fn optional_text(&self, at: usize) -> Result<Option<&str>> {
        Ok(Some(self.utf8(at)?).filter(|text| !text.is_empty()))
    }

    /// An argument as a whole number; `None` when it is empty or was left out.
    pub fn optional_integer(&self, at: usize) -> Result<Option<u64>> {
        let Some(text) = self.optional_text(at)? else {
            return Ok(None);
        };
        let parsed = text.trim().parse();
        parsed
            .map(Some)
            .map_err(|_| Error::bad_request(format!("{} must be a whole number, not {text}", self.name(at))))
    }

    /// An argument as a JSON value, to be read field by field.
    pub fn field(&self, at: usize) -> Result<Field<'_>> {
        Field::parse(self.text(at)?, self.name(at))
    }

    /// An argument as a JSON object, to be read field by field.
    pub fn object(&self, at: usize) -> Result<Object<'_>> {
        self.field(at)?.object()
    }

    /// An argument that is either a JSON object or a bare word, which then stands for the object's field `key`: so that
    /// `accept` can be called with `rfq-1` as well as with `{"id":"rfq-1","note":"..."}`. A missing argument is an
    /// empty object.
    pub fn object_or(&self, at: usize, key: &str) -> Result<ObjectText> {
        let text = self.utf8(at)?.trim();
        let name = self.name(at);
        let text = if text.starts_with('{') {
            text.to_owned()
        } else if text.is_empty() {
            "{}".to_owned()
        } else if text.starts_with('"') {
            format!("{{\"{key}\":{text}}}")
        } else {
            let value = serde_json::to_string(text).map_err(|why| Error::internal(why.to_string()))?;
            format!("{{\"{key}\":{value}}}")
        };
        Ok(ObjectText { text, name })
    }

    /// The argument of functions that take nothing but an id: the id itself, or an object with the one field `key`.
    ///
    /// # Errors
    /// Status 400 when it is something else.
    pub fn id(&self, at: usize, key: &'static str) -> Result<String> {
        let text = self.object_or(at, key)?;
        let mut object = text.object()?;
        let id = object.require(key)?.id()?;
        object.finish()?;
        Ok(id)
    }

    /// An argument as any type that serde can read from JSON.
    pub fn json<T: DeserializeOwned>(&self, at: usize) -> Result<T> {
        serde_json::from_str(self.text(at)?)
            .map_err(|why| Error::bad_request(format!("{}: {why}", self.name(at))))
    }
}

/// The text of an object, kept for as long as its fields are read. See [`Args::object_or`].
#[derive(Debug)]
pub struct ObjectText {
    text: String,
    name: &'static str,
}

impl ObjectText {
    /// The object.
    ///
    /// # Errors
    /// Status 400 when the text is not a JSON object.
    pub fn object(&self) -> Result<Object<'_>> {
        Object::parse(&self.text, self.name)
    }
}
