//! A slow and obvious validator: transactions are read from their bytes by a reader of its own ([`crate::wire`]), and spec 03
//! §3 A-F, §4.1, §4.2, §5 and §6 are done word for word, with a plain map for the state. Two organisations; a policy is a set
//! of organisations that must all sign, or any one of them.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_msp::Certificate;
use selvedge_proto::protos::TxValidationCode as Code;
use selvedge_proto::{Message, kvrwset, msp};
use sha2::{Digest, Sha256};

use crate::network::{CHANNEL, Network};
use crate::opened::{Metadata, Ns, Opened, Query, Scope, Version, open};

/// An endorsement policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Either,
    Both,
    Only(usize),
}

impl Policy {
    pub(crate) const ALL: [Self; 4] = [Self::Either, Self::Both, Self::Only(0), Self::Only(1)];

    pub(crate) fn text(self) -> String {
        match self {
            Self::Either => "OR('Org1MSP.peer','Org2MSP.peer')".into(),
            Self::Both => "AND('Org1MSP.peer','Org2MSP.peer')".into(),
            Self::Only(org) => format!("OR('Org{}MSP.peer')", org + 1),
        }
    }

    /// As a key's endorsement policy stands in the state.
    pub(crate) fn bytes(self) -> Vec<u8> {
        selvedge_msp::policy::dsl::parse(&self.text())
            .unwrap()
            .encode_to_vec()
    }

    fn met(self, signers: &BTreeSet<usize>) -> bool {
        match self {
            Self::Either => !signers.is_empty(),
            Self::Both => signers.len() == 2,
            Self::Only(org) => signers.contains(&org),
        }
    }
}

/// What a chaincode was defined with.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) policy: Policy,
    /// Its collections, with their own policies where they have one.
    pub(crate) collections: BTreeMap<String, Option<Policy>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) value: Vec<u8>,
    pub(crate) metadata: Metadata,
    pub(crate) version: Version,
}

impl Entry {
    /// The metadata as the state keeps it.
    pub(crate) fn metadata_bytes(&self) -> Vec<u8> {
        let entries = self
            .metadata
            .iter()
            .map(|(name, value)| kvrwset::KvMetadataEntry {
                name: name.clone(),
                value: value.clone().into(),
            });
        kvrwset::KvMetadataWrite {
            key: String::new(),
            entries: entries.collect(),
        }
        .encode_to_vec()
    }
}

/// Scope (see [`Scope::place`]) and key.
pub(crate) type Place = (String, Vec<u8>);
pub(crate) type State = BTreeMap<Place, Entry>;

/// What becomes of a block.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Codes(Vec<Code>),
    /// The transaction at this place is a configuration that does not apply: the channel stands still.
    Halt(usize),
    /// A policy that a mutation made decides, which this reference does not understand.
    Unknown,
}

/// Why there is no verdict on a transaction.
enum Stop {
    Code(Code),
    Unknown,
}

pub(crate) struct Reference<'a> {
    network: &'a Network,
    pub(crate) state: State,
    pub(crate) definitions: BTreeMap<String, Definition>,
    known: BTreeSet<String>,
    policies: Vec<(Vec<u8>, Policy)>,
}

impl<'a> Reference<'a> {
    pub(crate) fn new(network: &'a Network) -> Self {
        Self {
            network,
            state: State::new(),
            definitions: BTreeMap::new(),
            known: BTreeSet::new(),
            policies: Policy::ALL.map(|policy| (policy.bytes(), policy)).into(),
        }
    }

    /// Judges a block and applies it. `said` are the codes that the pipeline gave; only one question is decided by them:
    /// whether a creator whose certificate was mutated is one that decodes all the same.
    pub(crate) fn block(&mut self, number: u64, envelopes: &[impl AsRef<[u8]>], said: &[Code]) -> Verdict {
        let txs: Vec<Opened> = envelopes.iter().map(|bytes| open(bytes.as_ref())).collect();
        let mut codes = Vec::new();
        // Places whose metadata an earlier transaction that passed there writes.
        let mut changed = BTreeSet::new();
        for (index, tx) in txs.iter().enumerate() {
            let said = said.get(index).copied();
            codes.push(match self.endorsed(tx, said, &mut changed) {
                Ok(()) if tx.is_config => return Verdict::Halt(index),
                Ok(()) => Code::Valid,
                Err(Stop::Code(code)) => code,
                Err(Stop::Unknown) => return Verdict::Unknown,
            });
        }
        let mut seen = BTreeSet::new();
        for (tx, code) in txs.iter().zip(&mut codes) {
            if *code == Code::Valid && !seen.insert(tx.indexed_id.clone()) {
                *code = Code::DuplicateTxid;
            }
        }
        let before = self.state.clone();
        let mut touched = BTreeSet::new();
        for (index, (tx, code)) in (0u64..).zip(txs.iter().zip(&mut codes)) {
            if *code != Code::Valid {
                continue;
            }
            match self.current(tx, &before, &touched) {
                Ok(()) => self.apply(tx, (number, index), &mut touched),
                Err(Stop::Code(conflict)) => *code = conflict,
                Err(Stop::Unknown) => return Verdict::Unknown,
            }
        }
        self.known.extend(txs.into_iter().filter_map(|tx| tx.indexed_id));
        Verdict::Codes(codes)
    }

    /// §3 A-D.
    fn endorsed(&self, tx: &Opened, said: Option<Code>, changed: &mut BTreeSet<Place>) -> Result<(), Stop> {
        let signed = tx.signed.as_ref().map_err(|code| Stop::Code(*code))?;
        if !self.creator_is_good(tx, said) {
            return Err(Stop::Code(Code::BadCreatorSignature));
        }
        if tx.is_config {
            return Ok(());
        }
        let endorsed = signed.as_ref().map_err(|code| Stop::Code(*code))?;
        if tx.indexed_id.as_ref().is_some_and(|id| self.known.contains(id)) {
            return Err(Stop::Code(Code::DuplicateTxid));
        }
        let content = endorsed.content.as_ref().map_err(|code| Stop::Code(*code))?;
        let signers = self.signers(&endorsed.response_payload, &endorsed.endorsements);

        let mut to_check: BTreeMap<&str, Option<&Ns>> = BTreeMap::new();
        to_check.insert(&content.chaincode, None);
        for ns in &content.namespaces {
            if ns.writes() || ns.name == content.chaincode {
                to_check.insert(&ns.name, Some(ns));
            }
        }
        let mut verdict = Ok(());
        let mut passed = Vec::new();
        for (name, ns) in to_check {
            let outcome = match self.definitions.get(name) {
                None => Err(Code::InvalidChaincode),
                Some(definition) if self.satisfied(&signers, ns, definition, changed)? => Ok(()),
                Some(_) => Err(Code::EndorsementPolicyFailure),
            };
            if outcome.is_ok() {
                let scopes = ns.into_iter().flat_map(|ns| &ns.scopes);
                passed.extend(scopes.flat_map(|scope| {
                    let keys = scope.metadata.iter().map(|(key, _)| key.clone());
                    keys.map(|key| (scope.place.clone(), key))
                }));
            }
            verdict = verdict.and(outcome);
        }
        changed.extend(passed);
        verdict.map_err(Stop::Code)
    }

    /// B.4: the creators here are the clients of the organisations.
    fn creator_is_good(&self, tx: &Opened, said: Option<Code>) -> bool {
        if tx.channel_id != CHANNEL {
            return false;
        }
        let verifies = |creator: &[u8]| {
            let identity = msp::SerializedIdentity::decode(creator).unwrap();
            let certificate = Certificate::from_pem(&identity.id_bytes).unwrap();
            let key = certificate.public_key().unwrap();
            key.verify(&tx.payload, &tx.signature).is_ok()
        };
        let known = self
            .network
            .orgs
            .iter()
            .any(|org| org.client.creator() == &tx.creator);
        if known {
            return verifies(&tx.creator);
        }
        said != Some(Code::BadCreatorSignature)
    }

    /// The organisations whose peers endorsed.
    fn signers(&self, payload: &[u8], endorsements: &[(Vec<u8>, Vec<u8>)]) -> BTreeSet<usize> {
        let mut signers = BTreeSet::new();
        for (endorser, signature) in endorsements {
            for (index, org) in self.network.orgs.iter().enumerate() {
                let key = org.peer.certificate().public_key().unwrap();
                if org.peer.creator() == endorser
                    && key.verify(&[payload, endorser].concat(), signature).is_ok()
                {
                    signers.insert(index);
                }
            }
        }
        signers
    }

    /// §4.1.
    fn satisfied(
        &self,
        signers: &BTreeSet<usize>,
        ns: Option<&Ns>,
        definition: &Definition,
        changed: &BTreeSet<Place>,
    ) -> Result<bool, Stop> {
        let mut any = false;
        for scope in ns.into_iter().flat_map(|ns| &ns.scopes) {
            for key in scope.written() {
                any = true;
                let place = (scope.place.clone(), key.clone());
                if changed.contains(&place) {
                    return Ok(false);
                }
                let policy = match self.key_policy(&place)? {
                    Some(policy) => policy,
                    None => match &scope.collection {
                        None => definition.policy,
                        Some(name) => match self.collection_policy(name, definition) {
                            Some(policy) => policy,
                            None => return Ok(false),
                        },
                    },
                };
                if !policy.met(signers) {
                    return Ok(false);
                }
            }
        }
        Ok(any || definition.policy.met(signers))
    }

    fn key_policy(&self, place: &Place) -> Result<Option<Policy>, Stop> {
        let metadata = self.state.get(place).map(|entry| entry.metadata.as_slice());
        let mut entries = metadata.unwrap_or_default().iter();
        let found = entries.rfind(|(name, _)| name == "VALIDATION_PARAMETER");
        match found {
            Some((_, bytes)) if !bytes.is_empty() => {
                let known = self.policies.iter().find(|(known, _)| known == bytes);
                known.map(|(_, policy)| Some(*policy)).ok_or(Stop::Unknown)
            }
            _ => Ok(None),
        }
    }

    /// §4.2. `None`: never satisfied.
    fn collection_policy(&self, name: &str, definition: &Definition) -> Option<Policy> {
        if let Some(msp_id) = name.strip_prefix("_implicit_org_") {
            let org = self.network.orgs.iter().position(|org| org.msp_id == msp_id);
            return org.map(Policy::Only);
        }
        let own = definition.collections.get(name)?;
        Some(own.unwrap_or(definition.policy))
    }

    /// §5: is what was read still so?
    fn current(&self, tx: &Opened, before: &State, touched: &BTreeSet<Place>) -> Result<(), Stop> {
        for scope in tx.namespaces().flat_map(|ns| &ns.scopes) {
            for (key, version) in &scope.reads {
                let place = (scope.place.clone(), key.clone());
                let committed = before.get(&place).map(|entry| entry.version);
                if touched.contains(&place) || committed != *version {
                    return Err(Stop::Code(Code::MvccReadConflict));
                }
            }
            for query in &scope.queries {
                if !self.same_results(scope, query)? {
                    return Err(Stop::Code(Code::PhantomReadConflict));
                }
            }
        }
        Ok(())
    }

    /// §6.
    fn same_results(&self, scope: &Scope, query: &Query) -> Result<bool, Stop> {
        let here = |key: &Vec<u8>| self.state.get(&(scope.place.clone(), key.clone()));
        let mut now: Vec<(Vec<u8>, Option<Version>)> = self
            .state
            .iter()
            .filter(|((place, key), _)| {
                *place == scope.place && *key >= query.start && (query.end.is_empty() || *key < query.end)
            })
            .map(|((_, key), entry)| (key.clone(), Some(entry.version)))
            .collect();
        if !query.exhausted
            && let Some(entry) = here(&query.end)
        {
            now.push((query.end.clone(), Some(entry.version)));
        }
        match &query.summary {
            None => Ok(now == query.results),
            // Too few results for a leaf; or, with a degree that no endorser uses, another tree.
            Some(degree) if now.len() <= *degree as usize => Ok(false),
            Some(degree) if *degree < 2 => Ok(false),
            Some(_) => Err(Stop::Unknown),
        }
    }

    /// §5, "Effect of one tx on a key".
    fn apply(&mut self, tx: &Opened, version: Version, touched: &mut BTreeSet<Place>) {
        let mut places = BTreeSet::new();
        for scope in tx.namespaces().flat_map(|ns| &ns.scopes) {
            places.extend(scope.written().map(|key| (scope.place.clone(), key.clone())));
        }
        for place in places {
            let mut f = 0u8;
            let (mut value, mut metadata) = (Vec::new(), Vec::new());
            for scope in tx
                .namespaces()
                .flat_map(|ns| &ns.scopes)
                .filter(|s| s.place == place.0)
            {
                for (_, written) in scope.values.iter().filter(|(key, _)| *key == place.1) {
                    match written {
                        Some(new) => {
                            f = f.wrapping_add(1);
                            value.clone_from(new);
                        }
                        None => f = f.wrapping_add(8),
                    }
                }
                for (_, set) in scope.metadata.iter().filter(|(key, _)| *key == place.1) {
                    f = f.wrapping_add(if set.is_empty() { 4 } else { 2 });
                    metadata.clone_from(set);
                }
            }
            let old = self.state.get(&place).cloned();
            if f & 8 != 0 {
                self.state.remove(&place);
                touched.insert(place);
                continue;
            }
            let entry = if f & 1 != 0 && f & 6 != 0 {
                Entry {
                    value,
                    metadata,
                    version,
                }
            } else if f == 1 || f == 0 {
                let metadata = old.map(|entry| entry.metadata).unwrap_or_default();
                Entry {
                    value,
                    metadata,
                    version,
                }
            } else if let Some(old) = old {
                Entry {
                    value: old.value,
                    metadata,
                    version,
                }
            } else {
                continue;
            };
            self.state.insert(place.clone(), entry);
            touched.insert(place);
        }
    }
}

pub(crate) fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}
