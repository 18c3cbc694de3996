//! Networks that grow while they run: the network file gets another organisation or orderer.

use serde_json::{Value, json};

use crate::network::text;
use crate::{Network, ports};

impl Network {
    /// Adds an organisation `Org<number>` with one peer to the network file, as member of no channel; [`Self::bring_up`]
    /// starts its peer. Gives the peer's host name.
    pub fn add_organization(&mut self, number: usize) -> String {
        let members: Vec<Value> = self.config["peer_organizations"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|org| org["name"].clone())
            .collect();
        for channel in self.config["channels"].as_array_mut().into_iter().flatten() {
            if channel["organizations"].is_null() {
                channel["organizations"] = members.clone().into();
            }
        }
        let domain = format!("org{number}.example.com");
        let org = json!({
            "name": format!("Org{number}"),
            "msp_id": format!("Org{number}MSP"),
            "domain": domain,
            "users": 1,
            "peers": [{ "name": "peer0", "listen": ports::listen() }],
        });
        self.add_to("peer_organizations", org);
        format!("peer0.{domain}")
    }

    /// Adds an orderer to the network file; [`Self::bring_up`] starts it. Gives its host name.
    pub fn add_orderer(&mut self, number: usize) -> String {
        let name = format!("orderer{number}");
        let node = json!({ "name": name, "listen": ports::listen(), "admin_listen": ports::listen() });
        let org = &mut self.config["orderer_organizations"][0];
        org["orderers"]
            .as_array_mut()
            .expect("a list of orderers")
            .push(node);
        let host = format!("{name}.{}", org["domain"].as_str().expect("a domain"));
        self.write_file();
        host
    }

    /// Takes an organisation out of what this value knows, after it has left the channel: its nodes run on, but are not asked
    /// any more. The network file stays as it is.
    pub fn forget_organization(&mut self, name: &str) {
        self.config["peer_organizations"]
            .as_array_mut()
            .expect("a list of organisations")
            .retain(|org| org["name"] != name);
    }

    /// Takes the TLS certificate and key of an orderer away; [`Self::bring_up`] makes new ones.
    pub fn remove_tls(&self, orderer: &str) {
        let domain = text(&self.node(orderer)["domain"]);
        let tls = self.org_dir(&domain).join("orderers").join(orderer).join("tls");
        for name in ["server.crt", "server.key"] {
            std::fs::remove_file(tls.join(name)).unwrap_or_else(|e| panic!("{name} of {orderer}: {e}"));
        }
    }

    fn add_to(&mut self, list: &str, entry: Value) {
        self.config[list]
            .as_array_mut()
            .expect("a list in the network file")
            .push(entry);
        self.write_file();
    }
}
