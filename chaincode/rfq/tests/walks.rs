//! Random walks through negotiations, against a model of the rules: exactly the legal moves succeed, and the history
//! has exactly those.

use proptest::prelude::*;
use selvedge_chaincode::testing::{MockLedger, TestCaller};
use selvedge_chaincode_rfq::RfqContract;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
enum Move {
    Offer {
        target: usize,
    },
    Counter {
        price: u32,
        humidity: Option<u32>,
        remove: bool,
    },
    Accept,
    Reject,
}

fn moves() -> impl Strategy<Value = Vec<(usize, usize, Move)>> {
    let one = prop_oneof![
        2 => (0usize..3).prop_map(|target| Move::Offer { target }),
        6 => (0u32..4, proptest::option::of(1u32..4), any::<bool>())
            .prop_map(|(price, humidity, remove)| Move::Counter { price, humidity, remove }),
        1 => Just(Move::Accept),
        1 => Just(Move::Reject),
    ];
    proptest::collection::vec((0usize..3, 0usize..2, one), 1..60)
}

/// What the rules say about one RFQ.
struct Model {
    parties: [usize; 2],
    turn: Option<usize>,
    price: u32,
    humidity: Option<u32>,
    state: &'static str,
    history: Vec<(usize, &'static str)>,
}

impl Model {
    fn may_answer(&self, who: usize) -> Result<(), i32> {
        if !self.parties.contains(&who) {
            Err(403)
        } else if self.turn != Some(who) {
            Err(409)
        } else {
            Ok(())
        }
    }
}

fn org(number: usize) -> String {
    format!("Org{number}MSP")
}

/// The move as a call, and what the model expects of it.
fn play(
    model: &mut Option<Model>,
    who: usize,
    id: &str,
    step: &Move,
) -> (&'static str, String, Result<(), i32>) {
    match step {
        Move::Offer { target } => {
            let offer =
                json!({"id":id,"item":"steel","price":1,"quantity":1,"currency":"USD","target":org(*target)});
            let expected = if *target == who {
                Err(400)
            } else if model.is_some() {
                Err(409)
            } else {
                let (parties, history) = ([who, *target], vec![(who, "offer")]);
                *model = Some(Model {
                    parties,
                    turn: Some(*target),
                    price: 1,
                    humidity: None,
                    state: "open",
                    history,
                });
                Ok(())
            };
            ("offer", offer.to_string(), expected)
        }
        Move::Counter {
            price,
            humidity,
            remove,
        } => {
            let remove = *remove && humidity.is_none();
            let mut changes = json!({"fields":[{"field":"price","newValue":price.to_string()}]});
            if let Some(max) = humidity {
                changes["conditions"] = json!([{"field":"humidity","max":max}]);
            }
            if remove {
                changes["removedConditions"] = json!(["humidity"]);
            }
            let expected = model.as_mut().ok_or(404).and_then(|model| {
                model.may_answer(who)?;
                if remove && model.humidity.is_none() {
                    return Err(400);
                }
                let after = if remove { None } else { humidity.or(model.humidity) };
                if (*price, after) == (model.price, model.humidity) {
                    return Err(400);
                }
                (model.price, model.humidity) = (*price, after);
                model.turn = model.parties.iter().copied().find(|party| *party != who);
                model.history.push((who, "counterOffer"));
                Ok(())
            });
            (
                "counterOffer",
                json!({"id":id,"changes":changes}).to_string(),
                expected,
            )
        }
        Move::Accept | Move::Reject => {
            let (function, state) = if matches!(step, Move::Accept) {
                ("accept", "accepted")
            } else {
                ("reject", "rejected")
            };
            let expected = model.as_mut().ok_or(404).and_then(|model| {
                model.may_answer(who)?;
                (model.turn, model.state) = (None, state);
                model.history.push((who, function));
                Ok(())
            });
            (function, id.to_owned(), expected)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn only_legal_moves_succeed_and_history_is_complete(steps in moves()) {
        let mut ledger = MockLedger::new();
        ledger.install::<RfqContract>("rfq");
        let mut models: [Option<Model>; 2] = [None, None];
        for (who, which, step) in &steps {
            let id = format!("r{which}");
            let (function, arg, expected) = play(&mut models[*which], *who, &id, step);
            let keys = ledger.keys("rfq").len();
            let outcome = ledger.submit(&TestCaller::new(&org(*who), "user"), "rfq", function, &[&arg]);
            match (&outcome, expected) {
                (Ok(tx), Ok(())) => prop_assert!(tx.event.is_some()),
                (Err(error), Err(status)) => {
                    prop_assert_eq!(error.status(), status, "{}", error);
                    prop_assert_eq!(ledger.keys("rfq").len(), keys);
                }
                _ => prop_assert!(false, "{function} {arg} by {who}: {outcome:?}, expected {expected:?}"),
            }
        }
        let anyone = TestCaller::new("Org9MSP", "auditor");
        for (which, model) in models.iter().enumerate() {
            let Some(model) = model else { continue };
            let answer = ledger.evaluate(&anyone, "rfq", "history", &[&format!("r{which}")]).unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            prop_assert_eq!(&answer["state"], model.state);
            prop_assert_eq!(&answer["turn"], &json!(model.turn.map(org)));
            let history = answer["history"].as_array().unwrap();
            let seen: Vec<_> = history.iter().map(|s| (s["by"].as_str().unwrap().to_owned(), s["action"].as_str().unwrap())).collect();
            let wanted: Vec<_> = model.history.iter().map(|(who, action)| (org(*who), *action)).collect();
            prop_assert_eq!(seen, wanted);
            // The history alone leads to the price as it stands.
            let last = history.iter().flat_map(|s| s["changes"].as_array().unwrap()).rfind(|c| c["field"] == "price").unwrap();
            prop_assert_eq!(&last["to"], &json!(model.price.to_string()));
        }
    }
}
