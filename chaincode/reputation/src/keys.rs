//! Where things lie in the world state.

use selvedge_chaincode::{Result, composite_key};

use crate::model::RatingId;

/// Object type of a rating: (rated MSP id, source, chaincode, deal, rating MSP id).
pub(crate) const RATING: &str = "rating";
/// Object type of the entries that list what an organisation has given: (rating MSP id, id of the rating).
pub(crate) const GIVEN: &str = "rating-given";
/// Object type of a reply: (id of the rating).
const REPLY: &str = "rating-reply";

pub(crate) fn rating(id: &RatingId) -> Result<String> {
    composite_key(
        RATING,
        &[
            &id.organization,
            id.source.as_str(),
            &id.chaincode,
            &id.deal,
            &id.by,
        ],
    )
}

pub(crate) fn given(by: &str, id: &str) -> Result<String> {
    composite_key(GIVEN, &[by, id])
}

pub(crate) fn reply(id: &str) -> Result<String> {
    composite_key(REPLY, &[id])
}
