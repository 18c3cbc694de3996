//! The doctor on a gateway's files, without a network.

use std::path::Path;

use super::*;
use crate::testing;

fn level_of<'a>(report: &'a Report, word: &str) -> &'a Finding {
    let found = report.checks.iter().find(|c| c.what.contains(word));
    found.unwrap_or_else(|| panic!("no check tells of '{word}':\n{}", report.text()))
}

#[tokio::test]
async fn a_file_that_is_not_there_is_the_only_finding() {
    let report = examine(Path::new("/no/such/edge.yaml")).await;
    assert_eq!(report.checks.len(), 1);
    assert_eq!(report.failed(), 1);
    assert!(report.checks[0].what.contains("/no/such/edge.yaml"));
    assert!(report.checks[0].todo.is_some());
}

#[tokio::test]
async fn a_gateway_without_a_network() {
    let home = testing::gateway_home();
    let report = examine(&home.config).await;
    let text = report.text();
    assert_eq!(
        level_of(&report, "fits the certificate").level,
        Level::Ok,
        "{text}"
    );
    assert_eq!(
        level_of(&report, "the gateway does not run").level,
        Level::Warning,
        "{text}"
    );
    assert_eq!(
        level_of(&report, "keeps what is written").level,
        Level::Ok,
        "{text}"
    );
    let peer = level_of(&report, "127.0.0.1:1");
    assert_eq!(peer.area, Area::Config, "it is dialled without TLS: {text}");
    let peer = level_of(&report, "nobody listens there");
    assert_eq!((peer.area, peer.level), (Area::Network, Level::Failed), "{text}");
    assert!(text.lines().last().unwrap().contains("failed"));

    // Everything that is not well says what to do.
    for check in &report.checks {
        assert_eq!(check.todo.is_some(), check.level != Level::Ok, "{check:?}");
    }
    let json = report.json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["failed"], report.failed());
    assert_eq!(json["checks"][0]["area"], "config");
    // Nothing stays behind.
    assert!(!home.folder.path().join("data").join("doctor.probe").exists());
}

#[tokio::test]
async fn a_key_of_somebody_else_is_found() {
    let home = testing::gateway_home();
    let other = selvedge_msp::PrivateKey::generate().unwrap();
    let keystore = home.folder.path().join("msp/keystore");
    for file in std::fs::read_dir(&keystore).unwrap() {
        let path = file.unwrap().path();
        std::fs::remove_file(&path).unwrap();
        other.write_file(&path).unwrap();
    }
    let report = examine(&home.config).await;
    let found = level_of(&report, "no identity in");
    assert_eq!((found.area, found.level), (Area::Certificate, Level::Failed));
}

#[tokio::test]
async fn a_key_that_others_may_read_is_found() {
    use std::os::unix::fs::PermissionsExt;
    let home = testing::gateway_home();
    let keystore = home.folder.path().join("msp/keystore");
    for file in std::fs::read_dir(&keystore).unwrap() {
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(file.unwrap().path(), open).unwrap();
    }
    let report = examine(&home.config).await;
    let found = level_of(&report, "may read the private key");
    assert!(found.todo.as_ref().unwrap().starts_with("chmod 600"));
}

#[test]
fn amounts_are_for_reading() {
    assert_eq!(bytes(999), "999 B");
    assert_eq!(bytes(268_435_456), "268.4 MB");
    assert_eq!(bytes(32_000_000_000), "32.0 GB");
    assert_eq!(span(119), "119 s");
    assert_eq!(span(7199), "119 min");
    assert_eq!(span(3 * 86_400), "3 days");
    assert_eq!(date(1_700_000_000), "2023-11-14 22:13");
}

#[test]
fn clocks_are_compared() {
    let judge = |theirs: i64, ours: i64, at_least| {
        let mut report = Report::default();
        clock::compare(&mut report, "the authority", theirs, ours, at_least);
        report.checks.remove(0).level
    };
    assert_eq!(judge(1000, 1010, false), Level::Ok);
    assert_eq!(judge(1000, 1100, false), Level::Warning);
    assert_eq!(judge(10_000, 1000, false), Level::Failed);
    assert_eq!(judge(1000, 10_000, false), Level::Failed);
    // A transaction of long ago says nothing against a clock.
    assert_eq!(judge(1000, 10_000, true), Level::Ok);
    assert_eq!(judge(10_000, 1000, true), Level::Failed);
    assert_eq!(
        clock::http_date("Tue, 14 Nov 2023 22:13:20 GMT"),
        Some(1_700_000_000)
    );
    assert_eq!(clock::http_date("soon"), None);
}
