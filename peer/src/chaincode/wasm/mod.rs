//! Contracts as WebAssembly (ABI: `docs/contract-abi.md`).
//!
//! Every call gets a fresh instance: a slot of the pool, a copy-on-write image of the module's initial memory, and
//! nothing left over from another call. What a contract can observe is the same on every peer: there is no clock, no
//! randomness, no threads, NaNs are canonical, and the limit on work is fuel. The time limit is a local backstop.

mod cache;
mod host;
mod imports;
mod limits;
pub(crate) mod list;
#[cfg(test)]
pub(crate) mod tests;
mod ticker;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selvedge_proto::protos;
use wasmtime::{
    Config, Enabled, Engine, ExternType, InstanceAllocationStrategy, InstancePre, Linker, Module,
    PoolingAllocationConfig, Store, Trap, ValType,
};

pub(crate) use host::{CallContext, CollectionRights, Invoked, Nested};
use host::{Fault, HostState};
use limits::MemoryLimit;

use super::error::{ExecuteError, Place, RuntimeError};
use super::simulator::SharedSimulator;

/// Version of the ABI that this peer speaks.
const ABI_VERSION: i32 = 1;
const ABI_EXPORT: &str = "selvedge_abi_v1";
const INVOKE_EXPORT: &str = "selvedge_invoke";
const MEMORY_EXPORT: &str = "memory";
const IMPORT_MODULE: &str = "selvedge_v1";

/// How deep chaincodes may call each other.
pub const MAX_CALL_DEPTH: usize = 4;
/// Native stack of one instance. Nested calls share a thread's stack of 2 MiB.
const MAX_STACK_BYTES: usize = 256 * 1024;
/// Memory that a slot of the pool keeps resident for its next use: the stack, constants and first heap of a contract.
const KEEP_RESIDENT_BYTES: usize = 384 * 1024;
/// Slots that stay warm while idle.
const WARM_SLOTS: u32 = 4;
const WASM_PAGE: usize = 64 * 1024;
/// Fuel for asking a module for its ABI version.
const PROBE_FUEL: u64 = 100_000;

/// Limits of one call.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Units of work that one transaction may do; about one per wasm instruction, more for calls to the peer. The same
    /// on all peers of a channel, or they disagree on what is too much.
    pub fuel: u64,
    /// Memory that one instance may have, in bytes. The same on all peers of a channel.
    pub memory_bytes: usize,
    /// Wall-clock time that one transaction may take on this peer.
    pub timeout: Duration,
    /// Transactions that run at the same time.
    pub concurrency: usize,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            fuel: 2_000_000_000,
            memory_bytes: 64 * 1024 * 1024,
            timeout: Duration::from_secs(30),
            concurrency: 16,
        }
    }
}

/// What a contract answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// Its response.
    pub response: protos::Response,
    /// Its event, without chaincode and transaction id.
    pub event: Option<protos::ChaincodeEvent>,
}

/// How a run ended.
pub(crate) struct Ran {
    /// Fuel that is left.
    pub(crate) fuel: u64,
    pub(crate) result: Result<Outcome, ExecuteError>,
}

/// Compiles and runs modules.
pub(crate) struct WasmEngine {
    engine: Engine,
    linker: Linker<HostState>,
    ticker: ticker::Ticker,
    config: RuntimeConfig,
}

/// A module that is ready to run.
pub(crate) struct CompiledModule {
    pre: InstancePre<HostState>,
}

fn engine_config(config: &RuntimeConfig) -> Config {
    let memory = config.memory_bytes.div_ceil(WASM_PAGE).max(1) * WASM_PAGE;
    let slots = u32::try_from(config.concurrency.max(1) * (MAX_CALL_DEPTH + 1)).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(slots)
        .total_memories(slots)
        .total_tables(slots)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .table_elements(20_000)
        .max_memory_size(memory)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        // Where the kernel can tell (Linux 6.7), only pages that a call has touched are cleared after it.
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(64 * 1024);
    let mut engine = Config::new();
    engine
        .consume_fuel(true)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .max_wasm_stack(MAX_STACK_BYTES)
        .memory_init_cow(true)
        .memory_reservation(memory as u64)
        .memory_guard_size(WASM_PAGE as u64)
        .generate_address_map(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    engine
}

impl WasmEngine {
    /// Sets up the pool. Its address space is reserved, not used.
    pub(crate) fn new(config: &RuntimeConfig) -> Result<Self, RuntimeError> {
        let engine =
            Engine::new(&engine_config(config)).map_err(|e| RuntimeError::Engine(format!("{e:#}")))?;
        let mut linker = Linker::new(&engine);
        imports::link(&mut linker).map_err(|e| RuntimeError::Engine(format!("{e:#}")))?;
        let ticker = ticker::Ticker::start(&engine).map_err(|e| RuntimeError::Engine(e.to_string()))?;
        Ok(Self {
            engine,
            linker,
            ticker,
            config: config.clone(),
        })
    }

    /// Compiles a module and checks that it speaks the ABI. `Err` says what is wrong with it.
    pub(crate) fn compile(&self, wasm: &[u8]) -> Result<CompiledModule, String> {
        let module = Module::new(&self.engine, wasm);
        selvedge_operations::give_memory_back();
        let module =
            module.map_err(|e| format!("contract.wasm is not a module that this peer can run: {e:#}"))?;
        self.ready(&module)
    }

    /// As [`WasmEngine::compile`], with the compiled form kept in a file beside the package: it is used when it is whole
    /// and was made by this version and configuration of the compiler, and made again otherwise.
    pub(crate) fn load(
        &self,
        compiled: &Path,
        wasm: impl FnOnce() -> Result<Vec<u8>, String>,
    ) -> Result<CompiledModule, String> {
        if let Some(module) = cache::read(&self.engine, compiled) {
            return self.ready(&module);
        }
        let ready = self.compile(&wasm()?)?;
        self.keep(compiled, &ready);
        Ok(ready)
    }

    /// Writes the compiled form of a module to a file, for [`WasmEngine::load`]. Failing costs time only.
    pub(crate) fn keep(&self, compiled: &Path, module: &CompiledModule) {
        if let Err(error) = cache::write(&self.engine, compiled, module.pre.module()) {
            tracing::warn!(
                path = %compiled.display(), %error,
                "cannot keep a compiled chaincode; it is compiled again next time"
            );
        }
    }

    fn ready(&self, module: &Module) -> Result<CompiledModule, String> {
        check_shape(module)?;
        let pre = self.linker.instantiate_pre(module).map_err(|e| {
            format!("the module imports a function of {IMPORT_MODULE} that this peer does not have or that has another type: {e:#}")
        })?;
        let ready = CompiledModule { pre };
        self.probe(&ready)?;
        Ok(ready)
    }

    /// Asks a fresh instance for its ABI version.
    fn probe(&self, module: &CompiledModule) -> Result<(), String> {
        let mut store = self.store(
            HostState::idle(MemoryLimit::new(self.config.memory_bytes)),
            PROBE_FUEL,
        )?;
        let _running = self.ticker.running();
        store.set_epoch_deadline(ticker::ticks(Duration::from_secs(1)));
        let failed = |e: wasmtime::Error| format!("the module cannot be started: {e:#}");
        let instance = module.pre.instantiate(&mut store).map_err(failed)?;
        let version = instance
            .get_typed_func::<(), i32>(&mut store, ABI_EXPORT)
            .and_then(|f| f.call(&mut store, ()))
            .map_err(failed)?;
        if version != ABI_VERSION {
            return Err(format!(
                "the contract was built for version {version} of the contract ABI; this peer speaks version {ABI_VERSION}"
            ));
        }
        Ok(())
    }

    fn store(&self, state: HostState, fuel: u64) -> Result<Store<HostState>, String> {
        let mut store = Store::try_new(&self.engine, state).map_err(|e| format!("{e:#}"))?;
        store.limiter(|state| &mut state.memory_limit);
        store.set_fuel(fuel).map_err(|e| format!("{e:#}"))?;
        Ok(store)
    }

    /// Runs a contract once.
    pub(crate) fn run(
        &self,
        module: &CompiledModule,
        call: Arc<CallContext>,
        args: Vec<Bytes>,
        simulator: SharedSimulator,
        fuel: u64,
    ) -> Ran {
        let place = Place::new(&call.chaincode, &args);
        let limit = MemoryLimit::new(self.config.memory_bytes);
        let left = call.deadline.saturating_duration_since(Instant::now());
        let mut store = match self.store(HostState::new(call, args, simulator, limit), fuel) {
            Ok(store) => store,
            Err(why) => {
                return Ran {
                    fuel,
                    result: Err(ExecuteError::Instance { place, why }),
                };
            }
        };
        let _running = self.ticker.running();
        store.set_epoch_deadline(ticker::ticks(left));
        let result = self.invoke(module, &mut store, &place, fuel);
        let fuel = store.get_fuel().unwrap_or(0);
        let state = store.into_data();
        let result = result.map(|()| Outcome {
            response: state.response.unwrap_or_else(|| protos::Response {
                status: 500,
                message: "contract gave no response".into(),
                payload: Bytes::new(),
            }),
            event: state.event,
        });
        Ran { fuel, result }
    }

    fn invoke(
        &self,
        module: &CompiledModule,
        store: &mut Store<HostState>,
        place: &Place,
        fuel: u64,
    ) -> Result<(), ExecuteError> {
        let instance_failed = |e: wasmtime::Error| ExecuteError::Instance {
            place: place.clone(),
            why: format!("{e:#}"),
        };
        let instance = match module.pre.instantiate(&mut *store) {
            Ok(instance) => instance,
            Err(e) if e.is::<Trap>() || e.is::<Fault>() => return Err(self.explain(place, fuel, e)),
            Err(e) => return Err(instance_failed(e)),
        };
        let invoke = instance
            .get_typed_func::<(), ()>(&mut *store, INVOKE_EXPORT)
            .map_err(instance_failed)?;
        store.data_mut().memory = instance.get_memory(&mut *store, MEMORY_EXPORT);
        invoke
            .call(&mut *store, ())
            .map_err(|e| self.explain(place, fuel, e))
    }

    /// Why a call ended, in words that name the limit and what to do.
    fn explain(&self, place: &Place, fuel: u64, error: wasmtime::Error) -> ExecuteError {
        let place = place.clone();
        let error = match error.downcast::<Fault>() {
            Ok(Fault::Nested(error)) => return *error,
            Ok(Fault::Memory { wanted }) => {
                return ExecuteError::Memory {
                    place,
                    wanted,
                    limit: self.config.memory_bytes,
                };
            }
            Ok(Fault::Ledger(why)) => return ExecuteError::Ledger { place, why },
            Ok(other) => {
                return ExecuteError::Trap {
                    place,
                    why: other.to_string(),
                };
            }
            Err(error) => error,
        };
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => ExecuteError::Fuel { place, fuel },
            Some(Trap::Interrupt) => ExecuteError::Timeout {
                place,
                timeout: self.config.timeout,
            },
            Some(Trap::StackOverflow) => ExecuteError::Stack {
                place,
                limit: MAX_STACK_BYTES,
            },
            Some(trap) => ExecuteError::Trap {
                place,
                why: trap.to_string(),
            },
            None => ExecuteError::Trap {
                place,
                why: format!("{error:#}"),
            },
        }
    }
}

/// Exports and imports, before anything is linked, so that the text names what is missing.
fn check_shape(module: &Module) -> Result<(), String> {
    for import in module.imports() {
        if import.module() != IMPORT_MODULE {
            return Err(format!(
                "the module imports {}::{}; a contract may import functions of {IMPORT_MODULE} only (build it for \
                 wasm32-unknown-unknown, without WASI)",
                import.module(),
                import.name()
            ));
        }
    }
    match module.get_export(MEMORY_EXPORT) {
        Some(ExternType::Memory(memory)) if !memory.is_shared() && !memory.is_64() => {}
        _ => {
            return Err(format!(
                "the module does not export its memory as \"{MEMORY_EXPORT}\""
            ));
        }
    }
    for (name, result) in [(ABI_EXPORT, Some(ValType::I32)), (INVOKE_EXPORT, None)] {
        let fits = match module.get_export(name) {
            Some(ExternType::Func(f)) => {
                let mut results = f.results();
                f.params().len() == 0
                    && match (results.next(), &result) {
                        (None, None) => true,
                        (Some(found), Some(wanted)) => found.matches(wanted) && results.next().is_none(),
                        _ => false,
                    }
            }
            _ => false,
        };
        if !fits {
            let shape = if result.is_some() { "() -> i32" } else { "()" };
            return Err(format!(
                "the module does not export the function {name}{shape}: it is no Selvedge contract (see docs/contract-abi.md)"
            ));
        }
    }
    Ok(())
}
