//! Finds the contract behind a chaincode name and runs it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use selvedge_channel::Bundle;
use selvedge_ledger::{StateReader, Version};
use selvedge_msp::policy::SignedData;
use selvedge_proto::protos;

use super::collections::{self, IMPLICIT_PREFIX};
use super::error::{ExecuteError, Place, RuntimeError};
use super::package::{self, PackageError};
use super::simulator::{SharedSimulator, SimulationError, Simulator, sha256};
use super::state::ChannelState;
use super::store::{InstalledPackage, PackageStore, approval_hash};
use super::transaction::TxContext;
use super::wasm::{
    CallContext, CollectionRights, CompiledModule, Invoked, Nested, Outcome, RuntimeConfig, WasmEngine,
};
use crate::channel::PeerChannel;
use crate::context::PeerContext;
use crate::definition::{ChaincodeDefinition, LIFECYCLE, field_key};
use crate::scc;
use crate::scc::lifecycle::parameters::Parameters;

/// Key under which the version that was initialised is kept (spec 03 §7).
pub(crate) const INIT_KEY: &str = "\u{0}\u{10ffff}initialized";

/// Why a chaincode cannot run on this peer; Display is the reason as clients see it (spec 08 §1.5).
#[derive(Debug, thiserror::Error)]
pub enum NotAvailable {
    /// There is no definition.
    #[error("chaincode {0} not found")]
    NotDefined(String),
    /// The organisation of this peer has not approved what was committed.
    #[error(
        "chaincode definition for '{name}' at sequence {sequence} on channel '{channel}' has not yet been approved by \
         this org: approve it for {msp_id}, with the id of a package that is installed on this peer"
    )]
    NotApproved {
        /// The chaincode.
        name: String,
        /// Committed sequence.
        sequence: i64,
        /// The channel.
        channel: String,
        /// The peer's organisation.
        msp_id: String,
    },
    /// The package that the organisation approved is not here.
    #[error("chaincode definition for '{name}' exists, but chaincode is not installed: {hint}")]
    NotInstalled {
        /// The chaincode.
        name: String,
        /// What to do.
        hint: String,
    },
    /// The state could not be read.
    #[error("could not get definition of chaincode {name}: {why}")]
    Failed {
        /// The chaincode.
        name: String,
        /// What went wrong.
        why: String,
    },
}

/// A chaincode that can run here.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The committed definition.
    pub definition: Arc<ChaincodeDefinition>,
    /// The package that this peer's organisation approved for it.
    pub package: Arc<InstalledPackage>,
}

/// What an execution gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Executed {
    /// The contract's response.
    pub response: protos::Response,
    /// Its event, complete; none when the status is 400 or above.
    pub event: Option<protos::ChaincodeEvent>,
}

struct Known {
    sequence: Version,
    definition: Arc<ChaincodeDefinition>,
    /// What this peer's organisation approved is what was committed: once true, it stays true.
    approved: bool,
}

type ModuleSlot = Arc<Mutex<Option<Arc<CompiledModule>>>>;

/// Runs the installed contracts.
pub struct ChaincodeRuntime {
    wasm: WasmEngine,
    packages: PackageStore,
    modules: Mutex<HashMap<String, ModuleSlot>>,
    definitions: Mutex<HashMap<(String, String), Known>>,
    fuel: u64,
    timeout: Duration,
    concurrency: usize,
}

impl std::fmt::Debug for ChaincodeRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChaincodeRuntime")
            .field("packages", &self.packages)
            .finish_non_exhaustive()
    }
}

impl ChaincodeRuntime {
    /// A runtime over the packages in a store. Modules are loaded when they are first called.
    ///
    /// # Errors
    /// The wasm engine cannot be set up with these limits.
    pub fn new(config: &RuntimeConfig, packages: PackageStore) -> Result<Self, RuntimeError> {
        Ok(Self {
            wasm: WasmEngine::new(config)?,
            packages,
            modules: Mutex::default(),
            definitions: Mutex::default(),
            fuel: config.fuel,
            timeout: config.timeout,
            concurrency: config.concurrency.max(1),
        })
    }

    /// The installed packages.
    pub fn packages(&self) -> &PackageStore {
        &self.packages
    }

    /// How many transactions may run at a time.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Checks a package, compiles its module, and stores its exact bytes. Takes about a tenth of a second.
    ///
    /// # Errors
    /// The package or its module is not acceptable, or it is installed already.
    pub fn install(&self, bytes: &[u8]) -> Result<Arc<InstalledPackage>, PackageError> {
        let package = package::read_package(bytes)?;
        if self.packages.get(&package.package_id).is_some() {
            return Err(PackageError::AlreadyInstalled(package.package_id));
        }
        // Refused modules leave nothing behind, so the check comes before the bytes are stored.
        let module = self
            .wasm
            .compile(&package.module)
            .map_err(|why| PackageError::Module {
                package_id: package.package_id.clone(),
                why,
            })?;
        let installed = self.packages.add(&package.package_id, &package.label, bytes)?;
        self.wasm.keep(&installed.compiled_path(), &module);
        *self.slot(&package.package_id).lock() = Some(Arc::new(module));
        Ok(installed)
    }

    fn slot(&self, package_id: &str) -> ModuleSlot {
        self.modules
            .lock()
            .entry(package_id.to_owned())
            .or_default()
            .clone()
    }

    fn module(&self, package: &InstalledPackage) -> Result<Arc<CompiledModule>, String> {
        let slot = self.slot(&package.package_id);
        let mut slot = slot.lock();
        if let Some(module) = &*slot {
            return Ok(module.clone());
        }
        let wasm = || {
            let bytes = package.bytes().map_err(|e| e.to_string())?;
            Ok(package::read_package(&bytes).map_err(|e| e.to_string())?.module)
        };
        let module = Arc::new(self.wasm.load(&package.compiled_path(), wasm)?);
        *slot = Some(module.clone());
        Ok(module)
    }

    /// The definition of a chaincode that is committed on the channel, and whose package is installed here.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn installed(
        &self,
        channel: &PeerChannel,
        name: &str,
        msp_id: &str,
    ) -> Result<Arc<ChaincodeDefinition>, NotAvailable> {
        let failed = |why: String| NotAvailable::Failed {
            name: name.to_owned(),
            why,
        };
        let snapshot = channel.ledger().snapshot().map_err(|e| failed(e.to_string()))?;
        Ok(self.find_on(&snapshot, channel.id(), name, msp_id)?.definition)
    }

    /// Definition and package of a chaincode in a state.
    pub(crate) fn find_on(
        &self,
        state: &dyn StateReader,
        channel_id: &str,
        name: &str,
        msp_id: &str,
    ) -> Result<Resolved, NotAvailable> {
        let sequence =
            state
                .get(LIFECYCLE, &field_key(name, "Sequence"))
                .map_err(|e| NotAvailable::Failed {
                    name: name.to_owned(),
                    why: e.to_string(),
                })?;
        let sequence = sequence
            .ok_or_else(|| NotAvailable::NotDefined(name.to_owned()))?
            .version;
        self.find(state, channel_id, name, msp_id, sequence)
    }

    /// As [`ChaincodeRuntime::installed`], reading the definition's sequence through a simulation, so that the
    /// transaction depends on it (spec 03 §7).
    ///
    /// # Errors
    /// Says what is missing.
    pub fn resolve(
        &self,
        simulator: &mut Simulator,
        channel_id: &str,
        name: &str,
        msp_id: &str,
    ) -> Result<Resolved, NotAvailable> {
        let failed = |e: SimulationError| NotAvailable::Failed {
            name: name.to_owned(),
            why: e.to_string(),
        };
        let sequence = simulator
            .get_versioned(LIFECYCLE, &field_key(name, "Sequence"))
            .map_err(failed)?;
        let sequence = sequence
            .ok_or_else(|| NotAvailable::NotDefined(name.to_owned()))?
            .version;
        self.find(simulator.state(), channel_id, name, msp_id, sequence)
    }

    fn find(
        &self,
        state: &dyn StateReader,
        channel_id: &str,
        name: &str,
        msp_id: &str,
        sequence: Version,
    ) -> Result<Resolved, NotAvailable> {
        let failed = |why: String| NotAvailable::Failed {
            name: name.to_owned(),
            why,
        };
        let id = (channel_id.to_owned(), name.to_owned());
        let known = self
            .definitions
            .lock()
            .get(&id)
            .filter(|k| k.sequence == sequence)
            .map(|k| (k.definition.clone(), k.approved));
        let (definition, approved) = match known {
            Some(known) => known,
            None => {
                let read =
                    crate::definition::read_definition(state, name).map_err(|e| failed(e.to_string()))?;
                (
                    Arc::new(read.ok_or_else(|| NotAvailable::NotDefined(name.to_owned()))?),
                    false,
                )
            }
        };
        let collection = format!("{IMPLICIT_PREFIX}{msp_id}");
        let hashed = |key: String| {
            state
                .get_hashed(LIFECYCLE, &collection, &sha256(key.as_bytes()))
                .map(|found| found.map(|f| f.value))
                .map_err(|e| failed(e.to_string()))
        };
        let not_approved = || NotAvailable::NotApproved {
            name: name.to_owned(),
            sequence: definition.sequence,
            channel: channel_id.to_owned(),
            msp_id: msp_id.to_owned(),
        };
        let private_name = format!("{name}#{}", definition.sequence);
        if !approved {
            for (field, value) in Parameters::of(&definition).fields() {
                if hashed(field_key(&private_name, field))? != Some(sha256(&value)) {
                    return Err(not_approved());
                }
            }
        }
        self.definitions.lock().insert(
            id,
            Known {
                sequence,
                definition: definition.clone(),
                approved: true,
            },
        );
        let source = hashed(format!("chaincode-sources/fields/{private_name}/PackageID"))?;
        let source = source.ok_or_else(not_approved)?;
        match self.packages.by_approval_hash(&source) {
            Some(package) => Ok(Resolved { definition, package }),
            None => {
                let hint = if source == approval_hash("")[..] {
                    format!("{msp_id} approved it without a package; approve it again with a package id")
                } else {
                    format!("install the package that {msp_id} approved, or approve an installed one")
                };
                Err(NotAvailable::NotInstalled {
                    name: name.to_owned(),
                    hint,
                })
            }
        }
    }
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
        let ran = self
            .runtime
            .wasm
            .run(&module, Arc::new(call), args, simulator.clone(), fuel);
        (ran.fuel, ran.result)
    }

    /// The channel that a chaincode call goes to, with its configuration.
    fn channel_of(&self, id: &str) -> Result<(Arc<PeerChannel>, Arc<Bundle>), ExecuteError> {
        if id == self.channel.id() {
            return Ok((self.channel.clone(), self.bundle.clone()));
        }
        let channel = self.context.channel(id).ok_or_else(|| {
            ExecuteError::NotCallable(format!("channel '{id}' not found: this peer has not joined it"))
        })?;
        let bundle = channel.bundle();
        Ok((channel, bundle))
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
        let signed = SignedData {
            data: vec![self.tx.proposal_bytes.clone()],
            identity: self.tx.creator.clone(),
            signature: self.tx.signature.clone(),
        };
        bundle
            .evaluate_signed(&policy, &[signed])
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
        let id = (caller.channel_id.clone(), caller.chaincode.clone());
        let definition = self
            .runtime
            .definitions
            .lock()
            .get(&id)
            .map(|k| k.definition.clone());
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
