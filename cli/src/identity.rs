//! `selvedge identity …`: looking at identities, and exchanging their folders with other Fabric tools.

use std::path::{Path, PathBuf};

use selvedge_msp::dir::read_msp_config;
use selvedge_msp::{Certificate, Identity, Msp, MspVersion, PrivateKey, SigningIdentity};

use crate::args::{ExportArgs, IdentityCommand, ImportArgs, ShowArgs};
use crate::authority::read;
use crate::doctor::shown;
use crate::error::{CliError, During};
use crate::network::crypto::{write, write_key};
use crate::network::layout::{MemberLayout, OrgLayout};
use crate::network::material::{certificates, copy_public_msp, take_msp};
use crate::session::Session;

/// Runs a `selvedge identity` command.
pub(crate) fn run(command: IdentityCommand) -> Result<(), CliError> {
    match command {
        IdentityCommand::Show(args) => show(&args),
        IdentityCommand::Import(args) => import(&args),
        IdentityCommand::Export(args) => export(&args),
    }
}

/// The MSP folder that is meant: the folder itself, or the one below it.
fn msp_folder(folder: &Path) -> Result<PathBuf, CliError> {
    [folder.to_owned(), folder.join("msp")]
        .into_iter()
        .find(|dir| dir.join("cacerts").is_dir() || dir.join("signcerts").is_dir())
        .ok_or_else(|| {
            CliError::said(format!(
                "{} is no MSP folder: it has neither signcerts nor cacerts, nor has an msp folder in it",
                folder.display()
            ))
        })
}

/// `selvedge identity show`
fn show(args: &ShowArgs) -> Result<(), CliError> {
    let folder = msp_folder(&args.folder)?;
    let parts = [
        ("signcerts", "holder"),
        ("cacerts", "root"),
        ("intermediatecerts", "intermediate authority"),
        ("tlscacerts", "TLS root"),
        ("tlsintermediatecerts", "TLS intermediate authority"),
        ("admincerts", "administrator"),
    ];
    for (part, what) in parts {
        for certificate in certificates(&folder.join(part))? {
            print(what, &certificate);
        }
    }
    if folder.join("signcerts").is_dir() {
        match SigningIdentity::from_msp_dir("", &folder) {
            Ok(_) => println!("the key of the holder is here"),
            Err(why) => println!("it cannot be used for signing: {why}"),
        }
    }
    match (
        folder.join("config.yaml").exists(),
        folder.join("cacerts").is_dir(),
    ) {
        (true, _) => println!("config.yaml says which organizational units are roles (NodeOUs)"),
        (false, true) => println!("there is no config.yaml, so nobody has a role but those in admincerts"),
        (false, false) => {}
    }
    Ok(())
}

fn print(what: &str, certificate: &Certificate) {
    println!("{what}: {}", certificate.subject());
    println!("  issued by  {}", certificate.issuer());
    println!("  serial     {}", hex::encode(certificate.serial()));
    println!(
        "  valid      {} to {}",
        shown(certificate.not_before()),
        shown(certificate.not_after())
    );
    for (name, value) in certificate.attributes() {
        println!("  attribute  {name}={value}");
    }
}

/// `selvedge identity import`
fn import(args: &ImportArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let (user, domain) = args.name.split_once('@').ok_or_else(|| {
        CliError::said(format!(
            "'{}' is not a name for an identity; write USER@DOMAIN, for example User1@org1.example.com",
            args.name
        ))
    })?;
    let org = session.org(domain)?;
    let from = msp_folder(&args.msp)?;
    let identity = SigningIdentity::from_msp_dir(org.msp_id, &from)
        .during(|| format!("{} cannot be taken in", from.display()))?;
    let member = org.layout.user(user);
    if member.msp().join("signcerts").exists() && !args.force {
        return Err(CliError::said(format!(
            "there is a {} already in {}; --force replaces it",
            args.name,
            member.msp().display()
        )));
    }
    let role = role(&org.layout, org.msp_id, identity.identity())
        .during(|| format!("{} is no member of {domain}", identity.certificate().subject()))?;
    if member.msp().exists() {
        std::fs::remove_dir_all(member.msp()).map_err(|source| CliError::WriteFile {
            path: member.msp(),
            source,
        })?;
    }
    take_msp(&from, &member.msp(), &org.layout)?;
    if let Some(tls) = &args.tls {
        take_tls(tls, &member, &org.layout)?;
    }
    println!(
        "{} is '{}', {role}, until {}; act so with --as {}",
        args.name,
        identity.certificate().common_name().unwrap_or("?"),
        shown(identity.certificate().not_after()),
        args.name
    );
    if org.ca.is_some() {
        println!(
            "if its authority here does not know it yet, it does, and can revoke it, from its next start on (`selvedge network up`)"
        );
    }
    Ok(())
}

/// What an identity is in its organisation, as the organisation's MSP folder has it.
fn role(org: &OrgLayout, msp_id: &str, identity: &Identity) -> Result<String, CliError> {
    let config = read_msp_config(&org.msp(), msp_id).during(|| format!("the MSP {}", org.msp().display()))?;
    let msp = Msp::new(&config, MspVersion::LATEST).during(|| format!("the MSP {}", org.msp().display()))?;
    let identity = msp
        .deserialize(identity.certificate().to_pem().as_bytes())
        .during(|| "its certificate".to_owned())?;
    msp.validate(&identity)
        .during(|| "its certificate does not count there".to_owned())?;
    let units = identity.certificate().organizational_units();
    Ok(if units.is_empty() {
        "a member without a role".to_owned()
    } else {
        format!("with the units {}", units.join(", "))
    })
}

fn take_tls(from: &Path, member: &MemberLayout, org: &OrgLayout) -> Result<(), CliError> {
    for name in ["client", "server"] {
        let (certificate, key) = (from.join(format!("{name}.crt")), from.join(format!("{name}.key")));
        if !certificate.is_file() {
            continue;
        }
        let key = PrivateKey::from_file(&key).during(|| format!("the key {}", key.display()))?;
        let text = read(&certificate)?;
        let read_certificate = Certificate::from_pem(&text)
            .during(|| format!("{} holds no certificate", certificate.display()))?;
        if read_certificate.public_key() != Some(key.public_key()) {
            return Err(CliError::said(format!(
                "the key in {} does not belong to the certificate beside it",
                from.display()
            )));
        }
        write_key(&member.tls_key(), &key)?;
        write(
            &member.tls_roots(),
            &String::from_utf8_lossy(&read(&org.tls_ca_certificate())?),
        )?;
        return write(&member.tls_certificate(), &String::from_utf8_lossy(&text));
    }
    Err(CliError::said(format!(
        "{} has neither client.crt nor server.crt",
        from.display()
    )))
}

/// `selvedge identity export`
fn export(args: &ExportArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    if args.out.exists() {
        return Err(CliError::said(format!(
            "{} exists already; name a folder that does not",
            args.out.display()
        )));
    }
    if let Some((user, domain)) = args.what.split_once('@') {
        let member = session.org(domain)?.layout.user(user);
        if !member.msp().join("signcerts").is_dir() {
            return Err(CliError::said(format!(
                "there is no {} in this network's folder",
                args.what
            )));
        }
        copy_tree(member.root(), &args.out)?;
        println!(
            "{} is in {} (msp and tls), its private keys included: keep it safe on its way",
            args.what,
            args.out.display()
        );
        return Ok(());
    }
    let org = session.org(&args.what)?;
    if args.with_keys {
        copy_tree(org.layout.root(), &args.out)?;
        println!(
            "everything of {} is in {}, private keys of its authority included: keep it safe on its way",
            args.what,
            args.out.display()
        );
        return Ok(());
    }
    copy_public_msp(&org.layout.msp(), &args.out.join("msp"))?;
    for certificate in [org.layout.ca_certificate(), org.layout.tls_ca_certificate()] {
        if let (Some(name), Some(parent)) = (
            certificate.file_name(),
            certificate.parent().and_then(Path::file_name),
        ) {
            let text = String::from_utf8_lossy(&read(&certificate)?).into_owned();
            write(&args.out.join(parent).join(name), &text)?;
        }
    }
    println!(
        "the MSP of {} is in {}, without any private key: it may be shown to everybody",
        args.what,
        args.out.display()
    );
    Ok(())
}

/// Copies a folder; keys stay readable by their owner alone.
fn copy_tree(from: &Path, to: &Path) -> Result<(), CliError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::WriteFile { path, source }
    };
    std::fs::create_dir_all(to).map_err(failed(to))?;
    for entry in std::fs::read_dir(from).map_err(failed(from))? {
        let path = entry.map_err(failed(from))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            // `copy` keeps the mode, which is 0600 for keys.
            std::fs::copy(&path, &target).map_err(failed(&target))?;
        }
    }
    Ok(())
}
