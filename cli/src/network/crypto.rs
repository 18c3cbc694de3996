//! Key material of a network, laid out as Fabric's `cryptogen` does it, so that existing scripts find everything.
//!
//! Each organisation has one root for identities (`ca`) and another for TLS (`tlsca`). Its CA server issues from the
//! same roots later on.

use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_msp::{
    CaSubject, Certificate, CertificateAuthority, IssueRequest, PrivateKey, SubjectExtra, Usage, Validity,
};

use crate::error::{CliError, During};
use crate::network::config::{NetworkConfig, external};
use crate::network::layout::{Layout, MemberLayout, OrgLayout};

const DAY: i64 = 24 * 60 * 60;
const CA_LIFE: i64 = 15 * 365 * DAY;
const MEMBER_LIFE: i64 = 365 * DAY;
/// Certificates are valid from a little before now, so that a node whose clock is behind accepts them.
const CLOCK_SLACK: i64 = 5 * 60;

/// What a certificate says its holder is; NodeOUs make a role of it (spec 02 §13.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Admin,
    Client,
    Peer,
    Orderer,
}

impl Role {
    fn organizational_unit(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Client => "client",
            Role::Peer => "peer",
            Role::Orderer => "orderer",
        }
    }
}

/// The two authorities of an organisation while its members are made.
struct Authorities<'a> {
    layout: &'a OrgLayout,
    domain: &'a str,
    identities: CertificateAuthority,
    tls: CertificateAuthority,
    now: i64,
}

/// Makes everything that is missing. What exists already is kept, so that a network file may grow.
pub(crate) fn create_all(config: &NetworkConfig, layout: &Layout) -> Result<(), CliError> {
    for org in &config.orderer_organizations {
        let org_layout = layout.orderer_org(&org.domain);
        let authorities = Authorities::open(&org_layout, &org.domain, &org.name)?;
        for node in &org.orderers {
            let host = format!("{}.{}", node.name, org.domain);
            let address = external(node.external_address.as_deref(), &node.listen);
            authorities.node(
                &org_layout.node("orderers", &host),
                &host,
                &[&node.listen, &address],
                Role::Orderer,
            )?;
        }
        authorities.user("Admin", Role::Admin)?;
    }
    for org in &config.peer_organizations {
        let org_layout = layout.peer_org(&org.domain);
        let authorities = Authorities::open(&org_layout, &org.domain, &org.name)?;
        for node in &org.peers {
            let host = format!("{}.{}", node.name, org.domain);
            let address = external(node.external_address.as_deref(), &node.listen);
            authorities.node(
                &org_layout.node("peers", &host),
                &host,
                &[&node.listen, &address],
                Role::Peer,
            )?;
        }
        if let Some(ca) = &org.ca {
            let host = format!("ca.{}", org.domain);
            let address = external(ca.external_address.as_deref(), &ca.listen);
            authorities.server_tls(
                &org_layout.node("ca-server", &host),
                &host,
                &[&ca.listen, &address],
            )?;
        }
        authorities.user("Admin", Role::Admin)?;
        for number in 1..=org.users {
            authorities.user(&format!("User{number}"), Role::Client)?;
        }
    }
    Ok(())
}

/// TLS files of a server of a peer organisation besides its nodes; what exists already is kept.
pub(crate) fn server_files(
    layout: &OrgLayout,
    domain: &str,
    name: &str,
    host: &str,
    listen: &str,
) -> Result<MemberLayout, CliError> {
    let authorities = Authorities::open(layout, domain, name)?;
    let member = layout.node("servers", host);
    authorities.server_tls(&member, host, &[listen, &external(None, listen)])?;
    Ok(member)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn write(path: &Path, content: &str) -> Result<(), CliError> {
    let failed = |source| CliError::WriteFile {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, content).map_err(failed)
}

fn write_key(path: &Path, key: &PrivateKey) -> Result<(), CliError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|source| CliError::WriteFile {
            path: path.to_owned(),
            source,
        })?;
    }
    key.write_file(path)
        .during(|| format!("cannot write the key {}", path.display()))
}

fn new_key() -> Result<PrivateKey, CliError> {
    PrivateKey::generate().during(|| "cannot make a private key".to_owned())
}

/// Reads an authority, or makes it.
fn authority(
    certificate: &Path,
    key: &Path,
    common_name: String,
    organization: &str,
    now: i64,
) -> Result<CertificateAuthority, CliError> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| CliError::ReadFile {
            path: path.to_owned(),
            source,
        })
    };
    if certificate.exists() {
        return CertificateAuthority::from_pem(&read(certificate)?, &read(key)?)
            .during(|| format!("the authority {} is not usable", certificate.display()));
    }
    let extra = SubjectExtra {
        organization: Some(organization.to_owned()),
        ..SubjectExtra::default()
    };
    let subject = CaSubject {
        common_name,
        extra,
        ..CaSubject::default()
    };
    let validity = Validity {
        not_before: now - CLOCK_SLACK,
        not_after: now + CA_LIFE,
    };
    let made = CertificateAuthority::generate_root(&subject, &validity)
        .during(|| format!("cannot make the authority {}", certificate.display()))?;
    write_key(key, made.key())?;
    write(certificate, &made.certificate().to_pem())?;
    Ok(made)
}

impl<'a> Authorities<'a> {
    fn open(layout: &'a OrgLayout, domain: &'a str, name: &str) -> Result<Self, CliError> {
        let now = now();
        let identities = authority(
            &layout.ca_certificate(),
            &layout.ca_key(),
            format!("ca.{domain}"),
            domain,
            now,
        )?;
        let tls = authority(
            &layout.tls_ca_certificate(),
            &layout.tls_ca_key(),
            format!("tlsca.{domain}"),
            domain,
            now,
        )?;
        let authorities = Self {
            layout,
            domain,
            identities,
            tls,
            now,
        };
        if !layout.msp().join("config.yaml").exists() {
            authorities
                .write_msp(&layout.msp(), None)
                .during(|| format!("organisation {name}"))?;
        }
        Ok(authorities)
    }

    fn write_msp(
        &self,
        dir: &Path,
        member: Option<(&str, &Certificate, &PrivateKey)>,
    ) -> Result<(), CliError> {
        let ca_name = format!("ca.{}-cert.pem", self.domain);
        let tls_ca_name = format!("tlsca.{}-cert.pem", self.domain);
        let contents = MspDirContents {
            cacerts: vec![(ca_name, self.identities.certificate().clone())],
            tlscacerts: vec![(tls_ca_name, self.tls.certificate().clone())],
            signcert: member.map(|(name, certificate, _)| (format!("{name}-cert.pem"), certificate.clone())),
            key: member.map(|(_, _, key)| key.clone()),
            node_ous: true,
            ..MspDirContents::default()
        };
        write_msp_dir(dir, &contents).during(|| format!("cannot write the MSP folder {}", dir.display()))
    }

    fn issue(
        &self,
        from: &CertificateAuthority,
        key: &PrivateKey,
        common_name: &str,
        role: Option<Role>,
        names: (Vec<String>, Vec<IpAddr>),
        usage: Usage,
    ) -> Result<Certificate, CliError> {
        let request = IssueRequest {
            public_key: key.public_key().clone(),
            common_name: common_name.to_owned(),
            organizational_units: role
                .map(|r| r.organizational_unit().to_owned())
                .into_iter()
                .collect(),
            dns_names: names.0,
            ip_addresses: names.1,
            attributes: std::collections::BTreeMap::new(),
            usage,
            not_before: self.now - CLOCK_SLACK,
            not_after: self.now + MEMBER_LIFE,
            subject_extra: SubjectExtra::default(),
        };
        from.issue(&request)
            .during(|| format!("cannot issue a certificate for {common_name}"))
    }

    fn identity(&self, member: &MemberLayout, name: &str, role: Role) -> Result<(), CliError> {
        if member.msp().join("config.yaml").exists() {
            return Ok(());
        }
        let key = new_key()?;
        let names = (Vec::new(), Vec::new());
        let certificate = self.issue(&self.identities, &key, name, Some(role), names, Usage::Identity)?;
        self.write_msp(&member.msp(), Some((name, &certificate, &key)))
    }

    /// TLS files of a server whose certificate carries its host name and the hosts of all its addresses.
    fn server_tls(&self, member: &MemberLayout, host: &str, addresses: &[&str]) -> Result<(), CliError> {
        let mut dns_names = vec![host.to_owned()];
        let mut ip_addresses = Vec::new();
        for address in addresses {
            let name = address.rsplit_once(':').map_or(*address, |(h, _)| h);
            let name = name.trim_start_matches('[').trim_end_matches(']');
            match name.parse::<IpAddr>() {
                Ok(ip) if ip.is_unspecified() => {}
                Ok(ip) => ip_addresses.push(ip),
                Err(_) => dns_names.push(name.to_owned()),
            }
        }
        ip_addresses.dedup();
        dns_names.dedup();
        self.tls_files(member, host, (dns_names, ip_addresses))
    }

    fn tls_files(
        &self,
        member: &MemberLayout,
        name: &str,
        names: (Vec<String>, Vec<IpAddr>),
    ) -> Result<(), CliError> {
        if member.tls_certificate().exists() {
            return Ok(());
        }
        let key = new_key()?;
        let certificate = self.issue(&self.tls, &key, name, None, names, Usage::Tls)?;
        write_key(&member.tls_key(), &key)?;
        write(&member.tls_roots(), &self.tls.certificate().to_pem())?;
        // Last, since its presence says that the rest is there.
        write(&member.tls_certificate(), &certificate.to_pem())
    }

    fn node(
        &self,
        member: &MemberLayout,
        host: &str,
        addresses: &[&str],
        role: Role,
    ) -> Result<(), CliError> {
        self.identity(member, host, role)?;
        self.server_tls(member, host, addresses)
    }

    fn user(&self, name: &str, role: Role) -> Result<(), CliError> {
        let member = self.layout.user(name);
        let full = format!("{name}@{}", self.domain);
        self.identity(&member, &full, role)?;
        self.tls_files(&member, &full, (Vec::new(), Vec::new()))
    }
}
