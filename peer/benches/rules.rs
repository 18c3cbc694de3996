//! The rules for speed, one by one, without and with: `cargo bench -p selvedge-peer --bench rules`.
//!
//! Each group is a rule of DESIGN. `without` does the same work the plain way, with the parts that the node itself is made of,
//! as far as they can be had without the rule; `with` is what the node does. What only a whole network can show (batches that
//! wait for company, calls that share a stream) is in `perf/matrix/` instead.

#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark; the helpers are those of the tests, not all of which it needs"
)]

#[path = "../tests/validation/network.rs"]
mod network;
#[path = "../tests/validation/transaction.rs"]
mod transaction;
#[path = "world/mod.rs"]
mod world;

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;

use criterion::{BatchSize, Bencher, Criterion, criterion_group, criterion_main};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use selvedge_channel::{Bundle, NodeRole, authenticate};
use selvedge_ledger::{BlockStore, KeyRef, StateReader};
use selvedge_msp::SignedData;
use selvedge_msp::policy::Signers;
use selvedge_peer::pipeline::CommitPipeline;
use selvedge_peer::{CommittedBlock, PeerChannel, ValidatorPool};
use selvedge_proto::{Bytes, Message, block_hash, common, new_block, protos};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, Linker, Module, PoolingAllocationConfig, Store};

use network::{Chain, Network};
use world::{BLOCK, Deployed, envelopes, policy, put};

/// Slices of the block, not copies: a block of 500 as it comes from the wire or a file.
fn slices(c: &mut Criterion) {
    let chain = Chain::with_chaincode(3, &policy(1));
    let block = chain.next_block(envelopes(&chain, 1, 0, BLOCK));
    let bytes = Bytes::from(block.encode_to_vec());
    let mut group = c.benchmark_group("decode a block of 500 into slices");
    group.bench_function("without", |b| {
        b.iter(|| common::Block::decode(black_box(bytes.as_ref())).unwrap())
    });
    group.bench_function("with", |b| {
        b.iter(|| common::Block::decode(black_box(bytes.clone())).unwrap())
    });
    group.finish();
}

/// Each transaction is taken apart once: who listens to commits gets what validation has found.
fn once(c: &mut Criterion) {
    let chain = Chain::with_chaincode(3, &policy(1));
    let committed = chain.commit(envelopes(&chain, 1, 0, BLOCK));
    let mut group = c.benchmark_group("hand a committed block of 500 to a listener");
    group.bench_function("without", |b| {
        b.iter_batched(
            || committed.block.clone(),
            |block| Arc::new(CommittedBlock::from_block(block)),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("with", |b| b.iter(|| Arc::clone(black_box(&committed))));
    group.finish();
}

/// A certificate is parsed, and its chain checked, once for each configuration.
fn identities(c: &mut Criterion) {
    let network = Network::usual(3);
    let creator = network.orgs[0].client.creator();
    let bundle = || Bundle::from_config_block_as(NodeRole::Peer, &network.genesis).unwrap();
    let find = |bundle: &Bundle| {
        let identity = bundle.msps().deserialize(black_box(creator)).unwrap();
        bundle.msps().validate(&identity).unwrap();
        identity
    };
    let mut group = c.benchmark_group("find and validate an identity");
    group.bench_function("without", |b| {
        b.iter_batched_ref(bundle, |fresh| find(fresh), BatchSize::SmallInput)
    });
    let known = bundle();
    group.bench_function("with", |b| b.iter(|| find(&known)));
    group.finish();
}

/// A signature is checked once: the policy is asked about a signer whose signature has been verified.
fn verified(c: &mut Criterion) {
    let chain = Chain::new(3);
    let bundle = chain.channel.bundle();
    let client = &chain.network.orgs[0].client;
    let signed = SignedData {
        data: vec![Bytes::from_static(b"a request")],
        identity: client.creator().clone(),
        signature: client.sign(b"a request").unwrap(),
    };
    let mut group = c.benchmark_group("authenticate a caller and ask a policy");
    group.bench_function("without", |b| {
        b.iter(|| {
            authenticate(bundle.msps(), black_box(&signed)).unwrap();
            bundle
                .evaluate_signed("/Channel/Writers", std::slice::from_ref(&signed))
                .unwrap();
        });
    });
    group.bench_function("with", |b| {
        b.iter(|| {
            let caller = authenticate(bundle.msps(), black_box(&signed)).unwrap();
            let signers = Signers::from_verified(vec![caller]);
            bundle.evaluate("/Channel/Writers", &signers).unwrap();
        });
    });
    group.finish();
}

/// Of the P-256 that there is, the fastest: one check of a signature under a message of 3 KB.
fn curve(c: &mut Criterion) {
    let network = Network::usual(1);
    let client = &network.orgs[0].client;
    let message = vec![7; 3000];
    let signature = client.sign(&message).unwrap();
    let portable = VerifyingKey::from_public_key_der(client.certificate().spki_der()).unwrap();
    let der = Signature::from_der(&signature).unwrap();
    let mut group = c.benchmark_group("check a signature");
    group.bench_function("without", |b| {
        b.iter(|| portable.verify(black_box(&message), &der).unwrap())
    });
    group.bench_function("with", |b| {
        b.iter(|| client.identity().verify(black_box(&message), &signature).unwrap());
    });
    group.finish();
}

fn prepare(b: &mut Bencher<'_>, chain: &Chain, block: &common::Block) {
    b.iter_batched(
        || block.clone(),
        |block| chain.channel.prepare(block).unwrap(),
        BatchSize::LargeInput,
    );
}

/// The signatures of a block are checked on all cores.
fn cores(c: &mut Criterion) {
    let mut group = c.benchmark_group("check the signatures of a block of 500 on all cores");
    group.sample_size(20);
    for name in ["without", "with"] {
        let chain = Chain::with_chaincode(3, &policy(1));
        if name == "without" {
            let one = NonZeroUsize::MIN;
            chain.channel.validate_on(ValidatorPool::new(one).unwrap());
        }
        let block = chain.next_block(envelopes(&chain, 1, 0, BLOCK));
        group.bench_function(name, |b| prepare(b, &chain, &block));
    }
    group.finish();
}

/// The endorsements that a peer made itself are not checked when they come back.
fn own_endorsements(c: &mut Criterion) {
    let mut group = c.benchmark_group("check a block of 500 that this peer endorsed");
    group.sample_size(20);
    for name in ["without", "with"] {
        let chain = Chain::with_chaincode(3, &policy(1));
        let txs: Vec<_> = (0..BLOCK).map(|n| put(&chain, 1, n)).collect();
        let envelopes = txs
            .iter()
            .map(|tx| {
                let endorsements = tx.endorsements();
                if name == "with" {
                    for made in &endorsements {
                        let payload = tx.response_payload();
                        chain
                            .channel
                            .remember_endorsement(&payload, &made.endorser, &made.signature);
                    }
                }
                tx.envelope_with(endorsements)
            })
            .collect();
        let block = chain.next_block(envelopes);
        group.bench_function(name, |b| prepare(b, &chain, &block));
    }
    group.finish();
}

/// The signatures of the next blocks are checked while one commits.
fn ahead(c: &mut Criterion) {
    const BLOCKS: usize = 8;
    let chain = Chain::with_chaincode(1, &policy(1));
    let first = chain.channel.ledger().blocks().block(1).unwrap().unwrap();
    let mut previous = chain.channel.ledger().blocks().last_hash().unwrap();
    let blocks: Vec<common::Block> = (0..BLOCKS)
        .map(|n| {
            let block = chain.network.block(
                n as u64 + 2,
                previous.clone(),
                envelopes(&chain, 1, n * BLOCK, BLOCK),
            );
            previous = block_hash(block.header.as_ref().unwrap());
            block
        })
        .collect();
    let fresh = || {
        let dir = tempfile::tempdir().unwrap();
        let channel = PeerChannel::create(dir.path(), chain.network.genesis.clone()).unwrap();
        channel.process_block(first.clone()).unwrap();
        (dir, channel, blocks.clone())
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut group = c.benchmark_group("take in 8 blocks of 500, checks ahead of commits");
    group.sample_size(10);
    group.bench_function("without", |b| {
        b.iter_batched(
            fresh,
            |(dir, channel, blocks)| {
                for block in blocks {
                    channel.process_block(block).unwrap();
                }
                (dir, channel)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("with", |b| {
        b.iter_batched(
            fresh,
            |(dir, channel, blocks)| {
                runtime.block_on(async {
                    let pipeline = CommitPipeline::start(Arc::clone(&channel)).unwrap();
                    for block in blocks {
                        pipeline.submit(block).await.unwrap();
                    }
                    pipeline.finish().await.unwrap();
                });
                (dir, channel)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// What a block reads of the state is read at once: of keys that are in RocksDB's files, and of the newest, which are still in its
/// write buffer.
fn reads(c: &mut Criterion) {
    const BLOCKS: usize = 200;
    let chain = Chain::with_chaincode(1, &policy(1));
    for n in 0..BLOCKS {
        chain.commit(envelopes(&chain, 1, n * BLOCK, BLOCK));
    }
    let state = chain.channel.ledger().state();
    for (place, first, count) in [
        ("files", 0, BLOCKS / 2 * BLOCK),
        ("the write buffer", (BLOCKS - 4) * BLOCK, 4 * BLOCK),
    ] {
        // Not in the order of the keys.
        let names: Vec<String> = (0..2 * BLOCK)
            .map(|n| format!("k{}", first + n * 7919 % count))
            .collect();
        let keys: Vec<KeyRef<'_>> = names.iter().map(|key| KeyRef::Public { ns: "cc", key }).collect();
        let mut group = c.benchmark_group(format!("read 1,000 versions from {place}"));
        group.sample_size(20);
        group.bench_function("without", |b| {
            b.iter(|| {
                for key in black_box(&names) {
                    state.get("cc", key).unwrap().unwrap();
                }
            });
        });
        group.bench_function("with", |b| b.iter(|| state.versions(black_box(&keys)).unwrap()));
        group.finish();
    }
}

/// One write batch and one fdatasync for a block, not for a transaction.
fn one_write(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit 500 transactions with one write");
    group.sample_size(10);
    for (name, size) in [("without", 1), ("with", BLOCK)] {
        let chain = Chain::with_chaincode(1, &policy(1));
        let mut next = 0;
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let mut previous = chain.channel.ledger().blocks().last_hash().unwrap();
                    let mut number = chain.channel.height();
                    let all = envelopes(&chain, 1, next, BLOCK);
                    next += BLOCK;
                    let blocks = all.chunks(size).map(|some| {
                        let block = chain.network.block(number, previous.clone(), some.to_vec());
                        previous = block_hash(block.header.as_ref().unwrap());
                        number += 1;
                        chain.channel.prepare(block).unwrap()
                    });
                    blocks.collect::<Vec<_>>()
                },
                |blocks| {
                    for block in blocks {
                        chain.channel.commit(block).unwrap();
                    }
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// An orderer makes what has come meanwhile durable at once: here 100 batches of 5 transactions of 3.1 KB.
fn group_commit(c: &mut Criterion) {
    let network = Network::usual(1);
    let mut group = c.benchmark_group("make 500 transactions durable in one go");
    group.sample_size(10);
    for (name, size) in [("without", 5), ("with", BLOCK)] {
        let dir = tempfile::tempdir().unwrap();
        let store = BlockStore::open(dir.path()).unwrap();
        store.append(&network.genesis).unwrap();
        let data: Vec<Bytes> = vec![Bytes::from(vec![7; 3100]); BLOCK];
        group.bench_function(name, |b| {
            b.iter(|| {
                for some in data.chunks(size) {
                    let previous = store.last_hash().unwrap();
                    store
                        .append(&new_block(store.height(), previous, some.to_vec()))
                        .unwrap();
                }
            });
        });
    }
    group.finish();
}

/// A block on its way from its file to a client: its parts point into the bytes that were read, until they are written to the
/// connection.
fn deliver(c: &mut Criterion) {
    let chain = Chain::with_chaincode(1, &policy(1));
    chain.commit(envelopes(&chain, 1, 0, BLOCK));
    let blocks = chain.channel.ledger().blocks();
    let answer = |block| {
        let response = protos::DeliverResponse {
            r#type: Some(protos::deliver_response::Type::Block(block)),
        };
        response.encode_to_vec()
    };
    let mut group = c.benchmark_group("deliver a block of 500 from its file");
    group.bench_function("without", |b| {
        b.iter(|| {
            let bytes = blocks.get(2).unwrap().unwrap();
            answer(common::Block::decode(bytes.as_ref()).unwrap())
        });
    });
    group.bench_function("with", |b| b.iter(|| answer(blocks.block(2).unwrap().unwrap())));
    group.finish();
}

/// A module is compiled once and kept, on disk for the next start and in memory for the next call.
fn compiled(c: &mut Criterion) {
    let Some(deployed) = Deployed::new() else { return };
    let mut group = c.benchmark_group("call a contract whose module is kept");
    group.sample_size(20);
    group.bench_function("without", |b| {
        b.iter_batched_ref(
            || {
                deployed.forget_compiled();
                deployed.after_restart()
            },
            |restarted| restarted.call(),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("with, on disk", |b| {
        b.iter_batched_ref(
            || deployed.after_restart(),
            |restarted| restarted.call(),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("with, in memory", |b| b.iter(|| deployed.call()));
    group.finish();
}

/// Instances come from a pool of prepared memory.
fn pooled(c: &mut Criterion) {
    let Some(wasm) = world::module() else { return };
    let mut group = c.benchmark_group("make an instance of a contract and drop it");
    for (name, pooled) in [("without", false), ("with", true)] {
        let mut config = Config::new();
        config.memory_reservation(64 * 1024 * 1024);
        if pooled {
            let mut pool = PoolingAllocationConfig::new();
            pool.max_memory_size(64 * 1024 * 1024)
                .total_core_instances(80)
                .total_memories(80)
                .total_tables(80)
                .linear_memory_keep_resident(384 * 1024)
                .pagemap_scan(wasmtime::Enabled::Auto);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        let engine = Engine::new(&config).unwrap();
        let module = Module::new(&engine, &wasm).unwrap();
        let mut linker: Linker<()> = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&module).unwrap();
        let ready = linker.instantiate_pre(&module).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut store = Store::new(&engine, ());
                let instance = ready.instantiate(&mut store).unwrap();
                let version = instance
                    .get_typed_func::<(), i32>(&mut store, "selvedge_abi_v1")
                    .unwrap();
                version.call(&mut store, ()).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    slices,
    once,
    identities,
    verified,
    curve,
    cores,
    own_endorsements,
    ahead,
    reads,
    one_write,
    group_commit,
    deliver,
    compiled,
    pooled
);
criterion_main!(benches);
