//! Identities that nobody vouches for, that have expired, and that were revoked.

use selvedge_proto::common::Status::{BadRequest, Forbidden};
use selvedge_proto::{common, transaction_payload};
use selvedge_sdk::{ClientIdentity, Invocation};
use selvedge_system_tests::crooked::{Wish, revocation_list, rogue_authority};
use selvedge_system_tests::{CHANNEL, Cases, Network, ORG1_PEER, config_update};
use tonic::Code;

use super::{BUYER, assert_rpc, put, refused_by_orderer, then_alive};

pub(crate) async fn all(network: &Network, cases: &mut Cases) {
    cases
        .run(
            "organisations and authorities that nobody knows",
            then_alive(network, unknown(network)),
        )
        .await;
    cases
        .run("roles that may not act", then_alive(network, roles(network)))
        .await;
    cases
        .run("an expired certificate", then_alive(network, expired(network)))
        .await;
    cases
        .run(
            "updates of the configuration by the wrong hands",
            then_alive(network, updates(network)),
        )
        .await;
    cases
        .run("a revoked certificate", then_alive(network, revoked(network)))
        .await;
}

/// An envelope of somebody else's making: nobody endorsed it, but the orderer does not look inside.
fn envelope(who: &ClientIdentity) -> common::Envelope {
    let nonce = selvedge_sdk::Nonce::random().unwrap();
    let time = std::time::SystemTime::now();
    let proposal = selvedge_sdk::Proposal::new(&put(), who.creator(), &nonce, time);
    let proposal =
        <selvedge_proto::protos::Proposal as prost::Message>::decode(proposal.bytes().clone()).unwrap();
    let payload = transaction_payload(&proposal, bytes::Bytes::from_static(&[0x0a, 0]), Vec::new()).unwrap();
    common::Envelope {
        signature: who.sign(&payload).unwrap(),
        payload,
    }
}

/// Everything that needs an identity refuses this one.
async fn refused_everywhere(network: &Network, what: &str, who: &ClientIdentity, words: &str) {
    let gateway = network.gateway_of(who.clone(), ORG1_PEER);
    let error = gateway.evaluate(&put()).await.expect_err(what);
    assert_rpc(what, &error, Code::FailedPrecondition, words, None);
    let error = gateway
        .endorse(&gateway.propose(&put()).unwrap())
        .await
        .expect_err(what);
    assert_rpc(
        what,
        &error,
        Code::Aborted,
        "failed to endorse transaction",
        Some(words),
    );
    let error = gateway
        .commit_status(CHANNEL, &"00".repeat(32))
        .await
        .expect_err(what);
    assert_rpc(what, &error, Code::PermissionDenied, "permission denied", None);
    let events = match gateway
        .chaincode_events(CHANNEL, "probe", selvedge_sdk::EventsFrom::Now)
        .await
    {
        Ok(mut events) => events.next().await.map(drop),
        Err(error) => Err(error),
    };
    assert_rpc(
        what,
        &events.expect_err(what),
        Code::PermissionDenied,
        "permission denied",
        None,
    );
    let mut blocks = gateway
        .blocks(CHANNEL, selvedge_sdk::Seek::newest())
        .await
        .expect("a stream");
    let error = blocks.next().await.expect_err(what).to_string();
    assert!(error.contains("FORBIDDEN"), "{what}: {error}");
    refused_by_orderer(network, what, envelope(who), Forbidden, "permission denied").await;
    let orderer = network.orderers().remove(0);
    let error = network
        .orderer(&orderer)
        .block(who, CHANNEL, selvedge_sdk::Seek::newest())
        .await
        .expect_err(what);
    assert!(error.to_string().contains("FORBIDDEN"), "{what}: {error}");
}

async fn unknown(network: &Network) {
    let rogue = rogue_authority();
    let words = format!("access denied: channel [{CHANNEL}] creator org unknown, creator is malformed");
    let nobody = Wish::client("Org3MSP", "nobody").issue(&rogue);
    refused_everywhere(network, "an unknown organisation", &nobody, &words).await;
    let words = format!("access denied: channel [{CHANNEL}] creator org [Org1MSP]");
    let pretender = Wish::client("Org1MSP", "User1@org1.example.com").issue(&rogue);
    refused_everywhere(network, "a certificate of nobody's authority", &pretender, &words).await;
    let wrong_org = Wish::client("Org1MSP", "x").issue(&network.authority("org2.example.com"));
    refused_everywhere(
        network,
        "a certificate of another organisation's authority",
        &wrong_org,
        &words,
    )
    .await;
}

async fn roles(network: &Network) {
    let authority = network.authority("org1.example.com");
    let words = format!("access denied: channel [{CHANNEL}] creator org [Org1MSP]");
    for units in [
        vec![],
        vec!["client".to_owned(), "admin".to_owned()],
        vec!["gardener".to_owned()],
    ] {
        let wish = Wish {
            units: units.clone(),
            ..Wish::client("Org1MSP", "odd")
        };
        refused_everywhere(
            network,
            &format!("the units {units:?}"),
            &wish.issue(&authority),
            &words,
        )
        .await;
    }
    // A peer's certificate reads, and does not write.
    let wish = Wish {
        units: vec!["peer".to_owned()],
        ..Wish::client("Org1MSP", "peer9")
    };
    let gateway = network.gateway_of(wish.issue(&authority), ORG1_PEER);
    let mut blocks = gateway
        .blocks(CHANNEL, selvedge_sdk::Seek::newest())
        .await
        .unwrap();
    assert!(blocks.next().await.unwrap().is_some());
    let error = gateway
        .endorse(&gateway.propose(&put()).unwrap())
        .await
        .unwrap_err();
    assert_rpc(
        "a peer's proposal",
        &error,
        Code::Aborted,
        "failed to endorse transaction",
        Some("Writers"),
    );
}

async fn expired(network: &Network) {
    let wish = Wish {
        seconds: (-120, -30),
        ..Wish::client("Org1MSP", "late")
    };
    let late = wish.issue(&network.authority("org1.example.com"));
    let gateway = network.gateway_of(late.clone(), ORG1_PEER);
    let words = "proposal client identity expired";
    let error = gateway.evaluate(&put()).await.unwrap_err();
    assert_rpc(
        "evaluate",
        &error,
        Code::Unavailable,
        "failed to evaluate transaction",
        Some(words),
    );
    let error = gateway
        .endorse(&gateway.propose(&put()).unwrap())
        .await
        .unwrap_err();
    assert_rpc(
        "endorse",
        &error,
        Code::Aborted,
        "failed to endorse transaction",
        Some(words),
    );
    refused_by_orderer(
        network,
        "broadcast",
        envelope(&late),
        BadRequest,
        "broadcast client identity expired",
    )
    .await;
}

async fn updates(network: &Network) {
    use std::time::Duration;
    let sequence = async || {
        let admin = network.identity(BUYER);
        network
            .peer(ORG1_PEER)
            .channel_config(&admin, CHANNEL)
            .await
            .unwrap()
            .sequence
    };
    let before = sequence().await;
    // Batch timeout is the orderers' to change; neither a client nor an administrator of another organisation may.
    for who in [BUYER, "Admin@org1.example.com"] {
        let who = network.identity(who);
        let change = |tree: &mut selvedge_channel::update::edit::ConfigTree| {
            tree.set_batch_timeout(Duration::from_millis(700))
        };
        let update = config_update::envelope(network, &who, change).await;
        refused_by_orderer(
            network,
            "an update without the right",
            update,
            BadRequest,
            "not satisfied",
        )
        .await;
    }
    assert_eq!(sequence().await, before);
}

async fn revoked(network: &Network) {
    let authority = network.authority("org1.example.com");
    let thief = Wish::client("Org1MSP", "stolen").issue(&authority);
    let gateway = network.gateway_of(thief.clone(), ORG1_PEER);
    let done = gateway.submit_and_wait(&put()).await;
    done.expect("before its revocation the certificate is good");
    // One that is endorsed while the certificate is good and committed after its revocation is invalid.
    let pending = gateway.endorse(&gateway.propose(&put()).unwrap()).await.unwrap();

    let admin = network.identity("Admin@org1.example.com");
    let list = bytes::Bytes::from(revocation_list(&authority, &thief));
    config_update::apply(network, &admin, |tree| {
        tree.set_msp_crls("/Channel/Application/Org1", &[list])
    })
    .await;

    let words = format!("access denied: channel [{CHANNEL}] creator org [Org1MSP]");
    refused_everywhere(network, "a revoked certificate", &thief, &words).await;
    let error = gateway.submit(&pending).await.unwrap_err();
    assert_rpc("submit", &error, Code::Aborted, "status=FORBIDDEN", None);
    // Others of the organisation go on.
    let get = Invocation::new(CHANNEL, "probe", "get").arg("nothing");
    assert_eq!(
        network
            .gateway(BUYER)
            .evaluate(&get)
            .await
            .unwrap_err()
            .contract_refusal()
            .unwrap()
            .0,
        404
    );
}
