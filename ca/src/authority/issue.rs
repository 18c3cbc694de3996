//! Issuing: what a request may ask for and what the certificate says (spec 06 §4).

use std::collections::BTreeMap;

use selvedge_msp::csr::{self, ParsedCsr};
use selvedge_msp::{Certificate, IssueRequest, SubjectExtra, Usage};

use super::{Authority, unix_now};
use crate::error::Refusal;
use crate::registry::{Identity, Limits, NewCertificate};

/// An attribute that a client wants in its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttributeRequest {
    pub(crate) name: String,
    pub(crate) optional: bool,
}

/// What a client asks for when it enrols.
#[derive(Debug, Clone, Default)]
pub(crate) struct EnrollmentRequest {
    pub(crate) csr_pem: String,
    pub(crate) profile: String,
    /// All attributes marked `ecert` if absent.
    pub(crate) attributes: Option<Vec<AttributeRequest>>,
    pub(crate) hosts: Vec<String>,
    /// Fields of the subject that the request names outside of the CSR; the CSR's own do not count.
    pub(crate) subject: SubjectExtra,
}

fn bad_request(code: u16, message: String) -> Refusal {
    Refusal::new(400, code, message)
}

/// Refuses fields of a subject that are longer than RFC 5280 has them.
fn check_lengths(csr: &ParsedCsr, subject: &SubjectExtra) -> Result<(), Refusal> {
    let mut fields: Vec<(&str, &str, usize)> = vec![("CN", &csr.common_name, 64)];
    fields.extend(csr.organizational_units.iter().map(|ou| ("OU", ou.as_str(), 64)));
    for extra in [&csr.subject_extra, subject] {
        let optional = [
            ("C", &extra.country, 2),
            ("ST", &extra.province, 128),
            ("L", &extra.locality, 128),
            ("O", &extra.organization, 64),
            ("SERIALNUMBER", &extra.serial_number, 64),
        ];
        fields.extend(
            optional
                .into_iter()
                .filter_map(|(name, value, limit)| value.as_deref().map(|v| (name, v, limit))),
        );
    }
    match fields
        .iter()
        .find(|(_, value, limit)| value.chars().count() > *limit)
    {
        None => Ok(()),
        Some((name, value, limit)) => Err(bad_request(
            80,
            format!(
                "the subject's {name} has {} characters, at most {limit} are allowed",
                value.chars().count()
            ),
        )),
    }
}

fn usage(identity: &Identity, profile: &str, csr: &ParsedCsr) -> Result<Usage, Refusal> {
    let usage = match profile {
        "" => Usage::Identity,
        "tls" => Usage::Tls,
        "ca" => Usage::Ca,
        other => {
            return Err(bad_request(
                31,
                format!("there is no profile '{other}'; use '', 'tls' or 'ca'"),
            ));
        }
    };
    if usage == Usage::Ca || csr.requests_ca {
        crate::attributes::check_has(identity, "hf.IntermediateCA")?;
    }
    Ok(usage)
}

impl Authority {
    /// Checks a request of `identity`, who has been authenticated, and says what to issue.
    pub(crate) fn prepare(
        &self,
        identity: &Identity,
        request: &EnrollmentRequest,
    ) -> Result<IssueRequest, Refusal> {
        let csr = csr::parse(request.csr_pem.as_bytes())
            .map_err(|e| bad_request(31, format!("the certificate request is not usable: {e}")))?;
        check_lengths(&csr, &request.subject)?;
        if csr.common_name != identity.id {
            return Err(Refusal::new(
                403,
                77,
                format!(
                    "the certificate request is for '{}', but the caller is '{}'",
                    csr.common_name, identity.id
                ),
            ));
        }
        let usage = usage(identity, &request.profile, &csr)?;
        let attributes = wanted_attributes(identity, request.attributes.as_deref())?;

        let mut organizational_units = vec![identity.kind.clone()];
        organizational_units.extend(
            identity
                .affiliation
                .split('.')
                .filter(|part| !part.is_empty())
                .map(str::to_owned),
        );
        let mut dns_names = csr.dns_names;
        let mut ip_addresses = csr.ip_addresses;
        for host in &request.hosts {
            match host.parse() {
                Ok(ip) => ip_addresses.push(ip),
                Err(_) => dns_names.push(host.clone()),
            }
        }
        let own = self.certificate();
        let now = unix_now();
        if own.not_after() <= now {
            return Err(Refusal::internal(
                40,
                format!(
                    "the certificate of authority {} has expired; it needs a new one",
                    self.name
                ),
            ));
        }
        let seconds = if usage == Usage::Ca {
            self.ca_certificate_seconds
        } else {
            self.certificate_seconds
        };
        Ok(IssueRequest {
            public_key: csr.public_key,
            common_name: identity.id.clone(),
            organizational_units,
            dns_names,
            ip_addresses,
            attributes,
            usage,
            not_before: own.not_before(),
            not_after: own.not_after().min((now / 60 * 60).saturating_add(seconds)),
            subject_extra: request.subject.clone(),
        })
    }

    /// Signs what [`Self::prepare`] gave, uses up one of the enrolments of an identity whose secret was right, and records
    /// both at once.
    pub(crate) fn enroll(&self, identity: &Identity, request: &IssueRequest) -> Result<Certificate, Refusal> {
        let certificate = self.sign(request)?;
        let enrolled = self.record(&certificate, request, |new| {
            let limits = Limits {
                enrollments: self.max_enrollments,
                wrong_attempts: self.password_attempts,
            };
            self.registry.enroll(new, limits)
        })?;
        if enrolled {
            return Ok(certificate);
        }
        Err(Refusal::authentication(format!(
            "{} has used all its enrolments ({}), or was locked or revoked meanwhile",
            identity.id, identity.max_enrollments
        )))
    }

    /// Signs and records what [`Self::prepare`] gave.
    pub(crate) fn issue(&self, request: &IssueRequest) -> Result<Certificate, Refusal> {
        let certificate = self.sign(request)?;
        self.record(&certificate, request, |new| self.registry.add_certificate(new))?;
        Ok(certificate)
    }

    fn sign(&self, request: &IssueRequest) -> Result<Certificate, Refusal> {
        self.signer
            .issue(request)
            .map_err(|e| bad_request(31, format!("no certificate can be issued for this request: {e}")))
    }

    fn record<T>(
        &self,
        certificate: &Certificate,
        request: &IssueRequest,
        write: impl FnOnce(&NewCertificate<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Refusal> {
        let new = NewCertificate {
            serial: &hex::encode(certificate.serial()),
            aki: &certificate
                .authority_key_id()
                .map(hex::encode)
                .unwrap_or_default(),
            id: &request.common_name,
            pem: &certificate.to_pem(),
            not_after: certificate.not_after(),
        };
        write(&new).map_err(|e| Refusal::internal(0, e))
    }
}

fn wanted_attributes(
    identity: &Identity,
    requests: Option<&[AttributeRequest]>,
) -> Result<BTreeMap<String, String>, Refusal> {
    let Some(requests) = requests else {
        let ecert = identity.attributes.iter().filter(|a| a.ecert);
        return Ok(ecert.map(|a| (a.name.clone(), a.value.clone())).collect());
    };
    let mut wanted = BTreeMap::new();
    let mut missing = Vec::new();
    for request in requests {
        match identity.attribute(&request.name) {
            Some(value) => drop(wanted.insert(request.name.clone(), value.to_owned())),
            None if request.optional => {}
            None => missing.push(request.name.as_str()),
        }
    }
    if missing.is_empty() {
        Ok(wanted)
    } else {
        Err(Refusal::new(
            500,
            81,
            format!(
                "The following required attributes are missing: [{}]",
                missing.join(" ")
            ),
        ))
    }
}
