//! Short-lived secrets: tokens of people who have signed in, one-time codes in links, challenges to be signed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rand::TryRngCore;

use crate::error::Problem;
use crate::sha256;

/// Open secrets of one kind at most. The oldest go first: a flood of log-ins must not fill the memory.
const MAX_OPEN: usize = 10_000;
const SECRET_BYTES: usize = 32;

/// A secret that was just made.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The text to hand out. It is kept nowhere.
    pub(crate) secret: String,
    /// How long it counts, from now.
    pub(crate) life: Duration,
}

#[derive(Debug)]
struct Entry {
    user: String,
    until: Instant,
}

/// Secrets of one kind, by their hash: who reads this memory cannot use them, and looking one up takes no time that
/// depends on how much of a guess is right.
#[derive(Debug)]
pub(crate) struct Tokens {
    life: Duration,
    open: Mutex<HashMap<[u8; 32], Entry>>,
}

impl Tokens {
    pub(crate) fn new(life: Duration) -> Self {
        Self {
            life,
            open: Mutex::new(HashMap::new()),
        }
    }

    /// Makes a secret that stands for `user`.
    pub(crate) fn issue(&self, user: &str) -> Result<Issued, Problem> {
        let mut bytes = [0; SECRET_BYTES];
        rand::rngs::OsRng
            .try_fill_bytes(&mut bytes)
            .map_err(|e| Problem::internal(&e))?;
        let secret = URL_SAFE_NO_PAD.encode(bytes);
        let now = Instant::now();
        let mut open = self.open.lock();
        if open.len() >= MAX_OPEN {
            open.retain(|_, entry| entry.until > now);
        }
        if open.len() >= MAX_OPEN
            && let Some(oldest) = open
                .iter()
                .min_by_key(|(_, entry)| entry.until)
                .map(|(hash, _)| *hash)
        {
            open.remove(&oldest);
        }
        let entry = Entry {
            user: user.to_owned(),
            until: now + self.life,
        };
        open.insert(sha256(secret.as_bytes()), entry);
        Ok(Issued {
            secret,
            life: self.life,
        })
    }

    /// Whom a secret stands for, while it counts.
    pub(crate) fn user(&self, secret: &str) -> Option<String> {
        let open = self.open.lock();
        let entry = open.get(&sha256(secret.as_bytes()))?;
        (entry.until > Instant::now()).then(|| entry.user.clone())
    }

    /// Ends a secret, and says whom it stood for if it still counted.
    pub(crate) fn take(&self, secret: &str) -> Option<String> {
        let entry = self.open.lock().remove(&sha256(secret.as_bytes()))?;
        (entry.until > Instant::now()).then_some(entry.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_until_it_is_taken() {
        let tokens = Tokens::new(Duration::from_secs(60));
        let issued = tokens.issue("alice").unwrap();
        assert_eq!(tokens.user(&issued.secret).as_deref(), Some("alice"));
        assert_eq!(tokens.user("another"), None);
        assert_eq!(tokens.take(&issued.secret).as_deref(), Some("alice"));
        assert_eq!(tokens.take(&issued.secret), None, "once only");
        assert_eq!(tokens.user(&issued.secret), None);
    }

    #[test]
    fn old_ones_do_not_count() {
        let tokens = Tokens::new(Duration::ZERO);
        let issued = tokens.issue("alice").unwrap();
        assert_eq!(tokens.user(&issued.secret), None);
        assert_eq!(tokens.take(&issued.secret), None);
    }

    #[test]
    fn a_flood_pushes_out_the_oldest() {
        let tokens = Tokens::new(Duration::from_secs(60));
        let first = tokens.issue("first").unwrap();
        for _ in 0..MAX_OPEN {
            tokens.issue("flood").unwrap();
        }
        assert_eq!(tokens.open.lock().len(), MAX_OPEN);
        assert_eq!(tokens.user(&first.secret), None);
    }
}
