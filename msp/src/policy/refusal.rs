//! Saying why a policy was not met.

use std::fmt;

use crate::manager::MspManager;
use crate::policy::{RejectedSigner, Run, SignaturePolicy, Signers};
use crate::principal::{Principal, PrincipalError};

/// More are counted, not listed, so that a message stays readable.
const LISTED: usize = 10;

/// A policy that was not met: which principals are missing and why each signer did not count. `Display` is one sentence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyRefusal {
    /// The policy: its path, its DSL text, or both.
    pub policy: String,
    /// Principals (or sub-policies) that nobody stood for, for reading.
    pub missing: Vec<String>,
    /// Every signer with what became of it.
    pub signers: Vec<RejectedSigner>,
    /// Refusals of sub-policies, for implicit-meta policies.
    pub causes: Vec<PolicyRefusal>,
}

impl PolicyRefusal {
    /// The policy at `path` does not exist, which denies (spec 02 §14.3).
    #[must_use]
    pub fn missing_policy(path: &str) -> Self {
        Self {
            policy: path.to_owned(),
            missing: vec!["the policy itself, which is not defined".to_owned()],
            ..Self::default()
        }
    }

    /// Puts the policy's path in front of its text.
    #[must_use]
    pub fn named(mut self, path: &str) -> Self {
        self.policy = if self.policy.is_empty() {
            path.to_owned()
        } else {
            format!("{path} = {}", self.policy)
        };
        self
    }
}

impl std::error::Error for PolicyRefusal {}

impl fmt::Display for PolicyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy {} is not satisfied", self.policy)?;
        if !self.missing.is_empty() {
            f.write_str(": missing ")?;
            list(f, &self.missing, |f, name| f.write_str(name))?;
        }
        if !self.causes.is_empty() {
            f.write_str(" [")?;
            for (i, cause) in self.causes.iter().take(LISTED).enumerate() {
                write!(f, "{}{cause}", if i == 0 { "" } else { "; " })?;
            }
            if self.causes.len() > LISTED {
                write!(f, "; and {} more", self.causes.len() - LISTED)?;
            }
            return f.write_str("]");
        }
        if self.signers.is_empty() {
            return f.write_str("; nobody signed");
        }
        f.write_str("; signers offered: ")?;
        list(f, &self.signers, |f, signer| {
            write!(f, "{} ({})", signer.who, signer.why)
        })
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    write_item: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.iter().take(LISTED).enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write_item(f, item)?;
    }
    if items.len() > LISTED {
        write!(f, " and {} more", items.len() - LISTED)?;
    }
    Ok(())
}

pub(super) fn explain(
    policy: &SignaturePolicy,
    msps: &MspManager,
    signers: &Signers,
    run: &Run<'_>,
) -> PolicyRefusal {
    let missed: Vec<&Principal> = run.missed.iter().map(|i| &policy.principals[*i]).collect();
    let mut missing: Vec<String> = Vec::new();
    for principal in &missed {
        let name = principal.to_string();
        if !missing.contains(&name) {
            missing.push(name);
        }
        if missing.len() > LISTED {
            break;
        }
    }
    let mut reports: Vec<RejectedSigner> = Vec::new();
    for (identity, taken) in signers.identities().iter().zip(&run.taken) {
        let why = match taken {
            Some(index) => format!("counts for {}", policy.principals[*index]),
            None => why_not(msps, identity, &missed),
        };
        reports.push(RejectedSigner {
            who: identity.to_string(),
            why,
        });
    }
    reports.extend(signers.rejected().iter().cloned());
    if missing.is_empty() {
        missing.push("something that can be signed: no set of signers satisfies this policy".to_owned());
    }
    PolicyRefusal {
        policy: policy.to_string(),
        missing,
        signers: reports,
        causes: Vec::new(),
    }
}

/// The most telling reason why an identity is none of `missed`: about a principal of its own MSP when there is one.
fn why_not(msps: &MspManager, identity: &crate::identity::Identity, missed: &[&Principal]) -> String {
    let mut first = None;
    for principal in missed.iter().take(LISTED) {
        match msps.satisfies(identity, principal) {
            Ok(()) => return format!("fits {principal}, but was counted elsewhere; each signer counts once"),
            Err(PrincipalError::OtherMsp { expected, got }) => {
                first.get_or_insert(PrincipalError::OtherMsp { expected, got });
            }
            Err(telling) => return telling.to_string(),
        }
    }
    first.map_or_else(|| "it is not asked for".to_owned(), |e| e.to_string())
}
