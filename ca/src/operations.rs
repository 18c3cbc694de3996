//! What a CA server tells of itself.

use std::sync::Arc;

use selvedge_operations::{FailedCheck, Operations, Sample};

use crate::authority::{Authority, unix_now};
use crate::registry::Count;

const SECONDS_PER_DAY: f64 = 86_400.0;

const COUNTS: [(&str, &str, Count); 3] = [
    (
        "selvedge_ca_registrations",
        "Identities in the registry.",
        Count::Identities,
    ),
    (
        "selvedge_ca_enrollments",
        "Certificates issued by enrolling and re-enrolling.",
        Count::Certificates,
    ),
    ("selvedge_ca_revocations", "Certificates revoked.", Count::Revoked),
];

/// Days until the certificate that the authority signs with expires; nothing that it issues lives longer.
fn days_left(authority: &Authority) -> f64 {
    let seconds = authority.certificate().not_after().saturating_sub(unix_now());
    #[expect(clippy::cast_precision_loss, reason = "dates stay far below 2^53 seconds")]
    let seconds = seconds as f64;
    seconds / SECONDS_PER_DAY
}

fn failed(authority: &Authority) -> Option<FailedCheck> {
    let reason = if days_left(authority) <= 0.0 {
        "its certificate has expired: it cannot issue any more".to_owned()
    } else {
        let why = authority.registry.check().err()?;
        format!("its registry cannot be read: {why}")
    };
    Some(FailedCheck {
        component: format!("ca {}", authority.name),
        reason,
    })
}

/// The health and metrics of a server's authorities.
pub(crate) fn of(authorities: &[Arc<Authority>]) -> Operations {
    let operations = Operations::default();
    let metrics = &operations.metrics;
    for (name, help, what) in COUNTS {
        let own = authorities.to_vec();
        metrics.gauge(name, help, &["ca"], move || {
            own.iter()
                .filter_map(|a| {
                    let number = a.registry.number_of(what).ok()?;
                    Some((vec![a.name.clone()], f64::from(number)))
                })
                .collect()
        });
    }
    let own = authorities.to_vec();
    metrics.gauge(
        "selvedge_ca_certificate_days_left",
        "Days until the certificate that the authority signs with expires.",
        &["ca"],
        move || -> Vec<Sample> { own.iter().map(|a| (vec![a.name.clone()], days_left(a))).collect() },
    );
    let own = authorities.to_vec();
    operations
        .health
        .add(move || own.iter().filter_map(|a| failed(a)).collect());
    operations
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use selvedge_comm::{ClientTls, HttpAnswer, HttpClient, Method};
    use selvedge_msp::{CaSubject, CertificateAuthority, Validity};

    use crate::CaConfig;

    use super::*;

    /// Settings of a server whose root is valid for `days` more.
    fn config(dir: &std::path::Path, days: i64) -> CaConfig {
        let validity = Validity {
            not_before: unix_now() - 100 * 86_400,
            not_after: unix_now() + days * 86_400,
        };
        let subject = CaSubject {
            common_name: "ca.org1".into(),
            ..CaSubject::default()
        };
        let root = CertificateAuthority::generate_root(&subject, &validity).unwrap();
        std::fs::write(dir.join("ca.pem"), root.certificate().to_pem()).unwrap();
        root.key().write_file(&dir.join("ca.key")).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let operations = free.local_addr().unwrap();
        let text = format!(
            "listen: '127.0.0.1:0'\ndata_dir: data\noperations: {{listen: '{operations}'}}\n\
             cas: [{{name: ca-org1, certificate: ca.pem, key: ca.key, bootstrap: {{id: admin, secret_file: secret}}}}]\n"
        );
        std::fs::write(dir.join("ca.yaml"), text).unwrap();
        CaConfig::read(&dir.join("ca.yaml")).unwrap()
    }

    async fn get(config: &CaConfig, path: &str) -> HttpAnswer {
        let url = format!("http://{}{path}", config.operations.as_ref().unwrap().listen);
        let http = HttpClient::new(ClientTls::default());
        let answered = async {
            loop {
                // Refused until the server listens.
                if let Ok(answer) = http.request(Method::GET, &url, &[], Vec::new()).await {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), answered)
            .await
            .unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_counts_and_warns_of_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), 10);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(crate::run(config.clone(), async { drop(stopped.await) }));
        assert_eq!(get(&config, "/healthz").await.status, 200);
        let text = get(&config, "/metrics").await.body;
        let text = std::str::from_utf8(&text).unwrap();
        for line in [
            "selvedge_ca_registrations{ca=\"ca-org1\"} 1",
            "selvedge_ca_enrollments{ca=\"ca-org1\"} 0",
            "selvedge_ca_revocations{ca=\"ca-org1\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        let days = "selvedge_ca_certificate_days_left{ca=\"ca-org1\"} ";
        let days = text.lines().find_map(|l| l.strip_prefix(days)).unwrap();
        let days: f64 = days.parse().unwrap();
        assert!((9.9..=10.0).contains(&days), "{days}");
        drop(stop);
        server.await.unwrap().unwrap();
    }

    #[test]
    fn an_expired_root_is_ill() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), -1);
        std::fs::create_dir_all(&config.data_dir).unwrap();
        let authority = Authority::open(&config.cas[0], &config.data_dir).unwrap();
        let operations = of(&[Arc::new(authority)]);
        let failed = operations.health.failed();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].component, "ca ca-org1");
        assert!(failed[0].reason.contains("expired"));
    }
}
