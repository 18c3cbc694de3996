//! Tenders: one buyer, many invited suppliers, offers that stay sealed until bidding is over, an award.
//!
//! ```text
//! open --(buyer and enough suppliers: closed)--> revealing --(all revealed, or closed again)--> awarded
//!   \                                               \                            (an accepted RFQ)
//!    +--------------------- cancelled by the buyer --+
//! ```
//!
//! Each supplier's answer and each party's word for closing is a key of its own, and all of them read the tender. So
//! answers of the same block do not conflict, and an answer that is ordered behind the closing is invalid.

mod events;
mod functions;
mod input;
mod model;
mod queries;
mod seal;

pub(crate) use functions::{award, cancel, close, decline, open, reveal, seal_offer};
pub use model::{AnswerState, TenderState};
pub(crate) use queries::{history, list, tender};
pub use seal::{SALT_DIGITS, commitment};
