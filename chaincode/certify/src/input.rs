//! Reading records to certify.

use selvedge_chaincode::json::{Field, Object};
use selvedge_chaincode::{DocumentHash, Error, HashAlgorithm, Result, Timestamp, note};

/// Longest id of a part or record, in bytes.
const MAX_NAME: usize = 128;

/// The field that names a part.
pub(crate) fn part(object: &mut Object<'_>) -> Result<Option<String>> {
    let field = object.optional("part");
    field.map(|field| field.label(MAX_NAME)).transpose()
}

/// The field that names a record.
pub(crate) fn record(object: &mut Object<'_>) -> Result<Option<String>> {
    let field = object.optional("record");
    field.map(|field| field.label(MAX_NAME)).transpose()
}

/// What all records of a batch have in common.
#[derive(Default)]
pub(crate) struct Common {
    part: Option<String>,
    algorithm: Option<HashAlgorithm>,
}

impl Common {
    pub(crate) fn read(object: &mut Object<'_>) -> Result<Self> {
        Ok(Self {
            part: part(object)?,
            algorithm: HashAlgorithm::read(object)?,
        })
    }
}

/// A record as it was sent.
pub(crate) struct SentRecord {
    pub(crate) part: String,
    pub(crate) record: String,
    pub(crate) hash: DocumentHash,
    pub(crate) time: Option<Timestamp>,
    pub(crate) replaces: Option<String>,
    pub(crate) note: Option<String>,
}

impl SentRecord {
    /// Reads `{"part","record","hash","algorithm"?,"time"?,"replaces"?,"note"?}`.
    pub(crate) fn read(field: &Field<'_>, common: &Common) -> Result<Self> {
        let mut object = field.object()?;
        let missing = |name: &str| Error::bad_request(format!("{}.{name} is missing", field.path()));
        let sent = Self {
            part: part(&mut object)?
                .or_else(|| common.part.clone())
                .ok_or_else(|| missing("part"))?,
            record: record(&mut object)?.ok_or_else(|| missing("record"))?,
            hash: DocumentHash::read_with(&mut object, common.algorithm)?.ok_or_else(|| missing("hash"))?,
            time: object.optional("time").map(|field| field.time()).transpose()?,
            // Only compared with what is there, so it needs no check of its own.
            replaces: object
                .optional("replaces")
                .map(|field| field.name(128))
                .transpose()?
                .map(|hash| hash.to_ascii_lowercase()),
            note: note(&mut object)?,
        };
        object.finish()?;
        Ok(sent)
    }
}
