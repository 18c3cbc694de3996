//! Arguments of the lifecycle part of `selvedge chaincode`.

use std::path::PathBuf;

use clap::Args;

use super::NetworkArg;

/// A definition, as the organisations of a channel agree on it.
#[derive(Debug, Clone, Args)]
pub(crate) struct DefinitionArgs {
    /// Chaincode name.
    #[arg(short, long)]
    pub(crate) name: String,
    /// Version.
    #[arg(long, default_value = "1.0")]
    pub(crate) version: String,
    /// Sequence; the next one if absent.
    #[arg(long)]
    pub(crate) sequence: Option<i64>,
    /// Endorsement policy, for example `OR('Org1MSP.peer','Org2MSP.peer')`, or the path of a policy of the channel,
    /// for example `/Channel/Application/Endorsement`; the channel's default if absent.
    #[arg(long)]
    pub(crate) policy: Option<String>,
    /// Collections of private data, a JSON file as Fabric's tools read it.
    #[arg(long, value_name = "FILE")]
    pub(crate) collections: Option<PathBuf>,
    /// The chaincode must be initialised before use.
    #[arg(long)]
    pub(crate) init_required: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Channel.
    #[arg(short = 'C', long, default_value = "trade")]
    pub(crate) channel: String,
    #[command(flatten)]
    pub(crate) definition: DefinitionArgs,
    /// The module.
    #[arg(long)]
    pub(crate) wasm: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PackageArgs {
    /// The module.
    #[arg(long)]
    pub(crate) wasm: PathBuf,
    /// Label of the package.
    #[arg(long)]
    pub(crate) label: String,
    /// The package file to write.
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Administrator of the organisation on whose peers the package is installed.
    #[arg(
        long = "as",
        value_name = "USER@DOMAIN",
        default_value = "Admin@org1.example.com"
    )]
    pub(crate) identity: String,
    /// One peer; all peers of the organisation if absent.
    #[arg(long)]
    pub(crate) peer: Option<String>,
    /// Refuse a package whose id is another one than this, for example the one that the others approved.
    #[arg(long, value_name = "LABEL:HASH")]
    pub(crate) expect: Option<String>,
    /// The package, as `chaincode package` or Fabric's `peer lifecycle chaincode package` made it.
    pub(crate) package: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Administrator of the organisation that approves.
    #[arg(
        long = "as",
        value_name = "USER@DOMAIN",
        default_value = "Admin@org1.example.com"
    )]
    pub(crate) identity: String,
    /// Channel.
    #[arg(short = 'C', long, default_value = "trade")]
    pub(crate) channel: String,
    #[command(flatten)]
    pub(crate) definition: DefinitionArgs,
    /// Package that the organisation's peers run; if absent, the one with the label `<name>_<version>`.
    #[arg(long, value_name = "LABEL:HASH")]
    pub(crate) package_id: Option<String>,
    /// The organisation's peers do not run the chaincode, but accept what others endorse.
    #[arg(long, conflicts_with = "package_id")]
    pub(crate) no_package: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AgreeArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Who asks.
    #[arg(
        long = "as",
        value_name = "USER@DOMAIN",
        default_value = "Admin@org1.example.com"
    )]
    pub(crate) identity: String,
    /// Channel.
    #[arg(short = 'C', long, default_value = "trade")]
    pub(crate) channel: String,
    #[command(flatten)]
    pub(crate) definition: DefinitionArgs,
}
