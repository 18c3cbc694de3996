//! Arguments of `selvedge tender`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::CallerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum TenderCommand {
    /// Seal an offer and commit to it; what is needed to reveal it is kept in a file.
    Seal(SealArgs),
    /// Reveal the offer that was sealed.
    Reveal(RevealArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SealArgs {
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Name of the RFQ chaincode.
    #[arg(short, long, default_value = "rfq")]
    pub(crate) name: String,
    /// The tender.
    pub(crate) tender: String,
    /// The offer: {"price", "conditions"?, "note"?, further terms}.
    #[arg(long)]
    pub(crate) offer: String,
    /// File to keep offer and salt in until they are revealed; TENDER.sealed.json if absent.
    #[arg(long)]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RevealArgs {
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Name of the RFQ chaincode.
    #[arg(short, long, default_value = "rfq")]
    pub(crate) name: String,
    /// The file that `tender seal` wrote.
    pub(crate) kept: PathBuf,
}
