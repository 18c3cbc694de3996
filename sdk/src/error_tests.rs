//! What errors say, and what may be done about them.

use super::*;

fn status(code: Code, message: &str, details: &[(&str, &str, &str)]) -> tonic::Status {
    let rpc = google::rpc::Status {
        code: code as i32,
        message: message.to_owned(),
        details: details
            .iter()
            .map(|(address, msp_id, message)| prost_types::Any {
                // The clients look at no type; neither do we.
                type_url: "anything".to_owned(),
                value: gateway::ErrorDetail {
                    address: (*address).to_owned(),
                    msp_id: (*msp_id).to_owned(),
                    message: (*message).to_owned(),
                }
                .encode_to_vec(),
            })
            .collect(),
    };
    tonic::Status::with_details(code, message, rpc.encode_to_vec().into())
}

fn rpc(call: Call, code: Code, message: &str, details: &[(&str, &str, &str)]) -> Error {
    Error::rpc(call, Some("tx1"), &status(code, message, details))
}

#[test]
fn details_are_read_from_the_trailer() {
    let error = RpcError::from_status(
        Call::Endorse,
        Some("tx1"),
        &status(Code::Aborted, "failed", &[("p0:7051", "Org1MSP", "away")]),
    );
    assert_eq!(
        error.details,
        [ErrorDetail {
            address: "p0:7051".into(),
            msp_id: "Org1MSP".into(),
            message: "away".into()
        }]
    );
    assert_eq!(
        error.to_string(),
        "Endorse failed with Aborted: failed (transaction tx1); p0:7051 (Org1MSP): away"
    );
}

#[test]
fn broken_details_leave_code_and_message() {
    let raw = tonic::Status::with_details(Code::Aborted, "failed", Bytes::from_static(&[0xff, 0xff]));
    let error = RpcError::from_status(Call::Submit, None, &raw);
    assert_eq!((error.code, error.details.len()), (Code::Aborted, 0));
}

#[test]
fn retry_follows_the_cause() {
    let refused = [(
        "p0:7051",
        "Org1MSP",
        "chaincode response 404, shipment S is unknown",
    )];
    let away = [("p0:7051", "Org1MSP", "connection refused")];
    let twice = [(
        "p0:7051",
        "Org1MSP",
        "duplicate transaction found [tx1]. Creator [ab]",
    )];
    let no_state = [(
        "p0:7051",
        "Org1MSP",
        "chaincode response 500, GET_STATE failed: transaction ID: ab: connection refused",
    )];
    let too_large = [(
        "o0:7050",
        "OrdererMSP",
        "received unsuccessful response from orderer: status=BAD_REQUEST, info=message payload is 9 bytes and exceeds \
         maximum allowed 8 bytes",
    )];
    let cases = [
        (rpc(Call::Endorse, Code::Aborted, "x", &refused), Retry::Never),
        (
            rpc(Call::Endorse, Code::Aborted, "x", &away),
            Retry::SameTransaction,
        ),
        (rpc(Call::Endorse, Code::Aborted, "x", &twice), Retry::LookUp),
        // The first endorser accepted: one that refuses may be behind.
        (
            rpc(
                Call::Endorse,
                Code::Aborted,
                "failed to collect enough transaction endorsements, see attached details for more info",
                &refused,
            ),
            Retry::SameTransaction,
        ),
        // One refuses, and nobody knows what the other would say.
        (
            rpc(
                Call::Endorse,
                Code::Aborted,
                "failed to endorse transaction, see attached details for more info",
                &[refused, away].concat(),
            ),
            Retry::SameTransaction,
        ),
        (
            rpc(
                Call::Endorse,
                Code::Aborted,
                "failed to endorse transaction, see attached details for more info",
                &[refused, refused].concat(),
            ),
            Retry::Never,
        ),
        (
            rpc(Call::Endorse, Code::Aborted, "x", &no_state),
            Retry::SameTransaction,
        ),
        (
            rpc(Call::Submit, Code::Unavailable, "no quorum", &too_large),
            Retry::Never,
        ),
        (
            rpc(
                Call::Submit,
                Code::Unavailable,
                "no quorum",
                &[too_large, away].concat(),
            ),
            Retry::SameTransaction,
        ),
        (
            rpc(Call::Endorse, Code::Unavailable, "x", &[]),
            Retry::SameTransaction,
        ),
        (rpc(Call::Endorse, Code::InvalidArgument, "x", &[]), Retry::Never),
        (rpc(Call::Submit, Code::Aborted, "BAD_REQUEST", &[]), Retry::Never),
        (
            rpc(Call::Submit, Code::DeadlineExceeded, "x", &[]),
            Retry::SameTransaction,
        ),
        (
            rpc(
                Call::Evaluate,
                Code::Unknown,
                "too many requests for Gateway",
                &[],
            ),
            Retry::SameTransaction,
        ),
        (
            rpc(Call::CommitStatus, Code::PermissionDenied, "x", &[]),
            Retry::Never,
        ),
    ];
    for (error, expected) in cases {
        assert_eq!(error.retry(), expected, "{error}");
    }
}

#[test]
fn commit_errors_say_whether_a_new_transaction_helps() {
    let error = |code| {
        Error::Commit(CommitError {
            transaction_id: "ab".into(),
            code,
            block_number: 7,
        })
    };
    let conflict = error(protos::TxValidationCode::MvccReadConflict);
    assert_eq!(conflict.retry(), Retry::NewTransaction);
    assert_eq!(
        conflict.to_string(),
        "Transaction ab failed to commit with status code 11 (MVCC_READ_CONFLICT)"
    );
    let policy = error(protos::TxValidationCode::EndorsementPolicyFailure);
    assert_eq!(policy.retry(), Retry::Never);
}

#[test]
fn the_words_of_the_contract_are_found() {
    let error = rpc(
        Call::Evaluate,
        Code::Unknown,
        "evaluate call to endorser returned error: chaincode response 409, not your turn, wait",
        &[],
    );
    assert_eq!(
        error.contract_refusal(),
        Some((409, "not your turn, wait".into()))
    );
    assert_eq!(contract_refusal("chaincode response x, y"), None);
}
