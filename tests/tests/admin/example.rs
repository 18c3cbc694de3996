//! The worked example of `docs/operations.md`, two organisations become three, run from the page itself.

use std::collections::BTreeSet;
use std::time::Duration;

use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::{DirectClient, Invocation, Seek};
use selvedge_system_tests::load::Load;
use selvedge_system_tests::page::{Section, Terminal};
use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER, checker, eventually, says_all};

use crate::{ADMIN1, ADMIN2, ADMIN3, USERS, refuses, says, sequence};

/// The commands of the example, by the step that they are for.
pub(crate) struct Example {
    section: Section,
}

impl Example {
    pub(crate) fn read() -> Self {
        Self {
            section: Section::read("operations.md", "Two organisations become three"),
        }
    }

    /// Load, nodes, admission, joining, contract, use, exclusion, leaving.
    fn steps(&self) -> [&str; 8] {
        self.section.commands()
    }

    /// The transactions that flow all the time.
    pub(crate) fn start_load(&self, network: &Network) -> Terminal {
        network.second_terminal(self.steps()[0])
    }

    /// Steps 1 to 5. `peer` is the newcomer's, whose organisation stands in the network file.
    pub(crate) async fn become_three(&self, network: &Network, peer: &str) {
        let [_, nodes, admission, joining, contract, using, ..] = self.steps();
        self.shows_the_newcomer(peer);
        run(network, nodes, &["is up"]).await;

        // Before it is a member it can read nothing.
        refuses(network, &["channel", "join", peer], &["cannot read a block"]).await;
        let before = sequence(network).await;
        says(
            network,
            &["channel", "add-org", "Org3", "--dry-run"],
            &["+ /Channel/Application/Org3: group with", "nothing was changed"],
        )
        .await;
        refuses(
            network,
            &["channel", "add-org", "Org3", "--as", ADMIN1],
            &[
                "signed by Admin@org1.example.com, which is not enough",
                "Org2/Admins",
            ],
        )
        .await;
        assert_eq!(sequence(network).await, before);
        let words = [
            "+ /Channel/Application/Org3: group with",
            ADMIN1,
            ADMIN2,
            "dry run: nothing was changed",
            "channel trade has configuration 1",
        ];
        run(network, admission, &words).await;
        assert_eq!(sequence(network).await, before + 1);
        refuses(
            network,
            &["channel", "add-org", "Org3"],
            &["is a member of channel trade already"],
        )
        .await;
        let words = ["joined channel trade", "it has all", "Org3 (Org3MSP)"];
        run(network, joining, &words).await;

        let words = [
            "Org3MSP has approved",
            "ready to commit",
            "chaincode shipment version 1.0 sequence 2 is committed",
        ];
        run(network, contract, &words).await;
        eventually(
            "the newcomer's peer runs the contract",
            Duration::from_secs(20),
            || async { network.shell(using).await },
        )
        .await;
    }

    fn shows_the_newcomer(&self, peer: &str) {
        let shown = self.section.yaml();
        let org = &shown[0];
        assert_eq!(org["name"], "Org3");
        assert_eq!(org["msp_id"], "Org3MSP");
        let host = format!(
            "{}.{}",
            org["peers"][0]["name"].as_str().unwrap(),
            org["domain"].as_str().unwrap()
        );
        assert_eq!(host, peer);
    }

    /// Step 6, under load: the organisation is excluded, and its peer leaves. Gives what was acknowledged before the members'
    /// peers knew.
    pub(crate) async fn part(&self, network: &Network, load: &Load, peer: &str) -> BTreeSet<String> {
        let [.., exclusion, leaving] = self.steps();
        // All three have the same chain up to here.
        let common = network.peer_height(ORG1_PEER).await.unwrap();
        network.everywhere(common - 1).await;
        let before = sequence(network).await;
        says(
            network,
            &["channel", "remove-org", "Org3", "--dry-run"],
            &[
                "- /Channel/Application/Org3",
                ADMIN1,
                ADMIN2,
                "nothing was changed",
            ],
        )
        .await;
        refuses(
            network,
            &["channel", "remove-org", "Org3", "--as", ADMIN3],
            &["which is not enough"],
        )
        .await;
        assert_eq!(sequence(network).await, before);
        let unaware = network.direct(USERS[0]).await;
        let said = run(
            network,
            exclusion,
            &["- /Channel/Application/Org3", ADMIN1, ADMIN2],
        )
        .await;
        assert_eq!(sequence(network).await, before + 1);
        let excluded = block_number(&said);
        assert!(excluded >= common);
        refuses(
            network,
            &["channel", "remove-org", "Org3"],
            &["has no member Org3"],
        )
        .await;

        network.everywhere_but(peer, excluded).await;
        let before_all_knew = load.acknowledged().await;

        // The others go on, and the excluded one's peer does not hear of it.
        load.progress(40).await;
        let here = network.peer_height(ORG1_PEER).await.unwrap();
        assert!(here > excluded + 1, "height {here}, excluded in block {excluded}");
        let there = network.peer_height(peer).await.unwrap();
        assert!(
            there <= excluded + 1,
            "height {there}, excluded in block {excluded}"
        );
        cannot_read(network).await;
        cannot_write(network, peer, &unaware).await;

        run(network, leaving, &["left channel trade"]).await;
        before_all_knew
    }
}

/// Runs a step, which must succeed and say all of `words`.
async fn run(network: &Network, step: &str, words: &[&str]) -> String {
    let text = network.shell(step).await.unwrap_or_else(|why| panic!("{why}"));
    says_all(step, &text, words);
    text
}

/// The number in "since block N".
fn block_number(said: &str) -> u64 {
    let (_, rest) = said.rsplit_once("since block ").unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// No orderer and no peer of a member gives the excluded organisation a block or an answer.
async fn cannot_read(network: &Network) {
    let user = network.identity("User1@org3.example.com");
    for host in network.orderers() {
        let mut blocks = network
            .orderer(&host)
            .blocks(&user, CHANNEL, Seek::newest())
            .await
            .unwrap();
        let refused = blocks.next().await.unwrap_err().to_string();
        assert!(refused.to_lowercase().contains("forbidden"), "{host}: {refused}");
    }
    let refused = network.peer(ORG1_PEER).chain_info(&user, CHANNEL).await;
    assert!(refused.is_err(), "{refused:?}");
    let mut blocks = network
        .peer(ORG1_PEER)
        .blocks(&user, CHANNEL, Seek::newest())
        .await
        .unwrap();
    assert!(blocks.next().await.is_err());
    refuses(
        network,
        &["channel", "info", "--as", ADMIN3],
        &["is no member of it"],
    )
    .await;
}

/// What its users submit is not ordered, and what its peer endorses for others does not count. `unaware` is a member's client
/// that asks the peers themselves and does not know of the exclusion.
async fn cannot_write(network: &Network, peer: &str, unaware: &DirectClient) {
    let put = Invocation::new(CHANNEL, "probe", "put").arg("excluded").arg("1");
    let own = network.gateway_at("User1@org3.example.com", peer);
    assert!(own.submit_and_wait(&put).await.is_err());

    let by_theirs = put.clone().endorsing_orgs(["Org3MSP"]);
    let transaction = unaware
        .endorse(&unaware.propose(&by_theirs).unwrap())
        .await
        .unwrap();
    unaware.submit(&transaction).await.unwrap();
    let member = network.gateway(USERS[0]);
    let status = member
        .commit_status(CHANNEL, transaction.transaction_id())
        .await
        .unwrap();
    assert_eq!(status.code, TxValidationCode::EndorsementPolicyFailure);
    let get = Invocation::new(CHANNEL, "probe", "get").arg("excluded");
    assert!(member.evaluate(&get).await.is_err());
}

/// Every transaction that the second terminal was told of is on the ledger once, and valid.
pub(crate) fn nothing_was_lost(chain: &checker::Chain, printed: &str) {
    let told: BTreeSet<&str> = printed
        .lines()
        .filter(|line| line.starts_with("committed in block "))
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    assert!(told.len() > 10, "{printed}");
    for id in &told {
        assert_eq!(chain.valid(id), 1, "transaction {id} of the second terminal");
    }
    println!("{} transactions of the second terminal found", told.len());
}
