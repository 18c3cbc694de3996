//! Making an MSP from its configuration, with Fabric's checks (spec 02 §13.1, §13.2).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use selvedge_proto::common::msp_role::MspRoleType;
use selvedge_proto::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, MspConfig};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use crate::cache::Cache;
use crate::certificate::{Certificate, CertificateError};
use crate::chain::{CaTree, certifiers_id};
use crate::identity::Identity;
use crate::identity_error::IdentityError;
use crate::msp::{CACHED_MEMBERS, CACHED_REFUSALS, Msp, MspVersion, NodeOu};
use crate::pem;

/// Why a configuration is not an MSP. Each names the MSP and the element.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MspError {
    /// Not pb(FabricMSPConfig).
    #[error("the MSP configuration cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Idemix or another kind.
    #[error("MSPs of type {0} are not supported, only X.509 (type 0)")]
    UnsupportedType(i32),
    /// No MSP id.
    #[error("the MSP configuration has no name (MSP id)")]
    NoName,
    /// A hash family that is not SHA-2.
    #[error("MSP {msp_id}: hash '{hash}' is not supported, only SHA2 and SHA256")]
    UnsupportedHash {
        /// The MSP.
        msp_id: String,
        /// The configured name.
        hash: String,
    },
    /// No root certificate.
    #[error("MSP {0}: expected at least one root CA certificate")]
    NoRoot(String),
    /// A certificate element that cannot be read.
    #[error("MSP {msp_id}: {element}: {source}")]
    Certificate {
        /// The MSP.
        msp_id: String,
        /// Which one, such as "root certificate 1".
        element: String,
        /// Why.
        source: CertificateError,
    },
    /// A certificate element that breaks a rule.
    #[error("MSP {msp_id}: {element}: {reason}")]
    Rule {
        /// The MSP.
        msp_id: String,
        /// Which one.
        element: String,
        /// The rule.
        reason: String,
    },
    /// A certificate that is not valid in this MSP.
    #[error("MSP {msp_id}: {element} is not valid: {source}")]
    Invalid {
        /// The MSP.
        msp_id: String,
        /// Which one.
        element: String,
        /// Why.
        source: IdentityError,
    },
    /// Nobody can be admin.
    #[error("MSP {0}: administrators must be declared when no admin ou classification is set")]
    NoAdmin(String),
}

impl Msp {
    /// Builds an MSP from its configuration.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn new(config: &MspConfig, version: MspVersion) -> Result<Self, MspError> {
        if config.r#type != 0 {
            return Err(MspError::UnsupportedType(config.r#type));
        }
        Self::from_fabric_config(FabricMspConfig::decode(config.config.clone())?, version)
    }

    /// As [`Msp::new`], from the decoded configuration.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn from_fabric_config(config: FabricMspConfig, version: MspVersion) -> Result<Self, MspError> {
        if config.name.is_empty() {
            return Err(MspError::NoName);
        }
        let setup = Setup {
            msp_id: config.name.as_str(),
        };
        setup.check_hashes(&config)?;
        let cas = setup.authorities(&config.root_certs, &config.intermediate_certs, "")?;
        let revoked = setup.revocations(&config.revocation_list, &cas)?;
        let allowed_units = setup.allowed_units(&config.organizational_unit_identifiers, &cas)?;
        let node_ous = setup.node_ous(config.fabric_node_ous.as_ref(), &cas, version)?;
        let mut msp = Self {
            id: Arc::from(config.name.as_str()),
            version,
            admins: HashSet::new(),
            cas,
            revoked,
            allowed_units,
            node_ous,
            members: Cache::new(CACHED_MEMBERS),
            refusals: Cache::new(CACHED_REFUSALS),
            config: FabricMspConfig::default(),
        };
        setup.check_intermediates_not_revoked(&msp)?;
        if !config.tls_root_certs.is_empty() || !config.tls_intermediate_certs.is_empty() {
            setup.authorities(&config.tls_root_certs, &config.tls_intermediate_certs, "TLS ")?;
        }
        msp.admins = setup.admins(&config.admins, &msp)?;
        msp.config = config;
        Ok(msp)
    }
}

struct Setup<'a> {
    msp_id: &'a str,
}

impl Setup<'_> {
    fn rule(&self, element: &str, reason: impl Into<String>) -> MspError {
        MspError::Rule {
            msp_id: self.msp_id.to_owned(),
            element: element.to_owned(),
            reason: reason.into(),
        }
    }

    fn invalid(&self, element: &str, source: IdentityError) -> MspError {
        MspError::Invalid {
            msp_id: self.msp_id.to_owned(),
            element: element.to_owned(),
            source,
        }
    }

    fn certificate(&self, pem: &[u8], element: &str) -> Result<Certificate, MspError> {
        Certificate::from_single_pem(pem).map_err(|source| MspError::Certificate {
            msp_id: self.msp_id.to_owned(),
            element: element.to_owned(),
            source,
        })
    }

    fn check_hashes(&self, config: &FabricMspConfig) -> Result<(), MspError> {
        let Some(crypto) = &config.crypto_config else {
            return Ok(());
        };
        for (hash, supported) in [
            (&crypto.signature_hash_family, "SHA2"),
            (&crypto.identity_identifier_hash_function, "SHA256"),
        ] {
            if !hash.is_empty() && hash != supported {
                return Err(MspError::UnsupportedHash {
                    msp_id: self.msp_id.to_owned(),
                    hash: hash.clone(),
                });
            }
        }
        Ok(())
    }

    /// Reads CA certificates, checks each and finds the inner ones. `kind` is "" or "TLS ".
    fn authorities(&self, roots: &[Bytes], intermediates: &[Bytes], kind: &str) -> Result<CaTree, MspError> {
        let named = |list: &[Bytes], what: &str| -> Result<Vec<Certificate>, MspError> {
            list.iter()
                .enumerate()
                .map(|(i, pem)| self.certificate(pem, &format!("{kind}{what} certificate {}", i + 1)))
                .collect()
        };
        let (roots, intermediates) = (named(roots, "root")?, named(intermediates, "intermediate")?);
        if roots.is_empty() {
            return Err(match kind {
                "" => MspError::NoRoot(self.msp_id.to_owned()),
                _ => self.rule(
                    "TLS intermediate certificate 1",
                    "there is no TLS root certificate for it",
                ),
            });
        }
        let raw = CaTree::new(roots.clone(), intermediates.clone());
        let normalised = |list: Vec<Certificate>| list.into_iter().map(|c| raw.normalise(c)).collect();
        let mut tree = CaTree::new(normalised(roots), normalised(intermediates));
        for ca in tree.all() {
            let element = format!("{kind}CA certificate '{}'", ca.label());
            if !ca.is_ca() {
                return Err(self.rule(&element, "CA Certificate did not have the CA attribute"));
            }
            if ca.subject_key_id().is_none() {
                return Err(self.rule(&element, "it has no subject key identifier"));
            }
            tree.path(ca).map_err(|e| self.invalid(&element, e))?;
        }
        tree.mark_internal()
            .map_err(|e| self.invalid(&format!("the tree of {kind}CAs"), e))?;
        Ok(tree)
    }

    fn check_intermediates_not_revoked(&self, msp: &Msp) -> Result<(), MspError> {
        for ca in msp.cas.all() {
            let element = format!("CA certificate '{}'", ca.label());
            let path = msp.cas.path(ca).map_err(|e| self.invalid(&element, e))?;
            if let Some(issuer) = path.get(1) {
                msp.check_revocation(ca, issuer)
                    .map_err(|e| self.invalid(&element, e))?;
            }
        }
        Ok(())
    }

    /// Serial numbers by CA: a CRL counts for those CAs whose key identifier it names and whose key signed it. Dates do not
    /// count (spec 02 §13.4-4).
    fn revocations(
        &self,
        lists: &[Bytes],
        cas: &CaTree,
    ) -> Result<HashMap<[u8; 32], HashSet<Vec<u8>>>, MspError> {
        let mut revoked: HashMap<[u8; 32], HashSet<Vec<u8>>> = HashMap::new();
        for (i, bytes) in lists.iter().enumerate() {
            let element = format!("revocation list {}", i + 1);
            let der = pem::first_block(bytes).map_or_else(|| bytes.to_vec(), |(block, _)| block.content);
            let (_, list) = CertificateRevocationList::from_der(&der)
                .map_err(|e| self.rule(&element, format!("it is not an X.509 CRL: {e}")))?;
            let Some(authority) = crl_authority(&list) else {
                return Err(self.rule(&element, "it has no authority key identifier"));
            };
            let serials: HashSet<Vec<u8>> = list
                .iter_revoked_certificates()
                .map(|r| r.raw_serial().iter().copied().skip_while(|b| *b == 0).collect())
                .collect();
            for ca in cas
                .all()
                .filter(|ca| ca.subject_key_id() == Some(authority.as_slice()))
            {
                let signed = X509Certificate::from_der(ca.der())
                    .is_ok_and(|(_, parsed)| list.verify_signature(parsed.public_key()).is_ok());
                if signed {
                    revoked
                        .entry(ca.sha256())
                        .or_default()
                        .extend(serials.iter().cloned());
                }
            }
        }
        Ok(revoked)
    }

    /// The certifiers id of a CA certificate named in an OU identifier.
    fn certifiers(&self, pem: &[u8], cas: &CaTree, element: &str) -> Result<[u8; 32], MspError> {
        let certificate = cas.normalise(self.certificate(pem, element)?);
        if !cas.contains(&certificate) {
            return Err(self.rule(element, "its certificate is not one of the MSP's CA certificates"));
        }
        let path = cas.path(&certificate).map_err(|e| self.invalid(element, e))?;
        Ok(certifiers_id(&path))
    }

    fn allowed_units(
        &self,
        identifiers: &[FabricOuIdentifier],
        cas: &CaTree,
    ) -> Result<Vec<(String, [u8; 32])>, MspError> {
        identifiers
            .iter()
            .map(|unit| {
                let name = unit.organizational_unit_identifier.clone();
                let element = format!("organizational unit identifier '{name}'");
                Ok((name, self.certifiers(&unit.certificate, cas, &element)?))
            })
            .collect()
    }

    fn node_ous(
        &self,
        config: Option<&FabricNodeOUs>,
        cas: &CaTree,
        version: MspVersion,
    ) -> Result<Vec<NodeOu>, MspError> {
        let Some(config) = config.filter(|c| c.enable && version >= MspVersion::V1_1) else {
            return Ok(Vec::new());
        };
        let with_admins = version >= MspVersion::V1_4_3;
        let mut identifiers = vec![
            (MspRoleType::Client, &config.client_ou_identifier),
            (MspRoleType::Peer, &config.peer_ou_identifier),
        ];
        if with_admins {
            identifiers.push((MspRoleType::Admin, &config.admin_ou_identifier));
            identifiers.push((MspRoleType::Orderer, &config.orderer_ou_identifier));
        }
        let mut node_ous = Vec::new();
        for (role, identifier) in identifiers {
            let name = crate::principal::role_name(role);
            let element = format!("NodeOU of role {name}");
            let present = identifier
                .as_ref()
                .filter(|i| !i.organizational_unit_identifier.is_empty());
            let Some(identifier) = present else {
                if with_admins {
                    continue;
                }
                return Err(self.rule(&element, "it must be given when NodeOUs are on (capability V1_1)"));
            };
            let certifiers_id = if identifier.certificate.is_empty() {
                Vec::new()
            } else {
                self.certifiers(&identifier.certificate, cas, &element)?.to_vec()
            };
            node_ous.push(NodeOu {
                role,
                name: identifier.organizational_unit_identifier.clone(),
                certifiers_id,
            });
        }
        Ok(node_ous)
    }

    fn admins(&self, list: &[Bytes], msp: &Msp) -> Result<HashSet<[u8; 32]>, MspError> {
        if list.is_empty() && !msp.node_ous.iter().any(|n| n.role == MspRoleType::Admin) {
            return Err(MspError::NoAdmin(self.msp_id.to_owned()));
        }
        let mut admins = HashSet::new();
        for (i, pem) in list.iter().enumerate() {
            let element = format!("admin certificate {}", i + 1);
            let certificate = msp.cas.normalise(self.certificate(pem, &element)?);
            let identity = Identity::new(Arc::clone(&msp.id), certificate);
            msp.validate(&identity).map_err(|e| self.invalid(&element, e))?;
            let certificate = identity.certificate();
            let has = |role| msp.has_node_ou(certificate, role).is_ok();
            if !msp.node_ous.is_empty() && !has(MspRoleType::Client) && !has(MspRoleType::Admin) {
                return Err(self.rule(
                    &element,
                    "with NodeOUs on, an admin must have the role client or admin",
                ));
            }
            admins.insert(certificate.sha256());
        }
        Ok(admins)
    }
}

fn crl_authority(list: &CertificateRevocationList<'_>) -> Option<Vec<u8>> {
    list.extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0.to_vec()),
            _ => None,
        })
}

#[cfg(test)]
mod tests;
