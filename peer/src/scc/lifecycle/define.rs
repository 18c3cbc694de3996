//! Approving, checking and committing a definition. The read/write sets are exactly those of spec 03 §11.2b.

use std::collections::{BTreeMap, HashMap};

use selvedge_proto::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, ApproveChaincodeDefinitionForMyOrgResult,
    CheckCommitReadinessArgs, CheckCommitReadinessResult, CommitChaincodeDefinitionArgs,
    CommitChaincodeDefinitionResult, chaincode_source::Type as Source,
    check_commit_readiness_result::Mismatches,
};

use super::cells::{Cells, Match};
use super::input::Requested;
use super::parameters::{Parameters, Record};
use super::{Failure, OnChannel, decode, encode};
use crate::chaincode::simulator::Simulator;
use crate::definition::{ChaincodeDefinition, LIFECYCLE, field_key, metadata_key, read_definition};

/// Namespace of the chaincode lifecycle before 2.0, which is asked when a name is not defined.
const LEGACY: &str = "lscc";

/// Reads the committed definition and records what Fabric reads for it: all five keys where there is one; else the
/// sequence, the metadata and the entry of the old lifecycle.
fn committed(simulator: &mut Simulator, name: &str) -> Result<Option<ChaincodeDefinition>, Failure> {
    simulator.get(LIFECYCLE, &field_key(name, "Sequence"))?;
    if simulator.get(LIFECYCLE, &metadata_key(name))?.is_none() {
        simulator.get(LEGACY, name)?;
        return Ok(None);
    }
    for field in ["EndorsementInfo", "ValidationInfo", "Collections"] {
        simulator.get(LIFECYCLE, &field_key(name, field))?;
    }
    Ok(read_definition(simulator.state(), name)?)
}

/// The committed definition, its sequence (0 when there is none), and the request made complete.
fn prepare(
    on: &OnChannel<'_>,
    simulator: &mut Simulator,
    requested: &Requested,
) -> Result<(Option<ChaincodeDefinition>, i64, Parameters), Failure> {
    if requested.name.is_empty() {
        return Err(Failure::other(
            "error validating chaincode definition: the chaincode name is empty",
        ));
    }
    let definition = committed(simulator, &requested.name)?;
    let parameters = requested.check(on.bundle, definition.as_ref())?;
    let sequence = definition.as_ref().map_or(0, |d| d.sequence);
    Ok((definition, sequence, parameters))
}

pub(super) fn approve(on: &OnChannel<'_>) -> Result<Vec<u8>, Failure> {
    let args: ApproveChaincodeDefinitionForMyOrgArgs = decode(on.call)?;
    let package_id = match args.source.as_ref().and_then(|s| s.r#type.clone()) {
        Some(Source::LocalPackage(local)) => local.package_id,
        Some(Source::Unavailable(_)) | None => String::new(),
    };
    let requested = Requested::from(args);
    let simulator = &mut *on.simulator.lock();
    let (definition, current, parameters) = prepare(on, simulator, &requested)?;
    let (name, sequence) = (&requested.name, requested.sequence);
    check_sequence(current, sequence)?;
    if let Some(definition) = definition.filter(|d| d.sequence == sequence) {
        let before = Parameters::of(&definition);
        if before != parameters {
            return Err(Failure::Other(format!(
                "attempted to redefine the current committed sequence ({current}) for namespace {name} with different \
                 parameters: {}",
                before.differences(&parameters)
            )));
        }
    }
    let approval = Record::approval(name, sequence, &parameters);
    let package = Record::package(name, sequence, &package_id);
    let mut cells = Cells::of_org(simulator, on.msp_id);
    if sequence > current
        && cells.exists(&approval)?
        && cells.compare(&approval)?.whole()
        && cells.exists(&package)?
        && cells.compare(&package)?.whole()
    {
        return Err(Failure::Other(format!(
            "attempted to redefine uncommitted sequence ({sequence}) for namespace {name} with unchanged content"
        )));
    }
    cells.store(&approval)?;
    cells.store(&package)?;
    encode(&ApproveChaincodeDefinitionForMyOrgResult {})
}

fn check_sequence(current: i64, requested: i64) -> Result<(), Failure> {
    if requested == 0 {
        return Err(Failure::other(
            "requested sequence is 0, but first definable sequence number is 1",
        ));
    }
    if requested < current {
        return Err(Failure::Other(format!(
            "currently defined sequence {current} is larger than requested sequence {requested}"
        )));
    }
    if requested > current.saturating_add(1) {
        return Err(Failure::Other(format!(
            "requested sequence {requested} is larger than the next available sequence number {}",
            current.saturating_add(1)
        )));
    }
    Ok(())
}

/// How far each organisation's approval agrees with a definition.
pub(super) fn approvals(
    on: &OnChannel<'_>,
    simulator: &mut Simulator,
    name: &str,
    sequence: i64,
    parameters: &Parameters,
) -> Result<BTreeMap<String, Match>, Failure> {
    let approval = Record::approval(name, sequence, parameters);
    let msp_ids = on.bundle.application().map(|a| a.msp_ids()).unwrap_or_default();
    msp_ids
        .into_iter()
        .map(|msp_id| {
            Ok((
                msp_id.to_owned(),
                Cells::of_org(simulator, msp_id).compare(&approval)?,
            ))
        })
        .collect()
}

/// The names that Fabric's clients show for what differs.
fn mismatches(matched: &Match) -> Vec<String> {
    if !matched.metadata {
        return vec!["ChaincodeParameters (Check the Sequence, ChaincodeName)".to_owned()];
    }
    const FIELDS: [&str; 3] = [
        "EndorsementInfo (Check the Version, InitRequired, EndorsementPlugin)",
        "ValidationInfo (Check the ValidationParameter, ValidationPlugin)",
        "Collections (Check the Collections)",
    ];
    let differing = FIELDS.iter().zip(&matched.fields).filter(|(_, same)| !**same);
    differing.map(|(text, _)| (*text).to_owned()).collect()
}

/// The next sequence, or the text that says which one it should be.
fn check_next(current: i64, requested: i64) -> Result<(), Failure> {
    let next = current.saturating_add(1);
    if requested == next {
        return Ok(());
    }
    Err(Failure::Other(format!(
        "requested sequence is {requested}, but new definition must be sequence {next}"
    )))
}

pub(super) fn readiness(on: &OnChannel<'_>) -> Result<Vec<u8>, Failure> {
    let requested = Requested::from(decode::<CheckCommitReadinessArgs>(on.call)?);
    let simulator = &mut *on.simulator.lock();
    let (_, current, parameters) = prepare(on, simulator, &requested)?;
    check_next(current, requested.sequence)?;
    let matched = approvals(on, simulator, &requested.name, requested.sequence, &parameters)?;
    let mut answer = CheckCommitReadinessResult::default();
    for (msp_id, matched) in matched {
        if !matched.whole() {
            answer.mismatches.insert(
                msp_id.clone(),
                Mismatches {
                    items: mismatches(&matched),
                },
            );
        }
        answer.approvals.insert(msp_id, matched.whole());
    }
    encode(&answer)
}

pub(super) fn commit(on: &OnChannel<'_>) -> Result<Vec<u8>, Failure> {
    let requested = Requested::from(decode::<CommitChaincodeDefinitionArgs>(on.call)?);
    let simulator = &mut *on.simulator.lock();
    let (_, current, parameters) = prepare(on, simulator, &requested)?;
    check_next(current, requested.sequence)?;
    let matched = approvals(on, simulator, &requested.name, requested.sequence, &parameters)?;
    match matched.get(on.msp_id) {
        Some(own) if own.whole() => {}
        Some(own) => {
            return Err(Failure::Other(format!(
                "chaincode definition not agreed to by this org ({}): its approval of sequence {} differs in {}",
                on.msp_id,
                requested.sequence,
                mismatches(own).join(", ")
            )));
        }
        None => {
            return Err(Failure::Other(format!(
                "chaincode definition not agreed to by this org ({}): it is no application organization of channel {}",
                on.msp_id,
                on.bundle.channel_id()
            )));
        }
    }
    let record = Record::definition(&requested.name, requested.sequence, &parameters);
    Cells::Public(simulator).store(&record)?;
    encode(&CommitChaincodeDefinitionResult {})
}

/// Approvals as clients get them.
pub(super) fn approvals_map(matched: BTreeMap<String, Match>) -> HashMap<String, bool> {
    matched
        .into_iter()
        .map(|(msp_id, matched)| (msp_id, matched.whole()))
        .collect()
}
