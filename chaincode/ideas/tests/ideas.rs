//! Contributions, their authors and parents, assessments and rewards.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test is a failed test"
)]

use selvedge_chaincode::testing::{MockLedger, TestCaller, Verdict};
use selvedge_chaincode_ideas::IdeasContract;
use serde_json::{Value, json};

fn person(org: usize, name: &str) -> TestCaller {
    TestCaller::new(&format!("Org{org}MSP"), name)
}

fn submit(ledger: &mut MockLedger, who: &TestCaller, function: &str, arg: &Value) -> Value {
    let tx = ledger
        .submit(who, "ideas", function, &[&arg.to_string()])
        .unwrap_or_else(|error| panic!("{function} {arg}: {error}"));
    serde_json::from_slice(tx.result().unwrap()).unwrap()
}

fn ask(ledger: &mut MockLedger, function: &str, arg: &str) -> Value {
    serde_json::from_slice(
        &ledger
            .evaluate(&person(9, "ann"), "ideas", function, &[arg])
            .unwrap(),
    )
    .unwrap()
}

fn refused(ledger: &mut MockLedger, who: &TestCaller, function: &str, arg: &Value) -> (i32, String) {
    let error = ledger
        .submit(who, "ideas", function, &[&arg.to_string()])
        .unwrap_err();
    (error.status(), error.message().to_owned())
}

/// `i1` by cy of Org3; `i2` on top of it by ada of Org1 and bob of Org2, proposed.
fn ledger() -> MockLedger {
    let mut ledger = MockLedger::new();
    ledger.install::<IdeasContract>("ideas");
    let first = submit(
        &mut ledger,
        &person(3, "cy"),
        "contribute",
        &json!({"id":"i1","title":"Cold cutting","hash":"ab".repeat(32)}),
    );
    assert_eq!(first["state"], "agreed");
    assert_eq!(
        first["authors"],
        json!([{"mspId":"Org3MSP","user":"cy","share":"100"}])
    );
    let second = json!({"id":"i2","title":"Cutting without coolant","authors":[
        {"mspId":"Org1MSP","user":"ada","share":50},{"mspId":"Org2MSP","user":"bob","share":"30"}],
        "parents":[{"idea":"i1","share":20}]});
    let second = submit(&mut ledger, &person(1, "ada"), "contribute", &second);
    assert_eq!(second["state"], "proposed");
    ledger
}

#[test]
fn shares_stand_when_every_author_agrees() {
    let mut ledger = ledger();
    let reward = json!({"id":"r1","idea":"i2","amount":1000,"currency":"EUR"});
    let (status, message) = refused(&mut ledger, &person(1, "boss"), "reward", &reward);
    assert_eq!(
        (status, message.contains("needs every author's agreement")),
        (409, true),
        "{message}"
    );
    let child = json!({"id":"i3","title":"x","parents":[{"idea":"i2","share":10}]});
    assert_eq!(
        refused(&mut ledger, &person(1, "eve"), "contribute", &child).0,
        409
    );
    let id = json!({"idea":"i2"});
    let (status, message) = refused(&mut ledger, &person(2, "bert"), "agreeShares", &id);
    assert_eq!(
        (status, message.as_str()),
        (403, "bert of Org2MSP is not an author of idea i2")
    );
    assert_eq!(
        submit(&mut ledger, &person(2, "bob"), "agreeShares", &id)["state"],
        "agreed"
    );
    assert_eq!(
        refused(
            &mut ledger,
            &person(2, "bob"),
            "refuseShares",
            &json!({"idea":"i2","note":"no"})
        )
        .0,
        409
    );
    submit(&mut ledger, &person(1, "eve"), "contribute", &child);

    let lineage = ask(&mut ledger, "lineage", "i2");
    assert_eq!(
        lineage["ancestors"],
        json!([{"idea":"i1","title":"Cold cutting","depth":1,"via":"i2","share":"20"}])
    );
    assert_eq!(lineage["descendants"][0]["idea"], "i3");
    let mine = ask(&mut ledger, "list", r#"{"author":{"mspId":"Org1MSP"}}"#);
    let ids: Vec<&str> = mine["ideas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["i2", "i3"]);
    let adas = ask(
        &mut ledger,
        "list",
        r#"{"author":{"mspId":"Org1MSP","user":"ada"},"state":"agreed"}"#,
    );
    assert_eq!(adas["ideas"].as_array().unwrap().len(), 1);
}

#[test]
fn one_refusal_ends_it() {
    let mut ledger = ledger();
    assert_eq!(
        refused(
            &mut ledger,
            &person(2, "bob"),
            "refuseShares",
            &json!({"idea":"i2"})
        )
        .0,
        400
    );
    let answer = submit(
        &mut ledger,
        &person(2, "bob"),
        "refuseShares",
        &json!({"idea":"i2","note":"40 at least"}),
    );
    assert_eq!(
        (&answer["state"], &answer["refusedBy"][0]["note"]),
        (&json!("refused"), &json!("40 at least"))
    );
    let reward = json!({"idea":"i2","amount":1,"currency":"EUR"});
    assert_eq!(refused(&mut ledger, &person(1, "boss"), "reward", &reward).0, 409);
}

#[test]
fn rewards_go_to_authors_and_on_to_parents() {
    let mut ledger = ledger();
    submit(
        &mut ledger,
        &person(2, "bob"),
        "agreeShares",
        &json!({"idea":"i2"}),
    );
    let reward = json!({"id":"r1","idea":"i2","amount":"1000","currency":"EUR","reason":"first machine"});
    let answer = submit(&mut ledger, &person(1, "boss"), "reward", &reward);
    assert_eq!(
        answer["parts"],
        json!([{"mspId":"Org1MSP","user":"ada","amount":"500.00","confirmed":false},
               {"mspId":"Org2MSP","user":"bob","amount":"300.00","confirmed":false},
               {"mspId":"Org3MSP","user":"cy","amount":"200.00","confirmed":false}])
    );
    assert_eq!(refused(&mut ledger, &person(1, "boss"), "reward", &reward).0, 409);
    let receipt = json!({"idea":"i2","reward":"r1"});
    let (status, _) = refused(&mut ledger, &person(1, "boss"), "confirmReward", &receipt);
    assert_eq!(status, 403);
    let answer = submit(&mut ledger, &person(3, "cy"), "confirmReward", &receipt);
    assert_eq!(answer["parts"][2]["confirmed"], true);
    assert_eq!(
        refused(&mut ledger, &person(3, "cy"), "confirmReward", &receipt).0,
        409
    );
    let his = ask(
        &mut ledger,
        "rewards",
        r#"{"beneficiary":{"mspId":"Org3MSP","user":"cy"}}"#,
    );
    assert_eq!(his["rewards"][0]["parts"][2]["confirmed"], true);
    assert_eq!(
        ask(&mut ledger, "rewards", "i2")["rewards"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(ask(&mut ledger, "rewards", "i1")["rewards"], json!([]));
    for bad in [json!(0), json!(-5), json!("1e20")] {
        let reward = json!({"idea":"i2","amount":bad,"currency":"EUR"});
        assert_eq!(refused(&mut ledger, &person(1, "boss"), "reward", &reward).0, 400);
    }
}

#[test]
fn others_assess_and_authors_do_not() {
    let mut ledger = ledger();
    let score = |novelty: u32| json!({"idea":"i2","scores":{"novelty":novelty,"benefit":"7"}});
    let (status, message) = refused(&mut ledger, &person(1, "ada"), "assess", &score(10));
    assert_eq!(
        (status, message.as_str()),
        (403, "ada is an author of idea i2 and may not assess it")
    );
    submit(&mut ledger, &person(1, "eve"), "assess", &score(2));
    submit(&mut ledger, &person(1, "eve"), "assess", &score(4));
    // Those of one block do not conflict.
    let block = [
        ledger.simulate(&person(2, "ben"), "ideas", "assess", &[&score(5).to_string()]),
        ledger.simulate(&person(3, "cy"), "ideas", "assess", &[&score(5).to_string()]),
    ];
    assert_eq!(ledger.commit(&block), [Verdict::Valid, Verdict::Valid]);
    let idea = ask(&mut ledger, "get", "i2");
    assert_eq!(idea["assessment"]["count"], 3);
    assert_eq!(
        idea["assessment"]["criteria"]["novelty"],
        json!({"count":3,"sum":14,"mean":"4.67"})
    );
    assert_eq!(
        ask(&mut ledger, "assessments", "i2")["assessments"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    for bad in [
        json!({}),
        json!({"novelty":0}),
        json!({"novelty":11}),
        json!({"a b":1}),
    ] {
        let assessment = json!({"idea":"i2","scores":bad});
        assert_eq!(
            refused(&mut ledger, &person(1, "eve"), "assess", &assessment).0,
            400
        );
    }
}

#[test]
fn shares_must_add_up() {
    let mut ledger = ledger();
    let author = |share: Value| json!([{"mspId":"Org1MSP","user":"ada","share":share}]);
    for (authors, parents, says) in [
        (author(json!(90)), json!([]), "are 90 together, and must be 100"),
        (author(json!("33.333")), json!([]), "at most two decimals"),
        (author(json!(0)), json!([]), "greater than 0"),
        (
            json!([]),
            json!([{"idea":"i1","share":100}]),
            "leave nothing for the author",
        ),
        (
            author(json!(90)),
            json!([{"idea":"i1","share":5},{"idea":"i1","share":5}]),
            "named twice",
        ),
    ] {
        let idea = json!({"title":"x","authors":authors,"parents":parents});
        let (status, message) = refused(&mut ledger, &person(1, "ada"), "contribute", &idea);
        assert_eq!((status, message.contains(says)), (400, true), "{message}");
    }
    let foreign = json!({"title":"x","authors":author(json!(100))});
    let (status, message) = refused(&mut ledger, &person(1, "eve"), "contribute", &foreign);
    assert_eq!(
        (status, message.contains("is not among the authors")),
        (403, true),
        "{message}"
    );
    let unknown = json!({"title":"x","parents":[{"idea":"i9","share":1}]});
    assert_eq!(
        refused(&mut ledger, &person(1, "ada"), "contribute", &unknown).0,
        404
    );
    let device = person(1, "sensor").attribute("selvedge.device", "true");
    assert_eq!(
        refused(&mut ledger, &device, "contribute", &json!({"title":"x"})).0,
        403
    );
}

#[test]
fn ideas_belong_to_the_in_house_view() {
    let mut ledger = ledger();
    let visitor = person(1, "ada").attribute("selvedge.view", "public");
    for (function, arg) in [
        ("get", "i1"),
        ("list", "{}"),
        ("lineage", "i1"),
        ("rewards", r#"{"idea":"i1"}"#),
    ] {
        let error = ledger.evaluate(&visitor, "ideas", function, &[arg]).unwrap_err();
        assert_eq!(error.status(), 403, "{function}");
    }
    let (status, _) = refused(
        &mut ledger,
        &visitor,
        "contribute",
        &json!({"id": "i9", "title": "mine"}),
    );
    assert_eq!(status, 403);
}
