//! Checking against every peer of the channel.

use std::time::Duration;

use prost::Message;
use selvedge_proto::{common, open_envelope, protos};
use selvedge_sdk::{ChannelInfo, ClientIdentity, Invocation, Majority, PeerClient, Survey};
use serde_json::{Value, json};

use super::{digest, rows};
use crate::args::CertifyCheckArgs;
use crate::error::{CliError, During, with_causes};
use crate::session::{PeerRef, Session};

/// What it takes to ask every peer.
struct Panel {
    identity: ClientIdentity,
    peers: Vec<PeerClient>,
    hosts: Vec<String>,
    channel: String,
    chaincode: String,
    patience: Duration,
}

/// A majority's answer, and what is to be said about those who do not agree.
struct Verdict {
    answer: Value,
    agreeing: Vec<String>,
    differing: Vec<String>,
}

pub(super) async fn run(args: &CertifyCheckArgs) -> Result<(), CliError> {
    let panel = Panel::of(args).await?;
    if let Some(block) = args.block {
        return list_block(&panel, args, block).await;
    }
    if let Some(transaction) = &args.transaction {
        let verdict = panel.ask("byTransaction", &json!(transaction)).await?;
        return show_list(args, &verdict);
    }
    if let Some(path) = &args.csv {
        return check_rows(&panel, args, path).await;
    }
    let hash = match (&args.file, &args.hash) {
        (Some(file), _) => Some(digest::of_file(file, &args.algorithm)?),
        (None, hash) => hash.clone(),
    };
    match (hash, &args.part, &args.record) {
        (Some(hash), part, record) => {
            let question = json!({"hash": hash, "algorithm": args.algorithm, "part": part, "record": record,
                "mspId": args.owner});
            let verdict = panel.ask("check", &question).await?;
            show_check(args, &hash, &verdict)
        }
        (None, Some(part), Some(record)) => {
            let question = json!({"part": part, "record": record, "mspId": args.owner});
            show_list(args, &panel.ask("byRecord", &question).await?)
        }
        (None, Some(part), None) => {
            let question = json!({"part": part, "mspId": args.owner, "limit": 500});
            show_list(args, &panel.ask("byPart", &question).await?)
        }
        (None, None, _) => Err(CliError::said(
            "say what to check: a file, --hash, --csv, --part, --transaction or --block",
        )),
    }
}

fn client(session: &Session, peer: PeerRef<'_>) -> Result<PeerClient, CliError> {
    PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?)
        .during(|| format!("peer {}", peer.host()))
}

/// The network's peers whose organisations are members of the channel, as a peer of the caller's organisation says: those of
/// others take this question from their own people only. No orderer is needed, so that records can be checked while none
/// is there.
async fn members<'a>(
    session: &'a Session,
    own: PeerRef<'a>,
    identity: &ClientIdentity,
    channel: &str,
) -> Result<Vec<PeerRef<'a>>, CliError> {
    let others = session
        .peers()
        .filter(|peer| peer.org.msp_id == own.org.msp_id && peer.host() != own.host());
    let mut refusals = Vec::new();
    for peer in std::iter::once(own).chain(others) {
        match ChannelInfo::fetch(&client(session, peer)?, identity, channel).await {
            Ok(info) => {
                let member = |peer: &PeerRef<'_>| info.application_orgs.contains(&peer.org.msp_id);
                return Ok(session.peers().filter(member).collect());
            }
            Err(why) => refusals.push(format!("{}: {}", peer.host(), with_causes(&why))),
        }
    }
    Err(CliError::said(format!(
        "no peer of the caller's organisation tells who is a member of channel {channel}; start one of them: {}",
        refusals.join("; ")
    )))
}

impl Panel {
    async fn of(args: &CertifyCheckArgs) -> Result<Self, CliError> {
        let caller = &args.certifier.caller;
        let session = Session::open(&caller.network.network)?;
        let identity = session.identity(&caller.identity)?;
        let own = session.peer_for(&caller.identity, caller.peer.as_deref())?;
        let members = members(&session, own, &identity, &caller.channel).await?;
        let mut peers = Vec::with_capacity(members.len());
        let mut hosts = Vec::with_capacity(members.len());
        for peer in members {
            hosts.push(peer.host());
            peers.push(client(&session, peer)?);
        }
        if peers.is_empty() {
            return Err(CliError::said(format!(
                "this network has no peer of a member of channel {}",
                caller.channel
            )));
        }
        Ok(Self {
            identity,
            peers,
            hosts,
            channel: caller.channel.clone(),
            chaincode: args.certifier.name.clone(),
            patience: Duration::from_secs(args.patience.max(1)),
        })
    }

    fn host(&self, at: usize) -> &str {
        self.hosts.get(at).map_or("a peer", String::as_str)
    }

    /// Asks every peer; fails when no answer has a majority, or the majority refuses.
    async fn ask(&self, function: &str, argument: &Value) -> Result<Verdict, CliError> {
        let argument = argument
            .as_str()
            .map_or_else(|| argument.to_string(), str::to_owned);
        let invocation = Invocation::new(&self.channel, &self.chaincode, function).arg(argument);
        let survey = Survey::ask(&self.peers, &self.identity, &invocation, self.patience).await;
        let Some(majority) = survey.majority() else {
            let all = self.describe(&survey, None);
            return Err(CliError::said(format!(
                "no answer has a majority of the {} peers of channel {}: {}",
                self.peers.len(),
                self.channel,
                all.join("; ")
            )));
        };
        let differing = self.describe(&survey, Some(&majority));
        if majority.answer.status >= 400 {
            return Err(CliError::said(format!(
                "{} refuses {function} ({}): {}",
                self.chaincode, majority.answer.status, majority.answer.message
            )));
        }
        Ok(Verdict {
            answer: serde_json::from_slice(&majority.answer.payload)
                .during(|| format!("{} does not answer as the certify contract does", self.chaincode))?,
            agreeing: majority
                .agreeing
                .iter()
                .map(|at| self.host(*at).to_owned())
                .collect(),
            differing,
        })
    }

    /// A sentence about each peer that is not of the majority.
    fn describe(&self, survey: &Survey, majority: Option<&Majority>) -> Vec<String> {
        let agrees = |at: usize| majority.is_some_and(|m| m.agreeing.contains(&at));
        let reached = majority
            .into_iter()
            .flat_map(|m| &m.agreeing)
            .filter_map(|at| survey.participants.get(*at)?.height)
            .max();
        let participants = survey.participants.iter().enumerate();
        participants
            .filter(|(at, _)| !agrees(*at))
            .map(|(at, participant)| {
                let host = self.host(at);
                let height = participant.height;
                match &participant.answer {
                    Err(why) => format!(
                        "{host} of {} does not answer: {}",
                        participant.msp_id,
                        with_causes(why)
                    ),
                    Ok(answer) => {
                        let lag = match (height, reached) {
                            (Some(height), Some(reached)) if height < reached => {
                                format!(", and has {height} blocks where the others have {reached}")
                            }
                            _ => String::new(),
                        };
                        format!("{host} of {} answers {}{lag}", participant.msp_id, brief(answer))
                    }
                }
            })
            .collect()
    }
}

/// An answer in a few words.
fn brief(answer: &selvedge_sdk::Answer) -> String {
    if answer.status >= 400 {
        return format!("{} {}", answer.status, answer.message);
    }
    let json: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    match (json["verdict"].as_str(), json["certificates"].as_array()) {
        (Some(verdict), Some(all)) => format!("'{verdict}' with {} certificates", all.len()),
        (None, Some(all)) => format!("{} certificates", all.len()),
        _ => "something else".to_owned(),
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn line(certificate: &Value) -> String {
    format!(
        "part {}, record {}, revision {}{}: {} {}\n    certified by {} of {} at {}, transaction {}",
        text(certificate, "part"),
        text(certificate, "record"),
        certificate["revision"],
        if certificate["current"] == true {
            " (current)"
        } else {
            ""
        },
        text(certificate, "algorithm"),
        text(certificate, "hash"),
        text(certificate, "user"),
        text(certificate, "mspId"),
        text(certificate, "certifiedAt"),
        text(certificate, "txId"),
    )
}

fn show_json(verdict: &Verdict) {
    let mut all = verdict.answer.clone();
    all["agreeing"] = json!(verdict.agreeing);
    all["differing"] = json!(verdict.differing);
    println!("{all:#}");
}

/// Who agreed, and who did not.
fn show_panel(verdict: &Verdict) {
    println!(
        "{} of {} peers say so: {}",
        verdict.agreeing.len(),
        verdict.agreeing.len() + verdict.differing.len(),
        verdict.agreeing.join(", ")
    );
    for peer in &verdict.differing {
        println!("WARNING: {peer}");
    }
}

fn show_list(args: &CertifyCheckArgs, verdict: &Verdict) -> Result<(), CliError> {
    if args.json {
        show_json(verdict);
        return Ok(());
    }
    let certificates = verdict.answer["certificates"].as_array();
    for certificate in certificates.into_iter().flatten() {
        println!("{}", line(certificate));
    }
    if certificates.is_none_or(Vec::is_empty) {
        println!("nothing is certified there");
    }
    if verdict.answer.get("bookmark").is_some() {
        println!("and more; narrow it down with --record");
    }
    show_panel(verdict);
    Ok(())
}

fn show_check(args: &CertifyCheckArgs, hash: &str, verdict: &Verdict) -> Result<(), CliError> {
    let said = text(&verdict.answer, "verdict");
    if args.json {
        show_json(verdict);
    } else {
        println!("{said}: {}", meaning(said));
        println!("hash: {} {hash}", args.algorithm);
        for certificate in verdict.answer["certificates"].as_array().into_iter().flatten() {
            println!("{}", line(certificate));
        }
        show_panel(verdict);
    }
    if said == "current" {
        return Ok(());
    }
    Err(CliError::said(format!("the check ends with '{said}'")))
}

fn meaning(verdict: &str) -> &'static str {
    match verdict {
        "current" => "this is what was certified",
        "outdated" => "this was certified, and has been replaced by a newer revision",
        "differs" => "the record is certified with another hash",
        _ => "nobody has certified this",
    }
}

async fn check_rows(panel: &Panel, args: &CertifyCheckArgs, path: &std::path::Path) -> Result<(), CliError> {
    let rows = rows::read(path, &args.columns)?;
    let mut good = 0;
    for row in &rows {
        let question = json!({"hash": row.hash, "part": row.part, "record": row.record, "mspId": args.owner});
        let verdict = panel.ask("check", &question).await?;
        let said = text(&verdict.answer, "verdict");
        if said == "current" {
            good += 1;
        } else {
            println!("{said}: part {}, record {}", row.part, row.record);
        }
        for peer in &verdict.differing {
            println!("WARNING: part {}, record {}: {peer}", row.part, row.record);
        }
    }
    println!("{good} of {} rows are as they were certified", rows.len());
    if good == rows.len() {
        return Ok(());
    }
    Err(CliError::said(format!(
        "{} rows are not as they were certified",
        rows.len() - good
    )))
}

/// Transactions of a block that are valid and call the contract: what a block certified is what they certified.
async fn list_block(panel: &Panel, args: &CertifyCheckArgs, number: u64) -> Result<(), CliError> {
    let first = panel
        .peers
        .first()
        .ok_or_else(|| CliError::said("there is no peer to ask"))?;
    let block = first
        .block(&panel.identity, &panel.channel, number)
        .await
        .map_err(|error| {
            CliError::said(format!(
                "{} has no block {number} of channel {}: {}",
                panel.host(0),
                panel.channel,
                with_causes(&error)
            ))
        })?;
    let transactions = calls_of(&block, &panel.chaincode);
    if transactions.is_empty() {
        println!("block {number} has no valid transaction of {}", panel.chaincode);
    }
    for transaction in transactions {
        let verdict = panel.ask("byTransaction", &json!(transaction)).await?;
        println!("transaction {transaction}");
        show_list(args, &verdict)?;
    }
    Ok(())
}

/// Ids of the valid transactions in a block that call a chaincode.
fn calls_of(block: &common::Block, chaincode: &str) -> Vec<String> {
    let slot = common::BlockMetadataIndex::TransactionsFilter as usize;
    let verdicts = block
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.metadata.get(slot));
    let valid = |at: usize| verdicts.is_some_and(|verdicts| verdicts.get(at) == Some(&0));
    let envelopes = block.data.iter().flat_map(|data| &data.data).enumerate();
    envelopes
        .filter(|(at, _)| valid(*at))
        .filter_map(|(_, bytes)| {
            let envelope = common::Envelope::decode(bytes.clone()).ok()?;
            let header = open_envelope(&envelope).ok()?.channel_header;
            let extension = protos::ChaincodeHeaderExtension::decode(header.extension.clone()).ok()?;
            (extension.chaincode_id?.name == chaincode).then_some(header.tx_id)
        })
        .collect()
}
