//! What is kept of a rating.

use std::collections::BTreeMap;

use selvedge_chaincode::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};

/// What kind of deal a rating is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A finished deal behind an accepted RFQ.
    Rfq,
    /// A delivered shipment.
    Shipment,
}

impl Source {
    /// The word in JSON and in ids; also the name of the chaincode that such deals are usually in.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rfq => "rfq",
            Self::Shipment => "shipment",
        }
    }

    fn named(text: &str) -> Option<Self> {
        [Self::Rfq, Self::Shipment]
            .into_iter()
            .find(|source| source.as_str() == text)
    }
}

/// Names a rating: one for each deal, rater and rated organisation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RatingId {
    pub(crate) source: Source,
    pub(crate) chaincode: String,
    pub(crate) deal: String,
    pub(crate) by: String,
    pub(crate) organization: String,
}

impl RatingId {
    /// The parts joined by `/`; MSP ids may contain that, so it is escaped in them.
    pub(crate) fn text(&self) -> String {
        let escape = |text: &str| text.replace('%', "%25").replace('/', "%2F");
        format!(
            "{}/{}/{}/{}/{}",
            self.source.as_str(),
            self.chaincode,
            self.deal,
            escape(&self.by),
            escape(&self.organization)
        )
    }

    /// Reads what [`RatingId::text`] writes.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let unescape = |text: &str| text.replace("%2F", "/").replace("%25", "%");
        let parts: Vec<&str> = text.split('/').collect();
        let parsed = match parts.as_slice() {
            [source, chaincode, deal, by, organization] => Source::named(source).map(|source| Self {
                source,
                chaincode: (*chaincode).to_owned(),
                deal: (*deal).to_owned(),
                by: unescape(by),
                organization: unescape(organization),
            }),
            _ => None,
        };
        parsed.ok_or_else(|| Error::not_found(format!("rating {text} is unknown")))
    }
}

/// What the rated organisation says to a rating.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// What it says.
    pub text: String,
    /// Common name in the replying certificate.
    pub user: String,
    /// Timestamp of the transaction.
    pub at: Timestamp,
    /// The transaction.
    pub tx_id: String,
}

/// A rating, written once. A reply to it is kept apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rating {
    /// Its id.
    pub id: String,
    /// What kind of deal it is about.
    pub source: Source,
    /// Name of the chaincode that the deal is in.
    pub chaincode: String,
    /// Id of the deal there.
    pub deal: String,
    /// MSP id of the organisation that is rated.
    pub organization: String,
    /// MSP id of the organisation that rates.
    pub by: String,
    /// Common name in the rating certificate.
    pub user: String,
    /// 1 to 5, 5 is best.
    pub score: u32,
    /// 1 to 5 for single criteria.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub criteria: BTreeMap<String, u32>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Timestamp of the transaction.
    pub at: Timestamp,
    /// The transaction.
    pub tx_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = RatingId {
            source: Source::Shipment,
            chaincode: "shipment".into(),
            deal: "s:1".into(),
            by: "A/B%2FMSP".into(),
            organization: "CMSP".into(),
        };
        assert_eq!(RatingId::parse(&id.text()).unwrap(), id);
        for bad in ["", "rfq/rfq/1/A", "loan/x/1/A/B", "rfq/rfq/1/A/B/C"] {
            assert_eq!(RatingId::parse(bad).unwrap_err().status(), 404, "{bad}");
        }
    }
}
