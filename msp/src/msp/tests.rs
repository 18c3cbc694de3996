use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use selvedge_proto::common::{self, msp_principal::Classification, msp_role::MspRoleType as Role};
use selvedge_proto::msp::{FabricMspConfig, SerializedIdentity};

use super::*;
use crate::issue::{CertificateAuthority, IssueRequest, RevokedCertificate, Usage};
use crate::keys::PrivateKey;
use crate::manager::MspManager;
use crate::setup::MspError;
use crate::testing::{
    DAY, LONG_AGO, Org, build, holder, identity_of, intermediate, node_ous, pem, request, root, validate,
};

#[test]
fn members_are_valid_although_their_certificates_expired_long_ago() {
    let org = Org::new("Org1MSP");
    let msp = org.msp();
    let user = org.holder("user1", &["client"]);
    assert!(user.certificate().not_after() < 1_100_000_000);
    assert_eq!(validate(&msp, &user), Ok(()));
    // The remembered verdict is the same.
    assert_eq!(validate(&msp, &user), Ok(()));
}

#[test]
fn a_ca_that_starts_later_than_the_certificate_makes_it_invalid() {
    let org = Org::new("Org1MSP");
    let key = PrivateKey::generate().unwrap();
    let early = IssueRequest {
        not_before: LONG_AGO - 2 * DAY,
        ..request("early", &["client"], key.public_key())
    };
    let certificate = org.ca.issue(&early).unwrap();
    let error = org
        .msp()
        .validate(&Identity::new("Org1MSP", certificate))
        .unwrap_err();
    assert!(
        error.to_string().contains("is not valid one second after"),
        "{error}"
    );
}

#[test]
fn exactly_one_node_ou_is_demanded() {
    let org = Org::new("Org1MSP");
    let msp = org.msp();
    for (units, count) in [
        (&[][..], 0),
        (&["department1"][..], 0),
        (&["client", "peer"][..], 2),
        (&["client", "client"][..], 2),
        (&["admin", "org1", "orderer"][..], 2),
    ] {
        let error = validate(&msp, &org.holder("x", units)).unwrap_err();
        assert!(
            matches!(error, IdentityError::OrganizationalUnits { .. }),
            "{units:?}: {error}"
        );
        assert!(
            error.to_string().contains(&format!("there are {count}")),
            "{error}"
        );
    }
    for units in [
        &["client"][..],
        &["peer", "org1", "department1"],
        &["orderer"],
        &["org1", "admin"],
    ] {
        assert_eq!(validate(&msp, &org.holder("x", units)), Ok(()), "{units:?}");
    }
}

#[test]
fn roles_come_from_the_node_ous() {
    let org = Org::new("Org1MSP");
    let msp = org.msp();
    let all = [Role::Member, Role::Admin, Role::Client, Role::Peer, Role::Orderer];
    for (unit, own) in [
        ("client", Role::Client),
        ("peer", Role::Peer),
        ("admin", Role::Admin),
        ("orderer", Role::Orderer),
    ] {
        let identity = identity_of(&msp, &org.holder("x", &[unit]));
        for role in all {
            let got = msp.satisfies(&identity, &Principal::role("Org1MSP", role));
            assert_eq!(
                got.is_ok(),
                role == own || role == Role::Member,
                "{unit} as {role:?}: {got:?}"
            );
            assert!(
                msp.satisfies(&identity, &Principal::role("Org2MSP", role))
                    .is_err()
            );
        }
    }
    let client = identity_of(&msp, &org.holder("x", &["client"]));
    let why = msp
        .satisfies(&client, &Principal::role("Org1MSP", Role::Admin))
        .unwrap_err()
        .to_string();
    assert_eq!(
        why,
        "it is not an admin of Org1MSP: its certificate has the role client"
    );
}

#[test]
fn a_node_ou_tied_to_a_ca_counts_only_from_that_ca() {
    let mut org = Org::new("Org1MSP");
    let other = root("other");
    org.config.root_certs.push(pem(other.certificate()));
    let msp = org.msp();
    assert_eq!(validate(&msp, &org.holder("x", &["peer"])), Ok(()));
    let foreign = holder(&other, "Org1MSP", "x", &["peer"]);
    let error = validate(&msp, &foreign).unwrap_err().to_string();
    assert!(error.contains("only from another CA"), "{error}");

    // Without certificates in the identifiers, any CA will do.
    let units = org.config.fabric_node_ous.as_mut().unwrap();
    for unit in [
        &mut units.client_ou_identifier,
        &mut units.peer_ou_identifier,
        &mut units.orderer_ou_identifier,
    ] {
        unit.as_mut().unwrap().certificate = Bytes::new();
    }
    assert_eq!(validate(&org.msp(), &foreign), Ok(()));

    // A certificate that is not one of the MSP's CAs is refused.
    org.config.fabric_node_ous = Some(node_ous(root("third").certificate()));
    let error = build(org.config).unwrap_err().to_string();
    assert!(error.contains("not one of the MSP's CA certificates"), "{error}");
}

#[test]
fn listed_admins_are_admins_even_when_revoked_later() {
    let mut org = Org::new("Org1MSP");
    let admin = org.holder("boss", &["client"]);
    org.config.admins = vec![pem(admin.certificate())];
    let msp = org.msp();
    assert!(
        msp.satisfies(
            &identity_of(&msp, &admin),
            &Principal::role("Org1MSP", Role::Admin)
        )
        .is_ok()
    );
    let other = org.holder("boss", &["client"]);
    assert!(
        msp.satisfies(
            &identity_of(&msp, &other),
            &Principal::role("Org1MSP", Role::Admin)
        )
        .is_err()
    );

    // At set-up every listed admin must be valid and a client or admin.
    for bad in [
        org.holder("p", &["peer"]),
        holder(&root("x"), "Org1MSP", "y", &["admin"]),
    ] {
        let config = FabricMspConfig {
            admins: vec![pem(bad.certificate())],
            ..org.config.clone()
        };
        let error = build(config).unwrap_err().to_string();
        assert!(error.contains("admin certificate 1"), "{error}");
    }
    let config = FabricMspConfig {
        fabric_node_ous: None,
        admins: Vec::new(),
        ..org.config.clone()
    };
    assert!(matches!(build(config), Err(MspError::NoAdmin(_))));
}

#[test]
fn intermediate_cas_issue_and_inner_ones_do_not() {
    let mut org = Org::new("Org1MSP");
    let middle = intermediate(&org.ca, "ica");
    let member = holder(&middle, "Org1MSP", "x", &["peer"]);
    let error = validate(&org.msp(), &member).unwrap_err().to_string();
    assert!(error.contains("not among the CAs"), "{error}");

    org.config.intermediate_certs = vec![pem(middle.certificate())];
    org.config.fabric_node_ous = Some(node_ous(middle.certificate()));
    let msp = org.msp();
    assert_eq!(validate(&msp, &member), Ok(()));
    let inner = validate(&msp, &org.holder("x", &["peer"])).unwrap_err();
    assert!(matches!(inner, IdentityError::InternalNode { .. }), "{inner}");

    // The unit's certifiers: the chain from the intermediate CA up.
    let unit = |certifiers: &[u8]| {
        Principal::OrganizationUnit(common::OrganizationUnit {
            msp_identifier: "Org1MSP".into(),
            organizational_unit_identifier: "peer".into(),
            certifiers_identifier: Bytes::copy_from_slice(certifiers),
        })
    };
    let chain = certifiers_id(&[middle.certificate(), org.ca.certificate()]);
    let identity = identity_of(&msp, &member);
    assert!(msp.satisfies(&identity, &unit(&chain)).is_ok());
    assert!(
        msp.satisfies(&identity, &unit(&certifiers_id(&[org.ca.certificate()])))
            .is_err()
    );
    assert!(msp.satisfies(&identity, &unit(&[])).is_err());
}

#[test]
fn cas_strangers_and_other_msps_are_no_members() {
    let org = Org::new("Org1MSP");
    let msp = org.msp();
    let ca = msp.deserialize(org.ca.certificate().to_pem().as_bytes()).unwrap();
    assert!(matches!(msp.validate(&ca), Err(IdentityError::IsCa { .. })));

    // Same name of the CA, another key.
    let impostor = holder(&root("ca.Org1MSP"), "Org1MSP", "x", &["peer"]);
    let error = validate(&msp, &impostor).unwrap_err().to_string();
    assert!(error.contains("did not sign it"), "{error}");

    let other = Org::new("Org2MSP");
    let stranger = other.holder("x", &["peer"]);
    let foreign = Identity::new("Org2MSP", stranger.certificate().clone());
    assert!(matches!(
        msp.validate(&foreign),
        Err(IdentityError::OtherMsp { .. })
    ));

    // Extended key usages without server authentication fail (Go's default), with it they pass.
    let key = PrivateKey::generate().unwrap();
    let tls = org
        .ca
        .issue(&IssueRequest {
            usage: Usage::Tls,
            ..request("x", &["peer"], key.public_key())
        })
        .unwrap();
    assert_eq!(msp.validate(&Identity::new("Org1MSP", tls)), Ok(()));
}

#[test]
fn two_chains_are_one_too_many() {
    // The same CA certified by two roots: which chain is meant cannot be told.
    let (one, two) = (root("one"), root("two"));
    let key = PrivateKey::generate().unwrap();
    let ask = IssueRequest {
        usage: Usage::Ca,
        ..request("ica", &[], key.public_key())
    };
    let (first, second) = (one.issue(&ask).unwrap(), two.issue(&ask).unwrap());
    let member = holder(
        &CertificateAuthority::new(first.clone(), key).unwrap(),
        "Org1MSP",
        "x",
        &["peer"],
    );
    let tree = CaTree::new(
        vec![one.certificate().clone(), two.certificate().clone()],
        vec![first, second],
    );
    let error = tree.path(member.certificate()).unwrap_err().to_string();
    assert!(error.contains("single validation chain, got 2"), "{error}");
}

#[test]
fn revoked_certificates_are_refused_whatever_the_dates() {
    let mut org = Org::new("Org1MSP");
    let (bad, good) = (org.holder("bad", &["peer"]), org.holder("good", &["peer"]));
    let entry = RevokedCertificate {
        serial: bad.certificate().serial().to_vec(),
        revoked_at: 4_000_000_000,
        reason: 1,
    };
    let crl = |ca: &CertificateAuthority| {
        ca.crl(std::slice::from_ref(&entry), 1, LONG_AGO, LONG_AGO + 1)
            .unwrap()
    };
    org.config.revocation_list = vec![crl(&org.ca).into()];
    let msp = org.msp();
    let error = validate(&msp, &bad).unwrap_err();
    assert!(matches!(error, IdentityError::Revoked { .. }), "{error}");
    assert_eq!(validate(&msp, &good), Ok(()));

    // A list of another key with the same names has no force; an empty one neither.
    let forger = CertificateAuthority::new(org.ca.certificate().clone(), org.ca.key().clone()).unwrap();
    let empty = forger.crl(&[], 2, LONG_AGO, LONG_AGO + 1).unwrap();
    org.config.revocation_list = vec![crl(&root("ca.Org1MSP")).into(), empty.into()];
    assert_eq!(validate(&org.msp(), &bad), Ok(()));

    org.config.revocation_list = vec![Bytes::from_static(b"nonsense")];
    assert!(
        build(org.config)
            .unwrap_err()
            .to_string()
            .contains("revocation list 1")
    );
}

#[test]
fn identity_and_combined_principals() {
    let org = Org::new("Org1MSP");
    let msp = org.msp();
    let (one, two) = (org.holder("one", &["client"]), org.holder("two", &["client"]));
    let wrap = |classification: Classification, principal: Vec<u8>| common::MspPrincipal {
        principal_classification: classification as i32,
        principal: principal.into(),
    };
    let exactly_one = wrap(Classification::Identity, one.creator().to_vec());
    let (one, two) = (identity_of(&msp, &one), identity_of(&msp, &two));
    assert!(msp.satisfies(&one, &Principal::decode(&exactly_one)).is_ok());
    assert_eq!(
        msp.satisfies(&two, &Principal::decode(&exactly_one)),
        Err(PrincipalError::Identity)
    );

    let client = crate::policy::dsl::role_principal("Org1MSP", Role::Client);
    let both = |parts: Vec<common::MspPrincipal>| {
        wrap(
            Classification::Combined,
            common::CombinedPrincipal { principals: parts }.encode_to_vec(),
        )
    };
    assert!(
        msp.satisfies(
            &one,
            &Principal::decode(&both(vec![client.clone(), exactly_one.clone()]))
        )
        .is_ok()
    );
    assert!(
        msp.satisfies(&two, &Principal::decode(&both(vec![client.clone(), exactly_one])))
            .is_err()
    );
    assert!(matches!(
        Principal::decode(&both(Vec::new())),
        Principal::Malformed(_)
    ));
    let mut deep = client;
    for _ in 0..5_000 {
        deep = both(vec![deep]);
    }
    assert!(
        msp.satisfies(&one, &Principal::decode(&deep)).is_err(),
        "nested without end"
    );
    for nonsense in [
        wrap(Classification::Role, vec![0xff]),
        wrap(Classification::Role, vec![0x10, 9]),
        common::MspPrincipal {
            principal_classification: 7,
            principal: Bytes::new(),
        },
    ] {
        assert!(
            matches!(Principal::decode(&nonsense), Principal::Malformed(_)),
            "{nonsense:?}"
        );
    }
}

#[test]
fn an_invalid_identity_is_not_even_itself() {
    let mut org = Org::new("Org1MSP");
    let who = org.holder("one", &["client"]);
    let entry = RevokedCertificate {
        serial: who.certificate().serial().to_vec(),
        revoked_at: LONG_AGO,
        reason: 0,
    };
    org.config.revocation_list = vec![org.ca.crl(&[entry], 1, LONG_AGO, LONG_AGO + 1).unwrap().into()];
    let msp = org.msp();
    let itself = Principal::Identity(SerializedIdentity::decode(who.creator().clone()).unwrap());
    assert!(matches!(
        msp.satisfies(&identity_of(&msp, &who), &itself),
        Err(PrincipalError::Invalid(_))
    ));
}

#[test]
fn the_manager_finds_the_msp_and_names_those_it_knows() {
    let (one, two) = (Org::new("Org1MSP"), Org::new("Org2MSP"));
    let manager = MspManager::new(vec![one.msp(), two.msp()]);
    let user = two.holder("user", &["client"]);
    let identity = manager.deserialize(user.creator()).unwrap();
    assert_eq!(
        (identity.msp_id(), identity.certificate()),
        ("Org2MSP", user.certificate())
    );
    assert_eq!(manager.validate(&identity), Ok(()));
    assert!(
        Arc::ptr_eq(&identity, &manager.deserialize(user.creator()).unwrap()),
        "kept"
    );

    let stranger = Org::new("Org3MSP").holder("x", &["client"]);
    let error = manager.deserialize(stranger.creator()).unwrap_err().to_string();
    assert_eq!(error, "MSP 'Org3MSP' is unknown here; known are Org1MSP, Org2MSP");
    assert!(matches!(
        manager.deserialize(&[0xff, 0xff]),
        Err(IdentityError::Malformed(_))
    ));
    let no_pem = SerializedIdentity {
        mspid: "Org1MSP".into(),
        id_bytes: Bytes::from_static(b"x"),
    };
    let error = manager
        .deserialize(&no_pem.encode_to_vec())
        .unwrap_err()
        .to_string();
    assert!(error.contains("could not decode the PEM structure"), "{error}");
    assert_eq!(
        manager.msps().map(Msp::id).collect::<Vec<_>>(),
        ["Org1MSP", "Org2MSP"]
    );
}

#[test]
fn two_spellings_of_a_certificate_are_one_identity() {
    let org = Org::new("Org1MSP");
    let manager = MspManager::new(vec![org.msp()]);
    let user = org.holder("user", &["client"]);
    let text = user.certificate().to_pem();
    let spellings = [
        text.clone(),
        format!("a comment\n{text}"),
        text.replace('\n', "\r\n"),
        text.replace("CERTIFICATE", "ANYTHING"),
        text.trim_end().to_owned(),
    ];
    let keys: HashSet<[u8; 32]> = spellings
        .iter()
        .map(|spelling| {
            let id = SerializedIdentity {
                mspid: "Org1MSP".into(),
                id_bytes: spelling.clone().into(),
            };
            *manager.deserialize(&id.encode_to_vec()).unwrap().key().1
        })
        .collect();
    assert_eq!(keys.len(), 1);
}
