//! Reading and writing records in the public state and in an organisation's implicit collection.

use bytes::Bytes;

use super::parameters::Record;
use crate::chaincode::collections::IMPLICIT_PREFIX;
use crate::chaincode::simulator::{SimulationError, Simulator, sha256};
use crate::definition::LIFECYCLE;

/// Where records are kept.
pub(super) enum Cells<'a> {
    /// The public state.
    Public(&'a mut Simulator),
    /// A collection; only hashes are looked at.
    Private(&'a mut Simulator, String),
}

/// What of a record is stored as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Match {
    /// The metadata, which tells whether there is a record at all.
    pub(super) metadata: bool,
    /// Each field, in the order of the record.
    pub(super) fields: Vec<bool>,
}

impl Match {
    pub(super) fn whole(&self) -> bool {
        self.metadata && self.fields.iter().all(|same| *same)
    }
}

impl<'a> Cells<'a> {
    /// The collection of an organisation.
    pub(super) fn of_org(simulator: &'a mut Simulator, msp_id: &str) -> Self {
        Self::Private(simulator, format!("{IMPLICIT_PREFIX}{msp_id}"))
    }

    fn hash(&mut self, key: &str) -> Result<Option<Bytes>, SimulationError> {
        match self {
            Self::Public(simulator) => Ok(simulator.get(LIFECYCLE, key)?.map(|value| sha256(&value))),
            Self::Private(simulator, collection) => simulator.get_private_hash(LIFECYCLE, collection, key),
        }
    }

    fn put(&mut self, key: &str, value: Bytes) -> Result<(), SimulationError> {
        match self {
            Self::Public(simulator) => simulator.put(LIFECYCLE, key, value),
            Self::Private(simulator, collection) => simulator.put_private(LIFECYCLE, collection, key, value),
        }
    }

    fn holds(&mut self, key: &str, value: &[u8]) -> Result<bool, SimulationError> {
        Ok(self.hash(key)? == Some(sha256(value)))
    }

    /// True when there is a record under this key.
    pub(super) fn exists(&mut self, record: &Record) -> Result<bool, SimulationError> {
        Ok(self.hash(&record.metadata_key)?.is_some())
    }

    /// Compares every part of a record with what is stored.
    pub(super) fn compare(&mut self, record: &Record) -> Result<Match, SimulationError> {
        let metadata = self.holds(&record.metadata_key, &record.metadata)?;
        let fields = record
            .fields
            .iter()
            .map(|(key, value)| self.holds(key, value))
            .collect::<Result<_, _>>()?;
        Ok(Match { metadata, fields })
    }

    /// Writes what differs from what is stored (spec 03 §11.1). Fields of a record that does not exist are not read.
    pub(super) fn store(&mut self, record: &Record) -> Result<(), SimulationError> {
        let same_fields = self.holds(&record.metadata_key, &record.metadata)?;
        for (key, value) in &record.fields {
            if !same_fields || !self.holds(key, value)? {
                self.put(key, value.clone())?;
            }
        }
        if !same_fields {
            self.put(&record.metadata_key, record.metadata.clone())?;
        }
        Ok(())
    }
}
