//! Who may do what: people of the parties act, devices measure.

use selvedge_chaincode::json::is_id;
use selvedge_chaincode::{Context, Error, Result};

use crate::keys;
use crate::model::{Custody, Shipment};

/// Certificate attribute of a device that writes its own readings: `"true"`.
const DEVICE: &str = "selvedge.device";
/// Certificate attribute of a gateway that writes readings of devices behind it: `"true"`.
const GATEWAY: &str = "selvedge.gateway";
/// Certificate attribute with the device id; without it the common name is the device id.
const DEVICE_ID: &str = "selvedge.device.id";

/// A person (or program) of an organisation.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) msp_id: String,
    pub(crate) user: String,
}

/// An enrolled device or gateway.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) msp_id: String,
    pub(crate) id: String,
    pub(crate) gateway: bool,
}

/// The caller, who must not be a device: its key lies in a truck and must not be able to move custody.
pub(crate) fn actor(ctx: &Context<'_>) -> Result<Actor> {
    let caller = ctx.caller();
    let user = caller.common_name()?;
    let attributes = caller.attributes()?;
    let set = |name: &str| attributes.get(name).is_some_and(|value| value == "true");
    if set(DEVICE) || set(GATEWAY) {
        return Err(Error::forbidden(format!(
            "{user} is enrolled as a device and may only record readings"
        )));
    }
    Ok(Actor {
        msp_id: caller.msp_id()?,
        user,
    })
}

/// The caller, who must be an enrolled device or gateway.
pub(crate) fn writer(ctx: &Context<'_>) -> Result<Writer> {
    let caller = ctx.caller();
    let mut attributes = caller.attributes()?;
    let set = |name: &str| attributes.get(name).is_some_and(|value| value == "true");
    let gateway = set(GATEWAY);
    let common_name = caller.common_name()?;
    if !set(DEVICE) && !gateway {
        return Err(Error::forbidden(format!(
            "only enrolled devices may record readings: the certificate of {common_name} has neither attribute {DEVICE} nor {GATEWAY} with the value true"
        )));
    }
    let id = attributes.remove(DEVICE_ID).unwrap_or(common_name);
    if !is_id(&id) {
        return Err(Error::forbidden(format!(
            "the device id {id} must consist of 1 to 64 letters, digits and . _ : -"
        )));
    }
    Ok(Writer {
        msp_id: caller.msp_id()?,
        id,
        gateway,
    })
}

impl Writer {
    /// Checks that this writer may record readings of `device` for the shipment.
    pub(crate) fn check(&self, shipment: &Shipment, device: &str) -> Result<()> {
        if device != self.id && !self.gateway {
            return Err(Error::forbidden(format!(
                "device {} may not record readings of device {device}: its certificate lacks the attribute {GATEWAY}",
                self.id
            )));
        }
        if shipment.devices.is_empty() {
            if shipment.is_party(&self.msp_id) {
                return Ok(());
            }
            return Err(Error::forbidden(format!(
                "{} is not a party of shipment {}, so its devices may not record readings",
                self.msp_id, shipment.id
            )));
        }
        let listed = shipment.devices.iter().any(|listed| {
            let organisation = match &listed.msp_id {
                Some(msp_id) => *msp_id == self.msp_id,
                None => shipment.is_party(&self.msp_id),
            };
            organisation && (listed.id == device || listed.id == self.id)
        });
        if listed {
            return Ok(());
        }
        Err(Error::forbidden(format!(
            "device {device} of {} is not among the devices of shipment {}",
            self.msp_id, shipment.id
        )))
    }
}

/// Loads what was agreed.
pub(crate) fn load(ctx: &Context<'_>, id: &str) -> Result<Shipment> {
    let unknown = || Error::not_found(format!("shipment {id} is unknown"));
    if !is_id(id) {
        return Err(unknown());
    }
    ctx.get_json(&keys::shipment(id)?)?.ok_or_else(unknown)
}

/// Loads where the goods are.
pub(crate) fn load_custody(ctx: &Context<'_>, id: &str) -> Result<Custody> {
    ctx.get_json(&keys::custody(id)?)?
        .ok_or_else(|| Error::internal(format!("shipment {id} has no custody record")))
}

/// Refuses those who are not a party.
pub(crate) fn require_party(shipment: &Shipment, actor: &Actor) -> Result<()> {
    if shipment.is_party(&actor.msp_id) {
        return Ok(());
    }
    let parties: Vec<&str> = shipment.parties().collect();
    Err(Error::forbidden(format!(
        "{} is not a party of shipment {}; only {} may act on it",
        actor.msp_id,
        shipment.id,
        parties.join(", ")
    )))
}
