//! A gateway that has no certificate yet: it waits at its REST interface for the secret that a registrar seals to its key,
//! opens it, enrols, and becomes the gateway that it is meant to be.
//!
//! | call | does |
//! |---|---|
//! | `GET /v1/enrollment` | its name, its public key and fingerprint, and what it waits for |
//! | `GET /v1/enrollment/public-key` | the public key as PEM, for `selvedge device register --public-key` |
//! | `PUT /v1/enrollments/{id}` | takes the sealed secret |
//!
//! Everything else answers 503 until then.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use selvedge_comm::{CommError, bind, serve_http};
use selvedge_msp::PrivateKey;
use selvedge_sdk::{CaClient, ClientTls, EnrollRequest, SealedSecret, fingerprint};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::EdgeError;
use crate::config::{EdgeConfig, EnrollmentConfig};
use crate::enrollments::{self, Enrollments};
use crate::registrars::Registrars;

/// Pause after a failed attempt at the authority.
const PAUSE: Duration = Duration::from_secs(5);

struct Waiting {
    id: String,
    /// The key that secrets are to be sealed to.
    public_key_pem: String,
    fingerprint: String,
    /// Why the last attempt failed.
    problem: Mutex<Option<String>>,
}

fn bad(path: &Path) -> impl Fn(String) -> EdgeError {
    let path = path.to_owned();
    move |why| EdgeError::Identity {
        path: path.clone(),
        why,
    }
}

fn key_file(path: &Path) -> Result<PrivateKey, EdgeError> {
    let bad = bad(path);
    if path.exists() {
        return PrivateKey::from_file(path).map_err(|e| bad(e.to_string()));
    }
    let key = PrivateKey::generate().map_err(|e| bad(e.to_string()))?;
    key.write_file(path).map_err(|e| bad(e.to_string()))?;
    Ok(key)
}

/// The key to enrol with, and the one that opens the secret.
fn keys(config: &EnrollmentConfig) -> Result<(PrivateKey, PrivateKey), EdgeError> {
    let Some(opening) = config.opening_key.as_ref().filter(|_| config.is_token()) else {
        let key = key_file(Path::new(&config.key))?;
        return Ok((key.clone(), key));
    };
    let key = PrivateKey::from_pem(&config.key).map_err(|e| bad(opening)(e.to_string()))?;
    Ok((key, key_file(opening)?))
}

async fn about(State(waiting): State<Arc<Waiting>>) -> Response {
    Json(json!({
        "id": waiting.id,
        "publicKey": waiting.public_key_pem,
        "fingerprint": waiting.fingerprint,
        "state": "waiting for a sealed secret",
        "problem": *waiting.problem.lock(),
    }))
    .into_response()
}

async fn public_key(State(waiting): State<Arc<Waiting>>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/x-pem-file")],
        waiting.public_key_pem.clone(),
    )
        .into_response()
}

async fn not_yet() -> Response {
    let why = "this gateway is not enrolled yet; GET /v1/enrollment says what it waits for";
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": why }))).into_response()
}

/// Not what a crash leaves of one, under a name that begins with a dot.
fn is_certificate(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !name.starts_with('.')
}

/// Enrols a gateway that has no identity, if it is configured to; whether it did. Resolves only when that is done: a
/// registrar may take days.
pub(crate) async fn enroll_if_new(config: &EdgeConfig) -> Result<bool, EdgeError> {
    let Some(enrollment) = &config.enrollment else {
        return Ok(false);
    };
    // The certificate is written last, and the folder before it.
    let certificates = std::fs::read_dir(config.msp_dir.join("signcerts"));
    if certificates
        .is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| is_certificate(&file.path()))))
    {
        return Ok(false);
    }
    let (key, opener) = keys(enrollment)?;
    let id = enrollment.id.clone().unwrap_or_else(|| config.id.clone());
    let kept = Arc::new(Enrollments::open(
        config.data_dir.join("enrollments"),
        Registrars::of_new(config, &id),
    )?);
    let waiting = Arc::new(Waiting {
        public_key_pem: opener.public_key().to_pem(),
        fingerprint: fingerprint(opener.public_key()),
        problem: Mutex::new(None),
        id,
    });
    let router = Router::new()
        .route("/v1/enrollment", get(about))
        .route("/v1/enrollment/public-key", get(public_key))
        .with_state(Arc::clone(&waiting))
        .merge(enrollments::router(Arc::clone(&kept)))
        .fallback(not_yet);
    let listener = bind(&config.listen).await?;
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve_http(listener, None, router, stop.clone().cancelled_owned()));
    tracing::info!(
        id = %waiting.id, fingerprint = %waiting.fingerprint, address = %config.listen,
        "the gateway is not enrolled; it waits for its sealed secret"
    );
    loop {
        let Some(sealed) = kept.sealed_for(&waiting.id) else {
            kept.arrival().await;
            continue;
        };
        let problem = match enroll(config, enrollment, &sealed, &key, &opener).await {
            Ok(()) => break,
            Err(problem) => problem,
        };
        tracing::warn!(id = %waiting.id, %problem, "the gateway cannot enrol yet");
        let may_pass = problem.may_pass();
        *waiting.problem.lock() = Some(problem.to_string());
        tokio::select! {
            () = kept.arrival() => {}
            () = tokio::time::sleep(PAUSE), if may_pass => {}
        }
    }
    kept.forget(&waiting.id);
    stop.cancel();
    if let Ok(ended) = server.await {
        ended?;
    }
    released(&config.listen).await?;
    Ok(true)
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the sealed secret: {0}")]
    Sealed(#[from] selvedge_sdk::SealedSecretError),
    #[error("{path}: {source}")]
    Roots { path: String, source: std::io::Error },
    #[error(transparent)]
    Sdk(#[from] selvedge_sdk::Error),
}

impl Problem {
    /// Whether the same secret may do later. One that the authority refuses must not be tried again: ten wrong ones lock the
    /// identity, and anybody may leave one here.
    fn may_pass(&self) -> bool {
        match self {
            Self::Sealed(_) | Self::Sdk(selvedge_sdk::Error::Ca { .. }) => false,
            Self::Roots { .. } | Self::Sdk(_) => true,
        }
    }
}

/// Waits until the address is free again: its socket closes a moment after the server has ended.
async fn released(address: &str) -> Result<(), CommError> {
    const LONGEST: Duration = Duration::from_secs(10);
    let free = async {
        loop {
            match bind(address).await {
                Ok(listener) => return drop(listener),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    match tokio::time::timeout(LONGEST, free).await {
        Ok(()) => Ok(()),
        // Says what is wrong.
        Err(_) => bind(address).await.map(drop),
    }
}

async fn enroll(
    config: &EdgeConfig,
    enrollment: &EnrollmentConfig,
    sealed: &SealedSecret,
    key: &PrivateKey,
    opener: &PrivateKey,
) -> Result<(), Problem> {
    let secret = sealed.open(opener)?;
    let roots = std::fs::read(&enrollment.tls_roots).map_err(|source| Problem::Roots {
        path: enrollment.tls_roots.display().to_string(),
        source,
    })?;
    let tls = ClientTls {
        roots: vec![roots],
        ..ClientTls::default()
    };
    let name = Some(sealed.ca_name.clone()).filter(|name| !name.is_empty());
    let client = CaClient::new(&sealed.ca_url, name, tls);
    let enrolled = client
        .enroll(&sealed.id, &secret, &EnrollRequest::default(), key)
        .await?;
    Ok(enrolled.write_msp_dir(&config.msp_dir, key.clone())?)
}
