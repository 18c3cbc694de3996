//! Broadcast: envelopes in, one answer each, in order (spec 05 §1).
//!
//! Answers take until a majority has the transaction on disk, so a stream works on many envelopes at once: their
//! signatures are checked in parallel, they join the queue in order, and they are waited for together.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use selvedge_channel::authenticate;
use selvedge_proto::{OpenEnvelope, common, open_envelope, orderer};
use tonic::Status;

use crate::channel::{OrdererChannel, Role};
use crate::consensus::Consensus;
use crate::filter::{self, Refusal};
use crate::metrics::Course;
use crate::registrar::Registrar;
use crate::sequencer::Checked;

/// Envelopes of one stream whose signatures are checked at the same time.
const CHECKING: usize = 32;
/// Envelopes of one stream that wait to be ordered.
const WAITING: usize = 512;

struct Admitted {
    consensus: Arc<Consensus>,
    checked: Checked,
}

/// Checks one envelope under the configuration of its channel.
fn admit(registrar: &Registrar, envelope: common::Envelope) -> Result<Admitted, Refusal> {
    if envelope.payload.is_empty() {
        return Err(Refusal::bad("Message was empty"));
    }
    let open = open_envelope(&envelope).map_err(|e| Refusal::bad(e.to_string()))?;
    let id = &open.channel_header.channel_id;
    let kind = filter::route(&open.channel_header)?;
    let channel = registrar.get(id).ok_or_else(|| no_channel(registrar, &open))?;
    let Some(chain) = channel.chain() else {
        return Err(if channel.awaits(&filter::signed_data(&open)) {
            Refusal::unavailable(format!("channel '{id}' is being onboarded on this orderer"))
        } else {
            no_channel(registrar, &open)
        });
    };
    let bundle = chain.bundle();
    if let Err(refusal) = filter::check(&bundle, &envelope, &open, kind, filter::now()) {
        // Why an envelope is refused is for members of the channel; others must not learn that it exists.
        return Err(match authenticate(bundle.msps(), &filter::signed_data(&open)) {
            Ok(_) => refusal,
            Err(_) => no_channel(registrar, &open),
        });
    }
    Ok(Admitted {
        consensus: consenter(&channel, id)?,
        checked: Checked {
            envelope,
            kind,
            sequence: bundle.sequence(),
        },
    })
}

/// The answer to a submitter who is no member of the channel, and to everybody when there is none: it depends on whether
/// any channel of this node knows the submitter.
fn no_channel(registrar: &Registrar, open: &OpenEnvelope) -> Refusal {
    let id = &open.channel_header.channel_id;
    match registrar.knows(&filter::signed_data(open)) {
        Ok(()) => Refusal::bad(format!(
            "channel does not exist: '{id}' is not served by this orderer"
        )),
        Err(why) => Refusal::new(
            common::Status::Forbidden,
            format!("channel '{id}': {why}: permission denied"),
        ),
    }
}

fn consenter(channel: &OrdererChannel, id: &str) -> Result<Arc<Consensus>, Refusal> {
    match channel.role() {
        Role::Consenter(consensus) => Ok(consensus),
        Role::Failed(why) => Err(Refusal::unavailable(format!(
            "channel '{id}' has stopped on this orderer: {why}"
        ))),
        Role::Follower | Role::Onboarding | Role::Opening => Err(Refusal::unavailable(format!(
            "this orderer only follows channel '{id}'; submit to one of its consenters"
        ))),
    }
}

fn answer(outcome: Result<(), Refusal>) -> orderer::BroadcastResponse {
    match outcome {
        Ok(()) => orderer::BroadcastResponse {
            status: common::Status::Success as i32,
            info: String::new(),
        },
        Err(refusal) => orderer::BroadcastResponse {
            status: refusal.status as i32,
            info: refusal.info,
        },
    }
}

/// Orders one envelope and waits until it is done.
pub(crate) async fn order(registrar: &Registrar, envelope: common::Envelope) -> Result<(), Refusal> {
    let (course, admitted) = measured(registrar, Ok(envelope));
    let outcome = match admitted {
        Ok(admitted) => {
            let first = admitted.consensus.enqueue(&admitted.checked).await;
            admitted.consensus.settle(&admitted.checked, first).await
        }
        Err(refusal) => Err(refusal),
    };
    course.answered(&outcome);
    outcome
}

/// The items of a stream up to the first that is the last, and that one.
fn up_to_the_first<T>(items: impl Stream<Item = T>, is_last: impl Fn(&T) -> bool) -> impl Stream<Item = T> {
    items.scan(false, move |over, item| {
        let next = (!*over).then_some(item);
        *over |= next.as_ref().is_some_and(&is_last);
        futures::future::ready(next)
    })
}

/// Checks what came over a stream, and measures that.
fn measured(
    registrar: &Registrar,
    received: Result<common::Envelope, Status>,
) -> (Course, Result<Admitted, Refusal>) {
    let serves = |id: &str| registrar.get(id).is_some();
    let mut course = Course::begin(registrar.metrics(), received.as_ref().ok(), serves);
    let admitted = received
        .map_err(|e| Refusal::bad(format!("the message is not an envelope: {}", e.message())))
        .and_then(|envelope| admit(registrar, envelope));
    course.checked(admitted.as_ref().map(|a| a.checked.kind));
    (course, admitted)
}

/// Answers the envelopes of one stream; ends after the first answer that is not SUCCESS. What is behind one that is not
/// admitted is not ordered: its sender has no answer, and sends it again.
pub(crate) fn answers(
    registrar: Arc<Registrar>,
    envelopes: impl Stream<Item = Result<common::Envelope, Status>> + Send + 'static,
) -> BoxStream<'static, Result<orderer::BroadcastResponse, Status>> {
    let checked = envelopes
        .map(move |received| {
            let registrar = Arc::clone(&registrar);
            tokio::spawn(async move { measured(&registrar, received) })
        })
        .buffered(CHECKING)
        .map(|joined| match joined {
            Ok((course, admitted)) => (Some(course), admitted),
            Err(e) => {
                let refusal = Refusal::new(common::Status::InternalServerError, e.to_string());
                (None, Err(refusal))
            }
        });
    let answered = up_to_the_first(checked, |(_, admitted)| admitted.is_err())
        .then(|(course, admitted)| async {
            match admitted {
                Ok(admitted) => {
                    let first = admitted.consensus.enqueue(&admitted.checked).await;
                    (course, Ok((admitted, first)))
                }
                Err(refusal) => (course, Err(refusal)),
            }
        })
        .map(|(course, queued)| async {
            let outcome = match queued {
                Ok((admitted, first)) => admitted.consensus.settle(&admitted.checked, first).await,
                Err(refusal) => Err(refusal),
            };
            if let Some(course) = course {
                course.answered(&outcome);
            }
            outcome
        })
        .buffered(WAITING)
        .map(answer)
        .boxed();
    futures::stream::unfold(Some(answered), |answered| async {
        let mut answered = answered?;
        let answer = answered.next().await?;
        let go_on = answer.status == common::Status::Success as i32;
        Some((Ok(answer), go_on.then_some(answered)))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_behind_a_refused_envelope_is_passed_on() {
        let items = futures::stream::iter([Ok(1), Ok(2), Err("no"), Ok(3), Err("again")]);
        let passed: Vec<_> = up_to_the_first(items, Result::is_err).collect().await;
        assert_eq!(passed, [Ok(1), Ok(2), Err("no")]);
        let passed: Vec<_> = up_to_the_first(futures::stream::iter([1, 2]), |_| false)
            .collect()
            .await;
        assert_eq!(passed, [1, 2]);
    }
}
