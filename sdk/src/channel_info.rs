//! What a client needs to know of a channel, read from its configuration: whom to trust, where the orderers and peers are.

use std::sync::Arc;

use prost::Message;
use selvedge_msp::{Msp, MspManager, MspVersion, SigningIdentity};
use selvedge_proto::{common, msp, protos};

use crate::error::Error;
use crate::peer::PeerClient;

/// An orderer of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdererAddress {
    /// Its organisation; empty for the global addresses of old channels.
    pub msp_id: String,
    /// `host:port`.
    pub address: String,
    /// PEM certificates that its TLS certificate chains to.
    pub tls_roots: Vec<Vec<u8>>,
}

/// An anchor peer of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLocation {
    /// Its organisation.
    pub msp_id: String,
    /// `host:port`.
    pub address: String,
    /// PEM certificates that its TLS certificate chains to.
    pub tls_roots: Vec<Vec<u8>>,
}

/// A channel as a client sees it.
#[derive(Debug, Clone)]
pub struct ChannelInfo {
    /// The channel.
    pub channel: String,
    /// Number of the configuration this was read from.
    pub sequence: u64,
    /// Its organisations.
    pub msps: Arc<MspManager>,
    /// MSP ids of the organisations that use it.
    pub application_orgs: Vec<String>,
    /// Its orderers, in the order of the organisations' names.
    pub orderers: Vec<OrdererAddress>,
    /// The peers that the organisations name.
    pub anchor_peers: Vec<PeerLocation>,
    /// The group of the application, with its policies.
    application: Arc<common::ConfigGroup>,
}

impl ChannelInfo {
    /// Asks a peer for the configuration. The peer is trusted with it: choose one of the caller's own organisation.
    ///
    /// # Errors
    /// The peer refuses, or the configuration is not usable.
    pub async fn fetch(peer: &PeerClient, identity: &SigningIdentity, channel: &str) -> Result<Self, Error> {
        let config = peer.channel_config(identity, channel).await?;
        Self::from_config(channel, &config)
    }

    /// A policy of the application by its path (`/Channel/Application/Endorsement`), with those of the organisations that it
    /// refers to.
    ///
    /// # Errors
    /// There is none, or it is of no known kind.
    pub fn application_policy(&self, path: &str) -> Result<common::SignaturePolicyEnvelope, Error> {
        use common::implicit_meta_policy::Rule;
        use common::policy::PolicyType;
        let wrong = |why: &str| Error::ChannelConfig {
            channel: self.channel.clone(),
            why: format!("policy {path} {why}"),
        };
        let name = path
            .strip_prefix("/Channel/Application/")
            .ok_or_else(|| wrong("is none of the application"))?;
        let policy = policy_in(&self.application, name).ok_or_else(|| wrong("does not exist"))?;
        let signature = |policy: &common::Policy| {
            common::SignaturePolicyEnvelope::decode(policy.value.clone())
                .map_err(|e| wrong(&format!("does not decode: {e}")))
        };
        match PolicyType::try_from(policy.r#type) {
            Ok(PolicyType::Signature) => signature(policy),
            Ok(PolicyType::ImplicitMeta) => {
                let meta = common::ImplicitMetaPolicy::decode(policy.value.clone())
                    .map_err(|e| wrong(&format!("does not decode: {e}")))?;
                let mut names: Vec<&String> = self.application.groups.keys().collect();
                names.sort();
                let count = names.len();
                let mut parts = Vec::with_capacity(count);
                for org in names {
                    let part = self
                        .application
                        .groups
                        .get(org)
                        .and_then(|group| policy_in(group, &meta.sub_policy));
                    // One that is missing can never be satisfied, and counts all the same.
                    if let Some(part) =
                        part.filter(|p| PolicyType::try_from(p.r#type) == Ok(PolicyType::Signature))
                    {
                        parts.push(signature(part)?);
                    }
                }
                let threshold = match Rule::try_from(meta.rule) {
                    Ok(Rule::Any) => 1,
                    Ok(Rule::All) => count,
                    Ok(Rule::Majority) => count / 2 + 1,
                    Err(_) => return Err(wrong("has a rule of no known kind")),
                };
                Ok(crate::endorsement::combined(threshold, parts))
            }
            _ => Err(wrong("is of no known kind")),
        }
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// Names the part that is missing or not usable.
    pub fn from_config(channel: &str, config: &common::Config) -> Result<Self, Error> {
        Reader { channel }.read(config)
    }
}

fn policy_in<'a>(group: &'a common::ConfigGroup, name: &str) -> Option<&'a common::Policy> {
    group.policies.get(name)?.policy.as_ref()
}

struct Reader<'a> {
    channel: &'a str,
}

struct Org<'a> {
    msp_id: String,
    tls_roots: Vec<Vec<u8>>,
    group: &'a common::ConfigGroup,
}

impl Reader<'_> {
    fn wrong(&self, why: impl Into<String>) -> Error {
        Error::ChannelConfig {
            channel: self.channel.to_owned(),
            why: why.into(),
        }
    }

    fn value<M: Message + Default>(
        &self,
        group: &common::ConfigGroup,
        name: &str,
    ) -> Result<Option<M>, Error> {
        group
            .values
            .get(name)
            .map(|value| {
                M::decode(value.value.clone())
                    .map_err(|e| self.wrong(format!("value {name} does not decode: {e}")))
            })
            .transpose()
    }

    /// The organisations below a group, in the order of their names.
    fn orgs<'g>(
        &self,
        group: &'g common::ConfigGroup,
        version: MspVersion,
        msps: &mut Vec<Msp>,
    ) -> Result<Vec<Org<'g>>, Error> {
        let mut names: Vec<&String> = group.groups.keys().collect();
        names.sort();
        let mut orgs = Vec::with_capacity(names.len());
        for name in names {
            let Some(group) = group.groups.get(name) else {
                continue;
            };
            let config: msp::MspConfig = self
                .value(group, "MSP")?
                .ok_or_else(|| self.wrong(format!("organisation {name} has no MSP")))?;
            let msp = Msp::new(&config, version)
                .map_err(|e| self.wrong(format!("MSP of organisation {name}: {e}")))?;
            orgs.push(Org {
                msp_id: msp.id().to_owned(),
                tls_roots: msp.ca_tls_roots(),
                group,
            });
            // An organisation may both order and use the channel, with one MSP.
            if msps.iter().all(|known| known.id() != msp.id()) {
                msps.push(msp);
            }
        }
        Ok(orgs)
    }

    fn read(&self, config: &common::Config) -> Result<ChannelInfo, Error> {
        let root = config
            .channel_group
            .as_ref()
            .ok_or_else(|| self.wrong("it has no channel group"))?;
        let capabilities: common::Capabilities = self.value(root, "Capabilities")?.unwrap_or_default();
        let version = if capabilities.capabilities.contains_key("V3_0") {
            MspVersion::V3_0
        } else {
            MspVersion::V1_4_3
        };
        let mut msps = Vec::new();
        let part = |name: &str| {
            root.groups
                .get(name)
                .ok_or_else(|| self.wrong(format!("it has no group {name}")))
        };
        let orderer_orgs = self.orgs(part("Orderer")?, version, &mut msps)?;
        let application_orgs = self.orgs(part("Application")?, version, &mut msps)?;

        let orderers = self.orderers(root, &orderer_orgs)?;
        let mut anchor_peers = Vec::new();
        for org in &application_orgs {
            let anchors: protos::AnchorPeers = self.value(org.group, "AnchorPeers")?.unwrap_or_default();
            anchor_peers.extend(anchors.anchor_peers.into_iter().map(|peer| PeerLocation {
                msp_id: org.msp_id.clone(),
                address: format!("{}:{}", peer.host, peer.port),
                tls_roots: org.tls_roots.clone(),
            }));
        }
        Ok(ChannelInfo {
            channel: self.channel.to_owned(),
            sequence: config.sequence,
            msps: Arc::new(MspManager::new(msps)),
            application_orgs: application_orgs.into_iter().map(|o| o.msp_id).collect(),
            orderers,
            anchor_peers,
            application: Arc::new(part("Application")?.clone()),
        })
    }

    /// Endpoints of the organisations; the global list only where no organisation has any (spec 05 §8).
    fn orderers(&self, root: &common::ConfigGroup, orgs: &[Org<'_>]) -> Result<Vec<OrdererAddress>, Error> {
        let mut found = Vec::new();
        for org in orgs {
            let endpoints: common::OrdererAddresses = self.value(org.group, "Endpoints")?.unwrap_or_default();
            found.extend(endpoints.addresses.into_iter().map(|address| OrdererAddress {
                msp_id: org.msp_id.clone(),
                address,
                tls_roots: org.tls_roots.clone(),
            }));
        }
        if found.is_empty() {
            let global: common::OrdererAddresses = self.value(root, "OrdererAddresses")?.unwrap_or_default();
            let tls_roots: Vec<Vec<u8>> = orgs.iter().flat_map(|o| o.tls_roots.clone()).collect();
            found.extend(global.addresses.into_iter().map(|address| OrdererAddress {
                msp_id: String::new(),
                address,
                tls_roots: tls_roots.clone(),
            }));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        let text = |config| {
            ChannelInfo::from_config("trade", &config)
                .unwrap_err()
                .to_string()
        };
        assert!(text(common::Config::default()).contains("trade"));
        let config = common::Config {
            sequence: 0,
            channel_group: Some(common::ConfigGroup::default()),
        };
        assert!(text(config).contains("no group Orderer"));
        let group = common::ConfigGroup {
            groups: [("Org1".to_owned(), common::ConfigGroup::default())].into(),
            ..Default::default()
        };
        let config = common::Config {
            sequence: 0,
            channel_group: Some(common::ConfigGroup {
                groups: [("Orderer".to_owned(), group)].into(),
                ..Default::default()
            }),
        };
        assert!(text(config).contains("organisation Org1 has no MSP"));
    }

    fn value(message: &impl Message) -> common::ConfigValue {
        common::ConfigValue {
            value: message.encode_to_vec().into(),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn reads_organisations_orderers_and_anchor_peers() {
        use crate::testing::Org;
        let (buyer, carrier) = (Org::new("BuyerMSP"), Org::new("OrdererMSP"));
        let anchors = protos::AnchorPeers {
            anchor_peers: vec![protos::AnchorPeer {
                host: "peer0.buyer".into(),
                port: 7051,
            }],
        };
        let endpoints = common::OrdererAddresses {
            addresses: vec!["o1:7050".into(), "o2:7050".into()],
        };
        let group = |values: Vec<(&str, common::ConfigValue)>| common::ConfigGroup {
            values: values.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            ..Default::default()
        };
        let parent = |name: &str, child| common::ConfigGroup {
            groups: [(name.to_owned(), child)].into(),
            ..Default::default()
        };
        let buyer_group = group(vec![
            ("MSP", value(&buyer.msp_config())),
            ("AnchorPeers", value(&anchors)),
        ]);
        let orderer_group = group(vec![
            ("MSP", value(&carrier.msp_config())),
            ("Endpoints", value(&endpoints)),
        ]);
        let mut buyer_group = buyer_group;
        let policy = |kind, value: Vec<u8>| common::ConfigPolicy {
            policy: Some(common::Policy {
                r#type: kind,
                value: value.into(),
            }),
            ..Default::default()
        };
        let of_buyer = selvedge_msp::policy::dsl::parse("OR('BuyerMSP.peer')").unwrap();
        let meta = common::ImplicitMetaPolicy {
            sub_policy: "Endorsement".into(),
            rule: common::implicit_meta_policy::Rule::Majority as i32,
        };
        buyer_group
            .policies
            .insert("Endorsement".into(), policy(1, of_buyer.encode_to_vec()));
        let mut application = parent("Buyer", buyer_group);
        application
            .policies
            .insert("Endorsement".into(), policy(3, meta.encode_to_vec()));
        let root = common::ConfigGroup {
            groups: [
                ("Orderer".to_owned(), parent("Ordering", orderer_group)),
                ("Application".to_owned(), application),
            ]
            .into(),
            ..Default::default()
        };
        let config = common::Config {
            sequence: 3,
            channel_group: Some(root),
        };
        let info = ChannelInfo::from_config("trade", &config).unwrap();
        assert_eq!(info.sequence, 3);
        let endorsement = info
            .application_policy("/Channel/Application/Endorsement")
            .unwrap();
        assert_eq!(
            crate::endorsement::fewest(&endorsement, &[], &["CarrierMSP", "BuyerMSP"]),
            Some(vec![1])
        );
        let missing = info.application_policy("/Channel/Application/Other").unwrap_err();
        assert!(missing.to_string().contains("does not exist"), "{missing}");
        assert_eq!(info.application_orgs, ["BuyerMSP"]);
        let addresses: Vec<&str> = info.orderers.iter().map(|o| o.address.as_str()).collect();
        assert_eq!(addresses, ["o1:7050", "o2:7050"]);
        assert_eq!(info.orderers[0].msp_id, "OrdererMSP");
        assert_eq!(info.orderers[0].tls_roots.len(), 1);
        assert_eq!(info.anchor_peers[0].address, "peer0.buyer:7051");
        let client = buyer.identity("c", "client");
        assert_eq!(
            info.msps.deserialize(client.creator()).unwrap().msp_id(),
            "BuyerMSP"
        );
    }
}
