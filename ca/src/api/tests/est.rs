//! Enrolment over Secure Transport, at the level of requests; `tests/est.rs` of the system tests does it with curl and
//! openssl.

use axum::body::to_bytes;
use axum::http::HeaderMap;
use selvedge_msp::{pem, pkcs7};

use super::*;

struct Said {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Said {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    fn certificates(&self) -> Vec<Certificate> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        assert!(self.header("content-type").starts_with("application/pkcs7-mime"));
        assert_eq!(self.header("content-transfer-encoding"), "base64");
        let compact: String = self.text().split_whitespace().collect();
        pkcs7::decode(&BASE64_STANDARD.decode(compact).unwrap()).unwrap()
    }
}

/// A certificate request as EST carries it.
fn request(key: &PrivateKey, name: &str) -> String {
    let (block, _) = pem::first_block(csr::create(key, name, &["host".into()]).unwrap().as_bytes()).unwrap();
    BASE64_STANDARD.encode(block.content)
}

impl Server {
    async fn est(&self, method: &str, path: &str, by: &By<'_>, body: &str) -> Said {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/.well-known/est/{path}"))
            .header("content-type", "application/pkcs10");
        match by {
            By::Nobody => {}
            By::Secret(id, secret) => {
                let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")));
                request = request.header("authorization", basic);
            }
            By::Certificate(certificate) => {
                request = request.extension(PeerTls::showing(certificate.der()));
            }
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        Said {
            status: response.status(),
            headers: response.headers().clone(),
            body: to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec(),
        }
    }
}

enum By<'a> {
    Nobody,
    Secret(&'a str, &'a str),
    Certificate(&'a Certificate),
}

#[tokio::test]
async fn a_device_enrols_by_secret_and_renews_by_certificate() {
    let server = Server::new();
    let admin = server.admin().await;
    let registration = json!({ "id": "plc-4", "affiliation": "org1.hall", "max_enrollments": 1 });
    let (_, answer) = server.signed(&admin, "/register", registration).await;
    let secret = answer["result"]["secret"].as_str().unwrap().to_owned();

    let chain = server.est("GET", "cacerts", &By::Nobody, "").await.certificates();
    let key = PrivateKey::generate().unwrap();
    let by_secret = By::Secret("plc-4", &secret);
    let wrapped = request(&key, "plc-4")
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect::<Vec<_>>()
        .join("\r\n");
    let issued = server
        .est("POST", "ca-org1/simpleenroll", &by_secret, &wrapped)
        .await
        .certificates();
    let [first] = issued.as_slice() else {
        panic!("only what was issued, not {}", issued.len());
    };
    assert!(first.is_signed_by(&chain[0]));
    assert_eq!(first.common_name(), Some("plc-4"));
    assert_eq!(first.public_key(), Some(key.public_key()));
    assert_eq!(first.dns_names(), ["host"]);
    assert_eq!(first.attributes()["hf.Affiliation"], "org1.hall");

    let again = server
        .est("POST", "simpleenroll", &by_secret, &request(&key, "plc-4"))
        .await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "one enrolment only");
    assert!(again.header("www-authenticate").starts_with("Basic "));

    let fresh = PrivateKey::generate().unwrap();
    let by_certificate = By::Certificate(first);
    for path in ["simplereenroll", "ca-org1/simplereenroll", "simpleenroll"] {
        let renewed = server
            .est("POST", path, &by_certificate, &request(&fresh, "plc-4"))
            .await
            .certificates();
        assert_eq!(renewed[0].public_key(), Some(fresh.public_key()), "{path}");
    }
    let tls = server
        .est(
            "POST",
            "ca-org1+tls/simpleenroll",
            &by_certificate,
            &request(&fresh, "plc-4"),
        )
        .await
        .certificates();
    let (_, parsed) = x509_parser::parse_x509_certificate(tls[0].der()).unwrap();
    assert!(parsed.extended_key_usage().unwrap().unwrap().value.client_auth);

    let (status, _) = server.signed(&admin, "/revoke", json!({ "id": "plc-4" })).await;
    assert_eq!(status, StatusCode::OK);
    let revoked = server
        .est(
            "POST",
            "simplereenroll",
            &by_certificate,
            &request(&fresh, "plc-4"),
        )
        .await;
    assert_eq!(revoked.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn refusals_are_plain_text() {
    let server = Server::new();
    let secret = server.secret();
    let key = PrivateKey::generate().unwrap();
    let stranger = Server::new().admin().await.0;
    let (good, admin) = (request(&key, "admin"), By::Secret("admin", &secret));
    for (method, path, by, body, status) in [
        ("GET", "unknown/cacerts", &By::Nobody, "", 404),
        ("GET", "%ff/cacerts", &By::Nobody, "", 400),
        ("GET", "nothing", &By::Nobody, "", 404),
        ("POST", "cacerts", &By::Nobody, "", 405),
        ("POST", "serverkeygen", &admin, good.as_str(), 501),
        ("POST", "simpleenroll", &By::Nobody, &good, 401),
        ("POST", "simpleenroll", &By::Secret("admin", "guess"), &good, 401),
        ("POST", "simplereenroll", &By::Certificate(&stranger), &good, 401),
        ("POST", "simpleenroll", &admin, "", 400),
        ("POST", "simpleenroll", &admin, "%%%", 400),
        ("POST", "simpleenroll", &admin, "AAAA", 400),
        ("POST", "simpleenroll", &admin, &request(&key, "other"), 403),
        (
            "POST",
            "simpleenroll",
            &admin,
            &"A".repeat(MAX_BODY_BYTES + 1),
            413,
        ),
    ] {
        let said = server.est(method, path, by, body).await;
        assert_eq!(said.status.as_u16(), status, "{path}: {}", said.text());
        if path != "nothing" {
            assert!(said.header("content-type").starts_with("text/plain"), "{path}");
        }
        assert!(!said.text().contains(&secret));
    }
    let attributes = server.est("GET", "csrattrs", &By::Nobody, "").await;
    assert_eq!(attributes.header("content-type"), "application/csrattrs");
}

#[tokio::test]
async fn an_expired_certificate_renews_within_the_grace_time() {
    let server = Server::with(|config| config.certificate_seconds = -120);
    let old = server.admin().await.0;
    let key = PrivateKey::generate().unwrap();
    let by = By::Certificate(&old);
    let said = server
        .est("POST", "simplereenroll", &by, &request(&key, "admin"))
        .await;
    assert_eq!(said.status, StatusCode::UNAUTHORIZED);
    let server = server.restarted(|config| config.reenroll_grace = Duration::from_secs(86_400));
    let said = server
        .est("POST", "simplereenroll", &by, &request(&key, "admin"))
        .await;
    assert_eq!(said.certificates().len(), 1);
    let said = server
        .est("POST", "simpleenroll", &by, &request(&key, "admin"))
        .await;
    assert_eq!(said.status, StatusCode::UNAUTHORIZED, "renewing only");
}
