//! What the benchmarks work on: chains of signed transactions, and a deployed contract.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_ledger::{
    HistoryEntry, KeyRef, LedgerError, RangeIter, StateReader, StateSnapshot, Version, VersionedValue,
};
use selvedge_msp::{MspManager, SigningIdentity};
use selvedge_peer::PeerChannel;
use selvedge_peer::chaincode::{
    ChaincodeRuntime, Invocation, PackageStore, Resolved, RuntimeConfig, SimulationState, Simulator,
    TxContext, package,
};
use selvedge_peer::context::{JoinError, PeerContext};
use selvedge_peer::definition::ChaincodeDefinition;
use selvedge_proto::{Bytes, common};

use crate::network::Chain;
use crate::transaction::{Tx, Writes};

pub(crate) const BLOCK: usize = 500;

/// A transaction that writes a new key, endorsed by so many organisations.
pub(crate) fn put(chain: &Chain, endorsers: usize, number: usize) -> Tx<'_> {
    let orgs: Vec<usize> = (0..endorsers).collect();
    let writes = Writes::new()
        .read("_lifecycle", "namespaces/fields/cc/Sequence", Some((1, 0)))
        .put("cc", &format!("k{number}"), &[b'v'; 100]);
    chain.tx(writes).endorsed_by(chain.network.peers(&orgs))
}

/// Envelopes that write one new key each.
pub(crate) fn envelopes(chain: &Chain, endorsers: usize, first: usize, count: usize) -> Vec<Bytes> {
    (first..first + count)
        .map(|number| put(chain, endorsers, number).envelope())
        .collect()
}

pub(crate) fn policy(endorsers: usize) -> String {
    let principals: Vec<String> = (1..=endorsers).map(|n| format!("'Org{n}MSP.peer'")).collect();
    format!("AND({})", principals.join(","))
}

/// The module of `chaincode/bench`, if it is built.
pub(crate) fn module() -> Option<Vec<u8>> {
    let folder = std::env::var_os("SELVEDGE_CONTRACTS").map_or_else(
        || {
            let exe = std::env::current_exe().unwrap();
            // <target>/release/deps/<benchmark>-<hash>
            exe.ancestors()
                .nth(3)
                .unwrap()
                .join("wasm32-unknown-unknown/contract")
        },
        PathBuf::from,
    );
    let found = std::fs::read(folder.join("selvedge_chaincode_bench.wasm")).ok();
    if found.is_none() {
        eprintln!("the contract is not built (scripts/contracts.sh): its calls are not measured");
    }
    found
}

struct Context {
    identity: SigningIdentity,
    local: Arc<MspManager>,
    channel: Arc<PeerChannel>,
}

impl PeerContext for Context {
    fn identity(&self) -> SigningIdentity {
        self.identity.clone()
    }
    fn local_msp(&self) -> Arc<MspManager> {
        Arc::clone(&self.local)
    }
    fn channel(&self, _: &str) -> Option<Arc<PeerChannel>> {
        Some(Arc::clone(&self.channel))
    }
    fn channels(&self) -> Vec<String> {
        vec![self.channel.id().to_owned()]
    }
    fn join_channel(&self, _: common::Block) -> Result<(), JoinError> {
        Ok(())
    }
}

struct State(Arc<StateSnapshot>);

impl StateReader for State {
    fn get_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<VersionedValue>>, LedgerError> {
        self.0.get_many(keys)
    }
    fn range(&self, ns: &str, start: &str, end: &str) -> RangeIter<'_> {
        self.0.range(ns, start, end)
    }
}

impl SimulationState for State {
    fn height(&self) -> u64 {
        self.0.height()
    }
    fn history(
        &self,
        _: &str,
        _: &str,
        _: Option<Version>,
        _: usize,
    ) -> Result<Vec<HistoryEntry>, LedgerError> {
        Ok(Vec::new())
    }
}

/// The contract of `chaincode/bench` on a channel.
pub(crate) struct Deployed {
    chain: Chain,
    dir: tempfile::TempDir,
    invocation: Invocation,
    resolved: Resolved,
}

impl Deployed {
    pub(crate) fn new() -> Option<Self> {
        let wasm = module()?;
        let chain = Chain::new(1);
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime(&dir);
        let package = runtime
            .install(&package::write_package("bench_1", &wasm).unwrap())
            .unwrap();
        let bundle = chain.channel.bundle();
        let client = &chain.network.orgs[0].client;
        let definition = ChaincodeDefinition {
            name: "cc".into(),
            sequence: 1,
            version: "1".into(),
            init_required: false,
            endorsement_plugin: "escc".into(),
            validation_plugin: "vscc".into(),
            validation_parameter: Bytes::new(),
            collections: Default::default(),
            collections_bytes: Bytes::new(),
        };
        let invocation = Invocation {
            context: Arc::new(Context {
                identity: chain.network.orgs[0].peer.clone(),
                local: Arc::new(MspManager::new(Vec::new())),
                channel: Arc::clone(&chain.channel),
            }),
            runtime,
            tx: Arc::new(TxContext {
                channel_id: chain.channel.id().to_owned(),
                tx_id: "id".into(),
                timestamp: (0, 0),
                creator: client.creator().clone(),
                identity: bundle.msps().deserialize(client.creator()).unwrap(),
                transient: Default::default(),
                proposal_bytes: Bytes::new(),
                signature: Bytes::new(),
            }),
            channel: Arc::clone(&chain.channel),
            bundle,
        };
        Some(Self {
            resolved: Resolved {
                definition: Arc::new(definition),
                package,
            },
            chain,
            dir,
            invocation,
        })
    }

    /// A put, from the snapshot to the contract's response.
    pub(crate) fn call(&self) {
        self.call_in(&self.invocation);
    }

    fn call_in(&self, invocation: &Invocation) {
        let args = vec![
            Bytes::from_static(b"put"),
            Bytes::from_static(b"key"),
            Bytes::from(vec![b'v'; 100]),
        ];
        let state = State(self.chain.channel.ledger().snapshot().unwrap());
        let simulator = Arc::new(Mutex::new(Simulator::new(Box::new(state))));
        let executed = invocation
            .execute(&self.resolved, args, false, &simulator)
            .unwrap();
        assert_eq!(executed.response.status, 200);
    }

    /// The same in a peer that has just been started: what it calls is to load, or to compile.
    pub(crate) fn after_restart(&self) -> Restarted<'_> {
        Restarted {
            deployed: self,
            invocation: Invocation {
                runtime: runtime(&self.dir),
                ..self.invocation.clone()
            },
        }
    }

    /// Removes the compiled modules that the peer keeps on disk.
    pub(crate) fn forget_compiled(&self) {
        for file in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "cwasm") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}

pub(crate) struct Restarted<'a> {
    deployed: &'a Deployed,
    invocation: Invocation,
}

impl Restarted<'_> {
    pub(crate) fn call(&self) {
        self.deployed.call_in(&self.invocation);
    }
}

fn runtime(dir: &tempfile::TempDir) -> Arc<ChaincodeRuntime> {
    let store = PackageStore::open(dir.path()).unwrap();
    Arc::new(ChaincodeRuntime::new(&RuntimeConfig::default(), store).unwrap())
}
