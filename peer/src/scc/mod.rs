//! System chaincodes: `_lifecycle`, `cscc` and `qscc` (spec 08 §2, §3, §5). They are part of the peer and judge their
//! callers themselves.

mod acl;
mod cscc;
pub mod lifecycle;
mod qscc;

use std::sync::Arc;

use bytes::Bytes;
use selvedge_channel::Bundle;
use selvedge_msp::policy::SignedData;
use selvedge_proto::protos;

use crate::chaincode::simulator::SharedSimulator;
use crate::chaincode::{ChaincodeRuntime, TxContext};
use crate::channel::PeerChannel;
use crate::context::PeerContext;

/// Version that system chaincodes are endorsed under.
pub const VERSION: &str = "syscc";

const NAMES: [&str; 4] = ["_lifecycle", "cscc", "lscc", "qscc"];

/// True for the names that belong to the peer itself.
pub fn is_system(name: &str) -> bool {
    NAMES.contains(&name)
}

/// True for the system chaincodes that read no state through a simulation.
pub(crate) fn runs_without_simulator(name: &str) -> bool {
    matches!(name, "cscc" | "qscc")
}

/// A call of a system chaincode.
pub(crate) struct Call<'a> {
    pub(crate) context: &'a dyn PeerContext,
    pub(crate) runtime: &'a ChaincodeRuntime,
    pub(crate) tx: &'a TxContext,
    /// The channel that the proposal names, if it names one.
    pub(crate) channel: Option<(&'a Arc<PeerChannel>, &'a Bundle)>,
    pub(crate) args: &'a [Bytes],
    pub(crate) simulator: Option<&'a SharedSimulator>,
}

impl Call<'_> {
    /// The first argument as text.
    fn function(&self) -> String {
        String::from_utf8_lossy(self.args.first().map_or(&[][..], |f| f)).into_owned()
    }

    /// Whether the caller is a valid member of one of the channel's organisations. The endorser has checked the signature.
    fn is_member(&self, bundle: &Bundle) -> bool {
        bundle
            .msps()
            .deserialize(&self.tx.creator)
            .is_ok_and(|creator| bundle.msps().validate(&creator).is_ok())
    }

    /// The proposal as policies look at it.
    fn signed(&self) -> SignedData {
        SignedData {
            data: vec![self.tx.proposal_bytes.clone()],
            identity: self.tx.creator.clone(),
            signature: self.tx.signature.clone(),
        }
    }
}

/// A response with status 200.
fn success(payload: impl Into<Bytes>) -> protos::Response {
    protos::Response {
        status: 200,
        message: String::new(),
        payload: payload.into(),
    }
}

/// A response with an error status.
fn failure(status: i32, message: impl Into<String>) -> protos::Response {
    protos::Response {
        status,
        message: message.into(),
        payload: Bytes::new(),
    }
}

/// Runs a system chaincode.
pub(crate) fn invoke(name: &str, call: &Call<'_>) -> protos::Response {
    match name {
        "_lifecycle" => lifecycle::invoke(call),
        "cscc" => cscc::invoke(call),
        "qscc" => qscc::invoke(call),
        other => failure(
            500,
            format!(
                "system chaincode {other} is not supported by this peer: use _lifecycle for chaincode definitions"
            ),
        ),
    }
}
