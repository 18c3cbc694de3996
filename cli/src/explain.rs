//! `selvedge explain`: the story of a transaction.

mod conflict;
mod story;

use std::fmt::Write as _;

use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::PeerClient;

use crate::args::ExplainArgs;
use crate::error::{CliError, During, with_causes};
use crate::session::Session;
use story::{Key, Story};

/// Runs `selvedge explain`.
pub(crate) async fn run(args: &ExplainArgs) -> Result<(), CliError> {
    let session = Session::open(&args.caller.network.network)?;
    let channel = args.caller.channel.as_str();
    let id = args.transaction.as_str();
    let peer = session.peer_for(&args.caller.identity, args.caller.peer.as_deref())?;
    let identity = session.identity(&args.caller.identity)?;
    let client = PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?)
        .during(|| format!("peer {}", peer.host()))?;
    let block = client.block_of(&identity, channel, id).await.map_err(|error| {
        let text = with_causes(&error);
        if text.contains("no such transaction") {
            CliError::said(format!(
                "no block of channel {channel} on {} holds transaction {id}: it was never ordered, is still on its way, \
                 or is on another channel",
                peer.host()
            ))
        } else {
            CliError::said(format!("{} does not tell: {text}", peer.host()))
        }
    })?;
    let mut story = Story::read(channel, id, &block)?;
    if !story.is_valid() {
        story.reason = client
            .refusal(&identity, channel, id)
            .await
            .during(|| format!("{} does not tell why", peer.host()))?;
        if matches!(
            story.validation_code(),
            TxValidationCode::MvccReadConflict | TxValidationCode::PhantomReadConflict
        ) {
            story.conflicts = conflict::find(&client, &identity, &story, &block).await?;
        }
    }
    if args.json {
        let text = serde_json::to_string_pretty(&story).during(|| "cannot print the story".to_owned())?;
        println!("{text}");
    } else {
        print!("{}", text(&story, &peer.host()));
    }
    Ok(())
}

/// The story in lines.
fn text(story: &Story, peer: &str) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<13}{what}");
    };
    line("transaction", &story.transaction);
    line(
        "place",
        &format!(
            "channel {}, block {}, position {} of {}, made {}",
            story.channel, story.block, story.index, story.block_size, story.time
        ),
    );
    line("creator", &story.creator);
    line("kind", &story.kind);
    for call in &story.calls {
        line(
            "call",
            &format!("{} {}", call.chaincode, call.arguments.join(" ")),
        );
        if let Some(result) = &call.result {
            line("result", result);
        }
        line("endorsed by", &list(&call.endorsers));
        for read in &call.reads {
            line("read", read);
        }
        for write in &call.writes {
            line(if story.is_valid() { "wrote" } else { "would write" }, write);
        }
        if let Some(event) = &call.event {
            line("event", event);
        }
    }
    for signer in &story.config_signers {
        line("signed by", signer);
    }
    line("verdict", &format!("{} ({})", story.verdict, story.code));
    if story.is_valid() {
        return text;
    }
    match &story.reason {
        Some(reason) => line("reason", reason),
        None => {
            line("reason", meaning(story.validation_code()));
            line(
                "",
                &format!("({peer} keeps no more detail: that is too long ago, or it was restarted)"),
            );
        }
    }
    for conflict in &story.conflicts {
        line("conflict", conflict);
    }
    line("advice", advice(story.validation_code()));
    text
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    }
}

/// What a verdict means when nobody remembers the details.
fn meaning(code: TxValidationCode) -> &'static str {
    use TxValidationCode as Code;
    match code {
        Code::MvccReadConflict => "something that it had read was changed before it was its turn",
        Code::PhantomReadConflict => {
            "the results of a query that it had made were others when it was its turn"
        }
        Code::EndorsementPolicyFailure => "its endorsements do not satisfy the policy of what it writes",
        Code::DuplicateTxid => "a transaction with the same id is on the ledger already",
        Code::BadCreatorSignature => "its creator is not accepted, or its signature is not the creator's",
        Code::InvalidOtherReason => "a rule that has no code of its own",
        Code::ExpiredChaincode | Code::ChaincodeVersionConflict => {
            "it was endorsed under another definition of the chaincode than the one in force"
        }
        _ => "it is not formed as the rules say",
    }
}

fn advice(code: TxValidationCode) -> &'static str {
    use TxValidationCode as Code;
    match code {
        Code::MvccReadConflict | Code::PhantomReadConflict => {
            "nothing was written; submit it again as a new transaction, which reads the new state"
        }
        Code::EndorsementPolicyFailure => {
            "nothing was written; collect endorsements of all organisations that the policy names"
        }
        Code::DuplicateTxid => "the first one counts; look it up by the same id",
        Code::ExpiredChaincode | Code::ChaincodeVersionConflict => {
            "nothing was written; submit it again, it will run under the new definition"
        }
        _ => "nothing was written",
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.collection {
            None => write!(f, "{} {:?}", self.namespace, show_key(&self.key)),
            Some(collection) => write!(f, "{}/{collection} key hash {}", self.namespace, self.key),
        }
    }
}

/// Composite keys have separators that do not print.
fn show_key(key: &str) -> String {
    key.trim_matches('\0').replace('\0', "|")
}
