//! `_lifecycle`: installing packages, and agreeing on chaincode definitions (spec 08 §5, 03 §11).

mod cells;
mod define;
#[cfg(test)]
mod golden_tests;
mod input;
mod install;
pub mod parameters;
mod query;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use prost::Message;
use selvedge_channel::{Bundle, Level};
use selvedge_proto::protos;

use super::acl::{check_channel, check_local};
use super::{Call, failure, success};
use crate::chaincode::simulator::{SharedSimulator, SimulationError};
use crate::channel::PeerChannel;
use crate::definition::DefinitionError;

/// Why a lifecycle function failed.
#[derive(Debug)]
enum Failure {
    /// What was asked for is not there: status 404 with the bare text.
    NotFound(String),
    /// Anything else.
    Other(String),
}

impl Failure {
    fn other(why: impl Into<String>) -> Self {
        Self::Other(why.into())
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

impl From<SimulationError> for Failure {
    fn from(error: SimulationError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<DefinitionError> for Failure {
    fn from(error: DefinitionError) -> Self {
        Self::Other(error.to_string())
    }
}

/// What a function that works on a channel needs.
struct OnChannel<'a> {
    channel: &'a Arc<PeerChannel>,
    bundle: &'a Bundle,
    simulator: &'a SharedSimulator,
    /// MSP id of this peer's organisation.
    msp_id: &'a str,
    call: &'a Call<'a>,
}

fn decode<M: Message + Default>(call: &Call<'_>) -> Result<M, Failure> {
    let bytes = call.args.get(1).cloned().unwrap_or_default();
    M::decode(bytes)
        .map_err(|e| Failure::Other(format!("failed to decode input arg to {}: {e}", call.function())))
}

fn encode(message: &impl Message) -> Result<Vec<u8>, Failure> {
    Ok(message.encode_to_vec())
}

/// Runs a lifecycle function.
pub(super) fn invoke(call: &Call<'_>) -> protos::Response {
    match call.args.len() {
        0 => return failure(500, "lifecycle scc must be invoked with arguments"),
        2 => {}
        n => {
            return failure(
                500,
                format!("lifecycle scc operations require exactly two arguments but received {n}"),
            );
        }
    }
    let function = call.function();
    let Some(work) = function_named(&function) else {
        return failure(500, format!("unknown lifecycle function: '{function}'"));
    };
    if let Some((_, bundle)) = call.channel {
        let ready = bundle
            .application()
            .is_some_and(|a| a.capabilities.at_least(Level::V2_0));
        if !ready {
            return failure(
                500,
                format!(
                    "cannot use new lifecycle for channel '{}' as it does not have the required capabilities enabled",
                    bundle.channel_id()
                ),
            );
        }
    }
    if let Err(why) = authorise(call, &function, &work) {
        return why;
    }
    let outcome = match work {
        Work::Peer(run) => run(call),
        Work::Channel(run) => match (call.channel, call.simulator) {
            (Some((channel, bundle)), Some(simulator)) => {
                let own = call.context.identity();
                run(&OnChannel {
                    channel,
                    bundle,
                    simulator,
                    msp_id: own.msp_id(),
                    call,
                })
            }
            _ => return failure(500, "could not get channelconfig for channel ''"),
        },
    };
    match outcome {
        Ok(payload) => success(payload),
        Err(Failure::NotFound(why)) => failure(404, why),
        Err(Failure::Other(why)) => failure(
            500,
            format!("failed to invoke backing implementation of '{function}': {why}"),
        ),
    }
}

enum Work {
    /// Works on the peer.
    Peer(fn(&Call<'_>) -> Result<Vec<u8>, Failure>),
    /// Works on a channel.
    Channel(fn(&OnChannel<'_>) -> Result<Vec<u8>, Failure>),
}

fn function_named(name: &str) -> Option<Work> {
    Some(match name {
        "InstallChaincode" => Work::Peer(install::install),
        "QueryInstalledChaincode" => Work::Peer(install::query_one),
        "QueryInstalledChaincodes" => Work::Peer(install::query_all),
        "GetInstalledChaincodePackage" => Work::Peer(install::package),
        "ApproveChaincodeDefinitionForMyOrg" => Work::Channel(define::approve),
        "CheckCommitReadiness" => Work::Channel(define::readiness),
        "CommitChaincodeDefinition" => Work::Channel(define::commit),
        "QueryApprovedChaincodeDefinition" => Work::Channel(query::approved),
        "QueryApprovedChaincodeDefinitions" => Work::Channel(query::all_approved),
        "QueryChaincodeDefinition" => Work::Channel(query::committed),
        "QueryChaincodeDefinitions" => Work::Channel(query::all_committed),
        _ => return None,
    })
}

/// Judges the caller: by the peer's own MSP where the resource is the organisation's affair, by the channel otherwise.
fn authorise(call: &Call<'_>, function: &str, work: &Work) -> Result<(), protos::Response> {
    let resource = format!("_lifecycle/{function}");
    let checked = match call.channel {
        Some((_, bundle)) if selvedge_channel::acl::local_policy(&resource).is_none() => {
            check_channel(call, bundle, &resource)
        }
        None if matches!(work, Work::Channel(_)) => {
            return Err(failure(500, "could not get channelconfig for channel ''"));
        }
        _ => check_local(call, &resource),
    };
    checked.map_err(|why| {
        failure(
            500,
            format!("Failed to authorize invocation due to failed ACL check: {why}"),
        )
    })
}
