use super::*;
use crate::identity::{SigningIdentity, SigningIdentityError};
use crate::msp::{Msp, MspVersion};
use crate::testing::{Org, holder, intermediate, root};

fn named(name: &str, certificate: &Certificate) -> Vec<(String, Certificate)> {
    vec![(name.to_owned(), certificate.clone())]
}

#[test]
fn a_folder_round_trips() {
    let dir = tempfile::tempdir().unwrap();
    let (org, tls) = (Org::new("Org1MSP"), root("tlsca"));
    let user = org.holder("user", &["client"]);
    let contents = MspDirContents {
        cacerts: named("ca.org1.example.com-cert.pem", org.ca.certificate()),
        tlscacerts: named("tlsca-cert.pem", tls.certificate()),
        signcert: Some(("user-cert.pem".to_owned(), user.certificate().clone())),
        key: Some(user.key().clone()),
        node_ous: true,
        crls: vec![("crl.pem".to_owned(), org.ca.crl(&[], 1, 0, 1).unwrap())],
        ..MspDirContents::default()
    };
    write_msp_dir(dir.path(), &contents).unwrap();

    let config = FabricMspConfig::decode(read_msp_config(dir.path(), "Org1MSP").unwrap().config).unwrap();
    assert_eq!(config.root_certs, org.config.root_certs);
    assert_eq!(config.fabric_node_ous, org.config.fabric_node_ous);
    assert_eq!(
        (config.tls_root_certs.len(), config.revocation_list.len()),
        (1, 1)
    );
    let msp = Msp::new(
        &read_msp_config(dir.path(), "Org1MSP").unwrap(),
        MspVersion::LATEST,
    )
    .unwrap();
    let signer = SigningIdentity::from_msp_dir("Org1MSP", dir.path()).unwrap();
    assert_eq!(msp.validate(signer.identity()), Ok(()));
    let signature = signer.sign(b"message").unwrap();
    assert_eq!(signer.identity().verify(b"message", &signature), Ok(()));
    assert_eq!(signer.creator(), user.creator());

    let yaml = std::fs::read_to_string(dir.path().join("config.yaml")).unwrap();
    assert!(
        yaml.contains("Certificate: cacerts/ca.org1.example.com-cert.pem"),
        "{yaml}"
    );
    assert!(yaml.contains("OrganizationalUnitIdentifier: orderer"), "{yaml}");
    let key_file = dir
        .path()
        .join("keystore")
        .join(format!("{}_sk", hex::encode(user.key().public_key().ski())));
    assert!(key_file.exists());
}

#[test]
fn intermediate_cas_and_admins_are_read_and_junk_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let org = Org::new("Org1MSP");
    let middle = intermediate(&org.ca, "ica");
    let user = holder(&middle, "Org1MSP", "user", &["admin"]);
    let contents = MspDirContents {
        cacerts: named("ca.pem", org.ca.certificate()),
        intermediatecerts: named("ica.pem", middle.certificate()),
        admincerts: named("admin.pem", user.certificate()),
        node_ous: true,
        ..MspDirContents::default()
    };
    write_msp_dir(dir.path(), &contents).unwrap();
    std::fs::write(dir.path().join("cacerts/README"), "put CA certificates here").unwrap();
    // Editors leave blank lines; an MSP would refuse them.
    let ica = dir.path().join("intermediatecerts/ica.pem");
    std::fs::write(&ica, std::fs::read_to_string(&ica).unwrap() + "\n\n").unwrap();
    let msp = Msp::new(
        &read_msp_config(dir.path(), "Org1MSP").unwrap(),
        MspVersion::LATEST,
    )
    .unwrap();
    assert_eq!(msp.validate(user.identity()), Ok(()));
    let config = msp.config();
    assert_eq!(
        (
            config.root_certs.len(),
            config.intermediate_certs.len(),
            config.admins.len()
        ),
        (1, 1, 1)
    );
}

#[test]
fn fabrics_own_config_yaml_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let org = Org::new("Org1MSP");
    write_msp_dir(
        dir.path(),
        &MspDirContents {
            cacerts: named("ca.pem", org.ca.certificate()),
            ..MspDirContents::default()
        },
    )
    .unwrap();
    let yaml = "OrganizationalUnitIdentifiers:\n  - Certificate: \"cacerts/ca.pem\"\n    OrganizationalUnitIdentifier: \"sales\"\n\
                NodeOUs:\n  Enable: true\n  ClientOUIdentifier:\n    OrganizationalUnitIdentifier: client\n\
                \x20 PeerOUIdentifier:\n    Certificate: \"\"\n    OrganizationalUnitIdentifier: peer\n";
    std::fs::write(dir.path().join("config.yaml"), yaml).unwrap();
    let config = FabricMspConfig::decode(read_msp_config(dir.path(), "Org1MSP").unwrap().config).unwrap();
    let units = config.fabric_node_ous.unwrap();
    assert!(
        units
            .client_ou_identifier
            .is_some_and(|u| u.certificate.is_empty())
    );
    assert!(units.peer_ou_identifier.is_some() && units.admin_ou_identifier.is_none());
    assert_eq!(
        config.organizational_unit_identifiers[0].organizational_unit_identifier,
        "sales"
    );

    std::fs::write(
        dir.path().join("config.yaml"),
        yaml.replace("cacerts/ca.pem", "cacerts/gone.pem"),
    )
    .unwrap();
    let error = read_msp_config(dir.path(), "Org1MSP").unwrap_err().to_string();
    assert!(error.contains("gone.pem"), "{error}");
    std::fs::write(dir.path().join("config.yaml"), "NodeOUs: [").unwrap();
    assert!(matches!(
        read_msp_config(dir.path(), "Org1MSP"),
        Err(DirError::Content { .. })
    ));
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = read_msp_config(dir.path(), "Org1MSP").unwrap_err().to_string();
    assert!(
        error.contains("cacerts") && error.contains("no CA certificate"),
        "{error}"
    );
    let error = SigningIdentity::from_msp_dir("Org1MSP", dir.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("signcerts"), "{error}");

    let org = Org::new("Org1MSP");
    let (user, other) = (org.holder("user", &["client"]), org.holder("other", &["client"]));
    let contents = MspDirContents {
        signcert: Some(("cert.pem".to_owned(), user.certificate().clone())),
        key: Some(other.key().clone()),
        ..MspDirContents::default()
    };
    write_msp_dir(dir.path(), &contents).unwrap();
    std::fs::write(dir.path().join("keystore/note"), "no key").unwrap();
    let error = SigningIdentity::from_msp_dir("Org1MSP", dir.path()).unwrap_err();
    assert!(
        matches!(error, SigningIdentityError::Dir(DirError::NoKey { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("note"), "{error}");
    let text = user.certificate().to_pem();
    assert!(matches!(
        SigningIdentity::new("Org1MSP", text.as_bytes(), other.key().clone()),
        Err(SigningIdentityError::KeyMismatch { .. })
    ));
    // The key beside it is found among others.
    user.key()
        .write_file(&dir.path().join("keystore/zzz.pem"))
        .unwrap();
    assert!(SigningIdentity::from_msp_dir("Org1MSP", dir.path()).is_ok());
}

#[test]
fn a_certificate_stands_only_where_all_the_rest_does() {
    let org = Org::new("Org1MSP");
    let user = org.holder("user", &["client"]);
    let contents = MspDirContents {
        cacerts: named("ca.pem", org.ca.certificate()),
        signcert: Some(("user.pem".to_owned(), user.certificate().clone())),
        key: Some(user.key().clone()),
        node_ous: true,
        ..MspDirContents::default()
    };
    // Writing ends half-way, at the key or at the configuration.
    for blocked in ["keystore", "config.yaml"] {
        let dir = tempfile::tempdir().unwrap();
        let obstacle = dir.path().join(blocked);
        if blocked == "keystore" {
            std::fs::write(&obstacle, "").unwrap();
        } else {
            std::fs::create_dir(&obstacle).unwrap();
        }
        assert!(write_msp_dir(dir.path(), &contents).is_err(), "{blocked}");
        assert!(!dir.path().join("signcerts").exists(), "{blocked}");
    }
}
