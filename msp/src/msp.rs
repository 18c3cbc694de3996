//! One membership service provider: who belongs to an organisation and in which role (spec 02 §13).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use selvedge_proto::common::msp_role::MspRoleType;
use selvedge_proto::msp::FabricMspConfig;

use crate::cache::Cache;
use crate::certificate::Certificate;
use crate::chain::{CaTree, certifiers_id};
use crate::identity::Identity;
use crate::identity_error::IdentityError;
use crate::principal::{Principal, PrincipalError, role_name};

/// Members remembered as valid; each takes a few dozen bytes.
pub(crate) const CACHED_MEMBERS: usize = 32_768;
/// Refusals remembered. They carry texts, so there are fewer, and only those about certificates of usual size.
pub(crate) const CACHED_REFUSALS: usize = 512;
const MAX_REFUSED_CERTIFICATE: usize = 8 * 1024;

/// Which rules apply, by channel capability (spec 02 §13.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MspVersion {
    /// No NodeOUs.
    V1_0,
    /// NodeOUs for clients and peers.
    V1_1,
    /// Adds the ANONYMITY and COMBINED principals.
    V1_3,
    /// Adds NodeOUs for admins and orderers; also for capability V2_0.
    V1_4_3,
    /// Adds Ed25519 keys.
    V3_0,
}

impl MspVersion {
    /// The newest, which a node's local MSP uses.
    pub const LATEST: Self = Self::V3_0;
}

/// One of the four NodeOU identifiers.
pub(crate) struct NodeOu {
    pub(crate) role: MspRoleType,
    pub(crate) name: String,
    /// Empty: any CA of the MSP.
    pub(crate) certifiers_id: Vec<u8>,
}

/// The MSP of one organisation. Immutable; verdicts about certificates are remembered.
pub struct Msp {
    pub(crate) id: Arc<str>,
    pub(crate) version: MspVersion,
    pub(crate) config: FabricMspConfig,
    pub(crate) cas: CaTree,
    /// SHA-256 of the certificates in the list of admins.
    pub(crate) admins: HashSet<[u8; 32]>,
    /// Serial numbers revoked by each CA (SHA-256 of its certificate).
    pub(crate) revoked: HashMap<[u8; 32], HashSet<Vec<u8>>>,
    /// organizational_unit_identifiers: name and certifiers id.
    pub(crate) allowed_units: Vec<(String, [u8; 32])>,
    /// Empty when NodeOUs are off.
    pub(crate) node_ous: Vec<NodeOu>,
    /// Certifiers id of certificates that were found valid, by SHA-256.
    pub(crate) members: Cache<[u8; 32], [u8; 32]>,
    pub(crate) refusals: Cache<[u8; 32], Arc<IdentityError>>,
}

/// What was found out about a certificate: the certifiers id of a valid one.
pub(crate) type Verdict = Result<[u8; 32], Arc<IdentityError>>;

impl std::fmt::Debug for Msp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Msp({}, {:?})", self.id, self.version)
    }
}

impl Msp {
    /// The MSP id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The rules that it applies.
    #[must_use]
    pub fn version(&self) -> MspVersion {
        self.version
    }

    /// The configuration that it was made from.
    #[must_use]
    pub fn config(&self) -> &FabricMspConfig {
        &self.config
    }

    /// TLS root and intermediate certificates, PEM, one each.
    #[must_use]
    pub fn ca_tls_roots(&self) -> Vec<Vec<u8>> {
        let roots = self.config.tls_root_certs.iter();
        roots
            .chain(&self.config.tls_intermediate_certs)
            .map(|pem| pem.to_vec())
            .collect()
    }

    /// Makes an identity of `id_bytes` (PEM text of a certificate). The certificate's own signature is brought to low S
    /// first, so that everything that compares certificates compares the same bytes (spec 02 §13.3).
    ///
    /// # Errors
    /// When the text holds no certificate.
    pub fn deserialize(&self, id_bytes: &[u8]) -> Result<Identity, IdentityError> {
        let certificate = Certificate::from_pem(id_bytes).map_err(|source| IdentityError::Certificate {
            msp_id: self.id.to_string(),
            source,
        })?;
        Ok(Identity::new(
            Arc::clone(&self.id),
            self.cas.normalise(certificate),
        ))
    }

    /// Whether the identity is a valid member: key, chain, revocation, organizational units (spec 02 §13.4). Does not
    /// depend on the time of day.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn validate(&self, identity: &Identity) -> Result<(), IdentityError> {
        self.verdict(identity).map(|_| ()).map_err(|e| (*e).clone())
    }

    fn verdict(&self, identity: &Identity) -> Verdict {
        if identity.msp_id() != &*self.id {
            let (expected, got) = (self.id.to_string(), identity.msp_id().to_owned());
            return Err(Arc::new(IdentityError::OtherMsp { expected, got }));
        }
        let certificate = identity.certificate();
        let key = certificate.sha256();
        if let Some(certifiers) = self.members.get(&key) {
            return Ok(certifiers);
        }
        if let Some(refusal) = self.refusals.get(&key) {
            return Err(refusal);
        }
        let verdict = self.examine(certificate).map_err(Arc::new);
        match &verdict {
            Ok(certifiers) => self.members.insert(key, *certifiers),
            Err(e) if certificate.der().len() <= MAX_REFUSED_CERTIFICATE => {
                self.refusals.insert(key, Arc::clone(e))
            }
            Err(_) => {}
        }
        verdict
    }

    fn examine(&self, certificate: &Certificate) -> Result<[u8; 32], IdentityError> {
        let key_allowed = match certificate.public_key() {
            Some(key) => !key.is_ed25519() || self.version >= MspVersion::V3_0,
            None => false,
        };
        if !key_allowed {
            return Err(IdentityError::KeyAlgorithm {
                subject: certificate.label(),
            });
        }
        if certificate.is_ca() {
            return Err(IdentityError::IsCa {
                subject: certificate.label(),
            });
        }
        let chain = self.cas.path(certificate)?;
        let Some((issuer, above)) = chain.get(1).map(|issuer| (*issuer, &chain[1..])) else {
            let reason = "it is itself one of the roots".to_owned();
            return Err(IdentityError::chain(certificate, reason));
        };
        if self.cas.is_internal(issuer) {
            return Err(IdentityError::InternalNode {
                subject: certificate.label(),
                issuer: issuer.label(),
            });
        }
        self.check_revocation(certificate, issuer)?;
        let certifiers = certifiers_id(above);
        self.check_units(certificate, &certifiers)?;
        Ok(certifiers)
    }

    pub(crate) fn check_revocation(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
    ) -> Result<(), IdentityError> {
        match self.revoked.get(&issuer.sha256()) {
            Some(serials) if serials.contains(certificate.serial()) => Err(IdentityError::Revoked {
                subject: certificate.label(),
                serial: hex::encode(certificate.serial()),
            }),
            _ => Ok(()),
        }
    }

    fn check_units(&self, certificate: &Certificate, certifiers: &[u8; 32]) -> Result<(), IdentityError> {
        let units = certificate.organizational_units();
        let allowed = |unit: &String| {
            self.allowed_units
                .iter()
                .any(|(name, id)| name == unit && id == certifiers)
        };
        if !self.allowed_units.is_empty() && !units.iter().any(allowed) {
            let names: Vec<&str> = self.allowed_units.iter().map(|(name, _)| name.as_str()).collect();
            let reason = format!(
                "{} demands one of {} from the right CA",
                self.id,
                names.join(", ")
            );
            return Err(IdentityError::units(certificate, reason));
        }
        if self.node_ous.is_empty() {
            return Ok(());
        }
        let mut roles = 0;
        for unit in units {
            // Of two roles with one name the later one decides, as in Fabric's map.
            let Some(node_ou) = self.node_ous.iter().rev().find(|n| n.name == *unit) else {
                continue;
            };
            if !node_ou.certifiers_id.is_empty() && node_ou.certifiers_id != certifiers {
                let reason = format!("'{unit}' counts in {} only from another CA of it", self.id);
                return Err(IdentityError::units(certificate, reason));
            }
            roles += 1;
        }
        if roles == 1 {
            return Ok(());
        }
        let names: Vec<String> = self.node_ous.iter().map(|n| format!("'{}'", n.name)).collect();
        let reason = format!(
            "{} demands exactly one of {} (its NodeOUs), and there are {roles}",
            self.id,
            names.join(", ")
        );
        Err(IdentityError::units(certificate, reason))
    }

    /// Whether the identity is the principal (spec 02 §13.5).
    ///
    /// # Errors
    /// Why it is not.
    pub fn satisfies(&self, identity: &Identity, principal: &Principal) -> Result<(), PrincipalError> {
        match principal {
            Principal::Role { msp_id, role } => {
                self.check_own(msp_id)?;
                self.satisfies_role(identity, *role)
            }
            Principal::OrganizationUnit(unit) => {
                self.check_own(&unit.msp_identifier)?;
                let certifiers = self.valid(identity)?;
                let name = &unit.organizational_unit_identifier;
                let has = identity.certificate().organizational_units().contains(name);
                if has && unit.certifiers_identifier == certifiers.as_slice() {
                    Ok(())
                } else {
                    Err(PrincipalError::OrganizationUnit { unit: name.clone() })
                }
            }
            Principal::Identity(wanted) => {
                self.check_own(&wanted.mspid)?;
                let wanted = self
                    .deserialize(&wanted.id_bytes)
                    .map_err(PrincipalError::Invalid)?;
                if wanted.certificate() != identity.certificate() {
                    return Err(PrincipalError::Identity);
                }
                self.valid(identity).map(|_| ())
            }
            Principal::Anonymity { .. } | Principal::Combined(_) if self.version < MspVersion::V1_3 => {
                let reason = "ANONYMITY and COMBINED need channel capability V1_3".to_owned();
                Err(PrincipalError::Malformed(reason))
            }
            Principal::Anonymity { nominal: true } => Ok(()),
            Principal::Anonymity { nominal: false } => Err(PrincipalError::Anonymous),
            Principal::Combined(parts) => parts.iter().try_for_each(|part| self.satisfies(identity, part)),
            Principal::Malformed(reason) => Err(PrincipalError::Malformed(reason.clone())),
        }
    }

    fn check_own(&self, msp_id: &str) -> Result<(), PrincipalError> {
        if msp_id == &*self.id {
            return Ok(());
        }
        Err(PrincipalError::OtherMsp {
            expected: msp_id.to_owned(),
            got: self.id.to_string(),
        })
    }

    fn valid(&self, identity: &Identity) -> Result<[u8; 32], PrincipalError> {
        self.verdict(identity)
            .map_err(|e| PrincipalError::Invalid((*e).clone()))
    }

    fn satisfies_role(&self, identity: &Identity, role: MspRoleType) -> Result<(), PrincipalError> {
        if role == MspRoleType::Admin {
            if identity.msp_id() == &*self.id && self.admins.contains(&identity.certificate().sha256()) {
                return Ok(());
            }
            if self.version < MspVersion::V1_4_3 {
                return Err(self.not_role(
                    role,
                    "its certificate is not in the MSP's list of admins".to_owned(),
                ));
            }
        }
        self.valid(identity)?;
        if role == MspRoleType::Member {
            Ok(())
        } else {
            self.has_node_ou(identity.certificate(), role)
        }
    }

    /// Whether the certificate shows the NodeOU of `role`. The certificate must have been found valid.
    pub(crate) fn has_node_ou(
        &self,
        certificate: &Certificate,
        role: MspRoleType,
    ) -> Result<(), PrincipalError> {
        if self.node_ous.is_empty() {
            let reason = "NodeOUs are off in this MSP, so roles cannot be told apart".to_owned();
            return Err(self.not_role(role, reason));
        }
        let units = certificate.organizational_units();
        let Some(wanted) = self.node_ous.iter().find(|n| n.role == role) else {
            return Err(self.not_role(role, "the MSP defines no NodeOU for that role".to_owned()));
        };
        if units.contains(&wanted.name) {
            return Ok(());
        }
        let is = self
            .node_ous
            .iter()
            .find(|n| units.contains(&n.name))
            .map(|n| role_name(n.role));
        let reason = match is {
            Some(is) => format!("its certificate has the role {is}"),
            None => "its certificate has no role".to_owned(),
        };
        Err(self.not_role(role, reason))
    }

    fn not_role(&self, role: MspRoleType, reason: String) -> PrincipalError {
        let article = if matches!(role, MspRoleType::Admin | MspRoleType::Orderer) {
            "an"
        } else {
            "a"
        };
        PrincipalError::Role {
            article,
            role: role_name(role),
            msp_id: self.id.to_string(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests;
