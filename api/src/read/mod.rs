//! Blocks and transactions as people read them: decoded as far as they go, refused ones may hold anything.

mod block;
mod transaction;
mod value;
mod verdict;

pub(crate) use block::{BlockView, Signer};
pub(crate) use transaction::TransactionView;
pub(crate) use value::rfc3339;
pub(crate) use verdict::Verdict;
