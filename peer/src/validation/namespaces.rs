//! Is it enough: the endorsement policies of the namespaces that a transaction writes (spec 03 §3 D.2.e-f, §4).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use selvedge_ledger::rwset::NamespaceRwset;
use selvedge_ledger::{KeyRef, LedgerError, StateReader};
use selvedge_proto::protos::TxValidationCode as Code;

use super::ProcessError;
use super::open::{Content, Fault, bounded, fault};
use super::policies::{self, Compiled, Policies};
use super::signatures::Endorsers;
use crate::definition::{
    ChaincodeDefinition, DEFAULT_VALIDATION_PLUGIN, DefinitionError, LIFECYCLE, read_definition,
};

/// Name of the metadata entry that holds a key's endorsement policy.
const VALIDATION_PARAMETER: &str = "VALIDATION_PARAMETER";
/// Implicit collections are named so, followed by the MSP id.
pub(crate) const IMPLICIT_COLLECTION: &str = "_implicit_org_";

/// The namespaces whose policy a transaction must meet: the invoked one, and those it writes. Sorted.
pub(crate) fn to_check(content: &Content) -> BTreeSet<&str> {
    let written = content
        .rwset
        .namespaces
        .iter()
        .filter(|ns| ns.has_writes())
        .map(|ns| ns.namespace.as_str());
    written.chain([content.chaincode.as_str()]).collect()
}

/// The keys that a namespace entry writes, value or metadata, each with its scope, in the order of spec 03 §4.1.
fn written_keys(ns: &NamespaceRwset) -> impl Iterator<Item = (Option<&str>, KeyRef<'_>)> {
    let name = ns.namespace.as_str();
    let public = ns
        .public
        .writes
        .iter()
        .map(|w| w.key.as_str())
        .chain(ns.public.metadata_writes.iter().map(|w| w.key.as_str()))
        .map(move |key| (None, KeyRef::Public { ns: name, key }));
    let hashed = ns.collections.iter().flat_map(move |entry| {
        let collection = entry.collection.as_str();
        let values = entry.hashed.hashed_writes.iter().map(|w| w.key_hash.as_ref());
        let metadata = entry.hashed.metadata_writes.iter().map(|w| w.key_hash.as_ref());
        values.chain(metadata).map(move |key_hash| {
            (
                Some(collection),
                KeyRef::Hashed {
                    ns: name,
                    collection,
                    key_hash,
                },
            )
        })
    });
    public.chain(hashed)
}

/// The keys whose metadata an entry writes: what later transactions of the block depend on.
fn metadata_keys(ns: &NamespaceRwset) -> impl Iterator<Item = KeyRef<'_>> {
    let name = ns.namespace.as_str();
    let public = ns.public.metadata_writes.iter().map(move |w| KeyRef::Public {
        ns: name,
        key: w.key.as_str(),
    });
    let hashed = ns.collections.iter().flat_map(move |entry| {
        let collection = entry.collection.as_str();
        let keys = entry.hashed.metadata_writes.iter();
        keys.map(move |w| KeyRef::Hashed {
            ns: name,
            collection,
            key_hash: &w.key_hash,
        })
    });
    public.chain(hashed)
}

/// The key-level policies that committed keys have.
pub(crate) struct KeyPolicies<'a>(HashMap<KeyRef<'a>, Bytes>);

impl<'a> KeyPolicies<'a> {
    /// Reads them for all keys that the given transactions write, at one go.
    pub(crate) fn read(
        contents: impl Iterator<Item = &'a Content>,
        state: &dyn StateReader,
    ) -> Result<Self, LedgerError> {
        let keys: BTreeSet<KeyRef<'a>> = contents
            .flat_map(|content| &content.rwset.namespaces)
            .flat_map(|ns| written_keys(ns).map(|(_, key)| key))
            .collect();
        let keys: Vec<KeyRef<'a>> = keys.into_iter().collect();
        let entries = state.get_many(&keys)?;
        let policies = keys.into_iter().zip(entries).filter_map(|(key, entry)| {
            let policy = entry?.metadata_entry(VALIDATION_PARAMETER)?;
            (!policy.is_empty()).then_some((key, policy))
        });
        Ok(Self(policies.collect()))
    }
}

/// Definitions that transactions can be judged by, as they stand in one state; they hold until a block writes to the lifecycle's
/// namespace.
#[derive(Debug, Default)]
pub(crate) struct KnownDefinitions(HashMap<String, Arc<ChaincodeDefinition>>);

/// The namespace judge of one block; transactions must be given in order.
pub(crate) struct NamespaceJudge<'a> {
    number: u64,
    policies: &'a Policies,
    state: &'a dyn StateReader,
    key_policies: KeyPolicies<'a>,
    known: &'a mut KnownDefinitions,
    /// Names that cannot be judged, and why.
    unusable: HashMap<String, Fault>,
    /// Keys whose metadata an earlier transaction of this block writes, and which one.
    changed: HashMap<KeyRef<'a>, usize>,
}

impl<'a> NamespaceJudge<'a> {
    pub(crate) fn new(
        number: u64,
        policies: &'a Policies,
        state: &'a dyn StateReader,
        key_policies: KeyPolicies<'a>,
        known: &'a mut KnownDefinitions,
    ) -> Self {
        Self {
            number,
            policies,
            state,
            key_policies,
            known,
            unusable: HashMap::new(),
            changed: HashMap::new(),
        }
    }

    /// D.2.f. All namespaces are judged, also after one has failed: whether one passes decides on its own what later
    /// transactions depend on (spec 03 §4.1).
    pub(crate) fn judge(
        &mut self,
        index: usize,
        content: &'a Content,
        endorsers: &Endorsers,
    ) -> Result<Result<(), Fault>, ProcessError> {
        let mut first = Ok(());
        for name in to_check(content) {
            let entry = content.rwset.namespaces.iter().find(|ns| ns.namespace == name);
            let outcome = self.namespace(name, entry, endorsers)?;
            if let (Ok(()), Some(entry)) = (&outcome, entry) {
                self.changed.extend(metadata_keys(entry).map(|key| (key, index)));
            }
            if first.is_ok() {
                first = outcome;
            }
        }
        Ok(first)
    }

    fn namespace(
        &mut self,
        name: &str,
        entry: Option<&'a NamespaceRwset>,
        endorsers: &Endorsers,
    ) -> Result<Result<(), Fault>, ProcessError> {
        let definition = if name == LIFECYCLE {
            None
        } else {
            match self.definition(name)? {
                Ok(definition) => Some(definition),
                Err(fault) => return Ok(Err(fault)),
            }
        };
        let chaincode_policy = match &definition {
            None => self.policies.lifecycle(),
            Some(definition) => self.policies.application(&definition.validation_parameter),
        };
        let walk = KeyWalk {
            judge: self,
            name,
            definition: definition.as_deref(),
            chaincode_policy: &chaincode_policy,
            endorsers,
        };
        Ok(walk
            .run(entry)
            .map_err(|why| fault(Code::EndorsementPolicyFailure, why)))
    }

    /// The definition of a chaincode as of the last committed block; code 25 where there is none that can be used.
    fn definition(&mut self, name: &str) -> Result<Result<Arc<ChaincodeDefinition>, Fault>, ProcessError> {
        if let Some(known) = self.known.0.get(name) {
            return Ok(Ok(Arc::clone(known)));
        }
        if let Some(fault) = self.unusable.get(name) {
            return Ok(Err(fault.clone()));
        }
        let invalid = |why: String| fault(Code::InvalidChaincode, why);
        let unusable = match read_definition(self.state, name) {
            Ok(None) => invalid(format!(
                "no chaincode {:?} is defined on this channel",
                bounded(name)
            )),
            Ok(Some(d)) if d.validation_plugin.is_empty() || d.validation_parameter.is_empty() => invalid(
                format!("the definition of chaincode {name:?} has no validation plugin or no policy"),
            ),
            // Another plugin's verdict cannot be guessed: peers that have it would disagree with this one.
            Ok(Some(d)) if d.validation_plugin != DEFAULT_VALIDATION_PLUGIN => {
                return Err(ProcessError::UnknownPlugin {
                    chaincode: d.name,
                    plugin: d.validation_plugin,
                });
            }
            Ok(Some(definition)) => {
                let definition = Arc::new(definition);
                self.known.0.insert(name.to_owned(), Arc::clone(&definition));
                return Ok(Ok(definition));
            }
            // A Fabric peer stops here; a verdict lets a new definition mend it.
            Err(error @ DefinitionError::Damaged { .. }) => invalid(error.to_string()),
            Err(DefinitionError::Ledger { source, .. }) => return Err(source.into()),
        };
        self.unusable.insert(name.to_owned(), unusable.clone());
        Ok(Err(unusable))
    }
}

/// The walk of spec 03 §4.1 over one namespace of one transaction.
struct KeyWalk<'w, 'a> {
    judge: &'w NamespaceJudge<'a>,
    name: &'w str,
    definition: Option<&'w ChaincodeDefinition>,
    chaincode_policy: &'w Compiled,
    endorsers: &'w Endorsers,
}

impl KeyWalk<'_, '_> {
    fn run(&self, entry: Option<&NamespaceRwset>) -> Result<(), String> {
        let mut anything = false;
        let mut chaincode_done = false;
        let mut collections_done: BTreeSet<&str> = BTreeSet::new();
        for (collection, key) in entry.into_iter().flat_map(written_keys) {
            if let Some(earlier) = self.judge.changed.get(&key) {
                return Err(format!(
                    "validation parameters for {} have been changed in transaction {earlier} of block {}",
                    show(&key),
                    self.judge.number
                ));
            }
            anything = true;
            if let Some(policy) = self.judge.key_policies.0.get(&key) {
                let policy = self.judge.policies.key_level(policy);
                self.ask(&policy)
                    .map_err(|why| format!("the endorsement policy of {}: {why}", show(&key)))?;
                continue;
            }
            if let Some(collection) = collection {
                if collections_done.contains(collection) {
                    continue;
                }
                if let Some(policy) = self.collection_policy(collection)? {
                    self.ask(&policy).map_err(|why| {
                        format!(
                            "the endorsement policy of collection {:?} of chaincode {:?}: {why}",
                            bounded(collection),
                            self.name
                        )
                    })?;
                    collections_done.insert(collection);
                    continue;
                }
                collections_done.insert(collection);
            }
            if !chaincode_done {
                self.ask_chaincode()?;
                chaincode_done = true;
            }
        }
        if anything { Ok(()) } else { self.ask_chaincode() }
    }

    fn ask(&self, policy: &Compiled) -> Result<(), String> {
        self.judge.policies.evaluate(policy, self.endorsers)
    }

    fn ask_chaincode(&self) -> Result<(), String> {
        self.ask(self.chaincode_policy)
            .map_err(|why| format!("the endorsement policy of chaincode {:?}: {why}", self.name))
    }

    /// A collection's own policy; `None`: that of the chaincode.
    fn collection_policy(&self, collection: &str) -> Result<Option<Compiled>, String> {
        if let Some(msp_id) = collection.strip_prefix(IMPLICIT_COLLECTION) {
            return Ok(Some(self.judge.policies.implicit_collection(msp_id)));
        }
        let config = self
            .definition
            .and_then(|d| d.collection(collection))
            .ok_or_else(|| {
                format!(
                    "chaincode {:?} has no collection {:?}",
                    self.name,
                    bounded(collection)
                )
            })?;
        Ok(config.endorsement_policy.as_ref().map(policies::application))
    }
}

fn show(key: &KeyRef<'_>) -> String {
    match key {
        KeyRef::Public { ns, key } => format!("key {:?} of {ns:?}", bounded(key)),
        KeyRef::Hashed {
            ns,
            collection,
            key_hash,
        } => {
            let hash = hex::encode(key_hash.get(..32).unwrap_or(key_hash));
            format!(
                "key hash {hash} of collection {:?} of {ns:?}",
                bounded(collection)
            )
        }
        KeyRef::Private { ns, collection, key } => {
            format!(
                "private key {:?} of collection {:?} of {ns:?}",
                bounded(key),
                bounded(collection)
            )
        }
    }
}
