//! Proves what must hold of every chain: spec 02 §1 to §9, 05 §3, 03 §2. It fetches all blocks from every orderer and every
//! peer and panics at the first thing that is not so.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvedge_channel::Bundle;
use selvedge_channel::verify::{BlockVerifier, check_envelope, is_config_block};
use selvedge_proto::common::BlockMetadataIndex as Slot;
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{
    block_data_hash, block_hash, block_header_bytes, common, compute_tx_id, open_envelope, proposal_hash,
    protos,
};
use selvedge_sdk::{Seek, SeekStart, SeekStop};

use crate::crooked::is_low_s;
use crate::{CHANNEL, Network};

/// A transaction as it stands on the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its id; empty for configurations.
    pub id: String,
    /// Number of its block.
    pub block: u64,
    /// The peers' verdict.
    pub code: TxValidationCode,
    /// The chaincode it called; empty for configurations.
    pub chaincode: String,
    /// The function it called; empty for configurations.
    pub function: String,
    /// What it called the function with.
    pub arguments: Vec<Bytes>,
}

/// What was found on the ledger.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// Number of blocks.
    pub height: u64,
    /// All transactions in order.
    pub transactions: Vec<Recorded>,
    /// Commit hash of the last block, in hex: the same state everywhere.
    pub commit_hash: String,
}

impl Chain {
    /// How often a transaction is on the ledger as valid.
    pub fn valid(&self, id: &str) -> usize {
        self.transactions
            .iter()
            .filter(|t| t.id == id && t.code == TxValidationCode::Valid)
            .count()
    }

    /// The valid transactions that called a function of a chaincode.
    pub fn valid_calls(&self, chaincode: &str, function: &str) -> usize {
        let called = |t: &&Recorded| t.chaincode == chaincode && t.function == function;
        self.transactions
            .iter()
            .filter(called)
            .filter(|t| t.code == TxValidationCode::Valid)
            .count()
    }
}

const ALL: Seek = Seek {
    start: SeekStart::Oldest,
    stop: SeekStop::Newest,
    wait: false,
};

/// Checks the chain of a network at rest, as all of its nodes have it.
pub async fn check(network: &Network) -> Chain {
    let height = network.settled().await;
    let chain = check_channel(network, CHANNEL, "User1@org1.example.com", &network.peers()).await;
    assert_eq!(
        chain.height, height,
        "the nodes deliver another number of blocks than they say they have"
    );
    assert!(
        chain
            .transactions
            .iter()
            .any(|t| t.code == TxValidationCode::Valid && !t.chaincode.is_empty()),
        "no transaction was endorsed"
    );
    chain
}

/// Checks the chain of one channel, at rest, as all orderers and `peers` have it; `reader` is a member.
pub async fn check_channel<S: AsRef<str>>(
    network: &Network,
    channel: &str,
    reader: &str,
    peers: &[S],
) -> Chain {
    let user = network.identity(reader);
    let mut ordered: Vec<(String, Vec<common::Block>)> = Vec::new();
    for host in network.orderers() {
        let mut stream = network
            .orderer(&host)
            .blocks(&user, channel, ALL)
            .await
            .expect("a stream of blocks");
        let mut blocks = Vec::new();
        while let Some(block) = stream.next().await.unwrap_or_else(|e| panic!("{host}: {e}")) {
            blocks.push(block);
        }
        ordered.push((host, blocks));
    }
    for (host, blocks) in &ordered {
        check_orderer(network, channel, host, blocks);
    }
    let (first, reference) = &ordered[0];
    for (host, blocks) in &ordered[1..] {
        assert_eq!(
            reference.len(),
            blocks.len(),
            "{first} and {host} have different heights"
        );
        for (ours, theirs) in reference.iter().zip(blocks) {
            assert_eq!(
                ours.header, theirs.header,
                "{first} and {host} have different headers"
            );
            assert_eq!(ours.data, theirs.data, "{first} and {host} have different data");
        }
    }

    let mut chain: Option<(&str, Chain)> = None;
    for host in peers {
        let host = host.as_ref();
        let mut stream = network
            .peer(host)
            .blocks(&user, channel, ALL)
            .await
            .expect("a stream of blocks");
        let mut blocks = Vec::new();
        while let Some(block) = stream.next().await.unwrap_or_else(|e| panic!("{host}: {e}")) {
            blocks.push(block);
        }
        let seen = check_peer(host, reference, &blocks);
        match &chain {
            None => chain = Some((host, seen)),
            Some((other, before)) => {
                assert_eq!(
                    before.transactions, seen.transactions,
                    "{other} and {host} judge differently"
                );
                assert_eq!(
                    before.commit_hash, seen.commit_hash,
                    "{other} and {host} have different states"
                );
            }
        }
    }
    let (_, chain) = chain.expect("a network has a peer");
    check_transactions(channel, reference, &chain);
    println!(
        "chain of {channel} is sound: {} blocks, {} transactions",
        chain.height,
        chain.transactions.len()
    );
    chain
}

fn header(block: &common::Block) -> &common::BlockHeader {
    block.header.as_ref().expect("a block has a header")
}

fn data(block: &common::Block) -> &[Bytes] {
    &block.data.as_ref().expect("a block has data").data
}

fn check_orderer(network: &Network, channel: &str, host: &str, blocks: &[common::Block]) {
    let file = network.dir().join("channels").join(format!("{channel}.block"));
    let genesis =
        common::Block::decode(Bytes::from(std::fs::read(file).expect("the genesis block"))).expect("a block");
    assert_eq!(
        header(&blocks[0]),
        header(&genesis),
        "{host} begins with another block"
    );

    let mut bundle =
        Arc::new(Bundle::from_config_block(&blocks[0]).expect("the genesis block is a configuration"));
    let mut last_config = 0;
    for (number, block) in blocks.iter().enumerate() {
        let number = number as u64;
        let at = format!("block {number} of {host}");
        let head = header(block);
        assert_eq!(head.number, number, "{at}: its number");
        let before = number
            .checked_sub(1)
            .and_then(|n| usize::try_from(n).ok())
            .map(|n| &blocks[n]);
        let previous = before.map_or_else(Bytes::new, |b| block_hash(header(b)));
        assert_eq!(head.previous_hash, previous, "{at}: previous hash");
        assert_eq!(head.data_hash, block_data_hash(data(block)), "{at}: data hash");
        assert!(!data(block).is_empty(), "{at} is empty");

        let slots = &block.metadata.as_ref().expect("metadata").metadata;
        assert_eq!(slots.len(), 5, "{at}: metadata slots");
        assert!(
            Network::metadata(block, Slot::TransactionsFilter).is_empty(),
            "{at}: an orderer judges nothing"
        );
        assert!(
            Network::metadata(block, Slot::CommitHash).is_empty(),
            "{at}: an orderer has no state"
        );

        if is_config_block(block) {
            assert_eq!(
                data(block).len(),
                1,
                "{at}: a configuration is alone in its block"
            );
            last_config = number;
        }
        for entry in data(block) {
            let envelope = common::Envelope::decode(entry.clone()).expect("an envelope");
            assert_eq!(
                envelope.encode_to_vec(),
                *entry,
                "{at}: an envelope is not in canonical form"
            );
            if number > 0 {
                check_envelope(entry).unwrap_or_else(|e| panic!("{at}: {e}"));
            }
        }
        check_signatures_slot(&at, block, last_config, &bundle);
        if number > 0 {
            let verifier = BlockVerifier::new(Arc::clone(&bundle));
            verifier
                .verify(block, number, Some(&previous))
                .unwrap_or_else(|e| panic!("{at}: {e}"));
            if is_config_block(block) {
                bundle = Arc::new(Bundle::from_config_block(block).unwrap_or_else(|e| panic!("{at}: {e}")));
            }
        }
    }
}

fn check_signatures_slot(at: &str, block: &common::Block, last_config: u64, bundle: &Bundle) {
    let metadata = common::Metadata::decode(Network::metadata(block, Slot::Signatures)).expect("metadata");
    let about = common::OrdererBlockMetadata::decode(metadata.value.clone()).expect("OrdererBlockMetadata");
    let index = about.last_config.map_or(0, |c| c.index);
    assert_eq!(index, last_config, "{at}: last_config in SIGNATURES");
    let slot = common::Metadata::decode(Network::metadata(block, Slot::LastConfig)).expect("metadata");
    let named = common::LastConfig::decode(slot.value).expect("LastConfig").index;
    assert_eq!(named, last_config, "{at}: LAST_CONFIG");

    let head = header(block);
    if head.number == 0 {
        assert!(
            metadata.signatures.is_empty(),
            "{at}: a genesis block carries no signature"
        );
        return;
    }
    assert!(!metadata.signatures.is_empty(), "{at} is not signed");
    for signature in &metadata.signatures {
        let by =
            common::SignatureHeader::decode(signature.signature_header.clone()).expect("a signature header");
        let signer = bundle
            .msps()
            .deserialize(&by.creator)
            .unwrap_or_else(|e| panic!("{at}: signer: {e}"));
        bundle
            .msps()
            .validate(&signer)
            .unwrap_or_else(|e| panic!("{at}: signer: {e}"));
        assert_eq!(signer.msp_id(), "OrdererMSP", "{at}: signer");
        let signed = [
            &metadata.value[..],
            &signature.signature_header[..],
            &block_header_bytes(head)[..],
        ]
        .concat();
        signer
            .verify(&signed, &signature.signature)
            .unwrap_or_else(|e| panic!("{at}: signature: {e}"));
        assert!(is_low_s(&signature.signature), "{at}: signature with high S");
    }
}

fn check_peer(host: &str, reference: &[common::Block], blocks: &[common::Block]) -> Chain {
    assert_eq!(
        blocks.len(),
        reference.len(),
        "{host} delivers another number of blocks than it says it has"
    );
    let mut chain = Chain {
        height: blocks.len() as u64,
        ..Chain::default()
    };
    for (block, ordered) in blocks.iter().zip(reference) {
        let number = header(block).number;
        let at = format!("block {number} of {host}");
        assert_eq!(block.header, ordered.header, "{at}: header");
        assert_eq!(block.data, ordered.data, "{at}: data");
        let filter = Network::metadata(block, Slot::TransactionsFilter);
        assert_eq!(
            filter.len(),
            data(block).len(),
            "{at}: one verdict for each transaction"
        );
        let commit_hash = Network::metadata(block, Slot::CommitHash);
        if number > 0 {
            let hash = common::Metadata::decode(commit_hash).expect("metadata").value;
            assert_eq!(hash.len(), 32, "{at}: commit hash");
            chain.commit_hash = hex::encode(hash);
        }
        for (entry, verdict) in data(block).iter().zip(filter) {
            chain.transactions.push(recorded(&at, number, entry, verdict));
        }
    }
    chain
}

fn recorded(at: &str, block: u64, entry: &Bytes, verdict: u8) -> Recorded {
    let code =
        TxValidationCode::try_from(i32::from(verdict)).unwrap_or_else(|_| panic!("{at}: verdict {verdict}"));
    assert_ne!(
        code,
        TxValidationCode::NotValidated,
        "{at} holds a transaction without verdict"
    );
    let envelope = common::Envelope::decode(entry.clone()).expect("an envelope");
    let Ok(opened) = open_envelope(&envelope) else {
        assert_ne!(code, TxValidationCode::Valid, "{at}: nonsense is judged valid");
        return Recorded {
            id: String::new(),
            block,
            code,
            chaincode: String::new(),
            function: String::new(),
            arguments: Vec::new(),
        };
    };
    let (chaincode, function, arguments) = call_of(&opened.payload.data).unwrap_or_default();
    Recorded {
        id: opened.channel_header.tx_id,
        block,
        code,
        chaincode,
        function,
        arguments,
    }
}

/// Chaincode and function that an endorsed transaction called, and its arguments.
fn call_of(data: &Bytes) -> Option<(String, String, Vec<Bytes>)> {
    let transaction = protos::Transaction::decode(data.clone()).ok()?;
    let action = protos::ChaincodeActionPayload::decode(transaction.actions.first()?.payload.clone()).ok()?;
    let proposal = protos::ChaincodeProposalPayload::decode(action.chaincode_proposal_payload).ok()?;
    let invocation = protos::ChaincodeInvocationSpec::decode(proposal.input).ok()?;
    let spec = invocation.chaincode_spec?;
    let mut args = spec.input?.args.into_iter();
    let function = args
        .next()
        .map(|a| String::from_utf8_lossy(&a).into_owned())
        .unwrap_or_default();
    Some((spec.chaincode_id?.name, function, args.collect()))
}

/// Transactions that the peers call valid must be so in every respect that the bytes alone tell.
fn check_transactions(channel: &str, blocks: &[common::Block], chain: &Chain) {
    let mut bundle = Bundle::from_config_block(&blocks[0]).expect("the genesis block is a configuration");
    let mut verdicts = chain.transactions.iter();
    let mut ids = BTreeSet::new();
    for block in blocks {
        let number = header(block).number;
        for entry in data(block) {
            let verdict = verdicts.next().expect("a verdict for each transaction");
            if verdict.code != TxValidationCode::Valid || number == 0 {
                continue;
            }
            let at = format!("transaction '{}' in block {number}", verdict.id);
            let envelope = common::Envelope::decode(entry.clone()).expect("an envelope");
            let opened = open_envelope(&envelope).unwrap_or_else(|e| panic!("{at}: {e}"));
            assert_eq!(opened.channel_header.channel_id, channel, "{at}: channel");
            let msps = bundle.msps();
            let creator = msps.deserialize(&opened.signature_header.creator);
            let creator = creator.unwrap_or_else(|e| panic!("{at}: creator: {e}"));
            creator
                .verify(&envelope.payload, &envelope.signature)
                .unwrap_or_else(|e| panic!("{at}: creator's signature: {e}"));
            assert!(
                is_low_s(&envelope.signature),
                "{at}: creator's signature has a high S"
            );
            if opened.channel_header.r#type == common::HeaderType::Config as i32 {
                assert!(
                    verdict.id.is_empty(),
                    "{at}: a configuration has no transaction id"
                );
                continue;
            }
            let expected = compute_tx_id(&opened.signature_header.nonce, &opened.signature_header.creator);
            assert_eq!(verdict.id, expected, "{at}: transaction id");
            assert!(ids.insert(verdict.id.clone()), "{at} is valid twice");
            check_endorsements(&at, &opened, msps);
        }
        if number > 0 && is_config_block(block) {
            bundle = Bundle::from_config_block(block).expect("a configuration");
        }
    }
}

fn check_endorsements(at: &str, opened: &selvedge_proto::OpenEnvelope, msps: &selvedge_msp::MspManager) {
    let transaction = protos::Transaction::decode(opened.payload.data.clone()).expect("a transaction");
    assert_eq!(transaction.actions.len(), 1, "{at}: actions");
    let action = &transaction.actions[0];
    let head = opened.payload.header.as_ref().expect("a header");
    assert_eq!(action.header, head.signature_header, "{at}: header of its action");
    let payload =
        protos::ChaincodeActionPayload::decode(action.payload.clone()).expect("ChaincodeActionPayload");
    let proposed = &payload.chaincode_proposal_payload;
    let stripped =
        protos::ChaincodeProposalPayload::decode(proposed.clone()).expect("ChaincodeProposalPayload");
    assert!(
        stripped.transient_map.is_empty(),
        "{at}: transient data are on the ledger"
    );
    let endorsed = payload.action.expect("ChaincodeEndorsedAction");
    let response = protos::ProposalResponsePayload::decode(endorsed.proposal_response_payload.clone())
        .expect("ProposalResponsePayload");
    let hash = proposal_hash(&head.channel_header, &head.signature_header, proposed);
    assert_eq!(response.proposal_hash, hash, "{at}: proposal hash");
    assert!(!endorsed.endorsements.is_empty(), "{at} is not endorsed");
    let mut endorsers = BTreeSet::new();
    for endorsement in &endorsed.endorsements {
        let endorser = msps
            .deserialize(&endorsement.endorser)
            .unwrap_or_else(|e| panic!("{at}: endorser: {e}"));
        let signed = [&endorsed.proposal_response_payload[..], &endorsement.endorser[..]].concat();
        endorser
            .verify(&signed, &endorsement.signature)
            .unwrap_or_else(|e| panic!("{at}: endorsement: {e}"));
        assert!(is_low_s(&endorsement.signature), "{at}: endorsement with high S");
        assert!(
            endorsers.insert(endorsement.endorser.clone()),
            "{at} is endorsed twice by the same peer"
        );
    }
}
