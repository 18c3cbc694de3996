//! Reputation contract: organisations rate each other after a deal.
//!
//! Whether somebody may rate is asked of the contract that the deal is in, within the same transaction. A rating is a key of
//! its own under the organisation that is rated; what they add up to is worked out when asked for, so that anybody can
//! do the same sum. The functions, their JSON and their errors are described in `docs/contracts.md`.

mod aggregate;
mod deals;
mod events;
mod keys;
mod model;
mod queries;
mod rate;

use selvedge_chaincode::prelude::*;

pub use model::{Rating, Reply, Source};

/// The contract.
#[derive(Debug, Clone, Copy)]
pub struct ReputationContract;

impl Contract for ReputationContract {
    const NAME: &'static str = "reputation";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "Ratings by the counterparties of finished deals, and sums that anybody can redo";
    const FUNCTIONS: &'static [Function] = &[
        Function::submit("rate", &["rating"], rate::rate).in_house()
            .describe("Rate a counterparty: rfq or shipment, score from 1 to 5, organization?, criteria?, comment?, chaincode?"),
        Function::submit("reply", &["reply"], rate::reply).in_house()
            .describe("Reply to a rating of your organisation, once: rating, text"),
        Function::evaluate("rating", &["rating"], queries::rating).in_house().describe("One rating"),
        Function::evaluate("ratings", &["filter"], queries::ratings).in_house()
            .describe("Ratings of an organisation, as they are or as they were at a time, page by page"),
        Function::evaluate("given", &["filter"], queries::given).in_house()
            .describe("Ratings that an organisation has given, page by page"),
        Function::evaluate("aggregate", &["organization"], aggregate::aggregate)
            .describe("What the ratings of an organisation add up to, now or at a time"),
    ];
}

selvedge_chaincode::export!(ReputationContract);
