//! Certificates in folders: of authorities, nodes, users, and whatever else is named.

use std::path::{Path, PathBuf};

use selvedge_msp::{Certificate, pem};

use super::Report;
use crate::network::nodes::signcert;
use crate::session::{OrgRef, Session};

/// The certificates of a PEM file; none when it cannot be read.
pub(super) fn in_file(path: &Path) -> Vec<Certificate> {
    let text = std::fs::read(path).unwrap_or_default();
    let blocks = pem::all_blocks(&text);
    blocks
        .iter()
        .filter_map(|b| Certificate::from_der(&b.content).ok())
        .collect()
}

pub(super) fn check(session: &Session, folders: &[PathBuf], report: &mut Report) {
    for org in session.orgs() {
        authorities(&org, report);
        let renews = |user: bool| match (org.ca.is_some(), user) {
            (true, false) => format!(
                "the node renews it by itself while it runs and ca.{} does; its log says why it does not",
                org.domain
            ),
            _ => format!("selvedge network renew --org {}", org.domain),
        };
        let users = org.users();
        let members = org
            .nodes
            .iter()
            .map(|m| (m, false))
            .chain(users.iter().map(|m| (m, true)));
        for ((name, member), user) in members {
            one(
                format!("{name}, identity"),
                signcert(&member.msp()),
                &renews(user),
                report,
            );
            let tls = Some(member.tls_certificate()).filter(|p| p.exists());
            // Few users need one: their clients show none.
            if user && tls.is_none() {
                continue;
            }
            one(format!("{name}, TLS certificate"), tls, &renews(user), report);
        }
        for (name, member) in org.servers() {
            let tls = Some(member.tls_certificate());
            one(format!("{name}, TLS certificate"), tls, &renews(true), report);
        }
        if org.ca.is_some() {
            let tls = Some(org.ca_member().tls_certificate());
            one(
                format!("{}, TLS certificate", org.ca_host()),
                tls,
                &renews(false),
                report,
            );
        }
    }
    for folder in folders {
        let advice = format!("selvedge device reenroll … --msp {}", folder.display());
        let object = format!("{}, identity", folder.display());
        match signcert(folder).or_else(|| signcert(&folder.join("msp"))) {
            Some(path) => one(object, Some(path), &advice, report),
            None => report.problem(
                object,
                "there is no certificate in signcerts",
                "name an MSP folder",
            ),
        }
    }
}

/// The authorities whose certificates are here, those that are to come included.
fn authorities(org: &OrgRef<'_>, report: &mut Report) {
    let advice = format!(
        "selvedge ca rotate --org {} makes a new root beside it",
        org.domain
    );
    for (root, what) in [
        (org.layout.identity_root(), "authority"),
        (org.layout.tls_root(), "TLS authority"),
    ] {
        for certificate in in_file(&root.certificate()).iter().chain(&in_file(&root.chain())) {
            let object = format!("{}, {what} '{}'", org.domain, certificate.subject());
            report.certificate(object, certificate, &advice);
        }
        if root.previous_certificate().exists() {
            report.warning(
                format!("{}, {what}", org.domain),
                "an old root is still trusted",
                format!(
                    "when nobody uses its certificates any more: selvedge ca rotate --org {} --retire",
                    org.domain
                ),
            );
        } else if root.next_certificate().exists() {
            report.warning(
                format!("{}, {what}", org.domain),
                "a new root is known and does not issue yet",
                format!(
                    "when all channels and clients know it: selvedge ca rotate --org {} --switch",
                    org.domain
                ),
            );
        }
    }
}

fn one(object: String, path: Option<PathBuf>, advice: &str, report: &mut Report) {
    let Some(path) = path else {
        return report.problem(
            object,
            "there is none in the network's folder",
            "selvedge network up makes what is missing",
        );
    };
    match in_file(&path).first() {
        Some(certificate) => report.certificate(object, certificate, advice),
        None => report.problem(object, format!("{} holds no certificate", path.display()), advice),
    }
}
