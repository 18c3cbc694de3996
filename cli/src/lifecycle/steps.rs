//! The single steps of the lifecycle.

use selvedge_peer::chaincode::package as packages;
use selvedge_sdk::lifecycle::{self, Definition, Readiness};

use super::readiness::{approved, lines, missing, verdict};
use super::{Members, Wanted, peer_client};
use crate::args::{AgreeArgs, ApproveArgs, CallerArgs, InstallArgs, PackageArgs};
use crate::error::{CliError, During};
use crate::session::{PeerRef, Session};

/// `chaincode package`
pub(crate) fn package(args: &PackageArgs) -> Result<(), CliError> {
    let module = std::fs::read(&args.wasm).map_err(|source| CliError::ReadFile {
        path: args.wasm.clone(),
        source,
    })?;
    let bytes = packages::write_package(&args.label, &module)
        .during(|| format!("cannot package {}", args.wasm.display()))?;
    std::fs::write(&args.output, &bytes).map_err(|source| CliError::WriteFile {
        path: args.output.clone(),
        source,
    })?;
    println!("{}", packages::package_id(&args.label, &bytes));
    Ok(())
}

/// `chaincode install`
pub(crate) async fn install(args: &InstallArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let path = args.package.display();
    let bytes = std::fs::read(&args.package).map_err(|source| CliError::ReadFile {
        path: args.package.clone(),
        source,
    })?;
    if bytes.starts_with(b"\0asm") {
        return Err(CliError::said(format!(
            "{path} is a wasm module, not a package; make one with `selvedge chaincode package --wasm {path} --label …`"
        )));
    }
    let read =
        packages::read_package(&bytes).during(|| format!("{path} is no package that this network runs"))?;
    let id = packages::package_id(&read.label, &bytes);
    if let Some(expected) = &args.expect
        && *expected != id
    {
        return Err(CliError::said(format!(
            "{path} is {id}, not {expected}: it is another file than the one that was agreed on, even if the label is \
             the same; get the package itself from whoever made it"
        )));
    }
    let peers: Vec<PeerRef<'_>> = match &args.peer {
        Some(host) => vec![session.peer(host)?],
        None => {
            let domain = args.identity.split_once('@').map_or("", |(_, domain)| domain);
            session.peer_org(domain)?;
            session.peers().filter(|p| p.org.domain == domain).collect()
        }
    };
    let admin = session.identity(&args.identity)?;
    for peer in peers {
        let client = peer_client(&session, peer)?;
        let there = lifecycle::query_installed(&client, &admin)
            .await
            .during(|| format!("peer {} does not tell what is installed", peer.host()))?;
        if there.iter().any(|p| p.id == id) {
            println!("{}: {id} was installed before", peer.host());
            continue;
        }
        lifecycle::install(&client, &admin, bytes.clone().into())
            .await
            .during(|| format!("peer {} does not install {path}", peer.host()))?;
        println!("{}: installed {id}", peer.host());
    }
    Ok(())
}

/// Finds the package that an approval is about on the organisation's peer.
async fn package_of(
    args: &ApproveArgs,
    session: &Session,
    peer: PeerRef<'_>,
    wanted: &Wanted<'_>,
) -> Result<Option<String>, CliError> {
    if args.no_package {
        return Ok(None);
    }
    let admin = session.identity(&args.identity)?;
    let installed = lifecycle::query_installed(&peer_client(session, peer)?, &admin)
        .await
        .during(|| format!("peer {} does not tell what is installed", peer.host()))?;
    let ids = || {
        installed
            .iter()
            .map(|p| p.id.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let there = || {
        if installed.is_empty() {
            "nothing".to_owned()
        } else {
            ids()
        }
    };
    if let Some(id) = &args.package_id {
        if installed.iter().any(|p| p.id == *id) {
            return Ok(Some(id.clone()));
        }
        let label = id.rsplit_once(':').map_or(id.as_str(), |(label, _)| label);
        let twin = installed.iter().find(|p| p.label == label);
        let why = match twin {
            Some(twin) => format!(
                "a package with that label is installed, but its hash is another one: {}; it is not the same file",
                twin.id
            ),
            None => format!(
                "installed are: {}; install it with `selvedge chaincode install`",
                there()
            ),
        };
        return Err(CliError::said(format!(
            "package {id} is not installed on {}: {why}",
            peer.host()
        )));
    }
    let label = wanted.label();
    let fitting: Vec<&str> = installed
        .iter()
        .filter(|p| p.label == label)
        .map(|p| p.id.as_str())
        .collect();
    match fitting.as_slice() {
        [one] => Ok(Some((*one).to_owned())),
        [] => Err(CliError::said(format!(
            "no package with the label {label} is installed on {} (installed: {}); install it, name one with \
             --package-id, or say --no-package if this organisation does not run the chaincode",
            peer.host(),
            there()
        ))),
        several => Err(CliError::said(format!(
            "several packages have the label {label}: {}; name one with --package-id",
            several.join(", ")
        ))),
    }
}

/// `chaincode approve`
pub(crate) async fn approve(args: &ApproveArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let members = Members::of(&session, &args.channel, Some(&args.identity)).await?;
    let wanted = Wanted::from(&args.definition);
    let peer = members.own_peer(&args.identity)?;
    let definition = wanted.approvable(members.committed(peer, wanted.name).await?.as_ref())?;
    let package_id = package_of(args, &session, peer, &wanted).await?;
    let client = members.direct(&args.identity, &[peer])?;
    let done = lifecycle::approve(&client, &args.channel, &definition, package_id.as_deref())
        .await
        .during(|| format!("{} cannot approve {}", args.identity, definition.name))?;
    members.settled(done.block_number).await;
    println!(
        "{} approves chaincode {} version {} sequence {} on channel {} with {} (block {})",
        peer.org.msp_id,
        definition.name,
        definition.version,
        definition.sequence,
        args.channel,
        package_id.as_deref().unwrap_or("no package"),
        done.block_number
    );
    Ok(())
}

async fn ask(
    members: &Members<'_>,
    args: &AgreeArgs,
    peer: PeerRef<'_>,
) -> Result<(Definition, Readiness), CliError> {
    let wanted = Wanted::from(&args.definition);
    let definition = wanted.following(members.committed(peer, wanted.name).await?.as_ref())?;
    let identity = members.session.identity(&args.identity)?;
    let client = peer_client(members.session, peer)?;
    let readiness = lifecycle::check_commit_readiness(&client, &identity, &args.channel, &definition)
        .await
        .during(|| format!("peer {} does not tell who has approved", peer.host()))?;
    Ok((definition, readiness))
}

/// `chaincode readiness`
pub(crate) async fn readiness(args: &AgreeArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let members = Members::of(&session, &args.channel, Some(&args.identity)).await?;
    let peer = members.own_peer(&args.identity)?;
    let (definition, readiness) = ask(&members, args, peer).await?;
    println!(
        "chaincode {} version {} sequence {} on channel {}:",
        definition.name, definition.version, definition.sequence, args.channel
    );
    print!("{}", lines(&readiness));
    match verdict(&members.current.bundle, &readiness) {
        Ok(text) => println!("ready to commit: {text}"),
        Err(text) => println!("not ready: {text}"),
    }
    Ok(())
}

/// `chaincode commit`
pub(crate) async fn commit(args: &AgreeArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let members = Members::of(&session, &args.channel, Some(&args.identity)).await?;
    let own = members.own_peer(&args.identity)?;
    let (definition, readiness) = ask(&members, args, own).await?;
    let cannot = |why: String| {
        CliError::said(format!(
            "chaincode {} sequence {} cannot be committed on channel {}: {why}",
            definition.name, definition.sequence, args.channel
        ))
    };
    verdict(&members.current.bundle, &readiness)
        .map_err(|text| cannot(format!("{text}: {}", missing(&readiness))))?;
    // A peer endorses the commit of what its own organisation has approved.
    let endorsers: Vec<PeerRef<'_>> = approved(&readiness)
        .into_iter()
        .filter_map(|msp_id| members.peer_of(msp_id))
        .collect();
    let client = members.direct(&args.identity, &endorsers)?;
    let done = lifecycle::commit(&client, &args.channel, &definition)
        .await
        .during(|| format!("the definition of {} is not committed", definition.name))?;
    members.settled(done.block_number).await;
    println!(
        "chaincode {} version {} sequence {} is committed on channel {} (block {})",
        definition.name, definition.version, definition.sequence, args.channel, done.block_number
    );
    Ok(())
}

/// `chaincode list`
pub(crate) async fn list(args: &CallerArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let peer = session.peer_for(&args.identity, args.peer.as_deref())?;
    let admin = session.identity(&peer.administrator())?;
    let client = peer_client(&session, peer)?;
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
            "  {} version {} sequence {}, endorsed by {}{}",
            definition.name,
            definition.version,
            definition.sequence,
            policy_text(&definition.validation_parameter),
            if definition.init_required {
                ", must be initialised"
            } else {
                ""
            }
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

/// An endorsement policy as text.
pub(crate) fn policy_text(parameter: &bytes::Bytes) -> String {
    use prost::Message;
    use selvedge_proto::protos::application_policy::Type;
    match selvedge_proto::protos::ApplicationPolicy::decode(parameter.clone()).map(|p| p.r#type) {
        Ok(Some(Type::SignaturePolicy(policy))) => selvedge_msp::policy::dsl::display(&policy),
        Ok(Some(Type::ChannelConfigPolicyReference(path))) => path,
        _ => "an unreadable policy".to_owned(),
    }
}
