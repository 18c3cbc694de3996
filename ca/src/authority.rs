//! One authority: its signing root, its registry, and the rules for issuing (spec 06 §3, §4).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::distr::{Alphanumeric, SampleString};
use selvedge_msp::{CertificateAuthority, IssueRequest, SubjectExtra, Usage, csr};

use crate::CaServerError;
use crate::config::AuthorityConfig;
use crate::error::Refusal;
use crate::registry::{Attribute, Identity, Inserted, Registry};

/// Length of secrets that the server makes. Longer than Fabric's 12, since they are guessable online.
const SECRET_LENGTH: usize = 24;
/// Go's default cost: npm's client gives up after 3 s, and small machines are slow.
const BCRYPT_COST: u32 = 10;
const MAX_NAME_BYTES: usize = 64;

/// An opened authority.
pub(crate) struct Authority {
    pub(crate) name: String,
    pub(crate) registry: Registry,
    signer: CertificateAuthority,
    max_enrollments: i64,
    certificate_seconds: i64,
}

/// An attribute that a client wants in its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttributeRequest {
    pub(crate) name: String,
    pub(crate) optional: bool,
}

/// What a client asks for when it enrols.
#[derive(Debug, Clone, Default)]
pub(crate) struct EnrollmentRequest {
    pub(crate) csr_pem: String,
    pub(crate) profile: String,
    /// All attributes marked `ecert` if absent.
    pub(crate) attributes: Option<Vec<AttributeRequest>>,
    pub(crate) hosts: Vec<String>,
}

/// What a registrar asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistrationRequest {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) affiliation: String,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) secret: String,
    pub(crate) max_enrollments: i64,
}

pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

pub(crate) fn hash_secret(secret: &str) -> Result<String, Refusal> {
    bcrypt::hash(secret, BCRYPT_COST).map_err(|e| Refusal::internal(75, e))
}

fn random_secret() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), SECRET_LENGTH)
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
        let signer = CertificateAuthority::from_pem(&read(&config.certificate)?, &read(&config.key)?)
            .map_err(|e| CaServerError::Authority {
                name: config.name.clone(),
                why: e.to_string(),
            })?;
        let path = data_dir.join(format!("{}.db", config.name));
        let registry = Registry::open(&path)?;
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
            signer,
            max_enrollments: config.max_enrollments,
            certificate_seconds: config.certificate_seconds,
        };
        if authority
            .registry
            .identity(&config.bootstrap.id)
            .map_err(failed)?
            .is_none()
        {
            let secret = bootstrap_secret(&config.bootstrap.secret_file)?;
            let identity =
                bootstrap_identity(&config.bootstrap.id, &secret).map_err(|e| CaServerError::Authority {
                    name: config.name.clone(),
                    why: e.to_string(),
                })?;
            authority.registry.insert(&identity).map_err(failed)?;
        }
        Ok(authority)
    }

    /// The certificate chain as PEM: this authority is a root, so the chain is itself.
    pub(crate) fn chain_pem(&self) -> String {
        self.signer.certificate().to_pem()
    }

    pub(crate) fn root(&self) -> &selvedge_msp::Certificate {
        self.signer.certificate()
    }

    /// Issues a certificate for `identity`, who has been authenticated.
    pub(crate) fn issue(&self, identity: &Identity, request: &EnrollmentRequest) -> Result<String, Refusal> {
        let csr = csr::parse(request.csr_pem.as_bytes())
            .map_err(|e| Refusal::new(400, 31, format!("the certificate request is not usable: {e}")))?;
        if csr.common_name.len() > MAX_NAME_BYTES {
            return Err(Refusal::new(
                400,
                80,
                format!("the common name is longer than {MAX_NAME_BYTES} bytes"),
            ));
        }
        if csr.common_name != identity.id {
            return Err(Refusal::new(
                403,
                77,
                format!(
                    "the certificate request is for '{}', but the caller is '{}'",
                    csr.common_name, identity.id
                ),
            ));
        }
        let usage = match request.profile.as_str() {
            "" => Usage::Identity,
            "tls" => Usage::Tls,
            "ca" if identity.attribute("hf.IntermediateCA") == Some("true") => Usage::Ca,
            "ca" => {
                return Err(Refusal::authorization(format!(
                    "{} has no attribute hf.IntermediateCA",
                    identity.id
                )));
            }
            other => {
                return Err(Refusal::new(
                    400,
                    31,
                    format!("there is no profile '{other}'; use '', 'tls' or 'ca'"),
                ));
            }
        };
        let attributes = wanted_attributes(identity, request.attributes.as_deref())?;

        let mut organizational_units = vec![identity.kind.clone()];
        organizational_units.extend(
            identity
                .affiliation
                .split('.')
                .filter(|part| !part.is_empty())
                .map(str::to_owned),
        );
        let mut dns_names = csr.dns_names;
        let mut ip_addresses = csr.ip_addresses;
        for host in &request.hosts {
            match host.parse() {
                Ok(ip) => ip_addresses.push(ip),
                Err(_) => dns_names.push(host.clone()),
            }
        }
        let root = self.signer.certificate();
        let now = unix_now() / 60 * 60;
        let issue = IssueRequest {
            public_key: csr.public_key,
            common_name: identity.id.clone(),
            organizational_units,
            dns_names,
            ip_addresses,
            attributes,
            usage,
            not_before: root.not_before(),
            not_after: root.not_after().min(now.saturating_add(self.certificate_seconds)),
            subject_extra: SubjectExtra::default(),
        };
        let certificate = self.signer.issue(&issue).map_err(|e| {
            Refusal::new(
                400,
                31,
                format!("no certificate can be issued for this request: {e}"),
            )
        })?;
        let pem = certificate.to_pem();
        self.registry
            .add_certificate(
                &hex::encode(certificate.serial()),
                &certificate
                    .authority_key_id()
                    .map(hex::encode)
                    .unwrap_or_default(),
                &identity.id,
                &pem,
                certificate.not_after(),
            )
            .map_err(|e| Refusal::internal(0, e))?;
        Ok(pem)
    }

    /// Registers an identity on behalf of `registrar`; returns its secret.
    pub(crate) fn register(
        &self,
        registrar: &Identity,
        request: RegistrationRequest,
    ) -> Result<String, Refusal> {
        if request.id.is_empty() || request.id.len() > MAX_NAME_BYTES {
            return Err(Refusal::new(
                400,
                0,
                format!("an identity needs a name of 1 to {MAX_NAME_BYTES} bytes"),
            ));
        }
        let kind = if request.kind.is_empty() {
            registrar.kind.clone()
        } else {
            request.kind
        };
        if !crate::attributes::allows_role(registrar.attribute("hf.Registrar.Roles"), &kind) {
            return Err(Refusal::authorization(format!(
                "{} may not register a {kind}",
                registrar.id
            )));
        }
        let affiliation = match request.affiliation.as_str() {
            "" => registrar.affiliation.clone(),
            "." => String::new(),
            other => other.to_owned(),
        };
        self.check_affiliation(registrar, &affiliation)?;
        crate::attributes::check(registrar, &request.attributes)?;
        let max_enrollments = self.allowed_enrollments(request.max_enrollments)?;

        let secret = if request.secret.is_empty() {
            random_secret()
        } else {
            request.secret
        };
        let mut attributes = request.attributes;
        for (name, value) in [
            ("hf.EnrollmentID", &request.id),
            ("hf.Type", &kind),
            ("hf.Affiliation", &affiliation),
        ] {
            attributes.push(Attribute {
                name: name.to_owned(),
                value: value.clone(),
                ecert: true,
            });
        }
        let identity = Identity {
            id: request.id,
            secret_hash: hash_secret(&secret)?,
            kind,
            affiliation,
            attributes,
            state: 0,
            max_enrollments,
            wrong_attempts: 0,
        };
        match self
            .registry
            .insert(&identity)
            .map_err(|e| Refusal::internal(52, e))?
        {
            Inserted::New => Ok(secret),
            Inserted::Exists => Err(Refusal::new(
                409,
                74,
                format!("Identity '{}' is already registered", identity.id),
            )),
        }
    }

    /// A registrar covers its own affiliation and everything below it; the empty one covers all.
    fn check_affiliation(&self, registrar: &Identity, affiliation: &str) -> Result<(), Refusal> {
        let own = registrar.affiliation.as_str();
        let covered = own.is_empty()
            || affiliation == own
            || affiliation
                .strip_prefix(own)
                .is_some_and(|rest| rest.starts_with('.'));
        if !covered {
            return Err(Refusal::authorization(format!(
                "{} has no authority over '{affiliation}'",
                registrar.id
            )));
        }
        let known = affiliation.is_empty()
            || self
                .registry
                .has_affiliation(affiliation)
                .map_err(|e| Refusal::internal(63, e))?;
        if known {
            Ok(())
        } else {
            Err(Refusal::authorization(format!(
                "there is no affiliation '{affiliation}'"
            )))
        }
    }

    fn allowed_enrollments(&self, requested: i64) -> Result<i64, Refusal> {
        let refuse = |text: String| Err(Refusal::new(400, 82, text));
        match (self.max_enrollments, requested) {
            (0, _) => refuse("Registration is disabled".to_owned()),
            (_, r) if r < -1 => refuse(format!("{r} is not a number of enrollments")),
            (-1, 0) => Ok(-1),
            (-1, r) => Ok(r),
            (max, 0) => Ok(max),
            (max, r) if r == -1 || r > max => refuse(format!(
                "{r} enrollments are more than this authority allows ({max})"
            )),
            (_, r) => Ok(r),
        }
    }
}

fn wanted_attributes(
    identity: &Identity,
    requests: Option<&[AttributeRequest]>,
) -> Result<BTreeMap<String, String>, Refusal> {
    let Some(requests) = requests else {
        let ecert = identity.attributes.iter().filter(|a| a.ecert);
        return Ok(ecert.map(|a| (a.name.clone(), a.value.clone())).collect());
    };
    let mut wanted = BTreeMap::new();
    let mut missing = Vec::new();
    for request in requests {
        match identity.attribute(&request.name) {
            Some(value) => drop(wanted.insert(request.name.clone(), value.to_owned())),
            None if request.optional => {}
            None => missing.push(request.name.as_str()),
        }
    }
    if missing.is_empty() {
        Ok(wanted)
    } else {
        Err(Refusal::new(
            500,
            81,
            format!(
                "The following required attributes are missing: [{}]",
                missing.join(" ")
            ),
        ))
    }
}

fn bootstrap_secret(path: &Path) -> Result<String, CaServerError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if path.exists() {
        let text = std::fs::read_to_string(path).map_err(|source| CaServerError::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        return Ok(text.trim().to_owned());
    }
    let failed = |source| CaServerError::WriteFile {
        path: path.to_owned(),
        source,
    };
    let secret = random_secret();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(secret.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    Ok(secret)
}

/// The first registrar may do everything (spec 06 §5).
fn bootstrap_identity(id: &str, secret: &str) -> Result<Identity, Refusal> {
    let attributes = [
        ("hf.Registrar.Roles", "*"),
        ("hf.Registrar.DelegateRoles", "*"),
        ("hf.Registrar.Attributes", "*"),
        ("hf.Revoker", "true"),
        ("hf.IntermediateCA", "true"),
        ("hf.GenCRL", "true"),
        ("hf.AffiliationMgr", "true"),
    ];
    Ok(Identity {
        id: id.to_owned(),
        secret_hash: hash_secret(secret)?,
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
    })
}
