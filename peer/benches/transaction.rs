//! What the steps of a transaction cost, one by one: `cargo bench -p selvedge-peer`.
//!
//! The groups follow a transaction from the contract's call to the committed block. All figures are of one thread, but for
//! `prepare`, which uses all cores. The contract is `chaincode/bench`: build it first with `scripts/contracts.sh`.

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

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use selvedge_channel::authenticate;
use selvedge_channel::verify::{BlockVerifier, sign_block};
use selvedge_ledger::BlockStore;
use selvedge_ledger::mvcc::{self, TxInput};
use selvedge_ledger::rwset::ParsedRwset;
use selvedge_msp::SignedData;
use selvedge_msp::policy::Signers;
use selvedge_peer::CommittedBlock;
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{Bytes, new_block};

use network::{Chain, Network};
use transaction::Writes;
use world::{BLOCK, Deployed, envelopes, policy};

fn signatures(c: &mut Criterion) {
    let network = Network::usual(1);
    let client = &network.orgs[0].client;
    let message = vec![7; 3000];
    let signature = client.sign(&message).unwrap();
    let mut group = c.benchmark_group("signature");
    group.bench_function("sign 3 kB", |b| {
        b.iter(|| client.sign(black_box(&message)).unwrap())
    });
    group.bench_function("verify 3 kB", |b| {
        b.iter(|| client.identity().verify(black_box(&message), &signature).unwrap());
    });
    group.finish();
}

fn policies(c: &mut Criterion) {
    let chain = Chain::with_chaincode(3, &policy(3));
    let bundle = chain.channel.bundle();
    let client = &chain.network.orgs[0].client;
    let data = SignedData {
        data: vec![Bytes::from_static(b"a request")],
        identity: client.creator().clone(),
        signature: client.sign(b"a request").unwrap(),
    };
    let known = bundle.msps().deserialize(client.creator()).unwrap();
    let mut group = c.benchmark_group("policy");
    group.bench_function("find and validate a known identity", |b| {
        b.iter(|| {
            let identity = bundle.msps().deserialize(client.creator()).unwrap();
            bundle.msps().validate(&identity).unwrap();
        });
    });
    group.bench_function("Channel/Writers, signer verified before", |b| {
        b.iter(|| {
            bundle
                .evaluate("/Channel/Writers", &Signers::from_verified(vec![known.clone()]))
                .unwrap()
        });
    });
    group.bench_function("authenticate a request", |b| {
        b.iter(|| authenticate(bundle.msps(), black_box(&data)).unwrap());
    });
    group.finish();
}

fn blocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("block of 500");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(BLOCK as u64));
    for endorsers in [1, 3] {
        let chain = Chain::with_chaincode(3, &policy(endorsers));
        let block = chain.next_block(envelopes(&chain, endorsers, 0, BLOCK));
        if endorsers == 1 {
            group.bench_function("decode", |b| {
                b.iter_batched(
                    || block.clone(),
                    |block| black_box(CommittedBlock::from_block(block)),
                    BatchSize::LargeInput,
                );
            });
            let verifier = BlockVerifier::new(chain.channel.bundle());
            let previous = chain.channel.ledger().blocks().last_hash().unwrap();
            group.bench_function("verify hashes, form and orderer", |b| {
                b.iter(|| {
                    verifier
                        .verify(
                            black_box(&block),
                            block.header.as_ref().unwrap().number,
                            Some(&previous),
                        )
                        .unwrap()
                });
            });
        }
        group.bench_function(format!("prepare, {endorsers} endorsers"), |b| {
            b.iter_batched(
                || block.clone(),
                |block| chain.channel.prepare(block).unwrap(),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Each iteration commits a new block: the chain grows as it would.
fn commits(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(BLOCK as u64));
    let chain = Chain::with_chaincode(1, &policy(1));
    let mut next = 0;
    group.bench_function("judge and commit a prepared block of 500, with fdatasync", |b| {
        b.iter_batched(
            || {
                next += BLOCK;
                let block = chain.next_block(envelopes(&chain, 1, next, BLOCK));
                chain.channel.prepare(block).unwrap()
            },
            |prepared| chain.channel.commit(prepared).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn conflicts(c: &mut Criterion) {
    let chain = Chain::with_chaincode(1, &policy(1));
    let sets: Vec<ParsedRwset> = (0..BLOCK)
        .map(|n| {
            let key = format!("k{n}");
            let writes = Writes::new().read("cc", &key, None).put("cc", &key, &[b'v'; 100]);
            ParsedRwset::parse(writes.results()).unwrap()
        })
        .collect();
    let inputs: Vec<TxInput<'_>> = sets
        .iter()
        .map(|set| TxInput {
            rwset: Some(set),
            config: None,
        })
        .collect();
    let state = chain.channel.ledger().state();
    let mut group = c.benchmark_group("mvcc");
    group.throughput(Throughput::Elements(BLOCK as u64));
    group.bench_function("judge 500 transactions, a read and a write each", |b| {
        b.iter(|| {
            let mut codes = vec![TxValidationCode::Valid; BLOCK];
            mvcc::judge(2, black_box(&inputs), &mut codes, &state).unwrap()
        });
    });
    group.finish();
}

/// What an orderer does with a batch: header and hashes, signature, one record with one fdatasync.
fn cuts(c: &mut Criterion) {
    let network = Network::usual(1);
    let dir = tempfile::tempdir().unwrap();
    let store = BlockStore::open(dir.path()).unwrap();
    store.append(&network.genesis).unwrap();
    let mut group = c.benchmark_group("block cut");
    group.sample_size(20);
    for count in [1, 10, 100, 500] {
        let data: Vec<Bytes> = (0..count).map(|_| Bytes::from(vec![7; 3100])).collect();
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} transactions of 3.1 kB"), |b| {
            b.iter_batched(
                || data.clone(),
                |data| {
                    let mut block = new_block(store.height(), store.last_hash().unwrap(), data);
                    sign_block(&mut block, 0, &[], &network.orderer).unwrap();
                    store.append(&block).unwrap();
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn calls(c: &mut Criterion) {
    let Some(deployed) = Deployed::new() else { return };
    let mut group = c.benchmark_group("wasm");
    group.bench_function("fresh instance and a put", |b| b.iter(|| deployed.call()));
    group.finish();
}

criterion_group!(
    benches, signatures, policies, blocks, commits, conflicts, cuts, calls
);
criterion_main!(benches);
