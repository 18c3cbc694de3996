//! What can be wrong with a configuration, and with a proposed change of it.

use selvedge_msp::MspError;
use selvedge_msp::policy::PolicyError;
use selvedge_proto::EnvelopeError;

use crate::path::ElementPath;
use crate::policy::PolicyRefusal;

/// A name that breaks the rules of spec 02 §10.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A channel id.
    #[error("'{id}' cannot be a channel id: {why}")]
    Channel {
        /// The id, cut to a readable length.
        id: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The name of a group, value or policy.
    #[error("'{name}' in group {group} cannot be the name of a configuration element: {why}")]
    Element {
        /// The name, cut to a readable length.
        name: String,
        /// The group it stands in.
        group: String,
        /// The rule it breaks.
        why: &'static str,
    },
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The channel id or an element's name is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The block does not hold a configuration.
    #[error("block {number} is not a config block: {why}")]
    NotAConfigBlock {
        /// Number of the block.
        number: u64,
        /// What is missing or wrong.
        why: String,
    },
    /// The configuration has no root group.
    #[error("the configuration of channel '{0}' has no channel_group")]
    NoChannelGroup(String),
    /// A value does not decode.
    #[error("{element} does not decode: {why}")]
    Undecodable {
        /// Which one.
        element: ElementPath,
        /// What the decoder said.
        why: String,
    },
    /// A value or group that has no place where it stands.
    #[error("{element} has no meaning there: {why}")]
    Misplaced {
        /// Which one.
        element: ElementPath,
        /// What may stand there.
        why: &'static str,
    },
    /// A value that must be there is not.
    #[error("{0} is missing")]
    Missing(ElementPath),
    /// A value that decodes but breaks a rule.
    #[error("{element} is not valid: {why}")]
    Invalid {
        /// Which one.
        element: ElementPath,
        /// The rule it breaks.
        why: String,
    },
    /// The channel asks for capabilities that this build does not have.
    #[error(
        "capability {} is required by {group} but not supported by this version; update this node before it can \
         follow the channel",
        names.join(", ")
    )]
    UnsupportedCapability {
        /// Path of the group that asks.
        group: &'static str,
        /// The unknown names.
        names: Vec<String>,
    },
    /// An organisation's MSP cannot be set up.
    #[error("the MSP of organisation {group} cannot be set up: {source}")]
    Msp {
        /// Path of the organisation's group.
        group: String,
        /// Why.
        source: Box<MspError>,
    },
    /// Two organisations claim one MSP id with different definitions.
    #[error(
        "MSP id '{msp_id}' is defined by {first} and, differently, by {second}; one MSP id must have one definition"
    )]
    MspConflict {
        /// The id.
        msp_id: String,
        /// Path of the group that came first.
        first: String,
        /// Path of the group that differs.
        second: String,
    },
    /// A policy cannot be used.
    #[error("policy {path} cannot be used: {source}")]
    Policy {
        /// Absolute path.
        path: String,
        /// Why.
        source: PolicyError,
    },
    /// A policy of a kind that does not exist.
    #[error("policy {path} cannot be used: {why}")]
    PolicyForm {
        /// Absolute path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Why a change of the configuration is refused (spec 03 §10.2, §10.3).
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The envelope cannot be opened.
    #[error("the config update cannot be read: {0}")]
    Envelope(#[from] EnvelopeError),
    /// A part of it does not decode.
    #[error("the config update cannot be read: {part} does not decode: {why}")]
    Undecodable {
        /// Which message.
        part: &'static str,
        /// What the decoder said.
        why: String,
    },
    /// The envelope is of another type.
    #[error("the envelope is of header type {0}, a config update is of type 2 (CONFIG_UPDATE)")]
    WrongType(i32),
    /// The update was made for another channel.
    #[error("the config update is for channel '{found}', this is channel '{expected}'")]
    WrongChannel {
        /// This channel.
        expected: String,
        /// The one named in the update.
        found: String,
    },
    /// A name in the read or write set is not allowed.
    #[error("the config update names an element that cannot exist: {0}")]
    Name(#[from] NameError),
    /// The update was computed from a configuration that had an element which is not there (any more).
    #[error(
        "existing config does not contain {element}, which the update was computed from; fetch the current \
         configuration and compute the update again"
    )]
    ReadSetMissing {
        /// The element of the read set.
        element: ElementPath,
    },
    /// The update was computed from another version of the configuration.
    #[error(
        "proposed update requires that key {element} be at version {required}, but it is currently at version \
         {current}: the configuration has changed since; fetch the current one and compute the update again"
    )]
    ReadSetVersion {
        /// The element of the read set.
        element: ElementPath,
        /// The version the update was computed from.
        required: u64,
        /// The version now.
        current: u64,
    },
    /// Nothing in the write set differs from the read set.
    #[error("delta set was empty -- update would have no effect")]
    NoEffect,
    /// A changed element's mod_policy is no policy name.
    #[error("invalid mod_policy '{mod_policy}' for element {element}: {why}")]
    BadModPolicy {
        /// The element.
        element: ElementPath,
        /// Its new mod_policy.
        mod_policy: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// A new element must start at version 0.
    #[error(
        "attempted to set key {element} to version {version}, but the key does not exist: a new one starts at version 0"
    )]
    NewElementVersion {
        /// The element.
        element: ElementPath,
        /// The version it was given.
        version: u64,
    },
    /// A changed element must take the next version.
    #[error(
        "attempted to set key {element} to version {version}, but it is at version {current}: a change must set it \
         to version {next}",
        next = current.saturating_add(1)
    )]
    ElementVersion {
        /// The element.
        element: ElementPath,
        /// The version it was given.
        version: u64,
        /// The version now.
        current: u64,
    },
    /// The policy that guards the element is not satisfied.
    #[error(
        "error validating DeltaSet: policy for {element} (at version {version}) not satisfied: {refusal}"
    )]
    NotAuthorised {
        /// The element that would change.
        element: ElementPath,
        /// Its version now.
        version: u64,
        /// Which policy was asked for, and what it missed.
        refusal: Box<PolicyRefusal>,
    },
    /// A group names a member that is neither in the update nor in the current configuration.
    #[error(
        "the update makes {group} name a member {member}, which is neither in its write set nor in the current configuration"
    )]
    MissingMember {
        /// The group.
        group: String,
        /// The member.
        member: ElementPath,
    },
    /// The write set has an element that the resulting configuration has no place for.
    #[error(
        "the write set contains {element}, which does not appear in the resulting configuration: the group that \
         should hold it is not changed by the update, raise that group's version"
    )]
    NotInResult {
        /// The element.
        element: ElementPath,
    },
    /// The sequence number cannot grow further.
    #[error("the configuration's sequence number has reached its end")]
    SequenceExhausted,
    /// The resulting configuration cannot be used.
    #[error("the resulting configuration is not valid: {0}")]
    Config(#[from] ConfigError),
    /// The change touches what may not change.
    #[error("{element} may not change: {why}")]
    Immutable {
        /// The element.
        element: ElementPath,
        /// The rule.
        why: String,
    },
    /// The consenters or the consensus type would change in a way the ordering service cannot follow.
    #[error("the ordering service cannot follow this change: {0}")]
    Consensus(#[from] ConsensusError),
    /// A config envelope lacks a part.
    #[error("the config transaction has no {0}")]
    Missing(&'static str),
    /// The config transaction is not the next one.
    #[error("config currently at sequence {current}, cannot validate config at sequence {proposed}")]
    Sequence {
        /// Sequence now.
        current: u64,
        /// Sequence of the transaction.
        proposed: u64,
    },
    /// The configuration in the transaction is not what its update yields.
    #[error(
        "the update in the config transaction does not yield the configuration beside it; first difference: {0}"
    )]
    ResultDiffers(String),
}

/// Why an ordering service cannot run, or change to, a set of consenters (spec 05 §5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsensusError {
    /// The type is one this ordering service does not run.
    #[error("consensus type '{0}' is not supported; use 'etcdraft'")]
    UnsupportedType(String),
    /// The metadata does not decode.
    #[error("the consensus metadata does not decode: {0}")]
    Undecodable(String),
    /// An option is out of its range.
    #[error("Raft option {option} is {value}: {why}")]
    Option {
        /// Which one.
        option: &'static str,
        /// What it is.
        value: String,
        /// The rule.
        why: &'static str,
    },
    /// There is no consenter.
    #[error("the set of consenters is empty")]
    NoConsenters,
    /// A consenter is not usable.
    #[error("consenter {consenter}: {why}")]
    Consenter {
        /// `host:port`.
        consenter: String,
        /// What is wrong.
        why: String,
    },
    /// Two consenters are the same.
    #[error("consenters {first} and {second} have the same {what}")]
    Duplicate {
        /// `host:port` of the first.
        first: String,
        /// `host:port` of the second.
        second: String,
        /// What they share.
        what: &'static str,
    },
    /// More than one consenter changes at once.
    #[error(
        "update of more than one consenter at a time is not supported, requested changes: add {added} node(s), \
         remove {removed} node(s); make one update for each"
    )]
    ManyChanges {
        /// How many would join.
        added: usize,
        /// How many would leave.
        removed: usize,
    },
    /// The type may change in maintenance state only.
    #[error(
        "attempted to change consensus type from '{from}' to '{to}' while the channel is in normal state; put it into \
         maintenance state first"
    )]
    TypeChange {
        /// Type now.
        from: String,
        /// Type asked for.
        to: String,
    },
}
