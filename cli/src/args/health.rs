//! Arguments of `selvedge doctor` and `selvedge identity`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::NetworkArg;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// How many days before its end a certificate is warned of.
    #[arg(long, default_value_t = 30, value_name = "DAYS")]
    pub(crate) warn_days: u32,
    /// Further MSP folders to look at, such as those of devices and edge gateways; may be given several times.
    #[arg(long, value_name = "DIR")]
    pub(crate) msp: Vec<PathBuf>,
    /// Say what is good as well.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print JSON: everything that was looked at.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// What the certificates of a folder say: holder, role, issuer, period.
    Show(ShowArgs),
    /// Take a user's MSP folder from elsewhere into the network's folder.
    Import(ImportArgs),
    /// Write a user's folder, or an organisation's, as Fabric's tools lay them out.
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// An MSP folder, or a folder of `cryptogen` or `fabric-ca-client` with one below it.
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Name of the user here, for example `User1@org1.example.com`; its organisation must be in the network file.
    pub(crate) name: String,
    /// MSP folder with `signcerts` and `keystore`, as `cryptogen` or `fabric-ca-client` wrote it.
    #[arg(long, value_name = "DIR")]
    pub(crate) msp: PathBuf,
    /// Folder with the user's TLS certificate and key (client.crt and client.key, or server.crt and server.key).
    #[arg(long, value_name = "DIR")]
    pub(crate) tls: Option<PathBuf>,
    /// Replace a user of that name.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// A user, for example `User1@org1.example.com`, or the domain of an organisation, for example `org1.example.com`.
    pub(crate) what: String,
    /// Folder to write; must not exist.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Of an organisation: everything, private keys of its authority, nodes and users included; without it only what may be
    /// shown to everybody.
    #[arg(long)]
    pub(crate) with_keys: bool,
}
