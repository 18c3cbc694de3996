use selvedge_proto::common::msp_role::MspRoleType as Role;

use super::*;
use crate::identity::SigningIdentity;
use crate::issue::RevokedCertificate;
use crate::principal::Principal;
use crate::testing::{LONG_AGO, Org, build, holder, identity_of, intermediate, pem, root, validate};

#[test]
fn set_up_refuses_what_breaks_the_rules() {
    let org = Org::new("Org1MSP");
    let with = |change: &dyn Fn(&mut FabricMspConfig)| {
        let mut config = org.config.clone();
        change(&mut config);
        build(config).map(|_| ()).unwrap_err().to_string()
    };
    let leaf = pem(org.holder("x", &["peer"]).certificate());
    assert!(with(&|c| c.name.clear()).contains("no name"));
    assert!(with(&|c| c.root_certs.clear()).contains("at least one root"));
    assert!(with(&|c| c.root_certs.push(leaf.clone())).contains("CA attribute"));
    assert!(with(&|c| c.tls_root_certs.push(leaf.clone())).contains("TLS CA certificate"));
    assert!(with(&|c| c.tls_intermediate_certs.push(leaf.clone())).contains("TLS"));
    assert!(with(&|c| c.root_certs.push(Bytes::from_static(b"x"))).contains("root certificate 2"));
    assert!(
        with(&|c| c.root_certs[0] = [&c.root_certs[0][..], b"\n"].concat().into()).contains("text after it")
    );
    assert!(
        with(&|c| c
            .intermediate_certs
            .push(pem(intermediate(&root("z"), "ica").certificate())))
        .contains("ica")
    );
    assert!(
        with(&|c| {
            let crypto = c.crypto_config.get_or_insert_default();
            crypto.signature_hash_family = "SHA3".into();
        })
        .contains("SHA3")
    );
    let idemix = MspConfig {
        r#type: 1,
        config: org.config.encode_to_vec().into(),
    };
    assert!(matches!(
        Msp::new(&idemix, MspVersion::LATEST),
        Err(MspError::UnsupportedType(1))
    ));
    let garbage = MspConfig {
        r#type: 0,
        config: Bytes::from_static(&[0xff]),
    };
    assert!(matches!(
        Msp::new(&garbage, MspVersion::LATEST),
        Err(MspError::Malformed(_))
    ));
    let good = MspConfig {
        r#type: 0,
        config: org.config.encode_to_vec().into(),
    };
    assert_eq!(Msp::new(&good, MspVersion::LATEST).unwrap().id(), "Org1MSP");
}

#[test]
fn a_revoked_intermediate_ca_stops_the_set_up() {
    let mut org = Org::new("Org1MSP");
    let middle = intermediate(&org.ca, "ica");
    org.config.intermediate_certs = vec![pem(middle.certificate())];
    let entry = RevokedCertificate {
        serial: middle.certificate().serial().to_vec(),
        revoked_at: LONG_AGO,
        reason: 0,
    };
    org.config.revocation_list = vec![org.ca.crl(&[entry], 1, LONG_AGO, LONG_AGO + 1).unwrap().into()];
    assert!(matches!(build(org.config), Err(MspError::Invalid { .. })));
}

#[test]
fn older_versions_know_fewer_rules() {
    let mut org = Org::new("Org1MSP");
    let admin = org.holder("a", &["admin"]);
    let client = org.holder("c", &["client"]);
    org.config.admins = vec![pem(client.certificate())];
    let at = |version| Msp::from_fabric_config(org.config.clone(), version).unwrap();
    let has = |msp: &Msp, who: &SigningIdentity, role| {
        msp.satisfies(&identity_of(msp, who), &Principal::role("Org1MSP", role))
            .is_ok()
    };
    let v1_0 = at(MspVersion::V1_0);
    assert!(
        has(&v1_0, &admin, Role::Member)
            && !has(&v1_0, &admin, Role::Admin)
            && has(&v1_0, &client, Role::Admin)
    );
    assert!(!has(&v1_0, &client, Role::Client), "NodeOUs are unknown there");
    let v1_1 = at(MspVersion::V1_1);
    assert!(
        has(&v1_1, &client, Role::Client) && !has(&v1_1, &admin, Role::Member),
        "admin is no role there"
    );
    let v1_4 = at(MspVersion::V1_4_3);
    assert!(has(&v1_4, &admin, Role::Admin));
    let nominal = Principal::Anonymity { nominal: true };
    assert!(v1_1.satisfies(&identity_of(&v1_1, &client), &nominal).is_err());
    assert!(v1_4.satisfies(&identity_of(&v1_4, &client), &nominal).is_ok());
    assert!(
        v1_4.satisfies(
            &identity_of(&v1_4, &client),
            &Principal::Anonymity { nominal: false }
        )
        .is_err()
    );
}

#[test]
fn an_absent_node_ou_names_no_role_and_without_any_they_are_off() {
    let mut org = Org::new("Org1MSP");
    let listed = org.holder("boss", &[]);
    org.config.admins = vec![pem(listed.certificate())];
    let units = org.config.fabric_node_ous.as_mut().unwrap();
    units.orderer_ou_identifier = None;
    units.admin_ou_identifier = None;
    let orderer = org.holder("x", &["orderer"]);
    assert!(
        matches!(build(org.config.clone()), Err(MspError::Invalid { .. })),
        "the listed admin has no role"
    );

    let units = org.config.fabric_node_ous.as_mut().unwrap();
    units.client_ou_identifier = None;
    units
        .peer_ou_identifier
        .as_mut()
        .unwrap()
        .organizational_unit_identifier
        .clear();
    let msp = org.msp();
    let identity = identity_of(&msp, &orderer);
    assert_eq!(msp.validate(&identity), Ok(()));
    let why = msp
        .satisfies(&identity, &Principal::role("Org1MSP", Role::Orderer))
        .unwrap_err()
        .to_string();
    assert!(why.contains("NodeOUs are off"), "{why}");
    assert!(
        msp.satisfies(
            &identity_of(&msp, &listed),
            &Principal::role("Org1MSP", Role::Admin)
        )
        .is_ok()
    );
}

#[test]
fn organizational_unit_identifiers_demand_one_of_them() {
    let mut org = Org::new("Org1MSP");
    org.config.organizational_unit_identifiers = vec![FabricOuIdentifier {
        certificate: pem(org.ca.certificate()),
        organizational_unit_identifier: "sales".into(),
    }];
    let msp = org.msp();
    assert_eq!(validate(&msp, &org.holder("x", &["client", "sales"])), Ok(()));
    let error = validate(&msp, &org.holder("x", &["client"]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("demands one of sales"), "{error}");
    org.config.organizational_unit_identifiers[0].certificate = Bytes::new();
    assert!(build(org.config).is_err(), "the certificate is not optional here");
}

#[test]
fn path_length_is_respected() {
    let mut org = Org::new("Org1MSP");
    // `intermediate` issues CAs with path length 0; one below it is too many.
    let middle = intermediate(&org.ca, "ica");
    let low = intermediate(&middle, "low");
    org.config.intermediate_certs = vec![pem(middle.certificate()), pem(low.certificate())];
    let member = holder(&low, "Org1MSP", "x", &["peer"]);
    assert_eq!(
        build(org.config.clone())
            .map(|msp| validate(&msp, &member).is_err())
            .ok(),
        Some(true)
    );
}

#[test]
fn ed25519_identities_need_the_newest_version() {
    use ring::signature::KeyPair as _;
    let mut org = Org::new("Org1MSP");
    org.config.fabric_node_ous = None;
    org.config.admins = vec![pem(org.holder("boss", &[]).certificate())];
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let algorithm = crate::der::sequence(&[crate::der::object_id(&[0x2b, 0x65, 0x70])]);
    let spki = crate::der::sequence(&[algorithm, crate::der::bit_string(pair.public_key().as_ref())]);
    let key = crate::keys::PublicKey::from_spki_der(&spki).unwrap();
    let certificate = org.ca.issue(&crate::testing::request("ed", &[], &key)).unwrap();
    let identity = Identity::new("Org1MSP", certificate);
    assert_eq!(
        identity.verify(b"message", pair.sign(b"message").as_ref()),
        Ok(())
    );
    assert!(identity.verify(b"message", pair.sign(b"other").as_ref()).is_err());
    let at = |version| {
        Msp::from_fabric_config(org.config.clone(), version)
            .unwrap()
            .validate(&identity)
    };
    assert!(matches!(
        at(MspVersion::V1_4_3),
        Err(IdentityError::KeyAlgorithm { .. })
    ));
    assert_eq!(at(MspVersion::V3_0), Ok(()));
}
