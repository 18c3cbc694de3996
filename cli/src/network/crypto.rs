//! Key material of a network, laid out as Fabric's `cryptogen` does it, so that existing scripts find everything.
//!
//! Each organisation has one root for identities (`ca`) and another for TLS (`tlsca`). Its CA server issues from the
//! same roots later on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_msp::{
    CaSubject, Certificate, CertificateAuthority, IssueRequest, PrivateKey, SigningIdentity, SubjectExtra,
    Usage, Validity, write_public,
};

use crate::error::{CliError, During};
use crate::network::config::{CaNode, NetworkConfig, external};
use crate::network::layout::{Layout, MemberLayout, OrgLayout, RootLayout};
use crate::network::material;

/// Certificates are valid from a little before now, so that a node whose clock is behind accepts them.
pub(crate) const CLOCK_SLACK: i64 = 5 * 60;

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

/// Whom a certificate is for.
struct Subject<'a> {
    name: &'a str,
    role: Option<Role>,
    attributes: BTreeMap<String, String>,
}

impl<'a> Subject<'a> {
    fn member(name: &'a str, role: Role) -> Self {
        Self {
            name,
            role: Some(role),
            attributes: BTreeMap::new(),
        }
    }

    /// Whoever shows it in TLS; the name is all that counts there.
    fn tls(name: &'a str) -> Self {
        Self {
            name,
            role: None,
            attributes: BTreeMap::new(),
        }
    }
}

/// The two authorities of an organisation while its members are made. An organisation that came with its own material may
/// keep the keys of its authorities to itself: then nothing can be issued here, and every member must be in the material.
struct Authorities<'a> {
    layout: &'a OrgLayout,
    domain: &'a str,
    identities: Option<CertificateAuthority>,
    tls: Option<CertificateAuthority>,
    now: i64,
    life: i64,
}

/// Makes everything that is missing. What exists already is kept, so that a network file may grow.
pub(crate) fn create_all(config: &NetworkConfig, layout: &Layout) -> Result<(), CliError> {
    for org in &config.orderer_organizations {
        let org_layout = layout.orderer_org(&org.domain);
        material::take_in(org.material.as_deref(), &org_layout, &org.domain, "orderers")?;
        let authorities = Authorities::open(config, &org_layout, &org.domain, &org.name)?;
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
        if let Some(ca) = &org.ca {
            authorities.ca_server(ca)?;
        }
        authorities.user("Admin", Role::Admin, BTreeMap::new())?;
    }
    for org in &config.peer_organizations {
        let org_layout = layout.peer_org(&org.domain);
        material::take_in(org.material.as_deref(), &org_layout, &org.domain, "peers")?;
        let authorities = Authorities::open(config, &org_layout, &org.domain, &org.name)?;
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
            authorities.ca_server(ca)?;
        }
        authorities.user("Admin", Role::Admin, BTreeMap::new())?;
        let visitor = org.api.as_ref().and_then(|api| api.visitor.as_deref());
        for number in 1..=org.users {
            let name = format!("User{number}");
            let is_visitor = visitor.is_some_and(|v| v == name || v == format!("{name}@{}", org.domain));
            // Whoever comes with it is shown little by the contracts too, not only by the server that holds it.
            let attributes = is_visitor.then(|| ("selvedge.view".to_owned(), "public".to_owned()));
            authorities.user(&name, Role::Client, attributes.into_iter().collect())?;
        }
    }
    Ok(())
}

/// TLS files of a server of a peer organisation besides its nodes; what exists already is kept.
pub(crate) fn server_files(
    config: &NetworkConfig,
    layout: &OrgLayout,
    domain: &str,
    name: &str,
    host: &str,
    listen: &str,
) -> Result<MemberLayout, CliError> {
    let authorities = Authorities::open(config, layout, domain, name)?;
    let member = layout.node("servers", host);
    authorities.server_tls(&member, host, &[listen, &external(None, listen)])?;
    Ok(member)
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Writes a file whole: nodes that run read it at any time.
pub(crate) fn write(path: &Path, content: &str) -> Result<(), CliError> {
    write_public(path, content.as_bytes()).map_err(|source| CliError::WriteFile {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

pub(crate) fn write_key(path: &Path, key: &PrivateKey) -> Result<(), CliError> {
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

/// Reads an authority whose key is here.
pub(crate) fn read_authority(root: &RootLayout) -> Result<Option<CertificateAuthority>, CliError> {
    let (certificate, key) = (root.certificate(), root.key());
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| CliError::ReadFile {
            path: path.to_owned(),
            source,
        })
    };
    if !certificate.exists() || !key.exists() {
        return Ok(None);
    }
    CertificateAuthority::from_pem(&read(&certificate)?, &read(&key)?)
        .map(Some)
        .during(|| format!("the authority {} is not usable", certificate.display()))
}

/// Makes the key and certificate of a root.
pub(crate) fn new_root(
    common_name: String,
    organization: &str,
    life: i64,
) -> Result<CertificateAuthority, CliError> {
    let now = now();
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
        not_after: now.saturating_add(life),
    };
    CertificateAuthority::generate_root(&subject, &validity)
        .during(|| format!("cannot make the authority {}", subject.common_name))
}

/// Reads an authority, or makes it where there is none.
fn authority(
    root: &RootLayout,
    common_name: String,
    organization: &str,
    life: i64,
) -> Result<Option<CertificateAuthority>, CliError> {
    if root.certificate().exists() {
        return read_authority(root);
    }
    let made = new_root(common_name, organization, life)?;
    write_key(&root.key(), made.key())?;
    write(&root.certificate(), &made.certificate().to_pem())?;
    Ok(Some(made))
}

/// Whether an MSP folder has an identity already: one of ours, which is written whole or not at all, or one from elsewhere.
fn has_identity(msp: &Path) -> bool {
    msp.join("config.yaml").exists() || SigningIdentity::from_msp_dir("", msp).is_ok()
}

impl<'a> Authorities<'a> {
    fn open(
        config: &NetworkConfig,
        layout: &'a OrgLayout,
        domain: &'a str,
        name: &str,
    ) -> Result<Self, CliError> {
        let now = now();
        let ca_life = seconds(config.certificates.ca_life);
        let identities = authority(&layout.identity_root(), format!("ca.{domain}"), domain, ca_life)?;
        let tls = authority(&layout.tls_root(), format!("tlsca.{domain}"), domain, ca_life)?;
        let authorities = Self {
            layout,
            domain,
            identities,
            tls,
            now,
            life: seconds(config.certificates.life),
        };
        if !material::is_from_elsewhere(layout) {
            authorities
                .write_org_msp()
                .during(|| format!("organisation {name}"))?;
        }
        Ok(authorities)
    }

    /// The organisation's MSP folder as it is at first.
    fn write_org_msp(&self) -> Result<(), CliError> {
        let dir = self.layout.msp();
        let (Some(identities), Some(tls)) = (&self.identities, &self.tls) else {
            return Ok(());
        };
        if dir.join("config.yaml").exists() {
            return Ok(());
        }
        let contents = MspDirContents {
            cacerts: vec![(
                format!("ca.{}-cert.pem", self.domain),
                identities.certificate().clone(),
            )],
            tlscacerts: vec![(
                format!("tlsca.{}-cert.pem", self.domain),
                tls.certificate().clone(),
            )],
            node_ous: true,
            ..MspDirContents::default()
        };
        write_msp_dir(&dir, &contents).during(|| format!("cannot write the MSP folder {}", dir.display()))
    }

    /// A member's MSP folder: what the organisation's has, and the member's own certificate and key.
    fn write_msp(
        &self,
        dir: &Path,
        (name, certificate, key): (&str, &Certificate, &PrivateKey),
    ) -> Result<(), CliError> {
        let contents = MspDirContents {
            signcert: Some((format!("{name}-cert.pem"), certificate.clone())),
            key: Some(key.clone()),
            ..MspDirContents::default()
        };
        write_msp_dir(dir, &contents).during(|| format!("cannot write the MSP folder {}", dir.display()))?;
        // Its config.yaml comes last, since its presence says that the rest is there.
        material::copy_public_msp(&self.layout.msp(), dir)
    }

    fn withheld(&self, what: &str) -> CliError {
        CliError::said(format!(
            "there is no certificate of {what} in the material of {domain}, and no key of the authority of {domain} here to \
             issue one: put its folder into the material, or the authority's key (`ca/priv_sk`, `tlsca/priv_sk`)",
            domain = self.domain
        ))
    }

    fn issue(
        &self,
        from: Option<&CertificateAuthority>,
        key: &PrivateKey,
        subject: Subject<'_>,
        names: (Vec<String>, Vec<IpAddr>),
        usage: Usage,
    ) -> Result<Certificate, CliError> {
        let request = IssueRequest {
            public_key: key.public_key().clone(),
            common_name: subject.name.to_owned(),
            organizational_units: subject
                .role
                .map(|r| r.organizational_unit().to_owned())
                .into_iter()
                .collect(),
            dns_names: names.0,
            ip_addresses: names.1,
            attributes: subject.attributes,
            usage,
            not_before: self.now - CLOCK_SLACK,
            not_after: self.now.saturating_add(self.life),
            subject_extra: SubjectExtra::default(),
        };
        let from = from.ok_or_else(|| self.withheld(subject.name))?;
        from.issue(&request)
            .during(|| format!("cannot issue a certificate for {}", subject.name))
    }

    fn identity(&self, member: &MemberLayout, subject: Subject<'_>) -> Result<(), CliError> {
        if has_identity(&member.msp()) {
            return Ok(());
        }
        let key = new_key()?;
        let names = (Vec::new(), Vec::new());
        let issuer = self.identities.as_ref();
        let name = subject.name;
        let certificate = self.issue(issuer, &key, subject, names, Usage::Identity)?;
        self.write_msp(&member.msp(), (name, &certificate, &key))
    }

    /// TLS files of the organisation's CA server.
    fn ca_server(&self, ca: &CaNode) -> Result<(), CliError> {
        if self.identities.is_none() || self.tls.is_none() {
            return Err(CliError::said(format!(
                "organisation {domain} has a ca in the network file, but the keys of its authorities are not in its material: \
                 leave out the ca and let {domain} run its own, or add the keys (`ca/priv_sk`, `tlsca/priv_sk`)",
                domain = self.domain
            )));
        }
        let host = format!("ca.{}", self.domain);
        let address = external(ca.external_address.as_deref(), &ca.listen);
        let member = self.layout.node("ca-server", &host);
        self.server_tls(&member, &host, &[&ca.listen, &address])
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
        let certificate = self.issue(self.tls.as_ref(), &key, Subject::tls(name), names, Usage::Tls)?;
        write_key(&member.tls_key(), &key)?;
        let roots = self.layout.tls_ca_certificate();
        let roots =
            std::fs::read_to_string(&roots).map_err(|source| CliError::ReadFile { path: roots, source })?;
        write(&member.tls_roots(), &roots)?;
        let mut text = certificate.to_pem();
        // Others know the root; an authority below it must come along.
        if let Some(issuer) = self.tls.as_ref().map(CertificateAuthority::certificate)
            && !issuer.is_signed_by(issuer)
        {
            text.push_str(&issuer.to_pem());
        }
        // Last, since its presence says that the rest is there.
        write(&member.tls_certificate(), &text)
    }

    fn node(
        &self,
        member: &MemberLayout,
        host: &str,
        addresses: &[&str],
        role: Role,
    ) -> Result<(), CliError> {
        self.identity(member, Subject::member(host, role))?;
        self.server_tls(member, host, addresses)
    }

    fn user(&self, name: &str, role: Role, attributes: BTreeMap<String, String>) -> Result<(), CliError> {
        let member = self.layout.user(name);
        let full = format!("{name}@{}", self.domain);
        let subject = Subject {
            attributes,
            ..Subject::member(&full, role)
        };
        self.identity(&member, subject)?;
        self.tls_files(&member, &full, (Vec::new(), Vec::new()))
    }
}
