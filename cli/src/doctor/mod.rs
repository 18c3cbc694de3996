//! `selvedge doctor`: is the network well, and what will ail it soon?
//!
//! ```text
//! nodes         does each answer, show a certificate that others trust, and say that it is healthy?
//! channels      does every member have all blocks? what ends in the configuration?
//! folders       certificates of nodes, users, authorities, and of folders that are named
//! clocks        of this machine and of every node that tells its time
//! ```

mod certificates;
mod channels;
mod nodes;
mod report;

use crate::args::DoctorArgs;
use crate::error::CliError;
use crate::network::crypto::now;
use crate::session::Session;

pub(crate) use report::shown;
use report::{Level, Report};

/// Runs `selvedge doctor`.
///
/// # Errors
/// There is a problem; what was found has been printed.
pub(crate) async fn run(args: &DoctorArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let mut report = Report::new(now(), args.warn_days);
    nodes::check(&session, &mut report).await;
    channels::check(&session, &mut report).await;
    certificates::check(&session, &args.msp, &mut report);
    if args.json {
        println!("{:#}", report.json());
    } else {
        report.print(args.verbose);
    }
    let problems = report.count(Level::Problem);
    if problems == 0 {
        return Ok(());
    }
    Err(CliError::said(format!(
        "{problems} problem{} found",
        if problems == 1 { " was" } else { "s were" }
    )))
}
