//! Why the server cannot start or go on, and what a caller is told when a request fails.

use std::path::PathBuf;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use selvedge_sdk::{Error as SdkError, Retry};
use serde_json::json;

/// Failures of the server as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration is not usable.
    #[error("{}: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong and how to mend it.
        why: String,
    },
    /// An identity is not usable.
    #[error("identity in {}: {why}", path.display())]
    Identity {
        /// The MSP folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The index of blocks failed.
    #[error("the index {}: {why}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What the database said.
        why: String,
    },
    /// A connection setting is not usable, or the listener failed.
    #[error(transparent)]
    Comm(#[from] selvedge_comm::CommError),
    /// The operations endpoint cannot be opened.
    #[error(transparent)]
    Operations(#[from] selvedge_operations::OperationsError),
    /// The subscriptions cannot be opened.
    #[error(transparent)]
    Callbacks(#[from] selvedge_callbacks::CallbackError),
    /// The network's answer is not usable.
    #[error(transparent)]
    Sdk(#[from] SdkError),
}

/// What a caller is told: an HTTP status and `{"error": "..."}`, as the edge gateway's interface does.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    message: String,
    retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// Nobody is signed in, and the request needs somebody.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// Too much; to be tried again after so many seconds.
    pub(crate) fn too_many(message: impl Into<String>, retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after.max(1)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, message)
        }
    }

    /// The server's own fault. The cause is logged, not told.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server failed; its log says why",
        )
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<SdkError> for Problem {
    /// A contract's refusal keeps its status and its words; an invalid transaction is a conflict; what may go better
    /// later is 503 with `Retry-After`.
    fn from(error: SdkError) -> Self {
        if let Some((status, message)) = error.contract_refusal() {
            let status = u16::try_from(status)
                .ok()
                .and_then(|s| StatusCode::from_u16(s).ok())
                .filter(|s| s.is_client_error())
                .unwrap_or(StatusCode::BAD_GATEWAY);
            return Self::new(status, message);
        }
        let text = error.to_string();
        match &error {
            SdkError::Commit(_) => Self::new(StatusCode::CONFLICT, text),
            // The gateway's two ways to say so (spec 04 §2); asking again would not help.
            SdkError::Rpc(rpc)
                if rpc.code == tonic::Code::FailedPrecondition
                    && (text.contains("no peers available to evaluate chaincode")
                        || text.contains("No metadata was found for chaincode")) =>
            {
                Self::not_found(format!(
                    "the chaincode is not deployed on this channel, or not installed on a peer that can be asked: {}",
                    rpc.message
                ))
            }
            SdkError::Rpc(rpc) => match rpc.code {
                tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Self::forbidden(text),
                tonic::Code::InvalidArgument => Self::bad_request(text),
                tonic::Code::NotFound => Self::not_found(text),
                _ if error.retry() == Retry::Never => Self::new(StatusCode::BAD_GATEWAY, text),
                _ => Self::unavailable(text),
            },
            SdkError::Refused { .. } => Self::new(StatusCode::BAD_GATEWAY, text),
            SdkError::Request(_) => Self::bad_request(text),
            _ if error.retry() == Retry::Never => Self::new(StatusCode::BAD_GATEWAY, text),
            _ => Self::unavailable(text),
        }
    }
}

impl Problem {
    /// A node cannot be reached now.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(5),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contract_refuses_in_its_own_words() {
        let refused = SdkError::Refused {
            endorser: "peer0:7051".into(),
            status: 404,
            message: "RFQ rfq-9 is unknown".into(),
        };
        let problem = Problem::from(refused);
        assert_eq!(problem.status(), StatusCode::NOT_FOUND);
        assert_eq!(problem.message, "RFQ rfq-9 is unknown");
        let odd = SdkError::Refused {
            endorser: "peer0:7051".into(),
            status: 700,
            message: "x".into(),
        };
        assert_eq!(Problem::from(odd).status(), StatusCode::BAD_GATEWAY);
    }

    #[test]
    fn what_may_go_better_says_when_to_try_again() {
        let response = Problem::from(SdkError::StreamEnded { from: "p".into() }).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }
}
