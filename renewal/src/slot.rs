//! One certificate in use: where it lies, what it is, and how another takes its place.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use parking_lot::Mutex;
use selvedge_comm::TlsIdentity;
use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_msp::{Certificate, PrivateKey, SigningIdentity, pem, write_public};

use crate::authority::Renewed;

type Adopt = Box<dyn Fn(SigningIdentity) -> Result<(), String> + Send + Sync>;

/// What a certificate is used for, which says where it lies and who renews it.
pub(crate) enum Use {
    /// Signs; in an MSP folder.
    Identity {
        msp_id: String,
        dir: PathBuf,
        adopt: Adopt,
    },
    /// TLS; a certificate file and a key file.
    Tls {
        certificate: PathBuf,
        key: PathBuf,
        shown: TlsIdentity,
    },
}

/// What is known of the certificate that is in use.
#[derive(Debug, Clone)]
pub(crate) struct InUse {
    pub(crate) certificate: Certificate,
    /// When it came to this machine, Unix seconds.
    pub(crate) since: i64,
}

/// A certificate in use.
pub(crate) struct Slot {
    /// `identity`, `tls` and so on, for logs and metrics.
    pub(crate) name: String,
    what: Use,
    in_use: Mutex<InUse>,
}

/// When a file was written, Unix seconds.
fn written(path: &Path) -> i64 {
    let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |s| i64::try_from(s.as_secs()).unwrap_or(i64::MAX))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// The certificate's file: the first by name, which is the one that is read.
fn signcert(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir.join("signcerts")).ok()?;
    // A name that begins with a dot is a file that somebody is writing.
    let whole = entries
        .flatten()
        .filter(|e| !e.file_name().to_string_lossy().starts_with('.'));
    whole.map(|e| e.path()).filter(|p| p.is_file()).min()
}

impl Slot {
    pub(crate) fn identity(
        name: &str,
        dir: &Path,
        current: &SigningIdentity,
        adopt: impl Fn(SigningIdentity) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let since = signcert(dir).map_or(0, |path| written(&path));
        Self {
            name: name.to_owned(),
            in_use: Mutex::new(InUse {
                certificate: current.certificate().clone(),
                since,
            }),
            what: Use::Identity {
                msp_id: current.msp_id().to_owned(),
                dir: dir.to_owned(),
                adopt: Box::new(adopt),
            },
        }
    }

    /// # Errors
    /// The identity holds no certificate.
    pub(crate) fn tls(
        name: &str,
        certificate: &Path,
        key: &Path,
        shown: TlsIdentity,
    ) -> Result<Self, String> {
        let leaf = Certificate::from_pem(&shown.certificate_pem())
            .map_err(|e| format!("{}: {e}", certificate.display()))?;
        Ok(Self {
            name: name.to_owned(),
            in_use: Mutex::new(InUse {
                certificate: leaf,
                since: written(certificate),
            }),
            what: Use::Tls {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                shown,
            },
        })
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.what, Use::Tls { .. })
    }

    pub(crate) fn in_use(&self) -> InUse {
        self.in_use.lock().clone()
    }

    fn note(&self, certificate: Certificate, since: i64) {
        *self.in_use.lock() = InUse { certificate, since };
    }

    /// Takes into use what the files hold, if that is another certificate. Gives it then.
    pub(crate) fn look(&self) -> Result<Option<Certificate>, String> {
        match &self.what {
            Use::Identity { msp_id, dir, adopt } => {
                let found = SigningIdentity::from_msp_dir(msp_id, dir).map_err(|e| e.to_string())?;
                let certificate = found.certificate().clone();
                if certificate == self.in_use().certificate {
                    return Ok(None);
                }
                adopt(found)?;
                self.note(
                    certificate.clone(),
                    signcert(dir).map_or(0, |path| written(&path)),
                );
                Ok(Some(certificate))
            }
            Use::Tls {
                certificate: path,
                key,
                shown,
            } => {
                let text = read(path)?;
                if text == shown.certificate_pem() {
                    return Ok(None);
                }
                let certificate =
                    Certificate::from_pem(&text).map_err(|e| format!("{}: {e}", path.display()))?;
                shown.replace(&text, &read(key)?).map_err(|e| e.to_string())?;
                self.note(certificate.clone(), written(path));
                Ok(Some(certificate))
            }
        }
    }

    /// The present certificate with its key, for asking the authority.
    pub(crate) fn asking(&self) -> Result<SigningIdentity, String> {
        match &self.what {
            Use::Identity { msp_id, dir, .. } => {
                SigningIdentity::from_msp_dir(msp_id, dir).map_err(|e| e.to_string())
            }
            Use::Tls { certificate, key, .. } => {
                let key = PrivateKey::from_file(key).map_err(|e| e.to_string())?;
                // A token names no MSP; the authority knows its own.
                SigningIdentity::new("", &read(certificate)?, key).map_err(|e| e.to_string())
            }
        }
    }

    /// Writes a renewed certificate to the files and takes it into use. A crash in between leaves the files right.
    pub(crate) fn renew(&self, renewed: &Renewed, now: i64) -> Result<(), String> {
        match &self.what {
            Use::Identity { dir, .. } => write_identity(dir, renewed)?,
            Use::Tls { certificate, .. } => {
                let mut text = renewed.certificate.to_pem();
                // Others know the root; what lies between must come along.
                let between = renewed.chain.iter().filter(|c| !c.is_signed_by(c));
                text.extend(between.map(Certificate::to_pem));
                write_public(certificate, text.as_bytes())
                    .map_err(|e| format!("cannot write {}: {e}", certificate.display()))?;
            }
        }
        self.look()?;
        self.note(renewed.certificate.clone(), now);
        Ok(())
    }
}

/// Replaces the certificate of an MSP folder, and adds those of authorities that the folder does not know yet.
fn write_identity(dir: &Path, renewed: &Renewed) -> Result<(), String> {
    let known = |folder: &str| -> Vec<Vec<u8>> {
        let entries = std::fs::read_dir(dir.join(folder))
            .into_iter()
            .flatten()
            .flatten();
        let texts = entries.filter_map(|e| std::fs::read(e.path()).ok());
        texts
            .flat_map(|text| {
                pem::all_blocks(&text)
                    .into_iter()
                    .map(|b| b.content)
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let (roots, intermediates) = (known("cacerts"), known("intermediatecerts"));
    let name = signcert(dir)
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "cert.pem".to_owned());
    let mut contents = MspDirContents {
        signcert: Some((name, renewed.certificate.clone())),
        ..MspDirContents::default()
    };
    for certificate in &renewed.chain {
        let (list, there) = if certificate.is_signed_by(certificate) {
            (&mut contents.cacerts, &roots)
        } else {
            (&mut contents.intermediatecerts, &intermediates)
        };
        if !there.iter().any(|der| der == certificate.der()) {
            let id = certificate.sha256();
            let id: String = id.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            list.push((format!("ca-{id}.pem"), certificate.clone()));
        }
    }
    write_msp_dir(dir, &contents).map_err(|e| e.to_string())
}
