//! Every approval and commit of a recorded Fabric channel is simulated again, on the state that it was endorsed on: the
//! results must be the recorded bytes.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use selvedge_proto::{common, msp, protos};

use super::{OnChannel, define};
use crate::chaincode::state::ChannelState;
use crate::chaincode::{Simulator, TxContext};
use crate::channel::PeerChannel;
use crate::definition::LIFECYCLE;
use crate::scc::Call;
use crate::test_network::{Org, TestPeer};

struct Recorded {
    args: Vec<Bytes>,
    msp_id: String,
    results: Bytes,
}

fn recorded(envelope: &Bytes) -> Option<Recorded> {
    let envelope = common::Envelope::decode(envelope.clone()).ok()?;
    let open = selvedge_proto::open_envelope(&envelope).ok()?;
    let transaction = protos::Transaction::decode(open.payload.data).ok()?;
    let action = protos::ChaincodeActionPayload::decode(transaction.actions.first()?.payload.clone()).ok()?;
    let payload = protos::ChaincodeProposalPayload::decode(action.chaincode_proposal_payload).ok()?;
    let spec = protos::ChaincodeInvocationSpec::decode(payload.input)
        .ok()?
        .chaincode_spec?;
    let response = protos::ProposalResponsePayload::decode(action.action?.proposal_response_payload).ok()?;
    let result = protos::ChaincodeAction::decode(response.extension).ok()?;
    let creator = msp::SerializedIdentity::decode(open.signature_header.creator).ok()?;
    (result.chaincode_id?.name == LIFECYCLE && result.response?.status == 200).then_some(Recorded {
        args: spec.input?.args,
        msp_id: creator.mspid,
        results: result.results,
    })
}

#[test]
fn a_recorded_lifecycle_is_simulated_to_the_same_bytes() {
    let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/A/blocks");
    let block = |number: u64| {
        let bytes = std::fs::read(blocks.join(format!("{number:03}.block"))).unwrap();
        common::Block::decode(Bytes::from(bytes)).unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let channel = PeerChannel::create(&dir.path().join("golden"), block(0)).unwrap();
    let org = Org::new("AnyMSP", "any");
    let peer = TestPeer::new(&org);
    let endorser = peer.endorser(&Default::default());
    let client = org.client("client", &[]);
    let mut compared = 0;
    for number in 1..96 {
        let next = block(number);
        for envelope in &next.data.as_ref().unwrap().data {
            let Some(tx) = recorded(envelope) else { continue };
            assert_eq!(
                simulate(&channel, &peer, endorser.runtime(), &client, &tx),
                tx.results,
                "block {number}"
            );
            compared += 1;
        }
        channel.process_block(next).unwrap();
    }
    assert!(compared >= 15, "{compared}");
}

fn simulate(
    channel: &Arc<PeerChannel>,
    peer: &TestPeer,
    runtime: &crate::chaincode::ChaincodeRuntime,
    client: &selvedge_msp::SigningIdentity,
    tx: &Recorded,
) -> Bytes {
    let context = TxContext {
        channel_id: channel.id().to_owned(),
        tx_id: String::new(),
        timestamp: (0, 0),
        creator: client.creator().clone(),
        identity: Arc::new(client.identity().clone()),
        transient: Default::default(),
        proposal_bytes: Bytes::new(),
        signature: Bytes::new(),
    };
    let bundle = channel.bundle();
    let simulator = Arc::new(Mutex::new(Simulator::new(Box::new(
        ChannelState::latest(channel).unwrap(),
    ))));
    let call = Call {
        context: peer,
        runtime,
        tx: &context,
        channel: Some((channel, &bundle)),
        args: &tx.args,
        simulator: Some(&simulator),
    };
    let on = OnChannel {
        channel,
        bundle: &bundle,
        simulator: &simulator,
        msp_id: &tx.msp_id,
        call: &call,
    };
    let run = match tx.args[0].as_ref() {
        b"ApproveChaincodeDefinitionForMyOrg" => define::approve,
        b"CommitChaincodeDefinition" => define::commit,
        other => panic!("{}", String::from_utf8_lossy(other)),
    };
    run(&on).unwrap_or_else(|e| panic!("{e:?}"));
    Bytes::from(simulator.lock().results().public.encode_to_vec())
}
