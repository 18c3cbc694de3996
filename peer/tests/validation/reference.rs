//! A slow and obvious validator over descriptions of transactions instead of their bytes: spec 03 §3 D-F, §4.1, §5, §6, read
//! word for word, with a plain map for the state. Two organisations; a policy is a set of organisations that must all sign,
//! or any one of them.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_proto::protos::TxValidationCode as Code;

/// An endorsement policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Either,
    Both,
    Only(usize),
}

impl Policy {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Either => "OR('Org1MSP.peer','Org2MSP.peer')".into(),
            Self::Both => "AND('Org1MSP.peer','Org2MSP.peer')".into(),
            Self::Only(org) => format!("OR('Org{}MSP.peer')", org + 1),
        }
    }

    fn met(self, signers: &BTreeSet<usize>) -> bool {
        match self {
            Self::Either => !signers.is_empty(),
            Self::Both => signers.len() == 2,
            Self::Only(org) => signers.contains(&org),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum ValueOp {
    Put(Vec<u8>),
    Delete,
}

/// Start, end, and all results of a query that was read to its end.
pub(crate) type Range = (String, String, Vec<(String, (u64, u64))>);

/// What a transaction does in one namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ns {
    pub(crate) reads: Vec<(String, Option<(u64, u64)>)>,
    pub(crate) ranges: Vec<Range>,
    pub(crate) values: Vec<(String, ValueOp)>,
    /// `None` clears.
    pub(crate) policies: Vec<(String, Option<Policy>)>,
}

impl Ns {
    fn writes(&self) -> bool {
        !self.values.is_empty() || !self.policies.is_empty()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) id: String,
    pub(crate) creator_good: bool,
    pub(crate) signers: BTreeSet<usize>,
    /// The first one is that of the invoked chaincode.
    pub(crate) namespaces: Vec<(String, Ns)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) value: Vec<u8>,
    /// `None`: no metadata at all; `Some(None)`: metadata without a policy does not arise here.
    pub(crate) policy: Option<Policy>,
    pub(crate) version: (u64, u64),
}

impl PartialEq for ValueOp {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Put(a), Self::Put(b)) => a == b,
            (Self::Delete, Self::Delete) => true,
            _ => false,
        }
    }
}

pub(crate) type State = BTreeMap<(String, String), Entry>;

#[derive(Debug, Default)]
pub(crate) struct Reference {
    pub(crate) state: State,
    pub(crate) definitions: BTreeMap<String, Policy>,
    known: BTreeSet<String>,
}

impl Reference {
    pub(crate) fn block(&mut self, number: u64, txs: &[Described]) -> Vec<Code> {
        let mut codes = Vec::new();
        // (namespace, key) whose policy an earlier transaction that passed there writes.
        let mut changed = BTreeSet::new();
        for tx in txs {
            codes.push(self.endorsed(tx, &mut changed));
        }
        let mut seen = BTreeSet::new();
        for (tx, code) in txs.iter().zip(&mut codes) {
            if *code == Code::Valid && !seen.insert(tx.id.clone()) {
                *code = Code::DuplicateTxid;
            }
        }
        let before = self.state.clone();
        let mut touched = BTreeSet::new();
        for (index, (tx, code)) in (0u64..).zip(txs.iter().zip(&mut codes)) {
            if *code != Code::Valid {
                continue;
            }
            if let Err(conflict) = self.current(tx, &before, &touched) {
                *code = conflict;
                continue;
            }
            for (ns, set) in &tx.namespaces {
                let keys: BTreeSet<&String> = set
                    .values
                    .iter()
                    .map(|(k, _)| k)
                    .chain(set.policies.iter().map(|(k, _)| k))
                    .collect();
                for key in keys {
                    self.effect(ns, key, set, (number, index), &mut touched);
                }
            }
        }
        self.known.extend(txs.iter().map(|tx| tx.id.clone()));
        codes
    }

    fn endorsed(&self, tx: &Described, changed: &mut BTreeSet<(String, String)>) -> Code {
        if !tx.creator_good {
            return Code::BadCreatorSignature;
        }
        if self.known.contains(&tx.id) {
            return Code::DuplicateTxid;
        }
        let invoked = &tx.namespaces[0].0;
        let mut verdict = Code::Valid;
        let mut passed = Vec::new();
        let sorted: BTreeMap<&String, &Ns> = tx.namespaces.iter().map(|(name, ns)| (name, ns)).collect();
        for (name, ns) in sorted {
            if !ns.writes() && name != invoked {
                continue;
            }
            let code = match self.definitions.get(name) {
                None => Code::InvalidChaincode,
                Some(policy) if self.satisfied(tx, name, ns, *policy, changed) => Code::Valid,
                Some(_) => Code::EndorsementPolicyFailure,
            };
            if code == Code::Valid {
                passed.extend(ns.policies.iter().map(|(key, _)| (name.clone(), key.clone())));
            }
            if verdict == Code::Valid {
                verdict = code;
            }
        }
        changed.extend(passed);
        verdict
    }

    fn satisfied(
        &self,
        tx: &Described,
        name: &str,
        ns: &Ns,
        chaincode: Policy,
        changed: &BTreeSet<(String, String)>,
    ) -> bool {
        let keys = ns
            .values
            .iter()
            .map(|(k, _)| k)
            .chain(ns.policies.iter().map(|(k, _)| k));
        let mut any = false;
        for key in keys {
            any = true;
            let place = (name.to_owned(), key.clone());
            if changed.contains(&place) {
                return false;
            }
            let policy = self
                .state
                .get(&place)
                .and_then(|entry| entry.policy)
                .unwrap_or(chaincode);
            if !policy.met(&tx.signers) {
                return false;
            }
        }
        any || chaincode.met(&tx.signers)
    }

    /// MVCC: in the order of the namespaces, reads before ranges.
    fn current(
        &self,
        tx: &Described,
        before: &State,
        touched: &BTreeSet<(String, String)>,
    ) -> Result<(), Code> {
        let mut namespaces: Vec<_> = tx.namespaces.iter().collect();
        namespaces.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, ns) in namespaces {
            for (key, version) in &ns.reads {
                let place = (name.clone(), key.clone());
                let committed = before.get(&place).map(|entry| entry.version);
                if touched.contains(&place) || committed != *version {
                    return Err(Code::MvccReadConflict);
                }
            }
            for (start, end, results) in &ns.ranges {
                let now: Vec<(String, (u64, u64))> = self
                    .state
                    .iter()
                    .filter(|((n, k), _)| n == name && k >= start && (end.is_empty() || k < end))
                    .map(|((_, k), entry)| (k.clone(), entry.version))
                    .collect();
                if now != *results {
                    return Err(Code::PhantomReadConflict);
                }
            }
        }
        Ok(())
    }

    /// The rule of the number F.
    fn effect(
        &mut self,
        ns: &str,
        key: &String,
        set: &Ns,
        version: (u64, u64),
        touched: &mut BTreeSet<(String, String)>,
    ) {
        let mut f = 0u8;
        let (mut value, mut policy) = (None, None);
        for (_, op) in set.values.iter().filter(|(k, _)| k == key) {
            match op {
                ValueOp::Put(new) => {
                    f = f.wrapping_add(1);
                    value = Some(new.clone());
                }
                ValueOp::Delete => f = f.wrapping_add(8),
            }
        }
        for (_, op) in set.policies.iter().filter(|(k, _)| k == key) {
            f = f.wrapping_add(if op.is_some() { 2 } else { 4 });
            policy = *op;
        }
        let place = (ns.to_owned(), key.clone());
        let old = self.state.get(&place).cloned();
        if f & 8 != 0 {
            self.state.remove(&place);
        } else if f & 1 != 0 && f & 6 != 0 {
            self.state.insert(
                place.clone(),
                Entry {
                    value: value.unwrap_or_default(),
                    policy,
                    version,
                },
            );
        } else if f == 1 || f == 0 {
            let policy = old.and_then(|entry| entry.policy);
            self.state.insert(
                place.clone(),
                Entry {
                    value: value.unwrap_or_default(),
                    policy,
                    version,
                },
            );
        } else if let Some(old) = old {
            self.state.insert(
                place.clone(),
                Entry {
                    value: old.value,
                    policy,
                    version,
                },
            );
        } else {
            return;
        }
        touched.insert(place);
    }
}
