//! Arguments of `selvedge certify`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::CallerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum CertifyCommand {
    /// Put the hash of a file on the ledger.
    File(CertifyFileArgs),
    /// Put the hashes of all rows of a CSV file on the ledger.
    Csv(CertifyCsvArgs),
    /// Check a file, a hash, a record or a block against every peer of the channel, and go by the majority.
    Check(CertifyCheckArgs),
}

/// As whom, and with which contract.
#[derive(Debug, Clone, Args)]
pub(crate) struct CertifierArgs {
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Name of the certify chaincode.
    #[arg(short, long, default_value = "certify")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct CertifyFileArgs {
    #[command(flatten)]
    pub(crate) certifier: CertifierArgs,
    /// The file.
    pub(crate) file: PathBuf,
    /// The part that it is about.
    #[arg(long)]
    pub(crate) part: String,
    /// Its id among the organisation's records; the file's name if absent.
    #[arg(long)]
    pub(crate) record: Option<String>,
    /// SHA-256, SHA-384 or SHA-512.
    #[arg(long, default_value = "SHA-256")]
    pub(crate) algorithm: String,
    /// The record has changed: take the place of the hash that it is certified with.
    #[arg(long)]
    pub(crate) changed: bool,
    /// A remark.
    #[arg(long)]
    pub(crate) note: Option<String>,
}

/// How rows of a CSV file are read.
#[derive(Debug, Clone, Args)]
pub(crate) struct ColumnsArgs {
    /// Column that names the part.
    #[arg(long, default_value = "part")]
    pub(crate) part_column: String,
    /// Column that names the record.
    #[arg(long, default_value = "record")]
    pub(crate) record_column: String,
    /// Column that holds the hash, where it was worked out elsewhere; else a row is hashed as the JSON object of its
    /// cells, names sorted, without blanks.
    #[arg(long)]
    pub(crate) hash_column: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CertifyCsvArgs {
    #[command(flatten)]
    pub(crate) certifier: CertifierArgs,
    /// The file; its first line names the columns.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) columns: ColumnsArgs,
    /// Records have changed: take the place of the hashes that they are certified with.
    #[arg(long)]
    pub(crate) changed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CertifyCheckArgs {
    #[command(flatten)]
    pub(crate) certifier: CertifierArgs,
    /// A file to hash and check.
    pub(crate) file: Option<PathBuf>,
    /// A hash to check.
    #[arg(long, conflicts_with = "file")]
    pub(crate) hash: Option<String>,
    /// Check every row of a CSV file, as `certify csv` hashes them.
    #[arg(long, conflicts_with_all = ["file", "hash"])]
    pub(crate) csv: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) columns: ColumnsArgs,
    /// Only records about this part. Alone: list the part's certificates.
    #[arg(long)]
    pub(crate) part: Option<String>,
    /// Only this record of the part. Without file and hash: list its revisions.
    #[arg(long, requires = "part")]
    pub(crate) record: Option<String>,
    /// Only records that this organisation keeps, by MSP id.
    #[arg(long, value_name = "MSP_ID")]
    pub(crate) owner: Option<String>,
    /// SHA-256, SHA-384 or SHA-512 (a given hash may also be SHA3-256 or SHA3-512).
    #[arg(long, default_value = "SHA-256")]
    pub(crate) algorithm: String,
    /// List what a block certified.
    #[arg(long, conflicts_with_all = ["file", "hash", "csv", "part"])]
    pub(crate) block: Option<u64>,
    /// List what a transaction certified.
    #[arg(long, conflicts_with_all = ["file", "hash", "csv", "part", "block"])]
    pub(crate) transaction: Option<String>,
    /// Seconds to wait for each peer.
    #[arg(long, default_value_t = 10)]
    pub(crate) patience: u64,
    /// Print the answer, and who gave it, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
