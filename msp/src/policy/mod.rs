//! Signature policies (spec 02 §14.1): compiling and evaluating them. Implicit-meta policies live in the channel
//! configuration, which knows the tree.

pub mod dsl;
mod refusal;
mod signers;

use std::fmt;

use selvedge_proto::common::{self, signature_policy::Type};

pub use refusal::PolicyRefusal;
pub use signers::{RejectedSigner, SignedData, Signers, verify_signatures};

use crate::manager::MspManager;
use crate::principal::Principal;

/// Why a policy cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Bytes that are not pb(SignaturePolicyEnvelope).
    #[error("the signature policy cannot be decoded: {0}")]
    Malformed(String),
    /// A version other than 0 in a channel configuration.
    #[error("the signature policy has version {0}; only version 0 is known")]
    Version(i32),
    /// No rule.
    #[error("the signature policy has no rule")]
    NoRule,
    /// A node that is neither `signed_by` nor `n_out_of`.
    #[error("the signature policy has a rule of unknown type; known are signed_by and n_out_of")]
    UnknownRule,
    /// An index that no identity has.
    #[error("the signature policy refers to identity {index}, but it lists {count} of them")]
    NoIdentity {
        /// The index.
        index: i32,
        /// How many identities there are.
        count: usize,
    },
    /// Deeper than any sensible policy.
    #[error("the signature policy is nested more than {0} levels deep")]
    TooDeep(usize),
}

/// Levels of nesting; protobuf decoding stops at fewer.
const MAX_DEPTH: usize = 100;

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    SignedBy(usize),
    OutOf(i32, Vec<Rule>),
}

/// A compiled signature policy. `Display` writes it as the DSL does.
#[derive(Debug, Clone, PartialEq)]
pub struct SignaturePolicy {
    rule: Rule,
    principals: Vec<Principal>,
}

impl SignaturePolicy {
    /// Compiles an envelope. One bad node anywhere makes the whole policy unusable; principals are not judged
    /// (spec 02 §14.1-0). The version is not looked at; see [`Self::compile_config`].
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn compile(envelope: &common::SignaturePolicyEnvelope) -> Result<Self, PolicyError> {
        let rule = envelope.rule.as_ref().ok_or(PolicyError::NoRule)?;
        let rule = compile_rule(rule, envelope.identities.len(), MAX_DEPTH)?;
        Ok(Self {
            rule,
            principals: envelope.identities.iter().map(Principal::decode).collect(),
        })
    }

    /// As [`Self::compile`], and the version must be 0, as for policies of a channel configuration.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn compile_config(envelope: &common::SignaturePolicyEnvelope) -> Result<Self, PolicyError> {
        if envelope.version != 0 {
            return Err(PolicyError::Version(envelope.version));
        }
        Self::compile(envelope)
    }

    /// Decodes pb(SignaturePolicyEnvelope) and compiles it.
    ///
    /// # Errors
    /// When the bytes cannot be decoded, and as [`Self::compile`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        use prost::Message as _;
        let envelope = common::SignaturePolicyEnvelope::decode(bytes)
            .map_err(|e| PolicyError::Malformed(e.to_string()))?;
        Self::compile(&envelope)
    }

    /// The principals in the order of the envelope.
    #[must_use]
    pub fn principals(&self) -> &[Principal] {
        &self.principals
    }

    /// Whether the signers suffice. Greedy and without going back, exactly as Fabric: each `signed_by` takes the first
    /// signer that fits and is not taken; the rules of `n_out_of` are all tried from left to right (spec 02 §14.1-2).
    ///
    /// # Errors
    /// What was missing and why each signer did not count.
    pub fn evaluate(&self, msps: &MspManager, signers: &Signers) -> Result<(), PolicyRefusal> {
        let mut run = Run::new(self, msps, signers);
        if run.met(&self.rule) {
            return Ok(());
        }
        Err(refusal::explain(self, msps, signers, &run))
    }

    /// As [`Self::evaluate`], without finding out why not: for a policy of which others may take the place.
    #[must_use]
    pub fn is_satisfied(&self, msps: &MspManager, signers: &Signers) -> bool {
        Run::new(self, msps, signers).met(&self.rule)
    }
}

fn compile_rule(rule: &common::SignaturePolicy, count: usize, depth: usize) -> Result<Rule, PolicyError> {
    let depth = depth.checked_sub(1).ok_or(PolicyError::TooDeep(MAX_DEPTH))?;
    match &rule.r#type {
        Some(Type::SignedBy(index)) => match usize::try_from(*index) {
            Ok(i) if i < count => Ok(Rule::SignedBy(i)),
            _ => Err(PolicyError::NoIdentity { index: *index, count }),
        },
        Some(Type::NOutOf(gate)) => {
            let rules = gate
                .rules
                .iter()
                .map(|r| compile_rule(r, count, depth))
                .collect::<Result<_, _>>()?;
            Ok(Rule::OutOf(gate.n, rules))
        }
        None => Err(PolicyError::UnknownRule),
    }
}

/// One evaluation: which signers are taken, and by which principal.
struct Run<'a> {
    policy: &'a SignaturePolicy,
    msps: &'a MspManager,
    signers: &'a Signers,
    /// For each signer the index of the principal that it stands for.
    taken: Vec<Option<usize>>,
    /// Signers in the order in which they were taken, so that a failed rule can give back what it took.
    log: Vec<usize>,
    /// Principals of `signed_by` rules that found nobody, in the order met.
    missed: Vec<usize>,
}

impl<'a> Run<'a> {
    fn new(policy: &'a SignaturePolicy, msps: &'a MspManager, signers: &'a Signers) -> Self {
        let taken = vec![None; signers.identities().len()];
        Self {
            policy,
            msps,
            signers,
            taken,
            log: Vec::new(),
            missed: Vec::new(),
        }
    }

    fn met(&mut self, rule: &Rule) -> bool {
        match rule {
            Rule::SignedBy(index) => self.take(*index),
            Rule::OutOf(n, rules) => {
                let mut successes = 0;
                let missed_before = self.missed.len();
                for rule in rules {
                    let mark = self.log.len();
                    if self.met(rule) {
                        successes += 1;
                    } else {
                        for signer in self.log.drain(mark..) {
                            self.taken[signer] = None;
                        }
                    }
                }
                let met = successes >= i64::from(*n);
                if met {
                    self.missed.truncate(missed_before);
                }
                met
            }
        }
    }

    fn take(&mut self, index: usize) -> bool {
        let principal = &self.policy.principals[index];
        for (signer, identity) in self.signers.identities().iter().enumerate() {
            if self.taken[signer].is_none() && self.msps.satisfies(identity, principal).is_ok() {
                self.taken[signer] = Some(index);
                self.log.push(signer);
                return true;
            }
        }
        self.missed.push(index);
        false
    }
}

impl fmt::Display for SignaturePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_rule(f, &self.rule)
    }
}

impl SignaturePolicy {
    fn write_rule(&self, f: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
        match rule {
            Rule::SignedBy(index) => write!(f, "{}", self.principals[*index]),
            Rule::OutOf(n, rules) => {
                let all = i32::try_from(rules.len()).is_ok_and(|len| len == *n);
                let mut separator = "";
                match (all, n, rules.len()) {
                    (_, 1, 1..) => f.write_str("OR(")?,
                    (true, _, 1..) => f.write_str("AND(")?,
                    _ => {
                        write!(f, "OutOf({n}")?;
                        separator = ", ";
                    }
                }
                for rule in rules {
                    f.write_str(separator)?;
                    self.write_rule(f, rule)?;
                    separator = ", ";
                }
                f.write_str(")")
            }
        }
    }
}

#[cfg(test)]
mod tests;
