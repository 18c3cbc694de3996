//! The threads that validation uses.

use std::num::NonZeroUsize;
use std::sync::Arc;

/// Threads that open transactions and check signatures, of one channel or shared by several (Fabric's
/// `peer.validatorPoolSize`). Verdicts do not depend on how many there are.
#[derive(Debug, Clone)]
pub struct ValidatorPool(Arc<rayon::ThreadPool>);

/// The system gives no threads.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {size} validation threads: {source}; choose a smaller validator_pool_size")]
pub struct ValidatorPoolError {
    size: NonZeroUsize,
    source: rayon::ThreadPoolBuildError,
}

impl ValidatorPool {
    /// Starts `size` threads.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(size: NonZeroUsize) -> Result<Self, ValidatorPoolError> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(size.get())
            .thread_name(|index| format!("validate {index}"))
            .build()
            .map(|pool| Self(Arc::new(pool)))
            .map_err(|source| ValidatorPoolError { size, source })
    }

    /// How many threads it has.
    pub fn size(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Does `work` on these threads and waits for it.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.install(work)
    }
}
