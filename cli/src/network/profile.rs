//! Connection profiles: the JSON file that Fabric's clients and Caliper read to find an organisation's nodes.

use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::network::config::{NetworkConfig, PeerOrganization, external};
use crate::network::layout::Layout;

/// Writes `connection-<org>.json` of every peer organisation.
pub(crate) fn write_all(config: &NetworkConfig, layout: &Layout) -> Result<(), CliError> {
    for org in &config.peer_organizations {
        let org_layout = layout.peer_org(&org.domain);
        let roots_path = org_layout.tls_ca_certificate();
        let roots = std::fs::read_to_string(&roots_path).map_err(|source| CliError::ReadFile {
            path: roots_path,
            source,
        })?;
        let profile = connection_profile(&config.name, org, &roots);
        let path = org_layout
            .root()
            .join(format!("connection-{}.json", org.name.to_lowercase()));
        std::fs::write(&path, format!("{profile:#}\n"))
            .map_err(|source| CliError::WriteFile { path, source })?;
    }
    Ok(())
}

fn connection_profile(network: &str, org: &PeerOrganization, tls_roots: &str) -> Value {
    let mut peers = Map::new();
    for node in &org.peers {
        let host = format!("{}.{}", node.name, org.domain);
        let address = external(node.external_address.as_deref(), &node.listen);
        let entry = json!({
            "url": format!("grpcs://{address}"),
            "tlsCACerts": { "pem": tls_roots },
            "grpcOptions": { "ssl-target-name-override": host, "hostnameOverride": host },
        });
        peers.insert(host, entry);
    }
    let mut organization = json!({
        "mspid": org.msp_id,
        "peers": peers.keys().collect::<Vec<_>>(),
    });
    let mut profile = json!({
        "name": format!("{network}-{}", org.name.to_lowercase()),
        "version": "1.0.0",
        "client": {
            "organization": org.name,
            "connection": { "timeout": { "peer": { "endorser": "300" } } },
        },
        "peers": peers,
    });
    if let Some(ca) = &org.ca {
        let host = format!("ca.{}", org.domain);
        let address = external(ca.external_address.as_deref(), &ca.listen);
        organization["certificateAuthorities"] = json!([host]);
        let entry = json!({
            "url": format!("https://{address}"),
            "caName": ca.name,
            "tlsCACerts": { "pem": [tls_roots] },
            "httpOptions": { "verify": true },
        });
        profile["certificateAuthorities"] = json!({ host: entry });
    }
    profile["organizations"] = json!({ org.name.clone(): organization });
    profile
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_every_node_of_the_organisation() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../network-configs/consortium.yaml");
        let config = NetworkConfig::read(&path).unwrap();
        let profile = connection_profile(&config.name, &config.peer_organizations[0], "PEM");
        assert_eq!(profile["organizations"]["Org1"]["mspid"], "Org1MSP");
        assert_eq!(
            profile["peers"]["peer0.org1.example.com"]["url"],
            "grpcs://localhost:7051"
        );
        assert_eq!(
            profile["certificateAuthorities"]["ca.org1.example.com"]["caName"],
            "ca-org1"
        );
        assert_eq!(
            profile["organizations"]["Org1"]["certificateAuthorities"][0],
            "ca.org1.example.com"
        );
    }
}
