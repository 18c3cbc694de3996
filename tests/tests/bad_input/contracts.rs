//! Contracts that misbehave, contracts that are none, and callers that the contracts refuse.

use selvedge_sdk::{Gateway, Invocation};
use selvedge_system_tests::{CHANNEL, Cases, Network, ORG1_PEER, ORG2_PEER, json, probe};
use serde_json::{Value, json as value};
use tonic::Code;

use super::{BUYER, SUPPLIER, assert_rpc, refused_by_contract, then_alive};

pub(crate) async fn all(network: &Network, cases: &mut Cases) {
    cases
        .run(
            "contracts that loop, trap or take too much",
            then_alive(network, misbehaviour(network)),
        )
        .await;
    cases
        .run(
            "modules that are no contracts",
            then_alive(network, no_contracts(network)),
        )
        .await;
    cases
        .run("a contract says no", then_alive(network, refusals(network)))
        .await;
}

/// A contract that could not be run to its end: ABORTED (spec 04 §2.1), with the reason in the details.
async fn misbehaviour(network: &Network) {
    for (function, words) in [
        ("loop", "out of fuel"),
        ("trap", "unreachable"),
        ("deep", "stack"),
        ("widen", "bytes of memory"),
        ("out", "pointer"),
    ] {
        let call = Invocation::new(CHANNEL, "probe", function);
        let gateway = network.gateway(BUYER);
        let error = gateway
            .endorse(&gateway.propose(&call).unwrap())
            .await
            .expect_err(function);
        let text = "failed to endorse transaction, see attached details for more info";
        assert_rpc(function, &error, Code::Aborted, text, Some(words));
        if function == "loop" {
            // One long call is enough: Evaluate would ask the second peer as well.
            continue;
        }
        let error = gateway.evaluate(&call).await.expect_err(function);
        assert_rpc(
            function,
            &error,
            Code::Aborted,
            "failed to evaluate transaction",
            Some(words),
        );
    }
    // While one call loops, others are served.
    let looping = Invocation::new(CHANNEL, "probe", "loop");
    let gateway = network.gateway(BUYER);
    let looping = tokio::spawn(async move { gateway.endorse(&gateway.propose(&looping)?).await.map(drop) });
    network.still_works().await;
    assert!(looping.await.unwrap().is_err());
    let silent = Invocation::new(CHANNEL, "probe", "silent");
    refused_by_contract(&network.gateway(BUYER), &silent, 500, "contract gave no response").await;
    refused_by_contract(
        &network.gateway(SUPPLIER),
        &Invocation::new(CHANNEL, "probe", "fail"),
        500,
        "as told",
    )
    .await;
}

async fn no_contracts(network: &Network) {
    let file = network.scratch().join("module.wasm");
    for (what, module) in [
        ("no wasm", b"this is no module".to_vec()),
        ("nothing", Vec::new()),
        ("no contract", probe::not_a_contract()),
        ("a foreign import", probe::with_foreign_import()),
    ] {
        std::fs::write(&file, module).unwrap();
        let said = network
            .cli(&[
                "chaincode",
                "deploy",
                "--name",
                "broken",
                "--wasm",
                &file.to_string_lossy(),
            ])
            .await;
        let said = said.expect_err(what);
        assert!(
            said.contains("module.wasm") || said.contains("broken"),
            "{what}: {said}"
        );
        network.still_works().await;
    }
    let listed = network.cli(&["chaincode", "list"]).await.unwrap();
    assert!(!listed.contains("broken"), "{listed}");
}

fn rfq(function: &str, argument: impl ToString) -> Invocation {
    Invocation::new(CHANNEL, "rfq", function).arg(argument.to_string())
}

fn shipment(function: &str, argument: impl ToString) -> Invocation {
    Invocation::new(CHANNEL, "shipment", function).arg(argument.to_string())
}

async fn refusals(network: &Network) {
    let buyer = network.gateway(BUYER);
    let supplier = network.gateway(SUPPLIER);
    for (call, status, words) in [
        (rfq("offer", "{"), 400, ""),
        (rfq("offer", "[]"), 400, ""),
        (rfq("offer", r#"{"item":"x"}"#), 400, "offer.target is missing"),
        (rfq("offer", offer("bad-1", "a lot")), 400, "price"),
        (rfq("get", "rfq-404"), 404, "rfq-404"),
        (rfq("accept", "rfq-404"), 404, "rfq-404"),
        (shipment("summary", "S-404"), 404, "S-404"),
        (shipment("deliver", "S-404"), 404, "S-404"),
        (shipment("create", r#"{"goods":"x"}"#), 400, "consignee"),
        (shipment("recordReading", "{\"shipment\":\"S-404\"}"), 403, ""),
        (Invocation::new(CHANNEL, "rfq", "steal").arg("1"), 404, "steal"),
    ] {
        let (status, words) = expected(status, words);
        refused_by_contract_any(&buyer, &call, &status, words).await;
    }

    let id = format!("turn-{:08x}", rand::random::<u32>());
    let done = buyer
        .submit_and_wait(&rfq("offer", offer(&id, "20")))
        .await
        .unwrap();
    network.everywhere(done.block_number).await;
    refused_by_contract(&buyer, &rfq("accept", &id), 409, "turn").await;
    let counter = value!({ "id": id, "changes": { "fields": [{ "field": "price", "newValue": "10" }] } });
    refused_by_contract(&buyer, &rfq("counterOffer", &counter), 409, "turn").await;
    let done = supplier.submit_and_wait(&rfq("reject", &id)).await.unwrap();
    network.everywhere(done.block_number).await;
    refused_by_contract(&supplier, &rfq("accept", &id), 409, "rejected").await;
    refused_by_contract(&supplier, &shipment("createFromRfq", &id), 409, "").await;
    for host in [ORG1_PEER, ORG2_PEER] {
        let rfq = network
            .gateway_at(BUYER, host)
            .evaluate(&rfq("get", &id))
            .await
            .unwrap();
        assert_eq!(json(&rfq)["state"], "rejected");
    }
}

fn offer(id: &str, price: &str) -> Value {
    value!({ "id": id, "item": "steel", "price": price, "quantity": "1", "currency": "USD", "target": "Org2MSP" })
}

/// Some refusals may be told by either of two checks; the first that applies counts.
fn expected(status: i32, words: &'static str) -> (Vec<i32>, &'static str) {
    match status {
        404 if words == "steal" => (vec![400, 404], words),
        403 => (vec![400, 403, 404], words),
        other => (vec![other], words),
    }
}

async fn refused_by_contract_any(gateway: &Gateway, call: &Invocation, statuses: &[i32], words: &str) {
    let error = gateway.evaluate(call).await.expect_err("the contract refuses");
    let (status, _) = error
        .contract_refusal()
        .unwrap_or_else(|| panic!("{call:?}: {error}"));
    assert!(
        statuses.contains(&status),
        "{call:?}: one of {statuses:?} is expected: {error}"
    );
    refused_by_contract(gateway, call, status, words).await;
}
