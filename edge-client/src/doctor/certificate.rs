//! The gateway's certificate and key, and the older ones that open requests need.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use selvedge_msp::{Certificate, SigningIdentity};

use super::{Area, Report, date, span, unix_seconds};
use crate::config::EdgeConfig;

/// A certificate is to be renewed when this part of its life has passed.
const RENEW_AFTER: (i64, i64) = (2, 3);

/// The identity of the configuration, or why there is none.
pub(super) fn load(config: &EdgeConfig) -> Result<SigningIdentity, String> {
    SigningIdentity::from_msp_dir(&config.msp_id, &config.msp_dir).map_err(|e| e.to_string())
}

/// When a certificate is to be renewed, Unix seconds. `since` is when it came to this machine: its NotBefore may be years
/// older, since Fabric's CA puts its own NotBefore into everything that it issues (spec 06 §4).
pub(crate) fn renewal_due(certificate: &Certificate, since: i64) -> i64 {
    let (part, whole) = RENEW_AFTER;
    let since = since.clamp(certificate.not_before(), certificate.not_after());
    since + (certificate.not_after() - since) / whole * part
}

/// When the certificate of an MSP folder came there: the time of its file.
pub(crate) fn came_at(msp_dir: &Path) -> i64 {
    let files = std::fs::read_dir(msp_dir.join("signcerts"))
        .into_iter()
        .flatten()
        .flatten();
    let times = files.filter_map(|f| f.metadata().ok()?.modified().ok());
    let newest = times.max().unwrap_or(std::time::UNIX_EPOCH);
    let since = newest.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // A clock that was ahead then is not ahead of now.
    i64::try_from(since.as_secs()).unwrap_or(0).min(unix_seconds())
}

fn seconds(value: i64) -> String {
    span(u64::try_from(value).unwrap_or(0))
}

pub(super) fn check(report: &mut Report, config: &EdgeConfig, identity: &Result<SigningIdentity, String>) {
    match identity {
        Ok(identity) => {
            report.ok(
                Area::Certificate,
                format!("the key in {} fits the certificate", config.msp_dir.display()),
            );
            validity(report, identity.certificate(), came_at(&config.msp_dir));
            issuer(report, config, identity.certificate());
        }
        Err(why) => report.fail(
            Area::Certificate,
            format!("no identity in {}: {why}", config.msp_dir.display()),
            "enrol this machine (selvedge-edge enroll), or set 'msp_dir' to the folder that was enrolled into",
        ),
    }
    permissions(report, &config.msp_dir.join("keystore"));
    kept(report, config);
}

fn validity(report: &mut Report, certificate: &Certificate, since: i64) {
    let due = renewal_due(certificate, since);
    let now = unix_seconds();
    let (from, until) = (certificate.not_before(), certificate.not_after());
    let name = certificate.common_name().unwrap_or("this machine");
    if now < from {
        report.fail(
            Area::Certificate,
            format!(
                "the certificate of {name} is valid from {} UTC on, which is still to come",
                date(from)
            ),
            "this machine's clock is behind; set it",
        );
    } else if now >= until {
        report.fail(
            Area::Certificate,
            format!("the certificate of {name} expired {} ago ({} UTC)", seconds(now - until), date(until)),
            "renew it: selvedge-edge reenroll; if the authority refuses, register the device anew and enrol again. \
             Peers refuse everything until then; requests are kept",
        );
    } else if now >= due {
        report.warn(
            Area::Certificate,
            format!(
                "the certificate of {name} is to be renewed: it expires in {} ({} UTC)",
                seconds(until - now),
                date(until)
            ),
            "renew it: selvedge-edge reenroll, then restart the gateway",
        );
    } else {
        report.ok(
            Area::Certificate,
            format!(
                "the certificate of {name} is valid until {} UTC; renewal is due from {} on",
                date(until),
                date(due)
            ),
        );
    }
}

fn certificates_in(dir: &Path) -> Vec<Certificate> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter_map(|f| std::fs::read(f.path()).ok())
        .filter_map(|pem| Certificate::from_pem(&pem).ok())
        .collect()
}

fn issuer(report: &mut Report, config: &EdgeConfig, certificate: &Certificate) {
    let mut issuers = certificates_in(&config.msp_dir.join("cacerts"));
    issuers.extend(certificates_in(&config.msp_dir.join("intermediatecerts")));
    if issuers.is_empty() {
        // Only the members of the channel judge it; the folder may hold the leaf alone.
        return;
    }
    if !issuers.iter().any(|ca| certificate.is_signed_by(ca)) {
        report.fail(
            Area::Certificate,
            format!(
                "no authority in {} has issued the certificate (its issuer is {})",
                config.msp_dir.display(),
                certificate.issuer()
            ),
            "the folder mixes two enrolments; enrol into an empty folder",
        );
    }
}

/// Whether others on this machine may read a private key.
fn permissions(report: &mut Report, keystore: &Path) {
    let files = std::fs::read_dir(keystore).into_iter().flatten().flatten();
    let open: Vec<PathBuf> = files
        .filter(|f| {
            f.metadata()
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o077 != 0)
        })
        .map(|f| f.path())
        .collect();
    for path in open {
        report.warn(
            Area::Certificate,
            format!(
                "others on this machine may read the private key {}",
                path.display()
            ),
            format!("chmod 600 {}", path.display()),
        );
    }
}

/// Certificates that are kept for requests from before a renewal.
fn kept(report: &mut Report, config: &EdgeConfig) {
    let dir = config.data_dir.join("identities");
    let now = unix_seconds();
    let expired = certificates_in(&dir)
        .iter()
        .filter(|c| c.not_after() <= now)
        .count();
    if expired > 0 {
        report.warn(
            Area::Certificate,
            format!("{expired} older certificates with open requests have expired"),
            "nothing: the gateway asks the ledger what became of these requests and sends the others anew",
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use selvedge_msp::{
        CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SubjectExtra, Usage, Validity,
    };

    use super::super::Level;
    use super::*;

    fn certificate(not_before: i64, not_after: i64) -> Certificate {
        let validity = Validity {
            not_before,
            not_after,
        };
        let subject = CaSubject {
            common_name: "ca".into(),
            ..CaSubject::default()
        };
        let ca = CertificateAuthority::generate_root(&subject, &validity).unwrap();
        ca.issue(&IssueRequest {
            public_key: PrivateKey::generate().unwrap().public_key().clone(),
            common_name: "hall-7".into(),
            organizational_units: vec!["client".into()],
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            attributes: BTreeMap::new(),
            usage: Usage::Identity,
            not_before,
            not_after,
            subject_extra: SubjectExtra::default(),
        })
        .unwrap()
    }

    fn level(not_before: i64, not_after: i64, since: i64) -> Level {
        let mut report = Report::default();
        validity(&mut report, &certificate(not_before, not_after), since);
        assert_eq!(
            report.checks[0].todo.is_none(),
            report.checks[0].level == Level::Ok
        );
        report.checks[0].level
    }

    #[test]
    fn the_days_of_a_certificate() {
        const DAY: i64 = 86_400;
        let now = unix_seconds();
        assert_eq!(level(now - DAY, now + 30 * DAY, now - DAY), Level::Ok);
        assert_eq!(
            level(now - 25 * DAY, now + 5 * DAY, now - 25 * DAY),
            Level::Warning
        );
        assert_eq!(level(now - 25 * DAY, now - 1, now - 25 * DAY), Level::Failed);
        assert_eq!(level(now + DAY, now + 2 * DAY, now), Level::Failed);
        // Its authority began ten years ago; it came yesterday.
        assert_eq!(level(now - 3650 * DAY, now + 30 * DAY, now - DAY), Level::Ok);
    }
}
