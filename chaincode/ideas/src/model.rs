//! What is kept of contributions.

use std::collections::BTreeMap;
use std::fmt;

use selvedge_chaincode::{Decimal, DocumentHash, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// All shares of a contribution together, in hundredths of a percent.
pub const WHOLE: u32 = 10_000;

/// A share in hundredths of a percent, so that sums are exact. Written as a percentage, for example `"12.5"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// Reads a percentage with at most two decimals, greater than 0 and at most 100.
    pub fn from_percent(percent: &Decimal) -> Option<Self> {
        let text = percent.as_str();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > 2 {
            return None;
        }
        let whole: u32 = whole.parse().ok()?;
        let hundredths: u32 = format!("{fraction:0<2}").parse().ok()?;
        let share = whole.checked_mul(100)?.checked_add(hundredths)?;
        (1..=WHOLE).contains(&share).then_some(Self(share))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0 / 100, self.0 % 100);
        match hundredths {
            0 => write!(f, "{whole}"),
            h if h % 10 == 0 => write!(f, "{whole}.{}", h / 10),
            h => write!(f, "{whole}.{h:02}"),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse::<Decimal>()
            .ok()
            .and_then(|percent| Self::from_percent(&percent))
            .ok_or_else(|| de::Error::custom(format_args!("{text} is not a share")))
    }
}

/// A person: organisation and common name in the certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// MSP id of the organisation.
    pub msp_id: String,
    /// Common name.
    pub user: String,
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.user, self.msp_id)
    }
}

/// An author and his share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Who.
    #[serde(flatten)]
    pub person: Person,
    /// How much of it is his.
    pub share: Share,
}

/// An idea that a contribution builds on, and what it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Id of the idea.
    pub idea: String,
    /// How much goes to it.
    pub share: Share,
}

/// A contribution, written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contribution {
    /// Its id, unique in the channel.
    pub id: String,
    /// What it is.
    pub title: String,
    /// In a few sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Hash of the document, which stays at home.
    #[serde(flatten)]
    pub hash: Option<DocumentHash>,
    /// Who made it, in the order of organisation and name.
    pub authors: Vec<Author>,
    /// What it builds on, in the order of ids.
    pub parents: Vec<Parent>,
    /// Who recorded it.
    pub contributed_by: Person,
    /// Timestamp of the transaction.
    pub created_at: Timestamp,
    /// The transaction.
    pub tx_id: String,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Contribution {
    /// True for one of its authors.
    pub fn is_author(&self, person: &Person) -> bool {
        self.authors.iter().any(|author| author.person == *person)
    }
}

/// Whether the authors stand to the shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Some have not said anything yet.
    Proposed,
    /// All have agreed.
    Agreed,
    /// One has refused.
    Refused,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Proposed, Self::Agreed, Self::Refused];

    /// The state as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Agreed => "agreed",
            Self::Refused => "refused",
        }
    }
}

/// What an author said about the shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Word {
    pub(crate) agreed: bool,
    pub(crate) at: Timestamp,
    pub(crate) tx_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// What one person thinks of a contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Assessment {
    pub(crate) by: Person,
    pub(crate) scores: BTreeMap<String, u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    pub(crate) at: Timestamp,
    pub(crate) tx_id: String,
}

/// Who gets what of a reward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RewardPart {
    #[serde(flatten)]
    pub(crate) person: Person,
    /// Text and not a `Decimal`, because its last zeros tell in which units it was split.
    pub(crate) amount: String,
}

/// A reward, written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reward {
    pub(crate) id: String,
    pub(crate) idea: String,
    pub(crate) amount: Decimal,
    pub(crate) currency: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<String>,
    pub(crate) by: String,
    pub(crate) user: String,
    pub(crate) at: Timestamp,
    pub(crate) tx_id: String,
    pub(crate) parts: Vec<RewardPart>,
}
