//! Asking the contract that a deal is in who its parties are and whether it is finished.

use selvedge_chaincode::{Context, Error, Result, Timestamp};
use serde::Deserialize;

use crate::model::Source;

/// A finished deal.
pub(crate) struct Deal {
    /// MSP ids of those who may rate each other.
    pub(crate) parties: Vec<String>,
    pub(crate) finished_at: Timestamp,
}

/// The parts of the RFQ contract's `deal` that count here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RfqDeal {
    offeror: String,
    target: String,
    finished_at: Option<Timestamp>,
}

/// The parts of the shipment contract's `get` that count here.
#[derive(Deserialize)]
struct Shipment {
    shipper: String,
    consignee: String,
    carriers: Vec<String>,
    custody: Custody,
}

#[derive(Deserialize)]
struct Custody {
    line: Vec<Holder>,
    #[serde(default, rename = "deliveredAt")]
    delivered_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Holder {
    holder: String,
}

/// How a deal is called in messages.
pub(crate) fn title(source: Source, deal: &str) -> String {
    match source {
        Source::Rfq => format!("RFQ {deal}"),
        Source::Shipment => format!("shipment {deal}"),
    }
}

/// Loads a deal, which must be finished.
pub(crate) fn finished(ctx: &Context<'_>, source: Source, chaincode: &str, id: &str) -> Result<Deal> {
    let function = match source {
        Source::Rfq => "deal",
        Source::Shipment => "get",
    };
    let answer = ctx.invoke_chaincode(chaincode, function, &[id.as_bytes()])?;
    if !answer.is_ok() {
        return Err(Error::new(
            answer.status,
            format!("chaincode {chaincode}: {}", answer.message),
        ));
    }
    let broken = |why: Error| {
        Error::internal(format!(
            "chaincode {chaincode} did not answer with a deal that can be rated: {}",
            why.message()
        ))
    };
    let title = title(source, id);
    match source {
        Source::Rfq => {
            let deal: RfqDeal = answer.read_json().map_err(broken)?;
            let finished_at = deal.finished_at.ok_or_else(|| {
                Error::conflict(format!(
                    "{title} is not finished; its parties confirm its milestones, or both say finishDeal"
                ))
            })?;
            Ok(Deal {
                parties: vec![deal.offeror, deal.target],
                finished_at,
            })
        }
        Source::Shipment => {
            let shipment: Shipment = answer.read_json().map_err(broken)?;
            let finished_at = shipment
                .custody
                .delivered_at
                .ok_or_else(|| Error::conflict(format!("{title} has not been delivered")))?;
            let mut parties = vec![shipment.shipper, shipment.consignee];
            // A carrier that never had the goods has done nothing that could be rated.
            let held = |carrier: &String| shipment.custody.line.iter().any(|step| step.holder == *carrier);
            parties.extend(shipment.carriers.into_iter().filter(held));
            parties.sort();
            parties.dedup();
            Ok(Deal { parties, finished_at })
        }
    }
}
