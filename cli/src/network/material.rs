//! Key material that exists already: folders as Fabric's `cryptogen` and `fabric-ca-client` lay them out, taken into a
//! network's folder, which has the same layout.
//!
//! ```text
//! <material>/msp                       the organisation: cacerts, intermediatecerts, tlscacerts, …, config.yaml   needed
//!            ca/{*.pem,*_sk}           its authority; without the key nothing is issued here
//!            tlsca/{*.pem,*_sk}        the same for TLS
//!            peers|orderers/<host>/{msp,tls}
//!            users/<user>@<domain>/{msp,tls}
//! ```

use std::path::{Path, PathBuf};

use selvedge_msp::{Certificate, PrivateKey, pem};

use crate::error::{CliError, During};
use crate::network::crypto::{write, write_key};
use crate::network::layout::{OrgLayout, RootLayout};

/// Says that an organisation's folder holds material from elsewhere, and from where.
const ORIGIN: &str = "material-from";
/// The parts of an MSP folder that are not the holder's own.
const PUBLIC: [&str; 6] = [
    "cacerts",
    "intermediatecerts",
    "tlscacerts",
    "tlsintermediatecerts",
    "admincerts",
    "crls",
];

/// Whether an organisation's folder was taken in from elsewhere.
pub(crate) fn is_from_elsewhere(org: &OrgLayout) -> bool {
    org.root().join(ORIGIN).exists()
}

/// Takes the material of an organisation into its folder. What is there already stays, so that material may grow.
pub(crate) fn take_in(
    source: Option<&Path>,
    org: &OrgLayout,
    domain: &str,
    kind: &str,
) -> Result<(), CliError> {
    let Some(source) = source else { return Ok(()) };
    if !is_from_elsewhere(org) && org.ca_certificate().exists() {
        return Err(CliError::said(format!(
            "organisation {domain} has key material of this network's own in {}; material from elsewhere would not fit it: remove \
             `material` from the network file, or begin in another folder",
            org.root().display()
        )));
    }
    let msp = source.join("msp");
    // What was taken in once is here, wherever its source has gone.
    if is_from_elsewhere(org) && !msp.is_dir() {
        return Ok(());
    }
    if !msp.join("cacerts").is_dir() {
        return Err(CliError::said(format!(
            "the material of {domain}, {}, has no msp/cacerts: give the folder of the organisation as cryptogen makes it, for \
             example crypto-config/peerOrganizations/{domain}",
            source.display()
        )));
    }
    write(&org.root().join(ORIGIN), &format!("{}\n", source.display()))?;
    copy_public_msp(&msp, &org.msp())?;
    take_authority(
        &source.join("ca"),
        &msp,
        ("cacerts", "intermediatecerts"),
        &org.identity_root(),
    )
    .during(|| format!("the authority of {domain}"))?;
    take_authority(
        &source.join("tlsca"),
        &msp,
        ("tlscacerts", "tlsintermediatecerts"),
        &org.tls_root(),
    )
    .during(|| format!("the TLS authority of {domain}"))?;
    for (folder, tls) in [(kind, "server"), ("users", "client")] {
        for member in folders(&source.join(folder))? {
            let name = member
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            // A node may be called by its host name or by the part before the domain.
            let full = if folder == "users" || name.ends_with(domain) {
                name
            } else {
                format!("{name}.{domain}")
            };
            take_member(&member, &org.root().join(folder).join(full), tls, org)?;
        }
    }
    Ok(())
}

fn folders(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut found: Vec<PathBuf> = entries(dir)?.into_iter().filter(|p| p.is_dir()).collect();
    found.sort();
    Ok(found)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut found: Vec<PathBuf> = entries(dir)?.into_iter().filter(|p| p.is_file()).collect();
    found.sort();
    Ok(found)
}

/// What is in a folder; one that does not exist is empty.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let failed = |source| CliError::ReadFile {
        path: dir.to_owned(),
        source,
    };
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path()).map_err(failed)).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(failed(e)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), CliError> {
    write(to, &String::from_utf8_lossy(&read(from)?))
}

fn copy_key(from: &Path, to: &Path) -> Result<(), CliError> {
    let key = PrivateKey::from_file(from).during(|| format!("the key {}", from.display()))?;
    write_key(to, &key)
}

/// Copies what an MSP folder says of its organisation; `config.yaml` last.
pub(crate) fn copy_public_msp(from: &Path, to: &Path) -> Result<(), CliError> {
    for folder in PUBLIC {
        for file in files(&from.join(folder))? {
            let name = file.file_name().unwrap_or_default();
            copy(&file, &to.join(folder).join(name))?;
        }
    }
    let config = from.join("config.yaml");
    if config.exists() {
        copy(&config, &to.join("config.yaml"))?;
    }
    Ok(())
}

/// The certificates in PEM files of a folder.
pub(crate) fn certificates(dir: &Path) -> Result<Vec<Certificate>, CliError> {
    let mut found = Vec::new();
    for file in files(dir)? {
        for block in pem::all_blocks(&read(&file)?) {
            // Keys and READMEs lie beside certificates.
            found.extend(Certificate::from_der(&block.content).ok());
        }
    }
    Ok(found)
}

/// Writes certificate and, where it is given, key of the authority that issues. Without a folder of its own the authority is
/// the lowest one of the MSP.
fn take_authority(
    folder: &Path,
    msp: &Path,
    (roots, intermediates): (&str, &str),
    root: &RootLayout,
) -> Result<(), CliError> {
    if root.certificate().exists() && root.key().exists() {
        return Ok(());
    }
    let (roots, intermediates) = (
        certificates(&msp.join(roots))?,
        certificates(&msp.join(intermediates))?,
    );
    let own: Vec<Certificate> = certificates(folder)?
        .into_iter()
        .filter(Certificate::is_ca)
        .collect();
    let candidates: Vec<&Certificate> = own.iter().chain(&intermediates).chain(&roots).collect();
    let mut signer = candidates.first().copied();
    let mut key = None;
    for file in files(folder)? {
        let Ok(found) = PrivateKey::from_file(&file) else {
            continue;
        };
        if let Some(owner) = candidates
            .iter()
            .find(|c| c.public_key() == Some(found.public_key()))
        {
            signer = Some(owner);
            key = Some(file);
        }
    }
    let Some(signer) = signer else {
        return Err(CliError::said(format!(
            "there is no certificate of it, neither in {} nor in {}",
            folder.display(),
            msp.display()
        )));
    };
    if let Some(key) = key {
        copy_key(&key, &root.key())?;
    }
    let above: Vec<&Certificate> = chain_above(signer, &intermediates, &roots);
    if !above.is_empty() {
        let text: String = above.iter().map(|c| c.to_pem()).collect();
        write(&root.chain(), &text)?;
    }
    // The authority itself comes first; the others are trusted as well by those who dial with this file.
    let others = above.into_iter().chain(&roots).filter(|c| *c != signer);
    let mut text = signer.to_pem();
    let mut named: Vec<&Certificate> = vec![signer];
    for other in others {
        if !named.contains(&other) {
            text.push_str(&other.to_pem());
            named.push(other);
        }
    }
    write(&root.certificate(), &text)
}

/// The authorities above `signer`, its issuer first, the root last.
fn chain_above<'a>(
    signer: &'a Certificate,
    intermediates: &'a [Certificate],
    roots: &'a [Certificate],
) -> Vec<&'a Certificate> {
    let mut chain = Vec::new();
    let mut at = signer;
    while let Some(issuer) = intermediates
        .iter()
        .chain(roots)
        .find(|issuer| at != *issuer && at.is_signed_by(issuer))
    {
        if chain.contains(&issuer) || issuer == signer {
            break;
        }
        chain.push(issuer);
        at = issuer;
    }
    chain
}

/// Takes in the folder of a node or user.
fn take_member(from: &Path, to: &Path, tls: &str, org: &OrgLayout) -> Result<(), CliError> {
    if from.join("msp/signcerts").is_dir() && !to.join("msp/signcerts").is_dir() {
        take_msp(&from.join("msp"), &to.join("msp"), org)?;
    }
    let pairs = [
        (format!("{tls}.crt"), format!("{tls}.key")),
        ("server.crt".into(), "server.key".into()),
    ];
    let found = pairs
        .iter()
        .find(|(certificate, _)| from.join("tls").join(certificate).is_file());
    if let Some((certificate, key)) = found
        && !to.join("tls").join(format!("{tls}.crt")).exists()
    {
        copy_key(
            &from.join("tls").join(key),
            &to.join("tls").join(format!("{tls}.key")),
        )?;
        copy(&org.tls_ca_certificate(), &to.join("tls/ca.crt"))?;
        copy(
            &from.join("tls").join(certificate),
            &to.join("tls").join(format!("{tls}.crt")),
        )?;
    }
    Ok(())
}

/// Takes in a holder's MSP folder: certificate and key of the holder, the rest from the organisation's own.
pub(crate) fn take_msp(from: &Path, to: &Path, org: &OrgLayout) -> Result<(), CliError> {
    for file in files(&from.join("keystore"))? {
        let Ok(key) = PrivateKey::from_file(&file) else {
            continue;
        };
        let name = format!("{}_sk", hex::encode(key.public_key().ski()));
        write_key(&to.join("keystore").join(name), &key)?;
    }
    for file in files(&from.join("signcerts"))? {
        copy(
            &file,
            &to.join("signcerts").join(file.file_name().unwrap_or_default()),
        )?;
    }
    copy_public_msp(&org.msp(), to)
}
