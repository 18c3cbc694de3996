//! The shape of a contract: a table of functions, from which calls are dispatched and the metadata is made.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::Host;
use crate::{Args, Context, Error, Level, Response, Result};

/// The function with which Fabric's tools ask what a contract offers.
const METADATA: &str = "org.hyperledger.fabric:GetMetadata";

/// Whether a function is meant to be ordered and committed, or only to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Changes the ledger.
    Submit,
    /// Only reads.
    Evaluate,
}

/// What runs when a function is called.
pub type Handler = fn(&Context<'_>, &Args) -> Result<Response>;

/// One function of a contract.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Name as callers write it.
    pub name: &'static str,
    /// Whether it is meant to be submitted or evaluated.
    pub kind: Kind,
    /// Names of its parameters; a trailing `?` marks one that may be left out.
    pub parameters: &'static [&'static str],
    /// What it runs.
    pub handler: Handler,
    /// One sentence for the metadata; empty when there is none.
    pub description: &'static str,
    /// Whether callers who are confined to the public view are refused.
    pub in_house: bool,
}

impl Function {
    /// A function that changes the ledger.
    pub const fn submit(name: &'static str, parameters: &'static [&'static str], handler: Handler) -> Self {
        Self {
            name,
            kind: Kind::Submit,
            parameters,
            handler,
            description: "",
            in_house: false,
        }
    }

    /// A function that only reads.
    pub const fn evaluate(name: &'static str, parameters: &'static [&'static str], handler: Handler) -> Self {
        Self {
            name,
            kind: Kind::Evaluate,
            parameters,
            handler,
            description: "",
            in_house: false,
        }
    }

    /// The same function, closed to callers who are confined to the public view ([`crate::Caller::has_public_view`]).
    #[must_use]
    pub const fn in_house(mut self) -> Self {
        self.in_house = true;
        self
    }

    /// The same function with a sentence for the metadata: what it does, and with which argument.
    #[must_use]
    pub const fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }
}

/// A contract. Implement it for a unit type and hand that to [`crate::export!`].
pub trait Contract {
    /// Name in the metadata; callers may write `Name:function` as well as `function`.
    const NAME: &'static str;
    /// Version in the metadata.
    const VERSION: &'static str;
    /// One sentence for the metadata: what the contract is for.
    const DESCRIPTION: &'static str = "";
    /// Everything that can be called.
    const FUNCTIONS: &'static [Function];
}

/// Runs one invocation of a contract on a host and sets its response.
pub fn run<C: Contract>(host: &dyn Host) {
    let response = invoke::<C>(host).unwrap_or_else(Response::from);
    if !response.is_ok() {
        host.log(
            Level::Debug,
            &format!("{}: {} {}", C::NAME, response.status, response.message),
        );
    }
    host.respond(&response);
}

fn invoke<C: Contract>(host: &dyn Host) -> Result<Response> {
    let mut items = host.input()?;
    if items.is_empty() {
        return Err(Error::bad_request(format!(
            "no function of contract {} was named",
            C::NAME
        )));
    }
    let called = String::from_utf8(items.remove(0))
        .map_err(|_| Error::bad_request("the name of the function is not UTF-8"))?;
    if called == METADATA {
        return metadata::<C>();
    }
    let name = called
        .strip_prefix(C::NAME)
        .and_then(|rest| rest.strip_prefix(':'))
        .unwrap_or(&called);
    let function = C::FUNCTIONS
        .iter()
        .find(|function| function.name == name)
        .ok_or_else(|| {
            let all: Vec<&str> = C::FUNCTIONS.iter().map(|function| function.name).collect();
            Error::bad_request(format!(
                "contract {} has no function {called}; it has {}",
                C::NAME,
                all.join(", ")
            ))
        })?;
    let args = Args::new(function, items)?;
    let ctx = Context::new(host);
    if function.in_house && ctx.caller().has_public_view()? {
        return Err(Error::forbidden(format!(
            "{} of contract {} belongs to the in-house view, and the caller's certificate says selvedge.view=public",
            function.name,
            C::NAME
        )));
    }
    (function.handler)(&ctx, &args)
}

#[derive(Serialize)]
struct Info {
    title: &'static str,
    version: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
}

#[derive(Serialize)]
struct Schema {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Parameter {
    name: &'static str,
    required: bool,
    schema: Schema,
}

#[derive(Serialize)]
struct Transaction {
    name: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    tag: [&'static str; 1],
    parameters: Vec<Parameter>,
    returns: Schema,
}

#[derive(Serialize)]
struct ContractMetadata {
    name: &'static str,
    default: bool,
    info: Info,
    transactions: Vec<Transaction>,
}

#[derive(Serialize)]
struct Components {
    schemas: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Metadata {
    info: Info,
    contracts: BTreeMap<&'static str, ContractMetadata>,
    components: Components,
}

fn metadata<C: Contract>() -> Result<Response> {
    let info = || Info {
        title: C::NAME,
        version: C::VERSION,
        description: C::DESCRIPTION,
    };
    let text = || Schema { kind: "string" };
    let parameter = |name: &&'static str| Parameter {
        name: name.trim_end_matches('?'),
        required: !name.ends_with('?'),
        schema: text(),
    };
    let transaction = |function: &Function| Transaction {
        name: function.name,
        description: function.description,
        tag: [match function.kind {
            Kind::Submit => "submitTx",
            Kind::Evaluate => "evaluateTx",
        }],
        parameters: function.parameters.iter().map(parameter).collect(),
        returns: text(),
    };
    let transactions = C::FUNCTIONS.iter().map(transaction).collect();
    let contract = ContractMetadata {
        name: C::NAME,
        default: true,
        info: info(),
        transactions,
    };
    Response::json(&Metadata {
        info: info(),
        contracts: BTreeMap::from([(C::NAME, contract)]),
        components: Components {
            schemas: BTreeMap::new(),
        },
    })
}

/// Makes a crate of type `cdylib` a contract that a peer can run: exports what ABI version 1 asks for.
///
/// Without effect when not compiled to wasm, so that the same crate can be unit-tested natively.
#[macro_export]
macro_rules! export {
    ($contract:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn selvedge_abi_v1() -> i32 {
                1
            }

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn selvedge_invoke() {
                $crate::run_on_peer::<$contract>();
            }
        };
    };
}
