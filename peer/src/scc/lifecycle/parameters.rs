//! The parts of a chaincode definition that organisations approve, and the bytes they are stored as (spec 03 §11).

use bytes::Bytes;
use prost::Message;
use selvedge_proto::lifecycle::state_data::Type;
use selvedge_proto::{lifecycle, protos};

use crate::definition::{ChaincodeDefinition, DEFINITION_DATATYPE};

/// Datatype of an organisation's approval.
const PARAMETERS_DATATYPE: &str = "ChaincodeParameters";
/// Datatype of an organisation's choice of a package.
const PACKAGE_DATATYPE: &str = "ChaincodeLocalPackage";

/// What organisations agree on, apart from the sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// Version, endorsement plugin, and whether initialisation is required.
    pub endorsement: lifecycle::ChaincodeEndorsementInfo,
    /// Validation plugin and endorsement policy.
    pub validation: lifecycle::ChaincodeValidationInfo,
    /// pb(CollectionConfigPackage).
    pub collections: Bytes,
}

/// A state record: its metadata and its fields, in the order of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Key of the metadata.
    pub metadata_key: String,
    /// pb(StateMetadata).
    pub metadata: Bytes,
    /// Key and value of each field.
    pub fields: Vec<(String, Bytes)>,
}

fn data(value: Type) -> Bytes {
    lifecycle::StateData { r#type: Some(value) }
        .encode_to_vec()
        .into()
}

impl Record {
    fn new(space: &str, name: &str, datatype: &str, fields: Vec<(&str, Bytes)>) -> Self {
        let metadata = lifecycle::StateMetadata {
            datatype: datatype.to_owned(),
            fields: fields.iter().map(|(field, _)| (*field).to_owned()).collect(),
        };
        Self {
            metadata_key: format!("{space}/metadata/{name}"),
            metadata: metadata.encode_to_vec().into(),
            fields: fields
                .into_iter()
                .map(|(field, value)| (format!("{space}/fields/{name}/{field}"), value))
                .collect(),
        }
    }

    /// The public record of a committed definition (spec 03 §11.1).
    pub fn definition(name: &str, sequence: i64, parameters: &Parameters) -> Self {
        let mut fields = vec![("Sequence", data(Type::Int64(sequence)))];
        fields.extend(parameters.fields());
        Self::new("namespaces", name, DEFINITION_DATATYPE, fields)
    }

    /// The record of an organisation's approval (spec 03 §11.2).
    pub fn approval(name: &str, sequence: i64, parameters: &Parameters) -> Self {
        let fields = parameters.fields().into();
        Self::new(
            "namespaces",
            &private_name(name, sequence),
            PARAMETERS_DATATYPE,
            fields,
        )
    }

    /// The record of the package that an organisation runs for a definition (spec 03 §11.2).
    pub fn package(name: &str, sequence: i64, package_id: &str) -> Self {
        let fields = vec![("PackageID", data(Type::String(package_id.to_owned())))];
        Self::new(
            "chaincode-sources",
            &private_name(name, sequence),
            PACKAGE_DATATYPE,
            fields,
        )
    }
}

/// Name under which an organisation keeps what belongs to one sequence of a chaincode.
pub fn private_name(name: &str, sequence: i64) -> String {
    format!("{name}#{sequence}")
}

impl Parameters {
    /// Those of a committed definition.
    pub fn of(definition: &ChaincodeDefinition) -> Self {
        Self {
            endorsement: lifecycle::ChaincodeEndorsementInfo {
                version: definition.version.clone(),
                init_required: definition.init_required,
                endorsement_plugin: definition.endorsement_plugin.clone(),
            },
            validation: lifecycle::ChaincodeValidationInfo {
                validation_plugin: definition.validation_plugin.clone(),
                validation_parameter: definition.validation_parameter.clone(),
            },
            collections: definition.collections_bytes.clone(),
        }
    }

    /// Each field with the value it is stored as.
    pub fn fields(&self) -> [(&'static str, Bytes); 3] {
        [
            (
                "EndorsementInfo",
                data(Type::Bytes(self.endorsement.encode_to_vec().into())),
            ),
            (
                "ValidationInfo",
                data(Type::Bytes(self.validation.encode_to_vec().into())),
            ),
            ("Collections", data(Type::Bytes(self.collections.clone()))),
        ]
    }

    /// Names of the parts in which another approval differs, for people.
    pub fn differences(&self, other: &Self) -> String {
        let mut parts = Vec::new();
        if self.endorsement != other.endorsement {
            parts.push(format!(
                "expected Version '{}', InitRequired '{}', EndorsementPlugin '{}', but passed '{}', '{}', '{}'",
                self.endorsement.version,
                self.endorsement.init_required,
                self.endorsement.endorsement_plugin,
                other.endorsement.version,
                other.endorsement.init_required,
                other.endorsement.endorsement_plugin,
            ));
        }
        if self.validation != other.validation {
            parts.push(format!(
                "expected ValidationPlugin '{}' with parameter {}, but passed '{}' with {}",
                self.validation.validation_plugin,
                hex::encode(&self.validation.validation_parameter),
                other.validation.validation_plugin,
                hex::encode(&other.validation.validation_parameter),
            ));
        }
        if self.collections != other.collections {
            parts.push("Collections do not match".to_owned());
        }
        parts.join("; ")
    }
}

/// The collections of a request as they are stored.
pub fn collections_bytes(collections: Option<&protos::CollectionConfigPackage>) -> Bytes {
    collections.map(|c| c.encode_to_vec().into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values seen on a real ledger (spec 03 §11.2b).
    #[test]
    fn stored_bytes_are_those_of_a_real_ledger() {
        let parameters = Parameters {
            endorsement: lifecycle::ChaincodeEndorsementInfo {
                version: "1.0".into(),
                init_required: false,
                endorsement_plugin: "escc".into(),
            },
            validation: lifecycle::ChaincodeValidationInfo {
                validation_plugin: "vscc".into(),
                validation_parameter: protos::ApplicationPolicy {
                    r#type: Some(protos::application_policy::Type::ChannelConfigPolicyReference(
                        "/Channel/Application/Endorsement".into(),
                    )),
                }
                .encode_to_vec()
                .into(),
            },
            collections: Bytes::new(),
        };
        let record = Record::definition("cc", 1, &parameters);
        let hex_of = |i: usize| hex::encode(&record.fields[i].1);
        assert_eq!(hex_of(0), "0801");
        assert_eq!(hex_of(1), "120b0a03312e301a0465736363");
        let policy = hex::encode("/Channel/Application/Endorsement");
        assert_eq!(hex_of(2), format!("122a0a047673636312221220{policy}"));
        assert_eq!(hex_of(3), "1200");
        let text = |s: &str| hex::encode(s);
        assert_eq!(
            hex::encode(&record.metadata),
            format!(
                "0a13{}1208{}120f{}120e{}120b{}",
                text("ChaincodeDefinition"),
                text("Sequence"),
                text("EndorsementInfo"),
                text("ValidationInfo"),
                text("Collections")
            )
        );
        assert_eq!(record.metadata_key, "namespaces/metadata/cc");
        assert_eq!(record.fields[1].0, "namespaces/fields/cc/EndorsementInfo");
        let package = Record::package("cc", 3, "l:00");
        assert_eq!(package.metadata_key, "chaincode-sources/metadata/cc#3");
        assert_eq!(package.fields[0].0, "chaincode-sources/fields/cc#3/PackageID");
    }
}
