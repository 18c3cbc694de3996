//! The orders of transactions that stop a Fabric v3.1.5 peer for good get verdicts by the rules here, and the chain goes on.

use selvedge_proto::Bytes;
use selvedge_proto::protos::TxValidationCode as Code;

use crate::network::Chain;
use crate::transaction::Writes;

const POLICY: &str = "OR('Org1MSP.peer','Org2MSP.peer')";

/// After the block, the chain takes further ones, also after a restart.
fn goes_on(mut chain: Chain) {
    chain.reopen();
    let tx = chain.tx(Writes::new().put("cc", "later", b"1"));
    assert_eq!(chain.codes(&[&tx]), [Code::Valid]);
}

#[test]
fn a_delete_and_then_a_policy_on_the_same_key() {
    let chain = Chain::with_chaincode(2, POLICY);
    let put = chain.tx(Writes::new().put("cc", "k", b"v"));
    assert_eq!(chain.codes(&[&put]), [Code::Valid]);
    let delete = chain.tx(Writes::new().delete("cc", "k"));
    let policy = chain.tx(Writes::new().policy("cc", "k", "AND('Org1MSP.peer','Org2MSP.peer')"));
    // Metadata alone on a key that does not exist: no effect, but valid (spec 03 §5).
    assert_eq!(chain.codes(&[&delete, &policy]), [Code::Valid, Code::Valid]);
    assert_eq!(chain.value("cc", "k"), None);
    let again = chain
        .tx(Writes::new().put("cc", "k", b"w"))
        .endorsed_by(chain.network.peers(&[0]));
    assert_eq!(
        chain.codes(&[&again]),
        [Code::Valid],
        "the deleted key has no policy"
    );
    goes_on(chain);
}

#[test]
fn no_action_and_then_a_good_one() {
    let chain = Chain::with_chaincode(2, POLICY);
    let empty = chain.tx(Writes::new());
    let good = chain.tx(Writes::new().put("cc", "k", b"v"));
    assert_eq!(
        chain.commit_codes(vec![empty.envelope_of(vec![]), good.envelope()]),
        [Code::InvalidEndorserTransaction, Code::Valid]
    );
    assert_eq!(chain.value("cc", "k").unwrap().as_ref(), b"v");
    goes_on(chain);
}

#[test]
fn junk_data_and_then_a_good_one() {
    let chain = Chain::with_chaincode(2, POLICY);
    let junk = chain.tx(Writes::new());
    let good = chain.tx(Writes::new().put("cc", "k", b"v"));
    assert_eq!(
        chain.commit_codes(vec![
            junk.envelope_of_data(Bytes::from_static(&[0xff; 7])),
            good.envelope()
        ]),
        [Code::InvalidEndorserTransaction, Code::Valid]
    );
    let junk_results = {
        let mut tx = chain.tx(Writes::new());
        tx.results = Bytes::from_static(&[0xff; 7]);
        tx
    };
    let good = chain.tx(Writes::new().put("cc", "k", b"w"));
    assert_eq!(
        chain.codes(&[&junk_results, &good]),
        [Code::BadRwset, Code::Valid]
    );
    goes_on(chain);
}

/// Decodes, gets its code before its policies are asked, and writes the metadata of a key that a later one writes.
#[test]
fn a_replay_that_sets_a_policy_holds_nobody_up() {
    let chain = Chain::with_chaincode(2, POLICY);
    let policy = chain.tx(Writes::new().put("cc", "k", b"v").policy("cc", "k", POLICY));
    assert_eq!(chain.codes(&[&policy]), [Code::Valid]);
    let write = chain.tx(Writes::new().put("cc", "k", b"w"));
    assert_eq!(
        chain.codes(&[&policy, &write]),
        [Code::DuplicateTxid, Code::Valid]
    );
    goes_on(chain);
}
