//! `/revoke`, `/gencrl` and `/certificates`.

use super::*;

fn handle(certificate: &Certificate) -> (String, String) {
    let aki = certificate.authority_key_id().unwrap();
    (hex::encode(certificate.serial()), hex::encode(aki))
}

fn pems(answer: &Value) -> Vec<&str> {
    let list = answer["result"]["certs"].as_array().unwrap();
    list.iter().map(|c| c["PEM"].as_str().unwrap()).collect()
}

/// The serial numbers in a list, after a look at its signature and times.
fn listed(server: &Server, encoded: &Value) -> Vec<Vec<u8>> {
    use x509_parser::prelude::FromDer;
    let pem = BASE64_STANDARD.decode(encoded.as_str().unwrap()).unwrap();
    let (block, _) = selvedge_msp::pem::first_block(&pem).unwrap();
    assert_eq!(block.label, "X509 CRL");
    let (_, crl) = x509_parser::revocation_list::CertificateRevocationList::from_der(&block.content).unwrap();
    let root = std::fs::read(server.dir.path().join("ca-org1.pem")).unwrap();
    let root = Certificate::from_pem(&root).unwrap();
    let (_, key) = x509_parser::x509::SubjectPublicKeyInfo::from_der(root.spki_der()).unwrap();
    crl.verify_signature(&key).unwrap();
    let next = crl.next_update().unwrap().timestamp();
    assert_eq!(next - crl.last_update().timestamp(), 86_400);
    let serials = crl.iter_revoked_certificates().map(|c| c.raw_serial());
    serials
        .map(|s| s.iter().copied().skip_while(|b| *b == 0).collect())
        .collect()
}

#[tokio::test]
async fn one_certificate_goes_and_the_others_stay() {
    let server = Server::new();
    let admin = server.admin().await;
    let first = server
        .member(&admin, json!({ "id": "van", "affiliation": "org1" }))
        .await;
    let request = csr::create(&first.1, "van", &[]).unwrap();
    let (_, answer) = server
        .signed(&first, "/reenroll", json!({ "certificate_request": request }))
        .await;
    let second = (certificate(&answer), first.1.clone());

    let (serial, aki) = handle(&first.0);
    let spelled =
        json!({ "id": null, "serial": format!("00{}", serial.to_uppercase()), "aki": aki, "reason": null });
    let (status, answer) = server.signed(&admin, "/api/v1/revoke", spelled.clone()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let trimmed = serial.trim_start_matches('0');
    assert_eq!(
        answer["result"]["RevokedCerts"],
        json!([{ "Serial": trimmed, "AKI": aki }])
    );
    assert_eq!(answer["result"]["CRL"], "");
    let (status, answer) = server.signed(&admin, "/revoke", spelled).await;
    assert_eq!((status, code(&answer)), (StatusCode::NOT_FOUND, 66));

    let (status, _) = server.ask(&first, "GET", "/certificates", Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "the revoked one");
    let (status, answer) = server.ask(&second, "GET", "/certificates", Value::Null).await;
    assert_eq!(status, StatusCode::OK, "the other one: {answer}");
    assert_eq!(pems(&answer).len(), 2, "one's own certificates");
    let (status, answer) = server
        .ask(&second, "GET", "/certificates?id=admin", Value::Null)
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 71));
}

#[tokio::test]
async fn a_revoked_identity_can_do_nothing_more() {
    let server = Server::new();
    let admin = server.admin().await;
    let (_, answer) = server
        .signed(
            &admin,
            "/register",
            json!({ "id": "van", "affiliation": "org1", "max_enrollments": -1 }),
        )
        .await;
    let secret = answer["result"]["secret"].as_str().unwrap().to_owned();
    let (_, answer, key) = server.enroll("van", &secret, "van", json!({})).await;
    let van = (certificate(&answer), key);

    let revoke = json!({ "id": "van", "reason": "KeyCompromise", "gencrl": true });
    let (status, answer) = server.signed(&admin, "/revoke", revoke).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        listed(&server, &answer["result"]["CRL"]),
        [van.0.serial().to_vec()]
    );

    let (status, answer, _) = server.enroll("van", &secret, "van", json!({})).await;
    assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 20));
    let request = csr::create(&van.1, "van", &[]).unwrap();
    let (status, answer) = server
        .signed(&van, "/reenroll", json!({ "certificate_request": request }))
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 20));
    let (status, answer) = server.signed(&admin, "/revoke", json!({ "id": "van" })).await;
    assert_eq!(
        (status, &answer["result"]["RevokedCerts"]),
        (StatusCode::OK, &json!([]))
    );
}

#[tokio::test]
async fn refusals_of_revoke_have_fabrics_codes() {
    let server = Server::new();
    let admin = server.admin().await;
    let van = server
        .member(&admin, json!({ "id": "van", "affiliation": "org1" }))
        .await;
    let revoker = json!({
        "id": "revoker", "affiliation": "org1.hall",
        "attrs": [{ "name": "hf.Revoker", "value": "true" }, { "name": "hf.Registrar.Roles", "value": "client" }],
    });
    let revoker = server.member(&admin, revoker).await;
    let (serial, aki) = handle(&van.0);
    let bad = StatusCode::BAD_REQUEST;
    for (who, body, expected) in [
        (&van, json!({ "id": "admin" }), (StatusCode::FORBIDDEN, 71)),
        (&revoker, json!({ "id": "van" }), (StatusCode::FORBIDDEN, 71)),
        (
            &revoker,
            json!({ "serial": serial, "aki": aki }),
            (StatusCode::FORBIDDEN, 71),
        ),
        (&admin, json!({ "serial": serial }), (bad, 15)),
        (&admin, json!({ "id": "nobody" }), (StatusCode::NOT_FOUND, 10)),
        (
            &admin,
            json!({ "serial": "1234", "aki": aki }),
            (StatusCode::NOT_FOUND, 8),
        ),
        (
            &admin,
            json!({ "id": "admin", "serial": serial, "aki": aki }),
            (bad, 9),
        ),
        (&admin, json!({ "id": "van", "reason": "boredom" }), (bad, 12)),
        (&admin, Value::Null, (bad, 4)),
    ] {
        let (status, answer) = server.ask(who, "POST", "/revoke", body.clone()).await;
        assert_eq!((status, code(&answer)), expected, "{body}: {answer}");
    }
    let own = handle(&revoker.0);
    let (status, answer) = server
        .signed(&revoker, "/revoke", json!({ "serial": own.0, "aki": own.1 }))
        .await;
    assert_eq!(status, StatusCode::OK, "one's own certificate: {answer}");
}

#[tokio::test]
async fn lists_follow_their_times() {
    let server = Server::new();
    let admin = server.admin().await;
    let van = server
        .member(&admin, json!({ "id": "van", "affiliation": "org1" }))
        .await;
    let (_, answer) = server
        .signed(
            &admin,
            "/gencrl",
            json!({ "caname": "ca-org1", "revokedBefore": null }),
        )
        .await;
    assert!(listed(&server, &answer["result"]["CRL"]).is_empty());
    server.signed(&admin, "/revoke", json!({ "id": "van" })).await;
    for (body, count) in [
        (json!({ "caname": "ca-org1" }), 1),
        (
            json!({ "revokedAfter": "2020-01-01T00:00:00.000Z", "expireBefore": null }),
            1,
        ),
        (json!({ "revokedAfter": "2100-01-01T00:00:00+01:00" }), 0),
        (json!({ "revokedBefore": "2020-01-01T00:00:00Z" }), 0),
        (json!({ "expireAfter": "2100-01-01T00:00:00Z" }), 0),
        (json!({ "expireafter": "0001-01-01T00:00:00Z" }), 1),
    ] {
        let (status, answer) = server.signed(&admin, "/gencrl", body.clone()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(listed(&server, &answer["result"]["CRL"]).len(), count, "{body}");
    }
    let backwards =
        json!({ "revokedafter": "2021-01-01T00:00:00Z", "revokedbefore": "2020-01-01T00:00:00Z" });
    let (status, answer) = server.signed(&admin, "/gencrl", backwards).await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 36));
    let backwards = json!({ "expireafter": "2021-01-01T00:00:00Z", "expirebefore": "2020-01-01T00:00:00Z" });
    let (status, answer) = server.signed(&admin, "/gencrl", backwards).await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 37));
    let (status, answer) = server
        .signed(&admin, "/gencrl", json!({ "revokedafter": "soon" }))
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 36));
    let plain = server
        .member(&admin, json!({ "id": "plain", "affiliation": "org1" }))
        .await;
    let (status, answer) = server.signed(&plain, "/gencrl", json!({ "caname": "" })).await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 71));
    drop(van);
}

#[tokio::test]
async fn certificates_by_every_filter() {
    let server = Server::new();
    let admin = server.admin().await;
    let van = server
        .member(&admin, json!({ "id": "van", "affiliation": "org1.hall" }))
        .await;
    let bus = server
        .member(&admin, json!({ "id": "bus", "affiliation": "org1" }))
        .await;
    server.signed(&admin, "/revoke", json!({ "id": "bus" })).await;
    let (serial, aki) = handle(&van.0);
    let (a, v, b) = (admin.0.to_pem(), van.0.to_pem(), bus.0.to_pem());
    let all = [a.as_str(), &v, &b];
    for (query, expected) in [
        (String::new(), all.to_vec()),
        ("?ca=ca-org1&id=van".to_owned(), vec![&*v]),
        (format!("?serial={serial}&aki={aki}"), vec![&*v]),
        (format!("?aki=00{}", aki.to_uppercase()), all.to_vec()),
        ("?aki=12".to_owned(), vec![]),
        ("?notrevoked=true".to_owned(), vec![&*a, &v]),
        ("?notexpired=true".to_owned(), all.to_vec()),
        ("?revoked_start=-1h&revoked_end=now".to_owned(), vec![&*b]),
        ("?revoked_start=%2B1h".to_owned(), vec![]),
        ("?expired_start=now&expired_end=%2B2d".to_owned(), all.to_vec()),
        ("?expired_end=2020-01-01".to_owned(), vec![]),
        (
            "?expired_start=2020-01-01T00:00:00%2B02:00&expired_end=now".to_owned(),
            vec![],
        ),
    ] {
        let (status, answer) = server
            .ask(&admin, "GET", &format!("/certificates{query}"), Value::Null)
            .await;
        assert_eq!(status, StatusCode::OK, "{query}: {answer}");
        assert_eq!(pems(&answer), expected, "{query}");
    }
    for query in [
        "?revoked_start=soon",
        "?notrevoked=true&revoked_start=now",
        "?notexpired=true&expired_end=now",
        "?expired_start=now&expired_end=-1d",
    ] {
        let (status, answer) = server
            .ask(&admin, "GET", &format!("/certificates{query}"), Value::Null)
            .await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 67), "{query}");
    }
    let boss = json!({
        "id": "boss", "affiliation": "org1.hall", "attrs": [{ "name": "hf.Registrar.Roles", "value": "client" }],
    });
    let boss = server.member(&admin, boss).await;
    let (_, answer) = server.ask(&boss, "GET", "/certificates", Value::Null).await;
    assert_eq!(
        pems(&answer),
        [v.as_str(), &boss.0.to_pem()],
        "its own affiliation only"
    );
}
