//! What a peer's verdict on a transaction means, and what to do about it (spec 03 §2).

use selvedge_proto::protos::TxValidationCode as Code;
use serde::Serialize;

/// A validation code with its explanation.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    /// Fabric's number.
    pub(crate) code: i32,
    /// Fabric's name.
    pub(crate) name: &'static str,
    /// Whether the transaction counts.
    pub(crate) valid: bool,
    /// What it means.
    pub(crate) meaning: &'static str,
    /// What to do about it; empty when nothing is to be done.
    pub(crate) advice: &'static str,
}

impl Verdict {
    /// Explains a code of a block's metadata.
    pub(crate) fn of(code: i32) -> Self {
        let known = Code::try_from(code).unwrap_or(Code::InvalidOtherReason);
        let (meaning, advice) = explain(known);
        Self {
            code,
            name: known.as_str_name(),
            valid: known == Code::Valid,
            meaning,
            advice,
        }
    }
}

const NOTHING_WRITTEN: &str =
    "Nothing was written. The program that made it has to be mended before it is sent again.";
const NEW_DEFINITION: &str =
    "Nothing was written. Send it again: it will run under the definition that is in force now.";
const READ_AGAIN: &str =
    "Nothing was written. Send it again as a new transaction, which reads the new state.";

fn explain(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::Valid => ("It is valid, and what it wrote is in force.", ""),
        Code::NilEnvelope => ("The block holds no transaction at its place.", NOTHING_WRITTEN),
        Code::BadPayload => ("Its content cannot be read.", NOTHING_WRITTEN),
        Code::BadCommonHeader => ("Its header is missing or cannot be read.", NOTHING_WRITTEN),
        Code::BadCreatorSignature => (
            "Its creator is not accepted on this channel, or the signature is not the creator's.",
            "Nothing was written. Check that the certificate is valid, not revoked, and of an organisation of the channel.",
        ),
        Code::InvalidEndorserTransaction => (
            "Its proposal, its answer and its endorsements do not belong together.",
            NOTHING_WRITTEN,
        ),
        Code::InvalidConfigTransaction => (
            "The change of the channel's configuration is not allowed, or is based on an older configuration.",
            "Nothing was changed. Fetch the configuration again and collect the signatures that its policies demand.",
        ),
        Code::UnsupportedTxPayload => ("Its content is of a kind that peers do not run.", NOTHING_WRITTEN),
        Code::BadProposalTxid => (
            "Its id is not the one that follows from its nonce and its creator.",
            NOTHING_WRITTEN,
        ),
        Code::DuplicateTxid => (
            "A transaction with the same id is on the ledger already. The first one counts.",
            "Look up the first one by the same id.",
        ),
        Code::EndorsementPolicyFailure => (
            "Its endorsements do not satisfy the policy of what it writes.",
            "Nothing was written. Collect endorsements of all organisations that the policy names.",
        ),
        Code::MvccReadConflict => (
            "Something that it had read was changed by another transaction before it was its turn.",
            READ_AGAIN,
        ),
        Code::PhantomReadConflict => (
            "A query that it had made would have given other results when it was its turn.",
            READ_AGAIN,
        ),
        Code::UnknownTxType => ("It is of an unknown kind.", NOTHING_WRITTEN),
        Code::TargetChainNotFound => (
            "It is for a channel that the peer does not have.",
            NOTHING_WRITTEN,
        ),
        Code::MarshalTxError => ("It cannot be encoded again as it was.", NOTHING_WRITTEN),
        Code::NilTxaction => ("It does nothing: it holds no action.", NOTHING_WRITTEN),
        Code::ExpiredChaincode => (
            "It ran under a definition of the contract that is no longer in force.",
            NEW_DEFINITION,
        ),
        Code::ChaincodeVersionConflict => (
            "It ran under another version of the contract than the one in force.",
            NEW_DEFINITION,
        ),
        Code::BadHeaderExtension => (
            "The part of its header that names the contract is wrong.",
            NOTHING_WRITTEN,
        ),
        Code::BadChannelHeader => ("Its channel header is wrong.", NOTHING_WRITTEN),
        Code::BadResponsePayload => ("The contract's answer in it cannot be read.", NOTHING_WRITTEN),
        Code::BadRwset => ("What it reads and writes cannot be read.", NOTHING_WRITTEN),
        Code::IllegalWriteset => (
            "It writes to places that contracts must not write to.",
            NOTHING_WRITTEN,
        ),
        Code::InvalidWriteset => (
            "What it writes is not allowed, for example an empty key.",
            NOTHING_WRITTEN,
        ),
        Code::InvalidChaincode => (
            "The contract that it calls is not defined on this channel.",
            NOTHING_WRITTEN,
        ),
        Code::NotValidated => ("No peer has judged it yet.", "Look again in a moment."),
        Code::InvalidOtherReason => ("It breaks a rule that has no code of its own.", NOTHING_WRITTEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_in_its_own_words() {
        let mut seen = std::collections::BTreeSet::new();
        for code in (0..=25).chain([254, 255]) {
            let verdict = Verdict::of(code);
            assert!(
                seen.insert(verdict.meaning),
                "{} shares its meaning",
                verdict.name
            );
            assert_eq!(verdict.valid, code == 0);
            assert!(code == 0 || !verdict.advice.is_empty(), "{code}");
        }
        assert_eq!(Verdict::of(77).name, "INVALID_OTHER_REASON");
    }
}
