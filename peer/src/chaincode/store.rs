//! The packages installed on this peer: exact bytes in one folder, one file a package, named by its id.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use prost::Message;
use selvedge_proto::lifecycle;
use sha2::{Digest, Sha256};

use super::package::{self, PackageError};

const SUFFIX: &str = ".tar.gz";

/// One installed package.
#[derive(Debug, Clone)]
pub struct InstalledPackage {
    /// `label:hash`.
    pub package_id: String,
    /// The label.
    pub label: String,
    /// SHA-256 of the state value that an approval of this package writes (spec 03 §11.2): tells an approval's
    /// package from its hash alone.
    pub approval_hash: [u8; 32],
    path: PathBuf,
}

/// The packages in a folder.
#[derive(Debug)]
pub struct PackageStore {
    dir: PathBuf,
    packages: RwLock<BTreeMap<String, Arc<InstalledPackage>>>,
}

/// SHA-256 over the state value that names `package_id` in an approval.
pub fn approval_hash(package_id: &str) -> [u8; 32] {
    let data = lifecycle::StateData {
        r#type: Some(lifecycle::state_data::Type::String(package_id.to_owned())),
    };
    Sha256::digest(data.encode_to_vec()).into()
}

fn failed<'a>(path: &'a Path, what: &'a str) -> impl Fn(std::io::Error) -> PackageError + 'a {
    move |e| PackageError::Store {
        path: path.display().to_string(),
        why: format!("{what}: {e}"),
    }
}

/// Writes a file so that it is either there whole or not at all, readable by its owner alone.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    if let Some(dir) = path.parent() {
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

impl PackageStore {
    /// Opens the store in `dir`, which is created when it does not exist. Every package is checked against its id.
    ///
    /// # Errors
    /// The folder cannot be read, or a package in it is damaged.
    pub fn open(dir: &Path) -> Result<Self, PackageError> {
        std::fs::create_dir_all(dir).map_err(failed(dir, "cannot create the folder"))?;
        let mut packages = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(failed(dir, "cannot list the folder"))? {
            let path = entry.map_err(failed(dir, "cannot list the folder"))?.path();
            let Some(stem) = path
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(|n| n.strip_suffix(SUFFIX))
            else {
                continue;
            };
            let bytes = std::fs::read(&path).map_err(failed(&path, "cannot read the package"))?;
            let hash = hex::encode(Sha256::digest(&bytes));
            let label = stem.strip_suffix(&hash).and_then(|rest| rest.strip_suffix('.'));
            let Some(label) = label.filter(|l| package::label_is_valid(l)) else {
                return Err(PackageError::Store {
                    path: path.display().to_string(),
                    why: format!(
                        "the file is damaged or renamed (the SHA-256 of its content is {hash}): remove it and \
                         install the package again"
                    ),
                });
            };
            let installed = InstalledPackage::new(package::package_id(label, &bytes), label, path.clone());
            packages.insert(installed.package_id.clone(), Arc::new(installed));
        }
        Ok(Self {
            dir: dir.to_owned(),
            packages: RwLock::new(packages),
        })
    }

    /// Stores the exact bytes of a package that [`package::read_package`] accepted. Durable when it returns.
    ///
    /// # Errors
    /// It is installed already, or the file cannot be written.
    pub fn add(
        &self,
        package_id: &str,
        label: &str,
        bytes: &[u8],
    ) -> Result<Arc<InstalledPackage>, PackageError> {
        let mut packages = self.packages.write();
        if packages.contains_key(package_id) {
            return Err(PackageError::AlreadyInstalled(package_id.to_owned()));
        }
        let hash = package_id.rsplit(':').next().unwrap_or_default();
        let path = self.dir.join(format!("{label}.{hash}{SUFFIX}"));
        write_atomically(&path, bytes)
            .map_err(failed(&path, "cannot write the package (is the disk full?)"))?;
        let installed = Arc::new(InstalledPackage::new(package_id.to_owned(), label, path));
        packages.insert(package_id.to_owned(), installed.clone());
        Ok(installed)
    }

    /// A package by its id.
    pub fn get(&self, package_id: &str) -> Option<Arc<InstalledPackage>> {
        self.packages.read().get(package_id).cloned()
    }

    /// The package that an approval with this hash names, if it is installed here.
    pub fn by_approval_hash(&self, hash: &[u8]) -> Option<Arc<InstalledPackage>> {
        self.packages
            .read()
            .values()
            .find(|p| p.approval_hash.as_slice() == hash)
            .cloned()
    }

    /// All packages, by id.
    pub fn list(&self) -> Vec<Arc<InstalledPackage>> {
        self.packages.read().values().cloned().collect()
    }
}

impl InstalledPackage {
    fn new(package_id: String, label: &str, path: PathBuf) -> Self {
        Self {
            approval_hash: approval_hash(&package_id),
            package_id,
            label: label.to_owned(),
            path,
        }
    }

    /// The exact bytes that were installed.
    ///
    /// # Errors
    /// The file cannot be read, or has changed since.
    pub fn bytes(&self) -> Result<Vec<u8>, PackageError> {
        let bytes = std::fs::read(&self.path).map_err(failed(&self.path, "cannot read the package"))?;
        if package::package_id(&self.label, &bytes) != self.package_id {
            return Err(PackageError::Store {
                path: self.path.display().to_string(),
                why: "the file has changed since it was installed: remove it and install the package again"
                    .into(),
            });
        }
        Ok(bytes)
    }

    /// Where the compiled module is kept.
    pub(crate) fn compiled_path(&self) -> PathBuf {
        let name = self.path.to_string_lossy();
        PathBuf::from(format!("{}.cwasm", name.strip_suffix(SUFFIX).unwrap_or(&name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(store: &PackageStore) -> (String, Vec<u8>) {
        let bytes = package::write_package("demo", b"module").unwrap();
        let package = package::read_package(&bytes).unwrap();
        store.add(&package.package_id, &package.label, &bytes).unwrap();
        (package.package_id, bytes)
    }

    #[test]
    fn packages_survive_a_restart_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let store = PackageStore::open(dir.path()).unwrap();
        let (id, bytes) = installed(&store);
        let text = store.add(&id, "demo", &bytes).unwrap_err().to_string();
        assert_eq!(
            text,
            format!("chaincode already successfully installed (package ID '{id}')")
        );
        let again = PackageStore::open(dir.path()).unwrap();
        assert_eq!(again.get(&id).unwrap().bytes().unwrap(), bytes);
        assert_eq!(
            again.by_approval_hash(&approval_hash(&id)).unwrap().package_id,
            id
        );
        assert!(again.by_approval_hash(&approval_hash("other:00")).is_none());
    }

    #[test]
    fn a_damaged_package_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = PackageStore::open(dir.path()).unwrap();
        let (id, bytes) = installed(&store);
        let path = store.get(&id).unwrap().path.clone();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(
            store
                .get(&id)
                .unwrap()
                .bytes()
                .unwrap_err()
                .to_string()
                .contains("has changed")
        );
        let text = PackageStore::open(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains("damaged") && text.contains(path.to_str().unwrap()),
            "{text}"
        );
    }
}
