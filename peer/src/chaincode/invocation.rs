//! Executing a proposal: the chaincode that it names, and those that this one calls.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use selvedge_channel::Bundle;
use selvedge_msp::policy::SignedData;
use selvedge_proto::protos;

use super::collections;
use super::error::{ExecuteError, Place};
use super::runtime::{ChaincodeRuntime, Resolved};
use super::simulator::{SharedSimulator, SimulationError, Simulator};
use super::state::ChannelState;
use super::transaction::TxContext;
use super::wasm::{CallContext, CollectionRights, Invoked, Nested, Outcome};
use crate::channel::PeerChannel;
use crate::context::PeerContext;
use crate::definition::ChaincodeDefinition;
use crate::scc;
use crate::stranger;

/// Key under which the version that was initialised is kept (spec 03 §7).
pub(crate) const INIT_KEY: &str = "\u{0}\u{10ffff}initialized";

/// What an execution gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Executed {
    /// The contract's response.
    pub response: protos::Response,
    /// Its event, complete; none when the status is 400 or above.
    pub event: Option<protos::ChaincodeEvent>,
}

/// One proposal being executed on a channel.
#[derive(Clone)]
pub struct Invocation {
    /// The peer.
    pub context: Arc<dyn PeerContext>,
    /// The runtime.
    pub runtime: Arc<ChaincodeRuntime>,
    /// The transaction.
    pub tx: Arc<TxContext>,
    /// The channel that the proposal names.
    pub channel: Arc<PeerChannel>,
    /// Its configuration, the same throughout the execution.
    pub bundle: Arc<Bundle>,
}

impl Invocation {
    /// Runs the chaincode that the proposal names.
    ///
    /// # Errors
    /// It could not be run to its end.
    pub fn execute(
        &self,
        chaincode: &Resolved,
        args: Vec<Bytes>,
        is_init: bool,
        simulator: &SharedSimulator,
    ) -> Result<Executed, ExecuteError> {
        let call = CallContext {
            tx: self.tx.clone(),
            channel_id: self.channel.id().to_owned(),
            chaincode: chaincode.definition.name.clone(),
            depth: 0,
            deadline: Instant::now() + self.runtime.timeout,
            nested: Arc::new(self.clone()),
        };
        let (_, result) = self.run(chaincode, call, args, is_init, simulator, self.runtime.fuel);
        let Outcome { response, event } = result?;
        let event = event
            .filter(|_| response.status < 400)
            .map(|event| protos::ChaincodeEvent {
                chaincode_id: chaincode.definition.name.clone(),
                tx_id: self.tx.tx_id.clone(),
                ..event
            });
        Ok(Executed { response, event })
    }

    fn run(
        &self,
        chaincode: &Resolved,
        call: CallContext,
        args: Vec<Bytes>,
        is_init: bool,
        simulator: &SharedSimulator,
        fuel: u64,
    ) -> (u64, Result<Outcome, ExecuteError>) {
        let place = Place::new(&call.chaincode, &args);
        if let Err(error) = initialise(&mut simulator.lock(), &chaincode.definition, is_init, &place) {
            return (fuel, Err(error));
        }
        let module = match self.runtime.module(&chaincode.package) {
            Ok(module) => module,
            Err(why) => return (fuel, Err(ExecuteError::Instance { place, why })),
        };
        let started = Instant::now();
        let ran = self
            .runtime
            .wasm
            .run(&module, Arc::new(call), args, simulator.clone(), fuel);
        let (name, metrics) = (&chaincode.definition.name, self.runtime.metrics());
        metrics.executions.observe(&[name], started.elapsed());
        if matches!(ran.result, Err(ExecuteError::Timeout { .. })) {
            metrics.timeouts.count(&[name]);
        }
        (ran.fuel, ran.result)
    }

    /// The channel that a chaincode call goes to, with its configuration.
    fn channel_of(&self, id: &str) -> Result<(Arc<PeerChannel>, Arc<Bundle>), ExecuteError> {
        if id == self.channel.id() {
            return Ok((self.channel.clone(), self.bundle.clone()));
        }
        // Who is no member must not learn that there is such a channel.
        let joined = self.context.channel(id).map(|channel| {
            let bundle = channel.bundle();
            (channel, bundle)
        });
        joined
            .filter(|(_, bundle)| stranger::is_member(bundle, &self.signed_data()))
            .ok_or_else(|| {
                ExecuteError::NotCallable(format!("channel '{id}' not found: this peer has not joined it"))
            })
    }

    /// The proposal as policies look at it.
    fn signed_data(&self) -> SignedData {
        SignedData {
            data: vec![self.tx.proposal_bytes.clone()],
            identity: self.tx.creator.clone(),
            signature: self.tx.signature.clone(),
        }
    }

    fn invoke_other(
        &self,
        caller: &CallContext,
        target: &str,
        args: Vec<Bytes>,
        simulator: &SharedSimulator,
        fuel: u64,
    ) -> (u64, Result<Outcome, ExecuteError>) {
        let (name, channel_id) = target.split_once('/').unwrap_or((target, &caller.channel_id));
        if scc::is_system(name) {
            let why = format!("system chaincode {name} cannot be called by a chaincode");
            return (fuel, Err(ExecuteError::NotCallable(why)));
        }
        let (channel, bundle) = match self.channel_of(channel_id) {
            Ok(found) => found,
            Err(error) => return (fuel, Err(error)),
        };
        if let Err(why) = self.may_call(&bundle) {
            return (fuel, Err(ExecuteError::NotCallable(why)));
        }
        // In another channel only what is read counts: its simulation is thrown away.
        let simulator = if channel_id == caller.channel_id {
            simulator.clone()
        } else {
            match ChannelState::latest(&channel) {
                Ok(state) => Arc::new(Mutex::new(Simulator::new(Box::new(state)))),
                Err(e) => {
                    let place = Place::new(name, &args);
                    return (
                        fuel,
                        Err(ExecuteError::Ledger {
                            place,
                            why: e.to_string(),
                        }),
                    );
                }
            }
        };
        let msp_id = self.context.identity().msp_id().to_owned();
        let resolved = self
            .runtime
            .resolve(&mut simulator.lock(), channel_id, name, &msp_id);
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                let why = format!("failed to call chaincode {name} on channel {channel_id}: {error}");
                return (fuel, Err(ExecuteError::NotCallable(why)));
            }
        };
        let call = CallContext {
            tx: caller.tx.clone(),
            channel_id: channel_id.to_owned(),
            chaincode: name.to_owned(),
            depth: caller.depth + 1,
            deadline: caller.deadline,
            nested: caller.nested.clone(),
        };
        self.run(&resolved, call, args, false, &simulator, fuel)
    }

    /// Whether the creator may have chaincodes called on a channel (spec 08 §4).
    fn may_call(&self, bundle: &Bundle) -> Result<(), String> {
        const RESOURCE: &str = "peer/ChaincodeToChaincode";
        let denied = |why: String| {
            format!(
                "access denied for {RESOURCE} on channel {}: {why}",
                bundle.channel_id()
            )
        };
        let policy = bundle
            .acl_policy(RESOURCE)
            .ok_or_else(|| denied(format!("Unmapped policy for resource name: {RESOURCE}")))?;
        bundle
            .evaluate_signed(&policy, &[self.signed_data()])
            .map_err(|e| denied(e.to_string()))
    }
}

impl Nested for Invocation {
    fn invoke(
        &self,
        caller: &CallContext,
        target: &str,
        args: Vec<Bytes>,
        simulator: &SharedSimulator,
        fuel: u64,
    ) -> Invoked {
        let (fuel, result) = self.invoke_other(caller, target, args, simulator, fuel);
        Invoked {
            fuel,
            result: result.map(|outcome| outcome.response),
        }
    }

    fn collection(&self, caller: &CallContext, collection: &str) -> Result<CollectionRights, String> {
        let (_, bundle) = self.channel_of(&caller.channel_id).map_err(|e| e.to_string())?;
        let definition = self.runtime.known(&caller.channel_id, &caller.chaincode);
        let definition =
            definition.ok_or_else(|| format!("the definition of {} is gone", caller.chaincode))?;
        collections::rights(&bundle, &definition, &self.tx.identity, collection)
    }
}

/// The rules of initialisation (spec 08 §1): writes the init key where this call is the initialisation.
fn initialise(
    simulator: &mut Simulator,
    definition: &ChaincodeDefinition,
    is_init: bool,
    place: &Place,
) -> Result<(), ExecuteError> {
    let name = &definition.name;
    let refuse = |what: &str| Err(ExecuteError::NotCallable(format!("chaincode '{name}' {what}")));
    if !definition.init_required {
        if is_init {
            return refuse("does not require initialization but called as init");
        }
        return Ok(());
    }
    let failed = |e: SimulationError| ExecuteError::Ledger {
        place: place.clone(),
        why: e.to_string(),
    };
    let done = simulator.get(name, INIT_KEY).map_err(failed)?;
    let needed = done.is_none_or(|version| version != definition.version.as_bytes());
    match (is_init, needed) {
        (true, false) => refuse("is already initialized but called as init"),
        (false, true) => refuse("has not been initialized for this version, must call as init first"),
        (false, false) => Ok(()),
        (true, true) => simulator
            .put(name, INIT_KEY, definition.version.clone().into())
            .map_err(failed),
    }
}
