//! Random work on random routes, against a model: exactly the steps that the route allows succeed, a product is at one
//! place only, and the waiting lists and the history say so.

use std::collections::BTreeMap;

use proptest::prelude::*;
use selvedge_chaincode::testing::{MockLedger, TestCaller};
use selvedge_chaincode_process::ProcessContract;
use serde_json::{Value, json};

/// Per operation: successors and rework by number, and who may do it.
#[derive(Debug, Clone)]
struct Operation {
    next: Vec<usize>,
    rework: Vec<usize>,
    worker: Option<usize>,
}

/// Operation n leads to n + 1 and perhaps beyond, and back to perhaps any before it: so all are reached and the last ends.
fn route() -> impl Strategy<Value = Vec<Operation>> {
    (2usize..6).prop_flat_map(|count| {
        let operation = move |number: usize| {
            (
                proptest::option::of(number + 1..count.max(number + 2)),
                proptest::option::of(0..=number),
                proptest::option::of(0usize..2),
            )
                .prop_map(move |(skip, back, worker)| {
                    let mut next = Vec::new();
                    if number + 1 < count {
                        next.push(number + 1);
                        next.extend(skip.filter(|skip| *skip > number + 1 && *skip < count));
                    }
                    Operation {
                        next,
                        rework: back.into_iter().collect(),
                        worker,
                    }
                })
        };
        (0..count).map(operation).collect::<Vec<_>>()
    })
}

#[derive(Debug, Clone)]
struct Try {
    product: usize,
    at: usize,
    worker: usize,
    passed: bool,
    next: Option<usize>,
    follow: bool,
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let one = (
        0usize..3,
        0usize..6,
        0usize..2,
        proptest::bool::weighted(0.7),
        proptest::option::of(0usize..6),
        proptest::bool::weighted(0.8),
    );
    proptest::collection::vec(one, 1..60).prop_map(|all| {
        all.into_iter()
            .map(|(product, at, worker, passed, next, follow)| Try {
                product,
                at,
                worker,
                passed,
                next,
                follow,
            })
            .collect()
    })
}

fn place(number: usize) -> Value {
    json!({"station": format!("s{number}"), "task": "work"})
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Model {
    Waiting(usize),
    SetAside,
    Finished,
}

/// What the rules say to a step; the status of the refusal, or where the product is then.
fn judge(route: &[Operation], now: Model, step: &Try) -> Result<Model, i32> {
    if now != Model::Waiting(step.at) {
        return Err(409);
    }
    let operation = &route[step.at];
    if operation.worker.is_some_and(|worker| worker != step.worker) {
        return Err(403);
    }
    let choices = if step.passed {
        &operation.next
    } else {
        &operation.rework
    };
    match (choices.as_slice(), step.next) {
        ([], None) if step.passed => Ok(Model::Finished),
        ([], None) => Ok(Model::SetAside),
        (choices, Some(next)) if choices.contains(&next) => Ok(Model::Waiting(next)),
        ([only], None) => Ok(Model::Waiting(*only)),
        _ => Err(400),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn only_steps_of_the_route_succeed(route in route(), tries in tries()) {
        let mut ledger = MockLedger::new();
        ledger.install::<ProcessContract>("process");
        let worker = |number: usize| TestCaller::new("Org1MSP", "w").attribute("worker", &number.to_string());
        let operations: Vec<Value> = route.iter().enumerate().map(|(number, operation)| {
            let mut json = place(number);
            json["next"] = operation.next.iter().map(|n| place(*n)).collect();
            json["rework"] = operation.rework.iter().map(|n| place(*n)).collect();
            if let Some(number) = operation.worker {
                json["allowed"] = json!([{"attributes":{"worker":number.to_string()}}]);
            }
            json
        }).collect();
        let boss = TestCaller::new("Org1MSP", "boss");
        for (function, arg) in [
            ("defineRoute", json!({"id":"r","operations":operations})),
            ("openOrder", json!({"id":"o","route":"r","item":"thing"})),
            ("start", json!({"order":"o","products":["p0","p1","p2"]})),
        ] {
            ledger.submit(&boss, "process", function, &[&arg.to_string()]).unwrap();
        }
        let mut model = [Model::Waiting(0); 3];
        let mut steps = [1u64; 3];
        for mut step in tries {
            if let (true, Model::Waiting(at)) = (step.follow, model[step.product]) {
                step.at = at;
            }
            let mut arg = place(step.at);
            arg["product"] = json!(format!("p{}", step.product));
            arg["result"] = json!(if step.passed { "passed" } else { "failed" });
            arg["next"] = step.next.map_or(Value::Null, place);
            let outcome = ledger.submit(&worker(step.worker), "process", "step", &[&arg.to_string()]);
            match (outcome, judge(&route, model[step.product], &step)) {
                (Ok(_), Ok(after)) => {
                    model[step.product] = after;
                    steps[step.product] += 1;
                }
                (Err(error), Err(status)) => prop_assert_eq!(error.status(), status, "{}", error),
                (outcome, expected) => prop_assert!(false, "{arg}: {outcome:?}, expected {expected:?}"),
            }
        }
        let mut ask = |function: &str, arg: &str| -> Value {
            serde_json::from_slice(&ledger.evaluate(&boss, "process", function, &[arg]).unwrap()).unwrap()
        };
        let waiting = ask("waiting", "");
        let waiting: BTreeMap<String, String> = waiting["waiting"].as_array().unwrap().iter()
            .map(|w| (w["product"].as_str().unwrap().to_owned(), w["station"].as_str().unwrap().to_owned())).collect();
        for (number, state) in model.iter().enumerate() {
            let id = format!("p{number}");
            let product = ask("product", &id);
            let (expected, station) = match state {
                Model::Waiting(at) => ("waiting", Some(format!("s{at}"))),
                Model::SetAside => ("setAside", None),
                Model::Finished => ("finished", None),
            };
            prop_assert_eq!(&product["state"], expected);
            prop_assert_eq!(waiting.get(&id), station.as_ref());
            prop_assert_eq!(&product["steps"], steps[number]);
            let history = ask("history", &id);
            prop_assert_eq!(history["history"].as_array().unwrap().len() as u64, steps[number]);
        }
    }
}
