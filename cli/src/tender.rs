//! `selvedge tender …`: sealing an offer so that nobody can read it, and revealing it later.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use selvedge_chaincode_rfq::commitment;
use selvedge_sdk::{Invocation, Nonce};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::{CallerArgs, RevealArgs, SealArgs, TenderCommand};
use crate::chaincode::explain;
use crate::error::{CliError, During};
use crate::session::Session;

/// What has to be kept until the offer is revealed. Whoever reads it knows the offer.
#[derive(Serialize, Deserialize)]
struct Kept {
    tender: String,
    supplier: String,
    offer: String,
    salt: String,
}

/// Runs a `selvedge tender` command.
pub(crate) async fn run(command: TenderCommand) -> Result<(), CliError> {
    match command {
        TenderCommand::Seal(args) => seal(&args).await,
        TenderCommand::Reveal(args) => reveal(&args).await,
    }
}

/// Writes a file that only its owner can read. An older one is not overwritten: it may be the only copy of a seal.
fn keep(path: &Path, kept: &Kept) -> Result<(), CliError> {
    let unwritable = |source| CliError::WriteFile {
        path: path.to_owned(),
        source,
    };
    let text = serde_json::to_string_pretty(kept).during(|| "the offer cannot be kept".to_owned())?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(unwritable)?;
    file.write_all(text.as_bytes()).map_err(unwritable)?;
    file.sync_all().map_err(unwritable)
}

async fn submit(
    caller: &CallerArgs,
    session: &Session,
    invocation: Invocation,
    function: &str,
) -> Result<(u64, String), CliError> {
    let gateway = session.gateway(&caller.identity, caller.peer.as_deref())?;
    let chaincode = invocation.chaincode().to_owned();
    let done = gateway
        .submit_and_wait(&invocation)
        .await
        .map_err(|e| explain(e, &chaincode, function))?;
    Ok((done.block_number, done.transaction_id))
}

async fn seal(args: &SealArgs) -> Result<(), CliError> {
    let session = Session::open(&args.caller.network.network)?;
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&args.offer)
        .map_err(|why| CliError::said(format!("--offer is not a JSON object: {why}")))?;
    let identity = session.identity(&args.caller.identity)?;
    let salt = Nonce::random().during(|| "no salt can be drawn".to_owned())?;
    let kept = Kept {
        tender: args.tender.clone(),
        supplier: identity.msp_id().to_owned(),
        offer: args.offer.clone(),
        salt: hex::encode(salt.as_bytes()),
    };
    let path = match &args.keep {
        Some(path) => path.clone(),
        None => PathBuf::from(format!("{}.sealed.json", args.tender)),
    };
    // Kept before it is sent: a seal that nobody can open would be worse than none.
    keep(&path, &kept)?;
    let commitment = commitment(&kept.tender, &kept.supplier, &kept.salt, &kept.offer);
    let sealed = json!({"tender": args.tender, "commitment": commitment});
    let invocation = Invocation::new(&args.caller.channel, &args.name, "sealOffer").arg(sealed.to_string());
    let sent = submit(&args.caller, &session, invocation, "sealOffer").await;
    if matches!(&sent, Err(CliError::Said(text)) if text.contains("refuses")) {
        // A refused offer was never sealed, and its file would be in the way of the next.
        drop(std::fs::remove_file(&path));
    }
    let (block, transaction) = sent?;
    println!(
        "sealed for tender {} in block {block}, transaction {transaction}",
        args.tender
    );
    println!(
        "keep {} secret and safe; when bidding is closed: selvedge tender reveal {}",
        path.display(),
        path.display()
    );
    Ok(())
}

async fn reveal(args: &RevealArgs) -> Result<(), CliError> {
    let session = Session::open(&args.caller.network.network)?;
    let text = std::fs::read_to_string(&args.kept).map_err(|source| CliError::ReadFile {
        path: args.kept.clone(),
        source,
    })?;
    let kept: Kept = serde_json::from_str(&text).map_err(|why| CliError::BadConfig {
        path: args.kept.clone(),
        why: format!("it is not what `selvedge tender seal` writes: {why}"),
    })?;
    let invocation = Invocation::new(&args.caller.channel, &args.name, "revealOffer")
        .arg(kept.tender.clone())
        .arg(kept.offer)
        .arg(kept.salt);
    let (block, transaction) = submit(&args.caller, &session, invocation, "revealOffer").await?;
    println!(
        "revealed for tender {} in block {block}, transaction {transaction}",
        kept.tender
    );
    Ok(())
}
