//! Renewing the gateway's certificate while it works.
//!
//! A request that was accepted keeps the certificate that it began with, since its transaction id depends on it; new requests
//! take the renewed one (see [`crate::identities`]).

use std::sync::Arc;

use selvedge_msp::SigningIdentity;
use selvedge_operations::Operations;
use selvedge_renewal::{Keeper, Keeping, RenewalConfig};

use crate::config::EdgeConfig;
use crate::uplink::Uplink;

/// Starts the task that looks after the certificate in the gateway's MSP folder.
pub(crate) fn keep(
    config: &EdgeConfig,
    identity: &SigningIdentity,
    uplink: &Arc<Uplink>,
    operations: &Operations,
) -> Keeping {
    // The authority that is named for other purposes renews at the usual times.
    let known = config.ca.as_ref().map(|ca| {
        let roots = ca.tls_roots.iter().cloned().collect();
        RenewalConfig::of_identity(&ca.url, roots, ca.name.as_deref().unwrap_or_default())
    });
    let mut keeper = Keeper::new(&config.id, config.renewal.clone().or(known));
    let uplink = Arc::downgrade(uplink);
    keeper.identity(&config.msp_dir, identity, move |renewed| match uplink.upgrade() {
        Some(uplink) => uplink.adopt(renewed).map_err(|e| e.to_string()),
        None => Ok(()),
    });
    keeper.start(operations)
}
