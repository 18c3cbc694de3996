//! Who may leave sealed secrets at the gateway, and take them away.
//!
//! Nobody but its device can read a sealed secret, but whoever may replace or remove one keeps a device from enrolling. So
//! such a request is signed by its caller (`Authorization`, as with Fabric CA: [`selvedge_sdk::sign_request`]).

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use selvedge_msp::dir::read_msp_config;
use selvedge_msp::{Certificate, Msp, MspVersion, Principal};
use selvedge_proto::common::msp_role::MspRoleType;
use selvedge_sdk::verify_request;

use crate::config::EdgeConfig;

/// Whoever may register others has this attribute at the authority; it counts when the certificate carries it.
const REGISTRAR: &str = "hf.Registrar.Roles";

/// Judges callers.
#[derive(Debug)]
pub(crate) enum Registrars {
    /// Administrators and registrars by these MSP folders, which are read each time: roots are rotated and lists of the revoked
    /// grow.
    Of { msp_id: String, folders: Vec<PathBuf> },
    /// A gateway that has no identity yet knows nobody. It takes a secret for itself only, and finds out what it is worth by
    /// enrolling with it.
    AnybodyFor(String),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Leave,
    TakeAway,
}

impl Registrars {
    /// Those of the configuration; without any, the gateway's own organisation's.
    pub(crate) fn of(config: &EdgeConfig) -> Self {
        let folders = if config.registrars.is_empty() {
            vec![config.msp_dir.clone()]
        } else {
            config.registrars.clone()
        };
        Self::Of {
            msp_id: config.msp_id.clone(),
            folders,
        }
    }

    /// Those of the configuration for a gateway that has no identity yet.
    pub(crate) fn of_new(config: &EdgeConfig, id: &str) -> Self {
        if config.registrars.is_empty() {
            Self::AnybodyFor(id.to_owned())
        } else {
            Self::of(config)
        }
    }

    /// Whether the caller may.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub(crate) fn admit(
        &self,
        wanted: Wanted,
        device: &str,
        token: Option<&str>,
        (method, uri, body): (&str, &str, &[u8]),
    ) -> Result<(), String> {
        let (msp_id, folders) = match self {
            Self::Of { msp_id, folders } => (msp_id, folders),
            Self::AnybodyFor(id) if id == device && wanted == Wanted::Leave => return Ok(()),
            Self::AnybodyFor(id) => {
                return Err(format!(
                    "this gateway is not enrolled yet; it takes a secret for '{id}' only"
                ));
            }
        };
        let token = token.ok_or(
            "the request is not signed; 'selvedge device register --deliver' signs it as the organisation's administrator",
        )?;
        let certificate = verify_request(token, method, uri, body)?;
        let mut refused = String::new();
        for folder in folders {
            let judged = judge(msp_id, folder, &certificate).and_then(|may_all| {
                let own = wanted == Wanted::TakeAway && certificate.common_name() == Some(device);
                if may_all || own {
                    Ok(())
                } else {
                    Err(format!(
                        "{} is neither an administrator nor a registrar",
                        certificate.subject()
                    ))
                }
            });
            match judged {
                Ok(()) => return Ok(()),
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }
}

/// Whether the holder of a certificate is a member by an MSP folder, and if so, whether it may register others.
fn judge(msp_id: &str, folder: &std::path::Path, certificate: &Certificate) -> Result<bool, String> {
    let config = read_msp_config(folder, msp_id).map_err(|e| e.to_string())?;
    let msp = Msp::new(&config, MspVersion::V1_4_3).map_err(|e| e.to_string())?;
    let identity = msp
        .deserialize(certificate.to_pem().as_bytes())
        .map_err(|e| e.to_string())?;
    msp.validate(&identity).map_err(|e| e.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < certificate.not_before() || now > certificate.not_after() {
        return Err(format!(
            "the certificate of {} is not valid at this time; the gateway's clock or the certificate is to blame",
            certificate.subject()
        ));
    }
    let admin = Principal::role(msp_id, MspRoleType::Admin);
    Ok(certificate.attributes().contains_key(REGISTRAR) || msp.satisfies(&identity, &admin).is_ok())
}
