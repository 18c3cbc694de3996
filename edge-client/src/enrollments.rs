//! Sealed enrolment secrets on their way to devices: a registrar leaves them, a device fetches its own.
//!
//! | call | does |
//! |---|---|
//! | `PUT /v1/enrollments/{id}` | keeps a device's sealed secret; the last one counts. Signed by a registrar ([`crate::registrars`]) |
//! | `GET /v1/enrollments/{id}` | gives it, as often as it is asked for; 404 if there is none |
//! | `DELETE /v1/enrollments/{id}` | takes it away; signed by the device that has enrolled, or by a registrar |
//!
//! The gateway cannot read them, and whoever fetches one that is not his cannot either, so nothing is lost when a
//! stranger asks. They are on the disk, since a registrar and a device need not be reachable at the same time.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use axum::{Json, Router};
use parking_lot::Mutex;
use selvedge_sdk::{MAX_SEALED_BYTES, SealedSecret};
use serde_json::json;
use tokio::sync::Notify;

use crate::EdgeError;
use crate::registrars::{Registrars, Wanted};

/// Sealed secrets kept at a time.
const MAX_KEPT: usize = 1000;
/// Names of identities have at most as many bytes.
const MAX_ID_BYTES: usize = 64;

/// The folder of sealed secrets: one file for each device.
#[derive(Debug)]
pub(crate) struct Enrollments {
    dir: PathBuf,
    registrars: Registrars,
    /// Held while the folder is changed, so that the count is true.
    changing: Mutex<()>,
    arrived: Notify,
}

type Refusal = (StatusCode, String);

fn internal(error: &std::io::Error) -> Refusal {
    tracing::error!(%error, "sealed secrets cannot be kept");
    (
        StatusCode::INSUFFICIENT_STORAGE,
        format!("the gateway's disk fails: {error}"),
    )
}

impl Enrollments {
    /// Opens the folder, and makes it if there is none.
    pub(crate) fn open(dir: PathBuf, registrars: Registrars) -> Result<Self, EdgeError> {
        std::fs::create_dir_all(&dir).map_err(|source| EdgeError::ReadFile {
            path: dir.clone(),
            source,
        })?;
        Ok(Self {
            dir,
            registrars,
            changing: Mutex::new(()),
            arrived: Notify::new(),
        })
    }

    /// The name may hold any character, so the file has it in hexadecimal.
    fn file(&self, id: &str) -> Result<PathBuf, Refusal> {
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err((
                StatusCode::BAD_REQUEST,
                format!("a device's name has 1 to {MAX_ID_BYTES} bytes"),
            ));
        }
        Ok(self.dir.join(format!("{}.json", hex::encode(id))))
    }

    fn put(&self, id: &str, body: &[u8]) -> Result<(), Refusal> {
        let bad = |why: String| (StatusCode::BAD_REQUEST, why);
        let secret = SealedSecret::from_json(body).map_err(|e| bad(e.to_string()))?;
        if secret.id != id {
            return Err(bad(format!(
                "the sealed secret is for '{}', not for '{id}'",
                secret.id
            )));
        }
        let file = self.file(id)?;
        let text = secret.to_json().map_err(|e| bad(e.to_string()))?;
        let _changing = self.changing.lock();
        if !file.exists() {
            let kept = std::fs::read_dir(&self.dir).map_err(|e| internal(&e))?.count();
            if kept >= MAX_KEPT {
                return Err((
                    StatusCode::INSUFFICIENT_STORAGE,
                    format!(
                        "{MAX_KEPT} sealed secrets wait here already; devices that have enrolled take theirs away"
                    ),
                ));
            }
        }
        write_durably(&file, text.as_bytes()).map_err(|e| internal(&e))?;
        tracing::info!(device = id, "a sealed secret waits for its device");
        self.arrived.notify_one();
        Ok(())
    }

    /// Resolves after a sealed secret has arrived.
    pub(crate) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// What lies there for somebody, if it can be read.
    pub(crate) fn sealed_for(&self, id: &str) -> Option<SealedSecret> {
        let text = self.get(id).ok().flatten()?;
        SealedSecret::from_json(&text).ok()
    }

    /// Takes away what is of no use any more.
    pub(crate) fn forget(&self, id: &str) {
        if let Err((_, why)) = self.delete(id) {
            tracing::warn!(device = id, %why, "a used sealed secret stays");
        }
    }

    fn get(&self, id: &str) -> Result<Option<Vec<u8>>, Refusal> {
        match std::fs::read(self.file(id)?) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(internal(&e)),
        }
    }

    fn delete(&self, id: &str) -> Result<bool, Refusal> {
        let _changing = self.changing.lock();
        match std::fs::remove_file(self.file(id)?) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(internal(&e)),
        }
    }
}

fn write_durably(path: &std::path::Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("new");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => std::fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn refused((status, why): Refusal) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

fn nothing(id: &str) -> Response {
    refused((
        StatusCode::NOT_FOUND,
        format!("no sealed secret waits here for '{id}'"),
    ))
}

/// Files are written and read away from the reactor.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err((StatusCode::INTERNAL_SERVER_ERROR, e.to_string())))
}

/// Lets nobody pass who may not; verifying a signature is away from the reactor as well.
fn admit(kept: &Enrollments, wanted: Wanted, id: &str, call: &Call, body: &[u8]) -> Result<(), Refusal> {
    let asked = (call.method.as_str(), call.uri.as_str(), body);
    let admitted = kept.registrars.admit(wanted, id, call.token.as_deref(), asked);
    admitted.map_err(|why| {
        tracing::warn!(device = id, %why, "a request about a sealed secret is refused");
        (StatusCode::UNAUTHORIZED, why)
    })
}

/// What a signature covers besides the body, and the signature.
struct Call {
    method: Method,
    uri: String,
    token: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let token = parts.headers.get(header::AUTHORIZATION);
        let uri = parts.uri.path_and_query();
        Ok(Self {
            method: parts.method.clone(),
            uri: uri.map(ToString::to_string).unwrap_or_default(),
            token: token.and_then(|v| v.to_str().ok()).map(ToOwned::to_owned),
        })
    }
}

async fn accept(
    State(kept): State<Arc<Enrollments>>,
    Path(id): Path<String>,
    call: Call,
    body: Bytes,
) -> Response {
    let done = blocking(move || {
        admit(&kept, Wanted::Leave, &id, &call, &body)?;
        kept.put(&id, &body)
    });
    match done.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refused(refusal),
    }
}

async fn give(State(kept): State<Arc<Enrollments>>, Path(id): Path<String>) -> Response {
    let name = id.clone();
    match blocking(move || kept.get(&id)).await {
        Ok(Some(text)) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Ok(None) => nothing(&name),
        Err(refusal) => refused(refusal),
    }
}

async fn take_away(
    State(kept): State<Arc<Enrollments>>,
    Path(id): Path<String>,
    call: Call,
    body: Bytes,
) -> Response {
    let name = id.clone();
    let done = blocking(move || {
        admit(&kept, Wanted::TakeAway, &id, &call, &body)?;
        kept.delete(&id)
    });
    match done.await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => nothing(&name),
        Err(refusal) => refused(refusal),
    }
}

/// The routes.
pub(crate) fn router(kept: Arc<Enrollments>) -> Router {
    Router::new()
        .route("/v1/enrollments/{id}", put(accept).get(give).delete(take_away))
        .layer(DefaultBodyLimit::max(MAX_SEALED_BYTES))
        .with_state(kept)
}

#[cfg(test)]
mod tests {
    use selvedge_msp::PrivateKey;

    use super::*;

    fn open(dir: &std::path::Path) -> Result<Enrollments, EdgeError> {
        Enrollments::open(dir.to_owned(), Registrars::AnybodyFor("a".to_owned()))
    }

    fn sealed(id: &str, key: &PrivateKey) -> String {
        let sealed = SealedSecret::seal(key.public_key(), id, "https://ca", "", "hunter2").unwrap();
        sealed.to_json().unwrap()
    }

    #[test]
    fn secrets_wait_for_their_device_across_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let key = PrivateKey::generate().unwrap();
        let kept = open(dir.path()).unwrap();
        assert!(kept.get("truck/17").unwrap().is_none());
        kept.put("truck/17", sealed("truck/17", &key).as_bytes()).unwrap();
        let newer = sealed("truck/17", &key);
        kept.put("truck/17", newer.as_bytes()).unwrap();
        let again = open(dir.path()).unwrap();
        let fetched = again.get("truck/17").unwrap().unwrap();
        assert_eq!(fetched, newer.as_bytes(), "the last one counts");
        let opened = SealedSecret::from_json(&fetched).unwrap().open(&key).unwrap();
        assert_eq!(opened.as_str(), "hunter2");
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!text.contains("hunter2"));
        }
        assert!(again.delete("truck/17").unwrap());
        assert!(!again.delete("truck/17").unwrap());
    }

    #[test]
    fn what_is_no_sealed_secret_for_that_device_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = PrivateKey::generate().unwrap();
        let kept = open(dir.path()).unwrap();
        for (id, body) in [
            ("a", "{}".to_owned()),
            ("a", sealed("b", &key)),
            (
                "a",
                format!("{}{}", sealed("a", &key), " ".repeat(MAX_SEALED_BYTES)),
            ),
            (&"a".repeat(65), sealed(&"a".repeat(65), &key)),
        ] {
            let (status, _) = kept.put(id, body.as_bytes()).unwrap_err();
            assert_eq!(status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn their_number_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let key = PrivateKey::generate().unwrap();
        let kept = open(dir.path()).unwrap();
        for n in 0..MAX_KEPT {
            std::fs::write(dir.path().join(format!("other-{n}.json")), "{}").unwrap();
        }
        let (status, _) = kept.put("a", sealed("a", &key).as_bytes()).unwrap_err();
        assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
    }
}
