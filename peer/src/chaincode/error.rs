//! What can go wrong when a chaincode runs.

use std::time::Duration;

use bytes::Bytes;

/// Why the runtime could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The wasm engine refused its configuration or could not reserve address space.
    #[error(
        "the chaincode runtime cannot start: {0}. If address space is limited (ulimit -v), lower \
         chaincode.memory_bytes in the peer's configuration"
    )]
    Engine(String),
}

/// The chaincode and function that was running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the chaincode.
    pub chaincode: String,
    /// The function, shortened.
    pub function: String,
}

impl Place {
    const MAX_FUNCTION: usize = 64;

    pub(crate) fn new(chaincode: &str, args: &[Bytes]) -> Self {
        let function = String::from_utf8_lossy(args.first().map_or(&[][..], |f| f));
        Self {
            chaincode: chaincode.to_owned(),
            function: function
                .chars()
                .take(Self::MAX_FUNCTION)
                .collect::<String>()
                .escape_debug()
                .to_string(),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "chaincode {}, function {}", self.chaincode, self.function)
    }
}

/// Why a chaincode could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// It did more work than allowed.
    #[error(
        "{place}: out of fuel after {fuel} units: it loops, or does more in one transaction than allowed; mend the \
         contract, split the work, or raise chaincode.fuel on all peers"
    )]
    Fuel {
        /// What ran.
        place: Place,
        /// The limit.
        fuel: u64,
    },
    /// It took too long on this peer.
    #[error(
        "timeout expired while executing transaction: {place} ran longer than {timeout:?}; try another peer, or raise \
         chaincode.timeout"
    )]
    Timeout {
        /// What ran.
        place: Place,
        /// The limit.
        timeout: Duration,
    },
    /// It wanted more memory than allowed.
    #[error(
        "{place}: it wants {wanted} bytes of memory, {limit} are allowed; handle less at a time, or raise \
         chaincode.memory_bytes on all peers"
    )]
    Memory {
        /// What ran.
        place: Place,
        /// What it would have had, in bytes.
        wanted: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It recursed too deep.
    #[error("{place}: call stack exhausted ({limit} bytes): it recurses without end or too deep")]
    Stack {
        /// What ran.
        place: Place,
        /// The limit in bytes.
        limit: usize,
    },
    /// It ended in a trap.
    #[error("{place}: the contract crashed: {why}; the peer's log has what it logged before")]
    Trap {
        /// What ran.
        place: Place,
        /// The trap.
        why: String,
    },
    /// The ledger failed underneath it.
    #[error("{place}: the ledger could not be read: {why}")]
    Ledger {
        /// What ran.
        place: Place,
        /// What the ledger said.
        why: String,
    },
    /// No instance could be made.
    #[error("{place}: no instance of the contract could be made on this peer: {why}")]
    Instance {
        /// What should have run.
        place: Place,
        /// What the engine said.
        why: String,
    },
    /// The chaincode may not be called, or not in this way.
    #[error("{0}")]
    NotCallable(String),
}

impl ExecuteError {
    /// True when the cause lies in this peer alone, so that a chaincode that called another must not see it as an
    /// answer: another peer would answer differently.
    pub(crate) fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. } | Self::Ledger { .. } | Self::Instance { .. }
        )
    }
}
