//! Arguments of `selvedge shipment`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::CallerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum ShipmentCommand {
    /// Write a shipment with its readings as EPCIS 2.0 events (JSON-LD).
    Export(ShipmentExportArgs),
    /// Record sensor events of an EPCIS 2.0 document as readings of a shipment.
    Import(ShipmentImportArgs),
}

/// How EPCIS names things.
#[derive(Debug, Clone, Args)]
pub(crate) struct EpcisArgs {
    /// Name of the shipment chaincode.
    #[arg(short, long, default_value = "shipment")]
    pub(crate) name: String,
    /// JSON file that says what sensor values measure: {"pressure":{"type":"Pressure","uom":"A97"}}.
    #[arg(long)]
    pub(crate) vocabulary: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ShipmentExportArgs {
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    #[command(flatten)]
    pub(crate) epcis: EpcisArgs,
    /// The shipment.
    pub(crate) shipment: String,
    /// What identifiers begin with, for example https://id.example.com/; urn:selvedge:CHANNEL: if absent.
    #[arg(long)]
    pub(crate) base: Option<String>,
    /// File to write; standard output if absent.
    #[arg(short, long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ShipmentImportArgs {
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    #[command(flatten)]
    pub(crate) epcis: EpcisArgs,
    /// The EPCIS document; standard input if it is `-`.
    pub(crate) file: PathBuf,
    /// The shipment that the readings are for.
    #[arg(long)]
    pub(crate) shipment: String,
    /// Only events about this EPC.
    #[arg(long)]
    pub(crate) epc: Option<String>,
    /// The device that the readings are of; as the document says if absent.
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// The stream of readings that do not name one; made from the document if absent.
    #[arg(long)]
    pub(crate) stream: Option<String>,
    /// Print the readings instead of recording them.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
