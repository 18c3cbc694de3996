//! Arbitrary and damaged input: every parser behind the interface must refuse it, and none may panic or blame the server.
//!
//! `SELVEDGE_FUZZ_CASES` sets how many cases each test tries (64 if absent).

use std::sync::LazyLock;

use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_assume, prop_oneof, proptest,
};
use proptest::test_runner::Config;
use selvedge_comm::PeerTls;
use tokio::runtime::Runtime;

use super::*;

const PATHS: [(&str, &str); 14] = [
    ("POST", "/enroll"),
    ("POST", "/reenroll"),
    ("POST", "/register"),
    ("POST", "/revoke"),
    ("POST", "/gencrl"),
    ("GET", "/identities"),
    ("POST", "/identities"),
    ("PUT", "/identities/admin"),
    ("DELETE", "/identities/admin"),
    ("POST", "/affiliations"),
    ("GET", "/certificates"),
    ("POST", "/cainfo"),
    ("POST", "/.well-known/est/simpleenroll"),
    ("POST", "/.well-known/est/ca-org1/simplereenroll"),
];

fn cases() -> Config {
    let cases = std::env::var("SELVEDGE_FUZZ_CASES").ok();
    Config {
        failure_persistence: None,
        ..Config::with_cases(cases.and_then(|n| n.parse().ok()).unwrap_or(64))
    }
}

struct Fixture {
    runtime: Runtime,
    server: Server,
    admin: Holder,
    secret: String,
}

/// One server for all cases: making one costs more than a case.
static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let server = Server::new();
    let admin = runtime.block_on(server.admin());
    let secret = server.secret();
    Fixture {
        runtime,
        server,
        admin,
        secret,
    }
});

impl Fixture {
    fn send(&self, request: Request<Body>) -> (StatusCode, Vec<u8>) {
        self.runtime.block_on(async {
            let response = self.server.router.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            (status, body.to_vec())
        })
    }

    fn call(&self, method: &str, path: &str, authorization: &[u8], body: Vec<u8>) -> StatusCode {
        let Ok(value) = axum::http::HeaderValue::from_bytes(authorization) else {
            // No HTTP server would hand it on.
            return StatusCode::BAD_REQUEST;
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", value)
            .body(Body::from(body))
            .unwrap();
        let (status, body) = self.send(request);
        if !path.contains(".well-known") {
            let answer: Value = serde_json::from_slice(&body).expect("an answer in Fabric's form");
            assert_eq!(answer["success"].as_bool(), Some(status.is_success()), "{answer}");
        }
        status
    }

    fn basic(&self) -> String {
        format!(
            "Basic {}",
            BASE64_STANDARD.encode(format!("admin:{}", self.secret))
        )
    }
}

/// Bytes with some of them replaced, removed or doubled.
fn damaged(original: &[u8], damage: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for (at, how, to) in damage {
        if bytes.is_empty() {
            break;
        }
        let place = at.index(bytes.len());
        match how % 4 {
            0 => drop(bytes.remove(place)),
            1 => bytes.insert(place, *to),
            2 => bytes[place] ^= 1 << (to % 8),
            _ => bytes[place] = *to,
        }
    }
    bytes
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 1..5)
}

/// JSON as a careless or hostile client may nest it.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        Just("id".to_owned()),
        Just("Type".to_owned()),
        Just("caname".to_owned()),
        Just("attrs".to_owned()),
        Just("affiliation".to_owned()),
        Just("max_enrollments".to_owned()),
        Just("certificate_request".to_owned()),
        Just("attr_reqs".to_owned()),
        Just("subject".to_owned()),
        Just("names".to_owned()),
        Just("hosts".to_owned()),
        Just("revokedafter".to_owned()),
        Just("serial".to_owned()),
        Just("aki".to_owned()),
        "[a-z]{1,8}",
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(names.clone(), inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn strangers_get_nowhere(
        which in 0..PATHS.len(),
        authorization in prop_oneof![
            proptest::collection::vec(32..=255u8, 0..200),
            proptest::collection::vec(any::<u8>(), 0..100).prop_map(|b| format!("Basic {}", BASE64_STANDARD.encode(b)).into_bytes()),
            (proptest::collection::vec(any::<u8>(), 0..100), proptest::collection::vec(any::<u8>(), 0..80))
                .prop_map(|(c, s)| format!("{}.{}", BASE64_STANDARD.encode(c), BASE64_STANDARD.encode(s)).into_bytes()),
        ],
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            json_value().prop_map(|v| v.to_string().into_bytes()),
        ],
    ) {
        let (method, path) = PATHS[which];
        let status = FIXTURE.call(method, path, &authorization, body);
        prop_assert!(!status.is_server_error(), "{status}");
        prop_assert!(!status.is_success() || path == "/cainfo", "{status}");
    }

    #[test]
    fn a_registrars_nonsense_is_refused_politely(which in 0..12usize, body in json_value()) {
        // The first twelve take tokens; removals are off, so the registrar outlives the test.
        let (method, path) = PATHS[which];
        prop_assume!(path != "/revoke" && path != "/identities/admin");
        let body = body.to_string();
        let token = token(method, path, &body, &FIXTURE.admin);
        let status = FIXTURE.call(method, path, token.as_bytes(), body.into_bytes());
        // 500 with code 81 is Fabric's answer to an attribute that is missing.
        prop_assert!(!status.is_server_error() || path == "/reenroll", "{status}");
    }

    #[test]
    fn a_damaged_token_is_none(damage in damage()) {
        let good = token("GET", "/identities", "", &FIXTURE.admin);
        let bad = damaged(good.as_bytes(), &damage);
        // HTTP takes blanks around a value away.
        prop_assume!(bad.trim_ascii() != good.as_bytes());
        let status = FIXTURE.call("GET", "/identities", &bad, Vec::new());
        prop_assert!(status == StatusCode::UNAUTHORIZED || status == StatusCode::BAD_REQUEST, "{status}");
    }

    #[test]
    fn a_token_covers_method_path_query_and_body(
        method in "GET|PUT|POST|DELETE",
        path in "/(identities|affiliations|certificates|register|identities/admin)",
        query in "(\\?ca=ca-org1|\\?force=true|)",
        body in "[ -~]{0,20}",
    ) {
        let good = token("GET", "/identities", "", &FIXTURE.admin);
        let uri = format!("{path}{query}");
        prop_assume!((method.as_str(), uri.as_str(), body.as_str()) != ("GET", "/identities", ""));
        let status = FIXTURE.call(&method, &uri, good.as_bytes(), body.into_bytes());
        prop_assert!(status.is_client_error(), "{status}");
    }

    #[test]
    fn a_damaged_request_gets_no_other_certificate(damage in damage(), est in any::<bool>()) {
        let fixture = &*FIXTURE;
        let key = PrivateKey::generate().unwrap();
        let pem = csr::create(&key, "admin", &["host".into()]).unwrap();
        let (block, _) = selvedge_msp::pem::first_block(pem.as_bytes()).unwrap();
        let der = damaged(&block.content, &damage);
        let mut request = Request::post(if est { "/.well-known/est/simpleenroll" } else { "/enroll" })
            .header("authorization", fixture.basic());
        let body = if est {
            request = request.header("content-type", "application/pkcs10");
            BASE64_STANDARD.encode(&der)
        } else {
            json!({ "certificate_request": selvedge_msp::pem::encode("CERTIFICATE REQUEST", &der) }).to_string()
        };
        let (status, answer) = fixture.send(request.body(Body::from(body)).unwrap());
        if status.is_success() {
            let issued = if est {
                let text: String = String::from_utf8(answer).unwrap().split_whitespace().collect();
                selvedge_msp::pkcs7::decode(&BASE64_STANDARD.decode(text).unwrap()).unwrap().remove(0)
            } else {
                certificate(&serde_json::from_slice(&answer).unwrap())
            };
            prop_assert_eq!(issued.common_name(), Some("admin"));
            prop_assert_eq!(issued.public_key(), Some(key.public_key()));
        } else {
            prop_assert!(matches!(status.as_u16(), 400 | 403), "{}", status);
        }
    }

    #[test]
    fn any_certificate_in_a_handshake_is_survived(damage in damage(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for shown in [damaged(FIXTURE.admin.0.der(), &damage), bytes] {
            prop_assume!(shown != FIXTURE.admin.0.der());
            let request = Request::post("/.well-known/est/simplereenroll")
                .extension(PeerTls::showing(&shown))
                .body(Body::from("AAAA"))
                .unwrap();
            let (status, _) = FIXTURE.send(request);
            prop_assert!(matches!(status.as_u16(), 400 | 401), "{}", status);
        }
    }

    #[test]
    fn any_query_and_path_is_survived(query in "[!-~]{0,60}", name in "[!-~]{1,40}") {
        for uri in [format!("/certificates?{query}"), format!("/identities/{name}"), format!("/.well-known/est/{name}/cacerts")] {
            if uri.parse::<axum::http::Uri>().is_err() {
                continue;
            }
            let token = token("GET", &uri, "", &FIXTURE.admin);
            let request = Request::get(&uri).header("authorization", token).body(Body::empty()).unwrap();
            let (status, _) = FIXTURE.send(request);
            prop_assert!(!status.is_server_error(), "{} {}", uri, status);
        }
    }
}
