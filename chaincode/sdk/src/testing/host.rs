//! The simulating side of the test ledger: what the peer does while a contract runs.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::ledger::{Key, MockLedger, Simulated, TestCaller, Version, pseudo_hash};
use crate::abi::{encode_history_item, encode_range_item};
use crate::host::{Fact, Host};
use crate::{Error, Level, Response, Result, Timestamp};

/// A range that was read, as far as it was read.
#[derive(Debug, Clone)]
pub(super) struct ReadRange {
    pub(super) namespace: String,
    pub(super) start: String,
    pub(super) end: String,
    pub(super) seen: Vec<(String, Version)>,
    exhausted: bool,
}

impl ReadRange {
    /// How many keys of today's range must equal those seen: all of them, if the range was read to its end.
    pub(super) fn compared(&self) -> usize {
        if self.exhausted {
            usize::MAX
        } else {
            self.seen.len()
        }
    }
}

/// What a transaction read and wrote so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Simulator {
    pub(super) reads: BTreeMap<Key, Option<Version>>,
    pub(super) ranges: Vec<ReadRange>,
    pub(super) writes: BTreeMap<Key, Option<Vec<u8>>>,
    pub(super) parameters: BTreeMap<Key, Vec<u8>>,
    pub(super) private: BTreeMap<(String, String, String), Option<Vec<u8>>>,
}

/// An item in its binary shape, and for ranges what reading it adds to the read set.
type Item = (Vec<u8>, Option<(String, Version)>);

/// An open iterator: items left, last first, and the range it records into.
struct Iteration {
    items: Vec<Item>,
    range: Option<usize>,
}

/// One running transaction; calls between chaincodes share it.
struct Transaction<'l> {
    ledger: &'l MockLedger,
    caller: &'l TestCaller,
    tx_id: &'l str,
    timestamp: Timestamp,
    transient: &'l BTreeMap<String, Vec<u8>>,
    simulator: RefCell<Simulator>,
}

/// One invocation within a transaction.
pub(super) struct TestHost<'t, 'l> {
    tx: &'t Transaction<'l>,
    chaincode: String,
    input: Vec<Vec<u8>>,
    depth: usize,
    response: RefCell<Option<Response>>,
    event: RefCell<Option<(String, Vec<u8>)>>,
    iterations: RefCell<Vec<Option<Iteration>>>,
}

impl<'t, 'l> TestHost<'t, 'l> {
    fn new(tx: &'t Transaction<'l>, chaincode: &str, input: Vec<Vec<u8>>, depth: usize) -> Self {
        Self {
            tx,
            chaincode: chaincode.to_owned(),
            input,
            depth,
            response: RefCell::new(None),
            event: RefCell::new(None),
            iterations: RefCell::new(Vec::new()),
        }
    }

    fn run(&self) -> Response {
        match self.tx.ledger.contracts.get(&self.chaincode) {
            Some(entry) => entry(self),
            None => return Error::internal(format!("chaincode {} is not installed", self.chaincode)).into(),
        }
        self.response
            .take()
            .unwrap_or_else(|| Error::internal("contract gave no response").into())
    }

    fn key(&self, key: &str) -> Result<Key> {
        if key.is_empty() {
            return Err(Error::internal("the key is empty"));
        }
        Ok((self.chaincode.clone(), key.to_owned()))
    }

    fn open(&self, iteration: Iteration) -> i32 {
        let mut iterations = self.iterations.borrow_mut();
        iterations.push(Some(iteration));
        i32::try_from(iterations.len() - 1).unwrap_or(i32::MAX)
    }

    fn private_key(&self, collection: &str, key: &str) -> (String, String, String) {
        (self.chaincode.clone(), collection.to_owned(), key.to_owned())
    }
}

impl TestHost<'_, '_> {
    pub(super) fn execute(
        ledger: &MockLedger,
        caller: &TestCaller,
        tx_id: &str,
        timestamp: Timestamp,
        transient: &BTreeMap<String, Vec<u8>>,
        chaincode: &str,
        input: Vec<Vec<u8>>,
    ) -> Simulated {
        let simulator = RefCell::new(Simulator::default());
        let tx = Transaction {
            ledger,
            caller,
            tx_id,
            timestamp,
            transient,
            simulator,
        };
        let host = TestHost::new(&tx, chaincode, input, 0);
        let response = host.run();
        let event = host.event.take().filter(|_| response.is_ok());
        let effects = tx.simulator.take();
        Simulated {
            tx_id: tx_id.to_owned(),
            response,
            event,
            timestamp,
            effects,
        }
    }
}

impl Host for TestHost<'_, '_> {
    fn input(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.input.clone())
    }

    fn fact(&self, fact: Fact) -> Result<Vec<u8>> {
        let caller = self.tx.caller;
        let identity = || format!("{}/{}", caller.msp_id, caller.common_name);
        let text = match fact {
            Fact::TxId => self.tx.tx_id.to_owned(),
            Fact::Channel => "test-channel".to_owned(),
            Fact::Creator => identity(),
            Fact::CreatorMsp => caller.msp_id.clone(),
            Fact::CreatorAttributes => serde_json::to_string(&caller.attributes).unwrap_or_default(),
            Fact::CreatorCommonName => caller.common_name.clone(),
            Fact::CreatorUnits => serde_json::to_string(&caller.units).unwrap_or_default(),
            Fact::Timestamp => format!("{}.{:09}", self.tx.timestamp.seconds(), self.tx.timestamp.nanos()),
            Fact::Chaincode => self.chaincode.clone(),
            Fact::CreatorHash => pseudo_hash(&identity()),
        };
        Ok(text.into_bytes())
    }

    fn transient(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.tx.transient.get(name).cloned())
    }

    fn get_state(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let key = self.key(key)?;
        let committed = self.tx.ledger.state.get(&key);
        let mut simulator = self.tx.simulator.borrow_mut();
        simulator
            .reads
            .entry(key)
            .or_insert(committed.map(|committed| committed.version));
        Ok(committed.map(|committed| committed.value.clone()))
    }

    fn put_state(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = self.key(key)?;
        self.tx
            .simulator
            .borrow_mut()
            .writes
            .insert(key, Some(value.to_vec()));
        Ok(())
    }

    fn del_state(&self, key: &str) -> Result<()> {
        let key = self.key(key)?;
        self.tx.simulator.borrow_mut().writes.insert(key, None);
        Ok(())
    }

    fn get_state_range(&self, start: &str, end: &str) -> Result<i32> {
        let items = self.tx.ledger.scan(&self.chaincode, start, end);
        let mut items: Vec<_> = items
            .map(|(key, committed)| {
                (
                    encode_range_item(key, &committed.value),
                    Some((key.to_owned(), committed.version)),
                )
            })
            .collect();
        items.reverse();
        let mut simulator = self.tx.simulator.borrow_mut();
        simulator.ranges.push(ReadRange {
            namespace: self.chaincode.clone(),
            start: start.to_owned(),
            end: end.to_owned(),
            seen: Vec::new(),
            exhausted: false,
        });
        Ok(self.open(Iteration {
            items,
            range: Some(simulator.ranges.len() - 1),
        }))
    }

    fn get_history(&self, key: &str) -> Result<i32> {
        let entries = self.tx.ledger.history.get(&self.key(key)?);
        // Written oldest first and taken from the end, so the newest comes first.
        let items = entries
            .into_iter()
            .flatten()
            .map(|entry| (encode_history_item(entry), None))
            .collect();
        Ok(self.open(Iteration { items, range: None }))
    }

    fn iterator_next(&self, handle: i32) -> Result<Option<Vec<u8>>> {
        let mut iterations = self.iterations.borrow_mut();
        let iteration = usize::try_from(handle)
            .ok()
            .and_then(|at| iterations.get_mut(at))
            .and_then(Option::as_mut);
        let Some(iteration) = iteration else {
            return Err(Error::internal(format!("iterator {handle} is not open")));
        };
        let item = iteration.items.pop();
        let mut simulator = self.tx.simulator.borrow_mut();
        if let Some(range) = iteration.range.and_then(|at| simulator.ranges.get_mut(at)) {
            match &item {
                Some((_, read)) => range.seen.extend(read.clone()),
                None => range.exhausted = true,
            }
        }
        Ok(item.map(|(bytes, _)| bytes))
    }

    fn iterator_close(&self, handle: i32) {
        let mut iterations = self.iterations.borrow_mut();
        if let Some(slot) = usize::try_from(handle).ok().and_then(|at| iterations.get_mut(at)) {
            *slot = None;
        }
    }

    fn validation_parameter(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.tx.ledger.parameters.get(&self.key(key)?).cloned())
    }

    fn set_validation_parameter(&self, key: &str, policy: &[u8]) -> Result<()> {
        let key = self.key(key)?;
        self.tx
            .simulator
            .borrow_mut()
            .parameters
            .insert(key, policy.to_vec());
        Ok(())
    }

    fn get_private(&self, collection: &str, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self
            .tx
            .ledger
            .private
            .get(&self.private_key(collection, key))
            .cloned())
    }

    fn put_private(&self, collection: &str, key: &str, value: &[u8]) -> Result<()> {
        let key = self.private_key(collection, key);
        self.tx
            .simulator
            .borrow_mut()
            .private
            .insert(key, Some(value.to_vec()));
        Ok(())
    }

    fn del_private(&self, collection: &str, key: &str) -> Result<()> {
        let key = self.private_key(collection, key);
        self.tx.simulator.borrow_mut().private.insert(key, None);
        Ok(())
    }

    /// Stands in for SHA-256: equal values have equal hashes.
    fn private_hash(&self, collection: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let value = self.tx.ledger.private.get(&self.private_key(collection, key));
        Ok(value.map(|value| pseudo_hash(&String::from_utf8_lossy(value)).into_bytes()))
    }

    fn invoke_chaincode(&self, name: &str, args: &[&[u8]]) -> Result<Response> {
        // As deep as any sensible contract goes; without an end two contracts could call each other for ever.
        if self.depth == 8 {
            return Err(Error::internal("chaincodes call each other more than 8 deep"));
        }
        let input = args.iter().map(|arg| arg.to_vec()).collect();
        Ok(TestHost::new(self.tx, name, input, self.depth + 1).run())
    }

    fn set_event(&self, name: &str, payload: &[u8]) -> Result<()> {
        if name.is_empty() {
            return Err(Error::internal("an event needs a name"));
        }
        *self.event.borrow_mut() = Some((name.to_owned(), payload.to_vec()));
        Ok(())
    }

    fn log(&self, _level: Level, _message: &str) {}

    fn respond(&self, response: &Response) {
        *self.response.borrow_mut() = Some(response.clone());
    }
}
