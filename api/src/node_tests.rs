//! A server from its files, without a network behind it: who gets in, and what strangers see.

use std::collections::BTreeMap;
use std::path::Path;

use selvedge_comm::{ClientTls, HttpAnswer, HttpClient, Method};
use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SubjectExtra, Usage, Validity,
};
use serde_json::Value;

use super::*;

fn write_identity(dir: &Path) {
    let now = crate::now_seconds();
    let validity = Validity {
        not_before: now - 300,
        not_after: now + 3600,
    };
    let subject = CaSubject {
        common_name: "ca".into(),
        ..CaSubject::default()
    };
    let ca = CertificateAuthority::generate_root(&subject, &validity).unwrap();
    let key = PrivateKey::generate().unwrap();
    let certificate = ca
        .issue(&IssueRequest {
            public_key: key.public_key().clone(),
            common_name: "alice".into(),
            organizational_units: vec!["client".into()],
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            attributes: BTreeMap::new(),
            usage: Usage::Identity,
            not_before: validity.not_before,
            not_after: validity.not_after,
            subject_extra: SubjectExtra::default(),
        })
        .unwrap();
    let contents = MspDirContents {
        cacerts: vec![("ca.pem".into(), ca.certificate().clone())],
        signcert: Some(("alice.pem".into(), certificate)),
        key: Some(key),
        node_ous: true,
        ..Default::default()
    };
    write_msp_dir(dir, &contents).unwrap();
}

async fn start(folder: &Path, limits: &str) -> Api {
    write_identity(&folder.join("msp"));
    let text = format!(
        "
listen: 127.0.0.1:0
organization: Org1
msp_id: Org1MSP
msp_dir: msp
data_dir: data
peers: [{{ address: 'localhost:1', msp_id: Org1MSP }}]
users: [{{ name: alice, msp_dir: msp }}]
limits: {limits}
"
    );
    let path = folder.join("api.yaml");
    std::fs::write(&path, text).unwrap();
    Api::start(ApiConfig::read(&path).unwrap()).await.unwrap()
}

async fn call(api: &Api, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> HttpAnswer {
    HttpClient::new(ClientTls::default())
        .request(
            method,
            &format!("http://{}{path}", api.address()),
            headers,
            body.to_owned(),
        )
        .await
        .unwrap()
}

fn json(answer: &HttpAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_the_page_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let api = start(folder.path(), "{}").await;
    let page = call(&api, Method::GET, "/", &[], "").await;
    assert_eq!(page.status.as_u16(), 200);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self'"), "{policy}");
    let tag = page.headers["etag"].to_str().unwrap().to_owned();
    let again = call(&api, Method::GET, "/", &[("if-none-match", &tag)], "").await;
    assert_eq!(again.status.as_u16(), 304);
    let packed = call(
        &api,
        Method::GET,
        "/app/style.css",
        &[("accept-encoding", "gzip")],
        "",
    )
    .await;
    assert_eq!(packed.headers["content-encoding"], "gzip");

    let me = call(&api, Method::GET, "/v1/me", &[], "").await;
    assert_eq!(json(&me)["view"], Value::Null);
    for path in [
        "/v1/overview",
        "/v1/channels",
        "/v1/channels/trade/rfqs",
        "/v1/search?q=1",
    ] {
        let answer = call(&api, Method::GET, path, &[], "").await;
        assert_eq!(answer.status.as_u16(), 401, "{path}");
        assert!(json(&answer)["error"].is_string(), "{path}");
    }
    for (method, path, status) in [
        (Method::GET, "/nowhere", 404),
        (Method::DELETE, "/v1/me", 405),
        (Method::GET, "/app/nothing.js", 404),
    ] {
        let answer = call(&api, method, path, &[], "").await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(json(&answer)["error"].is_string(), "{path}");
    }
    api.stop().await.unwrap();
    let log = std::fs::read_to_string(folder.path().join("data/access.log")).unwrap();
    assert!(log.lines().count() >= 10, "{log}");
    assert!(log.contains(r#""path":"/v1/overview","status":401"#), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_and_flooding_end_soon() {
    let folder = tempfile::tempdir().unwrap();
    let api = start(
        folder.path(),
        "{ login_failures: 2, requests_per_second: 1, burst: 8 }",
    )
    .await;
    let guess = [("authorization", "Bearer guessed")];
    for _ in 0..2 {
        assert_eq!(
            call(&api, Method::GET, "/v1/me", &guess, "")
                .await
                .status
                .as_u16(),
            401
        );
    }
    let refused = call(&api, Method::GET, "/v1/me", &guess, "").await;
    assert_eq!(refused.status.as_u16(), 429);
    assert!(refused.headers.contains_key("retry-after"));
    let code = call(&api, Method::POST, "/v1/login/redeem", &[], r#"{"code":"x"}"#).await;
    assert_eq!(code.status.as_u16(), 429, "whatever way it is tried");
    // Others at this address may still look.
    assert_eq!(
        call(&api, Method::GET, "/v1/me", &[], "").await.status.as_u16(),
        200
    );
    let mut last = 0;
    for _ in 0..8 {
        last = call(&api, Method::GET, "/v1/me", &[], "").await.status.as_u16();
    }
    assert_eq!(last, 429);
    api.stop().await.unwrap();
}
