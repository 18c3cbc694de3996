//! Capabilities: which rules a channel asks its nodes to know (spec 03 §10.4).

use std::collections::BTreeSet;

use selvedge_proto::common;

/// A capability level; a channel follows the rules of the highest one it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are Fabric's own")]
pub enum Level {
    V1_1,
    V1_2,
    V1_3,
    V1_4_2,
    V1_4_3,
    V2_0,
    V2_5,
    V3_0,
}

/// The groups that carry capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapabilityGroup {
    /// `/Channel`: peers and orderers must know them.
    Channel,
    /// `/Channel/Orderer`: orderers must know them.
    Orderer,
    /// `/Channel/Application`: peers must know them.
    Application,
}

impl CapabilityGroup {
    /// Path of the group.
    pub fn path(self) -> &'static str {
        match self {
            Self::Channel => "/Channel",
            Self::Orderer => "/Channel/Orderer",
            Self::Application => "/Channel/Application",
        }
    }

    fn known(self) -> &'static [(&'static str, Level)] {
        match self {
            Self::Channel => &[
                ("V1_1", Level::V1_1),
                ("V1_3", Level::V1_3),
                ("V1_4_2", Level::V1_4_2),
                ("V1_4_3", Level::V1_4_3),
                ("V2_0", Level::V2_0),
                ("V3_0", Level::V3_0),
            ],
            Self::Orderer => &[
                ("V1_1", Level::V1_1),
                ("V1_4_2", Level::V1_4_2),
                ("V2_0", Level::V2_0),
            ],
            Self::Application => &[
                ("V1_1", Level::V1_1),
                ("V1_2", Level::V1_2),
                ("V1_3", Level::V1_3),
                ("V1_4_2", Level::V1_4_2),
                ("V2_0", Level::V2_0),
                ("V2_5", Level::V2_5),
            ],
        }
    }
}

/// The capabilities one group asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    names: BTreeSet<String>,
    unknown: BTreeSet<String>,
    level: Option<Level>,
}

impl Capabilities {
    pub(crate) fn new(group: CapabilityGroup, message: &common::Capabilities) -> Self {
        let mut read = Self::default();
        for name in message.capabilities.keys() {
            match group.known().iter().find(|(known, _)| known == name) {
                Some((_, level)) => read.level = read.level.max(Some(*level)),
                None => {
                    read.unknown.insert(name.clone());
                }
            }
            read.names.insert(name.clone());
        }
        read
    }

    /// All names, known or not.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Names that this build does not know.
    pub fn unknown(&self) -> &BTreeSet<String> {
        &self.unknown
    }

    /// The highest known level, if any is named.
    pub fn level(&self) -> Option<Level> {
        self.level
    }

    /// Whether the rules of `level` are in force.
    pub fn at_least(&self, level: Level) -> bool {
        self.level >= Some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(group: CapabilityGroup, names: &[&str]) -> Capabilities {
        let capabilities = names
            .iter()
            .map(|n| ((*n).to_owned(), common::Capability {}))
            .collect();
        Capabilities::new(group, &common::Capabilities { capabilities })
    }

    #[test]
    fn the_highest_counts() {
        let c = read(CapabilityGroup::Channel, &["V3_0", "V1_4_2"]);
        assert_eq!(c.level(), Some(Level::V3_0));
        assert!(c.at_least(Level::V2_0));
        assert!(!read(CapabilityGroup::Channel, &[]).at_least(Level::V1_1));
    }

    #[test]
    fn each_group_knows_its_own() {
        assert!(read(CapabilityGroup::Application, &["V2_5"]).unknown().is_empty());
        assert_eq!(read(CapabilityGroup::Channel, &["V2_5"]).unknown().len(), 1);
        assert_eq!(read(CapabilityGroup::Orderer, &["V3_0"]).unknown().len(), 1);
    }
}
