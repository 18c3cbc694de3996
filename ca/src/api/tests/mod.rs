//! The REST interface as clients use it: requests in, JSON and certificates out.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::prelude::{BASE64_STANDARD, Engine};
use selvedge_msp::{CaSubject, Certificate, CertificateAuthority, PrivateKey, Validity, csr};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::authority::unix_now;
use crate::config::{AuthorityConfig, Bootstrap, PASSWORD_ATTEMPTS};

mod affiliations;
mod authorities;
mod est;
mod fuzz;
mod identities;
mod ldap;
mod limits;
mod revocation;

type Holder = (Certificate, PrivateKey);

struct Server {
    dir: tempfile::TempDir,
    router: Router,
}

/// Settings of an authority whose certificate and key are the files `<name>.pem` and `<name>.key`.
fn config(dir: &std::path::Path, name: &str) -> AuthorityConfig {
    AuthorityConfig {
        name: name.into(),
        certificate: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
        chain: None,
        bootstrap: Bootstrap {
            id: "admin".into(),
            secret_file: dir.join("admin.secret"),
        },
        affiliations: BTreeMap::from([("org1".to_owned(), vec!["hall".to_owned()])]),
        max_enrollments: -1,
        password_attempts: PASSWORD_ATTEMPTS,
        certificate_seconds: 3600,
        ca_certificate_seconds: 7200,
        reenroll_grace: Duration::ZERO,
        crl_expiry: Duration::from_secs(86_400),
        allow_identity_removal: false,
        allow_affiliation_removal: false,
        ldap: None,
        issued: Vec::new(),
        previous: Vec::new(),
    }
}

fn write_root(dir: &std::path::Path, name: &str) -> CertificateAuthority {
    let validity = Validity {
        not_before: unix_now() - 300,
        not_after: unix_now() + 86_400,
    };
    let subject = CaSubject {
        common_name: "ca.org1".into(),
        ..CaSubject::default()
    };
    let root = CertificateAuthority::generate_root(&subject, &validity).unwrap();
    std::fs::write(dir.join(format!("{name}.pem")), root.certificate().to_pem()).unwrap();
    root.key().write_file(&dir.join(format!("{name}.key"))).unwrap();
    root
}

fn open(dir: &std::path::Path, configs: &[AuthorityConfig]) -> Router {
    let opened = configs.iter().map(|c| Arc::new(Authority::open(c, dir).unwrap()));
    router(Arc::new(Authorities::new(opened.collect())))
}

impl Server {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// A server with one authority and other settings.
    fn with(change: impl FnOnce(&mut AuthorityConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_root(dir.path(), "ca-org1");
        let mut config = config(dir.path(), "ca-org1");
        change(&mut config);
        let router = open(dir.path(), &[config]);
        Self { dir, router }
    }

    /// The same server started again with other settings.
    fn restarted(self, change: impl FnOnce(&mut AuthorityConfig)) -> Self {
        let mut config = config(self.dir.path(), "ca-org1");
        change(&mut config);
        Self {
            router: open(self.dir.path(), &[config]),
            dir: self.dir,
        }
    }

    fn secret(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("admin.secret")).unwrap()
    }

    /// A request with a token of `who` and a body, which is left out where it is null.
    async fn ask(&self, who: &Holder, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let token = token(method, path, &body, who);
        self.call(method, path, Some(&token), body).await
    }

    /// Registers and enrols somebody.
    async fn member(&self, by: &Holder, registration: Value) -> Holder {
        let (status, answer) = self.ask(by, "POST", "/register", registration.clone()).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let id = registration["id"].as_str().unwrap();
        let secret = answer["result"]["secret"].as_str().unwrap();
        let (status, answer, key) = self.enroll(id, secret, id, json!({})).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        (certificate(&answer), key)
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: String,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(text) = authorization {
            request = request.header("authorization", text);
        }
        let response = self
            .router
            .clone()
            .oneshot(request.body(Body::from(body)).unwrap())
            .await
            .unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn enroll(
        &self,
        id: &str,
        secret: &str,
        cn: &str,
        extra: Value,
    ) -> (StatusCode, Value, PrivateKey) {
        let key = PrivateKey::generate().unwrap();
        let mut body = json!({ "certificate_request": csr::create(&key, cn, &[]).unwrap() });
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")));
        let (status, answer) = self
            .call("POST", "/api/v1/enroll", Some(&basic), body.to_string())
            .await;
        (status, answer, key)
    }

    async fn signed(&self, who: &Holder, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(who, "POST", path, body).await
    }

    async fn admin(&self) -> Holder {
        let (status, answer, key) = self.enroll("admin", &self.secret(), "admin", json!({})).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        (certificate(&answer), key)
    }
}

fn token(method: &str, path: &str, body: &str, (certificate, key): &Holder) -> String {
    let pem = BASE64_STANDARD.encode(certificate.to_pem());
    let message = format!(
        "{method}.{}.{}.{pem}",
        BASE64_STANDARD.encode(path),
        BASE64_STANDARD.encode(body)
    );
    format!(
        "{pem}.{}",
        BASE64_STANDARD.encode(key.sign(message.as_bytes()).unwrap())
    )
}

fn certificate(answer: &Value) -> Certificate {
    let pem = BASE64_STANDARD
        .decode(answer["result"]["Cert"].as_str().unwrap())
        .unwrap();
    Certificate::from_pem(&pem).unwrap()
}

fn code(answer: &Value) -> u64 {
    answer["errors"][0]["code"].as_u64().unwrap()
}

#[tokio::test]
async fn registers_and_enrols_with_attributes() {
    let server = Server::new();
    let admin = server.admin().await;
    let body = json!({
        "id": "truck-17", "type": "client", "affiliation": "org1.hall", "max_enrollments": 1, "caname": "ca-org1",
        "attrs": [{ "name": "selvedge.device", "value": "true", "ecert": true }, { "name": "quiet", "value": "x" }],
    });
    let (status, answer) = server.signed(&admin, "/api/v1/register", body.clone()).await;
    assert_eq!(
        (status, answer["success"].as_bool()),
        (StatusCode::CREATED, Some(true)),
        "{answer}"
    );
    let secret = answer["result"]["secret"].as_str().unwrap();

    let (status, answer) = server.signed(&admin, "/api/v1/register", body).await;
    assert_eq!((status, code(&answer)), (StatusCode::CONFLICT, 74));

    let (status, answer, key) = server.enroll("truck-17", secret, "truck-17", json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let device = certificate(&answer);
    assert_eq!(device.common_name(), Some("truck-17"));
    let mut units = device.organizational_units().to_vec();
    // One multi-valued RDN: DER orders its members.
    units.sort();
    assert_eq!(units, ["client", "hall", "org1"]);
    assert_eq!(device.attributes()["selvedge.device"], "true");
    assert_eq!(device.attributes()["hf.EnrollmentID"], "truck-17");
    assert!(
        !device.attributes().contains_key("quiet"),
        "not marked ecert and not asked for"
    );
    assert_eq!(
        device.public_key().unwrap().spki_der(),
        key.public_key().spki_der()
    );

    let (status, answer, _) = server.enroll("truck-17", secret, "truck-17", json!({})).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::UNAUTHORIZED, 20),
        "one enrolment only"
    );

    let request = csr::create(&key, "truck-17", &[]).unwrap();
    let body = json!({ "certificate_request": request, "attr_reqs": [{ "name": "quiet" }] });
    let (status, answer) = server.signed(&(device, key), "/api/v1/reenroll", body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let attributes = certificate(&answer).attributes().clone();
    assert_eq!(
        attributes.into_iter().collect::<Vec<_>>(),
        [("quiet".to_owned(), "x".to_owned())]
    );
}

#[tokio::test]
async fn wrong_callers_are_refused() {
    let server = Server::new();
    let (status, answer, _) = server.enroll("nobody", "x", "nobody", json!({})).await;
    assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 20));
    let (status, answer, _) = server.enroll("admin", &server.secret(), "other", json!({})).await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 77));
    let (status, answer, _) = server
        .enroll("admin", &server.secret(), "admin", json!({"profile": "odd"}))
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 31));
    let junk = json!({"certificate_request": "junk"});
    let (status, answer, _) = server.enroll("admin", &server.secret(), "admin", junk).await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 31));
    let (status, answer, _) = server
        .enroll("admin", &server.secret(), "admin", json!({"caname": "else"}))
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::NOT_FOUND, 19));

    let admin = server.admin().await;
    let register = |id: &str| json!({ "id": id, "type": "client", "affiliation": "org1" });
    let (_, answer) = server.signed(&admin, "/api/v1/register", register("plain")).await;
    let secret = answer["result"]["secret"].as_str().unwrap().to_owned();
    let (_, answer, key) = server.enroll("plain", &secret, "plain", json!({})).await;
    let plain = (certificate(&answer), key);
    let (status, answer) = server
        .signed(&plain, "/api/v1/register", register("friend"))
        .await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::FORBIDDEN, 71),
        "not a registrar"
    );
    let unknown = json!({ "id": "x", "type": "client", "affiliation": "org9" });
    let (status, answer) = server.signed(&admin, "/api/v1/register", unknown).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::FORBIDDEN, 71),
        "no such affiliation"
    );

    let body = register("replayed").to_string();
    let elsewhere = token("POST", "/api/v1/enroll", &body, &admin);
    let (status, answer) = server
        .call("POST", "/api/v1/register", Some(&elsewhere), body.clone())
        .await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::UNAUTHORIZED, 20),
        "token of another path"
    );
    let foreign = Server::new().admin().await;
    let (status, answer) = server.signed(&foreign, "/api/v1/register", register("x")).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::UNAUTHORIZED, 20),
        "token of another authority"
    );
}

#[tokio::test]
async fn guessing_locks_the_identity() {
    let server = Server::new();
    for _ in 0..PASSWORD_ATTEMPTS {
        let (status, answer, _) = server.enroll("admin", "guess", "admin", json!({})).await;
        assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 20));
    }
    let (status, answer, _) = server.enroll("admin", &server.secret(), "admin", json!({})).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::UNAUTHORIZED, 73),
        "even the right secret"
    );
}

#[tokio::test]
async fn registrations_survive_a_restart() {
    let server = Server::new();
    let admin = server.admin().await;
    let (_, answer) = server
        .signed(
            &admin,
            "/register",
            json!({ "id": "kept", "affiliation": "org1" }),
        )
        .await;
    let secret = answer["result"]["secret"].as_str().unwrap().to_owned();
    let again = server.restarted(|_| {});
    let (status, answer, _) = again.enroll("kept", &secret, "kept", json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
}

#[tokio::test]
async fn tells_about_itself_and_keeps_the_envelope() {
    let server = Server::new();
    let (status, answer) = server
        .call("GET", "/api/v1/cainfo?ca=undefined", None, String::new())
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["result"]["CAName"], "ca-org1");
    let chain = BASE64_STANDARD
        .decode(answer["result"]["CAChain"].as_str().unwrap())
        .unwrap();
    assert!(Certificate::from_pem(&chain).unwrap().is_ca());
    let (status, answer) = server.call("DELETE", "/api/v1/cainfo", None, String::new()).await;
    assert_eq!((status, code(&answer)), (StatusCode::METHOD_NOT_ALLOWED, 1));
    let (status, answer) = server.call("GET", "/nowhere", None, String::new()).await;
    assert_eq!(
        (status, answer["success"].as_bool()),
        (StatusCode::NOT_FOUND, Some(false))
    );
}
