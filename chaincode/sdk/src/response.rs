//! What an invocation answers.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result, decode_state};

/// The answer of an invocation. Status 200 is success; from 400 on nothing is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// 200 to 399 success, 400 to 499 the caller's mistake, 500 and above a fault.
    pub status: i32,
    /// A sentence for people, mostly for errors.
    pub message: String,
    /// The result, usually JSON.
    pub payload: Vec<u8>,
}

impl Response {
    /// Success without a result.
    pub fn empty() -> Self {
        Self::bytes(Vec::new())
    }

    /// Success with bytes as they are.
    pub fn bytes(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            message: String::new(),
            payload: payload.into(),
        }
    }

    /// Success with a JSON result.
    ///
    /// # Errors
    /// Status 500 when the value has no JSON form.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        to_json(value).map(Self::bytes)
    }

    /// Reads the payload as JSON: for the answers of other contracts.
    ///
    /// # Errors
    /// Status 500 when it does not decode.
    pub fn read_json<T: DeserializeOwned>(&self) -> Result<T> {
        decode_state("the answer", &self.payload)
    }

    /// True below 400.
    pub fn is_ok(&self) -> bool {
        self.status < 400
    }
}

impl From<Error> for Response {
    fn from(error: Error) -> Self {
        Self {
            status: error.status(),
            message: error.message().to_owned(),
            payload: Vec::new(),
        }
    }
}

pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|why| Error::internal(format!("the result has no JSON form: {why}")))
}
