//! Administration of a running network: the worked example of `docs/operations.md` under load, updates that travel by
//! mail, consenters that come, go and get new keys, and the story of a transaction.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

mod chaincode;
mod channel;
mod example;
mod orderers;
mod stories;

use std::collections::BTreeSet;

use selvedge_proto::protos::TxValidationCode;
use selvedge_system_tests::load::{Load, Outcome};
use selvedge_system_tests::{Network, Options, case, checker, refuses, says};

use example::Example;

const USERS: [&str; 2] = ["User1@org1.example.com", "User1@org2.example.com"];
/// Workers of the load for each user.
const WORKERS: usize = 2;
const ADMIN1: &str = "Admin@org1.example.com";
const ADMIN2: &str = "Admin@org2.example.com";
const ADMIN3: &str = "Admin@org3.example.com";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_network_is_administered() {
    let mut network = Network::up(Options::default()).await;

    let load = Load::start(&network, &USERS, WORKERS);
    load.progress(20).await;
    let example = Example::read();
    let terminal = example.start_load(&network);
    let peer = network.add_organization(3);
    case("two become three", example.become_three(&network, &peer)).await;
    case("an upgrade under load", chaincode::upgrade(&network)).await;
    load.progress(20).await;
    case("settings", channel::settings(&network)).await;
    case("an update by mail", channel::by_mail(&network)).await;
    let orderer = network.add_orderer(3);
    network.bring_up().await;
    case("an orderer comes", orderers::orderer_comes(&network, &orderer)).await;
    load.progress(20).await;
    case("an orderer goes", orderers::orderer_goes(&network)).await;
    load.progress(20).await;
    let all = network.orderers();
    let new_key = orderers::orderer_gets_a_new_key(&network, &load, &all[2], &orderer);
    case("a consenter with a new key", new_key).await;
    case("a second channel", channel::second_channel(&network)).await;
    case("dry runs", channel::dry_runs(&network, &all[2], &all[1])).await;
    let before_all_knew = case("three become two", example.part(&network, &load, &peer)).await;
    network.forget_organization("Org3");
    load.progress(20).await;
    let outcome = load.stop().await;
    let printed = terminal.close().await;

    case("stories", stories::stories(&network)).await;
    let chain = checker::check(&network).await;
    nothing_was_lost(&network, &chain, &outcome, &before_all_knew).await;
    example::nothing_was_lost(&chain, &printed);
    network.down().await;
}

/// Every acknowledged transaction is on the ledger once. Not valid are only those that were on their way when what they rest
/// on changed, as in Fabric, and their clients are told: those that had read the definition which the upgrade replaced, and
/// those that the excluded organisation's peer had endorsed. After all members' peers knew of the exclusion (`before_all_knew`
/// was acknowledged before), each worker of the load may have had one of them under way.
async fn nothing_was_lost(
    network: &Network,
    chain: &checker::Chain,
    outcome: &Outcome,
    before_all_knew: &BTreeSet<String>,
) {
    assert!(!outcome.acknowledged.is_empty());
    let (mut overtaken, mut orphaned, mut late) = (0, 0, 0);
    for id in &outcome.acknowledged {
        // A gateway whose orderer left without an answer submits the same envelope to another one; if both ordered it, the
        // ledger has it once, and the second is refused as a duplicate.
        let found: Vec<_> = chain
            .transactions
            .iter()
            .filter(|t| t.id == *id && t.code != TxValidationCode::DuplicateTxid)
            .collect();
        assert_eq!(found.len(), 1, "transaction {id} was acknowledged");
        let words: &[&str] = match found[0].code {
            TxValidationCode::Valid => continue,
            TxValidationCode::EndorsementPolicyFailure => {
                orphaned += 1;
                late += usize::from(!before_all_knew.contains(id));
                &[
                    "ENDORSEMENT_POLICY_FAILURE",
                    "endorsed by  peer0.org3.example.com",
                ]
            }
            _ => {
                overtaken += 1;
                &[
                    "MVCC_READ_CONFLICT",
                    "conflict     _lifecycle \"namespaces/fields/probe/Sequence\"",
                ]
            }
        };
        says(network, &["explain", id], words).await;
    }
    assert!(
        late <= USERS.len() * WORKERS,
        "{late} transactions were endorsed by the excluded organisation's peer after all knew"
    );
    println!(
        "{} acknowledged and found, {overtaken} of them overtaken by the upgrade and {orphaned} by the exclusion, {} attempts \
         failed on the way: {:?}",
        outcome.acknowledged.len(),
        outcome.failures.len(),
        outcome.failures.first()
    );
}

/// The sequence of the channel's configuration.
async fn sequence(network: &Network) -> u64 {
    let json = says(network, &["channel", "config", "--json"], &[]).await;
    let config: serde_json::Value = serde_json::from_str(&json).unwrap();
    config["sequence"].as_u64().unwrap()
}
