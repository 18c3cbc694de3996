//! Chaincode definitions as `_lifecycle` keeps them in the public state (spec 03 §11.1).

use bytes::Bytes;
use selvedge_ledger::{Ledger, LedgerError, StateReader, Version};
use selvedge_proto::go_compat;
use selvedge_proto::{lifecycle, protos};

/// The namespace of the lifecycle system chaincode.
pub const LIFECYCLE: &str = "_lifecycle";
/// Endorsement plugin of every definition that names none.
pub const DEFAULT_ENDORSEMENT_PLUGIN: &str = "escc";
/// Validation plugin of every definition that names none; the only one there is.
pub const DEFAULT_VALIDATION_PLUGIN: &str = "vscc";
/// `StateMetadata.datatype` of a definition.
pub const DEFINITION_DATATYPE: &str = "ChaincodeDefinition";

/// What the organisations of a channel agreed on for one chaincode.
#[derive(Debug, Clone, PartialEq)]
pub struct ChaincodeDefinition {
    /// The name that transactions call it by; also its namespace in the state.
    pub name: String,
    /// How many definitions of this name were committed; the first is 1.
    pub sequence: i64,
    /// Free text, chosen by the organisations.
    pub version: String,
    /// Whether the first invocation must be an initialisation.
    pub init_required: bool,
    /// How endorsements are made; always `escc`.
    pub endorsement_plugin: String,
    /// How endorsements are judged; always `vscc`.
    pub validation_plugin: String,
    /// The endorsement policy: pb(ApplicationPolicy).
    pub validation_parameter: Bytes,
    /// The explicit private data collections.
    pub collections: protos::CollectionConfigPackage,
    /// The collections as they are stored, which is what organisations compare.
    pub collections_bytes: Bytes,
}

impl ChaincodeDefinition {
    /// The explicit collection of this name.
    pub fn collection(&self, name: &str) -> Option<&protos::StaticCollectionConfig> {
        collection_of(&self.collections, name)
    }
}

/// The collection of this name.
pub fn collection_of<'p>(
    package: &'p protos::CollectionConfigPackage,
    name: &str,
) -> Option<&'p protos::StaticCollectionConfig> {
    package.config.iter().find_map(|config| match &config.payload {
        Some(protos::collection_config::Payload::StaticCollectionConfig(found)) if found.name == name => {
            Some(found)
        }
        _ => None,
    })
}

/// Why a definition could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The state database failed.
    #[error("cannot read the definition of chaincode {name:?}: {source}")]
    Ledger {
        /// The chaincode.
        name: String,
        /// What the database said.
        source: LedgerError,
    },
    /// What stands in the state is no chaincode definition.
    #[error(
        "the definition of chaincode {name:?} in the state is damaged: {why}; commit a new definition of it"
    )]
    Damaged {
        /// The chaincode.
        name: String,
        /// What is wrong.
        why: String,
    },
}

/// Key of `StateMetadata` of a definition.
pub fn metadata_key(name: &str) -> String {
    format!("namespaces/metadata/{name}")
}

/// Key of one field of a definition: `Sequence`, `EndorsementInfo`, `ValidationInfo` or `Collections`.
pub fn field_key(name: &str, field: &str) -> String {
    format!("namespaces/fields/{name}/{field}")
}

/// The collections that a chaincode was last given below a block, which are those that the block's transactions were judged
/// by; `None` where it had no definition yet.
///
/// # Errors
/// The database failed, or what was written is not a definition.
pub fn collections_below(
    ledger: &Ledger,
    name: &str,
    block: u64,
) -> Result<Option<protos::CollectionConfigPackage>, DefinitionError> {
    let damaged = |why: String| DefinitionError::Damaged {
        name: name.to_owned(),
        why,
    };
    let before = Some(Version::new(block, 0));
    let written = ledger
        .history_before(LIFECYCLE, &field_key(name, "Collections"), before, 1)
        .map_err(|source| DefinitionError::Ledger {
            name: name.to_owned(),
            source,
        })?;
    let Some(entry) = written.into_iter().find(|entry| !entry.is_delete) else {
        return Ok(None);
    };
    let data: lifecycle::StateData = go_compat::decode(entry.value).map_err(|e| damaged(e.to_string()))?;
    let Some(lifecycle::state_data::Type::Bytes(package)) = data.r#type else {
        return Err(damaged("field Collections is not bytes".into()));
    };
    go_compat::decode(package)
        .map(Some)
        .map_err(|e| damaged(e.to_string()))
}

/// Reads the committed definition of a chaincode; `None` where there is none.
///
/// # Errors
/// The database failed, or the entries are not a definition.
pub fn read_definition(
    state: &dyn StateReader,
    name: &str,
) -> Result<Option<ChaincodeDefinition>, DefinitionError> {
    let get = |key: &str| {
        state
            .get(LIFECYCLE, key)
            .map(|found| found.map(|entry| entry.value))
            .map_err(|source| DefinitionError::Ledger {
                name: name.to_owned(),
                source,
            })
    };
    let damaged = |why: String| DefinitionError::Damaged {
        name: name.to_owned(),
        why,
    };
    let Some(metadata) = get(&metadata_key(name))? else {
        return Ok(None);
    };
    let metadata: lifecycle::StateMetadata =
        go_compat::decode(metadata).map_err(|e| damaged(e.to_string()))?;
    if metadata.datatype != DEFINITION_DATATYPE {
        return Err(damaged(format!("it is a {:?}", metadata.datatype)));
    }
    let field = |field: &str| -> Result<Option<lifecycle::state_data::Type>, DefinitionError> {
        if !metadata.fields.iter().any(|f| f == field) {
            return Ok(None);
        }
        let Some(bytes) = get(&field_key(name, field))? else {
            return Ok(None);
        };
        let data: lifecycle::StateData =
            go_compat::decode(bytes).map_err(|e| damaged(format!("field {field}: {e}")))?;
        Ok(data.r#type)
    };
    let bytes = |name: &str| match field(name)? {
        None => Ok(Bytes::new()),
        Some(lifecycle::state_data::Type::Bytes(bytes)) => Ok(bytes),
        Some(_) => Err(damaged(format!("field {name} is not bytes"))),
    };
    let sequence = match field("Sequence")? {
        None => 0,
        Some(lifecycle::state_data::Type::Int64(sequence)) => sequence,
        Some(_) => return Err(damaged("field Sequence is not a number".into())),
    };
    let decode_error = |e: go_compat::GoDecodeError| damaged(e.to_string());
    let endorsement: lifecycle::ChaincodeEndorsementInfo =
        go_compat::decode(bytes("EndorsementInfo")?).map_err(decode_error)?;
    let validation: lifecycle::ChaincodeValidationInfo =
        go_compat::decode(bytes("ValidationInfo")?).map_err(decode_error)?;
    let collections_bytes = bytes("Collections")?;
    Ok(Some(ChaincodeDefinition {
        name: name.to_owned(),
        sequence,
        version: endorsement.version,
        init_required: endorsement.init_required,
        endorsement_plugin: endorsement.endorsement_plugin,
        validation_plugin: validation.validation_plugin,
        validation_parameter: validation.validation_parameter,
        collections: go_compat::decode(collections_bytes.clone()).map_err(decode_error)?,
        collections_bytes,
    }))
}
