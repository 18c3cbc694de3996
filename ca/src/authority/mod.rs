//! One authority: its signing certificate, its registry, and its rules (spec 06 §3, §4).

mod affiliations;
mod identities;
mod issue;
mod issued;
mod revocation;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selvedge_msp::{Certificate, CertificateAuthority, pem};

use crate::CaServerError;
use crate::config::AuthorityConfig;
use crate::error::Refusal;
use crate::identities::{Identities, Registered};
use crate::ldap::Directory;
use crate::registry::{Attribute, Identity, Registry};
use crate::secrets;

pub(crate) use affiliations::AffiliationTree;
pub(crate) use identities::{IdentityChange, RegistrationRequest};
pub(crate) use issue::{AttributeRequest, EnrollmentRequest};
pub(crate) use revocation::{CrlRequest, RevocationRequest, reason_code};

/// An opened authority.
pub(crate) struct Authority {
    pub(crate) name: String,
    pub(crate) registry: Arc<Registry>,
    pub(crate) identities: Box<dyn Identities>,
    /// Enrolments an identity may be given: -1 for no limit, 0 disables registering and enrolling.
    pub(crate) max_enrollments: i64,
    /// Wrong secrets in a row before an identity is locked.
    pub(crate) password_attempts: u32,
    pub(crate) reenroll_grace: Duration,
    signer: CertificateAuthority,
    previous: Vec<Previous>,
    /// The signer's certificate and those above it, the root last.
    chain: Vec<Certificate>,
    certificate_seconds: i64,
    ca_certificate_seconds: i64,
    crl_expiry: Duration,
    allow_identity_removal: bool,
    allow_affiliation_removal: bool,
}

/// An authority that this one has taken over from.
struct Previous {
    certificate: Certificate,
    /// Signs revocation lists of what it has issued.
    signer: Option<CertificateAuthority>,
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The signer and those above it. Refuses a chain with a gap or without an end, which no client could verify.
fn chain_to_root(signer: &Certificate, above: &str) -> Result<Vec<Certificate>, String> {
    let mut chain = vec![signer.clone()];
    for block in pem::all_blocks(above.as_bytes()) {
        let certificate =
            Certificate::from_der(&block.content).map_err(|e| format!("its chain cannot be read: {e}"))?;
        if chain
            .last()
            .is_some_and(|below| !below.is_signed_by(&certificate))
        {
            return Err(format!(
                "its chain has a gap: '{}' is not signed by '{}'; order it from the issuer up to the root",
                chain.last().map(Certificate::subject).unwrap_or_default(),
                certificate.subject()
            ));
        }
        chain.push(certificate);
    }
    match chain.last() {
        Some(top) if top.is_signed_by(top) => Ok(chain),
        top => Err(format!(
            "its chain ends at '{}', which is no root: give the certificates above it as chain",
            top.map(Certificate::subject).unwrap_or_default()
        )),
    }
}

impl Authority {
    /// Opens an authority; makes its registry and bootstrap identity at the first start.
    pub(crate) fn open(config: &AuthorityConfig, data_dir: &Path) -> Result<Self, CaServerError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| CaServerError::ReadFile {
                path: path.to_owned(),
                source,
            })
        };
        let unusable = |why: String| CaServerError::Authority {
            name: config.name.clone(),
            why,
        };
        let signer = CertificateAuthority::from_pem(&read(&config.certificate)?, &read(&config.key)?)
            .map_err(|e| unusable(e.to_string()))?;
        let mut previous = Vec::new();
        for old in &config.previous {
            let text = read(&old.certificate)?;
            let certificate = Certificate::from_pem(text.as_bytes())
                .map_err(|e| unusable(format!("{}: {e}", old.certificate.display())))?;
            let signer = match &old.key {
                None => None,
                Some(key) => Some(
                    CertificateAuthority::from_pem(&text, &read(key)?)
                        .map_err(|e| unusable(format!("{}: {e}", old.certificate.display())))?,
                ),
            };
            previous.push(Previous { certificate, signer });
        }
        let above = config.chain.as_deref().map(read).transpose()?.unwrap_or_default();
        let chain = chain_to_root(signer.certificate(), &above).map_err(unusable)?;
        let path = data_dir.join(format!("{}.db", config.name));
        let registry = Arc::new(Registry::open(&path)?);
        let identities: Box<dyn Identities> = match &config.ldap {
            None => Box::new(Registered(Arc::clone(&registry))),
            Some(ldap) => Box::new(Directory::open(config, ldap, Arc::clone(&registry))?),
        };
        let failed = |source| CaServerError::Registry {
            path: path.clone(),
            source,
        };
        for (org, departments) in &config.affiliations {
            registry.add_affiliation(org).map_err(failed)?;
            for department in departments {
                registry
                    .add_affiliation(&format!("{org}.{department}"))
                    .map_err(failed)?;
            }
        }
        let authority = Self {
            name: config.name.clone(),
            registry,
            identities,
            max_enrollments: config.max_enrollments,
            password_attempts: config.password_attempts,
            reenroll_grace: config.reenroll_grace,
            signer,
            previous,
            chain,
            certificate_seconds: config.certificate_seconds,
            ca_certificate_seconds: config.ca_certificate_seconds,
            crl_expiry: config.crl_expiry,
            allow_identity_removal: config.allow_identity_removal,
            allow_affiliation_removal: config.allow_affiliation_removal,
        };
        if authority
            .registry
            .identity(&config.bootstrap.id)
            .map_err(failed)?
            .is_none()
        {
            let hash = bootstrap_secret(&config.bootstrap.secret_file, &config.name)?;
            let identity = bootstrap_identity(&config.bootstrap.id, hash);
            authority.registry.insert(&identity).map_err(failed)?;
        }
        for file in &config.issued {
            authority.take_over(file).map_err(failed)?;
        }
        Ok(authority)
    }

    /// The certificate chain as PEM, this authority first, the root last.
    pub(crate) fn chain_pem(&self) -> String {
        self.chain.iter().map(Certificate::to_pem).collect()
    }

    /// The certificates of the chain, this authority's first, the root last.
    pub(crate) fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The certificate that signs.
    pub(crate) fn certificate(&self) -> &Certificate {
        self.signer.certificate()
    }

    /// Whether this authority, or one that it took over from, has signed the certificate.
    pub(crate) fn issued(&self, certificate: &Certificate) -> bool {
        let previous = self.previous.iter().map(|p| &p.certificate);
        std::iter::once(self.certificate())
            .chain(previous)
            .any(|issuer| certificate.is_signed_by(issuer))
    }

    /// An identity by name, or 404/63.
    pub(crate) fn known(&self, id: &str) -> Result<Identity, Refusal> {
        let found = self.identities.find(id)?;
        found.ok_or_else(|| Refusal::new(404, 63, format!("there is no identity '{id}'")))
    }
}

/// The hash of the first registrar's secret, which is in the file, or is drawn and written there.
fn bootstrap_secret(path: &Path, authority: &str) -> Result<String, CaServerError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let unusable = |refusal: Refusal| CaServerError::Authority {
        name: authority.to_owned(),
        why: format!("the secret in {}: {refusal}", path.display()),
    };
    if path.exists() {
        let text = std::fs::read_to_string(path).map_err(|source| CaServerError::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        return secrets::hash_chosen(text.trim()).map_err(unusable);
    }
    let failed = |source| CaServerError::WriteFile {
        path: path.to_owned(),
        source,
    };
    let (secret, hash) = secrets::draw().map_err(unusable)?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(secret.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    Ok(hash)
}

/// The first registrar may do everything (spec 06 §5).
fn bootstrap_identity(id: &str, secret_hash: String) -> Identity {
    let attributes = [
        ("hf.Registrar.Roles", "*"),
        ("hf.Registrar.DelegateRoles", "*"),
        ("hf.Registrar.Attributes", "*"),
        ("hf.Revoker", "true"),
        ("hf.IntermediateCA", "true"),
        ("hf.GenCRL", "true"),
        ("hf.AffiliationMgr", "true"),
    ];
    Identity {
        id: id.to_owned(),
        secret_hash,
        kind: "client".to_owned(),
        affiliation: String::new(),
        attributes: attributes
            .iter()
            .map(|(n, v)| Attribute {
                name: (*n).to_owned(),
                value: (*v).to_owned(),
                ecert: false,
            })
            .collect(),
        state: 0,
        max_enrollments: -1,
        wrong_attempts: 0,
    }
}
