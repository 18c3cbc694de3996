//! `selvedge device …`: give machines an identity of their own.

use std::path::Path;

use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_msp::{Certificate, PrivateKey};
use selvedge_sdk::{CaClient, ClientTls, EnrollRequest, Registration, RegistrationAttribute};

use crate::args::{DeviceCommand, EnrollArgs, RegisterArgs};
use crate::error::{CliError, During};
use crate::network::config::external;
use crate::session::Session;

/// The certificate attribute that contracts recognise a device by.
const DEVICE_ATTRIBUTE: &str = "selvedge.device";

/// Runs a `selvedge device` command.
pub(crate) async fn run(command: DeviceCommand) -> Result<(), CliError> {
    match command {
        DeviceCommand::Register(args) => register(&args).await,
        DeviceCommand::Enroll(args) => enroll(&args).await,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

async fn register(args: &RegisterArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let org = session.peer_org(&args.org)?;
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

    let registrar = registrar(&session, &org.domain, &org.msp_id, &client).await?;
    let mut attributes = vec![RegistrationAttribute {
        name: DEVICE_ATTRIBUTE.to_owned(),
        value: "true".to_owned(),
        ecert: true,
    }];
    for text in &args.attributes {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            CliError::said(format!(
                "'{text}' is not an attribute; write NAME=VALUE, for example hall=7"
            ))
        })?;
        attributes.push(RegistrationAttribute {
            name: name.to_owned(),
            value: value.to_owned(),
            ecert: true,
        });
    }
    let registration = Registration {
        id: args.id.clone(),
        kind: "client".to_owned(),
        attributes,
        max_enrollments: 1,
        ..Registration::default()
    };
    let secret = client
        .register(&registrar, &registration)
        .await
        .during(|| format!("cannot register {}", args.id))?;
    println!("{secret}");
    eprintln!("device {} is registered; it enrols with:", args.id);
    eprintln!(
        "  SELVEDGE_SECRET=… selvedge device enroll --ca-url {url} --ca-name {} --tls-roots {} --id {} --msp DIR",
        ca.name,
        tls_roots.display(),
        args.id
    );
    Ok(())
}

/// The authority's bootstrap administrator, enrolled on first use; its key stays in the network's folder.
async fn registrar(
    session: &Session,
    domain: &str,
    msp_id: &str,
    client: &CaClient,
) -> Result<selvedge_sdk::ClientIdentity, CliError> {
    let node = session.layout.node(&format!("ca.{domain}"));
    let msp = node.root().join("registrar/msp");
    if !msp.join("config.yaml").exists() {
        let secret_file = node.root().join("admin.secret");
        let secret = String::from_utf8_lossy(&read(&secret_file)?).trim().to_owned();
        enroll_into(client, "admin", &secret, &msp).await?;
    }
    selvedge_sdk::ClientIdentity::from_msp_dir(msp_id, &msp)
        .during(|| format!("cannot act as the administrator of {}", node.root().display()))
}

async fn enroll_into(client: &CaClient, id: &str, secret: &str, msp: &Path) -> Result<(), CliError> {
    let key = PrivateKey::generate().during(|| "cannot make a private key".to_owned())?;
    let enrolled = client
        .enroll(id, secret, &EnrollRequest::default(), &key)
        .await
        .during(|| format!("cannot enrol {id}"))?;
    let parse = |pem: &str| {
        Certificate::from_pem(pem.as_bytes())
            .during(|| "the authority's answer holds no usable certificate".to_owned())
    };
    let contents = MspDirContents {
        cacerts: vec![("ca.pem".to_owned(), parse(&enrolled.chain_pem)?)],
        signcert: Some(("cert.pem".to_owned(), parse(&enrolled.certificate_pem)?)),
        key: Some(key),
        node_ous: true,
        ..MspDirContents::default()
    };
    write_msp_dir(msp, &contents).during(|| format!("cannot write the MSP folder {}", msp.display()))
}

async fn enroll(args: &EnrollArgs) -> Result<(), CliError> {
    if args.msp.join("signcerts").exists() {
        return Err(CliError::said(format!(
            "{} holds an identity already; name another folder, or remove it if the device shall start anew",
            args.msp.display()
        )));
    }
    let tls = ClientTls {
        roots: vec![read(&args.tls_roots)?],
        ..ClientTls::default()
    };
    let client = CaClient::new(&args.ca_url, args.ca_name.clone(), tls);
    enroll_into(&client, &args.id, &args.secret, &args.msp).await?;
    println!(
        "{} is enrolled; its certificate and key are in {}",
        args.id,
        args.msp.display()
    );
    Ok(())
}
