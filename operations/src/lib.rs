//! Watching a node: the operations endpoint that every role has, with Fabric's paths and names.
//!
//! ```text
//!  role ── registers ──► Metrics   (counters and durations that the role owns, and values read when asked)
//!       ── adds ───────► Health    (checks, each of a component)
//!  process ── hands in ► LogControl (the log level, changed while it runs)
//!                           │
//!                           ▼
//!  Operations::serve ──► GET /healthz  /metrics  /version  /logspec,  PUT /logspec
//! ```
//!
//! Nothing here is global: a process may run many nodes, each with an endpoint of its own. Only the log is the process's,
//! so that all of its nodes share one [`LogControl`].

mod config;
mod endpoint;
mod grpc;
mod health;
mod log_spec;
mod logging;
mod memory;
mod metrics;
mod process;

pub use config::{OperationsConfig, OperationsTls};
pub use endpoint::{Operations, OperationsError, OperationsListener, observing_router};
pub use grpc::{GrpcMetrics, MethodKind};
pub use health::{FailedCheck, Health};
pub use log_spec::{LogControl, LogControlError, LogSpec, LogSpecError};
pub use logging::{init_log, process_log};
pub use memory::{give_memory_back, keep_memory_small};
pub use metrics::{Counter, Durations, Metrics, Sample};
