//! Arguments of `selvedge api`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigArg, NetworkArg};

#[derive(Debug, Subcommand)]
pub(crate) enum ApiCommand {
    /// Write the configuration of an organisation's REST interface from the network's folder.
    Init(InitArgs),
    /// Run the REST interface until SIGTERM or SIGINT.
    Start(ConfigArg),
    /// Sign in with an identity of this machine; prints a link for the browser, or a token for programs.
    Login(LoginArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Domain of the organisation, for example `org1.example.com`.
    #[arg(long)]
    pub(crate) org: String,
    /// Address to listen on. On any other than loopback it serves with TLS.
    #[arg(long, default_value = "127.0.0.1:8700")]
    pub(crate) listen: String,
    /// Serve with TLS on loopback too; people can then sign in by client certificate.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Edge gateways whose buffers the overview shows, as NAME=URL.
    #[arg(long = "gateway", value_name = "NAME=URL")]
    pub(crate) gateways: Vec<String>,
    /// User whose identity visitors read the public view with; without it, visitors see nothing.
    #[arg(long, value_name = "USER")]
    pub(crate) visitor: Option<String>,
    /// Folder for the configuration and the server's data; `api/<domain>` in the network's folder if absent.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Address of the REST interface.
    #[arg(long, default_value = "http://localhost:8700")]
    pub(crate) api: String,
    /// Identity in the network's folder, for example `User1@org1.example.com`.
    #[arg(
        long = "as",
        value_name = "USER@DOMAIN",
        default_value = "User1@org1.example.com"
    )]
    pub(crate) identity: String,
    /// MSP folder of the identity, where there is no network's folder on this machine; with --msp-id.
    #[arg(long, requires = "msp_id")]
    pub(crate) msp: Option<PathBuf>,
    /// Organisation of --msp.
    #[arg(long)]
    pub(crate) msp_id: Option<String>,
    /// PEM file with the roots of the server's TLS certificate; those of the identity's organisation if absent.
    #[arg(long)]
    pub(crate) tls_roots: Option<PathBuf>,
    /// Print a token for the header `Authorization: Bearer` instead of a link.
    #[arg(long)]
    pub(crate) token: bool,
}
