//! `selvedge ca …`, and an organisation's certificate authority as its administrator uses it.

use std::path::{Path, PathBuf};

use selvedge_msp::{Certificate, PrivateKey};
use selvedge_sdk::{CaClient, ClientIdentity, ClientTls, EnrollRequest, Enrollment, Revocation};

use crate::args::{CaCommand, RevokeArgs};
use crate::error::{CliError, During};
use crate::network::config::external;
use crate::roles;
use crate::session::Session;

/// Runs a `selvedge ca` command.
pub(crate) async fn run(command: CaCommand) -> Result<(), CliError> {
    match command {
        CaCommand::Start(args) => roles::ca(args).await,
        CaCommand::Revoke(args) => revoke(&args).await,
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

/// The authority of an organisation whose administrator works on this machine.
pub(crate) struct OrgAuthority {
    pub(crate) client: CaClient,
    pub(crate) registrar: ClientIdentity,
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) tls_roots: PathBuf,
}

impl OrgAuthority {
    /// Finds the authority in the network's folder; its administrator enrols on first use.
    pub(crate) async fn open(session: &Session, domain: &str) -> Result<Self, CliError> {
        let org = session.peer_org(domain)?;
        let ca = org.ca.as_ref().ok_or_else(|| {
            CliError::said(format!(
                "organisation {} has no certificate authority in the network file",
                org.name
            ))
        })?;
        let url = format!("https://{}", external(ca.external_address.as_deref(), &ca.listen));
        let tls_roots = session.layout.peer_org(&org.domain).tls_ca_certificate();
        let tls = ClientTls {
            roots: vec![read(&tls_roots)?],
            ..ClientTls::default()
        };
        let client = CaClient::new(&url, Some(ca.name.clone()), tls);
        Ok(Self {
            registrar: registrar(session, &org.domain, &org.msp_id, &client).await?,
            client,
            url,
            name: ca.name.clone(),
            tls_roots,
        })
    }
}

/// The authority's bootstrap administrator, enrolled on first use; its key stays in the network's folder.
async fn registrar(
    session: &Session,
    domain: &str,
    msp_id: &str,
    client: &CaClient,
) -> Result<ClientIdentity, CliError> {
    let node = session.layout.node(&format!("ca.{domain}"));
    let msp = node.root().join("registrar/msp");
    if !msp.join("config.yaml").exists() {
        let secret_file = node.root().join("admin.secret");
        let secret = String::from_utf8_lossy(&read(&secret_file)?).trim().to_owned();
        let key = PrivateKey::generate().during(|| "cannot make a private key".to_owned())?;
        enroll_into(client, "admin", &secret, key, &msp).await?;
    }
    ClientIdentity::from_msp_dir(msp_id, &msp)
        .during(|| format!("cannot act as the administrator of {}", node.root().display()))
}

/// Enrols with a key and writes the MSP folder.
pub(crate) async fn enroll_into(
    client: &CaClient,
    id: &str,
    secret: &str,
    key: PrivateKey,
    msp: &Path,
) -> Result<(), CliError> {
    let enrolled = client
        .enroll(id, secret, &EnrollRequest::default(), &key)
        .await
        .during(|| format!("cannot enrol {id}"))?;
    write_msp(msp, &enrolled, key)
}

/// Writes the MSP folder of somebody who has enrolled.
pub(crate) fn write_msp(msp: &Path, enrolled: &Enrollment, key: PrivateKey) -> Result<(), CliError> {
    enrolled
        .write_msp_dir(msp, key)
        .during(|| format!("cannot write the MSP folder {}", msp.display()))
}

async fn revoke(args: &RevokeArgs) -> Result<(), CliError> {
    let revocation = match (&args.certificate, &args.id) {
        (Some(file), _) => {
            let certificate = Certificate::from_pem(&read(file)?)
                .during(|| format!("{} holds no certificate", file.display()))?;
            Revocation::Certificate {
                serial: hex::encode(certificate.serial()),
                aki: hex::encode(certificate.authority_key_id().unwrap_or_default()),
            }
        }
        (None, id) => Revocation::Identity {
            id: id.clone().unwrap_or_default(),
        },
    };
    let session = Session::open(&args.network.network)?;
    let authority = OrgAuthority::open(&session, &args.org).await?;
    let revoked = authority
        .client
        .revoke(
            &authority.registrar,
            &revocation,
            &args.reason,
            args.crl.is_some(),
        )
        .await
        .during(|| "nothing was revoked".to_owned())?;
    for (serial, _) in &revoked.certificates {
        println!("revoked certificate {serial}");
    }
    if revoked.certificates.is_empty() {
        println!(
            "there was no certificate to revoke, so the revocation list is as it was; the authority refuses the identity from now on"
        );
    }
    if let (Some(file), Some(crl)) = (&args.crl, &revoked.crl_pem) {
        std::fs::write(file, crl).map_err(|source| CliError::WriteFile {
            path: file.clone(),
            source,
        })?;
        println!("the authority's revocation list is in {}", file.display());
    }
    Ok(())
}
