//! Ideas contract: who contributed what, what it builds on, how it was judged, and who is rewarded for it.
//!
//! A contribution never changes. What authors, assessors and beneficiaries say about it are keys of their own, and states
//! and sums are worked out from them when asked for. The functions, their JSON and their errors are described in
//! `docs/contracts.md`.

mod agreement;
mod assess;
mod contribute;
mod events;
mod input;
mod keys;
mod lineage;
mod model;
mod queries;
mod rewards;
mod split;

use selvedge_chaincode::prelude::*;

pub use model::{Author, Contribution, Parent, Person, Share, State, WHOLE};
pub use split::split;

/// The contract.
#[derive(Debug, Clone, Copy)]
pub struct IdeasContract;

impl Contract for IdeasContract {
    const NAME: &'static str = "ideas";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "Contributions with authors and parents, the shares in them, how they were judged, and rewards";
    const FUNCTIONS: &'static [Function] = &[
        Function::submit("contribute", &["contribution"], contribute::contribute).in_house()
            .describe("Record a contribution: title, id?, summary?, hash?, authors?, parents?, note?"),
        Function::submit("agreeShares", &["idea"], agreement::agree).in_house()
            .describe("Agree to the shares of a contribution that names you as an author"),
        Function::submit("refuseShares", &["refusal"], agreement::refuse).in_house()
            .describe("Refuse the shares of a contribution that names you as an author: idea, note"),
        Function::submit("assess", &["assessment"], assess::assess).in_house()
            .describe("Judge a contribution of others: idea, scores from 1 to 10, note?"),
        Function::submit("reward", &["reward"], rewards::reward).in_house().describe(
            "Record a reward, which is split by the shares: idea, amount, currency, id?, reason?, reference?",
        ),
        Function::submit("confirmReward", &["confirmation"], rewards::confirm).in_house()
            .describe("Confirm that you have received your part: idea, reward, note?"),
        Function::evaluate("get", &["idea"], queries::get).in_house()
            .describe("A contribution with its state and assessment"),
        Function::evaluate("list", &["filter?"], queries::list).in_house()
            .describe("Contributions by author and state, page by page"),
        Function::evaluate("lineage", &["idea"], lineage::lineage).in_house()
            .describe("What a contribution builds on, and what builds on it"),
        Function::evaluate("assessments", &["idea"], assess::assessments).in_house()
            .describe("Every assessment of a contribution, and the sums"),
        Function::evaluate("rewards", &["filter"], rewards::rewards).in_house()
            .describe("Rewards for an idea, or of a beneficiary"),
    ];
}

selvedge_chaincode::export!(IdeasContract);
