//! `selvedge device …`: give machines an identity of their own.

use std::path::Path;

use selvedge_msp::{PrivateKey, PublicKey};
use selvedge_sdk::{
    CaClient, ClientIdentity, ClientTls, EnrollRequest, EnrollmentBox, Registration, RegistrationAttribute,
    SealedSecret, fingerprint,
};
use zeroize::Zeroizing;

use crate::args::{AuthorityArgs, DeviceCommand, EnrollArgs, KeyArgs, ReenrollArgs, RegisterArgs};
use crate::authority::{OrgAuthority, enroll_into, read, write_msp};
use crate::error::{CliError, During};
use crate::session::Session;

/// The certificate attribute that contracts recognise a device by.
const DEVICE_ATTRIBUTE: &str = "selvedge.device";

/// Runs a `selvedge device` command.
pub(crate) async fn run(command: DeviceCommand) -> Result<(), CliError> {
    match command {
        DeviceCommand::Key(args) => key(&args),
        DeviceCommand::Register(args) => register(&args).await,
        DeviceCommand::Enroll(args) => enroll(&args).await,
        DeviceCommand::Reenroll(args) => reenroll(&args).await,
    }
}

fn authority(url: &str, name: Option<String>, tls_roots: &Path) -> Result<CaClient, CliError> {
    let tls = ClientTls {
        roots: vec![read(tls_roots)?],
        ..ClientTls::default()
    };
    Ok(CaClient::new(url, name, tls))
}

fn client(args: &AuthorityArgs) -> Result<CaClient, CliError> {
    authority(&args.ca_url, args.ca_name.clone(), &args.tls_roots)
}

/// A key file, or a `pkcs11:` URI.
fn open_key(place: &str) -> Result<PrivateKey, CliError> {
    let key = if is_token(place) {
        PrivateKey::from_pem(place)
    } else {
        PrivateKey::from_file(Path::new(place))
    };
    key.during(|| "cannot use the device's key".to_owned())
}

fn is_token(place: &str) -> bool {
    place.starts_with("pkcs11:")
}

#[cfg(feature = "pkcs11")]
fn new_in_token(uri: &str) -> Result<PrivateKey, CliError> {
    selvedge_pkcs11::generate(uri).during(|| "cannot make a key in the token".to_owned())
}

#[cfg(not(feature = "pkcs11"))]
fn new_in_token(uri: &str) -> Result<PrivateKey, CliError> {
    // Says that this program knows no tokens.
    open_key(uri)
}

fn key(args: &KeyArgs) -> Result<(), CliError> {
    let file = Path::new(&args.key);
    let key = match (is_token(&args.key), args.new) {
        (true, true) => new_in_token(&args.key)?,
        (false, _) if !file.exists() => {
            let key = PrivateKey::generate().during(|| "cannot make a private key".to_owned())?;
            key.write_file(file)
                .during(|| "cannot keep the device's key".to_owned())?;
            key
        }
        (false, true) => {
            return Err(CliError::said(format!(
                "{} is there already; name another file, or remove it if the device shall start anew",
                file.display()
            )));
        }
        _ => open_key(&args.key)?,
    };
    print!("{}", key.public_key().to_pem());
    eprintln!("fingerprint {}", fingerprint(key.public_key()));
    Ok(())
}

fn attributes(texts: &[String]) -> Result<Vec<RegistrationAttribute>, CliError> {
    let mut attributes = vec![RegistrationAttribute {
        name: DEVICE_ATTRIBUTE.to_owned(),
        value: "true".to_owned(),
        ecert: true,
    }];
    for text in texts {
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
    Ok(attributes)
}

fn enrollment_box(url: &str, roots: Option<&Path>) -> Result<EnrollmentBox, CliError> {
    let tls = ClientTls {
        roots: roots.map(read).transpose()?.into_iter().collect(),
        ..ClientTls::default()
    };
    Ok(EnrollmentBox::new(url, tls))
}

async fn register(args: &RegisterArgs) -> Result<(), CliError> {
    // Whatever is wrong with the key is said before anything is registered.
    let recipient = args
        .public_key
        .as_deref()
        .map(|file| {
            PublicKey::from_pem(&read(file)?)
                .during(|| format!("cannot seal the secret to the key in {}", file.display()))
        })
        .transpose()?;
    let session = Session::open(&args.network.network)?;
    let authority = OrgAuthority::open(&session, &args.org).await?;
    let registration = Registration {
        id: args.id.clone(),
        kind: "client".to_owned(),
        attributes: attributes(&args.attributes)?,
        max_enrollments: 1,
        ..Registration::default()
    };
    let secret = authority
        .client
        .register(&authority.registrar, &registration)
        .await
        .map(Zeroizing::new)
        .during(|| format!("cannot register {}", args.id))?;
    let roots = authority.tls_roots.display();
    let Some(recipient) = recipient else {
        println!("{}", *secret);
        eprintln!("device {} is registered; it enrols with:", args.id);
        eprintln!(
            "  SELVEDGE_SECRET=… selvedge device enroll --ca-url {} --ca-name {} --tls-roots {roots} --id {} --msp DIR",
            authority.url, authority.name, args.id
        );
        return Ok(());
    };
    let sealed = SealedSecret::seal(&recipient, &args.id, &authority.url, &authority.name, &secret)
        .during(|| format!("{} is registered, but its secret cannot be sealed", args.id))?;
    let from = deliver(&session, args, &sealed).await?;
    eprintln!(
        "device {} is registered; its secret is sealed to the key with fingerprint {}",
        args.id,
        fingerprint(&recipient)
    );
    eprintln!("it enrols with:");
    eprintln!("  selvedge device enroll {from} --tls-roots {roots} --key KEY --msp DIR");
    Ok(())
}

/// Hands the sealed secret over; how the device gets it.
async fn deliver(session: &Session, args: &RegisterArgs, sealed: &SealedSecret) -> Result<String, CliError> {
    let failed = || {
        format!(
            "{} is registered, but its sealed secret cannot be handed over; register it under another name, or set a new secret",
            args.id
        )
    };
    let text = sealed.to_json().during(failed)?;
    if let Some(url) = &args.deliver {
        let place = enrollment_box(url, args.deliver_roots.as_deref())?;
        // The gateway takes it from administrators of its organisation.
        let by = session.identity(&format!("Admin@{}", args.org))?;
        place.put(sealed, &by).await.during(failed)?;
        return Ok(format!("--fetch {url} --id {}", args.id));
    }
    let Some(file) = &args.out else {
        println!("{text}");
        return Ok("--sealed FILE".to_owned());
    };
    std::fs::write(file, text).map_err(|source| CliError::WriteFile {
        path: file.clone(),
        source,
    })?;
    Ok(format!("--sealed {}", file.display()))
}

/// Who enrols where, and with which secret.
struct Enrolment {
    id: String,
    ca_url: String,
    ca_name: Option<String>,
    secret: Zeroizing<String>,
}

/// The sealed secret, from a file or an edge gateway.
async fn sealed_secret(args: &EnrollArgs) -> Result<Option<SealedSecret>, CliError> {
    if let Some(file) = &args.sealed {
        let sealed = SealedSecret::from_json(&read(file)?)
            .during(|| format!("cannot enrol with {}", file.display()))?;
        return Ok(Some(sealed));
    }
    let Some(url) = &args.fetch else {
        return Ok(None);
    };
    let id = args.id.as_deref().unwrap_or_default();
    let place = enrollment_box(url, args.fetch_roots.as_deref())?;
    let sealed = place
        .get(id)
        .await
        .during(|| format!("cannot fetch the sealed secret of {id}"))?;
    let none = || {
        CliError::said(format!(
            "no sealed secret waits for {id} at {url}; the registrar leaves it there with 'selvedge device register --deliver {url}'"
        ))
    };
    sealed.map(Some).ok_or_else(none)
}

async fn enrolment(args: &EnrollArgs) -> Result<Enrolment, CliError> {
    let Some(sealed) = sealed_secret(args).await? else {
        let (Some(id), Some(ca_url), Some(secret)) = (&args.id, &args.ca_url, &args.secret) else {
            return Err(CliError::said(
                "the one-time secret is missing; name a sealed one (--sealed FILE or --fetch URL), or set SELVEDGE_SECRET",
            ));
        };
        return Ok(Enrolment {
            id: id.clone(),
            ca_url: ca_url.clone(),
            ca_name: args.ca_name.clone(),
            secret: Zeroizing::new(secret.clone()),
        });
    };
    if args.id.as_ref().is_some_and(|id| *id != sealed.id) {
        return Err(CliError::said(format!(
            "the sealed secret is for {}, not for {}",
            sealed.id,
            args.id.as_deref().unwrap_or_default()
        )));
    }
    let opener = match (&args.opening_key, &args.key) {
        (Some(file), _) => open_key(&file.to_string_lossy())?,
        (None, Some(place)) => open_key(place)?,
        (None, None) => {
            return Err(CliError::said(
                "a sealed secret is opened with the device's key; name it with --key",
            ));
        }
    };
    let secret = sealed
        .open(&opener)
        .during(|| format!("cannot open the sealed secret of {}", sealed.id))?;
    Ok(Enrolment {
        secret,
        ca_url: args.ca_url.clone().unwrap_or(sealed.ca_url),
        ca_name: args
            .ca_name
            .clone()
            .or(Some(sealed.ca_name).filter(|name| !name.is_empty())),
        id: sealed.id,
    })
}

async fn enroll(args: &EnrollArgs) -> Result<(), CliError> {
    if args.msp.join("signcerts").exists() {
        return Err(CliError::said(format!(
            "{} holds an identity already; name another folder, or remove it if the device shall start anew",
            args.msp.display()
        )));
    }
    let key = match &args.key {
        Some(place) => open_key(place)?,
        None => PrivateKey::generate().during(|| "cannot make a private key".to_owned())?,
    };
    let enrolment = enrolment(args).await?;
    let client = authority(&enrolment.ca_url, enrolment.ca_name, &args.tls_roots)?;
    enroll_into(&client, &enrolment.id, &enrolment.secret, key, &args.msp).await?;
    if let Some(url) = &args.fetch {
        // The secret is used up; what lies there harms nobody.
        let place = enrollment_box(url, args.fetch_roots.as_deref())?;
        let by = ClientIdentity::from_msp_dir("", &args.msp)
            .during(|| format!("cannot read the identity in {}", args.msp.display()))?;
        if let Err(error) = place.delete(&enrolment.id, &by).await {
            eprintln!("the sealed secret, which is of no use any more, stays at {url}: {error}");
        }
    }
    println!(
        "{} is enrolled; its certificate and key are in {}",
        enrolment.id,
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
