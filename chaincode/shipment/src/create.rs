//! Creating shipments, directly or from an accepted RFQ, and adding to them.

use std::collections::BTreeMap;

use selvedge_chaincode::json::Object;
use selvedge_chaincode::{Args, Condition, Context, Decimal, Error, Response, Result, Timestamp};
use serde::Deserialize;

use crate::access::{Actor, actor, load, load_custody};
use crate::input::{MAX_CARRIERS, MAX_DEVICES, MAX_GOODS, carriers, devices, msp_id, note};
use crate::model::{Custody, CustodyStep, DeviceRef, RfqReference, Shipment, Status};
use crate::{events, keys};

/// What both ways of creating have in common.
struct Options {
    id: String,
    carriers: Vec<String>,
    devices: Vec<DeviceRef>,
    direct_handover: bool,
    deliver_by: Option<Timestamp>,
    note: Option<String>,
}

impl Options {
    fn read(ctx: &Context<'_>, object: &mut Object<'_>) -> Result<Self> {
        let id = match object.optional("id") {
            Some(id) => id.id()?,
            None => format!("shp-{}", ctx.tx_id()?.get(..20).unwrap_or_default()),
        };
        Ok(Self {
            id,
            carriers: carriers(object)?,
            devices: devices(object)?,
            direct_handover: object.flag("directHandover")?,
            deliver_by: object
                .optional("deliverBy")
                .map(|field| field.time())
                .transpose()?,
            note: note(object)?,
        })
    }
}

/// Writes a new shipment, the first holder and the parties' list entries; sets the event; answers with the shipment.
fn save(ctx: &Context<'_>, shipment: &Shipment, actor: Actor, note: Option<String>) -> Result<Response> {
    let key = keys::shipment(&shipment.id)?;
    if ctx.get_state(&key)?.is_some() {
        return Err(Error::conflict(format!(
            "there is already a shipment {}; choose another id",
            shipment.id
        )));
    }
    let first = CustodyStep {
        holder: shipment.shipper.clone(),
        by: actor.msp_id,
        user: actor.user,
        at: shipment.created_at,
        tx_id: ctx.tx_id()?,
        note,
    };
    let custody = Custody {
        status: Status::Created,
        holder: shipment.shipper.clone(),
        pending: None,
        line: vec![first],
        delivered_at: None,
    };
    ctx.put_json(&key, shipment)?;
    ctx.put_json(&keys::custody(&shipment.id)?, &custody)?;
    list_for_parties(ctx, shipment)?;
    events::created(ctx, shipment)?;
    Response::json(shipment)
}

fn list_for_parties(ctx: &Context<'_>, shipment: &Shipment) -> Result<()> {
    shipment
        .parties()
        .try_for_each(|party| ctx.put_state(&keys::party(party, &shipment.id)?, b"1"))
}

pub(crate) fn create(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = actor(ctx)?;
    let mut object = args.object(0)?;
    let options = Options::read(ctx, &mut object)?;
    let goods = object.require("goods")?.scalar(MAX_GOODS)?;
    let quantity = object
        .optional("quantity")
        .map(|field| field.decimal())
        .transpose()?;
    let consignee = msp_id(&object.require("consignee")?)?;
    let conditions = Condition::read_list(&mut object, "conditions")?;
    object.finish()?;
    if consignee == actor.msp_id {
        return Err(Error::bad_request(
            "shipment.consignee must be another organisation than the shipper, which is yours",
        ));
    }
    let shipment = Shipment {
        id: options.id,
        goods,
        quantity,
        shipper: actor.msp_id.clone(),
        consignee,
        carriers: options.carriers,
        conditions,
        devices: options.devices,
        terms: BTreeMap::new(),
        deliver_by: options.deliver_by,
        direct_handover: options.direct_handover,
        rfq: None,
        created_by: actor.msp_id.clone(),
        created_at: ctx.timestamp()?,
    };
    save(ctx, &shipment, actor, options.note)
}

/// The parts of an RFQ that a shipment takes over.
#[derive(Deserialize)]
struct Agreement {
    state: String,
    offeror: String,
    target: String,
    item: String,
    quantity: Decimal,
    conditions: Vec<Condition>,
    #[serde(default)]
    terms: BTreeMap<String, String>,
}

fn agreement(ctx: &Context<'_>, reference: &RfqReference) -> Result<Agreement> {
    let RfqReference { chaincode, id } = reference;
    let answer = ctx.invoke_chaincode(chaincode, "get", &[id.as_bytes()])?;
    if !answer.is_ok() {
        return Err(Error::new(
            answer.status,
            format!("chaincode {chaincode}: {}", answer.message),
        ));
    }
    answer
        .read_json()
        .map_err(|why| Error::internal(format!("chaincode {chaincode} did not answer with an RFQ: {why}")))
}

pub(crate) fn create_from_rfq(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = actor(ctx)?;
    let text = args.object_or(0, "rfq")?;
    let mut object = text.object()?;
    let options = Options::read(ctx, &mut object)?;
    let chaincode = object.optional("chaincode").map(|field| field.id()).transpose()?;
    let reference = RfqReference {
        chaincode: chaincode.unwrap_or_else(|| "rfq".to_owned()),
        id: object.require("rfq")?.id()?,
    };
    let shipper = object
        .optional("shipper")
        .map(|field| msp_id(&field))
        .transpose()?;
    object.finish()?;
    let agreed = agreement(ctx, &reference)?;
    if actor.msp_id != agreed.offeror && actor.msp_id != agreed.target {
        return Err(Error::forbidden(format!(
            "{} is not a party of RFQ {}; only {} and {} may create a shipment from it",
            actor.msp_id, reference.id, agreed.offeror, agreed.target
        )));
    }
    if agreed.state != "accepted" {
        return Err(Error::conflict(format!(
            "RFQ {} is {}; a shipment needs an accepted one",
            reference.id, agreed.state
        )));
    }
    let used = keys::from_rfq(&reference.chaincode, &reference.id)?;
    if let Some(other) = ctx.get_state(&used)? {
        return Err(Error::conflict(format!(
            "RFQ {} has already become shipment {}",
            reference.id,
            String::from_utf8_lossy(&other)
        )));
    }
    // Who asks for a quotation buys, and who is asked sends.
    let shipper = shipper.unwrap_or_else(|| agreed.target.clone());
    let consignee = if shipper == agreed.target {
        agreed.offeror
    } else if shipper == agreed.offeror {
        agreed.target
    } else {
        return Err(Error::bad_request(format!(
            "shipment.shipper must be a party of RFQ {}, {} or {}, not {shipper}",
            reference.id, agreed.offeror, agreed.target
        )));
    };
    let due = agreed
        .terms
        .get("deliveryDate")
        .and_then(|text| text.parse().ok());
    ctx.put_state(&used, options.id.as_bytes())?;
    let shipment = Shipment {
        id: options.id,
        goods: agreed.item,
        quantity: Some(agreed.quantity),
        shipper,
        consignee,
        carriers: options.carriers,
        conditions: agreed.conditions,
        devices: options.devices,
        terms: agreed.terms,
        deliver_by: options.deliver_by.or(due),
        direct_handover: options.direct_handover,
        rfq: Some(reference),
        created_by: actor.msp_id.clone(),
        created_at: ctx.timestamp()?,
    };
    save(ctx, &shipment, actor, options.note)
}

/// Adds carriers and devices on the way: a truck is replaced, a sensor's battery dies. Nothing is taken away, because
/// readings and custody refer to it.
pub(crate) fn amend(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = actor(ctx)?;
    let mut object = args.object(0)?;
    let id = object.require("shipment")?.id()?;
    let (new_carriers, new_devices) = (carriers(&mut object)?, devices(&mut object)?);
    object.finish()?;
    let mut shipment = load(ctx, &id)?;
    let custody = load_custody(ctx, &id)?;
    if actor.msp_id != shipment.shipper && actor.msp_id != custody.holder {
        return Err(Error::forbidden(format!(
            "only the shipper {} and the holder {} may amend shipment {id}",
            shipment.shipper, custody.holder
        )));
    }
    if custody.status == Status::Delivered {
        return Err(Error::conflict(format!(
            "shipment {id} has been delivered and cannot be amended"
        )));
    }
    if !new_devices.is_empty() && shipment.devices.is_empty() {
        return Err(Error::conflict(format!(
            "shipment {id} is open to every device of its parties; listing some now would lock out the others"
        )));
    }
    let known: Vec<String> = shipment.parties().map(str::to_owned).collect();
    shipment.carriers.extend(
        new_carriers
            .into_iter()
            .filter(|carrier| !known.contains(carrier)),
    );
    let fresh: Vec<_> = new_devices
        .into_iter()
        .filter(|device| !shipment.devices.contains(device))
        .collect();
    shipment.devices.extend(fresh);
    if shipment.carriers.len() > MAX_CARRIERS || shipment.devices.len() > MAX_DEVICES {
        return Err(Error::bad_request(format!(
            "a shipment has at most {MAX_CARRIERS} carriers and {MAX_DEVICES} devices"
        )));
    }
    ctx.put_json(&keys::shipment(&id)?, &shipment)?;
    list_for_parties(ctx, &shipment)?;
    Response::json(&shipment)
}
