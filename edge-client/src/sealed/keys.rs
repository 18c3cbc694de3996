//! The file of device keys: who may send sealed messages, and with which key.
//!
//! The commands that add, renew and revoke keys and the running gateway use the same file, under a lock; the gateway reads
//! it again when it has changed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::intake::time::is_known;

use super::frame::{KEY_BYTES, KEY_ID_BYTES, KeyId, MAX_DEVICE_ID};

/// A key that was renewed is good for so long after the device has used its next one: for what it had sealed before.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// Why the file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or written, or is not one.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A request makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Use {
    /// The device seals with it.
    Current,
    /// The device is told of it in answers, and has not used it yet.
    Next,
    /// The device has a newer one; this one ends soon.
    Old,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeviceKey {
    id: String,
    device: String,
    key: String,
    #[serde(rename = "use")]
    used_as: Use,
    /// Unix seconds.
    created_at: u64,
    /// Unix seconds; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_after: Option<u64>,
}

/// A key as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceKeyView {
    /// Its id, in hex.
    pub id: String,
    /// Whose it is.
    pub device: String,
    /// `current`, `next` or `old`.
    pub state: String,
    /// Unix seconds.
    pub created_at: u64,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<u64>,
}

/// A new key, told once, for the device.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedKey {
    /// Whose it is.
    pub device: String,
    /// 8 bytes in hex.
    pub key_id: String,
    /// 32 bytes in hex.
    pub key: String,
}

impl std::fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedKey")
            .field("device", &self.device)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// A key that a frame names.
pub(crate) struct Found {
    pub(crate) device: String,
    pub(crate) key: [u8; KEY_BYTES],
    pub(crate) is_next: bool,
    /// It was renewed when nobody knew the time, so it has no end yet.
    pub(crate) needs_end: bool,
    /// The key that takes its place.
    pub(crate) next: Option<(KeyId, [u8; KEY_BYTES])>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

/// What the file holds.
#[derive(Default)]
pub(crate) struct DeviceKeys(Vec<DeviceKey>);

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn bytes_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex::decode(text).ok()?.try_into().ok()
}

fn new_key(device: &str, used_as: Use) -> Result<DeviceKey, KeyFileError> {
    let (mut id, mut key) = ([0; KEY_ID_BYTES], [0; KEY_BYTES]);
    let random = SystemRandom::new();
    random
        .fill(&mut id)
        .and_then(|()| random.fill(&mut key))
        .map_err(|_| KeyFileError::Invalid("the system gives no random numbers".to_owned()))?;
    Ok(DeviceKey {
        id: hex::encode(id),
        device: device.to_owned(),
        key: hex::encode(key),
        used_as,
        created_at: unix_seconds(),
        not_after: None,
    })
}

impl DeviceKeys {
    /// The key with this id, if it is good now.
    pub(crate) fn find(&self, id: &KeyId) -> Option<Found> {
        let id = hex::encode(id);
        let key = self.0.iter().find(|key| key.id == id)?;
        if key.not_after.is_some_and(|end| unix_seconds() > end) {
            return None;
        }
        let next = self
            .0
            .iter()
            .find(|other| other.device == key.device && other.used_as == Use::Next && other.id != key.id);
        Some(Found {
            device: key.device.clone(),
            key: bytes_of(&key.key)?,
            is_next: key.used_as == Use::Next,
            needs_end: key.used_as == Use::Old && key.not_after.is_none() && is_known(unix_seconds()),
            next: next.and_then(|next| Some((bytes_of(&next.id)?, bytes_of(&next.key)?))),
        })
    }

    fn has(&self, device: &str) -> bool {
        self.0.iter().any(|key| key.device == device)
    }
}

impl KeyFile {
    /// The file of a gateway whose data folder this is.
    pub fn in_folder(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("devices.json"),
        }
    }

    fn failed(&self, why: impl std::fmt::Display) -> KeyFileError {
        KeyFileError::File {
            path: self.path.clone(),
            why: why.to_string(),
        }
    }

    /// When the file was last changed; none if there is none.
    pub(crate) fn changed_at(&self) -> Option<(SystemTime, u64)> {
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// Reads the file; no file is no keys.
    pub(crate) fn read(&self) -> Result<DeviceKeys, KeyFileError> {
        let mut text = String::new();
        match File::open(&self.path) {
            Ok(mut file) => drop(file.read_to_string(&mut text).map_err(|e| self.failed(e))?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(DeviceKeys::default()),
            Err(e) => return Err(self.failed(e)),
        }
        let keys: Vec<DeviceKey> = serde_json::from_str(&text).map_err(|e| self.failed(e))?;
        for key in &keys {
            if bytes_of::<KEY_ID_BYTES>(&key.id).is_none() || bytes_of::<KEY_BYTES>(&key.key).is_none() {
                return Err(self.failed(format!(
                    "the key {} of {} is not in hex or too short",
                    key.id, key.device
                )));
            }
        }
        Ok(DeviceKeys(keys))
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut DeviceKeys) -> Result<T, KeyFileError>,
    ) -> Result<T, KeyFileError> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| self.failed(e))?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.path.with_extension("lock"))
            .map_err(|e| self.failed(e))?;
        lock.lock().map_err(|e| self.failed(e))?;
        let mut keys = self.read()?;
        let now = unix_seconds();
        keys.0.retain(|key| key.not_after.is_none_or(|end| now <= end));
        let result = change(&mut keys)?;
        let write = || -> std::io::Result<()> {
            let temporary = self.path.with_extension("new");
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(&keys.0)?)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)?;
            match self.path.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(|e| self.failed(e))?;
        Ok(result)
    }

    /// A first key for a device.
    ///
    /// # Errors
    /// It has one already, or the file cannot be written.
    pub fn add(&self, device: &str) -> Result<IssuedKey, KeyFileError> {
        if device.is_empty() || device.len() > MAX_DEVICE_ID {
            return Err(KeyFileError::Invalid(format!(
                "a device id has 1 to {MAX_DEVICE_ID} bytes"
            )));
        }
        self.change(|keys| {
            if keys.has(device) {
                return Err(KeyFileError::Invalid(format!(
                    "{device} has a key already; rotate it, or revoke it first"
                )));
            }
            let key = new_key(device, Use::Current)?;
            let issued = IssuedKey {
                device: key.device.clone(),
                key_id: key.id.clone(),
                key: key.key.clone(),
            };
            keys.0.push(key);
            Ok(issued)
        })
    }

    /// Renews a device's key: the next answer brings it the new one, under the old one's seal.
    ///
    /// # Errors
    /// The device has no key, or the file cannot be written.
    pub fn rotate(&self, device: &str) -> Result<String, KeyFileError> {
        self.change(|keys| {
            if !keys.has(device) {
                return Err(KeyFileError::Invalid(format!("{device} has no key")));
            }
            keys.0
                .retain(|key| key.device != device || key.used_as != Use::Next);
            let key = new_key(device, Use::Next)?;
            let id = key.id.clone();
            keys.0.push(key);
            Ok(id)
        })
    }

    /// Takes all keys of a device away, at once.
    ///
    /// # Errors
    /// The device has none, or the file cannot be written.
    pub fn revoke(&self, device: &str) -> Result<usize, KeyFileError> {
        self.change(|keys| {
            let before = keys.0.len();
            keys.0.retain(|key| key.device != device);
            match before - keys.0.len() {
                0 => Err(KeyFileError::Invalid(format!("{device} has no key"))),
                gone => Ok(gone),
            }
        })
    }

    /// All keys, without the keys themselves.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self) -> Result<Vec<DeviceKeyView>, KeyFileError> {
        let keys = self.read()?;
        let view = |key: &DeviceKey| DeviceKeyView {
            id: key.id.clone(),
            device: key.device.clone(),
            state: match key.used_as {
                Use::Current => "current",
                Use::Next => "next",
                Use::Old => "old",
            }
            .to_owned(),
            created_at: key.created_at,
            not_after: key.not_after,
        };
        Ok(keys.0.iter().map(view).collect())
    }

    /// Old keys that have no end get one, where the time is known.
    pub(crate) fn end_old(&self) -> Result<(), KeyFileError> {
        self.end_old_at(unix_seconds())
    }

    fn end_old_at(&self, now: u64) -> Result<(), KeyFileError> {
        self.change(|keys| {
            if is_known(now) {
                for key in keys.0.iter_mut().filter(|key| key.used_as == Use::Old) {
                    key.not_after.get_or_insert(now + OVERLAP.as_secs());
                }
            }
            Ok(())
        })
    }

    /// The device has used its next key: it is the current one from now on.
    pub(crate) fn promote(&self, id: &KeyId) -> Result<(), KeyFileError> {
        self.promote_at(id, unix_seconds())
    }

    fn promote_at(&self, id: &KeyId, now: u64) -> Result<(), KeyFileError> {
        let id = hex::encode(id);
        self.change(|keys| {
            let device = keys
                .0
                .iter()
                .find(|key| key.id == id && key.used_as == Use::Next)
                .map(|key| key.device.clone());
            // While nobody knows the time, nobody knows when a day will be over.
            let end = is_known(now).then(|| now + OVERLAP.as_secs());
            for key in keys
                .0
                .iter_mut()
                .filter(|key| Some(&key.device) == device.as_ref())
            {
                if key.id == id {
                    key.used_as = Use::Current;
                } else {
                    key.used_as = Use::Old;
                    key.not_after = key.not_after.or(end);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_added_renewed_and_revoked() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::in_folder(folder.path());
        assert!(file.list().unwrap().is_empty());
        let first = file.add("box-1").unwrap();
        assert!(file.add("box-1").is_err());
        assert!(file.add("").is_err());
        file.add("box-2").unwrap();
        let mode = std::fs::metadata(folder.path().join("devices.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let id: KeyId = bytes_of(&first.key_id).unwrap();
        assert!(file.read().unwrap().find(&id).unwrap().next.is_none());

        let next = file.rotate("box-1").unwrap();
        let keys = file.read().unwrap();
        let next_id: KeyId = bytes_of(&next).unwrap();
        assert_eq!(keys.find(&id).unwrap().next.unwrap().0, next_id);
        assert!(keys.find(&next_id).unwrap().is_next);
        file.promote(&next_id).unwrap();
        let states: Vec<String> = file.list().unwrap().into_iter().map(|k| k.state).collect();
        assert_eq!(states, ["old", "current", "current"]);
        assert!(
            file.read().unwrap().find(&id).is_some(),
            "the old one is good for a while"
        );

        assert_eq!(file.revoke("box-1").unwrap(), 2);
        assert!(file.read().unwrap().find(&next_id).is_none());
        assert!(file.revoke("box-1").is_err());
        assert!(file.rotate("box-1").is_err());
        assert!(!format!("{first:?}").contains(&first.key));
    }

    #[test]
    fn a_key_that_is_renewed_before_the_time_is_known_ends_a_day_after_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::in_folder(folder.path());
        let first: KeyId = bytes_of(&file.add("box-1").unwrap().key_id).unwrap();
        let next: KeyId = bytes_of(&file.rotate("box-1").unwrap()).unwrap();
        file.promote_at(&next, 100).unwrap();
        let found = file.read().unwrap().find(&first).expect("it is good still");
        assert!(found.needs_end);
        file.end_old_at(200).unwrap();
        assert!(file.read().unwrap().find(&first).unwrap().needs_end);
        file.end_old().unwrap();
        let found = file.read().unwrap().find(&first).unwrap();
        assert!(!found.needs_end);
        assert!(file.list().unwrap()[0].not_after.unwrap() > unix_seconds());
    }
}
