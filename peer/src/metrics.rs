//! What a peer measures, under Fabric's names. Each part keeps its own; the operations endpoint shows them all.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use selvedge_ledger::CommitTimes;
use selvedge_operations::{Counter, Durations, Metrics};
use selvedge_proto::common::HeaderType;
use selvedge_proto::protos::TxValidationCode;

/// Stands for names that nobody has committed: they are the clients' and without end.
const UNKNOWN: &str = "unknown";
/// Chaincodes of one channel that transactions are counted by; those that come later are counted as unknown.
const MAX_CHAINCODES: usize = 1024;

/// What a peer measures of its endorsing.
#[derive(Debug)]
pub struct ExecutionMetrics {
    /// A proposal from its arrival at the endorser to the answer; by channel, chaincode and success.
    pub proposals: Durations,
    /// One call of a contract in the wasm runtime, with the calls that it makes itself; by chaincode.
    pub executions: Durations,
    /// Calls of a contract that ran too long; by chaincode.
    pub timeouts: Counter,
    pub(crate) received: Counter,
    pub(crate) successful: Counter,
    pub(crate) invalid: Counter,
    pub(crate) not_allowed: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) not_simulated: Counter,
    pub(crate) not_endorsed: Counter,
}

impl Default for ExecutionMetrics {
    fn default() -> Self {
        let place = ["channel", "chaincode"];
        Self {
            proposals: Durations::new(
                "endorser_proposal_duration",
                "Seconds from a proposal's arrival at the endorser to the answer.",
                &["channel", "chaincode", "success"],
            ),
            executions: Durations::new(
                "chaincode_execute_duration",
                "Seconds that one call of a contract took in the wasm runtime.",
                &["chaincode"],
            ),
            timeouts: Counter::new(
                "chaincode_execute_timeouts",
                "Calls of a contract that were stopped because they ran too long.",
                &["chaincode"],
            ),
            received: Counter::new("endorser_proposals_received", "Proposals received.", &[]),
            successful: Counter::new("endorser_successful_proposals", "Proposals endorsed.", &[]),
            invalid: Counter::new(
                "endorser_proposal_validation_failures",
                "Proposals that are malformed, too old, or not signed by who they claim.",
                &[],
            ),
            not_allowed: Counter::new(
                "endorser_proposal_acl_failures",
                "Proposals whose creator may not propose on the channel.",
                &place,
            ),
            duplicates: Counter::new(
                "endorser_duplicate_transaction_failures",
                "Proposals whose transaction id stands on the chain already.",
                &place,
            ),
            not_simulated: Counter::new(
                "endorser_proposal_simulation_failures",
                "Proposals that could not be executed.",
                &place,
            ),
            not_endorsed: Counter::new(
                "endorser_endorsement_failures",
                "Proposals that were executed but not endorsed, for the chaincode said no.",
                &["channel", "chaincode", "chaincodeerror"],
            ),
        }
    }
}

impl ExecutionMetrics {
    pub(crate) fn register(&self, metrics: &Metrics) {
        metrics.register(&self.proposals);
        metrics.register(&self.executions);
        metrics.register(&self.timeouts);
        for counter in [
            &self.received,
            &self.successful,
            &self.invalid,
            &self.not_allowed,
            &self.duplicates,
            &self.not_simulated,
            &self.not_endorsed,
        ] {
            metrics.register(counter);
        }
    }
}

/// What a peer measures of its committing; one for all channels.
#[derive(Debug)]
pub(crate) struct LedgerMetrics {
    processing: Durations,
    block_storage: Durations,
    state: Durations,
    transactions: Counter,
    /// Channel and chaincode of transactions that were valid: only these names are told apart.
    committed: Mutex<BTreeSet<(String, String)>>,
}

impl Default for LedgerMetrics {
    fn default() -> Self {
        Self {
            processing: Durations::new(
                "ledger_block_processing_time",
                "Seconds to judge and commit a block.",
                &["channel"],
            ),
            block_storage: Durations::new(
                "ledger_blockstorage_and_pvtdata_commit_time",
                "Seconds to make a block and its private data durable.",
                &["channel"],
            ),
            state: Durations::new(
                "ledger_statedb_commit_time",
                "Seconds to write the changes of a block to the state database.",
                &["channel"],
            ),
            transactions: Counter::new(
                "ledger_transaction_count",
                "Transactions committed, valid or not.",
                &["channel", "transaction_type", "chaincode", "validation_code"],
            ),
            committed: Mutex::default(),
        }
    }
}

impl LedgerMetrics {
    pub(crate) fn register(&self, metrics: &Metrics) {
        metrics.register(&self.processing);
        metrics.register(&self.block_storage);
        metrics.register(&self.state);
        metrics.register(&self.transactions);
    }

    /// Takes the times of one block.
    pub(crate) fn block(&self, channel: &str, processing: Duration, commit: CommitTimes) {
        self.processing.observe(&[channel], processing);
        self.block_storage.observe(&[channel], commit.block_storage);
        self.state.observe(&[channel], commit.state);
    }

    /// Counts one transaction. `chaincode` is what its sender wrote, if it could be read.
    pub(crate) fn transaction(
        &self,
        channel: &str,
        header_type: i32,
        chaincode: Option<&str>,
        code: TxValidationCode,
    ) {
        let kind = HeaderType::try_from(header_type).map_or(UNKNOWN, |t| t.as_str_name());
        let chaincode = chaincode
            .filter(|name| self.is_committed(channel, name, code == TxValidationCode::Valid))
            .unwrap_or(UNKNOWN);
        self.transactions
            .count(&[channel, kind, chaincode, code.as_str_name()]);
    }

    fn is_committed(&self, channel: &str, chaincode: &str, valid: bool) -> bool {
        let name = (channel.to_owned(), chaincode.to_owned());
        let mut committed = self.committed.lock();
        committed.contains(&name) || (valid && committed.len() < MAX_CHAINCODES && committed.insert(name))
    }
}

/// What a peer measures of its Deliver services.
#[derive(Debug, Clone)]
pub(crate) struct DeliverMetrics {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) received: Counter,
    pub(crate) completed: Counter,
    pub(crate) blocks: Counter,
}

impl Default for DeliverMetrics {
    fn default() -> Self {
        let kind = ["channel", "filtered", "data_type"];
        Self {
            opened: Counter::new("deliver_streams_opened", "Deliver streams opened.", &[]),
            closed: Counter::new("deliver_streams_closed", "Deliver streams ended.", &[]),
            received: Counter::new("deliver_requests_received", "Deliver requests received.", &kind),
            completed: Counter::new(
                "deliver_requests_completed",
                "Deliver requests that have ended, by whether all that was asked for was sent.",
                &["channel", "filtered", "data_type", "success"],
            ),
            blocks: Counter::new("deliver_blocks_sent", "Blocks sent by Deliver.", &kind),
        }
    }
}

impl DeliverMetrics {
    pub(crate) fn register(&self, metrics: &Metrics) {
        for counter in [
            &self.opened,
            &self.closed,
            &self.received,
            &self.completed,
            &self.blocks,
        ] {
            metrics.register(counter);
        }
    }
}

/// A request that is being served. It has ended when this is dropped: clients mostly leave without a word.
pub(crate) struct DeliverRequest<'a> {
    metrics: &'a DeliverMetrics,
    channel: String,
    kind: [&'static str; 2],
    pub(crate) success: bool,
}

impl DeliverMetrics {
    /// Counts a request on a channel of this peer. `kind` is `filtered` and `data_type`.
    pub(crate) fn begin(&self, channel: &str, kind: [&'static str; 2]) -> DeliverRequest<'_> {
        self.received.count(&[channel, kind[0], kind[1]]);
        DeliverRequest {
            metrics: self,
            channel: channel.to_owned(),
            kind,
            success: false,
        }
    }
}

impl Drop for DeliverRequest<'_> {
    fn drop(&mut self) {
        let success = if self.success { "true" } else { "false" };
        let labels = [self.channel.as_str(), self.kind[0], self.kind[1], success];
        self.metrics.completed.count(&labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_are_dropped_have_ended_without_success() {
        let metrics = DeliverMetrics::default();
        let kind = ["true", "filtered_block"];
        drop(metrics.begin("trade", kind));
        metrics.begin("trade", kind).success = true;
        let ended = |success| metrics.completed.value(&["trade", kind[0], kind[1], success]);
        assert_eq!((ended("false"), ended("true")), (1, 1));
        assert_eq!(metrics.received.value(&["trade", kind[0], kind[1]]), 2);
    }

    #[test]
    fn made_up_chaincode_names_are_not_told_apart() {
        let ledger = LedgerMetrics::default();
        let metrics = Metrics::new();
        ledger.register(&metrics);
        let endorser = HeaderType::EndorserTransaction as i32;
        let (valid, failed) = (
            TxValidationCode::Valid,
            TxValidationCode::EndorsementPolicyFailure,
        );
        ledger.transaction("trade", endorser, Some("made up"), failed);
        ledger.transaction("trade", endorser, Some("rfq"), valid);
        ledger.transaction("trade", endorser, Some("rfq"), failed);
        ledger.transaction("other", endorser, Some("rfq"), failed);
        ledger.transaction("trade", HeaderType::Config as i32, None, valid);
        ledger.transaction("trade", 99, None, TxValidationCode::UnknownTxType);
        let text = metrics.text();
        let count = |chaincode: &str, channel: &str, kind: &str, code: &str| {
            let line = format!(
                "ledger_transaction_count{{chaincode=\"{chaincode}\",channel=\"{channel}\",\
                 transaction_type=\"{kind}\",validation_code=\"{code}\"}} 1"
            );
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        };
        let refused = "ENDORSEMENT_POLICY_FAILURE";
        count("unknown", "trade", "ENDORSER_TRANSACTION", refused);
        count("rfq", "trade", "ENDORSER_TRANSACTION", "VALID");
        count("rfq", "trade", "ENDORSER_TRANSACTION", refused);
        count("unknown", "other", "ENDORSER_TRANSACTION", refused);
        count("unknown", "trade", "CONFIG", "VALID");
        count("unknown", "trade", "unknown", "UNKNOWN_TX_TYPE");
        assert!(!text.contains("made up"));
    }
}
