//! Whether the parts of a node work.

use std::sync::Arc;

use parking_lot::RwLock;
use serde::Serialize;

/// A part of the node that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedCheck {
    /// The part.
    pub component: String,
    /// What is wrong and, where somebody can do something, what.
    pub reason: String,
}

type Check = Box<dyn Fn() -> Vec<FailedCheck> + Send + Sync>;

/// The checks of one node; without any it is healthy. Clones share them.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<RwLock<Vec<Check>>>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Health({} checks)", self.checks.read().len())
    }
}

impl Health {
    /// Adds a check. It is called at each request, on a thread that may block for a moment, and returns what does not work.
    pub fn add(&self, check: impl Fn() -> Vec<FailedCheck> + Send + Sync + 'static) {
        self.checks.write().push(Box::new(check));
    }

    /// What does not work now.
    pub fn failed(&self) -> Vec<FailedCheck> {
        self.checks.read().iter().flat_map(|check| check()).collect()
    }
}
