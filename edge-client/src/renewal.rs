//! Keeping the gateway's certificates, and those that it trusts, up to date while it works.
//!
//! A request that was accepted keeps the signing certificate that it began with, since its transaction id depends on it; new
//! requests take the renewed one (see [`crate::identities`]). TLS certificates of the listeners and of the uplink are renewed
//! where the configuration names a TLS authority, and taken anew from their files in any case, as are the roots of the
//! network's nodes: an authority that is rotated asks nobody to start a gateway again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvedge_comm::{CommError, ServerTls, TlsIdentity};
use selvedge_msp::SigningIdentity;
use selvedge_operations::Operations;
use selvedge_renewal::{Keeper, Keeping, RenewalConfig};

use crate::EdgeError;
use crate::config::{EdgeConfig, read};
use crate::devices::Devices;
use crate::uplink::Uplink;

/// The keeper with the TLS files that it has.
struct Tls {
    keeper: Keeper,
    files: Vec<PathBuf>,
}

impl Tls {
    /// Keeps a certificate. One that another listener shows as well is renewed once, and both take it from the file.
    fn certificate(
        &mut self,
        name: &str,
        certificate: &Path,
        key: &Path,
        shown: TlsIdentity,
    ) -> Result<(), EdgeError> {
        if !self.files.iter().any(|file| file == certificate) {
            self.files.push(certificate.to_owned());
            let kept = self.keeper.tls(name, certificate, key, shown);
            return Ok(kept.map_err(CommError::Tls)?);
        }
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        self.keeper.follow(format!("TLS certificate of {name}"), move || {
            let text = read(&certificate).map_err(|e| e.to_string())?;
            if text == shown.certificate_pem() {
                return Ok(false);
            }
            let key = read(&key).map_err(|e| e.to_string())?;
            shown.replace(&text, &key).map_err(|e| e.to_string())?;
            Ok(true)
        });
        Ok(())
    }

    /// Keeps what a listener shows, and whom it trusts.
    fn listener(
        &mut self,
        name: &str,
        (certificate, key): (&Path, &Path),
        client_roots: Option<&PathBuf>,
        tls: &ServerTls,
    ) -> Result<(), EdgeError> {
        if let Some(file) = client_roots {
            self.keeper
                .roots(std::slice::from_ref(file), tls.client_roots.clone());
        }
        self.certificate(name, certificate, key, tls.identity.clone())
    }
}

/// Starts the task that looks after the gateway's certificates and those that it trusts.
///
/// # Errors
/// A TLS certificate cannot be read.
pub(crate) fn keep(
    config: &EdgeConfig,
    identity: &SigningIdentity,
    uplink: &Arc<Uplink>,
    devices: &Devices,
    rest: Option<&ServerTls>,
    operations: &Operations,
) -> Result<Keeping, EdgeError> {
    // The authority that is named for other purposes renews at the usual times.
    let known = config.ca.as_ref().map(|ca| {
        let roots = ca.tls_roots.iter().cloned().collect();
        RenewalConfig::of_identity(&ca.url, roots, ca.name.as_deref().unwrap_or_default())
    });
    let mut keeper = Keeper::new(&config.id, config.renewal.clone().or(known));
    let (looked_at, events) = (Arc::downgrade(uplink), Arc::clone(&devices.events));
    keeper.follow("TLS files of the network's nodes", move || {
        let Some(uplink) = looked_at.upgrade() else {
            return Ok(false);
        };
        let changed = uplink.look().map_err(|e| e.to_string())?;
        if changed {
            events.replace_peers(uplink.peers());
        }
        Ok(changed)
    });
    let adopting = Arc::downgrade(uplink);
    keeper.identity(&config.msp_dir, identity, move |renewed| {
        match adopting.upgrade() {
            Some(uplink) => uplink.adopt(renewed).map_err(|e| e.to_string()),
            None => Ok(()),
        }
    });
    let mut tls = Tls {
        keeper,
        files: Vec::new(),
    };
    if let (Some(files), Some(shown)) = (&config.devices.rest.tls, rest) {
        let pair = (&*files.certificate, &*files.key);
        tls.listener("tls", pair, files.client_roots.as_ref(), shown)?;
    }
    let mqtt = config.devices.mqtt.as_ref().and_then(|mqtt| mqtt.tls.as_ref());
    if let (Some(files), Some(shown)) = (mqtt, &devices.mqtt_tls) {
        let pair = (&*files.certificate, &*files.key);
        tls.listener("mqtt", pair, files.client_roots.as_ref(), shown)?;
    }
    let nodes = config.uplink.peers.iter().chain(&config.uplink.orderers);
    for node in nodes {
        if let (Some(certificate), Some(key)) = (&node.client_certificate, &node.client_key)
            && !tls.files.contains(certificate)
        {
            let name = match tls.files.len() {
                0 => "uplink".to_owned(),
                others => format!("uplink-{others}"),
            };
            let shown = TlsIdentity::from_files(certificate, key)?;
            tls.certificate(&name, certificate, key, shown)?;
        }
    }
    Ok(tls.keeper.start(operations))
}
