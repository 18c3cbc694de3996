//! Rewards through random trees of parents: whatever the shares, the parts add up to the reward, to the last cent.

use std::collections::BTreeMap;

use proptest::prelude::*;
use selvedge_chaincode::testing::{MockLedger, TestCaller};
use selvedge_chaincode_ideas::IdeasContract;
use serde_json::{Value, json};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn parts_add_up(
        // For each idea after the first: which earlier ones it builds on, with weights.
        ideas in proptest::collection::vec(proptest::collection::btree_map(0usize..8, 1u32..40, 0..3), 1..8),
        cents in 1u64..10_000_000,
    ) {
        let mut ledger = MockLedger::new();
        ledger.install::<IdeasContract>("ideas");
        // The exact fraction that each author has in each idea, worked out in another way.
        let mut fractions: Vec<BTreeMap<usize, f64>> = Vec::new();
        for (number, parents) in ideas.iter().enumerate() {
            let parents: Vec<(usize, u32)> = parents.iter()
                .filter(|(parent, _)| **parent < number).map(|(parent, share)| (*parent, *share)).collect();
            let json: Vec<Value> = parents.iter()
                .map(|(parent, share)| json!({"idea":format!("i{parent}"),"share":share})).collect();
            let author = TestCaller::new("OrgMSP", &format!("u{number}"));
            let idea = json!({"id":format!("i{number}"),"title":"x","parents":json});
            ledger.submit(&author, "ideas", "contribute", &[&idea.to_string()]).unwrap();
            let mut mine = BTreeMap::new();
            let given: u32 = parents.iter().map(|(_, share)| share).sum();
            mine.insert(number, f64::from(100 - given) / 100.0);
            for (parent, share) in parents {
                for (author, fraction) in &fractions[parent] {
                    *mine.entry(*author).or_insert(0.0) += fraction * f64::from(share) / 100.0;
                }
            }
            fractions.push(mine);
        }
        let last = ideas.len() - 1;
        let amount = format!("{}.{:02}", cents / 100, cents % 100);
        let reward = json!({"id":"r","idea":format!("i{last}"),"amount":amount,"currency":"EUR"});
        let boss = TestCaller::new("OrgMSP", "boss");
        let tx = ledger.submit(&boss, "ideas", "reward", &[&reward.to_string()]).unwrap();
        let answer: Value = serde_json::from_slice(tx.result().unwrap()).unwrap();
        let mut sum = 0;
        for part in answer["parts"].as_array().unwrap() {
            let got: u64 = part["amount"].as_str().unwrap().replace('.', "").parse().unwrap();
            sum += got;
            let author: usize = part["user"].as_str().unwrap()[1..].parse().unwrap();
            let exact = fractions[last][&author] * cents as f64;
            // Each way to the author rounds once a level, by less than a cent.
            prop_assert!((got as f64 - exact).abs() < 64.0, "{got} for {exact}");
        }
        prop_assert_eq!(sum, cents);
    }
}
