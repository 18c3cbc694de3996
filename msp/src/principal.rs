//! Principals: who a policy speaks of (spec 02 §13.5).

use std::fmt;

use prost::Message as _;
use selvedge_proto::common::{self, msp_principal::Classification, msp_role::MspRoleType};
use selvedge_proto::msp::SerializedIdentity;

use crate::certificate::Certificate;
use crate::identity_error::IdentityError;

/// Combined principals may hold combined ones; deeper ones are malformed here.
const MAX_DEPTH: usize = 16;

/// A decoded principal. Decoding never fails: a principal that makes no sense is one that nobody satisfies
/// (spec 02 §14.1-0).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Principal {
    /// Everybody of an MSP who has the role.
    Role {
        /// The MSP.
        msp_id: String,
        /// The role.
        role: MspRoleType,
    },
    /// Everybody of an MSP who has the organizational unit.
    OrganizationUnit(common::OrganizationUnit),
    /// One certificate.
    Identity(SerializedIdentity),
    /// Whether identities are nominal (X.509 always is) or anonymous.
    Anonymity {
        /// True for NOMINAL.
        nominal: bool,
    },
    /// All of these at once.
    Combined(Vec<Principal>),
    /// Nobody, and why.
    Malformed(String),
}

impl Principal {
    /// The ROLE principal `'MSPID.role'`.
    #[must_use]
    pub fn role(msp_id: impl Into<String>, role: MspRoleType) -> Self {
        Self::Role {
            msp_id: msp_id.into(),
            role,
        }
    }

    /// Decodes a principal.
    #[must_use]
    pub fn decode(principal: &common::MspPrincipal) -> Self {
        Self::decode_at(principal, MAX_DEPTH)
    }

    fn decode_at(principal: &common::MspPrincipal, depth: usize) -> Self {
        Self::try_decode(principal, depth).unwrap_or_else(Self::Malformed)
    }

    fn try_decode(principal: &common::MspPrincipal, depth: usize) -> Result<Self, String> {
        let bytes = principal.principal.clone();
        let unreadable = |e: prost::DecodeError| format!("it cannot be decoded: {e}");
        let classification = Classification::try_from(principal.principal_classification).map_err(|_| {
            format!(
                "its classification {} is unknown",
                principal.principal_classification
            )
        })?;
        match classification {
            Classification::Role => {
                let role = common::MspRole::decode(bytes).map_err(unreadable)?;
                let kind =
                    MspRoleType::try_from(role.role).map_err(|_| format!("role {} is unknown", role.role))?;
                Ok(Self::Role {
                    msp_id: role.msp_identifier,
                    role: kind,
                })
            }
            Classification::OrganizationUnit => common::OrganizationUnit::decode(bytes)
                .map(Self::OrganizationUnit)
                .map_err(unreadable),
            Classification::Identity => SerializedIdentity::decode(bytes)
                .map(Self::Identity)
                .map_err(unreadable),
            Classification::Anonymity => {
                use common::msp_identity_anonymity::MspIdentityAnonymityType as Kind;
                let kind = common::MspIdentityAnonymity::decode(bytes)
                    .map_err(unreadable)?
                    .anonymity_type;
                match Kind::try_from(kind) {
                    Ok(Kind::Nominal) => Ok(Self::Anonymity { nominal: true }),
                    Ok(Kind::Anonymous) => Ok(Self::Anonymity { nominal: false }),
                    Err(_) => Err(format!("anonymity type {kind} is unknown")),
                }
            }
            Classification::Combined => {
                let Some(depth) = depth.checked_sub(1) else {
                    return Err("its combinations are nested too deeply".to_owned());
                };
                let parts = common::CombinedPrincipal::decode(bytes)
                    .map_err(unreadable)?
                    .principals;
                if parts.is_empty() {
                    return Err("it combines nothing".to_owned());
                }
                Ok(Self::Combined(
                    parts.iter().map(|p| Self::decode_at(p, depth)).collect(),
                ))
            }
        }
    }

    /// The MSP that it speaks of, when it is one.
    #[must_use]
    pub fn msp_id(&self) -> Option<&str> {
        match self {
            Self::Role { msp_id, .. } => Some(msp_id),
            Self::OrganizationUnit(unit) => Some(&unit.msp_identifier),
            Self::Identity(identity) => Some(&identity.mspid),
            Self::Combined(parts) => parts.iter().find_map(Self::msp_id),
            Self::Anonymity { .. } | Self::Malformed(_) => None,
        }
    }
}

/// Lower-case name of a role as policies write it.
pub(crate) fn role_name(role: MspRoleType) -> &'static str {
    match role {
        MspRoleType::Member => "member",
        MspRoleType::Admin => "admin",
        MspRoleType::Client => "client",
        MspRoleType::Peer => "peer",
        MspRoleType::Orderer => "orderer",
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role { msp_id, role } => write!(f, "'{msp_id}.{}'", role_name(*role)),
            Self::OrganizationUnit(unit) => {
                write!(
                    f,
                    "[unit '{}' of {}]",
                    unit.organizational_unit_identifier, unit.msp_identifier
                )
            }
            Self::Identity(identity) => match Certificate::from_pem(&identity.id_bytes) {
                Ok(certificate) => write!(f, "[identity '{}' of {}]", certificate.label(), identity.mspid),
                Err(_) => write!(f, "[an unreadable identity of {}]", identity.mspid),
            },
            Self::Anonymity { nominal: true } => f.write_str("[nominal]"),
            Self::Anonymity { nominal: false } => f.write_str("[anonymous]"),
            Self::Combined(parts) => {
                f.write_str("[")?;
                for (i, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if i == 0 { "" } else { " and " })?;
                }
                f.write_str("]")
            }
            Self::Malformed(reason) => write!(f, "[malformed principal: {reason}]"),
        }
    }
}

/// Why an identity is not the principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrincipalError {
    /// The principal speaks of another MSP.
    #[error("it belongs to {got}, not to {expected}")]
    OtherMsp {
        /// The MSP of the principal.
        expected: String,
        /// The MSP of the identity.
        got: String,
    },
    /// The identity is not a valid member of its MSP.
    #[error("{0}")]
    Invalid(IdentityError),
    /// A valid member without the role.
    #[error("it is not {article} {role} of {msp_id}: {reason}")]
    Role {
        /// "a" or "an", for the sentence.
        article: &'static str,
        /// The role asked for.
        role: &'static str,
        /// The MSP.
        msp_id: String,
        /// What the certificate shows instead.
        reason: String,
    },
    /// A valid member without the organizational unit.
    #[error("it does not have the organizational unit '{unit}' under the demanded CA")]
    OrganizationUnit {
        /// The unit asked for.
        unit: String,
    },
    /// Another certificate.
    #[error("it is not the one certificate that is asked for")]
    Identity,
    /// Anonymity was asked for, which X.509 identities do not have.
    #[error("X.509 identities are not anonymous")]
    Anonymous,
    /// The principal makes no sense, nobody satisfies it.
    #[error("the principal is malformed: {0}")]
    Malformed(String),
}
