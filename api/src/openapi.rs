//! The description of the interface for programs: OpenAPI 3.1.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::error::Problem;

const TEXT: &str = include_str!("../openapi.yaml");

/// The document as JSON.
pub(crate) fn value() -> Result<Value, serde_yaml_ng::Error> {
    serde_yaml_ng::from_str(TEXT)
}

/// `GET /v1/openapi.json`
pub(crate) async fn document() -> Result<Response, Problem> {
    let value = value().map_err(|e| Problem::internal(&e))?;
    let body = format!("{value:#}\n");
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
