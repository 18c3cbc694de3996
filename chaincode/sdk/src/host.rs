//! What the peer offers to a contract, as a trait: the wasm imports implement it in production and
//! `testing::MockLedger` in unit tests, so that a contract is the same code in both.

use crate::{Level, Response, Result, Timestamp};

/// Facts about the transaction and its creator that the peer hands out (contract ABI version 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Fact {
    /// Transaction id, lower-case hex.
    TxId = 1,
    /// Name of the channel.
    Channel = 2,
    /// The creator's `SerializedIdentity` bytes.
    Creator = 3,
    /// The creator's MSP id.
    CreatorMsp = 4,
    /// Attributes in the creator's certificate, a JSON object of strings.
    CreatorAttributes = 5,
    /// Common name in the creator's certificate.
    CreatorCommonName = 6,
    /// Organizational units in the creator's certificate, a JSON array of strings.
    CreatorUnits = 7,
    /// Timestamp in the proposal's channel header, `seconds.nanos`.
    Timestamp = 8,
    /// Name under which this chaincode is called.
    Chaincode = 9,
    /// SHA-256 of the creator certificate's DER, lower-case hex.
    CreatorHash = 10,
}

/// One change of a key, as the history database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The transaction that wrote.
    pub tx_id: String,
    /// That transaction's timestamp.
    pub timestamp: Timestamp,
    /// True when the key was deleted.
    pub is_delete: bool,
    /// The value written; empty for a deletion.
    pub value: Vec<u8>,
}

/// The peer, seen from inside a contract. Authors use [`crate::Context`], which is built on it.
///
/// Reads return committed values: a transaction does not see its own writes, as in Fabric.
/// Every `Err` means that the peer refused the call and carries its reason.
pub trait Host {
    /// Function name and arguments of this invocation.
    fn input(&self) -> Result<Vec<Vec<u8>>>;
    /// One fact about the transaction.
    fn fact(&self, fact: Fact) -> Result<Vec<u8>>;
    /// A field of the transient map, which is not recorded on the ledger.
    fn transient(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// Reads a key.
    fn get_state(&self, key: &str) -> Result<Option<Vec<u8>>>;
    /// Writes a key.
    fn put_state(&self, key: &str, value: &[u8]) -> Result<()>;
    /// Deletes a key.
    fn del_state(&self, key: &str) -> Result<()>;
    /// Opens an iterator over `start <= key < end`; an empty `end` is open.
    fn get_state_range(&self, start: &str, end: &str) -> Result<i32>;
    /// Opens an iterator over the changes of a key, newest first.
    fn get_history(&self, key: &str) -> Result<i32>;
    /// Next raw item of an iterator, `None` at its end.
    fn iterator_next(&self, handle: i32) -> Result<Option<Vec<u8>>>;
    /// Gives an iterator back to the peer.
    fn iterator_close(&self, handle: i32);
    /// The endorsement policy of one key, if it has its own.
    fn validation_parameter(&self, key: &str) -> Result<Option<Vec<u8>>>;
    /// Gives one key an endorsement policy of its own (a serialised `SignaturePolicyEnvelope`, spec 03 §4.1).
    fn set_validation_parameter(&self, key: &str, policy: &[u8]) -> Result<()>;
    /// Reads a private key of a collection.
    fn get_private(&self, collection: &str, key: &str) -> Result<Option<Vec<u8>>>;
    /// Writes a private key of a collection.
    fn put_private(&self, collection: &str, key: &str, value: &[u8]) -> Result<()>;
    /// Deletes a private key of a collection.
    fn del_private(&self, collection: &str, key: &str) -> Result<()>;
    /// SHA-256 of a private value, known to every member of the channel.
    fn private_hash(&self, collection: &str, key: &str) -> Result<Option<Vec<u8>>>;
    /// Calls another chaincode within the same transaction. The first argument is its function.
    fn invoke_chaincode(&self, name: &str, args: &[&[u8]]) -> Result<Response>;
    /// Sets the transaction's event; the last one wins.
    fn set_event(&self, name: &str, payload: &[u8]) -> Result<()>;
    /// Writes to the peer's log.
    fn log(&self, level: Level, message: &str);
    /// Sets the response of this invocation; the last one wins.
    fn respond(&self, response: &Response);
}
