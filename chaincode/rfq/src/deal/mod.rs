//! The deal behind an accepted RFQ: milestones that both parties agree on, report and confirm, and its end.
//!
//! Each milestone, and each party's word that the deal is finished, is a key of its own. Whether the deal is finished is
//! worked out from them.

mod events;
mod functions;
mod input;
mod model;
mod queries;

pub(crate) use functions::{agree, confirm, finish, propose, reach, refuse};
pub(crate) use queries::deal;
