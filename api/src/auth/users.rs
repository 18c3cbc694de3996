//! The people whose identities the server holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use selvedge_msp::Certificate;
use selvedge_sdk::ClientIdentity;

use crate::config::ApiConfig;
use crate::{ApiError, now_seconds};

use super::View;

/// Attribute that narrows the view of a certificate.
const VIEW_ATTRIBUTE: &str = "selvedge.view";

/// Somebody who acts through this server.
#[derive(Debug)]
pub(crate) struct User {
    /// Common name in their certificates.
    pub(crate) name: String,
    /// What signs for them.
    pub(crate) identity: ClientIdentity,
    /// What they see.
    pub(crate) view: View,
}

/// All users, and the visitor.
#[derive(Debug)]
pub(crate) struct Users {
    msp_id: String,
    folders: BTreeMap<String, PathBuf>,
    users: RwLock<BTreeMap<String, Arc<User>>>,
    visitor: Option<Arc<User>>,
}

fn load(msp_id: &str, name: &str, folder: &Path) -> Result<User, ApiError> {
    let identity = ClientIdentity::from_msp_dir(msp_id, folder).map_err(|e| ApiError::Identity {
        path: folder.to_owned(),
        why: e.to_string(),
    })?;
    let public = identity
        .certificate()
        .attributes()
        .get(VIEW_ATTRIBUTE)
        .is_some_and(|view| view == "public");
    Ok(User {
        name: name.to_owned(),
        identity,
        view: if public { View::Public } else { View::InHouse },
    })
}

impl Users {
    /// Reads the identities of the configuration.
    ///
    /// # Errors
    /// One of them is not usable.
    pub(crate) fn load(config: &ApiConfig) -> Result<Self, ApiError> {
        let mut users = BTreeMap::new();
        let mut folders = BTreeMap::new();
        for user in &config.users {
            let loaded = load(&config.msp_id, &user.name, &user.msp_dir)?;
            if loaded.identity.certificate().not_after() < now_seconds() {
                tracing::warn!(user = %user.name, "the certificate has expired; peers will refuse it");
            }
            users.insert(user.name.clone(), Arc::new(loaded));
            folders.insert(user.name.clone(), user.msp_dir.clone());
        }
        let visitor = config
            .visitor_msp_dir
            .as_deref()
            .map(|folder| load(&config.msp_id, "visitor", folder))
            .transpose()?
            .map(|mut user| {
                if user.view != View::Public {
                    tracing::warn!(
                        "the certificate of the identity for visitors does not say {VIEW_ATTRIBUTE}=public: this server \
                         narrows what visitors see, and the contracts would tell that identity more; register one with the attribute"
                    );
                }
                // Whatever the certificate says: who has not signed in never sees more.
                user.view = View::Public;
                Arc::new(user)
            });
        Ok(Self {
            msp_id: config.msp_id.clone(),
            folders,
            users: RwLock::new(users),
            visitor,
        })
    }

    /// A user by name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<User>> {
        self.users.read().get(name).cloned()
    }

    /// The identity for those who have not signed in.
    pub(crate) fn visitor(&self) -> Option<Arc<User>> {
        self.visitor.clone()
    }

    /// The user whom a certificate shown in a TLS handshake stands for. The handshake has proved that it chains to the
    /// organisation's authorities and that the caller holds its key.
    pub(crate) fn by_certificate(&self, der: &[u8]) -> Option<Arc<User>> {
        let certificate = Certificate::from_der(der).ok()?;
        if certificate.not_after() < now_seconds() {
            return None;
        }
        self.get(certificate.common_name()?)
    }

    /// Takes over certificates that were renewed in their folders.
    pub(crate) fn refresh(&self) {
        for (name, folder) in &self.folders {
            match load(&self.msp_id, name, folder) {
                Ok(user) => {
                    let known = self.get(name);
                    let changed =
                        known.is_none_or(|known| known.identity.creator() != user.identity.creator());
                    if changed {
                        tracing::info!(user = %name, "the certificate was renewed");
                        self.users.write().insert(name.clone(), Arc::new(user));
                    }
                }
                // It may be written at this moment; the old one stays.
                Err(error) => tracing::warn!(user = %name, %error, "cannot read the identity again"),
            }
        }
    }
}
