//! Certificate signing requests (PKCS#10): what enrolment sends to a CA (spec 06 §3).

use std::net::IpAddr;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use crate::certificate::{hosts, texts};
use crate::der;
use crate::issue::{self, IssueError, SubjectExtra};
use crate::keys::{KeyError, PrivateKey, PublicKey};
use crate::pem;

/// 1.2.840.113549.1.9.14, extensionRequest.
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// Why a request is not acceptable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// No PEM block with the right label.
    #[error("the request is not PEM with the label CERTIFICATE REQUEST or NEW CERTIFICATE REQUEST")]
    NoPem,
    /// Not PKCS#10.
    #[error("the certificate signing request cannot be parsed: {0}")]
    Malformed(String),
    /// The holder does not own the key.
    #[error("the certificate signing request is not signed by the key that it names")]
    Signature,
    /// A key that is not accepted.
    #[error("the certificate signing request: {0}")]
    Key(#[from] KeyError),
}

/// What a request asks for. Its signature was checked.
#[derive(Debug, Clone)]
pub struct ParsedCsr {
    /// CN of the subject; empty when there is none.
    pub common_name: String,
    /// OUs of the subject; a CA decides itself what to make of them.
    pub organizational_units: Vec<String>,
    /// The other usual fields of the subject.
    pub subject_extra: SubjectExtra,
    /// The key.
    pub public_key: PublicKey,
    /// Host names asked for.
    pub dns_names: Vec<String>,
    /// Addresses asked for.
    pub ip_addresses: Vec<IpAddr>,
    /// Basic Constraints CA is asked for.
    pub requests_ca: bool,
}

/// Makes a request for `common_name`. Each of `hosts` is an IP address or a DNS name.
///
/// # Errors
/// When a name cannot be written or the system gives no randomness.
pub fn create(key: &PrivateKey, common_name: &str, hosts: &[String]) -> Result<String, IssueError> {
    let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
    for host in hosts {
        match host.parse::<IpAddr>() {
            Ok(address) => addresses.push(address),
            Err(_) => dns_names.push(host.clone()),
        }
    }
    let mut attributes = Vec::new();
    if !hosts.is_empty() {
        let extensions = der::sequence(&[issue::alternative_names(&dns_names, &addresses)?]);
        attributes.push(der::sequence(&[
            der::object_id(EXTENSION_REQUEST),
            der::set_of(vec![extensions]),
        ]));
    }
    let content = der::sequence(&[
        &der::unsigned(&[0]),
        &issue::name(common_name, &[], &SubjectExtra::default())?,
        key.public_key().spki_der(),
        &der::context(0, &attributes),
    ]);
    Ok(pem::encode("CERTIFICATE REQUEST", &issue::signed(&content, key)?))
}

/// Reads a PEM request, line ends LF or CR LF, and checks its signature.
///
/// # Errors
/// When it is not one, has a key that is not accepted, or is not signed by it.
pub fn parse(text: &[u8]) -> Result<ParsedCsr, CsrError> {
    let (block, _) = pem::first_block(text).ok_or(CsrError::NoPem)?;
    if block.label != "CERTIFICATE REQUEST" && block.label != "NEW CERTIFICATE REQUEST" {
        return Err(CsrError::NoPem);
    }
    let (_, request) =
        X509CertificationRequest::from_der(&block.content).map_err(|e| CsrError::Malformed(e.to_string()))?;
    let info = &request.certification_request_info;
    let public_key = PublicKey::from_spki(&info.subject_pki)?;
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    let mut parsed = ParsedCsr {
        common_name: texts(&info.subject, "2.5.4.3").pop().unwrap_or_default(),
        organizational_units: texts(&info.subject, "2.5.4.11"),
        subject_extra: SubjectExtra {
            country: texts(&info.subject, "2.5.4.6").pop(),
            province: texts(&info.subject, "2.5.4.8").pop(),
            locality: texts(&info.subject, "2.5.4.7").pop(),
            organization: texts(&info.subject, "2.5.4.10").pop(),
            serial_number: texts(&info.subject, "2.5.4.5").pop(),
        },
        public_key,
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        requests_ca: false,
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                (parsed.dns_names, parsed.ip_addresses) = hosts(&names.general_names);
            }
            ParsedExtension::BasicConstraints(constraints) => parsed.requests_ca = constraints.ca,
            _ => {}
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_round_trip_with_either_line_end() {
        let key = PrivateKey::generate().unwrap();
        let hosts = [
            "peer0.org1.example.com".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        let text = create(&key, "peer0", &hosts).unwrap();
        for text in [text.clone(), text.replace('\n', "\r\n")] {
            let parsed = parse(text.as_bytes()).unwrap();
            assert_eq!(parsed.common_name, "peer0");
            assert_eq!(&parsed.public_key, key.public_key());
            assert_eq!(parsed.dns_names, ["peer0.org1.example.com"]);
            assert_eq!(
                parsed.ip_addresses,
                ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]
            );
            assert!(!parsed.requests_ca);
        }
        assert!(
            parse(create(&key, "x", &[]).unwrap().as_bytes())
                .unwrap()
                .dns_names
                .is_empty()
        );
        assert!(
            parse(
                text.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
                    .as_bytes()
            )
            .is_ok()
        );
        assert!(matches!(
            parse(text.replace("REQUEST", "WISH").as_bytes()),
            Err(CsrError::NoPem)
        ));
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let block = pem::first_block(create(&key, "a", &[]).unwrap().as_bytes())
            .unwrap()
            .0;
        let content = der::read_tagged(&block.content, der::SEQUENCE).unwrap().content;
        let info = der::read(content).unwrap().whole;
        let forged = pem::encode("CERTIFICATE REQUEST", &issue::signed(info, &other).unwrap());
        assert!(matches!(parse(forged.as_bytes()), Err(CsrError::Signature)));
    }

    #[test]
    fn a_damaged_request_asks_for_nothing_else() {
        let key = PrivateKey::generate().unwrap();
        let text = create(&key, "someone", &["host".to_owned()]).unwrap();
        let original = pem::first_block(text.as_bytes()).unwrap().0.content;
        for at in 0..original.len() {
            for bit in 0..8 {
                let mut bytes = original.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(parsed) = parse(pem::encode("CERTIFICATE REQUEST", &bytes).as_bytes()) {
                    let same = parsed.common_name == "someone"
                        && parsed.dns_names == ["host"]
                        && !parsed.requests_ca;
                    assert!(
                        same && &parsed.public_key == key.public_key(),
                        "bit {bit} of byte {at}: {parsed:?}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(pem::encode("CERTIFICATE REQUEST", &bytes).as_bytes());
        }
    }
}
