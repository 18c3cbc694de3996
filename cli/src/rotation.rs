//! `selvedge ca rotate`: a new root beside the old one, in three steps, so that nobody is ever asked to trust what it does not
//! know yet.
//!
//! ```text
//! rotate            both roots are in the channels and in all folders        the old one issues
//! rotate --switch   the same                                                 the new one issues; members renew
//! rotate --retire   the new root alone                                       the new one issues
//! ```

use std::path::{Path, PathBuf};

use bytes::Bytes;
use selvedge_channel::Bundle;
use selvedge_msp::crl::RevocationList;
use selvedge_msp::{Certificate, CertificateAuthority, pem};
use selvedge_proto::msp::FabricMspConfig;

use crate::args::{AddConsenterArgs, ChannelArg, RotateArgs, UpdateArgs};
use crate::authority::read;
use crate::channel;
use crate::channel::msp;
use crate::error::{CliError, During};
use crate::network::config::ProcessModel;
use crate::network::crypto::{new_root, seconds, write, write_key};
use crate::network::layout::{MemberLayout, RootLayout};
use crate::network::nodes::{self, signcert};
use crate::network::{profile, renew, restart};
use crate::session::{OrgRef, Session};

/// `selvedge ca rotate`
pub(crate) async fn run(args: &RotateArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let org = session.org(&args.org)?;
    for root in [org.layout.identity_root(), org.layout.tls_root()] {
        if root.chain().exists() {
            return Err(CliError::said(format!(
                "the authority {} of {} is below another one; whoever has the key of that one gives it a new certificate",
                root.certificate().display(),
                org.domain
            )));
        }
        if !root.key().exists() {
            return Err(CliError::said(format!(
                "the key of the authority of {} is not here ({}); rotate where it is",
                org.domain,
                root.key().display()
            )));
        }
    }
    if args.retire {
        retire(args, &session, &org).await
    } else if args.switch {
        switch(args, &session, &org).await
    } else {
        introduce(args, &session, &org).await
    }
}

/// Both authorities of an organisation with the folder of an MSP in which their certificates are.
fn roots(org: &OrgRef<'_>) -> [(RootLayout, &'static str, &'static str); 2] {
    [
        (org.layout.identity_root(), "ca", "cacerts"),
        (org.layout.tls_root(), "tlsca", "tlscacerts"),
    ]
}

fn certificate(path: &Path) -> Result<Certificate, CliError> {
    Certificate::from_pem(&read(path)?).during(|| format!("{} holds no certificate", path.display()))
}

/// Every MSP folder of an organisation: its own, its nodes', its users'.
fn msp_folders(org: &OrgRef<'_>) -> Vec<PathBuf> {
    let users = org.users();
    let members = org.nodes.iter().chain(&users).map(|(_, member)| member.msp());
    std::iter::once(org.layout.msp()).chain(members).collect()
}

/// Every member with TLS files.
fn tls_members(org: &OrgRef<'_>) -> Vec<MemberLayout> {
    let users = org.users();
    let servers = org.servers();
    let members = org.nodes.iter().chain(&users).chain(&servers);
    members
        .map(|(_, member)| member.clone())
        .chain([org.ca_member()])
        .filter(|m| m.tls_roots().exists())
        .collect()
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> Result<(), CliError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(CliError::WriteFile {
            path: path.to_owned(),
            source,
        }),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), CliError> {
    let failed = |source| CliError::WriteFile {
        path: to.to_owned(),
        source,
    };
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::rename(from, to).map_err(failed)
}

/// The files that everybody dials with say which TLS roots are trusted; the one that signs comes first.
fn write_tls_roots(org: &OrgRef<'_>, trusted: &[&Certificate]) -> Result<(), CliError> {
    let text: String = trusted.iter().map(|c| c.to_pem()).collect();
    write(&org.layout.tls_ca_certificate(), &text)?;
    for member in tls_members(org) {
        write(&member.tls_roots(), &text)?;
    }
    Ok(())
}

/// NodeOUs that name one authority would refuse what the other one issues. Without a name they hold for both.
fn free_units(config: &mut FabricMspConfig) {
    if let Some(units) = &mut config.fabric_node_ous {
        let all = [
            &mut units.client_ou_identifier,
            &mut units.peer_ou_identifier,
            &mut units.admin_ou_identifier,
            &mut units.orderer_ou_identifier,
        ];
        for unit in all.into_iter().flatten() {
            unit.certificate = Bytes::new();
        }
    }
}

/// The same in the `config.yaml` of an MSP folder.
fn free_units_in(folder: &Path) -> Result<(), CliError> {
    let path = folder.join("config.yaml");
    if !path.exists() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&read(&path)?).into_owned();
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| {
            !line
                .trim_start()
                .trim_start_matches("- ")
                .starts_with("Certificate:")
        })
        .collect();
    write(&path, &format!("{}\n", kept.join("\n")))
}

fn holds(list: &[Bytes], wanted: &Certificate) -> bool {
    list.iter()
        .any(|bytes| Certificate::from_pem(bytes).is_ok_and(|found| found == *wanted))
}

/// First step: both roots are known everywhere.
async fn introduce(args: &RotateArgs, session: &Session, org: &OrgRef<'_>) -> Result<(), CliError> {
    for (root, _, _) in roots(org) {
        if root.previous_certificate().exists() {
            return Err(CliError::said(format!(
                "the last rotation of {} is not at its end; retire the old root first: selvedge ca rotate --org {} --retire",
                org.domain, org.domain
            )));
        }
    }
    let mut next = Vec::new();
    for (root, name, _) in roots(org) {
        if !root.next_certificate().exists() {
            let life = seconds(session.config.certificates.ca_life);
            let date = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
            let date = date.split('T').next().unwrap_or_default().to_owned();
            let made: CertificateAuthority =
                new_root(format!("{name}-{date}.{}", org.domain), org.domain, life)?;
            write_key(&root.next_key(), made.key())?;
            write(&root.next_certificate(), &made.certificate().to_pem())?;
        }
        next.push(certificate(&root.next_certificate())?);
    }
    let [identities, tls] = next.as_slice() else {
        return Err(CliError::said("an organisation has two authorities"));
    };
    println!(
        "new roots of {}: '{}' and '{}'",
        org.domain,
        identities.subject(),
        tls.subject()
    );
    // The channels first: what they do not know, no folder should have.
    let channels = msp::change(&args.network, &args.channels, org.msp_id, |msp| {
        for (list, new) in [(&mut msp.root_certs, identities), (&mut msp.tls_root_certs, tls)] {
            if !holds(list, new) {
                list.push(new.to_pem().into_bytes().into());
            }
        }
        free_units(msp);
        Ok(())
    })
    .await?;
    if args.channels.dry_run {
        return Ok(());
    }
    for folder in msp_folders(org) {
        for ((_, name, certs), new) in roots(org).iter().zip(&next) {
            let file = format!("{name}-{}.pem", short(new));
            write(&folder.join(certs).join(file), &new.to_pem())?;
        }
        free_units_in(&folder)?;
    }
    write_tls_roots(org, &[&certificate(&org.layout.tls_root().certificate())?, tls])?;
    profile::write_all(&session.config, &session.layout)?;
    println!(
        "both roots are in the folders of this network and in {channels} channel{}; the old ones still issue.\n\
         Give {} to clients elsewhere as their TLS roots (it holds both). When all channels and clients have it:\n  \
         selvedge ca rotate --org {} --switch",
        if channels == 1 { "" } else { "s" },
        org.layout.tls_ca_certificate().display(),
        org.domain
    );
    Ok(())
}

/// A name for the file of a root: the same in every folder.
fn short(certificate: &Certificate) -> String {
    hex::encode(&certificate.sha256()[..6])
}

/// Second step: the new roots issue.
async fn switch(args: &RotateArgs, session: &Session, org: &OrgRef<'_>) -> Result<(), CliError> {
    let [(identity_root, ..), (tls_root, ..)] = roots(org);
    if !identity_root.next_certificate().exists() || !tls_root.next_certificate().exists() {
        return Err(CliError::said(format!(
            "there is no new root of {} yet; begin with: selvedge ca rotate --org {}",
            org.domain, org.domain
        )));
    }
    let (identities, tls) = (
        certificate(&identity_root.next_certificate())?,
        certificate(&tls_root.next_certificate())?,
    );
    let old_tls = certificate(&tls_root.certificate())?;
    for current in msp::channels_of(session, &args.channels, org.msp_id).await? {
        let known = configs(&current.bundle, org.msp_id)
            .iter()
            .all(|msp| holds(&msp.root_certs, &identities) && holds(&msp.tls_root_certs, &tls));
        if !known {
            return Err(CliError::said(format!(
                "channel {} does not know the new root yet: have its update signed and submitted, or run `selvedge ca rotate \
                 --org {}` again",
                current.bundle.channel_id(),
                org.domain
            )));
        }
    }
    if args.channels.dry_run {
        println!("dry run: the new roots of {} would issue from now on", org.domain);
        return Ok(());
    }
    for root in [&identity_root, &tls_root] {
        rename(&root.key(), &root.previous_key())?;
        rename(&root.certificate(), &root.previous_certificate())?;
        rename(&root.next_key(), &root.key())?;
        rename(&root.next_certificate(), &root.certificate())?;
    }
    // The file for dialling holds both; the one that signs comes first.
    write(&tls_root.previous_certificate(), &old_tls.to_pem())?;
    write_tls_roots(org, &[&tls, &old_tls])?;
    profile::write_all(&session.config, &session.layout)?;
    restart_authority(session, org).await?;
    let renewed = renew::renew_org(session, org, false).await?.renewed;
    println!(
        "the new roots of {} issue from now on; {renewed} certificates in this folder were renewed. Nodes and edge gateways that \
         renew at its authority do so by themselves within {}; devices and users elsewhere renew when theirs are due, or with \
         `selvedge device reenroll`. `selvedge doctor` says who still has a certificate of the old root. Then:\n  \
         selvedge ca rotate --org {} --retire",
        org.domain,
        humantime::format_duration(session.config.certificates.check),
        org.domain
    );
    Ok(())
}

async fn restart_authority(session: &Session, org: &OrgRef<'_>) -> Result<(), CliError> {
    nodes::write_configs(session)?;
    if let Some(node) = nodes::all(session).into_iter().find(|n| n.id == org.ca_host()) {
        if session.config.processes == ProcessModel::OneProcess {
            println!("all nodes run in one process, which is started again");
        }
        restart(session, &node).await?;
    }
    Ok(())
}

/// The MSP of an organisation in each part of a channel that it is in.
fn configs(bundle: &Bundle, msp_id: &str) -> Vec<FabricMspConfig> {
    bundle
        .msps()
        .get(msp_id)
        .map(|msp| msp.config().clone())
        .into_iter()
        .collect()
}

/// Certificates of the old roots that are still in use in this network's folder.
fn in_use(org: &OrgRef<'_>, old: &[Certificate]) -> Result<Vec<String>, CliError> {
    let mut found = Vec::new();
    let users = org.users();
    let ca = org.ca.map(|_| (org.ca_host(), org.ca_member()));
    let servers = org.servers();
    for (name, member) in org.nodes.iter().chain(&users).chain(&servers).chain(&ca) {
        let files = [
            ("identity", signcert(&member.msp())),
            ("TLS", Some(member.tls_certificate())),
        ];
        for (what, path) in files {
            let Some(path) = path.filter(|p| p.is_file()) else {
                continue;
            };
            let certificate = certificate(&path)?;
            if old.iter().any(|root| certificate.is_signed_by(root)) {
                found.push(format!("{what} of {name}"));
            }
        }
    }
    Ok(found)
}

/// Third step: the old roots go.
async fn retire(args: &RotateArgs, session: &Session, org: &OrgRef<'_>) -> Result<(), CliError> {
    let mut old = Vec::new();
    for (root, _, _) in roots(org) {
        if !root.previous_certificate().exists() {
            return Err(CliError::said(format!(
                "there is no old root of {} to retire; the steps before are `selvedge ca rotate --org {}` and `--switch`",
                org.domain, org.domain
            )));
        }
        old.push(certificate(&root.previous_certificate())?);
    }
    let left = in_use(org, &old)?;
    if !left.is_empty() && !args.force {
        return Err(CliError::said(format!(
            "certificates of the old root are still in use: {}. Nodes renew by themselves, `selvedge network renew --org {}` renews \
             the others; --force retires the root all the same, and they count no more",
            left.join(", "),
            org.domain
        )));
    }
    let [old_identities, old_tls] = old.as_slice() else {
        return Err(CliError::said("an organisation has two authorities"));
    };
    let consenters = renew_consenters(args, session, org, old_tls).await?;
    if args.channels.dry_run && consenters > 0 {
        // No configuration holds a consenter's certificate without its root, so the next difference cannot be computed.
        println!(
            "after that, the old roots would be taken out of the channels; the folders stay as they are"
        );
        return Ok(());
    }
    let channels = msp::change(&args.network, &args.channels, org.msp_id, |msp| {
        for (list, gone) in [
            (&mut msp.root_certs, old_identities),
            (&mut msp.tls_root_certs, old_tls),
        ] {
            list.retain(|bytes| !Certificate::from_pem(bytes).is_ok_and(|found| found == *gone));
        }
        // Lists of an authority that is gone say nothing.
        msp.revocation_list.retain(|bytes| {
            let list = RevocationList::read(bytes);
            list.map_or(true, |list| {
                list.authority_key_id() != old_identities.subject_key_id()
            })
        });
        Ok(())
    })
    .await?;
    if args.channels.dry_run || args.channels.out.is_some() {
        println!("the folders stay as they are until the channels have changed; then give the command again");
        return Ok(());
    }
    for folder in msp_folders(org) {
        for ((_, _, certs), gone) in roots(org).iter().zip(&old) {
            remove_certificate(&folder.join(certs), gone)?;
        }
    }
    write_tls_roots(org, &[&certificate(&org.layout.tls_root().certificate())?])?;
    for ((root, _, _), gone) in roots(org).iter().zip(&old) {
        let retired = root
            .previous_certificate()
            .with_file_name(format!("retired-{}.pem", short(gone)));
        rename(&root.previous_certificate(), &retired)?;
        // A key that is of no use any more is only a danger.
        remove(&root.previous_key())?;
    }
    profile::write_all(&session.config, &session.layout)?;
    restart_authority(session, org).await?;
    println!(
        "the old roots of {} are retired: they are in no folder of this network and in none of its {channels} channel{}",
        org.domain,
        if channels == 1 { "" } else { "s" }
    );
    Ok(())
}

/// Deletes the files of a folder that hold this certificate.
fn remove_certificate(folder: &Path, gone: &Certificate) -> Result<(), CliError> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let blocks = pem::all_blocks(&read(&path)?);
        if blocks.iter().any(|block| block.content == gone.der()) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// A consenter's TLS certificate is part of the configuration, and must come from a root that is in it (spec 05 §5).
/// Gives how many had one of the old root.
async fn renew_consenters(
    args: &RotateArgs,
    session: &Session,
    org: &OrgRef<'_>,
    old: &Certificate,
) -> Result<usize, CliError> {
    let mut renewed = 0;
    let channels = msp::channels_of(session, &args.channels, org.msp_id).await?;
    for current in channels {
        let Some(orderer) = current.bundle.orderer() else {
            continue;
        };
        for node in session.orderers().filter(|o| o.org.domain == org.domain) {
            let address = node.address();
            let from_old = orderer.consenters.iter().any(|c| {
                format!("{}:{}", c.host, c.port) == address
                    && [&c.client_tls_cert, &c.server_tls_cert]
                        .iter()
                        .any(|pem| Certificate::from_pem(pem).is_ok_and(|found| found.is_signed_by(old)))
            });
            if !from_old {
                continue;
            }
            let renew = AddConsenterArgs {
                update: UpdateArgs {
                    channel: ChannelArg {
                        network: args.network.clone(),
                        channel: current.bundle.channel_id().to_owned(),
                    },
                    signers: args.channels.signers.clone(),
                    dry_run: args.channels.dry_run,
                    out: None,
                },
                orderer: node.host(),
                org: None,
                certificate: None,
            };
            channel::renew_consenter(&renew).await?;
            renewed += 1;
        }
    }
    Ok(renewed)
}
