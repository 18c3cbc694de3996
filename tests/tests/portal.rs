//! The REST interface and the page, as partners use them: programs with tokens and certificates, people in a browser.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_comm::Method;
use selvedge_sdk::TlsIdentity;
use selvedge_system_tests::{
    CHANNEL, Edge, Network, ORG2_PEER, Options, Portal, Receiver, case, checker, eventually, npm, within,
};
use serde_json::{Value, json};

const RFQ: &str = "rfq-1";

async fn network() -> Network {
    Network::up(Options {
        orderers: 1,
        authorities: true,
        platform: true,
        ..Options::default()
    })
    .await
}

fn below(path: &str) -> String {
    format!("/v1/channels/{CHANNEL}/{path}")
}

fn offer(id: &str) -> Value {
    json!({
        "id": id, "item": "Stainless Steel Cutting", "price": 20, "quantity": "200", "currency": "USD",
        "conditions": [{ "field": "humidity", "min": 0, "max": "10" }], "target": "Org2MSP",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_use_the_interface() {
    let network = network().await;
    let visitor = ["--visitor", "User2"];
    let buyer = Portal::start_with(&network, "org1.example.com", &visitor, |config| {
        config["callbacks"]["allow_http"] = json!(true);
        config["callbacks"]["first_pause"] = json!("50ms");
        config["callbacks"]["longest_pause"] = json!("500ms");
    })
    .await;
    let supplier = Portal::start(&network, "org2.example.com", &[]).await;
    let token = buyer.login(&network, "User1", &["--token"]).await;
    let other = supplier.login(&network, "User1", &["--token"]).await;
    case("signing in", sign_in(&network, &buyer, &token)).await;
    case("signing in by client certificate", by_certificate(&network)).await;
    case(
        "a negotiation over REST",
        negotiate(&buyer, &token, &supplier, &other),
    )
    .await;
    case(
        "one request never becomes two transactions",
        repeat(&buyer, &token),
    )
    .await;
    case("blocks, transactions, history, search", look(&buyer, &token)).await;
    case("the two views", views(&buyer, &supplier)).await;
    case("events are resumed where they broke off", events(&buyer, &token)).await;
    case(
        "web hooks through a failing receiver and restarts",
        web_hooks(&network, &buyer, &token, &supplier, &other),
    )
    .await;
    case("the index is built again", rebuild(&network, &buyer)).await;
    drop((buyer, supplier));
    checker::check(&network).await;
    network.down().await;
}

async fn sign_in(network: &Network, portal: &Portal, token: &str) {
    let (status, me) = portal.ask(Method::GET, "/v1/me", Some(token), &Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&me["user"], &me["view"]),
        (&json!("User1@org1.example.com"), &json!("in-house"))
    );
    let (status, wrong) = portal
        .ask(Method::GET, "/v1/me", Some("invented"), &Value::Null)
        .await;
    assert_eq!(status, 401, "{wrong}");

    // A link counts once.
    let link = portal.login(network, "User1", &[]).await;
    let code = link.split_once("#login=").expect("a link with a code").1;
    let body = json!({ "code": code });
    let answer = portal
        .call(Method::POST, "/v1/login/redeem", None, &body)
        .await
        .unwrap();
    assert_eq!(answer.status.as_u16(), 200);
    let cookie = answer.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let (status, _) = portal.ask(Method::POST, "/v1/login/redeem", None, &body).await;
    assert_eq!(status, 401, "a used code");

    // What another site's page makes a browser send has the cookie, and not the page's header.
    let cookie = cookie.split(';').next().unwrap();
    let headers = [("cookie", cookie), ("content-type", "text/plain")];
    let forged = portal
        .call_with(Method::POST, &below("rfqs"), &headers, &offer("forged"))
        .await
        .unwrap();
    assert_eq!(forged.status.as_u16(), 403);

    // The identity of another organisation, and a signature over something else.
    let (_, challenge) = portal
        .ask(Method::POST, "/v1/login/challenge", None, &json!({}))
        .await;
    let stranger = network.identity("User1@org2.example.com");
    let signed = challenge["sign"].as_str().unwrap();
    let proof = json!({
        "certificate": stranger.certificate().to_pem(), "challenge": challenge["challenge"],
        "signature": base64(&stranger.sign(signed.as_bytes()).unwrap()),
    });
    let (status, why) = portal.ask(Method::POST, "/v1/login/token", None, &proof).await;
    assert_eq!(status, 401, "{why}");
    let (_, challenge) = portal
        .ask(Method::POST, "/v1/login/challenge", None, &json!({}))
        .await;
    let user = network.identity("User1@org1.example.com");
    let proof = json!({
        "certificate": user.certificate().to_pem(), "challenge": challenge["challenge"],
        "signature": base64(&user.sign(b"something else").unwrap()),
    });
    let (status, why) = portal.ask(Method::POST, "/v1/login/token", None, &proof).await;
    assert_eq!(status, 401, "{why}");
}

async fn by_certificate(network: &Network) {
    let portal = Portal::start(network, "org1.example.com", &["--tls"]).await;
    let show = |user: &str| {
        let tls = network.user_dir(user).join("tls");
        TlsIdentity::from_files(&tls.join("client.crt"), &tls.join("client.key")).unwrap()
    };
    let user = "User1@org1.example.com";
    let me = portal
        .call_by_certificate(show(user), Method::GET, "/v1/me", &[], &Value::Null)
        .await
        .unwrap();
    let me: Value = serde_json::from_slice(&me.body).unwrap();
    assert_eq!((&me["user"], &me["view"]), (&json!(user), &json!("in-house")));
    let token = portal
        .call_by_certificate(show(user), Method::POST, "/v1/login/token", &[], &json!({}))
        .await
        .unwrap();
    assert_eq!(token.status.as_u16(), 200);
    // A browser shows the certificate by itself, whoever's page makes it ask.
    let foreign = [("origin", "https://elsewhere.example.com")];
    let forged = portal
        .call_by_certificate(
            show(user),
            Method::POST,
            &below("rfqs"),
            &foreign,
            &offer("forged"),
        )
        .await
        .unwrap();
    assert_eq!(forged.status.as_u16(), 403);
    let stranger = show("User1@org2.example.com");
    let refused = portal
        .call_by_certificate(stranger, Method::GET, "/v1/me", &[], &Value::Null)
        .await;
    assert!(
        refused.is_err(),
        "another organisation's certificate is not taken"
    );
    let (status, _) = portal.ask(Method::GET, &below("rfqs"), None, &Value::Null).await;
    assert_eq!(status, 401);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

async fn negotiate(buyer: &Portal, token: &str, supplier: &Portal, other: &str) {
    let (status, done) = buyer
        .ask(Method::POST, &below("rfqs"), Some(token), &offer(RFQ))
        .await;
    assert_eq!(status, 201, "{done}");
    assert_eq!(done["transaction"]["state"], "committed");
    assert_eq!(done["result"]["turn"], "Org2MSP");

    let counter =
        json!({ "changes": { "fields": [{ "field": "price", "newValue": "30" }] }, "note": "steel went up" });
    let path = below(&format!("rfqs/{RFQ}/counter-offers"));
    let (status, early) = buyer.ask(Method::POST, &path, Some(token), &counter).await;
    assert_eq!(status, 409, "{early}");
    assert!(
        early["error"].as_str().unwrap().contains("turn of Org1MSP"),
        "{early}"
    );
    // The supplier's peer may have the block a moment later.
    eventually("the supplier can counter", Duration::from_secs(10), || async {
        let (status, done) = supplier.ask(Method::POST, &path, Some(other), &counter).await;
        if status == 201 { Ok(()) } else { Err(done) }
    })
    .await;
    let path = below(&format!("rfqs/{RFQ}"));
    eventually(
        "the buyer sees the new price",
        Duration::from_secs(10),
        || async {
            let (_, rfq) = buyer.ask(Method::GET, &path, Some(token), &Value::Null).await;
            if rfq["price"] == "30" { Ok(()) } else { Err(rfq) }
        },
    )
    .await;
    let (status, done) = buyer
        .ask(
            Method::POST,
            &format!("{path}/acceptance"),
            Some(token),
            &json!({}),
        )
        .await;
    assert_eq!((status, &done["result"]["state"]), (201, &json!("accepted")));
    let (_, history) = buyer
        .ask(Method::GET, &format!("{path}/history"), Some(token), &Value::Null)
        .await;
    assert_eq!(history["history"].as_array().unwrap().len(), 3);

    let (status, wrong) = buyer
        .ask(Method::GET, &below("rfqs?colour=red"), Some(token), &Value::Null)
        .await;
    assert_eq!(status, 400);
    assert!(
        wrong["error"]
            .as_str()
            .unwrap()
            .contains("party, state, limit, bookmark"),
        "{wrong}"
    );
    let (status, _) = buyer
        .ask(Method::GET, &below("rfqs/unknown"), Some(token), &Value::Null)
        .await;
    assert_eq!(status, 404);
}

async fn repeat(portal: &Portal, token: &str) {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "put-1")];
    let request =
        json!({ "channel": CHANNEL, "chaincode": "probe", "function": "put", "args": ["repeated", "1"] });
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = portal
            .call_with(Method::POST, "/v1/transactions", &headers, &request)
            .await
            .unwrap();
        assert_eq!(answer.status.as_u16(), 201);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        ids.push(body["transaction"]["id"].clone());
    }
    assert_eq!(ids[0], ids[1], "the second call tells of the first transaction");
    let query = json!({ "channel": CHANNEL, "chaincode": "probe", "function": "get", "args": ["repeated"] });
    let (status, answer) = portal.ask(Method::POST, "/v1/queries", Some(token), &query).await;
    assert_eq!((status, &answer["result"]), (200, &json!(1)));
}

async fn look(portal: &Portal, token: &str) {
    let (_, page) = portal
        .ask(Method::GET, &below("blocks?limit=3"), Some(token), &Value::Null)
        .await;
    let newest = page["blocks"][0]["number"].as_u64().unwrap();
    assert_eq!(page["height"], newest + 1);
    let (_, block) = portal
        .ask(Method::GET, &below("blocks/latest"), Some(token), &Value::Null)
        .await;
    assert_eq!(block["hash"], page["blocks"][0]["hash"]);
    assert_eq!(block["orderer"]["name"], "orderer0.example.com");
    let id = block["transactions"][0]["id"].as_str().unwrap();
    let (_, tx) = portal
        .ask(
            Method::GET,
            &below(&format!("transactions/{id}")),
            Some(token),
            &Value::Null,
        )
        .await;
    assert_eq!(tx["validation"]["name"], "VALID");
    assert_eq!(tx["calls"][0]["chaincode"], "probe");
    assert_eq!(tx["creator"]["name"], "User1@org1.example.com");

    let path = below(&format!("history?chaincode=rfq&composite=true&key=rfq/{RFQ}"));
    let (_, history) = portal.ask(Method::GET, &path, Some(token), &Value::Null).await;
    let prices: Vec<_> = history["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["value"]["price"].clone())
        .collect();
    assert_eq!(prices, ["30", "30", "20"], "{history}");

    for (text, kind) in [(id, "transaction"), (RFQ, "rfq"), ("0", "block")] {
        let (_, found) = portal
            .ask(
                Method::GET,
                &format!("/v1/search?q={text}"),
                Some(token),
                &Value::Null,
            )
            .await;
        assert_eq!(found["hits"][0]["kind"], kind, "{found}");
    }
    let (_, all) = portal
        .ask(Method::GET, "/v1/overview", Some(token), &Value::Null)
        .await;
    let nodes = all["nodes"].as_array().unwrap();
    for (role, msp_id) in [
        ("peer", "Org1MSP"),
        ("peer", "Org2MSP"),
        ("orderer", "OrdererMSP"),
    ] {
        let there = nodes.iter().any(|n| n["role"] == role && n["mspId"] == msp_id);
        assert!(there, "no {role} of {msp_id}: {all}");
    }
    assert!(nodes.iter().all(|n| n["error"].is_null()), "{all}");
}

async fn views(buyer: &Portal, supplier: &Portal) {
    let visitor = None;
    let (status, rfq) = buyer
        .ask(Method::GET, &below(&format!("rfqs/{RFQ}")), visitor, &Value::Null)
        .await;
    assert_eq!(status, 200);
    assert_eq!(rfq["state"], "accepted");
    for hidden in ["price", "item", "conditions", "terms"] {
        assert!(rfq.get(hidden).is_none(), "a visitor sees {hidden}: {rfq}");
    }
    for closed in [
        below(&format!("rfqs/{RFQ}/history")),
        below("history?chaincode=rfq&key=x"),
    ] {
        let (status, why) = buyer.ask(Method::GET, &closed, visitor, &Value::Null).await;
        assert_eq!(status, 401, "{closed}: {why}");
    }
    let (status, _) = buyer
        .ask(Method::POST, &below("rfqs"), visitor, &offer("by-a-visitor"))
        .await;
    assert_eq!(status, 401);
    let channel = format!("/v1/channels/{CHANNEL}");
    let (_, seen) = buyer.ask(Method::GET, &channel, visitor, &Value::Null).await;
    let contracts = seen["chaincodes"].as_array().unwrap();
    assert!(
        contracts.contains(&json!("rfq")) && !contracts.contains(&json!("probe")),
        "{seen}"
    );
    assert!(seen.get("organizations").is_none(), "{seen}");
    let (_, block) = buyer
        .ask(Method::GET, &below("blocks/latest"), visitor, &Value::Null)
        .await;
    assert!(block["transactions"][0].get("creator").is_none(), "{block}");
    let (_, all) = buyer
        .ask(Method::GET, "/v1/overview", visitor, &Value::Null)
        .await;
    assert!(all.get("nodes").is_none(), "{all}");
    // The other organisation lets no visitors in.
    let (status, _) = supplier
        .ask(Method::GET, &below(&format!("rfqs/{RFQ}")), visitor, &Value::Null)
        .await;
    assert_eq!(status, 401);
}

/// Reads a stream of server-sent events until it has shown `count` events; gives (id, event, data).
async fn read_events(portal: &Portal, path: &str, token: &str, count: usize) -> Vec<(String, String, Value)> {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let url = portal.url();
    let authority = url.trim_start_matches("http://");
    let mut socket = tokio::net::TcpStream::connect(authority).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {token}\r\naccept: text/event-stream\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(socket).lines();
    let (mut id, mut event) = (String::new(), String::new());
    let mut found = Vec::new();
    while found.len() < count {
        let line = lines.next_line().await.unwrap().expect("the stream goes on");
        if let Some(text) = line.strip_prefix("id: ") {
            id = text.to_owned();
        } else if let Some(text) = line.strip_prefix("event: ") {
            event = text.to_owned();
        } else if let Some(text) = line.strip_prefix("data: ") {
            found.push((id.clone(), event.clone(), serde_json::from_str(text).unwrap()));
        }
    }
    found
}

async fn events(portal: &Portal, token: &str) {
    let path = below("events?from=0&chaincode=rfq");
    let all = read_events(portal, &path, token, 3).await;
    let names: Vec<_> = all.iter().map(|(_, _, data)| data["name"].clone()).collect();
    assert_eq!(names, ["rfq.offered", "rfq.countered", "rfq.accepted"]);
    let path = below(&format!("events?chaincode=rfq&after={}", all[0].0));
    let rest = read_events(portal, &path, token, 2).await;
    assert_eq!(
        rest,
        all[1..],
        "behind the first one, nothing missing and nothing twice"
    );
    let both = read_events(portal, &below("events?from=0&blocks=true"), token, 4).await;
    assert_eq!((both[0].0.as_str(), both[0].1.as_str()), ("0.end", "block"));
}

/// Every event of the RFQ contract, by the ids that a stream from the beginning gives them.
async fn all_events(portal: &Portal, token: &str, count: usize) -> Vec<String> {
    let path = format!("/v1/events?channel={CHANNEL}&chaincode=rfq&name=rfq.*&from=oldest");
    let all = read_events(portal, &path, token, count + 1).await;
    assert_eq!(all[0].1, "selvedge.start");
    all.into_iter().skip(1).map(|(id, _, _)| id).collect()
}

async fn web_hooks(network: &Network, buyer: &Portal, token: &str, supplier: &Portal, other: &str) {
    let receiver = Receiver::start(1).await;
    let hook = json!({
        "id": "erp", "channel": CHANNEL, "chaincode": "rfq", "name": "rfq.*", "from": "oldest",
        "webhook": { "url": receiver.url(), "secret": receiver.secret() },
    });
    let subscriptions = "/v1/subscriptions";
    let (status, why) = buyer.ask(Method::POST, subscriptions, None, &hook).await;
    assert_eq!(status, 401, "{why}");
    let (status, made) = buyer.ask(Method::POST, subscriptions, Some(token), &hook).await;
    assert_eq!(
        (status, &made["secret"]),
        (201, &json!(receiver.secret())),
        "{made}"
    );
    let taken = async |count: usize| {
        eventually("the receiver has them", Duration::from_secs(30), || async {
            let taken: Vec<String> = receiver.taken().into_iter().map(|d| d.id).collect();
            if taken.len() >= count {
                Ok(taken)
            } else {
                Err(taken.join(", "))
            }
        })
        .await
    };
    assert_eq!(taken(3).await, all_events(buyer, token, 3).await);
    assert_eq!((receiver.refused(), receiver.forged()), (1, 0));
    let first = &receiver.taken()[0].event;
    assert_eq!(
        (&first["name"], &first["payload"]["id"]),
        (&json!("rfq.offered"), &json!(RFQ))
    );

    // Another user of the same server sees and touches nothing of it.
    let stranger = buyer.login(network, "User2", &["--token"]).await;
    let (_, list) = buyer
        .ask(Method::GET, subscriptions, Some(&stranger), &Value::Null)
        .await;
    assert_eq!(list["subscriptions"], json!([]));
    let erp = "/v1/subscriptions/erp";
    let (status, _) = buyer
        .ask(Method::DELETE, erp, Some(&stranger), &Value::Null)
        .await;
    assert_eq!(status, 404);
    eventually("what was taken is noted", Duration::from_secs(10), || async {
        let (_, view) = buyer.ask(Method::GET, erp, Some(token), &Value::Null).await;
        if view["delivered"] == 3 && view["state"] == "active" {
            Ok(())
        } else {
            Err(view)
        }
    })
    .await;

    // While the server is down, the other side goes on. Nothing is missing then, and nothing comes twice.
    let offer_back = async |id: &str| {
        let mut offer = offer(id);
        offer["target"] = json!("Org1MSP");
        let (status, done) = supplier
            .ask(Method::POST, &below("rfqs"), Some(other), &offer)
            .await;
        assert_eq!(status, 201, "{done}");
    };
    buyer.stop().await;
    offer_back("while-stopped-1").await;
    offer_back("while-stopped-2").await;
    buyer.restart().await;
    let after_stop = taken(5).await;
    // After a power cut one that was taken may come again, under its own id.
    buyer.kill();
    offer_back("while-killed").await;
    buyer.restart().await;
    let token = buyer.login(network, "User1", &["--token"]).await;
    let all = all_events(buyer, &token, 6).await;
    assert_eq!(after_stop, all[..5]);
    eventually(
        "the receiver has the last one",
        Duration::from_secs(30),
        || async {
            let mut taken: Vec<String> = receiver.taken().into_iter().map(|d| d.id).skip(5).collect();
            taken.retain(|id| !all[..5].contains(id));
            if taken == all[5..] {
                Ok(())
            } else {
                Err(taken.join(", "))
            }
        },
    )
    .await;
    assert_eq!(receiver.forged(), 0);
    let removed = buyer
        .call(Method::DELETE, erp, Some(&token), &Value::Null)
        .await
        .unwrap();
    assert_eq!(removed.status.as_u16(), 204);
    let (status, _) = buyer.ask(Method::GET, erp, Some(&token), &Value::Null).await;
    assert_eq!(status, 404);
}

async fn rebuild(network: &Network, portal: &Portal) {
    portal.kill();
    for file in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
        drop(std::fs::remove_file(portal.dir().join("data").join(file)));
    }
    portal.restart().await;
    let token = portal.login(network, "User1", &["--token"]).await;
    eventually("the index is full again", Duration::from_secs(20), || async {
        let (_, page) = portal
            .ask(Method::GET, &below("blocks"), Some(&token), &Value::Null)
            .await;
        let (_, all) = portal
            .ask(Method::GET, "/v1/overview", Some(&token), &Value::Null)
            .await;
        let peer = all["nodes"][0]["height"].clone();
        if peer == page["height"] {
            Ok(())
        } else {
            Err(format!("{peer} and {}", page["height"]))
        }
    })
    .await;
    let log = std::fs::read_to_string(portal.dir().join("data/access.log")).unwrap();
    assert!(log.contains(r#""user":"User1@org1.example.com""#), "{log}");
}

fn schemathesis() -> PathBuf {
    if let Some(named) = std::env::var_os("SELVEDGE_SCHEMATHESIS") {
        return named.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    cache.join("selvedge/schemathesis/bin/schemathesis")
}

/// The OpenAPI document against the server: made-up requests, good and bad ones. `SELVEDGE_THOROUGH=1` adds
/// random ones, and takes some minutes longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_what_its_document_says() {
    let program = schemathesis();
    assert!(
        program.exists(),
        "{} does not exist: scripts/setup.sh tests installs it, SELVEDGE_SCHEMATHESIS names one",
        program.display()
    );
    let network = network().await;
    let portal = Portal::start_with(&network, "org1.example.com", &["--visitor", "User2"], |config| {
        config["limits"] =
            json!({ "requests_per_second": 100_000, "burst": 100_000, "login_failures": 1_000_000 });
    })
    .await;
    let token = portal.login(&network, "User1", &["--token"]).await;
    portal
        .ask(Method::POST, &below("rfqs"), Some(&token), &offer(RFQ))
        .await;
    let thorough = std::env::var_os("SELVEDGE_THOROUGH").is_some();
    let mut command = tokio::process::Command::new(program);
    command
        .args(["run", &format!("{}/v1/openapi.json", portal.url())])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // The stream of events does not end by itself, and signing out would end the token of all further requests.
        .args([
            "--exclude-operation-id",
            "events",
            "--exclude-operation-id",
            "logout",
            "--exclude-operation-id",
            "contractEvents",
        ])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance",
        ])
        .args(["--checks", "response_schema_conformance,unsupported_method"])
        .args([
            "--phases",
            if thorough {
                "examples,coverage,fuzzing"
            } else {
                "examples,coverage"
            },
        ])
        .args([
            "--seed",
            "7",
            "--max-examples",
            "50",
            "--request-timeout",
            "60",
            "--no-color",
        ])
        .current_dir(network.scratch())
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = within("schemathesis", Duration::from_secs(900), command.output())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}\n{}", portal.log());
    network.still_works().await;
    drop(portal);
    checker::check(&network).await;
    network.down().await;
}

fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("SELVEDGE_CHROMIUM").map(PathBuf::from);
    let usual = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    named.or_else(|| usual.iter().map(PathBuf::from).find(|path| path.exists()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_use_the_page() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let chromium =
        chromium().expect("a Chromium: scripts/setup.sh browser installs it, SELVEDGE_CHROMIUM names one");
    let packages = npm::install(&sources, Path::new(env!("CARGO_TARGET_TMPDIR"))).await;
    let network = network().await;
    let device = network.enroll_device("org2.example.com", "tracker-1").await;
    let peer = network.address(ORG2_PEER);
    let edge = Edge::start(&network, &device, &[(ORG2_PEER, &peer)]).await;
    let gateway = format!("edge0={}", edge.url());
    let buyer = Portal::start(
        &network,
        "org1.example.com",
        &["--visitor", "User2", "--gateway", &gateway],
    )
    .await;
    let supplier = Portal::start(&network, "org2.example.com", &[]).await;
    let who = |name: &str, portal: &Portal, link: String| json!({ "name": name, "url": portal.url(), "link": link });
    let settings = json!({
        "chromium": chromium, "scratch": network.scratch(), "shots": std::env::var("SELVEDGE_SHOTS").ok(),
        "edge": edge.url(), "device": device.name, "rfq": RFQ, "shipment": "shipment-1",
        "certify": network.has_contract("certify"), "plant": network.has_contract("process"),
        "platform": network.has_contract("reputation") && network.has_contract("ideas"), "tender": "tender-1",
        "buyer": who("User1@org1.example.com", &buyer, buyer.login(&network, "User1", &[]).await),
        "supplier": who("User1@org2.example.com", &supplier, supplier.login(&network, "User1", &[]).await),
    });
    let file = network.scratch().join("settings.json");
    std::fs::write(&file, settings.to_string()).unwrap();
    let said = npm::run_script(&sources, &packages, &file).await;
    print!("{said}");
    assert!(said.contains("all steps passed"), "{said}");
    drop((buyer, supplier, edge));
    checker::check(&network).await;
    network.down().await;
}
