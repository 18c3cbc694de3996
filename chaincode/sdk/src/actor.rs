//! Who acts in a transaction, as most contracts ask it: organisation, name, and whether it is a device.

use std::collections::BTreeMap;

use crate::json::{Field, Object};
use crate::{Context, Error, Result};

/// Certificate attribute of an enrolled device: `"true"`.
pub const DEVICE_ATTRIBUTE: &str = "selvedge.device";
/// Certificate attribute of a gateway that writes for devices behind it: `"true"`.
pub const GATEWAY_ATTRIBUTE: &str = "selvedge.gateway";

/// Longest MSP id that is read, in bytes.
pub const MAX_MSP_ID: usize = 128;
/// Longest remark that is read, in bytes.
pub const MAX_NOTE: usize = 4096;

/// The creator of the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Id of the organisation's MSP.
    pub msp_id: String,
    /// Common name in the certificate.
    pub user: String,
    /// True for a device or a gateway.
    pub device: bool,
    /// The attributes that the CA put into the certificate.
    pub attributes: BTreeMap<String, String>,
}

impl Actor {
    /// Reads who acts.
    ///
    /// # Errors
    /// Status 500 when the peer does not tell.
    pub fn of(ctx: &Context<'_>) -> Result<Self> {
        let caller = ctx.caller();
        let attributes = caller.attributes()?;
        let set = |name: &str| attributes.get(name).is_some_and(|value| value == "true");
        let device = set(DEVICE_ATTRIBUTE) || set(GATEWAY_ATTRIBUTE);
        Ok(Self {
            msp_id: caller.msp_id()?,
            user: caller.common_name()?,
            device,
            attributes,
        })
    }

    /// Reads who acts, and refuses devices: their keys lie in halls and trucks, and a stolen one must not be able to
    /// do what takes a decision. `what` completes the sentence "... is enrolled as a device and may not ...".
    ///
    /// # Errors
    /// Status 403 for a device.
    pub fn person(ctx: &Context<'_>, what: &str) -> Result<Self> {
        let actor = Self::of(ctx)?;
        if actor.device {
            return Err(Error::forbidden(format!(
                "{} is enrolled as a device and may not {what}",
                actor.user
            )));
        }
        Ok(actor)
    }
}

/// An MSP id from outside.
///
/// # Errors
/// Status 400 when it is not a text of 1 to [`MAX_MSP_ID`] bytes.
pub fn msp_id(field: &Field<'_>) -> Result<String> {
    field.name(MAX_MSP_ID)
}

/// The optional field `note` of any request.
///
/// # Errors
/// Status 400 when it is longer than [`MAX_NOTE`] bytes or not text.
pub fn note(object: &mut Object<'_>) -> Result<Option<String>> {
    object
        .optional("note")
        .map(|note| note.text(MAX_NOTE))
        .transpose()
}
