//! What an orderer measures, under Fabric's names.

use std::sync::Arc;
use std::time::Instant;

use selvedge_operations::{Counter, Durations, Metrics};
use selvedge_proto::common::{self, HeaderType, Status};

use crate::filter::{Kind, Refusal};

/// Stands for what a submitter wrote that is no known type.
const UNKNOWN: &str = "unknown";

/// The node's counters and durations; gauges are read when they are asked for.
#[derive(Debug)]
pub(crate) struct OrdererMetrics {
    validate: Durations,
    enqueue: Durations,
    processed: Counter,
    normal_proposals: Counter,
    config_proposals: Counter,
    proposal_failures: Counter,
    /// Times that another node came to lead.
    pub(crate) leader_changes: Counter,
    /// From the first transaction of a batch until it is cut.
    pub(crate) block_fill: Durations,
    pub(crate) streams_opened: Counter,
    pub(crate) streams_closed: Counter,
    pub(crate) requests_received: Counter,
    pub(crate) requests_completed: Counter,
    pub(crate) blocks_sent: Counter,
}

impl Default for OrdererMetrics {
    fn default() -> Self {
        let channel = ["channel"];
        let message = ["channel", "type", "status"];
        let request = ["channel", "filtered", "data_type"];
        Self {
            validate: Durations::new(
                "broadcast_validate_duration",
                "Seconds to check an envelope.",
                &message,
            ),
            enqueue: Durations::new(
                "broadcast_enqueue_duration",
                "Seconds from the check of an envelope until a majority has it on disk.",
                &message,
            ),
            processed: Counter::new("broadcast_processed_count", "Envelopes answered.", &message),
            normal_proposals: Counter::new(
                "consensus_etcdraft_normal_proposals_received",
                "Transactions taken for ordering.",
                &channel,
            ),
            config_proposals: Counter::new(
                "consensus_etcdraft_config_proposals_received",
                "Config updates taken for ordering.",
                &channel,
            ),
            proposal_failures: Counter::new(
                "consensus_etcdraft_proposal_failures",
                "Transactions and config updates taken for ordering of which it is not known that they are ordered.",
                &channel,
            ),
            leader_changes: Counter::new(
                "consensus_etcdraft_leader_changes",
                "Times that another node came to lead, as seen by this one.",
                &channel,
            ),
            block_fill: Durations::new(
                "blockcutter_block_fill_duration",
                "Seconds from the first transaction of a batch until it is cut.",
                &channel,
            ),
            streams_opened: Counter::new("deliver_streams_opened", "Deliver streams opened.", &[]),
            streams_closed: Counter::new("deliver_streams_closed", "Deliver streams ended.", &[]),
            requests_received: Counter::new(
                "deliver_requests_received",
                "Deliver requests that were let in.",
                &request,
            ),
            requests_completed: Counter::new(
                "deliver_requests_completed",
                "Deliver requests that have ended, by whether all that was asked for was sent.",
                &["channel", "filtered", "data_type", "success"],
            ),
            blocks_sent: Counter::new("deliver_blocks_sent", "Blocks sent by Deliver.", &request),
        }
    }
}

impl OrdererMetrics {
    pub(crate) fn register(&self, metrics: &Metrics) {
        for durations in [&self.validate, &self.enqueue, &self.block_fill] {
            metrics.register(durations);
        }
        for counter in [
            &self.processed,
            &self.normal_proposals,
            &self.config_proposals,
            &self.proposal_failures,
            &self.leader_changes,
            &self.streams_opened,
            &self.streams_closed,
            &self.requests_received,
            &self.requests_completed,
            &self.blocks_sent,
        ] {
            metrics.register(counter);
        }
    }
}

fn status<T>(outcome: &Result<T, Refusal>) -> &'static str {
    outcome
        .as_ref()
        .map_or_else(|refusal| refusal.status, |_| Status::Success)
        .as_str_name()
}

/// One envelope on its way through Broadcast.
pub(crate) struct Course {
    metrics: Arc<OrdererMetrics>,
    channel: String,
    kind: &'static str,
    since: Instant,
    taken: bool,
}

impl Course {
    /// Begins with an envelope as it came, if it could be read. `serves` tells the channels of this node: other names
    /// are the submitters' and without end.
    pub(crate) fn begin(
        metrics: &Arc<OrdererMetrics>,
        envelope: Option<&common::Envelope>,
        serves: impl Fn(&str) -> bool,
    ) -> Self {
        let header = envelope.and_then(|e| selvedge_proto::channel_header(e).ok());
        let kind = header.as_ref().and_then(|h| HeaderType::try_from(h.r#type).ok());
        Self {
            metrics: Arc::clone(metrics),
            kind: kind.map_or(UNKNOWN, |k| k.as_str_name()),
            channel: header
                .map(|h| h.channel_id)
                .filter(|id| serves(id))
                .unwrap_or_default(),
            since: Instant::now(),
            taken: false,
        }
    }

    /// The envelope was checked.
    pub(crate) fn checked(&mut self, outcome: Result<Kind, &Refusal>) {
        let status = outcome.map_or_else(|r| r.status, |_| Status::Success);
        let labels = [self.channel.as_str(), self.kind, status.as_str_name()];
        self.metrics.validate.observe(&labels, self.since.elapsed());
        if let Ok(kind) = outcome {
            self.taken = true;
            match kind {
                Kind::Normal => self.metrics.normal_proposals.count(&[&self.channel]),
                Kind::ConfigUpdate => self.metrics.config_proposals.count(&[&self.channel]),
            }
        }
        self.since = Instant::now();
    }

    /// The submitter is answered.
    pub(crate) fn answered(self, outcome: &Result<(), Refusal>) {
        let labels = [self.channel.as_str(), self.kind, status(outcome)];
        if self.taken {
            self.metrics.enqueue.observe(&labels, self.since.elapsed());
            if outcome
                .as_ref()
                .is_err_and(|r| r.status == Status::ServiceUnavailable)
            {
                self.metrics.proposal_failures.count(&[&self.channel]);
            }
        }
        self.metrics.processed.count(&labels);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn envelope(channel: &str, kind: HeaderType) -> common::Envelope {
        let header = common::ChannelHeader {
            channel_id: channel.into(),
            r#type: kind as i32,
            ..Default::default()
        };
        let payload = common::Payload {
            header: Some(common::Header {
                channel_header: header.encode_to_vec().into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        common::Envelope {
            payload: payload.encode_to_vec().into(),
            ..Default::default()
        }
    }

    fn travel(
        metrics: &Arc<OrdererMetrics>,
        envelope: Option<&common::Envelope>,
        check: Result<Kind, Refusal>,
        outcome: Result<(), Refusal>,
    ) {
        let mut course = Course::begin(metrics, envelope, |id| id == "trade");
        course.checked(check.as_ref().map(|k| *k));
        course.answered(&outcome);
    }

    #[test]
    fn envelopes_are_counted_by_channel_type_and_status() {
        let metrics = Arc::new(OrdererMetrics::default());
        let normal = envelope("trade", HeaderType::EndorserTransaction);
        let update = envelope("trade", HeaderType::ConfigUpdate);
        let elsewhere = envelope("made up", HeaderType::EndorserTransaction);
        let late = || Err(Refusal::unavailable("no leader"));
        let bad = || Refusal::bad("no");
        travel(&metrics, Some(&normal), Ok(Kind::Normal), Ok(()));
        travel(&metrics, Some(&normal), Ok(Kind::Normal), late());
        travel(&metrics, Some(&update), Ok(Kind::ConfigUpdate), Ok(()));
        travel(&metrics, Some(&elsewhere), Err(bad()), Err(bad()));
        travel(&metrics, None, Err(bad()), Err(bad()));

        let tx = "ENDORSER_TRANSACTION";
        for (labels, count) in [
            (["trade", tx, "SUCCESS"], 1),
            (["trade", tx, "SERVICE_UNAVAILABLE"], 1),
            (["trade", "CONFIG_UPDATE", "SUCCESS"], 1),
            (["", tx, "BAD_REQUEST"], 1),
            (["", UNKNOWN, "BAD_REQUEST"], 1),
        ] {
            assert_eq!(metrics.processed.value(&labels), count, "{labels:?}");
        }
        assert_eq!(metrics.validate.taken(&["trade", tx, "SUCCESS"]), 2);
        assert_eq!(metrics.enqueue.taken(&["trade", tx, "SUCCESS"]), 1);
        assert_eq!(
            metrics.enqueue.taken(&["", tx, "BAD_REQUEST"]),
            0,
            "was never queued"
        );
        assert_eq!(metrics.normal_proposals.value(&["trade"]), 2);
        assert_eq!(metrics.config_proposals.value(&["trade"]), 1);
        assert_eq!(metrics.proposal_failures.value(&["trade"]), 1);
    }
}
