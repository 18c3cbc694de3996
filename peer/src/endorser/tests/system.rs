//! `cscc` and `qscc`, called as clients call them.

use super::*;

#[test]
fn the_configuration_chaincode_joins_and_answers() {
    let world = World::new();
    let admin = &world.admins[0];
    let orderer = Org::new("OrdererMSP", "orderer");
    let block = crate::test_network::genesis("second", &orderer, &[&world.net.orgs[0]]);
    let join = ask("", "cscc", &[b"JoinChain", &block.encode_to_vec()]);
    let denied = world.net.response(0, &world.user, &join);
    assert!(
        denied.message.starts_with(
            "access denied for [JoinChain][second]: [Failed verifying that proposal's creator satisfies local MSP principal"
        ),
        "{}",
        denied.message
    );
    let answer = world.net.answer(0, &proposal(admin, &join));
    assert_eq!(answer.response.unwrap().status, 200);
    assert!(answer.payload.is_empty() && answer.endorsement.is_none());
    let again = world.net.response(0, admin, &join);
    assert!(
        again
            .message
            .contains("ledger [second] already exists with state [ACTIVE]"),
        "{}",
        again.message
    );
    assert!(
        again
            .message
            .starts_with("cannot create ledger from genesis block: ")
    );

    let channels = world
        .net
        .response(0, &world.user, &ask("", "cscc", &[b"GetChannels"]));
    let channels = protos::ChannelQueryResponse::decode(channels.payload)
        .unwrap()
        .channels;
    let ids: Vec<_> = channels.into_iter().map(|c| c.channel_id).collect();
    assert_eq!(ids, ["second", "trade"]);
    let config = world
        .net
        .response(0, &world.user, &ask("", "cscc", &[b"GetConfigBlock", b"second"]));
    assert_eq!(
        common::Block::decode(config.payload).unwrap().header,
        block.header
    );
    let config = world.net.response(
        0,
        &world.user,
        &ask("", "cscc", &[b"GetChannelConfig", b"second"]),
    );
    assert!(
        common::Config::decode(config.payload)
            .unwrap()
            .channel_group
            .is_some()
    );
    let junk = world
        .net
        .response(0, admin, &ask("", "cscc", &[b"JoinChain", b"junk"]));
    assert_eq!(junk.status, 500);
    let unknown = world.net.response(0, admin, &ask("", "cscc", &[b"Leave"]));
    assert_eq!(unknown.message, "Requested function Leave not found.");
}

#[test]
fn the_query_chaincode_answers_about_the_ledger() {
    let world = World::new();
    world.deploy("cc", &invoking(PUT), false);
    let query = |args: &[&[u8]]| world.net.response(0, &world.user, &ask("trade", "qscc", args));
    let info = common::BlockchainInfo::decode(query(&[b"GetChainInfo", b"trade"]).payload).unwrap();
    assert_eq!(info.height, 4);
    let block = common::Block::decode(query(&[b"GetBlockByNumber", b"trade", b"3"]).payload).unwrap();
    let header = block.header.clone().unwrap();
    assert_eq!(selvedge_proto::block_hash(&header), info.current_block_hash);
    assert_eq!(header.previous_hash, info.previous_block_hash);
    let same = query(&[b"GetBlockByHash", b"trade", &info.current_block_hash]);
    assert_eq!(common::Block::decode(same.payload).unwrap(), block);
    let envelope = common::Envelope::decode(block.data.unwrap().data[0].clone()).unwrap();
    let tx_id = selvedge_proto::channel_header(&envelope).unwrap().tx_id;
    let found = query(&[b"GetTransactionByID", b"trade", tx_id.as_bytes()]);
    let found = protos::ProcessedTransaction::decode(found.payload).unwrap();
    assert_eq!(
        (found.validation_code, found.transaction_envelope.unwrap()),
        (0, envelope)
    );
    let same = query(&[b"GetBlockByTxID", b"trade", tx_id.as_bytes()]);
    assert_eq!(
        common::Block::decode(same.payload)
            .unwrap()
            .header
            .unwrap()
            .number,
        3
    );

    let text = |args: &[&[u8]]| query(args).message;
    assert_eq!(text(&[b"GetChainInfo"]), "Incorrect number of arguments, 1");
    assert_eq!(text(&[b"GetChainInfo", b"x"]), "Invalid chain ID, x");
    assert_eq!(
        text(&[b"Nothing", b"trade"]),
        "Requested function Nothing not found."
    );
    assert_eq!(
        text(&[b"GetBlockByNumber", b"trade"]),
        "missing 3rd argument for GetBlockByNumber"
    );
    assert!(text(&[b"GetBlockByNumber", b"trade", b"9"]).starts_with("Failed to get block number 9, error "));
    assert_eq!(
        text(&[b"GetTransactionByID", b"trade", b"ab"]),
        "Failed to get transaction with id ab, error no such transaction ID [ab] in index"
    );
    // On a channel the answer is endorsed, with an empty read/write set.
    let answer = world.net.answer(
        0,
        &proposal(&world.user, &ask("trade", "qscc", &[b"GetChainInfo", b"trade"])),
    );
    assert!(answer.endorsement.is_some() && action(&answer).0.results.is_empty());
}
