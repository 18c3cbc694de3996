//! Envelopes offered to orderers until one takes them.

use std::time::Duration;

use rand::seq::SliceRandom;
use selvedge_proto::common;

use crate::error::Error;
use crate::orderer::{OrdererClient, is_final, refusal};

/// How long to offer an envelope when the caller sets no limit.
const LONGEST_SUBMISSION: Duration = Duration::from_secs(60);
/// Pause after all orderers have failed once: an election takes longer than this.
const PAUSE_BETWEEN_OFFERS: Duration = Duration::from_millis(100);

/// Hands an envelope to any orderer that takes it, in random order; `name` is for messages.
///
/// # Errors
/// None took it; says what each one answered.
pub(super) async fn to_any(
    orderers: &[OrdererClient],
    limit: Option<Duration>,
    name: &str,
    envelope: &common::Envelope,
) -> Result<(), Error> {
    let limit = limit.unwrap_or(LONGEST_SUBMISSION);
    let end = tokio::time::Instant::now() + limit;
    let mut tried = Vec::new();
    loop {
        let mut order: Vec<&OrdererClient> = orderers.iter().collect();
        order.shuffle(&mut rand::rng());
        let mut round = Vec::new();
        let mut closed = 0;
        for orderer in order {
            match offer(orderer, envelope, end).await {
                Offer::Taken => return Ok(()),
                Offer::Refused(why) => {
                    return Err(not_ordered(name, vec![why], true));
                }
                Offer::Closed(why) => {
                    closed += 1;
                    round.push(why);
                }
                Offer::Failed(why) => round.push(why),
                Offer::Late if round.is_empty() && tried.is_empty() => {
                    round.push(format!("{}: no answer in time", orderer.address()));
                }
                Offer::Late => {}
            }
        }
        if closed > 0 && closed == orderers.len() {
            return Err(not_ordered(name, round, true));
        }
        // What was said in the last whole round says more than that time is up.
        if !round.is_empty() {
            tried = round;
        }
        let pause = tokio::time::Instant::now() + PAUSE_BETWEEN_OFFERS;
        if orderers.is_empty() || pause >= end {
            break;
        }
        tokio::time::sleep_until(pause).await;
    }
    if tried.is_empty() {
        tried.push("no orderer is configured".to_owned());
    }
    Err(not_ordered(name, tried, false))
}

enum Offer {
    Taken,
    /// The envelope itself is refused.
    Refused(String),
    /// The channel is not here, or not for this identity.
    Closed(String),
    Failed(String),
    Late,
}

async fn offer(orderer: &OrdererClient, envelope: &common::Envelope, end: tokio::time::Instant) -> Offer {
    let submission = orderer.broadcaster().submit(envelope.clone());
    match tokio::time::timeout_at(end, submission).await {
        Err(_) => Offer::Late,
        Ok(Err(broken)) => Offer::Failed(broken.to_string()),
        Ok(Ok(answer)) if answer.status == common::Status::Success as i32 => Offer::Taken,
        Ok(Ok(answer)) if is_final(answer.status) => {
            let closed = [common::Status::NotFound, common::Status::Forbidden];
            let why = refusal(orderer.address(), &answer);
            if closed.iter().any(|status| *status as i32 == answer.status) {
                Offer::Closed(why)
            } else {
                Offer::Refused(why)
            }
        }
        Ok(Ok(answer)) => Offer::Failed(refusal(orderer.address(), &answer)),
    }
}

fn not_ordered(name: &str, tried: Vec<String>, is_final: bool) -> Error {
    Error::Ordering {
        transaction_id: name.to_owned(),
        tried,
        is_final,
    }
}
