//! An identity for this machine, from its organisation's certificate authority.

use std::path::Path;

use selvedge_msp::{PrivateKey, SigningIdentity};
use selvedge_sdk::{CaClient, EnrollRequest};

use crate::EdgeError;

fn bad(dir: &Path, why: impl ToString) -> EdgeError {
    EdgeError::Identity {
        path: dir.to_owned(),
        why: why.to_string(),
    }
}

/// Makes a key, enrols with it and writes the folder. One that holds an identity is left alone.
pub(crate) async fn enroll(client: &CaClient, id: &str, secret: &str, dir: &Path) -> Result<(), EdgeError> {
    if dir.join("signcerts").exists() {
        return Err(bad(
            dir,
            "there is one already; name another folder, or remove it if this machine shall start anew",
        ));
    }
    let key = PrivateKey::generate().map_err(|e| bad(dir, e))?;
    let enrolled = client.enroll(id, secret, &EnrollRequest::default(), &key).await?;
    enrolled.write_msp_dir(dir, key)?;
    Ok(())
}

/// Gets a new certificate for the key that is there; returns the name in it.
pub(crate) async fn reenroll(client: &CaClient, dir: &Path) -> Result<String, EdgeError> {
    // A token names no MSP; the authority knows its own.
    let identity = SigningIdentity::from_msp_dir("", dir).map_err(|e| bad(dir, e))?;
    let name = identity
        .certificate()
        .common_name()
        .unwrap_or("this machine")
        .to_owned();
    let enrolled = client
        .reenroll(&identity, &EnrollRequest::default(), identity.key())
        .await?;
    enrolled.write_msp_dir(dir, identity.key().clone())?;
    Ok(name)
}
