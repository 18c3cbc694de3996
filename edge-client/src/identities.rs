//! The certificates that requests began with.
//!
//! A renewed certificate would change the ids of transactions that may be on their way. So every identity that
//! requests were accepted under is kept beside the buffer until none of them is open (DESIGN, the buffer).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use selvedge_msp::{PrivateKey, SigningIdentity};
use sha2::{Digest, Sha256};

use crate::EdgeError;

/// Names an identity: SHA-256 over its serialised form.
pub(crate) type IdentityId = [u8; 32];

/// The current identity and the older ones that open requests need.
#[derive(Debug)]
pub(crate) struct Identities {
    dir: PathBuf,
    current: IdentityId,
    /// The one before, kept as long as this process runs: a request may have been given it and not be in the buffer yet.
    previous: Option<IdentityId>,
    all: BTreeMap<IdentityId, SigningIdentity>,
}

pub(crate) fn identity_id(identity: &SigningIdentity) -> IdentityId {
    Sha256::digest(identity.creator()).into()
}

impl Identities {
    /// Loads the kept identities and adds the current one.
    pub(crate) fn open(
        dir: &Path,
        msp_id: &str,
        current: SigningIdentity,
        key: &PrivateKey,
    ) -> Result<Self, EdgeError> {
        let bad = |path: &Path, why: String| EdgeError::Identity {
            path: path.to_owned(),
            why,
        };
        std::fs::create_dir_all(dir).map_err(|e| bad(dir, e.to_string()))?;
        let id = identity_id(&current);
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(|e| bad(dir, e.to_string()))? {
            let path = entry.map_err(|e| bad(dir, e.to_string()))?.path();
            if path.extension().is_none_or(|e| e != "pem") {
                continue;
            }
            let certificate = std::fs::read(&path).map_err(|e| bad(&path, e.to_string()))?;
            let key =
                PrivateKey::from_file(&path.with_extension("key")).map_err(|e| bad(&path, e.to_string()))?;
            let kept =
                SigningIdentity::new(msp_id, &certificate, key).map_err(|e| bad(&path, e.to_string()))?;
            all.insert(identity_id(&kept), kept);
        }
        let mut identities = Self {
            dir: dir.to_owned(),
            current: id,
            previous: None,
            all,
        };
        identities.adopt(current, key)?;
        Ok(identities)
    }

    /// Lets new requests begin with `identity`; it is kept beside the buffer before it is used.
    pub(crate) fn adopt(&mut self, identity: SigningIdentity, key: &PrivateKey) -> Result<(), EdgeError> {
        let bad = |path: &Path, why: String| EdgeError::Identity {
            path: path.to_owned(),
            why,
        };
        let id = identity_id(&identity);
        if let std::collections::btree_map::Entry::Vacant(place) = self.all.entry(id) {
            let certificate = self.dir.join(format!("{}.pem", hex::encode(id)));
            // The key first: a certificate without its key would stop the next start.
            key.write_file(&certificate.with_extension("key"))
                .map_err(|e| bad(&certificate, e.to_string()))?;
            // The exact PEM text belongs to the transaction id, so it is kept byte for byte.
            let pem =
                pem_of(&identity).ok_or_else(|| bad(&certificate, "it has no certificate".to_owned()))?;
            write_durably(&certificate, &pem).map_err(|e| bad(&certificate, e.to_string()))?;
            place.insert(identity);
        }
        if id != self.current {
            self.previous = Some(std::mem::replace(&mut self.current, id));
        }
        Ok(())
    }

    pub(crate) fn current(&self) -> (&IdentityId, Option<&SigningIdentity>) {
        (&self.current, self.all.get(&self.current))
    }

    pub(crate) fn get(&self, id: &IdentityId) -> Option<&SigningIdentity> {
        self.all.get(id)
    }

    /// Forgets identities that neither open requests nor new ones need.
    pub(crate) fn keep_only(&mut self, needed: &BTreeSet<IdentityId>) {
        let (current, previous) = (self.current, self.previous);
        let unneeded: Vec<_> = self
            .all
            .keys()
            .filter(|id| **id != current && Some(**id) != previous && !needed.contains(*id))
            .copied()
            .collect();
        for id in unneeded {
            self.all.remove(&id);
            let certificate = self.dir.join(format!("{}.pem", hex::encode(id)));
            for path in [certificate.clone(), certificate.with_extension("key")] {
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "cannot remove an old identity");
                }
            }
        }
    }
}

/// The PEM text inside the serialised identity.
fn pem_of(identity: &SigningIdentity) -> Option<Vec<u8>> {
    use prost::Message;
    let serialized = selvedge_proto::msp::SerializedIdentity::decode(identity.creator().clone()).ok()?;
    Some(serialized.id_bytes.to_vec())
}

fn write_durably(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => std::fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
