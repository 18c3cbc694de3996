//! Certification paths in the way Go's x509 package builds them, as far as Fabric's verdicts depend on it
//! (spec 02 §13.2, §13.4).

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use crate::certificate::{Certificate, shortened};
use crate::identity_error::IdentityError;

/// Signature checks spent on one certificate, as in Go; a tangle of CAs with equal names cannot burn more.
const MAX_SIGNATURE_CHECKS: usize = 100;

/// The CAs of an MSP (or of its TLS side).
pub(crate) struct CaTree {
    roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
    /// SHA-256 of CAs that are parents of other CAs; they may not issue identities.
    internal: HashSet<[u8; 32]>,
}

struct Search<'a> {
    at: i64,
    checks: usize,
    found: Vec<Vec<&'a Certificate>>,
    /// Why the last candidate did not fit.
    obstacle: Option<String>,
}

impl CaTree {
    pub(crate) fn new(roots: Vec<Certificate>, intermediates: Vec<Certificate>) -> Self {
        Self {
            roots: distinct(roots),
            intermediates: distinct(intermediates),
            internal: HashSet::new(),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Certificate> {
        self.roots.iter().chain(&self.intermediates)
    }

    pub(crate) fn contains(&self, certificate: &Certificate) -> bool {
        self.all().any(|ca| ca == certificate)
    }

    /// CAs whose subject is the issuer of `certificate`.
    pub(crate) fn issuers_by_name<'a>(
        &'a self,
        certificate: &'a Certificate,
    ) -> impl Iterator<Item = &'a Certificate> {
        self.all()
            .filter(|ca| ca.subject_der() == certificate.issuer_der())
    }

    /// The certificate with its signature in low-S form, judged by its issuer among these CAs.
    pub(crate) fn normalise(&self, certificate: Certificate) -> Certificate {
        let candidates: Vec<&Certificate> = self.issuers_by_name(&certificate).collect();
        let issuer = match candidates.as_slice() {
            [one] => Some(*one),
            several => several.iter().copied().find(|ca| certificate.is_signed_by(ca)),
        };
        let curve = issuer
            .and_then(Certificate::public_key)
            .and_then(|key| key.curve());
        certificate.with_low_s(curve)
    }

    /// Finds which CAs issue other CAs. Every CA must have exactly one path.
    pub(crate) fn mark_internal(&mut self) -> Result<(), IdentityError> {
        let mut internal = HashSet::new();
        for ca in self.all() {
            internal.extend(self.path(ca)?.iter().skip(1).map(|c| c.sha256()));
        }
        self.internal = internal;
        Ok(())
    }

    pub(crate) fn is_internal(&self, ca: &Certificate) -> bool {
        self.internal.contains(&ca.sha256())
    }

    /// The one path from `certificate` up to a root, itself first. Time is NotBefore + 1 s of the certificate, so that
    /// its own expiry does not matter (spec 02 §13.4-3).
    pub(crate) fn path<'a>(
        &'a self,
        certificate: &'a Certificate,
    ) -> Result<Vec<&'a Certificate>, IdentityError> {
        let at = certificate.not_before().saturating_add(1);
        if let Some(reason) = invalid_at(certificate, at) {
            return Err(IdentityError::chain(certificate, reason));
        }
        if self.roots.contains(certificate) {
            return if certificate.server_auth_allowed() {
                Ok(vec![certificate])
            } else {
                Err(IdentityError::chain(certificate, key_usage_reason()))
            };
        }
        let mut search = Search {
            at,
            checks: 0,
            found: Vec::new(),
            obstacle: None,
        };
        let mut chain = vec![certificate];
        self.extend(&mut search, &mut chain)?;
        let before = search.found.len();
        search
            .found
            .retain(|chain| chain.iter().all(|c| c.server_auth_allowed()));
        match (search.found.len(), search.found.pop()) {
            (1, Some(chain)) => Ok(chain),
            (0, _) if before > 0 => Err(IdentityError::chain(certificate, key_usage_reason())),
            (0, _) => {
                let reason = search
                    .obstacle
                    .unwrap_or_else(|| self.unknown_issuer(certificate));
                Err(IdentityError::chain(certificate, reason))
            }
            (several, _) => Err(IdentityError::chain(
                certificate,
                format!("this MSP only supports a single validation chain, got {several}"),
            )),
        }
    }

    fn extend<'a>(
        &'a self,
        search: &mut Search<'a>,
        chain: &mut Vec<&'a Certificate>,
    ) -> Result<(), IdentityError> {
        let Some(&child) = chain.last() else { return Ok(()) };
        let roots = self.roots.iter().map(|c| (c, true));
        let intermediates = self.intermediates.iter().map(|c| (c, false));
        for (ca, is_root) in roots.chain(intermediates) {
            if ca.subject_der() != child.issuer_der() || chain.iter().any(|c| same_holder(c, ca)) {
                continue;
            }
            search.checks += 1;
            if search.checks > MAX_SIGNATURE_CHECKS {
                let reason = format!("more than {MAX_SIGNATURE_CHECKS} signatures had to be checked");
                return Err(IdentityError::chain(child, reason));
            }
            if let Some(obstacle) = unfit_parent(child, ca, chain.len() - 1, search.at) {
                search.obstacle = Some(obstacle);
                continue;
            }
            chain.push(ca);
            if is_root {
                search.found.push(chain.clone());
            } else {
                self.extend(search, chain)?;
            }
            chain.pop();
        }
        Ok(())
    }

    fn unknown_issuer(&self, certificate: &Certificate) -> String {
        let known: Vec<String> = self.all().map(|ca| format!("'{}'", ca.label())).collect();
        format!(
            "it was issued by '{}', which is not among the CAs of this MSP ({})",
            shortened(&certificate.issuer()),
            known.join(", ")
        )
    }
}

/// SHA-256 over the DER bytes of a chain: the certifiers identifier (spec 02 §13.2, §13.4-5).
pub(crate) fn certifiers_id(chain: &[&Certificate]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for certificate in chain {
        hash.update(certificate.der());
    }
    hash.finalize().into()
}

fn distinct(certificates: Vec<Certificate>) -> Vec<Certificate> {
    let mut seen = HashSet::new();
    certificates
        .into_iter()
        .filter(|c| seen.insert(c.sha256()))
        .collect()
}

/// Go refuses to go twice through certificates of the same name and key.
fn same_holder(a: &Certificate, b: &Certificate) -> bool {
    a.subject_der() == b.subject_der() && a.spki_der() == b.spki_der() && a.has_same_alternative_names(b)
}

fn unfit_parent(
    child: &Certificate,
    ca: &Certificate,
    intermediates_below: usize,
    at: i64,
) -> Option<String> {
    if !child.is_signed_by(ca) {
        return Some(format!(
            "its issuer's name is that of the CA '{}', but that CA's key did not sign it or may not sign certificates",
            ca.label()
        ));
    }
    if let Some(reason) = invalid_at(ca, at) {
        return Some(format!("the CA '{}': {reason}", ca.label()));
    }
    match ca.path_len() {
        Some(limit) if usize::try_from(limit).is_ok_and(|limit| intermediates_below > limit) => {
            Some(format!(
                "the CA '{}' allows {limit} CAs below it and there are {intermediates_below}",
                ca.label()
            ))
        }
        _ => None,
    }
}

fn invalid_at(certificate: &Certificate, at: i64) -> Option<String> {
    if let Some(oid) = certificate.unknown_critical() {
        return Some(format!(
            "it has the critical extension {oid}, which is not understood"
        ));
    }
    if at < certificate.not_before() || at > certificate.not_after() {
        return Some(format!(
            "it is not valid one second after the start of the certificate's validity ({at}), only from {} to {} (Unix \
             seconds)",
            certificate.not_before(),
            certificate.not_after()
        ));
    }
    None
}

fn key_usage_reason() -> String {
    "its extended key usage, or that of a CA above it, does not allow server authentication".to_owned()
}
