//! Request-for-quotation contract: two organisations negotiate, in turns, until one accepts or rejects.
//!
//! One buyer may also ask many suppliers in a tender, whose award is an accepted RFQ; and an accepted RFQ is a deal with
//! milestones and an end.
//!
//! Everything is on the ledger of their channel: the current offer, whose turn it is, and each step that led there. The
//! functions, their JSON and their errors are described in `docs/contracts.md`.

mod deal;
mod events;
mod functions;
mod input;
mod keys;
mod model;
mod queries;
mod tender;

use selvedge_chaincode::prelude::*;

pub use model::{Action, Rfq, State};
pub use tender::{AnswerState, SALT_DIGITS, TenderState, commitment};

/// The contract.
#[derive(Debug, Clone, Copy)]
pub struct RfqContract;

impl Contract for RfqContract {
    const NAME: &'static str = "rfq";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Requests for quotation between two parties, tenders with sealed offers, and the deals that come of them";
    const FUNCTIONS: &'static [Function] = &[
        Function::submit("offer", &["offer"], functions::offer).in_house()
            .describe("Open a negotiation: item, price, quantity, currency, target, conditions?, id?, further terms"),
        Function::submit("counterOffer", &["counterOffer"], functions::counter_offer).in_house()
            .describe("Change the offer and pass the turn: id, changes?, note?"),
        Function::submit("accept", &["rfq"], functions::accept)
            .in_house()
            .describe("Accept the offer as it stands"),
        Function::submit("reject", &["rfq"], functions::reject)
            .in_house()
            .describe("End the negotiation without a deal"),
        Function::evaluate("get", &["rfq"], queries::get).describe("An RFQ as it stands"),
        Function::evaluate("history", &["rfq"], queries::history)
            .describe("Every step of a negotiation, oldest first"),
        Function::evaluate("list", &["filter?"], queries::list)
            .describe("RFQs by party and state, page by page"),
        Function::submit("openTender", &["tender"], tender::open).in_house()
            .describe("Ask many suppliers: item, quantity, currency, suppliers, deadline?, revealBy?, quorum?, further terms"),
        Function::submit("sealOffer", &["sealed"], tender::seal_offer).in_house()
            .describe("Commit to an offer by its hash: tender, commitment"),
        Function::submit("declineTender", &["tender"], tender::decline).in_house().describe("Make no offer"),
        Function::submit("closeTender", &["tender"], tender::close).in_house()
            .describe("Say that the time for bidding, or for revealing, is over"),
        Function::submit("revealOffer", &["tender", "offer", "salt"], tender::reveal).in_house()
            .describe("Show the offer that was sealed"),
        Function::submit("award", &["award"], tender::award).in_house()
            .describe("Accept a revealed offer, which becomes an accepted RFQ: tender, supplier, rfq?, note?"),
        Function::submit("cancelTender", &["tender"], tender::cancel)
            .in_house()
            .describe("End a tender without an award"),
        Function::evaluate("tender", &["tender"], tender::tender)
            .describe("A tender with its suppliers' answers"),
        Function::evaluate("tenderHistory", &["tender"], tender::history).in_house()
            .describe("Everything that happened in a tender"),
        Function::evaluate("tenders", &["filter?"], tender::list)
            .describe("Tenders by party and state, page by page"),
        Function::submit("proposeMilestones", &["proposal"], deal::propose).in_house()
            .describe("Propose the milestones of a deal: id, milestones"),
        Function::submit("agreeMilestones", &["rfq"], deal::agree).in_house()
            .describe("Agree to the other party's milestones: id, proposal?, note?"),
        Function::submit("reachMilestone", &["request"], deal::reach).in_house()
            .describe("Report a milestone as done: id, milestone, evidence?, note?"),
        Function::submit("confirmMilestone", &["request"], deal::confirm).in_house()
            .describe("Confirm what the other party reported: id, milestone, note?"),
        Function::submit("refuseMilestone", &["request"], deal::refuse).in_house()
            .describe("Refuse what the other party reported: id, milestone, note"),
        Function::submit("finishDeal", &["rfq"], deal::finish).in_house()
            .describe("Say that a deal is finished; the other party has to say so too"),
        Function::evaluate("deal", &["rfq"], deal::deal).in_house().describe("Where a deal stands"),
    ];
}

selvedge_chaincode::export!(RfqContract);
