//! From a request to a committed transaction. One request never becomes two transactions that count.
//!
//! The id of a transaction follows from its nonce and its creator. A request that names itself (`Idempotency-Key`) gets
//! its nonce from that name, so a caller who lost the answer may send it again: the ledger admits the id once, and the
//! second call is told what became of the first.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use rand::TryRngCore;
use selvedge_proto::NONCE_LEN;
use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::{Call, ClientIdentity, CommitError, Error, Invocation, Nonce, Retry};
use zeroize::Zeroizing;

use super::{Network, is_away};
use crate::{ApiError, sha256};

/// How often a transaction that lost a race is followed by a new one.
const CONFLICT_RETRIES: u32 = 5;
const SEED_BYTES: usize = 32;

/// The secret that nonces of named requests are made from: ids cannot be foreseen by who knows the names.
pub(crate) struct Seed(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed")
    }
}

impl Seed {
    /// Reads the seed from its file, or makes it.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) fn open(folder: &Path) -> Result<Self, ApiError> {
        let path = folder.join("nonce.seed");
        let failed = |source| ApiError::ReadFile {
            path: path.clone(),
            source,
        };
        match std::fs::read(&path) {
            Ok(bytes) if bytes.len() == SEED_BYTES => return Ok(Self(Zeroizing::new(bytes))),
            Ok(_) => {
                let why = "it does not hold 32 bytes; remove it to start anew".to_owned();
                return Err(ApiError::Config { path, why });
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        let mut seed = Zeroizing::new(vec![0; SEED_BYTES]);
        rand::rngs::OsRng
            .try_fill_bytes(&mut seed)
            .map_err(|e| failed(std::io::Error::other(e)))?;
        let mut file = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        file.write_all(&seed)
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        Ok(Self(seed))
    }

    fn nonce(&self, identity: &ClientIdentity, channel: &str, key: &str, attempt: u32) -> Nonce {
        let mut text = Zeroizing::new(self.0.to_vec());
        for part in [identity.creator().as_ref(), channel.as_bytes(), key.as_bytes()] {
            text.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            text.extend_from_slice(part);
        }
        text.extend_from_slice(&attempt.to_be_bytes());
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&sha256(&text)[..NONCE_LEN]);
        Nonce::from_bytes(nonce)
    }
}

/// A transaction that is asked for.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) invocation: Invocation,
    /// Names the request, so that it can be repeated.
    pub(crate) key: Option<String>,
    /// A transaction that lost a race is followed by a new one.
    pub(crate) retry_conflicts: bool,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Valid, on the ledger.
    Committed { id: String, block: u64, result: Bytes },
    /// Ordered; the commit was not seen in time. It may still come.
    Pending { id: String },
}

impl Network {
    /// Endorses, submits and waits for the commit, in a user's name.
    ///
    /// # Errors
    /// The contract or the network refuses; nothing was written.
    pub(crate) async fn submit(
        &self,
        identity: &ClientIdentity,
        seed: &Seed,
        submission: &Submission,
    ) -> Result<Outcome, Error> {
        let mut attempt = 0;
        loop {
            let nonce = match &submission.key {
                Some(key) => seed.nonce(identity, submission.invocation.channel(), key, attempt),
                None => Nonce::random()?,
            };
            let result = match &submission.key {
                Some(_) => match self.look_up(identity, &submission.invocation, &nonce).await {
                    Ok(Some(done)) => Ok(done),
                    Ok(None) => self.submit_once(identity, &submission.invocation, &nonce).await,
                    Err(error) => Err(error),
                },
                None => self.submit_once(identity, &submission.invocation, &nonce).await,
            };
            match result {
                Err(error)
                    if error.retry() == Retry::NewTransaction
                        && submission.retry_conflicts
                        && attempt < CONFLICT_RETRIES =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn submit_once(
        &self,
        identity: &ClientIdentity,
        invocation: &Invocation,
        nonce: &Nonce,
    ) -> Result<Outcome, Error> {
        let id = nonce.transaction_id(identity);
        let mut last = None;
        // The same id at another peer: the ledger admits it once, however many of them got it to the orderers.
        for offset in 0..self.nodes.len() {
            let first = self.current.load(std::sync::atomic::Ordering::Relaxed);
            let node = &self.nodes[(first + offset) % self.nodes.len()];
            let gateway = node.gateway.clone().with_identity(identity.clone());
            let proposal = gateway.propose_with(invocation, nonce)?;
            match gateway.submit_proposal_and_wait(&proposal).await {
                Ok(done) => {
                    return Ok(Outcome::Committed {
                        id,
                        block: done.block_number,
                        result: done.result,
                    });
                }
                Err(Error::Rpc(rpc)) if rpc.call == Call::CommitStatus => return Ok(Outcome::Pending { id }),
                Err(error) if error.retry() == Retry::LookUp => {
                    return self.look_up(identity, invocation, nonce).await?.ok_or(error);
                }
                Err(error) if is_away(&error) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Request("no peer is configured".to_owned())))
    }

    /// What the ledger knows of a transaction; none when it does not know it.
    async fn look_up(
        &self,
        identity: &ClientIdentity,
        invocation: &Invocation,
        nonce: &Nonce,
    ) -> Result<Option<Outcome>, Error> {
        let id = nonce.transaction_id(identity);
        let channel = invocation.channel();
        let found = self
            .at_peer(|peer| peer.transaction(identity, channel, &id))
            .await;
        let found = match found {
            Ok(found) => found,
            Err(Error::Refused { message, .. }) if message.contains("no such transaction") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let status = self
            .with_node(|node| {
                let gateway = node.gateway.clone().with_identity(identity.clone());
                let id = id.as_str();
                async move { gateway.commit_status(channel, id).await }
            })
            .await?;
        if status.code != TxValidationCode::Valid {
            return Err(Error::Commit(CommitError {
                transaction_id: id,
                code: status.code,
                block_number: status.block_number,
            }));
        }
        let result = found
            .transaction_envelope
            .and_then(|envelope| selvedge_proto::transaction_action(envelope.payload).ok())
            .and_then(|action| action.response)
            .map(|response| response.payload)
            .unwrap_or_default();
        Ok(Some(Outcome::Committed {
            id,
            block: status.block_number,
            result,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_is_kept_and_secret() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = Seed::open(folder.path()).unwrap();
        let again = Seed::open(folder.path()).unwrap();
        assert_eq!(first.0, again.0);
        let mode = std::fs::metadata(folder.path().join("nonce.seed"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(folder.path().join("nonce.seed"), b"short").unwrap();
        assert!(Seed::open(folder.path()).is_err());
    }
}
