//! What the organisations agree on, out of arguments or out of the network file.

use std::path::Path;

use selvedge_msp::policy::dsl;
use selvedge_sdk::lifecycle::{CommittedDefinition, Definition, EndorsementPolicy};

use super::collections;
use crate::args::DefinitionArgs;
use crate::error::{CliError, During};
use crate::network::config::ChaincodeConfig;

/// A definition as it was asked for: the sequence may be left open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) sequence: Option<i64>,
    pub(crate) policy: Option<&'a str>,
    pub(crate) collections: Option<&'a Path>,
    pub(crate) init_required: bool,
}

impl<'a> From<&'a DefinitionArgs> for Wanted<'a> {
    fn from(args: &'a DefinitionArgs) -> Self {
        Self {
            name: &args.name,
            version: &args.version,
            sequence: args.sequence,
            policy: args.policy.as_deref(),
            collections: args.collections.as_deref(),
            init_required: args.init_required,
        }
    }
}

impl<'a> From<&'a ChaincodeConfig> for Wanted<'a> {
    fn from(config: &'a ChaincodeConfig) -> Self {
        Self {
            name: &config.name,
            version: &config.version,
            sequence: None,
            policy: config.policy.as_deref(),
            collections: None,
            init_required: false,
        }
    }
}

impl Wanted<'_> {
    /// Label of the package that goes with the definition unless another is named.
    pub(crate) fn label(&self) -> String {
        format!("{}_{}", self.name, self.version)
    }

    /// The definition that follows on the committed one.
    pub(crate) fn following(&self, committed: Option<&CommittedDefinition>) -> Result<Definition, CliError> {
        let (last, next) = sequences(committed);
        let sequence = self.sequence.unwrap_or(next);
        if sequence == next {
            return self.definition(sequence);
        }
        Err(CliError::said(format!(
            "chaincode {}: the sequence must be {next}, not {sequence}: {}",
            self.name,
            state(last, committed)
        )))
    }

    /// The definition that follows, or, if its sequence is asked for, the committed one: an organisation that came later
    /// approves what is in force, with the package that it runs.
    pub(crate) fn approvable(&self, committed: Option<&CommittedDefinition>) -> Result<Definition, CliError> {
        let (last, next) = sequences(committed);
        let sequence = self.sequence.unwrap_or(next);
        if sequence == next || (sequence == last && committed.is_some()) {
            return self.definition(sequence);
        }
        let current = if committed.is_some() {
            format!(" (or {last}, to approve what is in force)")
        } else {
            String::new()
        };
        Err(CliError::said(format!(
            "chaincode {}: the sequence must be {next}{current}, not {sequence}: {}",
            self.name,
            state(last, committed)
        )))
    }

    fn definition(&self, sequence: i64) -> Result<Definition, CliError> {
        let collections = self.collections.map(collections::read).transpose()?;
        Ok(Definition {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            sequence,
            endorsement: self
                .policy
                .map(|text| endorsement(self.name, text))
                .transpose()?
                .unwrap_or_default(),
            collections,
            init_required: self.init_required,
        })
    }
}

/// Sequence of the committed definition, 0 for none, and the next one.
fn sequences(committed: Option<&CommittedDefinition>) -> (i64, i64) {
    let last = committed.map_or(0, |c| c.sequence);
    (last, last.saturating_add(1))
}

fn state(last: i64, committed: Option<&CommittedDefinition>) -> String {
    match committed {
        Some(c) => format!("sequence {last} (version {}) is committed", c.version),
        None => "it is not committed on the channel yet".to_owned(),
    }
}

/// A policy as users write it: a path of the channel configuration, or a signature policy.
fn endorsement(name: &str, text: &str) -> Result<EndorsementPolicy, CliError> {
    if text.starts_with('/') {
        return Ok(EndorsementPolicy::Channel(text.to_owned()));
    }
    let policy = dsl::parse(text).during(|| format!("the endorsement policy of {name} is not usable"))?;
    Ok(EndorsementPolicy::Signature(policy))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn wanted(sequence: Option<i64>) -> Wanted<'static> {
        Wanted {
            name: "rfq",
            version: "2.0",
            sequence,
            policy: Some("/Channel/Application/Endorsement"),
            collections: None,
            init_required: true,
        }
    }

    #[test]
    fn the_sequence_follows_on_the_committed_one() {
        let committed = CommittedDefinition {
            name: "rfq".into(),
            version: "1.0".into(),
            sequence: 3,
            validation_parameter: bytes::Bytes::new(),
            init_required: false,
            approvals: BTreeMap::new(),
        };
        assert_eq!(wanted(None).following(None).unwrap().sequence, 1);
        assert_eq!(wanted(None).following(Some(&committed)).unwrap().sequence, 4);
        let definition = wanted(Some(4)).following(Some(&committed)).unwrap();
        assert!(definition.init_required);
        assert_eq!(
            definition.endorsement,
            EndorsementPolicy::Channel("/Channel/Application/Endorsement".into())
        );
        let error = wanted(Some(3))
            .following(Some(&committed))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("must be 4, not 3") && error.contains("version 1.0"),
            "{error}"
        );
    }
}
