//! `selvedge certify …`: hashes of records onto the ledger, and records checked against it.

mod check;
mod digest;
mod rows;

use selvedge_sdk::Invocation;
use serde_json::{Value, json};

use crate::args::{CertifierArgs, CertifyCommand, CertifyCsvArgs, CertifyFileArgs};
use crate::chaincode::explain;
use crate::error::{CliError, During};
use crate::session::Session;

/// Records that one transaction of the contract takes.
const BATCH: usize = 500;

/// Runs a `selvedge certify` command.
pub(crate) async fn run(command: CertifyCommand) -> Result<(), CliError> {
    match command {
        CertifyCommand::File(args) => file(&args).await,
        CertifyCommand::Csv(args) => csv(&args).await,
        CertifyCommand::Check(args) => check::run(&args).await,
    }
}

/// Sends a transaction; hands back its answer and block.
async fn submit(
    certifier: &CertifierArgs,
    session: &Session,
    function: &str,
    argument: &Value,
) -> Result<(Value, u64, String), CliError> {
    let caller = &certifier.caller;
    let gateway = session.gateway(&caller.identity, caller.peer.as_deref())?;
    let invocation = Invocation::new(&caller.channel, &certifier.name, function).arg(argument.to_string());
    let done = gateway
        .submit_and_wait(&invocation)
        .await
        .map_err(|e| explain(e, &certifier.name, function))?;
    let answer = serde_json::from_slice(&done.result)
        .during(|| format!("{} does not answer as the certify contract does", certifier.name))?;
    Ok((answer, done.block_number, done.transaction_id))
}

/// The hash that a record of the caller's organisation is certified with now.
async fn current(
    certifier: &CertifierArgs,
    session: &Session,
    part: &str,
    record: &str,
) -> Result<Option<String>, CliError> {
    let caller = &certifier.caller;
    let gateway = session.gateway(&caller.identity, caller.peer.as_deref())?;
    let identity = session.identity(&caller.identity)?;
    let question = json!({"part": part, "record": record, "mspId": identity.msp_id()});
    let invocation = Invocation::new(&caller.channel, &certifier.name, "byRecord").arg(question.to_string());
    let answer = gateway
        .evaluate(&invocation)
        .await
        .map_err(|e| explain(e, &certifier.name, "byRecord"))?;
    let answer: Value = serde_json::from_slice(&answer)
        .during(|| format!("{} does not answer as the certify contract does", certifier.name))?;
    let last = answer["certificates"].as_array().and_then(|all| all.last());
    Ok(last.and_then(|last| last["hash"].as_str()).map(str::to_owned))
}

async fn file(args: &CertifyFileArgs) -> Result<(), CliError> {
    let session = Session::open(&args.certifier.caller.network.network)?;
    let record = match &args.record {
        Some(record) => record.clone(),
        None => file_name(&args.file)?,
    };
    let hash = digest::of_file(&args.file, &args.algorithm)?;
    let mut sent = json!({"part": args.part, "record": record, "hash": hash, "algorithm": args.algorithm, "note": args.note});
    if args.changed {
        let before = current(&args.certifier, &session, &args.part, &record).await?;
        sent["replaces"] = before.filter(|before| *before != hash).into();
    }
    let (answer, block, transaction) = submit(&args.certifier, &session, "certify", &sent).await?;
    let certificate = &answer["certificates"][0];
    if answer["known"] == 1 {
        println!(
            "record {record} of part {} was certified with this hash already (revision {}, transaction {})",
            args.part,
            certificate["revision"],
            certificate["txId"].as_str().unwrap_or_default()
        );
    } else {
        println!("{} {hash}", args.algorithm);
        println!(
            "record {record} of part {} is certified as revision {} in block {block}, transaction {transaction}",
            args.part, certificate["revision"]
        );
    }
    Ok(())
}

fn file_name(path: &std::path::Path) -> Result<String, CliError> {
    path.file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            CliError::said(format!(
                "{} has no name that can be a record's id; give one with --record",
                path.display()
            ))
        })
}

async fn csv(args: &CertifyCsvArgs) -> Result<(), CliError> {
    let session = Session::open(&args.certifier.caller.network.network)?;
    let rows = rows::read(&args.file, &args.columns)?;
    let (mut certified, mut known) = (0, 0);
    for rows in rows.chunks(BATCH) {
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let mut record = json!({"part": row.part, "record": row.record, "hash": row.hash});
            if args.changed {
                let before = current(&args.certifier, &session, &row.part, &row.record).await?;
                record["replaces"] = before.filter(|before| *before != row.hash).into();
            }
            records.push(record);
        }
        let (answer, block, transaction) =
            submit(&args.certifier, &session, "certifyMany", &Value::Array(records)).await?;
        certified += answer["certified"].as_u64().unwrap_or(0);
        known += answer["known"].as_u64().unwrap_or(0);
        eprintln!(
            "{} rows: {} new in block {block}, transaction {transaction}",
            rows.len(),
            answer["certified"]
        );
    }
    println!("{certified} records certified, {known} were known already");
    Ok(())
}
