//! Request-for-quotation contract: two organisations negotiate, in turns, until one accepts or rejects.
//!
//! Everything is on the ledger of their channel: the current offer, whose turn it is, and each step that led there. The
//! functions, their JSON and their errors are described in `docs/contracts.md`.

mod events;
mod functions;
mod input;
mod keys;
mod model;
mod queries;

use selvedge_chaincode::prelude::*;

pub use model::{Action, Rfq, State};

/// The contract.
#[derive(Debug, Clone, Copy)]
pub struct RfqContract;

impl Contract for RfqContract {
    const NAME: &'static str = "rfq";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const FUNCTIONS: &'static [Function] = &[
        Function::submit("offer", &["offer"], functions::offer),
        Function::submit("counterOffer", &["counterOffer"], functions::counter_offer),
        Function::submit("accept", &["rfq"], functions::accept),
        Function::submit("reject", &["rfq"], functions::reject),
        Function::evaluate("get", &["rfq"], queries::get),
        Function::evaluate("history", &["rfq"], queries::history),
        Function::evaluate("list", &["filter?"], queries::list),
    ];
}

selvedge_chaincode::export!(RfqContract);
