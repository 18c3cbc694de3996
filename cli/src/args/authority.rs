//! Arguments of `selvedge ca` and `selvedge device`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ChannelsArgs, ConfigArg, NetworkArg};

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Run until SIGTERM or SIGINT.
    Start(ConfigArg),
    /// Revoke an identity with all its certificates, or one certificate, and let the channels of the organisation know.
    Revoke(RevokeArgs),
    /// Put the authority's revocation list into the channels of the organisation (`revoke` does it too).
    PublishCrl(PublishCrlArgs),
    /// Go over to a new root in three steps: make it known, let it issue, retire the old one.
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PublishCrlArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Domain of the organisation, for example `org1.example.com`.
    #[arg(long)]
    pub(crate) org: String,
    #[command(flatten)]
    pub(crate) channels: ChannelsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArg,
    /// Domain of the organisation, for example `org1.example.com`.
    #[arg(long)]
    pub(crate) org: String,
    /// Second step: the new root issues from now on; nodes renew their certificates by themselves.
    #[arg(long, conflicts_with = "retire")]
    pub(crate) switch: bool,
    /// Third step: the old root is taken out of the channels and folders, and what it issued counts no more.
    #[arg(long)]
    pub(crate) retire: bool,
    /// Retire the old root although certificates that it issued are still in use.
    #[arg(long, requires = "retire")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) channels: ChannelsArgs,
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
    /// Revoke at the authority only; `selvedge ca publish-crl` lets the channels know later.
    #[arg(long, conflicts_with_all = ["channels", "out"])]
    pub(crate) no_channels: bool,
    #[command(flatten)]
    pub(crate) channels: ChannelsArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Make a device's key, or look at it: prints the public half, which the registrar needs.
    Key(KeyArgs),
    /// Register a device with its organisation's certificate authority; its one-time secret is sealed to its public key.
    Register(RegisterArgs),
    /// Get a certificate for a device with its one-time secret.
    Enroll(EnrollArgs),
    /// Get a new certificate for the key that is there; the present certificate proves who asks.
    Reenroll(ReenrollArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// File of the private key (PEM), made with mode 0600 if there is none; or a `pkcs11:` URI.
    #[arg(long, value_name = "FILE|URI")]
    pub(crate) key: String,
    /// Make the key in the token that the `pkcs11:` URI names.
    #[arg(long)]
    pub(crate) new: bool,
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
    /// The device's public key (PEM), as `device key` prints it; the one-time secret is sealed to it.
    #[arg(long, value_name = "FILE", required_unless_present = "show_secret")]
    pub(crate) public_key: Option<PathBuf>,
    /// File for the sealed secret; standard output if neither this nor an edge gateway is named.
    #[arg(
        long,
        value_name = "FILE",
        requires = "public_key",
        conflicts_with = "deliver"
    )]
    pub(crate) out: Option<PathBuf>,
    /// Edge gateway that keeps the sealed secret until the device fetches it, for example `http://edge0:8600`.
    #[arg(long, value_name = "URL", requires = "public_key")]
    pub(crate) deliver: Option<String>,
    /// PEM file with the root of the edge gateway's TLS certificate.
    #[arg(long, value_name = "FILE", requires = "deliver")]
    pub(crate) deliver_roots: Option<PathBuf>,
    /// Print the secret itself, for a device that has no key yet. Whoever reads it can enrol in the device's place.
    #[arg(long, conflicts_with = "public_key")]
    pub(crate) show_secret: bool,
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
    /// The certificate authority, for example `https://localhost:7054`; a sealed secret names it itself.
    #[arg(long, required_unless_present_any = ["sealed", "fetch"])]
    pub(crate) ca_url: Option<String>,
    /// Name of the authority at that address; a sealed secret names it itself.
    #[arg(long)]
    pub(crate) ca_name: Option<String>,
    /// PEM file with the root of the authority's TLS certificate. The authority is trusted by it and by nothing else.
    #[arg(long)]
    pub(crate) tls_roots: PathBuf,
    /// Name of the device; a sealed secret names it itself.
    #[arg(long, required_unless_present = "sealed")]
    pub(crate) id: Option<String>,
    /// File with the sealed one-time secret.
    #[arg(long, value_name = "FILE", conflicts_with = "fetch")]
    pub(crate) sealed: Option<PathBuf>,
    /// Edge gateway to fetch the sealed one-time secret from, for example `http://edge0:8600`.
    #[arg(long, value_name = "URL")]
    pub(crate) fetch: Option<String>,
    /// PEM file with the root of the edge gateway's TLS certificate.
    #[arg(long, value_name = "FILE", requires = "fetch")]
    pub(crate) fetch_roots: Option<PathBuf>,
    /// The one-time secret in clear; from SELVEDGE_SECRET, so that it does not show in the process list.
    #[arg(long, env = "SELVEDGE_SECRET", hide_env_values = true)]
    pub(crate) secret: Option<String>,
    /// The key to enrol with: a PEM file or a `pkcs11:` URI. Without it a new key is made.
    #[arg(long, value_name = "FILE|URI")]
    pub(crate) key: Option<String>,
    /// The key that the secret was sealed to, where it is not the one to enrol with: a token does not open.
    #[arg(long, value_name = "FILE")]
    pub(crate) opening_key: Option<PathBuf>,
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
