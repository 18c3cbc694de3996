//! Which read was stale, for the explanation that a client gets.

use std::fmt;

use selvedge_proto::protos::TxValidationCode;

use crate::state::KeyRef;
use crate::version::Version;

/// What a transaction had read that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConflictKey {
    /// A public key.
    Public {
        /// Its namespace.
        namespace: String,
        /// The key.
        key: String,
    },
    /// A key of a private collection, of which only the hash is known.
    Hashed {
        /// Its namespace.
        namespace: String,
        /// Its collection.
        collection: String,
        /// Lowercase hex of SHA-256(key).
        key_hash: String,
    },
    /// The results of a range query.
    Range {
        /// Its namespace.
        namespace: String,
        /// First key of the range.
        start: String,
        /// End of the range; empty where unbounded.
        end: String,
        /// The first key whose presence or version differs; `None` where only hashes of the results are known.
        key: Option<String>,
    },
}

/// Why a transaction got `MVCC_READ_CONFLICT` or `PHANTOM_READ_CONFLICT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MvccConflict {
    /// Index of the transaction that lost, in the block that was judged.
    pub tx: u64,
    /// What it had read.
    pub key: ConflictKey,
    /// The version it had read; `None`: the key was absent, or the query's results are known by hashes only.
    pub read: Option<Version>,
    /// The version that was committed before the block; `None`: absent or unknown.
    pub committed: Option<Version>,
    /// Who changed it, where that is known (a key that was deleted in an earlier block leaves no trace of who did).
    pub winner: Option<Version>,
}

impl MvccConflict {
    /// The code that the transaction gets.
    pub fn code(&self) -> TxValidationCode {
        match self.key {
            ConflictKey::Range { .. } => TxValidationCode::PhantomReadConflict,
            _ => TxValidationCode::MvccReadConflict,
        }
    }

    pub(super) fn read(
        tx: u64,
        key: KeyRef<'_>,
        read: Option<Version>,
        committed: Option<Version>,
        winner: Option<Version>,
    ) -> Self {
        let key = match key {
            KeyRef::Public { ns, key } | KeyRef::Private { ns, key, .. } => ConflictKey::Public {
                namespace: ns.to_owned(),
                key: key.to_owned(),
            },
            KeyRef::Hashed {
                ns,
                collection,
                key_hash,
            } => ConflictKey::Hashed {
                namespace: ns.to_owned(),
                collection: collection.to_owned(),
                key_hash: hex::encode(key_hash),
            },
        };
        Self {
            tx,
            key,
            read,
            committed,
            winner,
        }
    }
}

impl fmt::Display for ConflictKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public { namespace, key } => write!(f, "key {key:?} of {namespace}"),
            Self::Hashed {
                namespace,
                collection,
                key_hash,
            } => write!(
                f,
                "the key with hash {key_hash} in collection {collection} of {namespace}"
            ),
            Self::Range {
                namespace,
                start,
                end,
                key,
            } => {
                write!(f, "the range from {start:?} to {end:?} of {namespace}")?;
                match key {
                    Some(key) => write!(f, " (first difference at key {key:?})"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for MvccConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changed between endorsement and commit: ", self.key)?;
        match (self.read, &self.key) {
            (Some(version), _) => write!(f, "it was read as written by {version}, ")?,
            (None, ConflictKey::Range { .. }) => {}
            (None, _) => f.write_str("it was read as absent, ")?,
        }
        match self.winner {
            Some(version) => write!(f, "{version} came first"),
            None => f.write_str("an earlier block changed it"),
        }
    }
}
