use super::*;

fn registry() -> (tempfile::TempDir, Registry) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(&dir.path().join("ca.db")).unwrap();
    (dir, registry)
}

fn identity(id: &str, affiliation: &str) -> Identity {
    Identity {
        id: id.into(),
        secret_hash: String::new(),
        kind: "client".into(),
        affiliation: affiliation.into(),
        attributes: Vec::new(),
        state: 0,
        max_enrollments: 2,
        wrong_attempts: 0,
    }
}

#[test]
fn hexadecimal_in_any_spelling() {
    assert_eq!(normal_hex("00:0A:Ff"), "aff");
    assert_eq!(normal_hex("000"), "");
}

#[test]
fn an_affiliation_covers_itself_and_what_is_below_but_not_its_namesakes() {
    let (_dir, registry) = registry();
    for (id, affiliation) in [
        ("a", "org1"),
        ("b", "org1.hall"),
        ("c", "org1-north"),
        ("d", "org10"),
        ("e", ""),
        ("f", "org1_hall"),
    ] {
        registry.insert(&identity(id, affiliation)).unwrap();
    }
    let seen = |scope: &str| -> Vec<String> {
        let found = registry.identities_after(None, scope, 10).unwrap();
        found.into_iter().map(|i| i.id).collect()
    };
    assert_eq!(seen("org1"), ["a", "b"]);
    let a = registry.identity("a").unwrap().unwrap();
    let behind = registry.identities_after(Some(&a), "org1", 10).unwrap();
    assert_eq!(behind.into_iter().map(|i| i.id).collect::<Vec<_>>(), ["b"]);
    assert_eq!(seen(""), ["a", "b", "c", "d", "e", "f"]);
    let b = registry.identity("b").unwrap().unwrap();
    assert_eq!(registry.identities_after(Some(&b), "", 2).unwrap()[0].id, "c");
}

fn certificate<'a>(serial: &'a str, id: &'a str, pem: &'a str, not_after: i64) -> NewCertificate<'a> {
    NewCertificate {
        serial,
        aki: "00ff",
        id,
        pem,
        not_after,
    }
}

#[test]
fn enrolments_run_out_and_locks_hold() {
    let (_dir, registry) = registry();
    registry.insert(&identity("a", "")).unwrap();
    let enroll = |serial: &str, enrollments| {
        let limits = Limits {
            enrollments,
            wrong_attempts: 10,
        };
        registry
            .enroll(&certificate(serial, "a", "pem", 1), limits)
            .unwrap()
    };
    assert!(!enroll("1", 0), "the authority's limit counts");
    assert!(enroll("2", -1));
    for _ in 0..10 {
        registry.count_wrong_attempt("a").unwrap();
    }
    assert!(!enroll("3", -1), "locked");
    assert!(registry.update(&identity("a", "")).unwrap());
    assert!(enroll("4", -1));
    assert!(!enroll("5", -1), "two enrolments were allowed");
    assert_eq!(
        registry.number_of(Count::Certificates).unwrap(),
        2,
        "no certificate without an enrolment"
    );
}

#[test]
fn revoking_an_identity_takes_its_certificates_once() {
    let (_dir, registry) = registry();
    registry.insert(&identity("a", "")).unwrap();
    registry
        .add_certificate(&certificate("0a1", "a", "pem1", 100))
        .unwrap();
    registry
        .add_certificate(&certificate("b2", "a", "pem2", 200))
        .unwrap();
    let first = registry.certificate("A1", "FF").unwrap().unwrap();
    assert!(registry.revoke_certificate(&first, 10, 1).unwrap());
    assert!(!registry.revoke_certificate(&first, 11, 2).unwrap());
    assert_eq!(
        registry.revoke_identity("a", 20, 4).unwrap(),
        [("b2".to_owned(), "00ff".to_owned())]
    );
    assert_eq!(registry.identity("a").unwrap().unwrap().state, -1);
    let all = registry.revoked(Period::default(), Period::default()).unwrap();
    assert_eq!(
        all.iter()
            .map(|c| (c.serial.as_str(), c.reason))
            .collect::<Vec<_>>(),
        [("a1", 1), ("b2", 4)]
    );
    let alive = Period {
        start: Some(150),
        end: None,
    };
    assert_eq!(registry.revoked(Period::default(), alive).unwrap().len(), 1);
}

#[test]
fn serials_of_old_registries_lose_their_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(SCHEMA).unwrap();
    old.execute_batch(
        "INSERT INTO certificates (serial, aki, id, pem, not_after) VALUES ('0a1', 'ff', 'a', 'p', 1)",
    )
    .unwrap();
    drop(old);
    let registry = Registry::open(&path).unwrap();
    assert!(registry.certificate("0a1", "ff").unwrap().is_some());
}

#[test]
fn renaming_an_affiliation_moves_everybody() {
    let (_dir, registry) = registry();
    registry
        .add_affiliations(&["org1".into(), "org1.hall".into(), "org10".into()])
        .unwrap();
    registry.insert(&identity("a", "org1.hall")).unwrap();
    let moved = registry
        .rename_affiliation("org1", "org2.x", &["org2".into()])
        .unwrap();
    assert_eq!(moved[0].affiliation, "org2.x.hall");
    assert_eq!(
        registry
            .identity("a")
            .unwrap()
            .unwrap()
            .attribute("hf.Affiliation"),
        Some("org2.x.hall")
    );
    assert_eq!(
        registry.affiliations("").unwrap(),
        ["org10", "org2", "org2.x", "org2.x.hall"]
    );
    let removed = registry.remove_affiliation("org2", 1, 3).unwrap();
    assert_eq!(removed.affiliations, ["org2", "org2.x", "org2.x.hall"]);
    assert_eq!(removed.identities.len(), 1);
    assert!(registry.identity("a").unwrap().is_none());
    assert_eq!(registry.counters(), (1, 2));
}

impl Registry {
    fn counters(&self) -> (u64, u64) {
        (self.count("n").unwrap(), self.count("n").unwrap())
    }
}
