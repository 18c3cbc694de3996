//! `selvedge chaincode …`: deploy, call and listen to contracts.

use selvedge_sdk::{EventsFrom, Invocation};

use crate::args::{ChaincodeCommand, DeployArgs, EventsArgs, InvokeArgs};
use crate::error::{CliError, During};
use crate::lifecycle::{self, Wanted};
use crate::session::Session;

/// Runs a `selvedge chaincode` command.
pub(crate) async fn run(command: ChaincodeCommand) -> Result<(), CliError> {
    match command {
        ChaincodeCommand::Deploy(args) => deploy(&args).await,
        ChaincodeCommand::Package(args) => lifecycle::package(&args),
        ChaincodeCommand::Install(args) => lifecycle::install(&args).await,
        ChaincodeCommand::Approve(args) => lifecycle::approve(&args).await,
        ChaincodeCommand::Readiness(args) => lifecycle::readiness(&args).await,
        ChaincodeCommand::Commit(args) => lifecycle::commit(&args).await,
        ChaincodeCommand::List(args) => lifecycle::list(&args).await,
        ChaincodeCommand::Invoke(args) => invoke(&args).await,
        ChaincodeCommand::Query(args) => query(&args).await,
        ChaincodeCommand::Events(args) => events(&args).await,
    }
}

async fn deploy(args: &DeployArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    lifecycle::deploy(
        &session,
        &args.channel,
        &Wanted::from(&args.definition),
        &args.wasm,
    )
    .await
}

fn invocation(args: &InvokeArgs) -> Invocation {
    Invocation::new(&args.caller.channel, &args.name, &args.function)
        .args(args.arguments.iter().map(|a| a.as_bytes().to_vec()))
}

/// JSON is printed indented, other text as it is, other bytes as hex.
pub(crate) fn show(payload: &[u8]) -> String {
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(payload) {
        return format!("{json:#}");
    }
    std::str::from_utf8(payload).map_or_else(|_| hex::encode(payload), str::to_owned)
}

/// A contract's refusal reads better alone than inside the gateway's sentence about it.
pub(crate) fn explain(error: selvedge_sdk::Error, chaincode: &str, function: &str) -> CliError {
    if let selvedge_sdk::Error::Commit(refused) = &error {
        return CliError::said(format!(
            "{chaincode} {function}: {refused}; `selvedge explain {}` tells why",
            refused.transaction_id
        ));
    }
    match error.contract_refusal() {
        Some((status, message)) => {
            CliError::said(format!("{chaincode} refuses {function} ({status}): {message}"))
        }
        None => CliError::Step {
            step: format!("{chaincode} {function}"),
            source: error.into(),
        },
    }
}

async fn invoke(args: &InvokeArgs) -> Result<(), CliError> {
    let session = Session::open(&args.caller.network.network)?;
    let gateway = session.gateway(&args.caller.identity, args.caller.peer.as_deref())?;
    let done = gateway
        .submit_and_wait(&invocation(args))
        .await
        .map_err(|e| explain(e, &args.name, &args.function))?;
    if !done.result.is_empty() {
        println!("{}", show(&done.result));
    }
    eprintln!(
        "committed in block {} as transaction {}",
        done.block_number, done.transaction_id
    );
    Ok(())
}

async fn query(args: &InvokeArgs) -> Result<(), CliError> {
    let session = Session::open(&args.caller.network.network)?;
    let gateway = session.gateway(&args.caller.identity, args.caller.peer.as_deref())?;
    let answer = gateway
        .evaluate(&invocation(args))
        .await
        .map_err(|e| explain(e, &args.name, &args.function))?;
    println!("{}", show(&answer));
    Ok(())
}

async fn events(args: &EventsArgs) -> Result<(), CliError> {
    let session = Session::open(&args.caller.network.network)?;
    let gateway = session.gateway(&args.caller.identity, args.caller.peer.as_deref())?;
    let from = args.from.map_or(EventsFrom::Now, EventsFrom::Block);
    let failed = || format!("cannot listen to events of {}", args.name);
    let mut stream = gateway
        .chaincode_events(&args.caller.channel, &args.name, from)
        .await
        .during(failed)?;
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        let event = stream.next().await.during(failed)?;
        println!(
            "block {} {} {}",
            event.block_number,
            event.name,
            show(&event.payload)
        );
        seen += 1;
    }
    Ok(())
}
