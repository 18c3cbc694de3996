//! `selvedge ca …`, and an organisation's certificate authority as its administrator uses it.

use std::path::{Path, PathBuf};

use selvedge_msp::{Certificate, PrivateKey};
use selvedge_sdk::{CaClient, ClientIdentity, ClientTls, EnrollRequest, Enrollment};

use crate::args::CaCommand;
use crate::error::{CliError, During};
use crate::network::crypto::now;
use crate::network::nodes::tls_authority;
use crate::session::{OrgRef, Session};
use crate::{revocation, roles, rotation};

/// Runs a `selvedge ca` command.
pub(crate) async fn run(command: CaCommand) -> Result<(), CliError> {
    match command {
        CaCommand::Start(args) => roles::ca(args).await,
        CaCommand::Revoke(args) => revocation::revoke(&args).await,
        CaCommand::PublishCrl(args) => revocation::publish(&args).await,
        CaCommand::Rotate(args) => rotation::run(&args).await,
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
        let org = session.org(domain)?;
        let name = org.ca.map(|ca| ca.name.clone());
        let issuer = org.layout.ca_certificate();
        Self::named(session, &org, name, ("registrar", "admin.secret", issuer)).await
    }

    /// The authority that issues the organisation's TLS certificates.
    pub(crate) async fn open_tls(session: &Session, domain: &str) -> Result<Self, CliError> {
        let org = session.org(domain)?;
        let name = org.ca.map(tls_authority);
        let issuer = org.layout.tls_ca_certificate();
        Self::named(session, &org, name, ("tls-registrar", "tls-admin.secret", issuer)).await
    }

    async fn named(
        session: &Session,
        org: &OrgRef<'_>,
        name: Option<String>,
        administrator: (&str, &str, PathBuf),
    ) -> Result<Self, CliError> {
        let (Some(name), Some(url)) = (name, org.ca_url()) else {
            return Err(CliError::said(format!(
                "organisation {} has no certificate authority in the network file",
                org.name
            )));
        };
        let tls_roots = org.layout.tls_ca_certificate();
        let tls = ClientTls {
            roots: vec![read(&tls_roots)?],
            ..ClientTls::default()
        };
        let client = CaClient::new(&url, Some(name.clone()), tls);
        Ok(Self {
            registrar: registrar(session, org, administrator, &client).await?,
            client,
            url,
            name,
            tls_roots,
        })
    }
}

/// The authority's bootstrap administrator, enrolled on first use and again when its certificate is about to end; its key
/// stays in the network's folder.
async fn registrar(
    session: &Session,
    org: &OrgRef<'_>,
    (folder, secret, issuer): (&str, &str, PathBuf),
    client: &CaClient,
) -> Result<ClientIdentity, CliError> {
    const ABOUT_TO_END: i64 = 24 * 60 * 60;
    let node = session.layout.node(&org.ca_host());
    let msp = node.root().join(folder).join("msp");
    let read_it = || {
        ClientIdentity::from_msp_dir(org.msp_id, &msp)
            .during(|| format!("cannot act as the administrator of {}", node.root().display()))
    };
    if msp.join("config.yaml").exists() {
        let identity = read_it()?;
        let present = identity.certificate();
        // A new root takes over from the one that issued it.
        let issuer = Certificate::from_pem(&read(&issuer)?)
            .during(|| format!("the authority's certificate {}", issuer.display()))?;
        let by_another = !present.is_signed_by(&issuer);
        if present.not_after() > now().saturating_add(ABOUT_TO_END) && !by_another {
            return Ok(identity);
        }
    }
    let secret_file = node.root().join(secret);
    let secret = String::from_utf8_lossy(&read(&secret_file)?).trim().to_owned();
    let key = PrivateKey::generate().during(|| "cannot make a private key".to_owned())?;
    enroll_into(client, "admin", &secret, key, &msp).await?;
    read_it()
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
