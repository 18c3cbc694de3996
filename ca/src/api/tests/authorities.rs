//! Several authorities in a server, one below another, and certificates at their end.

use super::*;

/// A root and an intermediate below it, whose certificate it enrolled at the root.
async fn two() -> (Server, Holder) {
    let dir = tempfile::tempdir().unwrap();
    write_root(dir.path(), "root");
    let server = Server {
        router: open(dir.path(), &[config(dir.path(), "root")]),
        dir,
    };
    let admin = server.admin().await;
    let registration = json!({
        "id": "inter", "affiliation": "org1", "attrs": [{ "name": "hf.IntermediateCA", "value": "true" }],
    });
    let (_, answer) = server.signed(&admin, "/register", registration).await;
    let secret = answer["result"]["secret"].as_str().unwrap().to_owned();
    let (status, answer, key) = server
        .enroll("inter", &secret, "inter", json!({ "profile": "ca" }))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let certificate = certificate(&answer);
    assert!(certificate.is_ca());
    let dir = server.dir;
    std::fs::write(dir.path().join("inter.pem"), certificate.to_pem()).unwrap();
    key.write_file(&dir.path().join("inter.key")).unwrap();
    let mut below = config(dir.path(), "inter");
    below.chain = Some(dir.path().join("root.pem"));
    let router = open(dir.path(), &[config(dir.path(), "root"), below]);
    (Server { dir, router }, admin)
}

fn chain(answer: &Value) -> Vec<Certificate> {
    let pem = BASE64_STANDARD.decode(answer.as_str().unwrap()).unwrap();
    let blocks = selvedge_msp::pem::all_blocks(&pem);
    blocks
        .iter()
        .map(|b| Certificate::from_der(&b.content).unwrap())
        .collect()
}

#[tokio::test]
async fn an_intermediate_authority_shows_its_chain() {
    let (server, root_admin) = two().await;
    let (_, answer) = server.call("GET", "/cainfo?ca=inter", None, String::new()).await;
    let info = chain(&answer["result"]["CAChain"]);
    assert_eq!(info.len(), 2);
    assert!(info[0].is_signed_by(&info[1]) && info[1].is_signed_by(&info[1]));

    let (status, answer, key) = server
        .enroll("admin", &server.secret(), "admin", json!({ "caname": "inter" }))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let admin = (certificate(&answer), key);
    assert!(admin.0.is_signed_by(&info[0]));
    assert_eq!(chain(&answer["result"]["ServerInfo"]["CAChain"]), info);

    for (who, ca, allowed) in [
        (&admin, "inter", true),
        (&admin, "root", false),
        (&root_admin, "inter", false),
        (&root_admin, "root", true),
        (&root_admin, "undefined", true),
    ] {
        let (status, _) = server
            .ask(who, "GET", &format!("/identities?ca={ca}"), Value::Null)
            .await;
        assert_eq!(status.is_success(), allowed, "{ca}");
    }
    let (status, answer) = server
        .ask(&admin, "GET", "/identities?ca=none", Value::Null)
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::NOT_FOUND, 19));
}

#[tokio::test]
async fn a_chain_with_a_gap_is_not_served() {
    let (server, _) = two().await;
    let dir = server.dir.path();
    write_root(dir, "stranger");
    for above in [None, Some(dir.join("stranger.pem"))] {
        let mut config = config(dir, "inter");
        config.chain = above;
        let Err(error) = Authority::open(&config, dir) else {
            panic!("opened");
        };
        assert!(error.to_string().contains("chain"), "{error}");
    }
}

#[tokio::test]
async fn authorities_are_made_only_by_those_who_may() {
    let server = Server::new();
    let admin = server.admin().await;
    let (_, answer) = server
        .signed(&admin, "/register", json!({ "id": "van", "affiliation": "org1" }))
        .await;
    let secret = answer["result"]["secret"].as_str().unwrap().to_owned();
    let (status, answer, _) = server
        .enroll("van", &secret, "van", json!({ "profile": "ca" }))
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 71));
    let (status, answer, _) = server
        .enroll("van", &secret, "van", json!({ "profile": "tls" }))
        .await;
    assert_eq!(
        status,
        StatusCode::CREATED,
        "a refused request used up no enrolment: {answer}"
    );
}

#[tokio::test]
async fn an_expired_certificate_renews_within_the_grace_time() {
    // Issued for no time at all: over by the next second of the clock, or now.
    let server = Server::with(|config| config.certificate_seconds = -120);
    let old = server.admin().await;
    assert!(old.0.not_after() < unix_now());
    let body = |key: &PrivateKey| json!({ "certificate_request": csr::create(key, "admin", &[]).unwrap() });
    let (status, answer) = server.signed(&old, "/reenroll", body(&old.1)).await;
    assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 20));

    let server = server.restarted(|config| config.reenroll_grace = Duration::from_secs(86_400));
    let fresh = PrivateKey::generate().unwrap();
    let (status, answer) = server.signed(&old, "/reenroll", body(&fresh)).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let renewed = (certificate(&answer), fresh);
    let (status, _) = server.ask(&renewed, "GET", "/identities", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let (status, answer) = server.ask(&old, "GET", "/identities", Value::Null).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::UNAUTHORIZED, 20),
        "renewing only"
    );
    let (serial, aki) = (
        hex::encode(old.0.serial()),
        hex::encode(old.0.authority_key_id().unwrap()),
    );
    let (status, _) = server
        .signed(&renewed, "/revoke", json!({ "serial": serial, "aki": aki }))
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, answer) = server.signed(&old, "/reenroll", body(&old.1)).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::UNAUTHORIZED, 20),
        "revoked ones do not renew"
    );
}

#[tokio::test]
async fn enrolments_of_the_authority_are_limited() {
    let server = Server::new();
    let admin = server.admin().await;
    let server = server.restarted(|config| config.max_enrollments = 2);
    for (wanted, expected) in [(0, Some(2)), (1, Some(1)), (-1, None), (3, None), (-5, None)] {
        let body = json!({ "id": format!("van{wanted}"), "affiliation": "org1", "max_enrollments": wanted });
        let (status, answer) = server.ask(&admin, "POST", "/identities", body).await;
        match expected {
            Some(given) => assert_eq!(answer["result"]["max_enrollments"], given),
            None => assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 82)),
        }
    }
    let (status, _, _) = server.enroll("admin", &server.secret(), "admin", json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "the second");
    let (status, _, _) = server.enroll("admin", &server.secret(), "admin", json!({})).await;
    assert_eq!(
        status,
        StatusCode::UNAUTHORIZED,
        "the authority's limit counts for all"
    );
    let server = server.restarted(|config| config.max_enrollments = 0);
    let (status, answer, _) = server.enroll("admin", &server.secret(), "admin", json!({})).await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 22));
    let (status, answer) = server
        .signed(&admin, "/register", json!({ "id": "x", "affiliation": "org1" }))
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 82));
}
