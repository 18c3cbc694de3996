//! `/affiliations`.

use super::*;

fn tree(value: &Value) -> String {
    let children: Vec<String> = value["affiliations"]
        .as_array()
        .unwrap()
        .iter()
        .map(tree)
        .collect();
    format!("{}({})", value["name"].as_str().unwrap(), children.join(" "))
}

#[tokio::test]
async fn trees_are_made_and_shown() {
    let server = Server::new();
    let admin = server.admin().await;
    let (status, answer) = server
        .ask(&admin, "GET", "/api/v1/affiliations", Value::Null)
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(tree(&answer["result"]), "org1(org1.hall())");

    let deep = json!({ "name": "org2.a.b", "caname": "ca-org1" });
    let (status, answer) = server.ask(&admin, "POST", "/affiliations", deep.clone()).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::BAD_REQUEST, 60),
        "no parent"
    );
    let (status, answer) = server
        .ask(&admin, "POST", "/affiliations?force=true", deep.clone())
        .await;
    assert_eq!(
        (status, &answer["result"]["name"]),
        (StatusCode::CREATED, &json!("org2.a.b"))
    );
    let (status, answer) = server.ask(&admin, "POST", "/affiliations", deep).await;
    assert_eq!((status, code(&answer)), (StatusCode::CONFLICT, 60));
    let (status, answer) = server
        .ask(&admin, "POST", "/affiliations", json!({ "name": "a..b" }))
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 60));

    let (_, answer) = server.ask(&admin, "GET", "/affiliations", Value::Null).await;
    assert_eq!(
        tree(&answer["result"]),
        "(org1(org1.hall()) org2(org2.a(org2.a.b())))"
    );
    let (_, answer) = server
        .ask(&admin, "GET", "/affiliations/org2.a", Value::Null)
        .await;
    assert_eq!(tree(&answer["result"]), "org2.a(org2.a.b())");
    let (status, answer) = server.ask(&admin, "GET", "/affiliations/org9", Value::Null).await;
    assert_eq!((status, code(&answer)), (StatusCode::NOT_FOUND, 63));
}

#[tokio::test]
async fn managers_stay_within_their_own() {
    let server = Server::new();
    let admin = server.admin().await;
    let manager = json!({
        "id": "manager", "affiliation": "org1.hall", "attrs": [{ "name": "hf.AffiliationMgr", "value": "true" }],
    });
    let manager = server.member(&admin, manager).await;
    let (_, answer) = server.ask(&manager, "GET", "/affiliations", Value::Null).await;
    assert_eq!(tree(&answer["result"]), "org1.hall()");
    let (status, _) = server
        .ask(
            &manager,
            "POST",
            "/affiliations",
            json!({ "name": "org1.hall.desk" }),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED);
    for (method, path, body) in [
        ("POST", "/affiliations", json!({ "name": "org1.yard" })),
        ("GET", "/affiliations/org1", Value::Null),
        (
            "PUT",
            "/affiliations/org1.hall.desk",
            json!({ "name": "org1.desk" }),
        ),
    ] {
        let (status, answer) = server.ask(&manager, method, path, body).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::FORBIDDEN, 71),
            "{method} {path}"
        );
    }
    let plain = server
        .member(&admin, json!({ "id": "plain", "affiliation": "org1" }))
        .await;
    let (status, answer) = server.ask(&plain, "GET", "/affiliations", Value::Null).await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 71));
}

#[tokio::test]
async fn renaming_takes_identities_along_by_force_only() {
    let server = Server::new();
    let admin = server.admin().await;
    server
        .member(&admin, json!({ "id": "clerk", "affiliation": "org1.hall" }))
        .await;
    let change = json!({ "name": "org1.yard" });
    let (status, answer) = server
        .ask(&admin, "PUT", "/affiliations/org1.hall", change.clone())
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, 64));
    let (status, answer) = server
        .ask(&admin, "PUT", "/affiliations/org1.hall?force=true", change)
        .await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["result"]["identities"][0]["affiliation"], "org1.yard");
    let (_, answer) = server.ask(&admin, "GET", "/identities/clerk", Value::Null).await;
    assert_eq!(answer["result"]["affiliation"], "org1.yard");
    for (new, expected) in [
        ("org1", (StatusCode::CONFLICT, 64)),
        ("org1.yard.below", (StatusCode::BAD_REQUEST, 64)),
        ("org7.yard", (StatusCode::BAD_REQUEST, 64)),
    ] {
        let path = "/affiliations/org1.yard";
        let (status, answer) = server.ask(&admin, "PUT", path, json!({ "name": new })).await;
        assert_eq!((status, code(&answer)), expected, "{new}");
    }
}

#[tokio::test]
async fn removal_needs_permission_force_and_care() {
    let server = Server::new();
    let admin = server.admin().await;
    let clerk = server
        .member(&admin, json!({ "id": "clerk", "affiliation": "org1.hall" }))
        .await;
    let (status, answer) = server
        .ask(&admin, "DELETE", "/affiliations/org1", Value::Null)
        .await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 71));

    let server = server.restarted(|config| config.allow_affiliation_removal = true);
    for (path, expected) in [
        ("/affiliations/org1", (StatusCode::BAD_REQUEST, 61)),
        ("/affiliations/org1.hall", (StatusCode::BAD_REQUEST, 61)),
        ("/affiliations/org1?force=true", (StatusCode::FORBIDDEN, 61)),
        ("/affiliations/org9", (StatusCode::NOT_FOUND, 63)),
    ] {
        let (status, answer) = server.ask(&admin, "DELETE", path, Value::Null).await;
        assert_eq!((status, code(&answer)), expected, "{path}: {answer}");
    }
    let server = server.restarted(|config| {
        config.allow_affiliation_removal = true;
        config.allow_identity_removal = true;
    });
    let (status, answer) = server
        .ask(&admin, "DELETE", "/affiliations/org1?force=true", Value::Null)
        .await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(tree(&answer["result"]), "org1(org1.hall())");
    assert_eq!(
        answer["result"]["affiliations"][0]["identities"][0]["id"],
        "clerk"
    );
    let (status, _) = server.ask(&clerk, "GET", "/certificates", Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (_, answer) = server.ask(&admin, "GET", "/affiliations", Value::Null).await;
    assert_eq!(tree(&answer["result"]), "()");
}
