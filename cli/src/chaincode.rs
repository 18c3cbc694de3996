//! `selvedge chaincode …`: deploy, call and listen to contracts.

use selvedge_sdk::lifecycle;
use selvedge_sdk::{EventsFrom, Invocation, PeerClient};

use crate::args::{CallerArgs, ChaincodeCommand, DeployArgs, EventsArgs, InvokeArgs, PackageArgs};
use crate::error::{CliError, During};
use crate::network::{Deployment, deploy_chaincode};
use crate::session::Session;

/// Runs a `selvedge chaincode` command.
pub(crate) async fn run(command: ChaincodeCommand) -> Result<(), CliError> {
    match command {
        ChaincodeCommand::Deploy(args) => deploy(&args).await,
        ChaincodeCommand::Package(args) => package(&args),
        ChaincodeCommand::List(args) => list(&args).await,
        ChaincodeCommand::Invoke(args) => invoke(&args).await,
        ChaincodeCommand::Query(args) => query(&args).await,
        ChaincodeCommand::Events(args) => events(&args).await,
    }
}

async fn deploy(args: &DeployArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let deployment = Deployment {
        channel: &args.channel,
        name: &args.name,
        version: &args.version,
        policy: args.policy.as_deref(),
        sequence: args.sequence,
        wasm: &args.wasm,
    };
    deploy_chaincode(&session, &deployment).await
}

fn package(args: &PackageArgs) -> Result<(), CliError> {
    let module = std::fs::read(&args.wasm).map_err(|source| CliError::ReadFile {
        path: args.wasm.clone(),
        source,
    })?;
    let bytes = selvedge_peer::chaincode::package::write_package(&args.label, &module)
        .during(|| format!("cannot package {}", args.wasm.display()))?;
    std::fs::write(&args.output, &bytes).map_err(|source| CliError::WriteFile {
        path: args.output.clone(),
        source,
    })?;
    println!(
        "{}",
        selvedge_peer::chaincode::package::package_id(&args.label, &bytes)
    );
    Ok(())
}

async fn list(args: &CallerArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let peer = session.peer_for(&args.identity, args.peer.as_deref())?;
    let admin = session.identity(&format!("Admin@{}", peer.org.domain))?;
    let client = PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?)
        .during(|| format!("peer {}", peer.host()))?;
    let committed = lifecycle::query_all_committed(&client, &admin, &args.channel)
        .await
        .during(|| {
            format!(
                "peer {} does not tell what channel {} has",
                peer.host(),
                args.channel
            )
        })?;
    println!("committed on channel {}:", args.channel);
    for definition in committed {
        println!(
            "  {} version {} sequence {}",
            definition.name, definition.version, definition.sequence
        );
    }
    let installed = lifecycle::query_installed(&client, &admin)
        .await
        .during(|| format!("peer {} does not tell what is installed", peer.host()))?;
    println!("installed on {}:", peer.host());
    for package in installed {
        println!("  {}", package.id);
    }
    Ok(())
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
