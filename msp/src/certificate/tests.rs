use proptest::prelude::*;

use super::*;
use crate::curve::Rs;
use crate::der;
use crate::keys::PrivateKey;
use crate::testing::{Org, request, root};

/// The same certificate with the other of the two s values in its signature.
fn with_high_s(certificate: &Certificate) -> Vec<u8> {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let outer = der::read_tagged(certificate.der(), der::SEQUENCE).unwrap();
    let tbs = der::read(outer.content).unwrap();
    let algorithm = der::read(tbs.rest).unwrap();
    let signature = der::read(algorithm.rest).unwrap();
    let mut rs = Rs::from_der(Curve::P256, &signature.content[1..]).unwrap();
    let order = hex::decode(ORDER).unwrap();
    let mut borrow = 0i32;
    for i in (0..32).rev() {
        let d = i32::from(order[i]) - i32::from(rs.s[i]) - borrow;
        borrow = i32::from(d < 0);
        rs.s[i] = u8::try_from(d.rem_euclid(256)).unwrap();
    }
    der::sequence(&[tbs.whole, algorithm.whole, &der::bit_string(&rs.to_der())])
}

#[test]
fn high_s_certificates_become_the_same_identity() {
    let mut org = Org::new("Org1MSP");
    let user = org.holder("user", &["admin"]);
    let high = with_high_s(user.certificate());
    assert_ne!(high, user.certificate().der());
    let text = pem::encode("CERTIFICATE", &high);
    // Also in the list of admins and for the CA itself.
    org.config.admins = vec![text.clone().into()];
    org.config.root_certs = vec![pem::encode("CERTIFICATE", &with_high_s(org.ca.certificate())).into()];
    let msp = org.msp();
    let identity = msp.deserialize(text.as_bytes()).unwrap();
    assert_eq!(identity.certificate(), user.certificate());
    assert_eq!(msp.validate(&identity), Ok(()));
    assert!(msp.admins.contains(&user.certificate().sha256()));
    assert!(msp.cas.contains(org.ca.certificate()));
}

#[test]
fn what_was_issued_is_read_back() {
    let ca = root("ca.example.com");
    let key = PrivateKey::generate().unwrap();
    let mut ask = request("user1", &["client", "org1", "department1"], key.public_key());
    ask.attributes = [
        ("role".to_owned(), "<auditor>".to_owned()),
        ("hf.Type".to_owned(), "client".to_owned()),
    ]
    .into();
    ask.dns_names = vec!["host.example.com".to_owned()];
    ask.ip_addresses = vec!["10.0.0.1".parse().unwrap(), "fe80::1".parse().unwrap()];
    let certificate = ca.issue(&ask).unwrap();
    assert_eq!(certificate.common_name(), Some("user1"));
    let mut units = certificate.organizational_units().to_vec();
    units.sort();
    assert_eq!(units, ["client", "department1", "org1"]);
    assert_eq!(certificate.attributes(), &ask.attributes);
    assert_eq!(certificate.dns_names(), ask.dns_names);
    assert_eq!(certificate.ip_addresses(), ask.ip_addresses);
    assert_eq!(
        (certificate.not_before(), certificate.not_after()),
        (ask.not_before, ask.not_after)
    );
    assert_eq!(certificate.public_key(), Some(key.public_key()));
    assert_eq!(certificate.authority_key_id(), ca.certificate().subject_key_id());
    assert_eq!(certificate.subject_key_id(), Some(&key.public_key().ski()[..]));
    assert!(!certificate.is_ca() && ca.certificate().is_ca());
    assert!(certificate.is_signed_by(ca.certificate()) && !certificate.is_signed_by(root("x").certificate()));
    assert!(certificate.serial().len() <= 20 && certificate.serial().first().is_some_and(|b| *b != 0));
    assert_eq!(
        Certificate::from_pem(certificate.to_pem().as_bytes()),
        Ok(certificate.clone())
    );
    assert_eq!(
        certificate.sha256(),
        <[u8; 32]>::from(Sha256::digest(certificate.der()))
    );
    assert!(
        certificate.subject().contains("CN=user1"),
        "{}",
        certificate.subject()
    );
    // Nothing to normalise in what we issue.
    assert!(low_s_der(certificate.der(), Curve::P256).is_none());
}

#[test]
fn a_second_certificate_in_the_text_is_ignored_or_refused() {
    let (one, two) = (root("one"), root("two"));
    let text = one.certificate().to_pem() + &two.certificate().to_pem();
    assert_eq!(
        &Certificate::from_pem(text.as_bytes()).unwrap(),
        one.certificate()
    );
    assert_eq!(
        Certificate::from_single_pem(text.as_bytes()),
        Err(CertificateError::ExtraData)
    );
    assert_eq!(Certificate::from_pem(b"nothing"), Err(CertificateError::NoPem));
    let mut trailing = one.certificate().der().to_vec();
    trailing.push(0);
    assert!(matches!(
        Certificate::from_der(&trailing),
        Err(CertificateError::Malformed(_))
    ));
}

#[test]
fn messages_stay_short_and_printable() {
    assert_eq!(shortened("a\nb"), "a\\nb");
    let long = shortened(&"ü".repeat(1_000));
    assert_eq!(long.chars().count(), 203);
    assert_eq!(shortened(&"x".repeat(200)).len(), 200);
}

#[test]
fn no_bit_of_a_certificate_can_be_changed() {
    let org = Org::new("Org1MSP");
    let msp = org.msp();
    let original = org.holder("user", &["client"]).certificate().der().to_vec();
    for at in 0..original.len() {
        for bit in 0..8 {
            let mut bytes = original.clone();
            bytes[at] ^= 1 << bit;
            if let Ok(identity) = msp.deserialize(pem::encode("CERTIFICATE", &bytes).as_bytes()) {
                assert!(msp.validate(&identity).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Certificate::from_der(&bytes);
    }
}
