//! A plant as its people see it: routes, steps, rework, quality, assembly, genealogy and the two views.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test is a failed test"
)]

use selvedge_chaincode::testing::{MockLedger, TestCaller, Verdict};
use selvedge_chaincode_process::ProcessContract;
use serde_json::{Value, json};

fn planner() -> TestCaller {
    TestCaller::new("Org1MSP", "pia")
}

fn press() -> TestCaller {
    TestCaller::new("Org1MSP", "press-1")
        .attribute("selvedge.device", "true")
        .attribute("station", "press-1")
}

fn fitter() -> TestCaller {
    TestCaller::new("Org2MSP", "fred")
}

fn inspector() -> TestCaller {
    TestCaller::new("Org1MSP", "ines").attribute("role", "quality")
}

fn outsider() -> TestCaller {
    TestCaller::new("Org3MSP", "otto")
}

fn ledger() -> MockLedger {
    let mut ledger = MockLedger::new();
    ledger.install::<ProcessContract>("process");
    let route = json!({"id":"pump","organizations":["Org2MSP"],
        "quality":[{"mspId":"Org1MSP","attributes":{"role":"quality"}}],
        "operations":[
            {"station":"press-1","task":"press","allowed":[{"mspId":"Org1MSP","attributes":{"station":"press-1"}}],
             "next":[{"station":"bench","task":"mount"}]},
            {"station":"bench","task":"mount","next":[{"station":"lab","task":"test"},{"station":"lab","task":"short test"}],
             "rework":[{"station":"press-1","task":"press"}]},
            {"station":"lab","task":"test","rework":[{"station":"bench","task":"mount"}]},
            {"station":"lab","task":"short test"}]});
    submit(&mut ledger, &planner(), "defineRoute", &route);
    submit(
        &mut ledger,
        &planner(),
        "openOrder",
        &json!({"id":"o1","route":"pump","item":"pump 80","quantity":2}),
    );
    submit(
        &mut ledger,
        &planner(),
        "start",
        &json!({"order":"o1","products":["p1","p2"]}),
    );
    ledger
}

fn submit(ledger: &mut MockLedger, who: &TestCaller, function: &str, arg: &Value) -> Value {
    let tx = ledger
        .submit(who, "process", function, &[&arg.to_string()])
        .unwrap_or_else(|error| panic!("{function} {arg}: {error}"));
    serde_json::from_slice(tx.result().unwrap()).unwrap()
}

fn ask(ledger: &mut MockLedger, who: &TestCaller, function: &str, arg: &str) -> Value {
    serde_json::from_slice(&ledger.evaluate(who, "process", function, &[arg]).unwrap()).unwrap()
}

fn refused(ledger: &mut MockLedger, who: &TestCaller, function: &str, arg: &Value) -> (i32, String) {
    let error = ledger
        .submit(who, "process", function, &[&arg.to_string()])
        .unwrap_err();
    (error.status(), error.message().to_owned())
}

fn pressed(product: &str) -> Value {
    json!({"product":product,"station":"press-1","task":"press"})
}

fn mounted(product: &str, next: &str) -> Value {
    json!({"product":product,"station":"bench","task":"mount","next":{"station":"lab","task":next}})
}

#[test]
fn steps_are_accepted_only_where_the_last_one_pointed() {
    let mut ledger = ledger();
    let (status, message) = refused(&mut ledger, &fitter(), "step", &mounted("p1", "test"));
    assert_eq!(status, 409);
    assert_eq!(
        message,
        "product p1 waits at station press-1 for task press, not at station bench for task mount"
    );
    let (status, message) = refused(&mut ledger, &fitter(), "step", &pressed("p1"));
    assert_eq!(status, 403);
    assert_eq!(
        message,
        "fred of Org2MSP may not do task press at station press-1; allowed: Org1MSP with station=press-1"
    );
    let after = submit(&mut ledger, &press(), "step", &pressed("p1"));
    assert_eq!(
        (&after["station"], &after["task"]),
        (&json!("bench"), &json!("mount"))
    );
    // Once more: it has moved on.
    assert_eq!(refused(&mut ledger, &press(), "step", &pressed("p1")).0, 409);
    // Two ways lead on: one has to be named, and no other.
    let open = json!({"product":"p1","station":"bench","task":"mount"});
    let (status, message) = refused(&mut ledger, &fitter(), "step", &open);
    assert_eq!(
        (status, message.contains("step.next is missing")),
        (400, true),
        "{message}"
    );
    let wrong =
        json!({"product":"p1","station":"bench","task":"mount","next":{"station":"press-1","task":"press"}});
    assert_eq!(refused(&mut ledger, &fitter(), "step", &wrong).0, 400);
    // Without rules, every member of the route's organisations may work, and nobody else.
    let (status, message) = refused(&mut ledger, &outsider(), "step", &mounted("p1", "test"));
    assert_eq!(
        (status, message.contains("members of Org1MSP, Org2MSP")),
        (403, true),
        "{message}"
    );
    submit(&mut ledger, &fitter(), "step", &mounted("p1", "short test"));
    let done = json!({"product":"p1","station":"lab","task":"short test","quality":{"values":{"torque":12.50},
        "record":"report-1","hash":"ab".repeat(32)},"note":"fine"});
    let end = submit(&mut ledger, &fitter(), "step", &done);
    assert_eq!(
        (&end["state"], &end["station"]),
        (&json!("finished"), &Value::Null)
    );

    let history = ask(&mut ledger, &planner(), "history", "p1");
    let steps = history["history"].as_array().unwrap();
    let actions: Vec<&str> = steps.iter().map(|s| s["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["start", "step", "step", "step"]);
    assert_eq!(
        (&steps[1]["user"], &steps[1]["device"]),
        (&json!("press-1"), &json!(true))
    );
    assert_eq!(steps[3]["quality"]["values"]["torque"], "12.5");
    assert_eq!(steps[3]["quality"]["algorithm"], "SHA-256");
    let waiting = ask(&mut ledger, &planner(), "waiting", "press-1");
    assert_eq!(waiting["waiting"][0]["product"], "p2");
    assert_eq!(waiting["waiting"].as_array().unwrap().len(), 1);
}

#[test]
fn what_fails_goes_back_or_is_set_aside_until_quality_decides() {
    let mut ledger = ledger();
    // The press has no rework: a product that fails there is set aside.
    let failed =
        json!({"product":"p1","station":"press-1","task":"press","result":"failed","note":"cracked"});
    let after = submit(&mut ledger, &press(), "step", &failed);
    assert_eq!(
        (&after["state"], &after["reason"]),
        (&json!("setAside"), &json!("cracked"))
    );
    let (status, message) = refused(&mut ledger, &press(), "step", &pressed("p1"));
    assert_eq!(status, 409);
    assert!(
        message.contains("is set aside (cracked); quality has to release it"),
        "{message}"
    );
    let release = json!({"product":"p1","note":"only dirt"});
    let (status, message) = refused(&mut ledger, &planner(), "release", &release);
    assert_eq!(
        (status, message.contains("Org1MSP with role=quality")),
        (403, true),
        "{message}"
    );
    let after = submit(&mut ledger, &inspector(), "release", &release);
    assert_eq!(
        (&after["state"], &after["station"]),
        (&json!("waiting"), &json!("press-1"))
    );

    submit(&mut ledger, &press(), "step", &pressed("p1"));
    let back = json!({"product":"p1","station":"bench","task":"mount","result":"failed"});
    let after = submit(&mut ledger, &fitter(), "step", &back);
    assert_eq!(
        (&after["station"], &after["lastResult"]),
        (&json!("press-1"), &json!("failed"))
    );

    let aside = json!({"product":"p2","reason":"wrong steel"});
    assert_eq!(refused(&mut ledger, &fitter(), "setAside", &aside).0, 403);
    submit(&mut ledger, &press(), "setAside", &aside);
    assert_eq!(refused(&mut ledger, &press(), "setAside", &aside).0, 403);
    assert_eq!(refused(&mut ledger, &inspector(), "setAside", &aside).0, 409);
    let gone = submit(
        &mut ledger,
        &inspector(),
        "scrap",
        &json!({"product":"p2","reason":"useless"}),
    );
    assert_eq!(gone["state"], "scrapped");
    assert_eq!(
        refused(&mut ledger, &inspector(), "release", &json!({"product":"p2"})).0,
        409
    );
    let nowhere = json!({"product":"p1","station":"bench"});
    assert_eq!(refused(&mut ledger, &inspector(), "release", &nowhere).0, 400);
    let list = ask(
        &mut ledger,
        &planner(),
        "products",
        r#"{"order":"o1","state":"scrapped"}"#,
    );
    assert_eq!(list["products"][0]["id"], "p2");
    let waiting = ask(&mut ledger, &planner(), "waiting", "");
    assert_eq!(waiting["waiting"].as_array().unwrap().len(), 1);
}

/// A motor from a supplier's route, made of a batch, and built into a pump.
fn with_motor() -> MockLedger {
    let mut ledger = ledger();
    let supplier = TestCaller::new("Org3MSP", "sue");
    let route = json!({"id":"motor","operations":[{"station":"winder","task":"wind"}]});
    submit(&mut ledger, &supplier, "defineRoute", &route);
    let order = json!({"id":"m","route":"motor","item":"motor","customer":"Org2MSP"});
    submit(&mut ledger, &supplier, "openOrder", &order);
    submit(
        &mut ledger,
        &supplier,
        "start",
        &json!({"order":"m","products":["motor-7","motor-9"]}),
    );
    for motor in ["motor-7", "motor-9"] {
        let wound = json!({"product":motor,"station":"winder","task":"wind","parts":[{"batch":"copper-7","quantity":"2"}]});
        submit(&mut ledger, &supplier, "step", &wound);
    }
    submit(&mut ledger, &press(), "step", &pressed("p1"));
    submit(&mut ledger, &press(), "step", &pressed("p2"));
    ledger
}

#[test]
fn genealogy_is_searched_down_and_up() {
    let mut ledger = with_motor();
    let mut step = mounted("p1", "test");
    step["parts"] = json!([{"product":"motor-7"},{"batch":"seal-3","quantity":4}]);
    submit(&mut ledger, &fitter(), "step", &step);
    let motor = ask(&mut ledger, &fitter(), "product", "motor-7");
    assert_eq!(
        (&motor["state"], &motor["builtInto"]),
        (&json!("builtIn"), &json!("p1"))
    );

    // A part is used once, and only when it is finished and one's own.
    let mut again = mounted("p2", "test");
    again["parts"] = json!([{"product":"motor-7"}]);
    let (status, message) = refused(&mut ledger, &fitter(), "step", &again);
    assert_eq!(status, 409);
    assert!(
        message.starts_with("product motor-7 is built into p1"),
        "{message}"
    );
    again["parts"] = json!([{"product":"p1"}]);
    assert_eq!(refused(&mut ledger, &fitter(), "step", &again).0, 409);
    again["parts"] = json!([{"product":"p2"}]);
    assert_eq!(refused(&mut ledger, &fitter(), "step", &again).0, 400);
    again["parts"] = json!([{"product":"motor-9"}]);
    let (status, message) = refused(&mut ledger, &planner(), "step", &again);
    assert_eq!(
        (status, message.contains("nor is the customer")),
        (403, true),
        "{message}"
    );

    let down = ask(&mut ledger, &outsider(), "genealogy", "p1");
    let found: Vec<(&str, u64)> = down["found"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| {
            (
                f["product"].as_str().or(f["batch"].as_str()).unwrap(),
                f["depth"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(found, [("seal-3", 1), ("motor-7", 1), ("copper-7", 2)]);
    assert_eq!(down["found"][2]["path"], json!(["p1", "motor-7"]));
    let up = ask(&mut ledger, &outsider(), "whereUsed", r#"{"batch":"copper-7"}"#);
    let found: Vec<&str> = up["found"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["product"].as_str().unwrap())
        .collect();
    assert_eq!(found, ["motor-7", "motor-9", "p1"]);
    let near = ask(
        &mut ledger,
        &outsider(),
        "whereUsed",
        r#"{"batch":"copper-7","depth":1}"#,
    );
    assert_eq!(near["found"].as_array().unwrap().len(), 2);
    assert_eq!(near["truncated"], true);

    // Rework: the motor comes out, another goes in.
    let failed = json!({"product":"p1","station":"lab","task":"test","result":"failed"});
    submit(&mut ledger, &fitter(), "step", &failed);
    let mut swap = mounted("p1", "test");
    swap["remove"] = json!([{"product":"motor-7"},{"batch":"seal-3"}]);
    swap["parts"] = json!([{"product":"motor-9"}]);
    submit(&mut ledger, &fitter(), "step", &swap);
    let down = ask(&mut ledger, &outsider(), "genealogy", "p1");
    let found: Vec<&Value> = down["found"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["product"])
        .collect();
    assert_eq!(found, [&json!("motor-9"), &Value::Null]);
    let all = ask(
        &mut ledger,
        &outsider(),
        "genealogy",
        r#"{"product":"p1","removed":true}"#,
    );
    assert_eq!(all["found"].as_array().unwrap().len(), 4);
    let motor = ask(&mut ledger, &fitter(), "product", "motor-7");
    assert_eq!(
        (&motor["state"], &motor["builtInto"]),
        (&json!("finished"), &Value::Null)
    );
    let motor = ask(&mut ledger, &outsider(), "history", "motor-7");
    let actions: Vec<&str> = motor["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["start", "step", "builtIn", "removed"]);
    let again = json!({"product":"p1","station":"lab","task":"test","result":"failed","remove":[{"product":"motor-7"}]});
    let (status, message) = refused(&mut ledger, &fitter(), "step", &again);
    assert_eq!(
        (status, message.as_str()),
        (409, "product motor-7 is not in product p1")
    );
}

#[test]
fn outsiders_get_the_public_view() {
    let mut ledger = ledger();
    let note = json!({"product":"p1","station":"press-1","task":"press","quality":{"values":{"force":99}},"note":"secret"});
    submit(&mut ledger, &press(), "step", &note);
    let restricted = planner().attribute("selvedge.view", "public");
    for who in [outsider(), restricted] {
        let product = ask(&mut ledger, &who, "product", "p1");
        assert_eq!(
            (&product["view"], &product["state"]),
            (&json!("public"), &json!("waiting"))
        );
        assert_eq!(
            (&product["station"], &product["task"], &product["route"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        let history = ask(&mut ledger, &who, "history", "p1").to_string();
        for hidden in ["secret", "force", "press", "user", "note"] {
            assert!(!history.contains(hidden), "{hidden}: {history}");
        }
        assert_eq!(ask(&mut ledger, &who, "waiting", "")["waiting"], json!([]));
        let route = ask(&mut ledger, &who, "route", "pump");
        assert_eq!(
            (route.get("operations"), &route["view"]),
            (None, &json!("public"))
        );
        assert_eq!(ask(&mut ledger, &who, "orders", "")["orders"][0]["user"], "");
        assert_eq!(
            ask(&mut ledger, &who, "products", "")["products"][0]["station"],
            Value::Null
        );
    }
    let product = ask(&mut ledger, &fitter(), "product", "p1");
    assert_eq!(
        (&product["view"], &product["station"]),
        (&json!("inHouse"), &json!("bench"))
    );
    assert_eq!(
        ask(&mut ledger, &fitter(), "routes", "")["routes"][0]["operations"][0]["task"],
        "press"
    );
}

#[test]
fn routes_must_lead_somewhere_and_orders_keep_their_version() {
    let mut ledger = ledger();
    let place = |task: &str| json!({"station":"s","task":task});
    let operation = |task: &str, next: &[&str]| json!({"station":"s","task":task,"next":next.iter().map(|t| place(t)).collect::<Vec<_>>()});
    for (operations, says) in [
        (json!([]), "must not be empty"),
        (
            json!([operation("a", &["b"])]),
            "route.operations[0].next[0]: the route has no task b at station s",
        ),
        (json!([operation("a", &[]), operation("a", &[])]), "twice"),
        (
            json!([operation("a", &[]), operation("b", &[])]),
            "nothing leads to task b",
        ),
        (
            json!([operation("a", &["b"]), operation("b", &["a"])]),
            "no operation ends the route",
        ),
    ] {
        let route = json!({"id":"x","operations":operations});
        let (status, message) = refused(&mut ledger, &planner(), "defineRoute", &route);
        assert_eq!((status, message.contains(says)), (400, true), "{message}");
    }
    let stranger =
        json!({"id":"x","operations":[{"station":"s","task":"a","allowed":[{"mspId":"Org9MSP"}]}]});
    assert_eq!(refused(&mut ledger, &planner(), "defineRoute", &stranger).0, 400);
    let new = json!({"id":"pump","operations":[operation("only", &[])]});
    let (status, message) = refused(&mut ledger, &fitter(), "defineRoute", &new);
    assert_eq!(
        (status, message.contains("belongs to Org1MSP")),
        (403, true),
        "{message}"
    );
    let (status, _) = refused(&mut ledger, &press(), "defineRoute", &new);
    assert_eq!(status, 403);
    assert_eq!(submit(&mut ledger, &planner(), "defineRoute", &new)["version"], 2);
    // The same again, by a client that lost the answer, makes no version.
    assert_eq!(submit(&mut ledger, &planner(), "defineRoute", &new)["version"], 2);
    // Products of the old order go on along the old version, where Org2MSP still works.
    submit(&mut ledger, &press(), "step", &pressed("p1"));
    submit(&mut ledger, &fitter(), "step", &mounted("p1", "test"));
    assert_eq!(
        ask(
            &mut ledger,
            &planner(),
            "route",
            r#"{"route":"pump","version":1}"#
        )["version"],
        1
    );
    assert_eq!(ask(&mut ledger, &planner(), "order", "o1")["routeVersion"], 1);

    let started = json!({"order":"o1","products":["p1"]});
    let (status, message) = refused(&mut ledger, &planner(), "start", &started);
    assert_eq!(
        (status, message.contains("already a product p1")),
        (409, true),
        "{message}"
    );
    assert_eq!(
        refused(&mut ledger, &fitter(), "closeOrder", &json!({"order":"o1"})).0,
        403
    );
    submit(&mut ledger, &planner(), "closeOrder", &json!({"order":"o1"}));
    let more = json!({"order":"o1","products":["p3"]});
    assert_eq!(refused(&mut ledger, &planner(), "start", &more).0, 409);
    assert_eq!(
        refused(
            &mut ledger,
            &outsider(),
            "openOrder",
            &json!({"route":"pump","item":"x"})
        )
        .0,
        403
    );
}

#[test]
fn steps_of_different_products_never_conflict() {
    let mut ledger = ledger();
    let names: Vec<String> = (10..40).map(|n| format!("p{n}")).collect();
    submit(
        &mut ledger,
        &planner(),
        "start",
        &json!({"order":"o1","products":names}),
    );
    let step = |name: &str| {
        json!({"product":name,"station":"press-1","task":"press","parts":[{"batch":"steel-1"}]}).to_string()
    };
    let mut block = Vec::new();
    for name in &names {
        block.push(ledger.simulate(&press(), "process", "step", &[&step(name)]));
    }
    block.push(ledger.simulate(&press(), "process", "step", &[&step("p10")]));
    let verdicts = ledger.commit(&block);
    assert!(verdicts[..30].iter().all(|verdict| *verdict == Verdict::Valid));
    assert_eq!(verdicts[30], Verdict::MvccConflict);
    let used = ask(&mut ledger, &planner(), "whereUsed", r#"{"batch":"steel-1"}"#);
    assert_eq!(used["found"].as_array().unwrap().len(), 30);
    // Two products that want the same part in one block: one gets it.
    let mut ledger = with_motor();
    let with = |name: &str| {
        let mut step = mounted(name, "test");
        step["parts"] = json!([{"product":"motor-7"}]);
        step.to_string()
    };
    let block = [
        ledger.simulate(&fitter(), "process", "step", &[&with("p1")]),
        ledger.simulate(&fitter(), "process", "step", &[&with("p2")]),
    ];
    assert_eq!(ledger.commit(&block), [Verdict::Valid, Verdict::MvccConflict]);
}
