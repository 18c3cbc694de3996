//! A gateway from its files, without a network behind it.

use selvedge_comm::{ClientTls, HttpClient, Method};
use serde_json::Value;

use super::*;
use crate::testing;

async fn call(method: Method, url: &str, body: &'static str) -> (u16, String) {
    let http = HttpClient::new(ClientTls::default());
    let answer = http.request(method, url, &[], body).await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    (answer.status.as_u16(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_buffered_shows_on_both_listeners() {
    let home = testing::gateway_home();
    let edge = Edge::start(EdgeConfig::read(&home.config).unwrap())
        .await
        .unwrap();
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
    let (status, text) = call(Method::GET, &format!("{rest}/v1/status"), "").await;
    let view: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &view["open"]), (200, &Value::from(1)), "{text}");
    assert!(view["certificate"]["not_after"].as_i64().unwrap() > 0, "{text}");
    assert!(view["limits"]["max_bytes"].as_u64().unwrap() > 0, "{text}");
    let (status, page) = call(Method::GET, &format!("{rest}/"), "").await;
    assert_eq!(status, 200);
    assert!(page.starts_with("<!doctype html>"));
    // Devices do not see the log.
    assert_eq!(call(Method::GET, &format!("{rest}/logspec"), "").await.0, 404);
    assert_eq!(
        call(Method::GET, &format!("{operations}/logspec"), "").await.0,
        200
    );
    edge.stop().await.unwrap();
}
