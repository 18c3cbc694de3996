//! `/identities`: who may see, change and remove whom.

use super::*;

fn names(answer: &Value) -> Vec<&str> {
    let list = answer["result"]["identities"].as_array().unwrap();
    list.iter().map(|i| i["id"].as_str().unwrap()).collect()
}

fn manager(id: &str, affiliation: &str) -> Value {
    json!({
        "id": id, "type": "client", "affiliation": affiliation,
        "attrs": [
            { "name": "hf.Registrar.Roles", "value": "client,peer" },
            { "name": "hf.Registrar.Attributes", "value": "desk" },
        ],
    })
}

#[tokio::test]
async fn registrars_see_their_own_affiliation_and_roles() {
    let server = Server::new();
    let admin = server.admin().await;
    let boss = server.member(&admin, manager("boss", "org1")).await;
    for (id, kind, affiliation) in [
        ("in", "client", "org1.hall"),
        ("other-role", "orderer", "org1"),
        ("outside", "client", "."),
    ] {
        server
            .member(
                &admin,
                json!({ "id": id, "type": kind, "affiliation": affiliation }),
            )
            .await;
    }
    let (status, answer) = server
        .ask(&admin, "GET", "/api/v1/identities?ca=ca-org1", Value::Null)
        .await;
    assert_eq!((status, &answer["success"]), (StatusCode::OK, &json!(true)));
    assert_eq!(names(&answer), ["admin", "boss", "in", "other-role", "outside"]);
    assert_eq!(answer["result"]["caname"], "ca-org1");

    let (_, answer) = server.ask(&boss, "GET", "/identities", Value::Null).await;
    assert_eq!(names(&answer), ["boss", "in"]);
    for (id, expected) in [
        ("in", (StatusCode::OK, 0)),
        ("outside", (StatusCode::FORBIDDEN, 71)),
        ("other-role", (StatusCode::FORBIDDEN, 71)),
        ("nobody", (StatusCode::NOT_FOUND, 63)),
    ] {
        let (status, answer) = server
            .ask(&boss, "GET", &format!("/identities/{id}"), Value::Null)
            .await;
        let code = answer["errors"][0]["code"].as_u64().unwrap_or(0);
        assert_eq!((status, code), expected, "{id}: {answer}");
        assert!(!answer.to_string().contains("$2b$"), "no hash leaves the server");
    }
    let member = server
        .member(&admin, json!({ "id": "plain", "affiliation": "org1" }))
        .await;
    let (status, answer) = server.ask(&member, "GET", "/identities", Value::Null).await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 71));
}

#[tokio::test]
async fn a_long_list_comes_whole() {
    let server = Server::new();
    let admin = server.admin().await;
    let path = server.dir.path().join("ca-org1.db");
    let database = rusqlite::Connection::open(path).unwrap();
    database
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1001)
             INSERT INTO identities SELECT printf('d%04d', i), '', 'client', 'org1', '[]', 0, -1, 0 FROM n",
        )
        .unwrap();
    let (_, answer) = server.ask(&admin, "GET", "/identities", Value::Null).await;
    let found = names(&answer);
    assert_eq!(found.len(), 1002);
    assert_eq!((found[0], found[1], found[1001]), ("admin", "d0001", "d1001"));
}

#[tokio::test]
async fn changes_take_effect_and_unlock() {
    let server = Server::new();
    let admin = server.admin().await;
    let registration = json!({
        "id": "clerk/1 ü", "type": "client", "affiliation": "org1", "max_enrollments": 3,
        "attrs": [{ "name": "desk", "value": "1", "ecert": true }, { "name": "old", "value": "x" }],
    });
    let (status, answer) = server.ask(&admin, "POST", "/identities", registration).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert!(!answer["result"]["secret"].as_str().unwrap().is_empty());
    assert_eq!(answer["result"]["max_enrollments"], 3);

    for _ in 0..PASSWORD_ATTEMPTS {
        server.enroll("clerk/1 ü", "guess", "clerk/1 ü", json!({})).await;
    }
    let path = "/identities/clerk%2F1%20%C3%BC";
    let change = json!({
        "affiliation": "org1.hall", "type": "peer", "secret": "new secret",
        "attrs": [{ "name": "old", "value": "" }, { "name": "desk", "value": "2", "ecert": true }],
    });
    let (status, answer) = server.ask(&admin, "PUT", path, change).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["result"]["secret"], "new secret");
    let (status, answer, _) = server
        .enroll("clerk/1 ü", "new secret", "clerk/1 ü", json!({}))
        .await;
    assert_eq!(
        status,
        StatusCode::CREATED,
        "unlocked, with the new secret: {answer}"
    );
    let issued = certificate(&answer);
    let mut units = issued.organizational_units().to_vec();
    units.sort();
    assert_eq!(units, ["hall", "org1", "peer"]);
    assert_eq!(issued.attributes()["desk"], "2");
    assert_eq!(issued.attributes()["hf.Affiliation"], "org1.hall");

    let (_, answer) = server.ask(&admin, "GET", path, Value::Null).await;
    assert_eq!(answer["result"]["max_enrollments"], 3, "as it was");
    assert!(!answer.to_string().contains("\"old\""));
    let (_, answer) = server
        .ask(&admin, "PUT", path, json!({ "max_enrollments": -2 }))
        .await;
    assert_eq!(answer["result"]["max_enrollments"], 0);
    let (status, answer, _) = server
        .enroll("clerk/1 ü", "new secret", "clerk/1 ü", json!({}))
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 20));
    let (status, answer) = server
        .ask(&admin, "PUT", path, json!({ "secret": "s".repeat(73) }))
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 75));
}

#[tokio::test]
async fn nobody_reaches_beyond_their_own() {
    let server = Server::new();
    let admin = server.admin().await;
    let boss = server.member(&admin, manager("boss", "org1.hall")).await;
    server
        .member(&admin, json!({ "id": "far", "affiliation": "org1" }))
        .await;
    server
        .member(&admin, json!({ "id": "near", "affiliation": "org1.hall" }))
        .await;
    for (id, change) in [
        ("far", json!({ "secret": "stolen" })),
        ("near", json!({ "affiliation": "org1" })),
        ("near", json!({ "affiliation": "." })),
        ("near", json!({ "type": "orderer" })),
        (
            "near",
            json!({ "attrs": [{ "name": "hf.Revoker", "value": "true" }] }),
        ),
        (
            "near",
            json!({ "attrs": [{ "name": "hf.Type", "value": "admin" }] }),
        ),
        (
            "boss",
            json!({ "attrs": [{ "name": "hf.Registrar.Roles", "value": "*" }] }),
        ),
    ] {
        let (status, answer) = server
            .ask(&boss, "PUT", &format!("/identities/{id}"), change.clone())
            .await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::FORBIDDEN, 71),
            "{id} {change}: {answer}"
        );
    }
    let fine = json!({ "attrs": [{ "name": "desk", "value": "4" }] });
    let (status, answer) = server.ask(&boss, "PUT", "/identities/near", fine).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn removal_is_off_until_it_is_allowed() {
    let server = Server::new();
    let admin = server.admin().await;
    let gone = server
        .member(&admin, json!({ "id": "gone", "affiliation": "org1" }))
        .await;
    let (status, answer) = server
        .ask(&admin, "DELETE", "/identities/gone", Value::Null)
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 56));

    let server = server.restarted(|config| config.allow_identity_removal = true);
    let (status, answer) = server
        .ask(&admin, "DELETE", "/identities/gone?ca=ca-org1", Value::Null)
        .await;
    assert_eq!(
        (status, &answer["result"]["id"]),
        (StatusCode::OK, &json!("gone")),
        "{answer}"
    );
    let (status, _) = server
        .ask(&admin, "DELETE", "/identities/gone", Value::Null)
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // Somebody else of that name has nothing of the old one's.
    server
        .member(&admin, json!({ "id": "gone", "affiliation": "org1" }))
        .await;
    let (status, answer) = server.ask(&gone, "GET", "/certificates", Value::Null).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::UNAUTHORIZED, 20),
        "its certificate is revoked"
    );
    let (status, answer) = server
        .ask(&admin, "DELETE", "/identities/admin", Value::Null)
        .await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::FORBIDDEN, 56),
        "oneself only by force"
    );
    let (status, answer) = server
        .ask(&admin, "DELETE", "/identities/gone?force=perhaps", Value::Null)
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 57));
    let (status, _) = server
        .ask(&admin, "DELETE", "/identities/admin?force=true", Value::Null)
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, answer) = server.ask(&admin, "GET", "/identities", Value::Null).await;
    assert_eq!((status, code(&answer)), (StatusCode::UNAUTHORIZED, 20));
}
