//! Bodies and fields that are too long, too slow or no good.

use super::*;

#[tokio::test]
async fn oversize_and_empty_bodies() {
    let server = Server::new();
    let (status, answer) = server
        .call("POST", "/api/v1/register", None, "x".repeat(MAX_BODY_BYTES + 1))
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::PAYLOAD_TOO_LARGE, 3));
    for path in [
        "/enroll",
        "/reenroll",
        "/register",
        "/revoke",
        "/gencrl",
        "/identities",
        "/affiliations",
    ] {
        let (status, answer) = server.call("POST", path, None, String::new()).await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 4), "{path}");
        let (status, answer) = server.call("POST", path, None, "[1,".into()).await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 5), "{path}");
        let (status, answer) = server.call("POST", path, None, "{}".into()).await;
        assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 20), "{path}");
    }
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let server = Server::new();
    let authority = Authority::open(&config(server.dir.path(), "ca-org1"), server.dir.path()).unwrap();
    let impatient = router(Arc::new(Authorities {
        body_timeout: Duration::from_millis(1),
        ..Authorities::new(vec![Arc::new(authority)])
    }));
    let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
    let request = Request::post("/enroll").body(Body::from_stream(never)).unwrap();
    let response = impatient.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let server = Server::new();
    let parts = futures::stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("gone"))]);
    let request = Request::post("/enroll").body(Body::from_stream(parts)).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn subjects_are_taken_from_the_request_and_bounded() {
    let server = Server::new();
    let secret = server.secret();
    let subject = json!({ "CN": "ignored", "names": [{ "C": "DE", "O": "Mill", "OU": "ignored" }], "SerialNumber": "17" });
    let (status, answer, _) = server
        .enroll("admin", &secret, "admin", json!({ "subject": subject }))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let issued = certificate(&answer);
    assert_eq!(issued.common_name(), Some("admin"));
    assert_eq!(issued.organizational_units(), ["client"]);
    for part in ["C=DE", "O=Mill"] {
        assert!(issued.subject().contains(part), "{}", issued.subject());
    }
    for (name, limit) in [("C", 2), ("ST", 128), ("L", 128), ("O", 64), ("SerialNumber", 64)] {
        let long = json!({ "subject": { "names": [{ name: "x".repeat(limit + 1) }] } });
        let (status, answer, _) = server.enroll("admin", &secret, "admin", long).await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 80), "{name}");
    }
}

#[tokio::test]
async fn every_method_has_its_paths() {
    let server = Server::new();
    for (method, path) in [
        ("PUT", "/identities"),
        ("POST", "/identities/x"),
        ("GET", "/revoke"),
        ("POST", "/certificates"),
        ("DELETE", "/affiliations"),
        ("PATCH", "/affiliations/x"),
    ] {
        let (status, answer) = server.call(method, path, None, String::new()).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::METHOD_NOT_ALLOWED, 1),
            "{method} {path}"
        );
    }
    let (status, _) = server.call("HEAD", "/cainfo", None, String::new()).await;
    assert_eq!(status, StatusCode::OK);
    let admin = server.admin().await;
    let (status, answer) = server.ask(&admin, "GET", "/identities/%ff", Value::Null).await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 50));
}

#[tokio::test]
async fn weak_and_unusual_keys_are_refused() {
    let server = Server::new();
    let secret = server.secret();
    let requests = [
        ("RSA 1024", include_str!("requests/rsa1024.pem")),
        ("RSA 2048", include_str!("requests/rsa2048.pem")),
        ("P-224", include_str!("requests/p224.pem")),
        ("P-521", include_str!("requests/p521.pem")),
        ("secp256k1", include_str!("requests/k256.pem")),
        ("a curve of its own", include_str!("requests/explicit.pem")),
        ("SHA-1", include_str!("requests/sha1.pem")),
    ];
    for (what, request) in requests {
        let body = json!({ "certificate_request": request });
        let (status, answer, _) = server.enroll("admin", &secret, "admin", body).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::BAD_REQUEST, 31),
            "{what}: {answer}"
        );
    }
}

#[tokio::test]
async fn renewing_for_somebody_else_is_refused() {
    let server = Server::new();
    let admin = server.admin().await;
    let body = json!({ "certificate_request": csr::create(&admin.1, "other", &[]).unwrap() });
    let (status, answer) = server.signed(&admin, "/reenroll", body).await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 77));
}

/// Before Fabric CA 1.4, tokens covered body and certificate only, and so served for any path.
#[tokio::test]
async fn tokens_of_the_old_form_are_refused() {
    let server = Server::new();
    let (certificate, key) = server.admin().await;
    let pem = BASE64_STANDARD.encode(certificate.to_pem());
    let signature = key.sign(format!(".{pem}").as_bytes()).unwrap();
    let old = format!("{pem}.{}", BASE64_STANDARD.encode(signature));
    let (status, answer) = server.call("GET", "/identities", Some(&old), String::new()).await;
    assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 20));
}

#[tokio::test]
async fn the_number_of_guesses_is_configured() {
    let server = Server::with(|config| config.password_attempts = 2);
    for _ in 0..2 {
        let (status, answer, _) = server.enroll("admin", "guess", "admin", json!({})).await;
        assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 20));
    }
    let (status, answer, _) = server.enroll("admin", &server.secret(), "admin", json!({})).await;
    assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 73));
}
