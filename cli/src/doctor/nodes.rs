//! Nodes: does each answer, what certificate does it show, does it call itself healthy, and is its clock right?

use std::time::Duration;

use selvedge_comm::{ClientTls, HttpClient, Method, served_certificates};
use selvedge_msp::Certificate;
use selvedge_renewal::{ask_time, clock_disagreement};

use super::Report;
use crate::network::crypto::now;
use crate::network::nodes::{self, Node, NodeKind};
use crate::session::Session;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// By how much clocks may differ.
const TOLERANCE: Duration = Duration::from_secs(30);

pub(super) async fn check(session: &Session, report: &mut Report) {
    for node in nodes::all(session) {
        check_one(session, &node, report).await;
    }
}

fn operations(session: &Session, node: &Node) -> Option<String> {
    match node.kind {
        NodeKind::Orderer => session.orderer(&node.id).ok()?.node.operations_listen.clone(),
        NodeKind::Peer => session.peer(&node.id).ok()?.node.operations_listen.clone(),
        NodeKind::Ca => {
            let orgs = session.orgs();
            let org = orgs.iter().find(|org| org.ca_host() == node.id)?;
            org.ca?.operations_listen.clone()
        }
        NodeKind::Api => None,
    }
}

fn domain(node: &Node) -> &str {
    node.id.split_once('.').map_or("", |(_, domain)| domain)
}

/// Where others dial a node.
fn address(session: &Session, node: &Node) -> String {
    let found = match node.kind {
        NodeKind::Orderer => session.orderer(&node.id).ok().map(|o| o.address()),
        NodeKind::Peer => session.peer(&node.id).ok().map(|p| p.address()),
        NodeKind::Ca => {
            let orgs = session.orgs();
            let org = orgs.iter().find(|org| org.ca_host() == node.id);
            org.and_then(|org| Some(org.ca_url()?.trim_start_matches("https://").to_owned()))
        }
        NodeKind::Api => None,
    };
    found.unwrap_or_else(|| node.listen.clone())
}

async fn check_one(session: &Session, node: &Node, report: &mut Report) {
    let address = address(session, node);
    if node.kind == NodeKind::Api && !speaks_tls(session, node) {
        return match tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(&address)).await {
            Ok(Ok(_)) => report.good(&node.id, format!("answers at {address}")),
            _ => report.problem(
                &node.id,
                format!("does not answer at {address}"),
                format!(
                    "`selvedge network up` starts it, `selvedge network logs {}` says why it ended",
                    node.id
                ),
            ),
        };
    }
    let shown = tokio::time::timeout(PATIENCE, served_certificates(&address)).await;
    let chain = match shown {
        Ok(Ok(chain)) => chain,
        Ok(Err(error)) => {
            return report.problem(
                &node.id,
                format!("does not answer at {address}: {error}"),
                format!(
                    "`selvedge network up` starts it, `selvedge network logs {}` says why it ended",
                    node.id
                ),
            );
        }
        Err(_) => {
            return report.problem(
                &node.id,
                format!("does not answer at {address} within {} s", PATIENCE.as_secs()),
                format!("`selvedge network logs {}` may say why", node.id),
            );
        }
    };
    report.good(&node.id, format!("answers at {address}"));
    shown_certificate(session, node, &chain, report);
    health(session, node, report).await;
    clock(session, node, report).await;
}

/// Whether the REST interface of an organisation has a TLS certificate.
fn speaks_tls(session: &Session, node: &Node) -> bool {
    let org = session.org(domain(node));
    org.is_ok_and(|org| org.servers().iter().any(|(host, _)| *host == node.id))
}

fn shown_certificate(session: &Session, node: &Node, chain: &[Vec<u8>], report: &mut Report) {
    let object = format!("{}, TLS certificate that it shows", node.id);
    let Some(leaf) = chain.first().and_then(|der| Certificate::from_der(der).ok()) else {
        return report.problem(
            object,
            "cannot be read",
            "look at the tls section of its configuration file",
        );
    };
    let Ok(org) = session.org(domain(node)) else {
        return;
    };
    let renews = if org.ca.is_some() {
        format!(
            "it should renew by itself; `selvedge network logs {}` says why it does not, and ca.{} must run",
            node.id, org.domain
        )
    } else {
        format!("selvedge network renew --org {}", org.domain)
    };
    report.certificate(&object, &leaf, &renews);
    // What lies in its file is what it should show.
    let trusted = super::certificates::in_file(&org.layout.tls_ca_certificate());
    let presented: Vec<Certificate> = chain
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect();
    let known = trusted
        .iter()
        .any(|root| presented.iter().any(|c| c == root || c.is_signed_by(root)));
    if !known {
        report.problem(
            object,
            format!(
                "issued by '{}', which the network's folder does not trust",
                leaf.issuer()
            ),
            format!("compare with {}", org.layout.tls_ca_certificate().display()),
        );
    }
}

async fn health(session: &Session, node: &Node, report: &mut Report) {
    let Some(listen) = operations(session, node) else {
        return;
    };
    let object = format!("{}, health", node.id);
    let url = format!("http://{listen}/healthz");
    let http = HttpClient::new(ClientTls::default()).with_timeout(PATIENCE);
    match http.request(Method::GET, &url, &[], "").await {
        Ok(answer) if answer.status == 200 => report.good(object, "says that it is healthy"),
        Ok(answer) => {
            let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let checks = said["failed_checks"].as_array().cloned().unwrap_or_default();
            let reasons: Vec<String> = checks
                .iter()
                .map(|c| {
                    let text = |key: &str| c[key].as_str().unwrap_or("?").to_owned();
                    format!("{}: {}", text("component"), text("reason"))
                })
                .collect();
            report.problem(
                object,
                format!("says that it is not healthy: {}", reasons.join("; ")),
                format!("`selvedge network logs {}` says more", node.id),
            );
        }
        Err(error) => report.problem(
            object,
            format!("its operations endpoint does not answer: {error}"),
            format!("`selvedge network logs {}` may say why", node.id),
        ),
    }
}

/// Authorities tell their time in every answer, and all that have an operations endpoint do so too.
async fn clock(session: &Session, node: &Node, report: &mut Report) {
    let object = format!("{}, clock", node.id);
    let (url, roots) = match (node.kind, operations(session, node)) {
        (NodeKind::Ca, _) => {
            let Ok(org) = session.org(domain(node)) else {
                return;
            };
            let Some(url) = org.ca_url() else { return };
            let Ok(roots) = std::fs::read(org.layout.tls_ca_certificate()) else {
                return;
            };
            (format!("{url}/cainfo"), vec![roots])
        }
        (_, Some(listen)) => (format!("http://{listen}/version"), Vec::new()),
        (_, None) => return,
    };
    let tls = ClientTls {
        roots,
        ..ClientTls::default()
    };
    match ask_time(&url, tls).await {
        Ok(Some(there)) => match clock_disagreement(now(), there, &node.id, TOLERANCE) {
            Some(said) => report.problem(object, said, ""),
            None => report.good(object, "agrees with the one here"),
        },
        Ok(None) => {}
        Err(why) => report.problem(object, format!("cannot be asked: {why}"), ""),
    }
}
