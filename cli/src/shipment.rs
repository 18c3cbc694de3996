//! `selvedge shipment …`: shipments out as EPCIS events, and sensor events in as readings.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use selvedge_chaincode::Timestamp;
use selvedge_epcis::{Exporter, ImportOptions, Names, Vocabulary};
use selvedge_sdk::Invocation;
use serde_json::{Value, json};

use crate::args::{EpcisArgs, ShipmentCommand, ShipmentExportArgs, ShipmentImportArgs};
use crate::chaincode::explain;
use crate::error::{CliError, During};
use crate::session::Session;

/// Readings that one page of the contract's answer holds.
const PAGE: usize = 1000;

/// Runs a `selvedge shipment` command.
pub(crate) async fn run(command: ShipmentCommand) -> Result<(), CliError> {
    match command {
        ShipmentCommand::Export(args) => export(&args).await,
        ShipmentCommand::Import(args) => import(&args).await,
    }
}

fn vocabulary(args: &EpcisArgs) -> Result<Vocabulary, CliError> {
    let Some(path) = &args.vocabulary else {
        return Ok(Vocabulary::default());
    };
    let text = std::fs::read_to_string(path).map_err(|source| CliError::ReadFile {
        path: path.clone(),
        source,
    })?;
    Vocabulary::with(&text).map_err(|why| CliError::BadConfig {
        path: path.clone(),
        why: why.to_string(),
    })
}

/// The time now, to the second.
fn now() -> Result<Timestamp, CliError> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .during(|| "the system's clock stands before 1970".to_owned())?;
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_unix(seconds, 0).during(|| "the system's clock is wrong".to_owned())
}

async fn export(args: &ShipmentExportArgs) -> Result<(), CliError> {
    let caller = &args.caller;
    let names = match &args.base {
        Some(base) => Names::under(base).map_err(|why| CliError::said(why.to_string()))?,
        None => Names::of_channel(&caller.channel),
    };
    let session = Session::open(&caller.network.network)?;
    let gateway = session.gateway(&caller.identity, caller.peer.as_deref())?;
    let chaincode = &args.epcis.name;
    let ask = async |function: &str, argument: String| {
        let invocation = Invocation::new(&caller.channel, chaincode, function).arg(argument);
        gateway
            .evaluate(&invocation)
            .await
            .map_err(|e| explain(e, chaincode, function))
    };
    let failed = || format!("shipment {}", args.shipment);
    let shipment = ask("get", args.shipment.clone()).await?;
    let mut exporter = Exporter::new(names, vocabulary(&args.epcis)?, &shipment).during(failed)?;
    let mut from = None;
    loop {
        let question = json!({"shipment": args.shipment, "from": from, "limit": PAGE});
        let page = ask("readings", question.to_string()).await?;
        from = exporter.readings(&page).during(failed)?;
        if from.is_none() {
            break;
        }
    }
    let document = exporter.finish(now()?).during(failed)?;
    match &args.out {
        Some(path) => write(path, document.as_bytes()),
        None => {
            println!("{document}");
            Ok(())
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let unwritable = |source| CliError::WriteFile {
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::create(path).map_err(unwritable)?;
    file.write_all(bytes).map_err(unwritable)
}

fn read(path: &Path) -> Result<String, CliError> {
    let unreadable = |source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    };
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

async fn import(args: &ShipmentImportArgs) -> Result<(), CliError> {
    let options = ImportOptions {
        shipment: args.shipment.clone(),
        epc: args.epc.clone(),
        device: args.device.clone(),
        stream: args.stream.clone(),
        vocabulary: vocabulary(&args.epcis)?,
    };
    let imported = selvedge_epcis::import(&read(&args.file)?, &options)
        .map_err(|why| CliError::said(format!("{}: {why}", args.file.display())))?;
    for skipped in &imported.skipped {
        eprintln!("left out: {skipped}");
    }
    if args.dry_run {
        for batch in &imported.batches {
            println!("{batch}");
        }
        return Ok(());
    }
    let caller = &args.caller;
    let session = Session::open(&caller.network.network)?;
    let gateway = session.gateway(&caller.identity, caller.peer.as_deref())?;
    let chaincode = &args.epcis.name;
    let (mut recorded, mut known, mut violations) = (0, 0, 0);
    for batch in &imported.batches {
        let invocation = Invocation::new(&caller.channel, chaincode, "recordReadings").arg(batch.clone());
        let done = gateway
            .submit_and_wait(&invocation)
            .await
            .map_err(|e| explain(e, chaincode, "recordReadings"))?;
        let answer: Value = serde_json::from_slice(&done.result)
            .during(|| format!("{chaincode} does not answer as the shipment contract does"))?;
        recorded += answer["recorded"].as_u64().unwrap_or(0);
        known += answer["known"].as_u64().unwrap_or(0);
        violations += answer["violations"].as_array().map_or(0, Vec::len);
    }
    println!(
        "{recorded} readings recorded for shipment {}, {known} were known already, {violations} violations",
        args.shipment
    );
    Ok(())
}
