//! Reading definitions and approvals.

use bytes::Bytes;
use prost::Message;
use selvedge_ledger::StateReader;
use selvedge_proto::lifecycle::{
    ChaincodeEndorsementInfo, ChaincodeSource, ChaincodeValidationInfo, QueryApprovedChaincodeDefinitionArgs,
    QueryApprovedChaincodeDefinitionResult, QueryApprovedChaincodeDefinitionsResult,
    QueryChaincodeDefinitionArgs, QueryChaincodeDefinitionResult, QueryChaincodeDefinitionsResult, StateData,
    chaincode_source, query_approved_chaincode_definitions_result::ApprovedChaincodeDefinition,
    query_chaincode_definitions_result::ChaincodeDefinition as ListedDefinition, state_data,
};
use selvedge_proto::protos;

use super::cells::Cells;
use super::define::{approvals, approvals_map};
use super::parameters::{Parameters, Record, private_name};
use super::{Failure, OnChannel, decode, encode};
use crate::chaincode::collections::IMPLICIT_PREFIX;
use crate::chaincode::simulator::Simulator;
use crate::chaincode::store::approval_hash;
use crate::definition::{ChaincodeDefinition, LIFECYCLE, read_definition};

const METADATA_PREFIX: &str = "namespaces/metadata/";
/// The first key behind all that start with [`METADATA_PREFIX`]: `0` follows `/`.
const METADATA_END: &str = "namespaces/metadata0";

/// All committed definitions, by name.
pub(super) fn definitions(state: &dyn StateReader) -> Result<Vec<ChaincodeDefinition>, Failure> {
    let mut found = Vec::new();
    for entry in state.range(LIFECYCLE, METADATA_PREFIX, METADATA_END) {
        let (key, _) = entry.map_err(|e| e.to_string())?;
        let name = key.strip_prefix(METADATA_PREFIX).unwrap_or_default();
        found.extend(read_definition(state, name)?);
    }
    Ok(found)
}

pub(super) fn committed(on: &OnChannel<'_>) -> Result<Vec<u8>, Failure> {
    let args: QueryChaincodeDefinitionArgs = decode(on.call)?;
    let simulator = &mut *on.simulator.lock();
    let definition = read_definition(simulator.state(), &args.name)?;
    let definition =
        definition.ok_or_else(|| Failure::NotFound(format!("namespace {} is not defined", args.name)))?;
    let parameters = Parameters::of(&definition);
    let matched = approvals(on, simulator, &args.name, definition.sequence, &parameters)?;
    encode(&QueryChaincodeDefinitionResult {
        sequence: definition.sequence,
        version: definition.version,
        endorsement_plugin: definition.endorsement_plugin,
        validation_plugin: definition.validation_plugin,
        validation_parameter: definition.validation_parameter,
        collections: Some(definition.collections),
        init_required: definition.init_required,
        approvals: approvals_map(matched),
    })
}

pub(super) fn all_committed(on: &OnChannel<'_>) -> Result<Vec<u8>, Failure> {
    let simulator = on.simulator.lock();
    let chaincode_definitions = definitions(simulator.state())?
        .into_iter()
        .map(|d| ListedDefinition {
            name: d.name,
            sequence: d.sequence,
            version: d.version,
            endorsement_plugin: d.endorsement_plugin,
            validation_plugin: d.validation_plugin,
            validation_parameter: d.validation_parameter,
            collections: Some(d.collections),
            init_required: d.init_required,
        })
        .collect();
    encode(&QueryChaincodeDefinitionsResult {
        chaincode_definitions,
    })
}

/// A definition as this organisation approved it.
struct Approved {
    parameters: Parameters,
    package_id: String,
}

impl Approved {
    fn source(&self) -> ChaincodeSource {
        let source = if self.package_id.is_empty() {
            chaincode_source::Type::Unavailable(chaincode_source::Unavailable {})
        } else {
            chaincode_source::Type::LocalPackage(chaincode_source::Local {
                package_id: self.package_id.clone(),
            })
        };
        ChaincodeSource { r#type: Some(source) }
    }

    fn collections(&self) -> Result<protos::CollectionConfigPackage, Failure> {
        protos::CollectionConfigPackage::decode(self.parameters.collections.clone())
            .map_err(|e| Failure::Other(format!("the approved collections do not parse: {e}")))
    }
}

fn plaintext(
    on: &OnChannel<'_>,
    simulator: &mut Simulator,
    key: &str,
) -> Result<Option<state_data::Type>, Failure> {
    let collection = format!("{IMPLICIT_PREFIX}{}", on.msp_id);
    let Some(bytes) = simulator.get_private(LIFECYCLE, &collection, key)? else {
        return Ok(None);
    };
    let data = StateData::decode(bytes).map_err(|e| Failure::Other(format!("{key} does not parse: {e}")))?;
    Ok(data.r#type)
}

/// What was approved, from the plain text that the endorsing peer of the organisation keeps. Another peer of the
/// organisation knows it from the hashes alone when it was committed unchanged with a package that is installed here.
fn approval(
    on: &OnChannel<'_>,
    simulator: &mut Simulator,
    name: &str,
    sequence: i64,
) -> Result<Option<Approved>, Failure> {
    let private = private_name(name, sequence);
    let probe = Record::package(name, sequence, "");
    let mut cells = Cells::of_org(simulator, on.msp_id);
    if !cells.exists(&probe)? {
        return Ok(None);
    }
    if let Some(definition) = read_definition(simulator.state(), name)?.filter(|d| d.sequence == sequence) {
        let parameters = Parameters::of(&definition);
        let record = Record::approval(name, sequence, &parameters);
        if Cells::of_org(simulator, on.msp_id).compare(&record)?.whole()
            && let Some(package_id) = package_by_hash(on, simulator, &private)?
        {
            return Ok(Some(Approved {
                parameters,
                package_id,
            }));
        }
    }
    let field = |simulator: &mut Simulator, field: &str| -> Result<Bytes, Failure> {
        match plaintext(on, simulator, &format!("namespaces/fields/{private}/{field}"))? {
            Some(state_data::Type::Bytes(bytes)) => Ok(bytes),
            _ => Err(Failure::Other(format!(
                "the approval of {private} has no field {field}"
            ))),
        }
    };
    let malformed =
        |e: prost::DecodeError| Failure::Other(format!("the approval of {private} does not parse: {e}"));
    let parameters = Parameters {
        endorsement: ChaincodeEndorsementInfo::decode(field(simulator, "EndorsementInfo")?)
            .map_err(malformed)?,
        validation: ChaincodeValidationInfo::decode(field(simulator, "ValidationInfo")?)
            .map_err(malformed)?,
        collections: field(simulator, "Collections")?,
    };
    let package_id = match package_by_hash(on, simulator, &private)? {
        Some(known) => known,
        None => match plaintext(
            on,
            simulator,
            &format!("chaincode-sources/fields/{private}/PackageID"),
        )? {
            Some(state_data::Type::String(id)) => id,
            _ => String::new(),
        },
    };
    Ok(Some(Approved {
        parameters,
        package_id,
    }))
}

fn package_by_hash(
    on: &OnChannel<'_>,
    simulator: &mut Simulator,
    private: &str,
) -> Result<Option<String>, Failure> {
    let collection = format!("{IMPLICIT_PREFIX}{}", on.msp_id);
    let key = format!("chaincode-sources/fields/{private}/PackageID");
    let Some(hash) = simulator.get_private_hash(LIFECYCLE, &collection, &key)? else {
        return Ok(None);
    };
    if hash == approval_hash("")[..] {
        return Ok(Some(String::new()));
    }
    Ok(on
        .call
        .runtime
        .packages()
        .by_approval_hash(&hash)
        .map(|p| p.package_id.clone()))
}

pub(super) fn approved(on: &OnChannel<'_>) -> Result<Vec<u8>, Failure> {
    let args: QueryApprovedChaincodeDefinitionArgs = decode(on.call)?;
    let simulator = &mut *on.simulator.lock();
    let current = read_definition(simulator.state(), &args.name)?.map_or(0, |d| d.sequence);
    let candidates = if args.sequence == 0 {
        vec![current + 1, current]
    } else {
        vec![args.sequence]
    };
    for sequence in candidates {
        let Some(found) = approval(on, simulator, &args.name, sequence)? else {
            continue;
        };
        return encode(&QueryApprovedChaincodeDefinitionResult {
            sequence,
            version: found.parameters.endorsement.version.clone(),
            endorsement_plugin: found.parameters.endorsement.endorsement_plugin.clone(),
            validation_plugin: found.parameters.validation.validation_plugin.clone(),
            validation_parameter: found.parameters.validation.validation_parameter.clone(),
            collections: Some(found.collections()?),
            init_required: found.parameters.endorsement.init_required,
            source: Some(found.source()),
        });
    }
    Err(Failure::NotFound(format!(
        "could not fetch approved chaincode definition (name: '{}', sequence: '{}') on channel '{}'",
        args.name,
        if args.sequence == 0 {
            current
        } else {
            args.sequence
        },
        on.channel.id()
    )))
}

/// Every approval whose plain text this peer holds.
pub(super) fn all_approved(on: &OnChannel<'_>) -> Result<Vec<u8>, Failure> {
    let simulator = &mut *on.simulator.lock();
    let private_namespace = format!("{LIFECYCLE}$$p{IMPLICIT_PREFIX}{}", on.msp_id);
    let mut names = Vec::new();
    for entry in simulator
        .state()
        .range(&private_namespace, METADATA_PREFIX, METADATA_END)
    {
        let (key, _) = entry.map_err(|e| e.to_string())?;
        let name = key.strip_prefix(METADATA_PREFIX).and_then(|n| n.rsplit_once('#'));
        if let Some((name, Ok(sequence))) = name.map(|(n, s)| (n.to_owned(), s.parse::<i64>())) {
            names.push((name, sequence));
        }
    }
    let mut approved_chaincode_definitions = Vec::new();
    for (name, sequence) in names {
        let Some(found) = approval(on, simulator, &name, sequence)? else {
            continue;
        };
        approved_chaincode_definitions.push(ApprovedChaincodeDefinition {
            name,
            sequence,
            version: found.parameters.endorsement.version.clone(),
            endorsement_plugin: found.parameters.endorsement.endorsement_plugin.clone(),
            validation_plugin: found.parameters.validation.validation_plugin.clone(),
            validation_parameter: found.parameters.validation.validation_parameter.clone(),
            collections: Some(found.collections()?),
            init_required: found.parameters.endorsement.init_required,
            source: Some(found.source()),
        });
    }
    encode(&QueryApprovedChaincodeDefinitionsResult {
        approved_chaincode_definitions,
    })
}
