use std::collections::BTreeMap;
use std::path::Path;

use hyper::Method;
use selvedge_comm::{ClientTls, HttpClient, TlsIdentity};
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SubjectExtra, Usage, Validity,
};
use tracing::level_filters::LevelFilter;

use super::*;
use crate::config::OperationsTls;
use crate::health::FailedCheck;
use crate::log_spec::LogSpec;

struct Answer {
    status: u16,
    body: String,
}

async fn ask(client: &HttpClient, method: Method, url: &str, body: &'static str) -> Answer {
    let answer = client.request(method, url, &[], body).await.unwrap();
    Answer {
        status: answer.status.as_u16(),
        body: String::from_utf8(answer.body.to_vec()).unwrap(),
    }
}

fn plain() -> HttpClient {
    HttpClient::new(ClientTls::default())
}

async fn start(config: &OperationsConfig, operations: &Operations) -> SocketAddr {
    let listener = OperationsListener::open(config).await.unwrap();
    let address = listener.address();
    tokio::spawn(listener.serve(operations.clone(), std::future::pending()));
    address
}

#[tokio::test]
async fn health_is_ok_until_a_check_fails() {
    let operations = Operations::default();
    let url = format!(
        "http://{}/healthz",
        start(&OperationsConfig::plain("127.0.0.1:0"), &operations).await
    );
    let well = ask(&plain(), Method::GET, &url, "").await;
    assert_eq!(well.status, 200);
    let body: serde_json::Value = serde_json::from_str(&well.body).unwrap();
    assert_eq!(body["status"], "OK");
    let time = body["time"].as_str().unwrap();
    assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");

    operations.health.add(Vec::new);
    operations.health.add(|| {
        vec![FailedCheck {
            component: "channel trade".into(),
            reason: "disk full".into(),
        }]
    });
    let ill = ask(&plain(), Method::GET, &url, "").await;
    assert_eq!(ill.status, 503);
    let body: serde_json::Value = serde_json::from_str(&ill.body).unwrap();
    assert_eq!(body["status"], "Service Unavailable");
    assert_eq!(
        body["failed_checks"],
        json!([{ "component": "channel trade", "reason": "disk full" }])
    );
}

#[tokio::test]
async fn version_metrics_and_log() {
    let mut config = OperationsConfig::plain("127.0.0.1:0");
    config.log = LogControl::new(LogSpec::all(LevelFilter::WARN), |_| Ok(()));
    let base = format!("http://{}", start(&config, &Operations::default()).await);
    let client = plain();

    let version = ask(&client, Method::GET, &format!("{base}/version"), "").await;
    let version: serde_json::Value = serde_json::from_str(&version.body).unwrap();
    assert_eq!(version["Version"], env!("CARGO_PKG_VERSION"));
    assert!(version["CommitSHA"].is_string());

    let metrics = ask(&client, Method::GET, &format!("{base}/metrics"), "").await;
    assert!(metrics.body.contains("# TYPE process_start_time_seconds gauge\n"));

    let log = format!("{base}/logspec");
    assert_eq!(
        ask(&client, Method::GET, &log, "").await.body,
        r#"{"spec":"warn"}"#
    );
    let changed = ask(
        &client,
        Method::PUT,
        &log,
        r#"{"spec":"info:selvedge_peer=debug"}"#,
    )
    .await;
    assert_eq!((changed.status, changed.body.as_str()), (204, ""));
    assert_eq!(
        ask(&client, Method::GET, &log, "").await.body,
        r#"{"spec":"info:selvedge_peer=debug"}"#
    );
    for (body, word) in [
        (r#"{"spec":"loud"}"#, "loud"),
        ("info", "the body is not"),
        (r#"{"level":"info"}"#, "the body is not"),
    ] {
        let refused = ask(&client, Method::PUT, &log, body).await;
        assert_eq!(refused.status, 400);
        assert!(refused.body.starts_with(r#"{"error":""#), "{}", refused.body);
        assert!(refused.body.contains(word), "{}", refused.body);
    }
    assert_eq!(ask(&client, Method::DELETE, &log, "").await.status, 405);
    assert_eq!(
        ask(&client, Method::GET, &format!("{base}/other"), "")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_log_that_nobody_handed_in_stays_as_it_is() {
    let address = start(&OperationsConfig::plain("127.0.0.1:0"), &Operations::default()).await;
    let url = format!("http://{address}/logspec");
    assert_eq!(
        ask(&plain(), Method::PUT, &url, r#"{"spec":"debug"}"#)
            .await
            .status,
        501
    );
}

struct Pki {
    root: std::path::PathBuf,
    certificate: std::path::PathBuf,
    key: std::path::PathBuf,
}

/// An authority of its own with a certificate for `localhost`.
fn pki(dir: &Path, name: &str) -> Pki {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let now = i64::try_from(now).unwrap();
    let validity = Validity {
        not_before: now - 300,
        not_after: now + 3600,
    };
    let subject = CaSubject {
        common_name: name.to_owned(),
        ..CaSubject::default()
    };
    let authority = CertificateAuthority::generate_root(&subject, &validity).unwrap();
    let key = PrivateKey::generate().unwrap();
    let leaf = authority
        .issue(&IssueRequest {
            public_key: key.public_key().clone(),
            common_name: "localhost".into(),
            organizational_units: Vec::new(),
            dns_names: vec!["localhost".into()],
            ip_addresses: Vec::new(),
            attributes: BTreeMap::new(),
            usage: Usage::Tls,
            not_before: validity.not_before,
            not_after: validity.not_after,
            subject_extra: SubjectExtra::default(),
        })
        .unwrap();
    let file = |kind: &str| dir.join(format!("{name}-{kind}.pem"));
    std::fs::write(file("root"), authority.certificate().to_pem()).unwrap();
    std::fs::write(file("certificate"), leaf.to_pem()).unwrap();
    key.write_file(&file("key")).unwrap();
    Pki {
        root: file("root"),
        certificate: file("certificate"),
        key: file("key"),
    }
}

#[tokio::test]
async fn with_client_roots_only_health_and_version_are_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let (own, strange) = (pki(dir.path(), "own"), pki(dir.path(), "strange"));
    let mut config = OperationsConfig::plain("127.0.0.1:0");
    config.tls = Some(OperationsTls {
        certificate: own.certificate.clone(),
        key: own.key.clone(),
        client_roots: vec![own.root.clone()],
    });
    let port = start(&config, &Operations::default()).await.port();
    let url = |path: &str| format!("https://localhost:{port}{path}");
    let client = |shown: Option<&Pki>| {
        HttpClient::new(ClientTls {
            roots: vec![std::fs::read(&own.root).unwrap()],
            identity: shown.map(|p| TlsIdentity::from_files(&p.certificate, &p.key).unwrap()),
            ..ClientTls::default()
        })
    };
    for (path, without) in [
        ("/healthz", 200),
        ("/version", 200),
        ("/metrics", 401),
        ("/logspec", 401),
    ] {
        assert_eq!(
            ask(&client(None), Method::GET, &url(path), "").await.status,
            without,
            "{path}"
        );
        assert_eq!(
            ask(&client(Some(&own)), Method::GET, &url(path), "").await.status,
            200,
            "{path}"
        );
    }
    let refused = client(Some(&strange))
        .request(Method::GET, &url("/metrics"), &[], "")
        .await;
    assert!(refused.is_err(), "a certificate of another authority");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let config = OperationsConfig::plain("127.0.0.1:0");
    let first = OperationsListener::open(&config).await.unwrap();
    let taken = OperationsConfig::plain(first.address().to_string());
    let why = OperationsListener::open(&taken).await.unwrap_err().to_string();
    assert!(why.contains(&first.address().to_string()), "{why}");
}
