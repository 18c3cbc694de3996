//! One file for each kind of measurement; all of them bring a [`RunReport`].

mod audit;
mod commit_only;
mod load;
mod order_only;
mod usage;

use crate::error::PerfError;
use crate::matrix::{Kind, Run};
use crate::network::Tools;
use crate::report::RunReport;

/// Measures one run.
pub(crate) async fn measure(run: &Run, tools: &Tools) -> Result<RunReport, PerfError> {
    match run.kind {
        Kind::Load => load::measure(run, tools).await,
        Kind::Startup => load::measure_start(run, tools).await,
        Kind::OrderOnly => order_only::measure(run, tools).await,
        Kind::CommitOnly => commit_only::measure(run, tools).await,
        Kind::Audit => audit::measure(run, tools).await,
    }
}
