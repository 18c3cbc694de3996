//! What the contracts keep, as resources. Each operation is a line of a table: an address, the contract's function, and
//! how its argument is made from address, question and body. The JSON is the contracts' own (docs/contracts.md).

mod certify;
mod epcis;
mod ideas;
mod process;
mod reputation;
mod rfq;
mod shipment;

use std::collections::HashMap;

use axum::Json;
use axum::extract::{RawPathParams, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use selvedge_sdk::Invocation;
use serde_json::{Map, Value};

use super::extract::{Object, Params, idempotency_key};
use super::{App, Route, Shared};
use crate::auth::{Caller, SignedIn, User, View};
use crate::config::ContractNames;
use crate::error::Problem;
use crate::network::Submission;

/// Which contract an operation calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contract {
    Rfq,
    Shipment,
    Certify,
    Process,
    Ideas,
    Reputation,
}

impl Contract {
    /// The chaincode under which it is deployed.
    pub(super) fn chaincode(self, names: &ContractNames) -> &str {
        match self {
            Self::Rfq => &names.rfq,
            Self::Shipment => &names.shipment,
            Self::Certify => &names.certify,
            Self::Process => &names.process,
            Self::Ideas => &names.ideas,
            Self::Reputation => &names.reputation,
        }
    }
}

/// The kind of a value behind the question mark.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
}

/// A parameter: its name in the question and in the contract's argument.
#[derive(Debug, Clone, Copy)]
struct Parameter {
    name: &'static str,
    kind: Kind,
}

const fn text(name: &'static str) -> Parameter {
    Parameter {
        name,
        kind: Kind::Text,
    }
}

const fn number(name: &'static str) -> Parameter {
    Parameter {
        name,
        kind: Kind::Number,
    }
}

const fn flag(name: &'static str) -> Parameter {
    Parameter {
        name,
        kind: Kind::Flag,
    }
}

/// What somebody with the public view sees of an answer. The contracts narrow their answers as well; this is the second
/// line.
#[derive(Debug, Clone, Copy)]
enum Public {
    /// Nothing: the operation belongs to the in-house view.
    Nothing,
    /// The answer as the contract gives it to a public caller.
    AsAnswered,
    /// These members of the answer.
    Members(&'static [&'static str]),
    /// Of the objects in the answer's list of this name, these members.
    Each(&'static str, &'static [&'static str]),
}

/// Asking.
struct Read {
    path: &'static str,
    contract: Contract,
    function: &'static str,
    /// Members of the argument that come from the address: (name in the address, name in the argument).
    address: &'static [(&'static str, &'static str)],
    parameters: &'static [Parameter],
    public: Public,
}

/// Doing.
struct Write {
    path: &'static str,
    contract: Contract,
    function: &'static str,
    address: &'static [(&'static str, &'static str)],
    /// Whether a transaction that lost a race is sent again. Not where somebody answers to what they have seen.
    retry_conflicts: bool,
}

type Table = (&'static [Read], &'static [Write]);

const TABLES: [Table; 6] = [
    (rfq::READS, rfq::WRITES),
    (shipment::READS, shipment::WRITES),
    (certify::READS, certify::WRITES),
    (process::READS, process::WRITES),
    (ideas::READS, ideas::WRITES),
    (reputation::READS, reputation::WRITES),
];

/// All operations of the tables, and the few that do not fit in.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    for (reads, writes) in TABLES {
        routes.extend(reads.iter().map(|read| Route {
            method: Method::GET,
            path: read.path,
            handler: reading(read),
        }));
        routes.extend(writes.iter().map(|write| Route {
            method: Method::POST,
            path: write.path,
            handler: writing(write),
        }));
    }
    routes.extend(shipment::more());
    routes.extend(certify::more());
    routes.extend(rfq::more());
    routes
}

fn reading(read: &'static Read) -> MethodRouter<std::sync::Arc<App>> {
    get(
        async move |State(app): Shared,
                    caller: Caller,
                    address: RawPathParams,
                    Params(asked): Params<HashMap<String, String>>| {
            let address = Address::of(&address)?;
            ask(&app, &caller, read, &address, &asked).await
        },
    )
}

fn writing(write: &'static Write) -> MethodRouter<std::sync::Arc<App>> {
    post(
        async move |State(app): Shared,
                    caller: SignedIn,
                    address: RawPathParams,
                    headers: HeaderMap,
                    super::extract::Body(body): super::extract::Body<Object>| {
            let address = Address::of(&address)?;
            act(&app, &caller, write, &address, &headers, body).await
        },
    )
}

/// The parts of an address by their names.
#[derive(Debug)]
pub(super) struct Address(HashMap<String, String>);

impl Address {
    fn of(params: &RawPathParams) -> Result<Self, Problem> {
        Ok(Self(
            params
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        ))
    }

    fn part(&self, name: &str) -> Result<&str, Problem> {
        self.0
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| Problem::internal(&format!("a route's address has no part {name}")))
    }

    /// The channel.
    fn channel(&self) -> Result<&str, Problem> {
        self.part("channel")
    }
}

/// Makes the contract's argument from the address and what stands behind the question mark.
fn question(read: &Read, address: &Address, asked: &HashMap<String, String>) -> Result<Object, Problem> {
    let mut argument = Object::new();
    for (part, name) in read.address {
        argument.insert((*name).to_owned(), Value::from(address.part(part)?));
    }
    for (name, value) in asked {
        let Some(parameter) = read.parameters.iter().find(|p| p.name == name) else {
            let known: Vec<&str> = read.parameters.iter().map(|p| p.name).collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            return Err(Problem::bad_request(format!(
                "there is no parameter {}; this address takes {known}",
                crate::network::shown(name)
            )));
        };
        let value = match parameter.kind {
            Kind::Text => Value::from(value.as_str()),
            Kind::Number => value
                .parse::<u64>()
                .map(Value::from)
                .map_err(|_| Problem::bad_request(format!("{name} must be a whole number")))?,
            Kind::Flag => value
                .parse::<bool>()
                .map(Value::from)
                .map_err(|_| Problem::bad_request(format!("{name} must be true or false")))?,
        };
        argument.insert(name.clone(), value);
    }
    Ok(argument)
}

fn only(value: Value, members: &[&str]) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .filter(|(name, _)| members.contains(&name.as_str()))
                .collect::<Map<_, _>>(),
        ),
        // Anything else than an object has no members that could be shown.
        _ => Value::Null,
    }
}

fn narrowed(mut answer: Value, public: Public) -> Value {
    match public {
        Public::Nothing => Value::Null,
        Public::AsAnswered => answer,
        Public::Members(members) => only(answer, members),
        Public::Each(list, members) => {
            let items = match answer[list].take() {
                Value::Array(items) => items,
                _ => Vec::new(),
            };
            let items: Vec<Value> = items.into_iter().map(|item| only(item, members)).collect();
            let mut page = only(answer, &["bookmark"]);
            page[list] = Value::Array(items);
            page
        }
    }
}

/// The caller as one who may read this.
fn reader(caller: &Caller, public: Public) -> Result<&User, Problem> {
    let user = caller.reader()?;
    if matches!(public, Public::Nothing) && caller.view() < View::InHouse {
        return Err(if caller.signed_in {
            Problem::forbidden(format!(
                "{} has the public view, and this belongs to the in-house view",
                user.name
            ))
        } else {
            Problem::unauthorized("this belongs to the in-house view; sign in first")
        });
    }
    Ok(user)
}

async fn ask(
    app: &App,
    caller: &Caller,
    read: &Read,
    address: &Address,
    asked: &HashMap<String, String>,
) -> Result<Response, Problem> {
    let user = reader(caller, read.public)?;
    let argument = question(read, address, asked)?;
    let chaincode = read.contract.chaincode(&app.config.contracts);
    let invocation = Invocation::new(address.channel()?, chaincode, read.function)
        .arg(Value::Object(argument).to_string());
    let answer = app.ask(user, &invocation).await?;
    let answer = match caller.view() {
        View::InHouse => answer,
        View::Public => narrowed(answer, read.public),
    };
    Ok(Json(answer).into_response())
}

async fn act(
    app: &App,
    caller: &SignedIn,
    write: &Write,
    address: &Address,
    headers: &HeaderMap,
    mut body: Object,
) -> Result<Response, Problem> {
    for (part, name) in write.address {
        super::extract::set(&mut body, name, address.part(part)?)?;
    }
    let chaincode = write.contract.chaincode(&app.config.contracts);
    let submission = Submission {
        invocation: Invocation::new(address.channel()?, chaincode, write.function)
            .arg(Value::Object(body).to_string()),
        key: idempotency_key(headers)?,
        retry_conflicts: write.retry_conflicts,
    };
    app.act(caller, &submission).await
}

/// Submits with arguments that are made elsewhere.
async fn act_with(
    app: &App,
    caller: &SignedIn,
    headers: &HeaderMap,
    call: (Contract, &str, &str),
    args: Vec<Bytes>,
) -> Result<Response, Problem> {
    let (contract, channel, function) = call;
    let chaincode = contract.chaincode(&app.config.contracts);
    let submission = Submission {
        invocation: Invocation::new(channel, chaincode, function)
            .args(args.into_iter().map(|arg| arg.to_vec())),
        key: idempotency_key(headers)?,
        retry_conflicts: true,
    };
    app.act(caller, &submission).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const READ: Read = Read {
        path: "/v1/channels/{channel}/things/{thing}",
        contract: Contract::Rfq,
        function: "get",
        address: &[("thing", "id")],
        parameters: &[number("limit"), flag("removed"), text("party")],
        public: Public::Nothing,
    };

    fn asked(pairs: &[(&str, &str)]) -> Result<Value, Problem> {
        let address = Address([("thing".to_owned(), "t-1".to_owned())].into());
        let asked = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        question(&READ, &address, &asked).map(Value::Object)
    }

    #[test]
    fn arguments_are_made_from_address_and_question() {
        let all = asked(&[("limit", "5"), ("removed", "true"), ("party", "5")]).unwrap();
        assert_eq!(
            all,
            json!({ "id": "t-1", "limit": 5, "removed": true, "party": "5" })
        );
        assert!(asked(&[("limit", "many")]).is_err());
        assert!(asked(&[("removed", "1")]).is_err());
        assert!(asked(&[("other", "1")]).is_err());
    }

    #[test]
    fn the_public_view_is_a_list_of_members() {
        let page = json!({ "things": [{ "id": "a", "price": 1 }, 7], "bookmark": "b", "total": 9 });
        let seen = narrowed(page, Public::Each("things", &["id"]));
        assert_eq!(seen, json!({ "things": [{ "id": "a" }, null], "bookmark": "b" }));
        let one = narrowed(json!({ "id": "a", "price": 1 }), Public::Members(&["id"]));
        assert_eq!(one, json!({ "id": "a" }));
        assert_eq!(narrowed(json!({ "id": "a" }), Public::Nothing), Value::Null);
    }

    #[test]
    fn every_member_of_an_argument_is_in_its_address() {
        for (reads, writes) in TABLES {
            let reads = reads.iter().map(|r| (r.path, r.address));
            for (path, address) in reads.chain(writes.iter().map(|w| (w.path, w.address))) {
                assert!(path.starts_with("/v1/channels/{channel}/"), "{path}");
                for (part, _) in address {
                    assert!(path.contains(&format!("{{{part}}}")), "{path} has no {part}");
                }
            }
        }
    }
}
