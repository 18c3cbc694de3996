//! Arguments of `selvedge ca` and `selvedge device`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigArg, NetworkArg};

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Run until SIGTERM or SIGINT.
    Start(ConfigArg),
    /// Revoke an identity with all its certificates, or one certificate.
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Domain of the organisation, for example `org1.example.com`.
    #[arg(long)]
    pub(crate) org: String,
    /// Name of the identity.
    #[arg(required_unless_present = "certificate", conflicts_with = "certificate")]
    pub(crate) id: Option<String>,
    /// PEM file of the one certificate to revoke; its holder stays.
    #[arg(long)]
    pub(crate) certificate: Option<PathBuf>,
    /// Why: unspecified, keycompromise, affiliationchange, superseded, cessationofoperation or privilegewithdrawn.
    #[arg(long, default_value = "unspecified")]
    pub(crate) reason: String,
    /// File for the authority's new revocation list (PEM).
    #[arg(long)]
    pub(crate) crl: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Register a device with its organisation's certificate authority; prints its one-time secret.
    Register(RegisterArgs),
    /// Make a key on this machine and get a certificate for it.
    Enroll(EnrollArgs),
    /// Get a new certificate for the key that is there; the present certificate proves who asks.
    Reenroll(ReenrollArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Domain of the organisation, for example `org1.example.com`.
    #[arg(long)]
    pub(crate) org: String,
    /// Name of the device.
    pub(crate) id: String,
    /// Further certificate attributes, `name=value`.
    #[arg(long = "attribute", value_name = "NAME=VALUE")]
    pub(crate) attributes: Vec<String>,
}

/// Where the certificate authority is.
#[derive(Debug, Args)]
pub(crate) struct AuthorityArgs {
    /// The certificate authority, for example `https://localhost:7054`.
    #[arg(long)]
    pub(crate) ca_url: String,
    /// Name of the authority at that address.
    #[arg(long)]
    pub(crate) ca_name: Option<String>,
    /// PEM file with the root of the authority's TLS certificate.
    #[arg(long)]
    pub(crate) tls_roots: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    #[command(flatten)]
    pub(crate) authority: AuthorityArgs,
    /// Name of the device.
    #[arg(long)]
    pub(crate) id: String,
    /// The one-time secret; from SELVEDGE_SECRET, so that it does not show in the process list.
    #[arg(long, env = "SELVEDGE_SECRET", hide_env_values = true)]
    pub(crate) secret: String,
    /// Folder for the device's MSP (certificate and key).
    #[arg(long)]
    pub(crate) msp: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ReenrollArgs {
    #[command(flatten)]
    pub(crate) authority: AuthorityArgs,
    /// Folder of the device's MSP (certificate and key).
    #[arg(long)]
    pub(crate) msp: PathBuf,
}
