//! The functions that a contract may import (module `selvedge_v1`), see `docs/contract-abi.md`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use selvedge_proto::protos;
use wasmtime::{Caller, Memory, Trap};

use super::limits::MemoryLimit;
use super::list;
use crate::chaincode::error::ExecuteError;
use crate::chaincode::simulator::{Item, MAX_KEY_BYTES, SharedSimulator, SimulationError};
use crate::chaincode::transaction::TxContext;

const ABSENT: i32 = -1;
const REFUSED: i32 = -2;

pub(super) const MAX_NAME_BYTES: usize = 256;
pub(super) const MAX_MESSAGE_BYTES: usize = 64 * 1024;
pub(super) const MAX_LOG_LINE_BYTES: usize = 4 * 1024;
pub(super) const MAX_LOG_LINES: usize = 256;

/// Fuel for any call to the peer, on top of a unit for each 4 bytes that cross the border.
pub(super) const CALL_FUEL: u64 = 500;
/// Fuel for a call that reads the state.
pub(super) const READ_FUEL: u64 = 10_000;
/// Fuel for opening an iterator.
pub(super) const QUERY_FUEL: u64 = 50_000;

/// What a creator may do with a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CollectionRights {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// The answer of a chaincode that was called by another.
pub(crate) struct Invoked {
    /// Fuel that is left.
    pub(crate) fuel: u64,
    pub(crate) result: Result<protos::Response, ExecuteError>,
}

/// What lies beyond one instance: other chaincodes, and the channel's collections.
pub(crate) trait Nested: Send + Sync {
    /// Calls `target`, which is `name` or `name/channel`.
    fn invoke(
        &self,
        caller: &CallContext,
        target: &str,
        args: Vec<Bytes>,
        simulator: &SharedSimulator,
        fuel: u64,
    ) -> Invoked;
    /// The creator's rights in a collection of the chaincode; `Err` when there is no such collection.
    fn collection(&self, caller: &CallContext, collection: &str) -> Result<CollectionRights, String>;
}

/// One call of a chaincode.
pub(crate) struct CallContext {
    pub(crate) tx: Arc<TxContext>,
    /// The channel whose state is used; another than the transaction's when called from there.
    pub(crate) channel_id: String,
    /// Name of the chaincode, and of its namespace.
    pub(crate) chaincode: String,
    /// 0 for the chaincode that the proposal names.
    pub(crate) depth: usize,
    pub(crate) deadline: Instant,
    pub(crate) nested: Arc<dyn Nested>,
}

/// Ends a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it handed {function} a pointer outside its memory")]
    Pointer { function: &'static str },
    #[error("it called {function} while it was being started")]
    TooEarly { function: &'static str },
    #[error("it gave a response of more than {limit} bytes")]
    Response { limit: usize },
    #[error("it wants {wanted} bytes of memory")]
    Memory { wanted: usize },
    #[error("{0}")]
    Ledger(String),
    #[error(transparent)]
    Nested(Box<ExecuteError>),
    #[error("the result is too large to hand over")]
    Size,
}

/// The result of a host function, before it is put into the buffer.
pub(super) enum Reply {
    Buffer(Bytes),
    Absent,
    Code(i32),
}

/// Why a host function has no result.
pub(super) enum Stop {
    Refused(String),
    Fault(Fault),
}

impl From<SimulationError> for Stop {
    fn from(error: SimulationError) -> Self {
        match error {
            SimulationError::Refused(why) => Self::Refused(why),
            SimulationError::Ledger(e) => Self::Fault(Fault::Ledger(e.to_string())),
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(super) fn optional(value: Option<Bytes>) -> Reply {
    value.map_or(Reply::Absent, Reply::Buffer)
}

/// State of one instance on the peer's side.
pub(super) struct HostState {
    pub(super) call: Option<Arc<CallContext>>,
    pub(super) args: Vec<Bytes>,
    pub(super) simulator: Option<SharedSimulator>,
    pub(super) memory: Option<Memory>,
    pub(super) memory_limit: MemoryLimit,
    pub(super) response: Option<protos::Response>,
    pub(super) event: Option<protos::ChaincodeEvent>,
    pub(super) buffer: Bytes,
    log_lines: usize,
}

impl HostState {
    /// For an instance that is only asked for its version.
    pub(super) fn idle(memory_limit: MemoryLimit) -> Self {
        Self {
            call: None,
            args: Vec::new(),
            simulator: None,
            memory: None,
            memory_limit,
            response: None,
            event: None,
            buffer: Bytes::new(),
            log_lines: 0,
        }
    }

    pub(super) fn new(
        call: Arc<CallContext>,
        args: Vec<Bytes>,
        simulator: SharedSimulator,
        memory_limit: MemoryLimit,
    ) -> Self {
        Self {
            call: Some(call),
            simulator: Some(simulator),
            args,
            ..Self::idle(memory_limit)
        }
    }
}

/// One host function at work: the instance's memory, what the call is about, and how many bytes have crossed.
pub(super) struct Guest<'a> {
    function: &'static str,
    pub(super) memory: &'a mut [u8],
    pub(super) host: &'a mut HostState,
    pub(super) call: Arc<CallContext>,
    pub(super) simulator: SharedSimulator,
    fuel: u64,
    crossed: usize,
}

impl Guest<'_> {
    pub(super) fn bytes(&mut self, ptr: i32, len: i32, limit: usize, what: &str) -> Result<Bytes, Stop> {
        let start = usize::try_from(ptr.cast_unsigned()).unwrap_or(usize::MAX);
        let len = usize::try_from(len.cast_unsigned()).unwrap_or(usize::MAX);
        let found = start.checked_add(len).and_then(|end| self.memory.get(start..end));
        let found = found.ok_or(Fault::Pointer {
            function: self.function,
        })?;
        if len > limit {
            return Err(Stop::Refused(format!(
                "{what} has {len} bytes; at most {limit} are allowed"
            )));
        }
        self.crossed += len;
        Ok(Bytes::copy_from_slice(found))
    }

    pub(super) fn text(&mut self, ptr: i32, len: i32, limit: usize, what: &str) -> Result<String, Stop> {
        let bytes = self.bytes(ptr, len, limit, what)?;
        String::from_utf8(bytes.into()).map_err(|_| Stop::Refused(format!("{what} is not UTF-8")))
    }

    pub(super) fn key(&mut self, ptr: i32, len: i32) -> Result<String, Stop> {
        self.text(ptr, len, MAX_KEY_BYTES, "the key")
    }

    pub(super) fn collection(&mut self, ptr: i32, len: i32) -> Result<(String, CollectionRights), Stop> {
        let name = self.text(ptr, len, MAX_NAME_BYTES, "the name of the collection")?;
        let rights = self
            .call
            .nested
            .collection(&self.call, &name)
            .map_err(Stop::Refused)?;
        Ok((name, rights))
    }

    pub(super) fn collection_for(&mut self, ptr: i32, len: i32, write: bool) -> Result<String, Stop> {
        let (name, rights) = self.collection(ptr, len)?;
        let (allowed, what) = if write {
            (rights.write, "write")
        } else {
            (rights.read, "read")
        };
        if allowed {
            return Ok(name);
        }
        Err(Stop::Refused(format!(
            "tx creator does not have {what} access permission on privatedata in chaincodeName:{} collectionName: {name}",
            self.call.chaincode
        )))
    }
}

/// Runs one host function: checks, pays, and puts its result into the buffer.
pub(super) fn host(
    caller: &mut Caller<'_, HostState>,
    function: &'static str,
    cost: u64,
    work: impl FnOnce(&mut Guest<'_>) -> Result<Reply, Stop>,
) -> wasmtime::Result<i32> {
    let state = caller.data();
    let (Some(memory), Some(call), Some(simulator)) =
        (state.memory, state.call.clone(), state.simulator.clone())
    else {
        return Err(Fault::TooEarly { function }.into());
    };
    let fuel = caller
        .get_fuel()?
        .checked_sub(CALL_FUEL + cost)
        .ok_or(Trap::OutOfFuel)?;
    let (memory, host) = memory.data_and_store_mut(&mut *caller);
    let mut guest = Guest {
        function,
        memory,
        host,
        call,
        simulator,
        fuel,
        crossed: 0,
    };
    let reply = work(&mut guest);
    let (fuel, mut crossed) = (guest.fuel, guest.crossed);
    let code = match reply {
        Ok(Reply::Code(code)) => code,
        Ok(Reply::Absent) => {
            host.buffer = Bytes::new();
            ABSENT
        }
        Ok(Reply::Buffer(bytes)) => {
            crossed += bytes.len();
            let len = i32::try_from(bytes.len()).map_err(|_| Fault::Size)?;
            host.buffer = bytes;
            len
        }
        Err(Stop::Refused(why)) => {
            host.buffer = why.into();
            REFUSED
        }
        Err(Stop::Fault(fault)) => return Err(fault.into()),
    };
    let price = u64::try_from(crossed / 4).unwrap_or(u64::MAX);
    caller.set_fuel(fuel.checked_sub(price).ok_or(Trap::OutOfFuel)?)?;
    Ok(code)
}

/// Answers `context(what)`.
pub(super) fn fact(call: &CallContext, what: i32) -> Result<Bytes, Stop> {
    let certificate = call.tx.identity.certificate();
    let json = |value: Result<Vec<u8>, serde_json::Error>| {
        value.map(Bytes::from).map_err(|e| Stop::Refused(e.to_string()))
    };
    Ok(match what {
        1 => call.tx.tx_id.clone().into(),
        2 => call.channel_id.clone().into(),
        3 => call.tx.creator.clone(),
        4 => call.tx.identity.msp_id().to_owned().into(),
        5 => json(serde_json::to_vec(certificate.attributes()))?,
        6 => certificate.common_name().unwrap_or_default().to_owned().into(),
        7 => json(serde_json::to_vec(certificate.organizational_units()))?,
        8 => format!("{}.{:09}", call.tx.timestamp.0, call.tx.timestamp.1).into(),
        9 => call.chaincode.clone().into(),
        10 => hex::encode(certificate.sha256()).into(),
        other => {
            return Err(Stop::Refused(format!(
                "context({other}) is not known to this peer"
            )));
        }
    })
}

pub(super) fn handle(value: i32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

pub(super) fn handle_code(value: usize) -> Result<Reply, Stop> {
    Ok(Reply::Code(i32::try_from(value).map_err(|_| Fault::Size)?))
}

pub(super) fn item(item: Item) -> Bytes {
    let mut out = Vec::new();
    match item {
        Item::State { key, value } => {
            list::put(&mut out, key.as_bytes());
            out.extend_from_slice(&value);
        }
        Item::History(entry) => {
            list::put(&mut out, entry.tx_id.as_bytes());
            let timestamp = entry.timestamp.unwrap_or_default();
            out.extend_from_slice(&timestamp.seconds.to_le_bytes());
            out.extend_from_slice(&timestamp.nanos.to_le_bytes());
            out.push(u8::from(entry.is_delete));
            out.extend_from_slice(&entry.value);
        }
    }
    out.into()
}

fn response_bytes(response: &protos::Response) -> Bytes {
    let mut out = Vec::with_capacity(8 + response.message.len() + response.payload.len());
    out.extend_from_slice(&response.status.to_le_bytes());
    list::put(&mut out, response.message.as_bytes());
    out.extend_from_slice(&response.payload);
    out.into()
}

pub(super) fn invoke_chaincode(guest: &mut Guest<'_>, target: &str, args: Vec<Bytes>) -> Result<Reply, Stop> {
    if guest.call.depth >= super::MAX_CALL_DEPTH {
        return Err(Stop::Refused(format!(
            "chaincodes may call each other {} deep at most",
            super::MAX_CALL_DEPTH
        )));
    }
    let call = guest.call.clone();
    let invoked = call
        .nested
        .invoke(&call, target, args, &guest.simulator, guest.fuel);
    guest.fuel = invoked.fuel;
    match invoked.result {
        Ok(response) => Ok(Reply::Buffer(response_bytes(&response))),
        Err(error) if error.is_local() => Err(Fault::Nested(Box::new(error)).into()),
        Err(error) => {
            let response = protos::Response {
                status: 500,
                message: error.to_string(),
                payload: Bytes::new(),
            };
            Ok(Reply::Buffer(response_bytes(&response)))
        }
    }
}

pub(super) fn write_log(guest: &mut Guest<'_>, level: i32, ptr: i32, len: i32) -> Result<Reply, Stop> {
    guest.host.log_lines += 1;
    if guest.host.log_lines > MAX_LOG_LINES {
        return Ok(Reply::Code(0));
    }
    let most = i32::try_from(MAX_LOG_LINE_BYTES).unwrap_or(i32::MAX);
    // Taken as unsigned, a negative length is a long one.
    let shown = if len < 0 { most } else { len.min(most) };
    let bytes = guest.bytes(ptr, shown, MAX_LOG_LINE_BYTES, "the log line")?;
    let line = String::from_utf8_lossy(&bytes);
    let (chaincode, tx) = (&guest.call.chaincode, &guest.call.tx.tx_id);
    match level {
        0 => tracing::error!(target: "chaincode", %chaincode, %tx, "{line}"),
        1 => tracing::warn!(target: "chaincode", %chaincode, %tx, "{line}"),
        3 => tracing::debug!(target: "chaincode", %chaincode, %tx, "{line}"),
        4 => tracing::trace!(target: "chaincode", %chaincode, %tx, "{line}"),
        _ => tracing::info!(target: "chaincode", %chaincode, %tx, "{line}"),
    }
    Ok(Reply::Code(0))
}
