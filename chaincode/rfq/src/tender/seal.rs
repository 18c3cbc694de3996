//! How an offer is sealed.

use selvedge_chaincode::{Error, Result, sha256_hex};

/// Fewest and most characters of a salt.
pub const SALT_DIGITS: std::ops::RangeInclusive<usize> = 32..=128;

/// The commitment to an offer: SHA-256 in lower-case hex over four lines (purpose, tender, supplier's MSP id, salt), each
/// ended by LF, and the offer's exact text. Tender and supplier are in it, so that a seal fits nowhere else; the salt
/// keeps the offer from being guessed.
///
/// ```
/// let seal = selvedge_chaincode_rfq::commitment("t1", "Org2MSP", "00112233445566778899aabbccddeeff", r#"{"price":28}"#);
/// assert_eq!(seal, "30a934620834cf81c35146b9bfd85f837398f70216fde10cc76cbc49cd14885c");
/// ```
pub fn commitment(tender: &str, supplier: &str, salt: &str, offer: &str) -> String {
    sha256_hex(format!("selvedge sealed offer 1\n{tender}\n{supplier}\n{salt}\n{offer}").as_bytes())
}

/// Checks the form of a salt.
pub(crate) fn check_salt(salt: &str) -> Result<()> {
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if SALT_DIGITS.contains(&salt.len()) && salt.bytes().all(digits) {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "salt must be {} to {} characters 0-9 a-f",
        SALT_DIGITS.start(),
        SALT_DIGITS.end()
    )))
}

/// Checks the form of a commitment.
pub(crate) fn check_commitment(text: &str, path: &str) -> Result<()> {
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() == 64 && text.bytes().all(digits) {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "{path} must be 64 characters 0-9 a-f, the SHA-256 of the sealed offer"
    )))
}
