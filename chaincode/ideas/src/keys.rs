//! Where things lie in the world state.

use selvedge_chaincode::{Result, composite_key};

use crate::model::Person;

/// Object type of a contribution: (id).
pub(crate) const IDEA: &str = "idea";
/// Object type of an author's word about the shares: (idea, MSP id, user).
const WORD: &str = "idea-word";
/// Object type of the entries that list a person's contributions: (MSP id, user, idea).
pub(crate) const AUTHOR: &str = "idea-author";
/// Object type of the entries that list what builds on an idea: (parent, child).
pub(crate) const CHILD: &str = "idea-child";
/// Object type of an assessment: (idea, MSP id, user).
pub(crate) const ASSESSMENT: &str = "assessment";
/// Object type of a reward: (idea, reward).
pub(crate) const REWARD: &str = "reward";
/// Object type of the entries that list a person's rewards: (MSP id, user, idea, reward).
pub(crate) const BENEFICIARY: &str = "reward-part";
/// Object type of a beneficiary's confirmation: (idea, reward, MSP id, user).
const RECEIPT: &str = "reward-receipt";

pub(crate) fn idea(id: &str) -> Result<String> {
    composite_key(IDEA, &[id])
}

pub(crate) fn word(idea: &str, person: &Person) -> Result<String> {
    composite_key(WORD, &[idea, &person.msp_id, &person.user])
}

pub(crate) fn author(person: &Person, idea: &str) -> Result<String> {
    composite_key(AUTHOR, &[&person.msp_id, &person.user, idea])
}

pub(crate) fn child(parent: &str, child: &str) -> Result<String> {
    composite_key(CHILD, &[parent, child])
}

pub(crate) fn assessment(idea: &str, person: &Person) -> Result<String> {
    composite_key(ASSESSMENT, &[idea, &person.msp_id, &person.user])
}

pub(crate) fn reward(idea: &str, reward: &str) -> Result<String> {
    composite_key(REWARD, &[idea, reward])
}

pub(crate) fn beneficiary(person: &Person, idea: &str, reward: &str) -> Result<String> {
    composite_key(BENEFICIARY, &[&person.msp_id, &person.user, idea, reward])
}

pub(crate) fn receipt(idea: &str, reward: &str, person: &Person) -> Result<String> {
    composite_key(RECEIPT, &[idea, reward, &person.msp_id, &person.user])
}
