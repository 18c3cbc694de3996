//! Finds the contract behind a chaincode name and runs it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use selvedge_ledger::{StateReader, StateSnapshot, Version};

use super::collections::IMPLICIT_PREFIX;
use super::error::RuntimeError;
use super::package::{self, PackageError};
use super::simulator::{SimulationError, Simulator, sha256};
use super::store::{InstalledPackage, PackageStore, approval_hash};
use super::wasm::{CompiledModule, RuntimeConfig, WasmEngine};
use crate::channel::PeerChannel;
use crate::definition::{ChaincodeDefinition, DefinitionError, LIFECYCLE, field_key};
use crate::metrics::ExecutionMetrics;
use crate::scc::lifecycle::parameters::Parameters;

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

/// A definition that this peer's organisation has approved as it was committed, which stays true while the sequence stands.
struct Known {
    sequence: Version,
    definition: Arc<ChaincodeDefinition>,
    /// The package that was approved for it, and the height of the state that says so: another block may say otherwise.
    package: Option<(u64, Arc<InstalledPackage>)>,
}

impl Known {
    fn at(&self, height: u64) -> Option<Resolved> {
        let (_, package) = self.package.as_ref().filter(|(at, _)| *at == height)?;
        Some(Resolved {
            definition: Arc::clone(&self.definition),
            package: Arc::clone(package),
        })
    }
}

type ModuleSlot = Arc<Mutex<Option<Arc<CompiledModule>>>>;

/// Runs the installed contracts.
pub struct ChaincodeRuntime {
    pub(super) wasm: WasmEngine,
    packages: PackageStore,
    modules: Mutex<HashMap<String, ModuleSlot>>,
    definitions: Mutex<HashMap<(String, String), Known>>,
    pub(super) fuel: u64,
    pub(super) timeout: Duration,
    concurrency: usize,
    metrics: ExecutionMetrics,
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
            metrics: ExecutionMetrics::default(),
        })
    }

    /// The installed packages.
    pub fn packages(&self) -> &PackageStore {
        &self.packages
    }

    /// What was executed so far and how long it took.
    pub fn metrics(&self) -> &ExecutionMetrics {
        &self.metrics
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
        // The first call loads it from there: what the compiler left in this one is many times as large.
        self.wasm.keep(&installed.compiled_path(), &module);
        Ok(installed)
    }

    fn slot(&self, package_id: &str) -> ModuleSlot {
        self.modules
            .lock()
            .entry(package_id.to_owned())
            .or_default()
            .clone()
    }

    pub(super) fn module(&self, package: &InstalledPackage) -> Result<Arc<CompiledModule>, String> {
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
        state: &StateSnapshot,
        channel_id: &str,
        name: &str,
        msp_id: &str,
    ) -> Result<Resolved, NotAvailable> {
        if let Some(found) = self.known_at(channel_id, name, state.height()) {
            return Ok(found);
        }
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
        self.find(state, state.height(), channel_id, name, msp_id, sequence)
    }

    /// What was found in the state of the same height before.
    fn known_at(&self, channel_id: &str, name: &str, height: u64) -> Option<Resolved> {
        let id = (channel_id.to_owned(), name.to_owned());
        self.definitions.lock().get(&id)?.at(height)
    }

    /// The committed definition of a chaincode, as [`crate::definition::read_definition`] reads it; one that was read
    /// before and still has the same sequence is not read again.
    ///
    /// # Errors
    /// The database failed, or the entries are not a definition.
    pub(crate) fn definition(
        &self,
        state: &StateSnapshot,
        channel_id: &str,
        name: &str,
    ) -> Result<Option<Arc<ChaincodeDefinition>>, DefinitionError> {
        if let Some(found) = self.known_at(channel_id, name, state.height()) {
            return Ok(Some(found.definition));
        }
        let sequence = state.get(LIFECYCLE, &field_key(name, "Sequence"));
        let sequence = sequence.map_err(|source| DefinitionError::Ledger {
            name: name.to_owned(),
            source,
        })?;
        if let Some(sequence) = sequence {
            let id = (channel_id.to_owned(), name.to_owned());
            let definitions = self.definitions.lock();
            let known = definitions.get(&id).filter(|k| k.sequence == sequence.version);
            if let Some(known) = known {
                return Ok(Some(known.definition.clone()));
            }
        }
        Ok(crate::definition::read_definition(state, name)?.map(Arc::new))
    }

    /// The definition that a chaincode that is running was found by.
    pub(crate) fn known(&self, channel_id: &str, name: &str) -> Option<Arc<ChaincodeDefinition>> {
        let id = (channel_id.to_owned(), name.to_owned());
        self.definitions
            .lock()
            .get(&id)
            .map(|known| known.definition.clone())
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
        let state = simulator.state();
        self.find(state, state.height(), channel_id, name, msp_id, sequence)
    }

    /// `height` is that of `state`, and `sequence` the version of the definition's sequence in it.
    fn find(
        &self,
        state: &dyn StateReader,
        height: u64,
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
        let mut known = None;
        if let Some(entry) = self
            .definitions
            .lock()
            .get(&id)
            .filter(|k| k.sequence == sequence)
        {
            if let Some(found) = entry.at(height) {
                return Ok(found);
            }
            known = Some(entry.definition.clone());
        }
        let approved = known.is_some();
        let definition = match known {
            Some(known) => known,
            None => {
                let read =
                    crate::definition::read_definition(state, name).map_err(|e| failed(e.to_string()))?;
                Arc::new(read.ok_or_else(|| NotAvailable::NotDefined(name.to_owned()))?)
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
        let source = hashed(format!("chaincode-sources/fields/{private_name}/PackageID"))?;
        let package = source
            .as_ref()
            .and_then(|hash| self.packages.by_approval_hash(hash));
        self.definitions.lock().insert(
            id,
            Known {
                sequence,
                definition: definition.clone(),
                package: package.clone().map(|package| (height, package)),
            },
        );
        let source = source.ok_or_else(not_approved)?;
        match package {
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
