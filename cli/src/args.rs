//! The commands and their arguments.

mod api;
mod authority;
mod certify;
mod channel;
mod health;
mod lifecycle;
mod shipment;
mod tender;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use api::{ApiCommand, InitArgs, LoginArgs};
pub(crate) use authority::{
    AuthorityArgs, CaCommand, DeviceCommand, EnrollArgs, KeyArgs, PublishCrlArgs, ReenrollArgs, RegisterArgs,
    RevokeArgs, RotateArgs,
};
pub(crate) use certify::{
    CertifierArgs, CertifyCheckArgs, CertifyCommand, CertifyCsvArgs, CertifyFileArgs, ColumnsArgs,
};
pub(crate) use channel::{
    AddConsenterArgs, AddOrgArgs, ChannelArg, ChannelCommand, ChannelsArgs, ConfigArgs, ConsenterArgs,
    CreateArgs, FetchArgs, ListArgs, LookArgs, NodeArgs, RemoveOrgArgs, SetAnchorArgs, SignArgs, SubmitArgs,
    UpdateArgs,
};
pub(crate) use health::{DoctorArgs, ExportArgs, IdentityCommand, ImportArgs, ShowArgs};
pub(crate) use lifecycle::{AgreeArgs, ApproveArgs, DefinitionArgs, DeployArgs, InstallArgs, PackageArgs};
pub(crate) use shipment::{EpcisArgs, ShipmentCommand, ShipmentExportArgs, ShipmentImportArgs};
pub(crate) use tender::{RevealArgs, SealArgs, TenderCommand};

/// Selvedge: a consortium ledger that speaks Hyperledger Fabric's protocol.
#[derive(Debug, Parser)]
#[command(name = "selvedge", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Write log lines as JSON. What is logged is set by SELVEDGE_LOG (for example `info,selvedge_peer=debug`).
    #[arg(long, global = true)]
    pub(crate) json_log: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring a whole network up or down from one file.
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Run an orderer.
    #[command(subcommand)]
    Orderer(RoleCommand),
    /// Run a peer.
    #[command(subcommand)]
    Peer(RoleCommand),
    /// Run a certificate authority, or revoke what it has issued.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Run the edge gateway, or feed it.
    #[command(subcommand)]
    Edge(EdgeCommand),
    /// The platform's REST interface and its web page: set up, run, sign in.
    #[command(subcommand)]
    Api(ApiCommand),
    /// Create channels, look at them, change their configuration.
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// Package, deploy, invoke and query contracts.
    #[command(subcommand)]
    Chaincode(ChaincodeCommand),
    /// Register and enrol devices.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Certify records by their hashes, and check them against every peer.
    #[command(subcommand)]
    Certify(CertifyCommand),
    /// Shipments as EPCIS 2.0 events, out and in.
    #[command(subcommand)]
    Shipment(ShipmentCommand),
    /// Seal an offer for a tender, and reveal it.
    #[command(subcommand)]
    Tender(TenderCommand),
    /// Look at identities, and exchange their folders with other Fabric tools.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Check the whole network: who answers, who is behind, whose clock is wrong, and what ends soon.
    Doctor(DoctorArgs),
    /// The story of a transaction: where it is, who did what with it, and what became of it and why.
    Explain(ExplainArgs),
    /// Look at chains without a network.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// The main story end to end: negotiate, ship, measure, lose the network, lose nothing.
    Demo(DemoArgs),
}

impl Command {
    /// Whether the command runs a node until it is stopped.
    pub(crate) fn is_role(&self) -> bool {
        if let Command::Edge(EdgeCommand::Gateway(command)) = self {
            return command.is_role();
        }
        matches!(
            self,
            Command::Orderer(_)
                | Command::Peer(_)
                | Command::Ca(CaCommand::Start(_))
                | Command::Api(ApiCommand::Start(_))
                | Command::Network(NetworkCommand::Run(_))
        )
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Run until SIGTERM or SIGINT.
    Start(ConfigArg),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArg {
    /// The role's configuration file (YAML).
    #[arg(short, long)]
    pub(crate) config: PathBuf,
}

/// Which network a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct NetworkArg {
    /// Folder of the network, as `network up` made it.
    #[arg(
        long,
        env = "SELVEDGE_NETWORK",
        default_value = "selvedge-data/consortium",
        global = true
    )]
    pub(crate) network: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Create what is missing (keys, certificates, genesis blocks) and start every node.
    Up(UpArgs),
    /// Stop every node; what they stored stays.
    Down(DownArgs),
    /// Renew certificates of users, and of nodes whose organisation has no certificate authority that runs.
    Renew(RenewArgs),
    /// Which nodes run, with their memory, and how high their chains are.
    Status(NetworkArg),
    /// The last lines of a node's log.
    Logs(LogsArgs),
    /// Run all nodes in this process; `up` starts it for `processes: one-process`.
    Run(NetworkArg),
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The network file.
    #[arg(short, long)]
    pub(crate) file: PathBuf,
    /// Folder for keys, data and logs; `selvedge-data/<name>` if absent.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Folder that `{contracts}` in the network file stands for; beside the binary if absent.
    #[arg(long, env = "SELVEDGE_CONTRACTS")]
    pub(crate) contracts: Option<PathBuf>,
    /// Do not deploy the contracts that the file lists.
    #[arg(long)]
    pub(crate) no_chaincode: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Domain of one organisation; all if absent.
    #[arg(long)]
    pub(crate) org: Option<String>,
    /// Also what is not due yet.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Delete the network's folder afterwards: keys, chains and all.
    #[arg(long)]
    pub(crate) delete: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Node, for example `peer0.org1.example.com`; all if absent.
    pub(crate) node: Option<String>,
    /// Lines from the end.
    #[arg(short = 'n', long, default_value_t = 40)]
    pub(crate) lines: usize,
}

/// On whose behalf and where a contract is called.
#[derive(Debug, Clone, Args)]
pub(crate) struct CallerArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Identity, for example `User1@org1.example.com`.
    #[arg(
        long = "as",
        value_name = "USER@DOMAIN",
        default_value = "User1@org1.example.com"
    )]
    pub(crate) identity: String,
    /// Channel.
    #[arg(short = 'C', long, default_value = "trade")]
    pub(crate) channel: String,
    /// Peer to talk to, for example `peer0.org2.example.com`; the identity's own organisation's first if absent.
    #[arg(long)]
    pub(crate) peer: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChaincodeCommand {
    /// Package, install, approve and commit a contract on every organisation of a channel.
    Deploy(DeployArgs),
    /// Make a Fabric chaincode package from a wasm module.
    Package(PackageArgs),
    /// Install a package on the peers of an organisation.
    Install(InstallArgs),
    /// Approve a definition for an organisation.
    Approve(ApproveArgs),
    /// Which organisations have approved a definition, and what keeps the others.
    Readiness(AgreeArgs),
    /// Commit a definition that enough organisations have approved.
    Commit(AgreeArgs),
    /// Committed definitions of a channel and packages installed on the peer.
    List(CallerArgs),
    /// Submit a transaction and wait for its commit.
    Invoke(InvokeArgs),
    /// Ask without a transaction.
    Query(InvokeArgs),
    /// Print a contract's events as they come.
    Events(EventsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Id of the transaction.
    pub(crate) transaction: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InvokeArgs {
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Chaincode name.
    #[arg(short, long)]
    pub(crate) name: String,
    /// Function.
    pub(crate) function: String,
    /// Arguments, usually one JSON document.
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Chaincode name.
    #[arg(short, long)]
    pub(crate) name: String,
    /// First block to look at; new ones only if absent.
    #[arg(long)]
    pub(crate) from: Option<u64>,
    /// End after so many events.
    #[arg(long)]
    pub(crate) count: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EdgeCommand {
    #[command(flatten)]
    Gateway(selvedge_edge::EdgeCommand),
    /// Send a tracker's CSV file to a running edge gateway, row by row.
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Address of the edge gateway's REST interface.
    #[arg(long, default_value = "http://127.0.0.1:8600")]
    pub(crate) edge: String,
    /// The tracker's file.
    #[arg(long)]
    pub(crate) csv: PathBuf,
    /// Channel.
    #[arg(short = 'C', long, default_value = "trade")]
    pub(crate) channel: String,
    /// Shipment that the readings belong to.
    #[arg(long)]
    pub(crate) shipment: String,
    /// Name of the stream within the device.
    #[arg(long, default_value = "tracker")]
    pub(crate) stream: String,
    /// Rows to send at most.
    #[arg(long)]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Judge a folder of blocks (000.block, 001.block …) as a peer would, and print the verdicts as JSON.
    Replay(LedgerReplayArgs),
    /// Audit whole chains: hashes, orderers' and transactions' signatures, verdicts, commit hashes.
    Verify(LedgerVerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LedgerVerifyArgs {
    /// Data folder of a peer or an orderer (running or not), a folder of its block files, or one of exported blocks
    /// (000.block, 001.block …).
    #[arg(long)]
    pub(crate) ledger: PathBuf,
    /// The genesis block that is trusted; without it the one in the files is believed, and its hash is printed.
    #[arg(long)]
    pub(crate) genesis: Option<PathBuf>,
    /// Folder for the scratch ledger, which grows as large as the chain; the system's temporary folder if absent.
    #[arg(long)]
    pub(crate) work: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LedgerReplayArgs {
    /// Folder of blocks; the first is the genesis block.
    #[arg(long)]
    pub(crate) blocks: PathBuf,
    /// File for the final state as JSON.
    #[arg(long)]
    pub(crate) state_out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The network file.
    #[arg(short, long, default_value = "network-configs/consortium.yaml")]
    pub(crate) file: PathBuf,
    /// Folder of the contracts' wasm modules.
    #[arg(long, env = "SELVEDGE_CONTRACTS")]
    pub(crate) contracts: Option<PathBuf>,
    /// A container's journey as CSV.
    #[arg(long, default_value = "network-configs/journeys/small.csv")]
    pub(crate) data: PathBuf,
    /// Folder for the demo's network; a fresh one under the system's temporary folder if absent.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Leave the network running at the end, with the page of each company open.
    #[arg(long)]
    pub(crate) keep: bool,
}
