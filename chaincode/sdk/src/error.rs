//! How a contract says no: a status code for programs and a sentence for people.

use std::fmt;

/// Outcome of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal by the contract. It becomes the transaction's response: status 400 or above means that no
/// endorsement is given and nothing is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    status: i32,
    message: String,
}

impl Error {
    /// A refusal with any status. Values below 400 would count as success, so they are raised to 500.
    pub fn new(status: i32, message: impl Into<String>) -> Self {
        let status = if (400..600).contains(&status) { status } else { 500 };
        Self {
            status,
            message: message.into(),
        }
    }

    /// 400: the request itself is wrong. Name the field in the message.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// 403: the caller may not do this, whatever the state.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, message)
    }

    /// 404: the thing that was named is not on the ledger.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// 409: the request is well formed but the state does not allow it now.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message)
    }

    /// 500: a fault that the caller cannot mend, for example state that does not decode.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, message)
    }

    /// The response status, 400 to 599.
    pub fn status(&self) -> i32 {
        self.status
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {})", self.message, self.status)
    }
}

impl std::error::Error for Error {}
