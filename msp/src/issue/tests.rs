use std::collections::BTreeMap;

use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::*;
use crate::testing::{DAY, LONG_AGO, request, root};

#[test]
fn usages_have_their_extensions() {
    let ca = root("ca");
    let key = PrivateKey::generate().unwrap();
    let flags = |usage| {
        let certificate = ca
            .issue(&IssueRequest {
                usage,
                ..request("x", &[], key.public_key())
            })
            .unwrap();
        let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
        assert!(
            parsed
                .verify_signature(Some(
                    &X509Certificate::from_der(ca.certificate().der())
                        .unwrap()
                        .1
                        .tbs_certificate
                        .subject_pki
                ))
                .is_ok()
        );
        let bits = parsed.key_usage().unwrap().unwrap();
        assert!(bits.critical);
        let extended = parsed
            .extended_key_usage()
            .unwrap()
            .map(|e| (e.value.server_auth, e.value.client_auth));
        let basic = parsed.basic_constraints().unwrap().unwrap();
        assert!(basic.critical);
        (
            bits.value.flags,
            extended,
            basic.value.ca,
            basic.value.path_len_constraint,
        )
    };
    // Bit 0 is digitalSignature, 2 keyEncipherment, 4 keyAgreement, 5 certSign, 6 crlSign.
    assert_eq!(flags(Usage::Identity), (1, None, false, None));
    assert_eq!(flags(Usage::Tls), (1 | 4 | 16, Some((true, true)), false, None));
    assert_eq!(flags(Usage::Ca), (32 | 64, None, true, Some(0)));
}

#[test]
fn units_share_one_rdn_and_attributes_are_escaped_json() {
    let ca = root("ca");
    let key = PrivateKey::generate().unwrap();
    let mut ask = request("x", &["client", "org1"], key.public_key());
    ask.attributes = [
        ("b".to_owned(), "1 < 2 & \"q\"".to_owned()),
        ("a".to_owned(), "ü".to_owned()),
    ]
    .into();
    ask.subject_extra = SubjectExtra {
        country: Some("DE".into()),
        ..SubjectExtra::default()
    };
    let certificate = ca.issue(&ask).unwrap();
    let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
    let sizes: Vec<usize> = parsed
        .subject()
        .iter_rdn()
        .map(|rdn| rdn.iter().count())
        .collect();
    assert_eq!(sizes, [1, 2, 1], "C, both OUs, CN");
    let extension = parsed
        .extensions()
        .iter()
        .find(|e| e.oid.to_id_string() == "1.2.3.4.5.6.7.8.1")
        .unwrap();
    assert!(!extension.critical);
    assert_eq!(
        std::str::from_utf8(extension.value).unwrap(),
        r#"{"attrs":{"a":"ü","b":"1 \u003c 2 \u0026 \"q\""}}"#
    );
}

#[test]
fn validity_is_cut_to_that_of_the_ca() {
    let ca = root("ca");
    let key = PrivateKey::generate().unwrap();
    let long = IssueRequest {
        not_after: LONG_AGO + 900 * DAY,
        ..request("x", &[], key.public_key())
    };
    assert_eq!(ca.issue(&long).unwrap().not_after(), ca.certificate().not_after());
    let backwards = IssueRequest {
        not_after: LONG_AGO - 1,
        ..request("x", &[], key.public_key())
    };
    assert!(matches!(ca.issue(&backwards), Err(IssueError::Validity { .. })));
    let never = IssueRequest {
        not_before: i64::MIN,
        ..request("x", &[], key.public_key())
    };
    assert!(matches!(ca.issue(&never), Err(IssueError::Validity { .. })));
}

#[test]
fn names_that_cannot_be_written_are_refused() {
    let ca = root("ca");
    let key = PrivateKey::generate().unwrap();
    let ask = |name: &str| request(name, &[], key.public_key());
    assert!(matches!(
        ca.issue(&ask("")),
        Err(IssueError::Name {
            field: "the common name",
            ..
        })
    ));
    assert!(matches!(
        ca.issue(&ask(&"x".repeat(65))),
        Err(IssueError::Name { .. })
    ));
    assert_eq!(ca.issue(&ask("Jürgen")).unwrap().common_name(), Some("Jürgen"));
    let bad_host = IssueRequest {
        dns_names: vec!["a b".into()],
        ..ask("x")
    };
    assert!(matches!(
        ca.issue(&bad_host),
        Err(IssueError::Name {
            field: "a host name",
            ..
        })
    ));
}

#[test]
fn authorities_come_back_from_pem() {
    let ca = root("ca");
    let text = ca.certificate().to_pem();
    let back = CertificateAuthority::from_pem(&text, &ca.key().to_pkcs8_pem()).unwrap();
    assert_eq!(back.certificate(), ca.certificate());
    let other = PrivateKey::generate().unwrap();
    assert!(matches!(
        CertificateAuthority::from_pem(&text, &other.to_pkcs8_pem()),
        Err(IssueError::KeyMismatch(_))
    ));
    let leaf = ca.issue(&request("x", &[], other.public_key())).unwrap();
    assert!(matches!(
        CertificateAuthority::new(leaf, other),
        Err(IssueError::NotCa(_))
    ));
}

#[test]
fn revocation_lists_carry_reason_number_and_authority() {
    let ca = root("ca");
    let entries = [
        RevokedCertificate {
            serial: vec![0x80, 1],
            revoked_at: LONG_AGO,
            reason: 1,
        },
        RevokedCertificate {
            serial: vec![5],
            revoked_at: LONG_AGO,
            reason: 0,
        },
    ];
    let text = ca.crl(&entries, 300, LONG_AGO, LONG_AGO + DAY).unwrap();
    let block = pem::first_block(text.as_bytes()).unwrap().0;
    assert_eq!(block.label, "X509 CRL");
    let (_, list) = CertificateRevocationList::from_der(&block.content).unwrap();
    let (_, issuer) = X509Certificate::from_der(ca.certificate().der()).unwrap();
    assert!(list.verify_signature(issuer.public_key()).is_ok());
    let serials: BTreeMap<Vec<u8>, bool> = list
        .iter_revoked_certificates()
        .map(|r| (r.raw_serial().to_vec(), r.reason_code().is_some()))
        .collect();
    assert_eq!(serials, [(vec![0, 0x80, 1], true), (vec![5], false)].into());
    assert!(list.extensions().iter().any(|e| matches!(e.parsed_extension(),
        ParsedExtension::AuthorityKeyIdentifier(id)
            if id.key_identifier.as_ref().map(|k| k.0) == ca.certificate().subject_key_id())));
    assert_eq!(list.crl_number().map(ToString::to_string).as_deref(), Some("300"));
    assert_eq!(list.next_update().map(|t| t.timestamp()), Some(LONG_AGO + DAY));
}
