//! A gateway from its files, without a network behind it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use selvedge_comm::{ClientTls, HttpClient, Method};
use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_msp::{CaSubject, CertificateAuthority, IssueRequest, SubjectExtra, Usage, Validity};
use serde_json::Value;

use super::*;

fn write_identity(dir: &Path) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
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
            common_name: "edge".into(),
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
        signcert: Some(("edge.pem".into(), certificate)),
        key: Some(key),
        node_ous: true,
        ..Default::default()
    };
    write_msp_dir(dir, &contents).unwrap();
}

async fn call(method: Method, url: &str, body: &'static str) -> (u16, String) {
    let http = HttpClient::new(ClientTls::default());
    let answer = http.request(method, url, &[], body).await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    (answer.status.as_u16(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_buffered_shows_on_both_listeners() {
    let folder = tempfile::tempdir().unwrap();
    write_identity(&folder.path().join("msp"));
    let file = folder.path().join("edge.yaml");
    // Nobody listens on port 1.
    let text = "id: edge0\nlisten: '127.0.0.1:0'\nmsp_id: Org1MSP\nmsp_dir: msp\ndata_dir: data\n\
                uplink: {peers: [{address: '127.0.0.1:1', msp_id: Org1MSP}]}\noperations: {listen: '127.0.0.1:0'}\n";
    std::fs::write(&file, text).unwrap();
    let edge = Edge::start(EdgeConfig::read(&file).unwrap()).await.unwrap();
    let rest = format!("http://{}", edge.address());
    let operations = format!("http://{}", edge.operations_address().unwrap());

    let request = r#"{"channel":"trade","chaincode":"shipment","function":"f"}"#;
    let (status, answer) = call(Method::POST, &format!("{rest}/v1/transactions"), request).await;
    assert_eq!(status, 202, "{answer}");
    for base in [&rest, &operations] {
        let (status, health) = call(Method::GET, &format!("{base}/healthz"), "").await;
        let health: Value = serde_json::from_str(&health).unwrap();
        assert_eq!((status, &health["status"]), (200, &Value::from("OK")));
        let (status, text) = call(Method::GET, &format!("{base}/metrics"), "").await;
        assert_eq!(status, 200);
        let open = text
            .lines()
            .filter(|l| l.starts_with("selvedge_edge_open_requests{state="));
        let open: f64 = open
            .map(|l| l.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum();
        assert!((open - 1.0).abs() < f64::EPSILON, "{text}");
        assert!(text.contains("\nselvedge_edge_accepted_requests 1\n"), "{text}");
        assert!(text.contains("# TYPE selvedge_edge_accepted_requests counter\n"));
        assert!(text.contains("# TYPE selvedge_edge_uplink_connected gauge\n"));
        let (status, _) = call(Method::GET, &format!("{base}/version"), "").await;
        assert_eq!(status, 200);
    }
    // Devices do not see the log.
    assert_eq!(call(Method::GET, &format!("{rest}/logspec"), "").await.0, 404);
    assert_eq!(
        call(Method::GET, &format!("{operations}/logspec"), "").await.0,
        200
    );
    edge.stop().await.unwrap();
}
