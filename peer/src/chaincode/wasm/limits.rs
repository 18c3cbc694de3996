//! The limit on an instance's memory.

use wasmtime::ResourceLimiter;

use super::host::Fault;

/// Ends the call when an instance asks for too much memory: a contract that went on with a failed allocation would end
/// in a trap that explains nothing.
#[derive(Debug)]
pub(super) struct MemoryLimit {
    bytes: usize,
}

impl MemoryLimit {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.bytes {
            return Err(Fault::Memory { wanted: desired }.into());
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 20_000)
    }
}
