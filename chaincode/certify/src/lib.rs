//! Certification contract: hashes of records that stay in an enterprise's database.
//!
//! A record is named by part, record id and the organisation that keeps it. Its revisions form a line: a changed record
//! names the hash that it replaces, so that "current" is settled by the ledger's order and not by clocks. Every
//! certificate is a key of its own; only the head of a record's line is read and written by the next revision. The
//! functions, their JSON and their errors are described in `docs/contracts.md`.

mod certify;
mod events;
mod input;
mod keys;
mod model;
mod queries;

use selvedge_chaincode::prelude::*;

pub use model::{Certificate, Verdict};

/// The contract.
#[derive(Debug, Clone, Copy)]
pub struct CertifyContract;

impl Contract for CertifyContract {
    const NAME: &'static str = "certify";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str =
        "Hashes of records that stay in an enterprise's database, against which the records can be checked";
    const FUNCTIONS: &'static [Function] = &[
        Function::submit("certify", &["record"], certify::certify)
            .in_house()
            .describe("Certify one record: part, record, hash, algorithm?, time?, replaces?, note?"),
        Function::submit("certifyMany", &["records"], certify::certify_many)
            .in_house()
            .describe("Certify up to 500 records, as a whole or not at all"),
        Function::evaluate("check", &["hash"], queries::check)
            .describe("Whether a hash is what a record has now, had once, or never had"),
        Function::evaluate("byPart", &["part"], queries::by_part)
            .in_house()
            .describe("Certificates of all records about a part, page by page"),
        Function::evaluate("byRecord", &["record"], queries::by_record)
            .in_house()
            .describe("All revisions of a record, oldest first"),
        Function::evaluate("byHash", &["hash"], queries::by_hash)
            .in_house()
            .describe("Certificates with a hash, page by page"),
        Function::evaluate("byTransaction", &["txId"], queries::by_transaction)
            .in_house()
            .describe("Certificates that a transaction made"),
        Function::evaluate("parts", &["filter?"], queries::parts)
            .in_house()
            .describe("Ids of all parts that records were certified for, page by page"),
    ];
}

selvedge_chaincode::export!(CertifyContract);
