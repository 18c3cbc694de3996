//! The one binary people type: runs every role, administers every part.
//!
//! ```text
//! selvedge network up|down|status|logs     a whole consortium from one file
//! selvedge peer|orderer|ca|edge start      one role, from its own configuration file
//! selvedge api …                           the REST interface and the page: set up, run, sign in
//! selvedge channel …                       create channels, look at them, change their configuration
//! selvedge chaincode …                     package, install, approve, commit, deploy, invoke, query contracts
//! selvedge certify …                       hashes of records onto the ledger, and records checked against it
//! selvedge shipment export|import          EPCIS 2.0
//! selvedge tender seal|reveal              sealed offers
//! selvedge explain <txid>                  the story of a transaction
//! selvedge device …                        register and enrol devices
//! selvedge identity …                      exchange identities with other Fabric tools
//! selvedge doctor                          check the whole network
//! selvedge ledger replay                   judge a folder of blocks
//! selvedge demo                            the main story, end to end
//! ```

mod api;
mod args;
mod authority;
mod certify;
mod chaincode;
mod channel;
mod demo;
mod device;
mod doctor;
mod edge;
mod error;
mod explain;
mod identity;
mod ledger;
mod lifecycle;
mod network;
mod revocation;
mod roles;
mod rotation;
mod session;
mod shipment;
mod tender;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::error::CliError;

/// Exit status of a command whose standard output was closed, as shells show it for SIGPIPE.
const CLOSED_OUTPUT: i32 = 141;

/// `selvedge … | head` closes our standard output. That ends a command quietly, as it ends others.
fn end_quietly_when_output_closes() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>();
        if text.is_some_and(|t| t.starts_with("failed printing to stdout")) {
            std::process::exit(CLOSED_OUTPUT);
        }
        usual(info);
    }));
}

fn main() -> std::process::ExitCode {
    end_quietly_when_output_closes();
    #[cfg(feature = "pkcs11")]
    selvedge_pkcs11::install();
    let cli = Cli::parse();
    // Roles say what they do; commands speak only when asked to.
    // openraft reports every node that is away for a moment as an error; the orderer says itself what matters.
    let log = if cli.command.is_role() {
        "info:openraft=off"
    } else {
        "error"
    };
    selvedge_operations::init_log(cli.json_log, log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&CliError::said(format!(
                "cannot start the async runtime: {error}"
            )));
        }
    };
    let result = runtime.block_on(run(cli));
    // Blocking tasks of a stopping role must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &CliError) -> std::process::ExitCode {
    eprintln!("selvedge: {}", error::with_causes(error));
    std::process::ExitCode::FAILURE
}

async fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Network(command) => network::run(command).await,
        Command::Orderer(command) => roles::orderer(command).await,
        Command::Peer(command) => roles::peer(command).await,
        Command::Ca(command) => authority::run(command).await,
        Command::Edge(command) => edge::run(command).await,
        Command::Api(command) => api::run(command).await,
        Command::Channel(command) => channel::run(command).await,
        Command::Chaincode(command) => chaincode::run(command).await,
        Command::Device(command) => device::run(command).await,
        Command::Certify(command) => certify::run(command).await,
        Command::Shipment(command) => shipment::run(command).await,
        Command::Tender(command) => tender::run(command).await,
        Command::Identity(command) => identity::run(command),
        Command::Doctor(args) => doctor::run(&args).await,
        Command::Explain(args) => explain::run(&args).await,
        Command::Ledger(command) => ledger::run(command),
        Command::Demo(command) => demo::run(command).await,
    }
}
