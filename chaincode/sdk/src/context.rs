//! What a contract function works with: state, events, the caller and the transaction.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::{Fact, HistoryEntry, Host};
use crate::keys::composite_range;
use crate::response::to_json;
use crate::{Error, Response, Result, Timestamp, abi};

/// How loud a line in the peer's log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// Something is broken.
    Error = 1,
    /// Something may be broken.
    Warn = 2,
    /// Worth knowing.
    Info = 3,
    /// For those who look for a fault.
    Debug = 4,
}

/// The running transaction. Reads return committed values: a function does not see what it has written itself.
pub struct Context<'h> {
    host: &'h dyn Host,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Context")
    }
}

impl<'h> Context<'h> {
    /// A context on a host. Contracts are handed theirs; hosts other than the peer (test doubles) make one.
    pub fn new(host: &'h dyn Host) -> Self {
        Self { host }
    }

    fn fact(&self, fact: Fact) -> Result<String> {
        String::from_utf8(self.host.fact(fact)?)
            .map_err(|_| Error::internal("the peer handed over a fact that is not UTF-8"))
    }

    /// Id of the transaction, lower-case hex.
    pub fn tx_id(&self) -> Result<String> {
        self.fact(Fact::TxId)
    }

    /// Name of the channel.
    pub fn channel(&self) -> Result<String> {
        self.fact(Fact::Channel)
    }

    /// Name under which this chaincode runs.
    pub fn chaincode(&self) -> Result<String> {
        self.fact(Fact::Chaincode)
    }

    /// The time that the client wrote into its proposal: the same on every endorser, but only as right as the client's
    /// clock.
    pub fn timestamp(&self) -> Result<Timestamp> {
        let text = self.fact(Fact::Timestamp)?;
        let (seconds, nanos) = text.split_once('.').unwrap_or((&text, "0"));
        match (seconds.parse(), nanos.parse()) {
            (Ok(seconds), Ok(nanos)) => Timestamp::from_unix(seconds, nanos),
            _ => Err(Error::internal(format!(
                "the peer handed over the timestamp {text}"
            ))),
        }
    }

    /// Who created the transaction.
    pub fn caller(&self) -> Caller<'h> {
        Caller { host: self.host }
    }

    /// A field of the transient map: input that is not recorded on the ledger.
    pub fn transient(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.host.transient(name)
    }

    /// The committed value of a key, `None` when absent.
    pub fn get_state(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.host.get_state(key)
    }

    /// The committed value of a key, read as JSON. Status 500 when it does not decode.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.get_state(key)?
            .map(|bytes| decode_state(key, &bytes))
            .transpose()
    }

    /// Writes a key. Status 400 when the key is empty.
    pub fn put_state(&self, key: &str, value: &[u8]) -> Result<()> {
        if key.is_empty() {
            return Err(Error::bad_request("a state key must not be empty"));
        }
        self.host.put_state(key, value)
    }

    /// Writes a key as JSON.
    pub fn put_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        self.put_state(key, &to_json(value)?)
    }

    /// Deletes a key.
    pub fn delete_state(&self, key: &str) -> Result<()> {
        self.host.del_state(key)
    }

    /// All plain keys with `start <= key < end` in key order; an empty bound is open. Composite keys are not included,
    /// because an empty start becomes U+0001 (as in Fabric's shims). Items are fetched as the iterator is read.
    pub fn range(&self, start: &str, end: &str) -> Result<StateIterator<'h>> {
        if start.starts_with('\0') {
            return Err(Error::bad_request(
                "a plain range must not start in the composite keys",
            ));
        }
        self.open_range(if start.is_empty() { "\u{1}" } else { start }, end)
    }

    /// All composite keys that begin with the given object type and attributes.
    pub fn composite_range(&self, object_type: &str, attributes: &[&str]) -> Result<StateIterator<'h>> {
        let (start, end) = composite_range(object_type, attributes)?;
        self.open_range(&start, &end)
    }

    /// As [`Context::composite_range`], but starting at the key `from`, which must lie within that range: for reading on
    /// where an earlier page ended.
    pub fn composite_range_from(
        &self,
        object_type: &str,
        attributes: &[&str],
        from: &str,
    ) -> Result<StateIterator<'h>> {
        let (start, end) = composite_range(object_type, attributes)?;
        if from < start.as_str() || from >= end.as_str() {
            return Err(Error::bad_request("the bookmark does not belong to this list"));
        }
        self.open_range(from, &end)
    }

    fn open_range(&self, start: &str, end: &str) -> Result<StateIterator<'h>> {
        Ok(StateIterator(RawIterator::new(
            self.host,
            self.host.get_state_range(start, end)?,
        )))
    }

    /// Every committed change of a key, newest first.
    pub fn history(&self, key: &str) -> Result<HistoryIterator<'h>> {
        Ok(HistoryIterator(RawIterator::new(
            self.host,
            self.host.get_history(key)?,
        )))
    }

    /// The endorsement policy of one key, if it has its own: a serialised `SignaturePolicyEnvelope`, spec 03 §4.1.
    pub fn validation_parameter(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.host.validation_parameter(key)
    }

    /// Gives one key an endorsement policy of its own: a serialised `SignaturePolicyEnvelope`, spec 03 §4.1.
    pub fn set_validation_parameter(&self, key: &str, policy: &[u8]) -> Result<()> {
        self.host.set_validation_parameter(key, policy)
    }

    /// Reads a private key of a collection.
    pub fn get_private(&self, collection: &str, key: &str) -> Result<Option<Vec<u8>>> {
        self.host.get_private(collection, key)
    }

    /// Writes a private key of a collection.
    pub fn put_private(&self, collection: &str, key: &str, value: &[u8]) -> Result<()> {
        self.host.put_private(collection, key, value)
    }

    /// Deletes a private key of a collection.
    pub fn delete_private(&self, collection: &str, key: &str) -> Result<()> {
        self.host.del_private(collection, key)
    }

    /// SHA-256 of a private value, which every member of the channel can see.
    pub fn private_hash(&self, collection: &str, key: &str) -> Result<Option<Vec<u8>>> {
        self.host.private_hash(collection, key)
    }

    /// Calls another chaincode within this transaction (`name`, or `name/channel` to read from another channel) and
    /// hands back its answer, whatever its status.
    pub fn invoke_chaincode(&self, name: &str, function: &str, args: &[&[u8]]) -> Result<Response> {
        let mut items = Vec::with_capacity(args.len() + 1);
        items.push(function.as_bytes());
        items.extend_from_slice(args);
        self.host.invoke_chaincode(name, &items)
    }

    /// Sets the transaction's event. There is one event a transaction: the last one set wins.
    pub fn set_event(&self, name: &str, payload: &[u8]) -> Result<()> {
        self.host.set_event(name, payload)
    }

    /// Sets the transaction's event with a JSON payload.
    pub fn set_json_event<T: Serialize + ?Sized>(&self, name: &str, payload: &T) -> Result<()> {
        self.set_event(name, &to_json(payload)?)
    }

    /// Writes a line to the peer's log.
    pub fn log(&self, level: Level, message: &str) {
        self.host.log(level, message);
    }
}

/// Reads JSON text. One reader for everything: serde_json has separate code for bytes, which would double a module.
fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    serde_json::from_str(text).map_err(|why| why.to_string())
}

/// Reads a stored JSON value, as [`Context::get_json`] does; for values that came from a range.
///
/// # Errors
/// Status 500 naming the key when the value does not decode.
pub fn decode_state<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T> {
    from_json(value).map_err(|why| {
        Error::internal(format!(
            "the state of {} does not decode: {why}",
            key.replace('\0', "/").trim_matches('/')
        ))
    })
}

/// The creator of the transaction. Each fact is asked of the peer when it is needed.
pub struct Caller<'h> {
    host: &'h dyn Host,
}

impl std::fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caller")
    }
}

impl Caller<'_> {
    fn text(&self, fact: Fact) -> Result<String> {
        Context { host: self.host }.fact(fact)
    }

    fn json<T: DeserializeOwned>(&self, fact: Fact) -> Result<T> {
        from_json(&self.host.fact(fact)?).map_err(|why| {
            Error::internal(format!(
                "the peer handed over a broken fact about the caller: {why}"
            ))
        })
    }

    /// Id of the organisation's MSP.
    pub fn msp_id(&self) -> Result<String> {
        self.text(Fact::CreatorMsp)
    }

    /// Common name in the certificate (the enrolment id).
    pub fn common_name(&self) -> Result<String> {
        self.text(Fact::CreatorCommonName)
    }

    /// Organizational units in the certificate.
    pub fn organizational_units(&self) -> Result<Vec<String>> {
        self.json(Fact::CreatorUnits)
    }

    /// All attributes that the CA put into the certificate.
    pub fn attributes(&self) -> Result<BTreeMap<String, String>> {
        self.json(Fact::CreatorAttributes)
    }

    /// One attribute of the certificate.
    pub fn attribute(&self, name: &str) -> Result<Option<String>> {
        Ok(self.attributes()?.remove(name))
    }

    /// Whether the caller is confined to the public view: that something exists and how far it is, not its content. The
    /// attribute can only take away, so that it does not matter which organisation gave it.
    ///
    /// # Errors
    /// Status 500 when the peer does not tell.
    pub fn has_public_view(&self) -> Result<bool> {
        Ok(self
            .attribute("selvedge.view")?
            .is_some_and(|view| view == "public"))
    }

    /// SHA-256 of the certificate (DER), lower-case hex: which certificate it was, exactly.
    pub fn certificate_hash(&self) -> Result<String> {
        self.text(Fact::CreatorHash)
    }

    /// The serialised identity as it stands in the proposal.
    pub fn creator(&self) -> Result<Vec<u8>> {
        self.host.fact(Fact::Creator)
    }
}

/// Raw items of an iterator; gives it back to the peer when dropped.
struct RawIterator<'h> {
    host: &'h dyn Host,
    handle: i32,
    ended: bool,
}

impl<'h> RawIterator<'h> {
    fn new(host: &'h dyn Host, handle: i32) -> Self {
        Self {
            host,
            handle,
            ended: false,
        }
    }
}

impl std::fmt::Debug for RawIterator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "iterator {}", self.handle)
    }
}

impl Iterator for RawIterator<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.host.iterator_next(self.handle).transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

impl Drop for RawIterator<'_> {
    fn drop(&mut self) {
        self.host.iterator_close(self.handle);
    }
}

/// Keys and values of a range, in key order. After an error it ends.
#[derive(Debug)]
pub struct StateIterator<'h>(RawIterator<'h>);

impl Iterator for StateIterator<'_> {
    type Item = Result<(String, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.and_then(|bytes| abi::decode_range_item(&bytes)))
    }
}

/// Changes of one key, newest first. After an error it ends.
#[derive(Debug)]
pub struct HistoryIterator<'h>(RawIterator<'h>);

impl Iterator for HistoryIterator<'_> {
    type Item = Result<HistoryEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.and_then(|bytes| abi::decode_history_item(&bytes)))
    }
}
