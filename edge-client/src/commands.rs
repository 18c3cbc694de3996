//! The commands that look after a gateway: the same in `selvedge-edge` and in `selvedge edge`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use selvedge_operations::LogControl;
use selvedge_sdk::{CaClient, ClientTls};
use tokio_util::sync::CancellationToken;

use crate::EdgeError;
use crate::config::EdgeConfig;
use crate::diag::{self, DiagOptions};
use crate::doctor;
use crate::enroll;
use crate::key_commands::{DeviceKeyCommand, hash_password_command};

/// Commands of the gateway.
#[derive(Debug, Subcommand)]
pub enum EdgeCommand {
    /// Run the gateway until SIGTERM or SIGINT.
    Start(StartArgs),
    /// Make a key on this machine and get a certificate for it from the certificate authority.
    Enroll(EnrollArgs),
    /// Get a new certificate for the key that is there; the present certificate proves who asks.
    Reenroll(ReenrollArgs),
    /// Check clock, certificate, disk, buffer and network, and say what to do. Exit status 1 if something failed.
    Doctor(DoctorArgs),
    /// Pack what somebody needs to help (settings, status, metrics, log, doctor) into one file without secrets.
    Diag(DiagArgs),
    /// What the buffer and the uplink of a running gateway do, as JSON.
    Status(StatusArgs),
    /// Keys of devices that send sealed messages.
    #[command(subcommand)]
    DeviceKey(DeviceKeyCommand),
    /// Hash a password (first line of the standard input) for 'devices.sources' of the configuration.
    HashPassword,
    /// Open content that a device sealed for the owner of a key: a reading's `sealed`, in base64 on the standard input.
    OpenSealed(OpenSealedArgs),
}

/// With which key `open-sealed` opens.
#[derive(Debug, Args)]
pub struct OpenSealedArgs {
    /// PEM file with the owner's private key (P-256).
    #[arg(long)]
    pub key: PathBuf,
}

/// Which gateway.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The gateway's configuration file (YAML).
    #[arg(short, long)]
    pub config: PathBuf,
}

/// What `doctor` looks at.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The gateway's configuration file (YAML).
    #[arg(short, long)]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What `diag` packs.
#[derive(Debug, Args)]
pub struct DiagArgs {
    /// The gateway's configuration file (YAML).
    #[arg(short, long)]
    pub config: PathBuf,
    /// File to write (tar.gz); named after the gateway and the time if absent.
    #[arg(short, long)]
    pub out: Option<PathBuf>,
    /// The gateway's log; the journal of the systemd unit if absent.
    #[arg(long)]
    pub log: Option<PathBuf>,
}

/// Which running gateway `status` asks.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Address of its REST interface.
    #[arg(long, default_value = "http://127.0.0.1:8600")]
    pub edge: String,
}

/// Where the certificate authority is.
#[derive(Debug, Args)]
pub struct AuthorityArgs {
    /// The certificate authority, for example `https://ca.org2.example.com:7054`.
    #[arg(long)]
    pub ca_url: String,
    /// Name of the authority at that address.
    #[arg(long)]
    pub ca_name: Option<String>,
    /// PEM file with the root of the authority's TLS certificate.
    #[arg(long)]
    pub tls_roots: PathBuf,
}

/// Who enrols.
#[derive(Debug, Args)]
pub struct EnrollArgs {
    /// Where the certificate authority is.
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// Name of this machine, as it was registered.
    #[arg(long)]
    pub id: String,
    /// The one-time secret; from SELVEDGE_SECRET, so that it does not show in the process list.
    #[arg(long, env = "SELVEDGE_SECRET", hide_env_values = true)]
    pub secret: String,
    /// Folder for certificate and key ('msp_dir' of the configuration).
    #[arg(long)]
    pub msp: PathBuf,
}

/// Who renews.
#[derive(Debug, Args)]
pub struct ReenrollArgs {
    /// Where the certificate authority is.
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// Folder of certificate and key ('msp_dir' of the configuration).
    #[arg(long)]
    pub msp: PathBuf,
}

impl AuthorityArgs {
    fn client(&self) -> Result<CaClient, EdgeError> {
        let roots = std::fs::read(&self.tls_roots).map_err(|source| EdgeError::ReadFile {
            path: self.tls_roots.clone(),
            source,
        })?;
        let tls = ClientTls {
            roots: vec![roots],
            ..ClientTls::default()
        };
        Ok(CaClient::new(&self.ca_url, self.ca_name.clone(), tls))
    }
}

impl EdgeCommand {
    /// The command that runs the gateway of a configuration file.
    pub fn start(config: PathBuf) -> Self {
        Self::Start(StartArgs { config })
    }

    /// Whether it runs until it is stopped, and so should log what it does.
    pub fn is_role(&self) -> bool {
        matches!(self, Self::Start(_))
    }

    /// Runs the command; `stop` ends a running gateway, `log` is what its operations endpoint changes.
    ///
    /// # Errors
    /// A sentence for the person who typed it.
    pub async fn run(self, stop: CancellationToken, log: LogControl) -> Result<(), EdgeError> {
        match self {
            Self::Start(args) => {
                let mut config = EdgeConfig::read(&args.config)?;
                if let Some(operations) = &mut config.operations {
                    operations.log = log;
                }
                crate::run(config, stop.cancelled_owned()).await
            }
            Self::Enroll(args) => {
                let client = args.authority.client()?;
                enroll::enroll(&client, &args.id, &args.secret, &args.msp).await?;
                let place = args.msp.display();
                println!("{} is enrolled; its certificate and key are in {place}", args.id);
                Ok(())
            }
            Self::Reenroll(args) => {
                let client = args.authority.client()?;
                let name = enroll::reenroll(&client, &args.msp).await?;
                println!("{name} has a new certificate in {}", args.msp.display());
                Ok(())
            }
            Self::Doctor(args) => {
                let report = doctor::examine(&args.config).await;
                if args.json {
                    println!("{:#}", report.json());
                } else {
                    print!("{}", report.text());
                }
                match report.failed() {
                    0 => Ok(()),
                    failed => Err(EdgeError::Unwell {
                        failed,
                        checks: report.checks.len(),
                    }),
                }
            }
            Self::Diag(args) => {
                let options = DiagOptions {
                    out: args.out,
                    log: args.log,
                };
                let written = diag::diag(&args.config, &options).await?;
                println!("{}: {}", written.path.display(), written.parts.join(", "));
                if written.blanked > 0 {
                    println!("{} secrets were found in it and blanked", written.blanked);
                }
                Ok(())
            }
            Self::DeviceKey(command) => {
                println!("{}", command.run()?);
                Ok(())
            }
            Self::OpenSealed(args) => {
                use std::io::Write;
                let content = crate::owner::open_standard_input(&args.key)?;
                std::io::stdout()
                    .write_all(&content)
                    .map_err(|e| EdgeError::Config {
                        path: PathBuf::from("the standard output"),
                        why: e.to_string(),
                    })
            }
            Self::HashPassword => {
                println!("{}", hash_password_command()?);
                Ok(())
            }
            Self::Status(args) => {
                println!("{:#}", doctor::status_of(&args.edge).await?);
                Ok(())
            }
        }
    }
}
