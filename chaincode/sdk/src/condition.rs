//! Agreed limits for a measured or negotiated value. Shared, so that what two parties agree on in one contract can
//! be checked by another.

use serde::{Deserialize, Serialize};

use crate::json::{Field, Object};
use crate::{Decimal, Error, Result};

/// Most conditions that one agreement may have.
pub const MAX_CONDITIONS: usize = 64;

/// An agreed range of one field, for example humidity 0 to 10. Both limits belong to the range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What is limited: the name of a sensor value, or of anything else that the parties agree on.
    pub field: String,
    /// Lowest allowed value, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Decimal>,
    /// Highest allowed value, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Decimal>,
}

impl Condition {
    /// Reads `{"field","min"?,"max"?}`.
    ///
    /// # Errors
    /// Status 400 when a part is wrong, both limits are missing or they exclude everything.
    pub fn read(field: &Field<'_>) -> Result<Self> {
        let mut object: Object<'_> = field.object()?;
        let name = object.require("field")?.text(64)?;
        let min = object.optional("min").map(|limit| limit.decimal()).transpose()?;
        let max = object.optional("max").map(|limit| limit.decimal()).transpose()?;
        object.finish()?;
        match (&min, &max) {
            (None, None) => Err(Error::bad_request(format!(
                "{} needs min or max for {name}",
                field.path()
            ))),
            (Some(low), Some(high)) if low > high => Err(Error::bad_request(format!(
                "{}: min {low} of {name} is greater than max {high}",
                field.path()
            ))),
            _ => Ok(Self {
                field: name,
                min,
                max,
            }),
        }
    }

    /// Reads a list of conditions, each for another field.
    ///
    /// # Errors
    /// Status 400 as [`Condition::read`], and when a field occurs twice.
    pub fn read_list(object: &mut Object<'_>, name: &'static str) -> Result<Vec<Self>> {
        let mut conditions: Vec<Self> = Vec::new();
        for field in object.list(name, MAX_CONDITIONS)? {
            let condition = Self::read(&field)?;
            if conditions.iter().any(|other| other.field == condition.field) {
                return Err(Error::bad_request(format!(
                    "{}: there is already a condition for {}",
                    field.path(),
                    condition.field
                )));
            }
            conditions.push(condition);
        }
        Ok(conditions)
    }

    /// True when the value is within the limits.
    pub fn holds(&self, value: &Decimal) -> bool {
        self.min.as_ref().is_none_or(|min| value >= min) && self.max.as_ref().is_none_or(|max| value <= max)
    }
}
