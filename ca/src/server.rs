//! Serving the REST interface.

use std::future::Future;
use std::sync::Arc;

use selvedge_comm::{ClientAuth, Roots, ServerTls, TlsIdentity, bind, serve_http};
use selvedge_operations::OperationsListener;
use selvedge_renewal::Keeper;

use crate::api::{Authorities, router};
use crate::authority::Authority;
use crate::{CaConfig, CaServerError, operations};

/// Runs a CA server until `shutdown` resolves.
///
/// # Errors
/// A root or registry cannot be opened, or the address is in use.
pub async fn run(config: CaConfig, shutdown: impl Future<Output = ()> + Send) -> Result<(), CaServerError> {
    std::fs::create_dir_all(&config.data_dir).map_err(|source| CaServerError::WriteFile {
        path: config.data_dir.clone(),
        source,
    })?;
    let mut authorities = Vec::new();
    for authority in &config.cas {
        authorities.push(Arc::new(Authority::open(authority, &config.data_dir)?));
    }
    let tls = match &config.tls {
        None => None,
        Some(tls) => Some(ServerTls {
            identity: TlsIdentity::from_files(&tls.certificate, &tls.key)?,
            client_roots: Roots::default(),
            client_auth: ClientAuth::Request,
        }),
    };
    let listener = bind(&config.listen).await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let watched = operations::of(&authorities);
    let mut keeper = Keeper::new(&config.listen, config.renewal.clone());
    if let (Some(files), Some(tls)) = (&config.tls, &tls) {
        let kept = keeper.tls("tls", &files.certificate, &files.key, tls.identity.clone());
        kept.map_err(selvedge_comm::CommError::Tls)?;
    }
    let _keeping = keeper.start(&watched);
    let watching = match &config.operations {
        None => None,
        Some(operations) => {
            let listener = OperationsListener::open(operations).await?;
            // Ends when the sender is dropped.
            let ended = async move { drop(stopped.await) };
            Some(tokio::spawn(listener.serve(watched, ended)))
        }
    };
    tracing::info!(address = %config.listen, authorities = authorities.len(), "certificate authority serves");
    serve_http(
        listener,
        tls,
        router(Arc::new(Authorities::new(authorities))),
        shutdown,
    )
    .await?;
    drop(stop);
    if let Some(watching) = watching
        && let Ok(ended) = watching.await
    {
        ended?;
    }
    Ok(())
}
