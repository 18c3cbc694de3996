//! The way of a configuration update: difference, signatures, judgement, orderers.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use selvedge_channel::update::{self, diff::diff, edit::ConfigTree};
use selvedge_channel::{Bundle, PolicyRefusal, RefusalReason, UpdateError};
use selvedge_msp::Certificate;
use selvedge_proto::common;
use selvedge_sdk::{ClientIdentity, OrdererClient};

use super::source::Current;
use crate::args::{SignArgs, SubmitArgs, UpdateArgs};
use crate::error::{CliError, During, with_causes};
use crate::session::Session;

/// Orderers elect a leader within this time, and cut a configuration block at once.
const SETTLE_TIME: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// Edits the configuration of a channel, shows what differs, signs and submits, as `args` ask for it.
pub(super) async fn change(
    args: &UpdateArgs,
    edit: impl FnOnce(&Session, &Bundle, &mut ConfigTree) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let session = Session::open(&args.channel.network.network)?;
    let channel = &args.channel.channel;
    let named = args.signers.first().map(String::as_str);
    let (reads_as, current) = Current::fetch_by_any(&session, named, channel).await?;
    let old = current.bundle.config();
    let mut tree = ConfigTree::from_config(old);
    edit(&session, &current.bundle, &mut tree)?;
    let new = tree.into_config();
    if !show_difference(channel, old, &new) {
        println!("channel {channel} is so already; nothing to do");
        return Ok(());
    }
    let update = update::compute(channel, old, &new).during(|| "cannot compute the update".to_owned())?;
    let update = Bytes::from(update.encode_to_vec());
    let signers = Signers::choose(&session, &current.bundle, args)?;
    let (chosen, verdict) = signers.sign(&current.bundle, &update)?;

    if args.dry_run {
        println!("it would be signed by {}", names(&chosen));
        if let Err(missing) = verdict {
            println!("that is not enough: {missing}");
        }
        println!("dry run: nothing was changed");
        return Ok(());
    }
    let signed = envelope(&current.bundle, &update, &chosen)?;
    if let Some(path) = &args.out {
        write(path, &signed)?;
        println!("signed by {}; written to {}", names(&chosen), path.display());
        match verdict {
            Ok(()) => println!(
                "no further signature is needed: selvedge channel submit {}",
                path.display()
            ),
            Err(missing) => println!(
                "not enough yet: {missing}\nsend the file to the others: selvedge channel sign {} --as Admin@…",
                path.display()
            ),
        }
        return Ok(());
    }
    verdict.map_err(|missing| {
        CliError::said(format!(
            "signed by {}, which is not enough: {missing}\nname more signers with --as, or write the update to a file \
             with --out FILE and let the others sign it with `selvedge channel sign FILE --as Admin@…`",
            names(&chosen)
        ))
    })?;
    println!("signed by {}", names(&chosen));
    submit(&session, &reads_as, &current, signed).await
}

/// Prints what differs; false when nothing does.
fn show_difference(channel: &str, old: &common::Config, new: &common::Config) -> bool {
    let differences = diff(old, new);
    if differences.is_empty() {
        return false;
    }
    println!("channel {channel}, configuration {}:", old.sequence);
    for difference in differences {
        println!("  {difference}");
    }
    true
}

type NamedIdentity = (String, ClientIdentity);

fn names(signers: &[NamedIdentity]) -> String {
    let names: Vec<&str> = signers.iter().map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    }
}

/// Who may sign an update.
struct Signers {
    identities: Vec<NamedIdentity>,
    /// The caller named them: all of them sign.
    named: bool,
}

impl Signers {
    fn choose(session: &Session, bundle: &Bundle, args: &UpdateArgs) -> Result<Self, CliError> {
        let named = !args.signers.is_empty();
        let names = if named {
            args.signers.clone()
        } else {
            session.administrators()
        };
        let mut identities = Vec::new();
        for name in names {
            let identity = session.identity(&name)?;
            // An organisation that is no member (any more) has nothing to say here.
            if named || bundle.msps().get(identity.msp_id()).is_some() {
                identities.push((name, identity));
            }
        }
        Ok(Self { identities, named })
    }

    /// The signers, as few as are enough unless they were named, and whether they are enough.
    fn sign(
        self,
        bundle: &Bundle,
        update: &Bytes,
    ) -> Result<(Vec<NamedIdentity>, Result<(), String>), CliError> {
        let mut chosen = self.identities;
        if let Err(refusal) = judge(bundle, update, &chosen)? {
            return match refusal {
                UpdateError::NotAuthorised { .. } => Ok((chosen, Err(plainly(&refusal)))),
                // More signatures would not help.
                other => Err(CliError::said(other.to_string())),
            };
        }
        if !self.named {
            for candidate in (0..chosen.len()).rev() {
                let mut fewer = chosen.clone();
                fewer.remove(candidate);
                if !fewer.is_empty() && judge(bundle, update, &fewer)?.is_ok() {
                    chosen = fewer;
                }
            }
        }
        Ok((chosen, Ok(())))
    }
}

fn judge(
    bundle: &Bundle,
    update: &Bytes,
    signers: &[NamedIdentity],
) -> Result<Result<(), UpdateError>, CliError> {
    if signers.is_empty() {
        return Err(CliError::said("nobody is there to sign; name somebody with --as"));
    }
    Ok(bundle
        .validate_update(&envelope(bundle, update, signers)?)
        .map(drop))
}

/// Which policy asks for whom, without the words that only the orderer's clients look for.
fn plainly(refusal: &UpdateError) -> String {
    let UpdateError::NotAuthorised { element, refusal, .. } = refusal else {
        return refusal.to_string();
    };
    format!(
        "{} is guarded by policy {}; {}",
        element.path,
        refusal.policy,
        asks(refusal)
    )
}

fn asks(refusal: &PolicyRefusal) -> String {
    match &refusal.reason {
        RefusalReason::ImplicitMeta {
            sub_policy,
            satisfied,
            threshold,
            refusals,
        } => {
            let open: Vec<String> = refusals.iter().map(asks).collect();
            format!(
                "{satisfied} of {threshold} needed {sub_policy} have signed; not satisfied: {}",
                open.join("; ")
            )
        }
        RefusalReason::Signature(reason) => format!("{} ({reason})", refusal.policy),
        _ => refusal.to_string(),
    }
}

/// The update with the signatures of all `signers`, submitted by the first.
fn envelope(
    bundle: &Bundle,
    update: &Bytes,
    signers: &[NamedIdentity],
) -> Result<common::Envelope, CliError> {
    let mut signatures = Vec::new();
    for (name, identity) in signers {
        signatures.push(update::sign(update, identity).during(|| format!("{name} cannot sign"))?);
    }
    let (name, submitter) = signers
        .first()
        .ok_or_else(|| CliError::said("nobody is there to sign; name somebody with --as"))?;
    update::envelope(bundle.channel_id(), update.clone(), signatures, submitter)
        .during(|| format!("{name} cannot sign"))
}

fn write(path: &Path, envelope: &common::Envelope) -> Result<(), CliError> {
    std::fs::write(path, envelope.encode_to_vec()).map_err(|source| CliError::WriteFile {
        path: path.to_owned(),
        source,
    })
}

/// Gives an update to the orderers and waits until the channel has it.
async fn submit(
    session: &Session,
    reads_as: &str,
    before: &Current,
    envelope: common::Envelope,
) -> Result<(), CliError> {
    let channel = before.bundle.channel_id();
    let deadline = Instant::now() + SETTLE_TIME;
    broadcast(session, &envelope, deadline).await?;
    loop {
        let now = Current::fetch(session, reads_as, channel).await;
        match now {
            Ok(now) if now.bundle.sequence() > before.bundle.sequence() => {
                let ours = selvedge_channel::verify::config_envelope(&now.block)
                    .ok()
                    .and_then(|e| e.last_update)
                    .is_some_and(|last| same_update(&last, &envelope));
                if !ours {
                    return Err(CliError::said(format!(
                        "another update of channel {channel} came first (block {}); look at the channel and try again",
                        now.block_number()
                    )));
                }
                println!(
                    "channel {channel} has configuration {} since block {}",
                    now.bundle.sequence(),
                    now.block_number()
                );
                return Ok(());
            }
            // Whoever takes away its own right to read has no answer to expect.
            Err(error) if Instant::now() > deadline => return Err(error),
            Ok(_) if Instant::now() > deadline => {
                return Err(CliError::said(format!(
                    "the orderers took the update, but channel {channel} does not have it after {} s; \
                     look at the orderers' logs (`selvedge network logs`)",
                    SETTLE_TIME.as_secs()
                )));
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

fn same_update(one: &common::Envelope, other: &common::Envelope) -> bool {
    match (read_update(one), read_update(other)) {
        (Ok(one), Ok(other)) => one.message.config_update == other.message.config_update,
        _ => false,
    }
}

async fn broadcast(
    session: &Session,
    envelope: &common::Envelope,
    deadline: Instant,
) -> Result<(), CliError> {
    loop {
        let mut refusals = Vec::new();
        for orderer in session.orderers() {
            let client = OrdererClient::new(&session.orderer_endpoint(orderer)?)
                .during(|| format!("orderer {}", orderer.host()))?;
            match client.broadcast(envelope.clone()).await {
                Ok(()) => return Ok(()),
                Err(selvedge_sdk::Error::Ordering {
                    tried,
                    is_final: true,
                    ..
                }) => {
                    return Err(CliError::said(format!(
                        "the orderers refuse the update: {}",
                        tried.join("; ")
                    )));
                }
                Err(error) => refusals.push(format!("{}: {}", orderer.host(), with_causes(&error))),
            }
        }
        if Instant::now() > deadline {
            return Err(CliError::said(format!(
                "no orderer takes the update: {}",
                refusals.join("; ")
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// An update as it travels.
struct Travelling {
    channel: String,
    message: common::ConfigUpdateEnvelope,
    update: common::ConfigUpdate,
}

fn read_update(envelope: &common::Envelope) -> Result<Travelling, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let payload = common::Payload::decode(envelope.payload.clone()).map_err(|e| text(&e))?;
    let header = payload.header.ok_or("it has no header")?;
    let header = common::ChannelHeader::decode(header.channel_header).map_err(|e| text(&e))?;
    if header.r#type != common::HeaderType::ConfigUpdate as i32 {
        return Err(format!("its header type is {}", header.r#type));
    }
    let message = common::ConfigUpdateEnvelope::decode(payload.data).map_err(|e| text(&e))?;
    let update = common::ConfigUpdate::decode(message.config_update.clone()).map_err(|e| text(&e))?;
    Ok(Travelling {
        channel: header.channel_id,
        message,
        update,
    })
}

fn read_file(path: &Path) -> Result<(common::Envelope, Travelling), CliError> {
    let bytes = std::fs::read(path).map_err(|source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    })?;
    let no_update = |why: String| {
        CliError::said(format!(
            "{} holds no configuration update ({why}); give a file that `--out` or `channel sign` wrote",
            path.display()
        ))
    };
    let envelope = common::Envelope::decode(Bytes::from(bytes)).map_err(|e| no_update(e.to_string()))?;
    let travelling = read_update(&envelope).map_err(no_update)?;
    Ok((envelope, travelling))
}

/// Shows an update that came as a file against the channel as it is now.
fn show(current: &Current, travelling: &Travelling) -> Result<(), CliError> {
    let old = current.bundle.config();
    let new = update::apply(old, &travelling.update).map_err(|e| {
        CliError::said(format!(
            "the update does not fit channel {} as it is now ({e}); it was made for an earlier configuration or is in \
             force already: make it anew",
            travelling.channel
        ))
    })?;
    show_difference(&travelling.channel, old, &new);
    println!("signed so far by {}", signed_by(&travelling.message));
    Ok(())
}

fn signed_by(message: &common::ConfigUpdateEnvelope) -> String {
    let who = |signature: &common::ConfigSignature| {
        let header = common::SignatureHeader::decode(signature.signature_header.clone()).ok()?;
        let identity = selvedge_proto::msp::SerializedIdentity::decode(header.creator).ok()?;
        let certificate = Certificate::from_pem(&identity.id_bytes).ok();
        let name = certificate
            .as_ref()
            .and_then(|c| c.common_name())
            .unwrap_or("?")
            .to_owned();
        Some(format!("{name} ({})", identity.mspid))
    };
    let all: Vec<String> = message
        .signatures
        .iter()
        .map(|s| who(s).unwrap_or_else(|| "an unreadable identity".to_owned()))
        .collect();
    if all.is_empty() {
        "nobody".to_owned()
    } else {
        all.join(", ")
    }
}

/// `selvedge channel sign`
pub(super) async fn sign(args: &SignArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let identity = session.identity(&args.identity)?;
    let (envelope, travelling) = read_file(&args.file)?;
    let current = Current::fetch(&session, &args.identity, &travelling.channel).await?;
    show(&current, &travelling)?;
    if travelling.message.signatures.iter().any(|s| is_of(s, &identity)) {
        println!("{} has signed it before", args.identity);
        return Ok(());
    }
    let signed =
        update::add_signature(&envelope, &identity).during(|| format!("{} cannot sign", args.identity))?;
    write(&args.file, &signed)?;
    println!("signed by {}; written to {}", args.identity, args.file.display());
    match current.bundle.validate_update(&signed) {
        Ok(_) => println!(
            "no further signature is needed: selvedge channel submit {}",
            args.file.display()
        ),
        Err(refusal) => println!("not enough yet: {}", plainly(&refusal)),
    }
    Ok(())
}

fn is_of(signature: &common::ConfigSignature, identity: &ClientIdentity) -> bool {
    common::SignatureHeader::decode(signature.signature_header.clone())
        .is_ok_and(|header| header.creator == *identity.creator())
}

/// `selvedge channel submit`
pub(super) async fn submit_file(args: &SubmitArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let (_, travelling) = read_file(&args.file)?;
    let named = args.identity.as_deref();
    let (submits_as, current) = Current::fetch_by_any(&session, named, &travelling.channel).await?;
    show(&current, &travelling)?;
    let envelope = update::envelope(
        &travelling.channel,
        travelling.message.config_update.clone(),
        travelling.message.signatures.clone(),
        &session.identity(&submits_as)?,
    )
    .during(|| format!("{submits_as} cannot sign"))?;
    current.bundle.validate_update(&envelope).map_err(|refusal| {
        CliError::said(format!(
            "the update cannot be submitted yet: {}",
            plainly(&refusal)
        ))
    })?;
    submit(&session, &submits_as, &current, envelope).await
}
