//! `selvedge network renew`: certificates of users, which no task looks after, and those of nodes whose organisation has no
//! authority that runs.
//!
//! Where the organisation has an authority, it renews them, so that it knows them and can revoke them. Otherwise the root's key in
//! the network's folder does.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use selvedge_msp::{
    Certificate, CertificateAuthority, IssueRequest, PrivateKey, SigningIdentity, SubjectExtra, Usage,
};
use selvedge_renewal::renewal_time;
use selvedge_sdk::{CaClient, ClientTls, EnrollRequest};

use crate::args::RenewArgs;
use crate::authority::read;
use crate::error::{CliError, During, with_causes};
use crate::network::crypto::{CLOCK_SLACK, now, read_authority, seconds, write};
use crate::network::layout::{MemberLayout, RootLayout};
use crate::network::nodes::{signcert, tls_authority};
use crate::session::{OrgRef, Session};

/// `selvedge network renew`
pub(super) async fn run(args: &RenewArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    if let Some(domain) = &args.org {
        session.org(domain)?;
    }
    let (mut renewed, mut failed) = (0, 0);
    for org in session.orgs() {
        if args.org.as_ref().is_none_or(|domain| domain == org.domain) {
            let done = renew_org(&session, &org, args.all).await?;
            renewed += done.renewed;
            failed += done.failed;
        }
    }
    if failed > 0 {
        return Err(CliError::said(format!(
            "{failed} certificates could not be renewed"
        )));
    }
    if renewed == 0 {
        println!("nothing is due; --all renews all the same");
    }
    Ok(())
}

/// How many certificates were renewed, and how many could not be; why was printed.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) renewed: usize,
    pub(crate) failed: usize,
}

/// A certificate in the network's folder.
struct Held {
    name: String,
    certificate: PathBuf,
    key: PathBuf,
    usage: Usage,
}

/// The certificates of a member that are there.
fn held(name: &str, member: &MemberLayout) -> Vec<Held> {
    let mut found = Vec::new();
    let msp = member.msp();
    if let Some(certificate) = signcert(&msp) {
        found.push(Held {
            name: format!("{name}, identity"),
            certificate,
            key: msp,
            usage: Usage::Identity,
        });
    }
    if member.tls_certificate().is_file() {
        found.push(Held {
            name: format!("{name}, TLS"),
            certificate: member.tls_certificate(),
            key: member.tls_key(),
            usage: Usage::Tls,
        });
    }
    found
}

/// Renews what is due of an organisation. One that cannot be renewed, since it is revoked for example, does not keep the others.
pub(crate) async fn renew_org(session: &Session, org: &OrgRef<'_>, all: bool) -> Result<Done, CliError> {
    let mut members = org.users();
    members.extend(org.servers());
    if org.ca.is_none() {
        members.extend(org.nodes.iter().cloned());
    }
    let mut done = Done::default();
    for (name, member) in &members {
        for held in held(name, member) {
            let root = match held.usage {
                Usage::Tls => org.layout.tls_root(),
                Usage::Identity | Usage::Ca => org.layout.identity_root(),
            };
            let present = Certificate::from_pem(&read(&held.certificate)?)
                .during(|| format!("{} holds no certificate", held.certificate.display()))?;
            if !all && !is_due(session, &held.certificate, &present, &root)? {
                continue;
            }
            match renew_one(session, org, &held, &present, &root).await {
                Ok(()) => {
                    println!("{} has a new certificate", held.name);
                    done.renewed += 1;
                }
                Err(why) => {
                    eprintln!("{} cannot be renewed: {}", held.name, with_causes(&why));
                    done.failed += 1;
                }
            }
        }
    }
    Ok(done)
}

/// Due by age, or because another authority issues now.
fn is_due(
    session: &Session,
    path: &Path,
    certificate: &Certificate,
    root: &RootLayout,
) -> Result<bool, CliError> {
    let issuer = Certificate::from_pem(&read(&root.certificate())?)
        .during(|| format!("{} holds no certificate", root.certificate().display()))?;
    let written = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let since = written.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let since = since.map_or(0, seconds);
    let due = renewal_time(
        certificate.not_before(),
        certificate.not_after(),
        since,
        now(),
        session.config.certificates.renew_at,
    );
    Ok(due <= now() || !certificate.is_signed_by(&issuer))
}

fn key(held: &Held) -> Result<PrivateKey, CliError> {
    if held.usage == Usage::Tls {
        return PrivateKey::from_file(&held.key).during(|| format!("the key {}", held.key.display()));
    }
    let identity = SigningIdentity::from_msp_dir("", &held.key)
        .during(|| format!("the folder {}", held.key.display()))?;
    Ok(identity.key().clone())
}

async fn renew_one(
    session: &Session,
    org: &OrgRef<'_>,
    held: &Held,
    present: &Certificate,
    root: &RootLayout,
) -> Result<(), CliError> {
    let mut text = match (org.ca, org.ca_url()) {
        (Some(ca), Some(url)) => {
            let name = if held.usage == Usage::Tls {
                tls_authority(ca)
            } else {
                ca.name.clone()
            };
            let tls = ClientTls {
                roots: vec![read(&org.layout.tls_ca_certificate())?],
                ..ClientTls::default()
            };
            let addresses = present.ip_addresses().iter().map(ToString::to_string);
            let request = EnrollRequest {
                profile: if held.usage == Usage::Tls { "tls" } else { "" }.to_owned(),
                hosts: present.dns_names().iter().cloned().chain(addresses).collect(),
                attributes: None,
            };
            let key = key(held)?;
            let identity = SigningIdentity::new(org.msp_id, &read(&held.certificate)?, key.clone())
                .during(|| format!("{} and its key", held.certificate.display()))?;
            let enrolled = CaClient::new(&url, Some(name.clone()), tls)
                .reenroll(&identity, &request, &key)
                .await
                .during(|| format!("authority {name}"))?;
            enrolled.certificate_pem
        }
        _ => {
            let authority = read_authority(root)?.ok_or_else(|| {
                CliError::said(format!(
                    "organisation {} has neither a certificate authority in the network file nor the key of one in {}; renew it \
                     where that key is, and put the new certificate into {}",
                    org.name,
                    root.key().display(),
                    held.certificate.display()
                ))
            })?;
            reissue(
                &authority,
                present,
                held.usage,
                seconds(session.config.certificates.life),
            )?
            .to_pem()
        }
    };
    // What lies between a TLS certificate and the root comes along, as it did before.
    if held.usage == Usage::Tls && root.chain().exists() {
        let issuer = read(&root.certificate())?;
        let issuer = Certificate::from_pem(&issuer).during(|| "the authority's certificate".to_owned())?;
        text.push_str(&issuer.to_pem());
    }
    write(&held.certificate, &text)
}

/// The same certificate with another period, signed by the root in the network's folder.
fn reissue(
    authority: &CertificateAuthority,
    present: &Certificate,
    usage: Usage,
    life: i64,
) -> Result<Certificate, CliError> {
    let public_key = present
        .public_key()
        .ok_or_else(|| CliError::said("its key is of a kind that cannot be used here"))?;
    let now = now();
    let request = IssueRequest {
        public_key: public_key.clone(),
        common_name: present.common_name().unwrap_or_default().to_owned(),
        organizational_units: present.organizational_units().to_vec(),
        dns_names: present.dns_names().to_vec(),
        ip_addresses: present.ip_addresses().to_vec(),
        attributes: present.attributes().clone(),
        usage,
        not_before: now - CLOCK_SLACK,
        not_after: now.saturating_add(life),
        subject_extra: SubjectExtra::default(),
    };
    authority
        .issue(&request)
        .during(|| "it cannot be issued".to_owned())
}
