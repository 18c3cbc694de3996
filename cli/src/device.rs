//! `selvedge device …`: give machines an identity of their own.

use selvedge_sdk::{CaClient, ClientIdentity, ClientTls, EnrollRequest, Registration, RegistrationAttribute};

use crate::args::{AuthorityArgs, DeviceCommand, EnrollArgs, ReenrollArgs, RegisterArgs};
use crate::authority::{OrgAuthority, enroll_into, read, write_msp};
use crate::error::{CliError, During};
use crate::session::Session;

/// The certificate attribute that contracts recognise a device by.
const DEVICE_ATTRIBUTE: &str = "selvedge.device";

/// Runs a `selvedge device` command.
pub(crate) async fn run(command: DeviceCommand) -> Result<(), CliError> {
    match command {
        DeviceCommand::Register(args) => register(&args).await,
        DeviceCommand::Enroll(args) => enroll(&args).await,
        DeviceCommand::Reenroll(args) => reenroll(&args).await,
    }
}

fn client(args: &AuthorityArgs) -> Result<CaClient, CliError> {
    let tls = ClientTls {
        roots: vec![read(&args.tls_roots)?],
        ..ClientTls::default()
    };
    Ok(CaClient::new(&args.ca_url, args.ca_name.clone(), tls))
}

async fn register(args: &RegisterArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let authority = OrgAuthority::open(&session, &args.org).await?;
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
    let secret = authority
        .client
        .register(&authority.registrar, &registration)
        .await
        .during(|| format!("cannot register {}", args.id))?;
    println!("{secret}");
    eprintln!("device {} is registered; it enrols with:", args.id);
    eprintln!(
        "  SELVEDGE_SECRET=… selvedge device enroll --ca-url {} --ca-name {} --tls-roots {} --id {} --msp DIR",
        authority.url,
        authority.name,
        authority.tls_roots.display(),
        args.id
    );
    Ok(())
}

async fn enroll(args: &EnrollArgs) -> Result<(), CliError> {
    if args.msp.join("signcerts").exists() {
        return Err(CliError::said(format!(
            "{} holds an identity already; name another folder, or remove it if the device shall start anew",
            args.msp.display()
        )));
    }
    let client = client(&args.authority)?;
    enroll_into(&client, &args.id, &args.secret, &args.msp).await?;
    println!(
        "{} is enrolled; its certificate and key are in {}",
        args.id,
        args.msp.display()
    );
    Ok(())
}

async fn reenroll(args: &ReenrollArgs) -> Result<(), CliError> {
    let client = client(&args.authority)?;
    // A token names no MSP; the authority knows its own.
    let identity = ClientIdentity::from_msp_dir("", &args.msp)
        .during(|| format!("cannot read the identity in {}", args.msp.display()))?;
    let name = identity
        .certificate()
        .common_name()
        .unwrap_or("this device")
        .to_owned();
    let enrolled = client
        .reenroll(&identity, &EnrollRequest::default(), identity.key())
        .await
        .during(|| format!("cannot renew the certificate of {name}"))?;
    write_msp(&args.msp, &enrolled, identity.key().clone())?;
    println!("{name} has a new certificate in {}", args.msp.display());
    Ok(())
}
