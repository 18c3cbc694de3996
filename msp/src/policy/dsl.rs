//! The text form of signature policies: `AND('Org1MSP.peer', OR('Org2MSP.peer', 'Org2MSP.admin'))` (spec 02 §14.4).

use prost::Message as _;
use selvedge_proto::common::{
    self, SignaturePolicyEnvelope, msp_principal::Classification, msp_role::MspRoleType, signature_policy,
};

use crate::policy::SignaturePolicy;
use crate::principal::role_name;

/// Longest text taken.
const MAX_TEXT: usize = 64 * 1024;
/// Deepest nesting of gates; protobuf decoders stop at about 50.
const MAX_DEPTH: usize = 32;

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DslError {
    /// The text ends or goes on where it must not, at a byte position.
    #[error("policy text, at character {at}: expected {expected}, found {found}")]
    Syntax {
        /// Position in bytes, from 1.
        at: usize,
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A gate that does not exist.
    #[error("policy text: '{0}' is unknown; gates are AND, OR and OutOf")]
    UnknownGate(String),
    /// A principal that is not `MSPID.role`.
    #[error(
        "policy text: '{0}' is not a principal; write 'MSPID.role' with role member, admin, client, peer or orderer, and \
         letters, digits, '.' and '-' in the MSP id"
    )]
    Principal(String),
    /// A count that makes no sense.
    #[error("policy text: OutOf({n}, ...) with {rules} policies; the number must be 0 to {}", rules + 1)]
    Count {
        /// The number given.
        n: i64,
        /// How many policies follow.
        rules: usize,
    },
    /// A gate without policies.
    #[error("policy text: {0} needs at least one policy inside")]
    Empty(&'static str),
    /// Too long or too deep.
    #[error("policy text: it is longer than {MAX_TEXT} bytes or nested deeper than {MAX_DEPTH} gates")]
    TooLarge,
}

/// Parses a policy. Identities are listed once per occurrence in the order of the text, as the `peer` command does, so
/// that the encoded policy is the same (spec 02 §14.4).
///
/// # Errors
/// Where and why the text is not a policy.
pub fn parse(text: &str) -> Result<SignaturePolicyEnvelope, DslError> {
    if text.len() > MAX_TEXT {
        return Err(DslError::TooLarge);
    }
    let mut parser = Parser {
        text,
        at: 0,
        identities: Vec::new(),
    };
    let rule = parser.gate(MAX_DEPTH)?;
    parser.skip_blanks();
    if parser.at < text.len() {
        return Err(parser.expected("the end of the text"));
    }
    Ok(SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities: parser.identities,
    })
}

/// Writes an envelope as text. Principals that are not roles, and policies that do not compile, are described in
/// brackets; the result is for reading then.
#[must_use]
pub fn display(envelope: &SignaturePolicyEnvelope) -> String {
    match SignaturePolicy::compile(envelope) {
        Ok(policy) => policy.to_string(),
        Err(e) => format!("[{e}]"),
    }
}

/// The rule that the identity with this index must sign.
#[must_use]
pub fn signed_by(index: i32) -> common::SignaturePolicy {
    common::SignaturePolicy {
        r#type: Some(signature_policy::Type::SignedBy(index)),
    }
}

/// The rule that `n` of the rules must be met.
#[must_use]
pub fn n_out_of(n: i32, rules: Vec<common::SignaturePolicy>) -> common::SignaturePolicy {
    let gate = signature_policy::NOutOf { n, rules };
    common::SignaturePolicy {
        r#type: Some(signature_policy::Type::NOutOf(gate)),
    }
}

/// The principal `'MSPID.role'`.
#[must_use]
pub fn role_principal(msp_id: &str, role: MspRoleType) -> common::MspPrincipal {
    let role = common::MspRole {
        msp_identifier: msp_id.to_owned(),
        role: role as i32,
    };
    common::MspPrincipal {
        principal_classification: Classification::Role as i32,
        principal: role.encode_to_vec().into(),
    }
}

/// The policy that somebody with the role in any one of the MSPs signs; the MSPs are listed in sorted order.
#[must_use]
pub fn signed_by_any_role<S: AsRef<str>>(msp_ids: &[S], role: MspRoleType) -> SignaturePolicyEnvelope {
    let mut sorted: Vec<&str> = msp_ids.iter().map(AsRef::as_ref).collect();
    sorted.sort_unstable();
    SignaturePolicyEnvelope {
        version: 0,
        rule: Some(n_out_of(
            1,
            (0i32..).zip(&sorted).map(|(i, _)| signed_by(i)).collect(),
        )),
        identities: sorted.iter().map(|id| role_principal(id, role)).collect(),
    }
}

/// The policy that everybody satisfies, with any or no signatures.
#[must_use]
pub fn accept_all() -> SignaturePolicyEnvelope {
    SignaturePolicyEnvelope {
        version: 0,
        rule: Some(n_out_of(0, Vec::new())),
        identities: Vec::new(),
    }
}

/// The policy that nobody satisfies.
#[must_use]
pub fn reject_all() -> SignaturePolicyEnvelope {
    SignaturePolicyEnvelope {
        version: 0,
        rule: Some(n_out_of(1, Vec::new())),
        identities: Vec::new(),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    identities: Vec<common::MspPrincipal>,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn expected(&self, expected: &'static str) -> DslError {
        let rest = self.rest();
        let found = match rest.chars().next() {
            None => "the end of the text".to_owned(),
            Some(_) => format!("'{}'", rest.chars().take(12).collect::<String>()),
        };
        DslError::Syntax {
            at: self.at + 1,
            expected,
            found,
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        let there = self.rest().starts_with(wanted);
        if there {
            self.at += wanted.len_utf8();
        }
        there
    }

    fn gate(&mut self, depth: usize) -> Result<common::SignaturePolicy, DslError> {
        let depth = depth.checked_sub(1).ok_or(DslError::TooLarge)?;
        self.skip_blanks();
        let length = self
            .rest()
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(self.rest().len());
        let name = self.rest()[..length].to_owned();
        if name.is_empty() {
            return Err(self.expected("one of the gates AND(...), OR(...), OutOf(n, ...)"));
        }
        let gate = match name.to_ascii_lowercase().as_str() {
            "and" => "AND",
            "or" => "OR",
            "outof" => "OutOf",
            _ => return Err(DslError::UnknownGate(name)),
        };
        self.at += length;
        if !self.take('(') {
            return Err(self.expected("'('"));
        }
        let count = if gate == "OutOf" {
            Some(self.number()?)
        } else {
            None
        };
        let mut rules = Vec::new();
        if count.is_none() || self.take(',') {
            loop {
                rules.push(self.argument(gate, depth)?);
                if !self.take(',') {
                    break;
                }
            }
        }
        if !self.take(')') {
            return Err(self.expected("',' or ')'"));
        }
        if rules.is_empty() {
            return Err(DslError::Empty(gate));
        }
        let all = i64::try_from(rules.len()).unwrap_or(i64::MAX);
        let n = match gate {
            "AND" => all,
            "OR" => 1,
            _ => count.unwrap_or(0),
        };
        match i32::try_from(n) {
            Ok(small) if (0..=all + 1).contains(&n) => Ok(n_out_of(small, rules)),
            _ => Err(DslError::Count {
                n,
                rules: rules.len(),
            }),
        }
    }

    /// A principal in quotes, or a gate.
    fn argument(&mut self, gate: &'static str, depth: usize) -> Result<common::SignaturePolicy, DslError> {
        self.skip_blanks();
        match self.rest().chars().next() {
            Some('\'' | '"') => {
                let principal = role_from_text(&self.quoted()?)?;
                // The text is at most 64 KiB, so the count fits.
                let index = i32::try_from(self.identities.len()).map_err(|_| DslError::TooLarge)?;
                self.identities.push(principal);
                Ok(signed_by(index))
            }
            Some(')') => Err(DslError::Empty(gate)),
            Some(c) if c.is_ascii_alphabetic() => self.gate(depth),
            _ => Err(self.expected("a principal in quotes or a gate")),
        }
    }

    fn quoted(&mut self) -> Result<String, DslError> {
        let rest = self.rest();
        let quote = rest.chars().next().unwrap_or('\'');
        let inner = &rest[quote.len_utf8()..];
        let Some(end) = inner.find(quote) else {
            return Err(self.expected("a closing quote"));
        };
        let value = inner[..end].to_owned();
        self.at += end + 2 * quote.len_utf8();
        Ok(value)
    }

    fn number(&mut self) -> Result<i64, DslError> {
        self.skip_blanks();
        let start = self.at;
        let text = match self.rest().chars().next() {
            Some('\'' | '"') => self.quoted()?,
            _ => {
                let rest = self.rest();
                let length = rest
                    .find(|c: char| !c.is_ascii_digit() && c != '-')
                    .unwrap_or(rest.len());
                let text = rest[..length].to_owned();
                self.at += length;
                text
            }
        };
        text.trim().parse().map_err(|_| {
            self.at = start;
            self.expected("a number")
        })
    }
}

fn role_from_text(text: &str) -> Result<common::MspPrincipal, DslError> {
    use MspRoleType::{Admin, Client, Member, Orderer, Peer};
    let wrong = || DslError::Principal(text.to_owned());
    let (msp_id, role) = text.rsplit_once('.').ok_or_else(wrong)?;
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    if msp_id.is_empty() || !msp_id.bytes().all(known) {
        return Err(wrong());
    }
    let role = [Member, Admin, Client, Peer, Orderer]
        .into_iter()
        .find(|r| role_name(*r) == role);
    role.map(|role| role_principal(msp_id, role)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
