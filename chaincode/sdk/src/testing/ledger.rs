//! The committed side of the test ledger: state, history, and the judgement of concurrent transactions.

use std::collections::BTreeMap;

use super::host::{Simulator, TestHost};
use crate::contract::{Contract, run};
use crate::host::{HistoryEntry, Host};
use crate::{Error, Response, Result, Timestamp};

/// Block and position of the transaction that last wrote a key.
pub(super) type Version = (u64, u64);

/// A namespace and a key in it.
pub(super) type Key = (String, String);

/// Who sends a transaction in a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCaller {
    pub(super) msp_id: String,
    pub(super) common_name: String,
    pub(super) units: Vec<String>,
    pub(super) attributes: BTreeMap<String, String>,
}

impl TestCaller {
    /// An identity of an organisation, without attributes.
    pub fn new(msp_id: &str, common_name: &str) -> Self {
        Self {
            msp_id: msp_id.to_owned(),
            common_name: common_name.to_owned(),
            units: vec!["client".to_owned()],
            attributes: BTreeMap::new(),
        }
    }

    /// The same identity with one more attribute in its certificate.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A transaction that was simulated and not yet committed.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// Its id.
    pub tx_id: String,
    /// What the contract answered.
    pub response: Response,
    /// Name and payload of the event, if the contract set one and did not refuse.
    pub event: Option<(String, Vec<u8>)>,
    /// Its timestamp.
    pub timestamp: Timestamp,
    pub(super) effects: Simulator,
}

impl Simulated {
    /// Number of keys that it writes or deletes.
    pub fn write_count(&self) -> usize {
        self.effects.writes.len()
    }

    /// The payload, or the refusal as an error.
    ///
    /// # Errors
    /// What the contract refused with.
    pub fn result(&self) -> Result<&[u8]> {
        if self.response.is_ok() {
            Ok(&self.response.payload)
        } else {
            Err(Error::new(self.response.status, self.response.message.clone()))
        }
    }
}

/// What validation says about a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Committed.
    Valid,
    /// The contract had refused; such a transaction has no endorsement.
    NotEndorsed,
    /// A key that it read was changed by an earlier transaction.
    MvccConflict,
    /// A range that it read has other keys now.
    PhantomConflict,
}

#[derive(Debug, Clone)]
pub(super) struct Committed {
    pub(super) value: Vec<u8>,
    pub(super) version: Version,
}

/// A ledger of one channel, in memory.
#[derive(Debug)]
pub struct MockLedger {
    pub(super) contracts: BTreeMap<String, fn(&dyn Host)>,
    pub(super) state: BTreeMap<Key, Committed>,
    pub(super) private: BTreeMap<(String, String, String), Vec<u8>>,
    pub(super) parameters: BTreeMap<Key, Vec<u8>>,
    pub(super) history: BTreeMap<Key, Vec<HistoryEntry>>,
    clock: Timestamp,
    block: u64,
    transactions: u64,
    transient: BTreeMap<String, Vec<u8>>,
}

impl Default for MockLedger {
    fn default() -> Self {
        Self::new()
    }
}

impl MockLedger {
    /// An empty ledger whose clock stands at 2026-01-01T00:00:00Z and goes on by a second with each transaction.
    pub fn new() -> Self {
        Self {
            contracts: BTreeMap::new(),
            state: BTreeMap::new(),
            private: BTreeMap::new(),
            parameters: BTreeMap::new(),
            history: BTreeMap::new(),
            clock: Timestamp::from_unix(1_767_225_600, 0).unwrap_or_else(|_| unreachable!()),
            block: 0,
            transactions: 0,
            transient: BTreeMap::new(),
        }
    }

    /// Makes a contract callable under a name.
    pub fn install<C: Contract>(&mut self, name: &str) {
        self.contracts.insert(name.to_owned(), run::<C>);
    }

    /// Sets the clock that gives transactions their timestamps.
    pub fn set_clock(&mut self, time: Timestamp) {
        self.clock = time;
    }

    /// Sets a transient field for the next transaction only.
    pub fn set_transient(&mut self, name: &str, value: &[u8]) {
        self.transient.insert(name.to_owned(), value.to_vec());
    }

    /// Runs a function against the committed state without committing: what an endorser does.
    pub fn simulate(
        &mut self,
        caller: &TestCaller,
        chaincode: &str,
        function: &str,
        args: &[&str],
    ) -> Simulated {
        self.transactions += 1;
        let tx_id = pseudo_hash(&format!("transaction {}", self.transactions));
        let timestamp = self.clock;
        self.clock = Timestamp::from_unix(timestamp.seconds() + 1, timestamp.nanos()).unwrap_or(timestamp);
        let transient = std::mem::take(&mut self.transient);
        let mut input = vec![function.as_bytes().to_vec()];
        input.extend(args.iter().map(|arg| arg.as_bytes().to_vec()));
        TestHost::execute(self, caller, &tx_id, timestamp, &transient, chaincode, input)
    }

    /// Commits transactions as one block, in this order, by Fabric's rules: each is judged by what it read.
    pub fn commit(&mut self, block: &[Simulated]) -> Vec<Verdict> {
        self.block += 1;
        let number = self.block;
        let mut verdicts = Vec::with_capacity(block.len());
        for (position, tx) in (0..).zip(block) {
            let verdict = self.judge(tx);
            if verdict == Verdict::Valid {
                self.apply(tx, (number, position));
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    fn judge(&self, tx: &Simulated) -> Verdict {
        if !tx.response.is_ok() {
            return Verdict::NotEndorsed;
        }
        let version = |key: &Key| self.state.get(key).map(|committed| committed.version);
        if tx.effects.reads.iter().any(|(key, read)| version(key) != *read) {
            return Verdict::MvccConflict;
        }
        for range in &tx.effects.ranges {
            let now = self.scan(&range.namespace, &range.start, &range.end);
            let seen = range.seen.iter().map(|(key, version)| (key.as_str(), *version));
            let now: Vec<_> = now
                .take(range.compared())
                .map(|(key, c)| (key, c.version))
                .collect();
            if !seen.eq(now) {
                return Verdict::PhantomConflict;
            }
        }
        Verdict::Valid
    }

    fn apply(&mut self, tx: &Simulated, version: Version) {
        for (key, write) in &tx.effects.writes {
            let entry = HistoryEntry {
                tx_id: tx.tx_id.clone(),
                timestamp: tx.timestamp,
                is_delete: write.is_none(),
                value: write.clone().unwrap_or_default(),
            };
            self.history.entry(key.clone()).or_default().push(entry);
            match write {
                Some(value) => {
                    self.state.insert(
                        key.clone(),
                        Committed {
                            value: value.clone(),
                            version,
                        },
                    );
                }
                None => {
                    self.state.remove(key);
                    self.parameters.remove(key);
                }
            }
        }
        for (key, policy) in &tx.effects.parameters {
            self.parameters.insert(key.clone(), policy.clone());
        }
        for (key, write) in &tx.effects.private {
            match write {
                Some(value) => self.private.insert(key.clone(), value.clone()),
                None => self.private.remove(key),
            };
        }
    }

    pub(super) fn scan<'a>(
        &'a self,
        namespace: &'a str,
        start: &str,
        end: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Committed)> {
        self.state
            .range((namespace.to_owned(), start.to_owned())..)
            .take_while(move |((ns, key), _)| ns == namespace && (end.is_empty() || key.as_str() < end))
            .map(|((_, key), committed)| (key.as_str(), committed))
    }

    /// Runs a function and commits it in a block of its own.
    ///
    /// # Errors
    /// What the contract refused with; nothing is written then.
    pub fn submit(
        &mut self,
        caller: &TestCaller,
        chaincode: &str,
        function: &str,
        args: &[&str],
    ) -> Result<Simulated> {
        let tx = self.simulate(caller, chaincode, function, args);
        tx.result()?;
        self.commit(std::slice::from_ref(&tx));
        Ok(tx)
    }

    /// Runs a function and hands back its result, changing nothing.
    ///
    /// # Errors
    /// What the contract refused with.
    pub fn evaluate(
        &mut self,
        caller: &TestCaller,
        chaincode: &str,
        function: &str,
        args: &[&str],
    ) -> Result<Vec<u8>> {
        self.simulate(caller, chaincode, function, args)
            .result()
            .map(<[u8]>::to_vec)
    }

    /// The committed value of a key.
    pub fn state(&self, chaincode: &str, key: &str) -> Option<&[u8]> {
        self.state
            .get(&(chaincode.to_owned(), key.to_owned()))
            .map(|committed| committed.value.as_slice())
    }

    /// All committed keys of a chaincode, in key order.
    pub fn keys(&self, chaincode: &str) -> Vec<String> {
        self.scan(chaincode, "", "")
            .map(|(key, _)| key.to_owned())
            .collect()
    }
}

/// 64 hex digits that depend on the text: looks like a SHA-256 and is as repeatable, without the dependency.
pub(super) fn pseudo_hash(text: &str) -> String {
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut out = String::with_capacity(64);
    for _ in 0..4 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.push_str(&format!("{:016x}", word ^ (word >> 31)));
    }
    out
}
