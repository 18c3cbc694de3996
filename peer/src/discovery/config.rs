//! The config query: the members' MSPs and where the ordering service is.

use std::collections::BTreeMap;

use selvedge_channel::Bundle;
use selvedge_proto::discovery::{ConfigResult, Endpoint, Endpoints};

/// Answers a config query.
///
/// # Errors
/// The channel's configuration holds an orderer address that is none.
pub(super) fn of_channel(bundle: &Bundle) -> Result<ConfigResult, String> {
    let mut orderers: BTreeMap<String, Endpoints> = BTreeMap::new();
    for endpoint in bundle.orderer_endpoints() {
        let address = parse(&endpoint.address)?;
        match endpoint.msp_id {
            Some(msp_id) => orderers.entry(msp_id).or_default().endpoint.push(address),
            // A global address may belong to any of the organisations that order.
            None => {
                for msp_id in bundle.orderer().into_iter().flat_map(|o| o.orgs.values()) {
                    let list = orderers.entry(msp_id.clone()).or_default();
                    list.endpoint.push(address.clone());
                }
            }
        }
    }
    Ok(ConfigResult {
        msps: bundle
            .msps()
            .msps()
            .map(|msp| (msp.id().to_owned(), msp.config().clone()))
            .collect(),
        orderers: orderers.into_iter().collect(),
    })
}

fn parse(address: &str) -> Result<Endpoint, String> {
    let wrong = || format!("orderer address {address:?} in the channel configuration is not host:port");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    Ok(Endpoint {
        host: host.to_owned(),
        port: port.parse::<u16>().map_err(|_| wrong())?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_at_the_last_colon() {
        let endpoint = parse("orderer0.example.com:7050").unwrap();
        assert_eq!(
            (endpoint.host.as_str(), endpoint.port),
            ("orderer0.example.com", 7050)
        );
        assert_eq!(parse("[::1]:7050").unwrap().host, "[::1]");
        for wrong in ["orderer", "orderer:", "orderer:port", "orderer:70000"] {
            assert!(parse(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
