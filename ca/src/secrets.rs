//! Secrets: drawing them, hashing them, comparing them.

use rand::distr::{Alphanumeric, SampleString};

use crate::error::Refusal;

/// Length of secrets that the server makes: 142 bits. Longer than Fabric's 12 characters, since they are guessable online.
const DRAWN_LENGTH: usize = 24;
/// bcrypt ignores what is longer.
const MAX_SECRET_BYTES: usize = 72;
/// For secrets that people choose. Go's default cost: npm's client gives up after 3 s, and small machines are slow.
const CHOSEN_COST: u32 = 10;
/// For secrets that the server draws. A slow hash makes guessing a stolen registry's secrets dear; 142 random bits cannot
/// be guessed at any speed, so bcrypt's least cost is enough, and devices enrol by the thousand.
const DRAWN_COST: u32 = 4;
/// A hash that no secret has, of the cost that nearly all identities have: checked for unknown callers, so that they take
/// as long as devices do. That somebody's secret was chosen can be told by the time it takes; ten guesses are all.
const NOBODYS: &str = "$2b$04$C6UzMDM.H6dfI/f/IKcEeO7ZJ8Yh1rHqJ1y7mF0YxQbqk4vN1Qv1e";

/// A new secret, and its hash.
pub(crate) fn draw() -> Result<(String, String), Refusal> {
    let secret = Alphanumeric.sample_string(&mut rand::rng(), DRAWN_LENGTH);
    let hash = hash(&secret, DRAWN_COST)?;
    Ok((secret, hash))
}

/// The hash of a secret that somebody chose.
pub(crate) fn hash_chosen(secret: &str) -> Result<String, Refusal> {
    if secret.len() > MAX_SECRET_BYTES {
        return Err(Refusal::new(
            400,
            75,
            format!("a secret has at most {MAX_SECRET_BYTES} bytes"),
        ));
    }
    hash(secret, CHOSEN_COST)
}

fn hash(secret: &str, cost: u32) -> Result<String, Refusal> {
    bcrypt::hash(secret, cost).map_err(|e| Refusal::internal(75, e))
}

/// Whether a secret has this hash; false for nobody's, after as long a time.
pub(crate) fn is_right(secret: &str, hash: Option<&str>) -> bool {
    // bcrypt compares without regard to where the difference is. A hash that is none fits nothing.
    let right = bcrypt::verify(secret, hash.unwrap_or(NOBODYS)).unwrap_or(false);
    right && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_fit_their_hash_only() {
        let (secret, drawn) = draw().unwrap();
        assert_eq!(secret.len(), DRAWN_LENGTH);
        assert!(drawn.starts_with("$2b$04$"), "{drawn}");
        assert!(is_right(&secret, Some(&drawn)) && !is_right("x", Some(&drawn)));
        let chosen = hash_chosen("password").unwrap();
        assert!(chosen.starts_with("$2b$10$"), "{chosen}");
        assert!(is_right("password", Some(&chosen)));
        assert!(!is_right("", Some("")) && !is_right("x", None) && !is_right("", None));
        assert_eq!(hash_chosen(&"x".repeat(73)).unwrap_err().code, 75);
    }

    #[test]
    fn nobodys_hash_is_one_that_takes_its_time() {
        let parts: bcrypt::HashParts = NOBODYS.parse().unwrap();
        assert_eq!(parts.get_cost(), DRAWN_COST);
        assert!(!bcrypt::verify("anything", NOBODYS).unwrap());
    }
}
