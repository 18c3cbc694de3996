//! Arguments of `selvedge channel`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::NetworkArg;

/// On which channel, and as whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChannelArg {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Channel.
    #[arg(short = 'C', long, default_value = "trade")]
    pub(crate) channel: String,
}

/// Who reads.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReaderArg {
    /// Identity, for example `Admin@org1.example.com`; if absent, the first administrator in the network's folder who may read it.
    #[arg(long = "as", value_name = "USER@DOMAIN")]
    pub(crate) identity: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Channels, with their members and nodes.
    List(ListArgs),
    /// One channel: members, consenters, batches, and which node has how much of it.
    Info(LookArgs),
    /// Write a block of a channel to a file.
    Fetch(FetchArgs),
    /// Print the configuration as YAML.
    Config(ConfigArgs),
    /// Create a channel out of organisations of the network, and let their nodes join it.
    Create(CreateArgs),
    /// Let a peer or an orderer join a channel.
    Join(NodeArgs),
    /// Let a peer or an orderer leave a channel; its copy of the chain is deleted.
    Leave(NodeArgs),
    /// Change settings: batch.timeout, batch.max-messages, state, capabilities.channel, acl.<RESOURCE> …
    Set(SetArgs),
    /// Set a policy by its path.
    SetPolicy(SetPolicyArgs),
    /// Set the anchor peers of an organisation.
    SetAnchor(SetAnchorArgs),
    /// Admit an organisation.
    AddOrg(AddOrgArgs),
    /// Exclude an organisation.
    RemoveOrg(RemoveOrgArgs),
    /// Admit an orderer to the consenters.
    AddConsenter(AddConsenterArgs),
    /// Take an orderer out of the consenters.
    RemoveConsenter(ConsenterArgs),
    /// Replace the TLS certificate of a consenter by the one that now lies in the network's folder.
    RenewConsenter(AddConsenterArgs),
    /// Show an update that others have begun, and add a signature to it.
    Sign(SignArgs),
    /// Show an update, and give it to the orderers.
    Submit(SubmitArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    #[command(flatten)]
    pub(crate) reader: ReaderArg,
}

#[derive(Debug, Args)]
pub(crate) struct LookArgs {
    #[command(flatten)]
    pub(crate) channel: ChannelArg,
    #[command(flatten)]
    pub(crate) reader: ReaderArg,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    #[command(flatten)]
    pub(crate) channel: ChannelArg,
    #[command(flatten)]
    pub(crate) reader: ReaderArg,
    /// Which block: a number, `oldest`, `newest`, or `config` for the one with the current configuration.
    #[arg(default_value = "config")]
    pub(crate) block: String,
    /// The file; `<channel>_<block>.block` if absent.
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) channel: ChannelArg,
    #[command(flatten)]
    pub(crate) reader: ReaderArg,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Id of the new channel: lower-case letters, digits, dots and dashes.
    pub(crate) name: String,
    /// Peer organisations of the network in it; all if absent.
    #[arg(long, value_delimiter = ',', value_name = "ORG,ORG")]
    pub(crate) orgs: Option<Vec<String>>,
    /// How long a transaction waits for company at most.
    #[arg(long, default_value = "2s")]
    pub(crate) batch_timeout: String,
    /// Transactions in a block at most.
    #[arg(long, default_value_t = 500)]
    pub(crate) max_messages: u32,
    /// Write the genesis block only: no node joins.
    #[arg(long)]
    pub(crate) no_join: bool,
    /// Say what the channel would be and who would join it, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    pub(crate) channel: ChannelArg,
    /// The node, for example `peer0.org3.example.com`.
    pub(crate) node: String,
    /// Say what would happen, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How a configuration update is made, signed and given away.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) channel: ChannelArg,
    /// Who signs, for example `Admin@org1.example.com`; may be given several times. If absent, those administrators in
    /// the network's folder whose signatures the update needs.
    #[arg(long = "as", value_name = "USER@DOMAIN")]
    pub(crate) signers: Vec<String>,
    /// Show the difference and who would sign, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write the signed update to a file for others to sign (`channel sign`), instead of submitting it.
    #[arg(short, long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) out: Option<PathBuf>,
}

/// Which channels a change of an organisation is for, and who signs it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChannelsArgs {
    /// Channels, separated by commas; all that the organisation is in if absent.
    #[arg(
        short = 'C',
        long = "channel",
        value_delimiter = ',',
        value_name = "CHANNEL,CHANNEL"
    )]
    pub(crate) channels: Option<Vec<String>>,
    /// Who signs, for example `Admin@org1.example.com`; may be given several times. If absent, those administrators in
    /// the network's folder whose signatures the update needs.
    #[arg(long = "as", value_name = "USER@DOMAIN")]
    pub(crate) signers: Vec<String>,
    /// Show the differences and who would sign, and change no channel.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write the signed updates into this folder, a file a channel, for others to sign (`channel sign`), instead of
    /// submitting them.
    #[arg(short, long, value_name = "DIR", conflicts_with = "dry_run")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    pub(crate) update: UpdateArgs,
    /// Settings, for example `batch.timeout=200ms batch.max-messages=1000`.
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SetPolicyArgs {
    #[command(flatten)]
    pub(crate) update: UpdateArgs,
    /// Path of the policy, for example `/Channel/Application/Endorsement`.
    pub(crate) path: String,
    /// `ANY|ALL|MAJORITY <sub-policy>`, or a signature policy such as `OR('Org1MSP.admin','Org2MSP.admin')`.
    pub(crate) rule: String,
}

#[derive(Debug, Args)]
pub(crate) struct SetAnchorArgs {
    #[command(flatten)]
    pub(crate) update: UpdateArgs,
    /// Name of the organisation.
    #[arg(long)]
    pub(crate) org: String,
    /// Addresses, `host:port`; none: the organisation has no anchor peers any more.
    pub(crate) anchors: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AddOrgArgs {
    #[command(flatten)]
    pub(crate) update: UpdateArgs,
    /// Name of the organisation; with `--msp` it may be one that the network file does not know.
    pub(crate) name: String,
    /// Its MSP folder (`cacerts`, `tlscacerts`, `config.yaml`), if it is not in the network's folder.
    #[arg(long, requires = "msp_id")]
    pub(crate) msp: Option<PathBuf>,
    /// Its MSP id, with `--msp`.
    #[arg(long)]
    pub(crate) msp_id: Option<String>,
    /// Addresses of its anchor peers, with `--msp`.
    #[arg(long = "anchor", value_name = "HOST:PORT")]
    pub(crate) anchors: Vec<String>,
    /// It runs orderers, not peers.
    #[arg(long)]
    pub(crate) orderer: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveOrgArgs {
    #[command(flatten)]
    pub(crate) update: UpdateArgs,
    /// Name of the organisation.
    pub(crate) name: String,
    /// It runs orderers, not peers.
    #[arg(long)]
    pub(crate) orderer: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AddConsenterArgs {
    #[command(flatten)]
    pub(crate) update: UpdateArgs,
    /// The orderer, for example `orderer3.example.com`; with `--certificate` its address `host:port`.
    pub(crate) orderer: String,
    /// PEM file of its TLS certificate, for an orderer that is not in the network file.
    #[arg(long)]
    pub(crate) certificate: Option<PathBuf>,
    /// Name of its organisation, with `--certificate`.
    #[arg(long)]
    pub(crate) org: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConsenterArgs {
    #[command(flatten)]
    pub(crate) update: UpdateArgs,
    /// The orderer, for example `orderer2.example.com`, or its address `host:port`.
    pub(crate) orderer: String,
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// The update, as `--out` or an earlier `sign` wrote it.
    pub(crate) file: PathBuf,
    /// Who signs, for example `Admin@org2.example.com`.
    #[arg(long = "as", value_name = "USER@DOMAIN")]
    pub(crate) identity: String,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// The update, as `--out` or `sign` wrote it.
    pub(crate) file: PathBuf,
    /// Who gives it to the orderers; its signature is not added to those in the file.
    #[arg(long = "as", value_name = "USER@DOMAIN")]
    pub(crate) identity: Option<String>,
}
