//! What an edge gateway tells of itself.

use std::sync::Arc;

use selvedge_operations::{FailedCheck, Operations, Sample};

use crate::buffer::{Buffer, DropReason, State, Totals};
use crate::uplink::Uplink;

/// The open states by their names in the REST interface.
const OPEN_STATES: [(State, &str); 6] = [
    (State::PendingEndorsement, "pending-endorsement"),
    (State::EndorsementError, "endorsement-error"),
    (State::PendingOrdering, "pending-ordering"),
    (State::OrderingError, "ordering-error"),
    (State::PendingCommit, "pending-commit"),
    (State::CommitError, "commit-error"),
];

/// A count since the start, by its name.
type Count = (&'static str, &'static str, fn(&Totals) -> u64);

const COUNTS: [Count; 6] = [
    (
        "selvedge_edge_flash_bytes_written",
        "Bytes written to the buffer's files since the start.",
        |t| t.written_bytes,
    ),
    (
        "selvedge_edge_flash_syncs",
        "How often the buffer's files were made durable since the start.",
        |t| t.syncs,
    ),
    (
        "selvedge_edge_accepted_requests",
        "Requests taken since the start.",
        |t| t.accepted,
    ),
    (
        "selvedge_edge_committed_requests",
        "Requests that became valid on the ledger since the start.",
        |t| t.committed,
    ),
    (
        "selvedge_edge_refused_requests",
        "Requests refused for good since the start.",
        |t| t.refused,
    ),
    (
        "selvedge_edge_repeated_attempts",
        "Attempts that failed and were repeated since the start.",
        |t| t.retried,
    ),
];

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and bytes of a buffer stay far below 2^53"
)]
fn number(value: u64) -> f64 {
    value as f64
}

fn open_by_state(totals: &Totals) -> Vec<Sample> {
    let open = |state| totals.open.get(state).copied().unwrap_or(0);
    OPEN_STATES
        .iter()
        .map(|(state, name)| {
            let count = u64::try_from(open(state)).unwrap_or(u64::MAX);
            (vec![(*name).to_owned()], number(count))
        })
        .collect()
}

/// The health and metrics of a gateway. No peer in reach is not ill: the buffer is there for that.
pub(crate) fn of(buffer: &Arc<Buffer>, uplink: &Arc<Uplink>) -> Operations {
    let operations = Operations::default();
    let metrics = &operations.metrics;
    let own = Arc::clone(buffer);
    metrics.gauge(
        "selvedge_edge_open_requests",
        "Requests in the buffer by where they stand.",
        &["state"],
        move || open_by_state(&own.totals()),
    );
    let own = Arc::clone(buffer);
    metrics.gauge(
        "selvedge_edge_buffer_bytes",
        "Bytes of open requests.",
        &[],
        move || vec![(Vec::new(), number(own.totals().open_bytes))],
    );
    for (name, help, read) in COUNTS {
        let own = Arc::clone(buffer);
        metrics.counter(name, help, &[], move || {
            vec![(Vec::new(), number(read(&own.totals())))]
        });
    }
    let own = Arc::clone(buffer);
    metrics.gauge(
        "selvedge_edge_oldest_request_seconds",
        "For how long the oldest open request has waited.",
        &[],
        move || vec![(Vec::new(), number(own.totals().oldest_age()))],
    );
    let own = Arc::clone(buffer);
    metrics.gauge(
        "selvedge_edge_untold_drops",
        "Dropped requests of which the ledger has not been told yet.",
        &[],
        move || vec![(Vec::new(), number(own.totals().untold_drops))],
    );
    let own = Arc::clone(buffer);
    metrics.counter(
        "selvedge_edge_dropped_requests",
        "Requests given up since the start.",
        &["reason"],
        move || {
            let totals = own.totals();
            let of = |reason| totals.dropped.get(&reason).copied().unwrap_or(0);
            DropReason::ALL
                .into_iter()
                .map(|reason| (vec![reason.name().to_owned()], number(of(reason))))
                .collect()
        },
    );
    let own = Arc::clone(buffer);
    metrics.counter(
        "selvedge_edge_repeated_attempts_by_state",
        "Attempts that failed and were repeated since the start, by the state in which they failed.",
        &["state"],
        move || {
            let totals = own.totals();
            let of = |state| totals.retried_in.get(state).copied().unwrap_or(0);
            OPEN_STATES
                .iter()
                .map(|(state, name)| (vec![(*name).to_owned()], number(of(state))))
                .collect()
        },
    );
    let own = Arc::clone(uplink);
    metrics.counter(
        "selvedge_edge_offline_seconds",
        "Seconds without network since the start.",
        &[],
        move || vec![(Vec::new(), number(own.view().offline_seconds))],
    );
    let own = Arc::clone(uplink);
    metrics.gauge(
        "selvedge_edge_uplink_connected",
        "1 while the last attempt reached the network, 0 otherwise.",
        &[],
        move || vec![(Vec::new(), if own.view().connected { 1.0 } else { 0.0 })],
    );

    let own = Arc::clone(buffer);
    operations.health.add(move || {
        let damage = own.damage().into_iter().map(|what| FailedCheck {
            component: "buffer".to_owned(),
            reason: format!("damage was found when it was opened: {what}"),
        });
        damage.collect()
    });
    operations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_names_of_the_rest_interface() {
        for (state, name) in OPEN_STATES {
            assert_eq!(serde_json::to_value(state).unwrap(), name);
            assert!(!state.is_final());
        }
    }

    #[test]
    fn states_without_requests_are_nought() {
        let mut totals = Totals::default();
        totals.open.insert(State::OrderingError, 3);
        let samples = open_by_state(&totals);
        assert_eq!(samples.len(), OPEN_STATES.len());
        let sum: f64 = samples.iter().map(|(_, v)| v).sum();
        assert!((sum - 3.0).abs() < f64::EPSILON);
        assert!(samples.contains(&(vec!["ordering-error".to_owned()], 3.0)));
    }
}
