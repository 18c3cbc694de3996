//! Any contract: the edge gateway's request, answered when it is committed.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use selvedge_sdk::Invocation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{Body, check_key, idempotency_key};
use super::{Shared, any_json};
use crate::auth::{Caller, SignedIn};
use crate::error::Problem;
use crate::network::Submission;

/// A request to a contract, in the form that edge gateways take.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Request {
    channel: String,
    chaincode: String,
    function: String,
    #[serde(default)]
    args: Vec<Value>,
    /// Seen by the contract and kept nowhere.
    #[serde(default)]
    transient: BTreeMap<String, Value>,
    /// MSP ids of the organisations that are to endorse; those that the policy needs if empty.
    #[serde(default)]
    endorsing_organizations: Vec<String>,
    idempotency_key: Option<String>,
    #[serde(default = "yes")]
    retry_conflicts: bool,
}

fn yes() -> bool {
    true
}

/// Text stays text; other JSON is passed on as text.
fn argument(value: Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

impl Request {
    fn invocation(self) -> Result<(Invocation, Option<String>, bool), Problem> {
        for (name, value) in [
            ("channel", &self.channel),
            ("chaincode", &self.chaincode),
            ("function", &self.function),
        ] {
            if value.is_empty() {
                return Err(Problem::bad_request(format!("'{name}' is empty")));
            }
        }
        let mut invocation = Invocation::new(self.channel, self.chaincode, self.function)
            .args(self.args.into_iter().map(argument))
            .endorsing_orgs(self.endorsing_organizations);
        for (name, value) in self.transient {
            invocation = invocation.transient(name, argument(value));
        }
        let key = self.idempotency_key.as_deref().map(check_key).transpose()?;
        Ok((invocation, key, self.retry_conflicts))
    }
}

/// `POST /v1/transactions`
pub(super) async fn submit(
    State(app): Shared,
    caller: SignedIn,
    headers: HeaderMap,
    Body(request): Body<Request>,
) -> Result<Response, Problem> {
    let (invocation, key, retry_conflicts) = request.invocation()?;
    let key = match idempotency_key(&headers)? {
        Some(key) => Some(key),
        None => key,
    };
    let submission = Submission {
        invocation,
        key,
        retry_conflicts,
    };
    app.act(&caller, &submission).await
}

/// `POST /v1/queries`
pub(super) async fn evaluate(
    State(app): Shared,
    caller: Caller,
    Body(request): Body<Request>,
) -> Result<Json<Value>, Problem> {
    // What a visitor may ask goes through the typed resources, which know what is public.
    if caller.view() < crate::auth::View::InHouse {
        return Err(if caller.signed_in {
            Problem::forbidden("any query of any contract belongs to the in-house view")
        } else {
            Problem::unauthorized("sign in to ask contracts")
        });
    }
    let (invocation, _, _) = request.invocation()?;
    app.network.channel(invocation.channel())?;
    let answer = app
        .network
        .evaluate(&caller.reader()?.identity, &invocation)
        .await?;
    Ok(Json(json!({ "result": any_json(&answer) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_text_or_json() {
        assert_eq!(argument(json!("a")), b"a");
        assert_eq!(argument(json!({ "b": 1 })), br#"{"b":1}"#);
    }

    #[test]
    fn requests_are_those_of_the_edge_gateway() {
        let body = r#"{"channel":"c","chaincode":"s","function":"f","args":["a"],"idempotencyKey":"k"}"#;
        let request: Request = serde_json::from_str(body).unwrap();
        let (invocation, key, retry) = request.invocation().unwrap();
        assert_eq!(invocation.channel(), "c");
        assert_eq!((key.as_deref(), retry), (Some("k"), true));
        let wrong = r#"{"channel":"c","chaincode":"s","function":"f","argz":[]}"#;
        assert!(serde_json::from_str::<Request>(wrong).is_err());
        let empty: Request =
            serde_json::from_str(r#"{"channel":"","chaincode":"s","function":"f"}"#).unwrap();
        assert!(empty.invocation().is_err());
    }
}
