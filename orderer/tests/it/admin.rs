//! The channel participation interface, as osnadmin speaks to it.

use prost::Message;
use selvedge_comm::{ClientTls, HttpClient};
use selvedge_orderer::Orderer;

use crate::support::{CHANNEL, Network};

struct Admin {
    client: HttpClient,
    base: String,
}

impl Admin {
    fn new(node: &Orderer) -> Self {
        Self {
            client: HttpClient::new(ClientTls::default()),
            base: format!("http://{}", node.admin_address().unwrap()),
        }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, String, String) {
        let url = format!("{}{path}", self.base);
        let method = axum::http::Method::from_bytes(method.as_bytes()).unwrap();
        let answer = self.client.request(method, &url, headers, body).await.unwrap();
        let header = |name: &str| {
            let value = answer.headers.get(name);
            value.map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
        };
        let interesting = [header("location"), header("allow"), header("cache-control")].concat();
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        (answer.status.as_u16(), interesting, body)
    }

    async fn join(&self, parts: &[(&str, &[u8])]) -> (u16, String, String) {
        let mut body = Vec::new();
        for (name, content) in parts {
            body.extend_from_slice(
                format!(
                    "--edge\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\r\n"
                )
                .as_bytes(),
            );
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--edge--\r\n");
        let kind = [("content-type", "multipart/form-data; boundary=edge")];
        self.call("POST", "/participation/v1/channels", &kind, body).await
    }
}

const CHANNELS: &str = "/participation/v1/channels";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn join_list_info_remove() {
    let network = Network::new(1, 1, |_| {});
    let node = network.start(0).await;
    let admin = Admin::new(&node);
    let one = format!("{CHANNELS}/{CHANNEL}");
    let get = async |path: &str| admin.call("GET", path, &[], Vec::new()).await;
    let genesis = network.genesis.encode_to_vec();

    let (status, _, body) = get(CHANNELS).await;
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"systemChannel":null,"channels":null}"#)
    );
    assert_eq!(get(&one).await.0, 404);

    let full = format!(
        r#"{{"name":"{CHANNEL}","url":"{one}","consensusRelation":"consenter","status":"active","height":1}}"#
    );
    let joined = admin.join(&[("config-block", &genesis)]).await;
    assert_eq!(joined, (201, one.clone(), full.clone()));
    assert_eq!(get(&one).await, (200, "no-store".into(), full));
    let listed = format!(r#"{{"systemChannel":null,"channels":[{{"name":"{CHANNEL}","url":"{one}"}}]}}"#);
    assert_eq!(get(CHANNELS).await, (200, "no-store".into(), listed));
    let (status, _, body) = get(&format!("{one}/blocks/newest")).await;
    assert_eq!(status, 200);
    assert!(!body.is_empty());
    assert_eq!(get(&format!("{one}/blocks/7")).await.0, 404);
    assert_eq!(get(&format!("{one}/blocks/latest")).await.0, 400);
    let again = admin.join(&[("config-block", &genesis)]).await;
    assert_eq!((again.0, again.1.as_str()), (405, "GET, DELETE"));

    // A restart keeps the channel.
    node.stop().await;
    let node = network.start(0).await;
    let admin = Admin::new(&node);
    assert_eq!(node.channels().len(), 1);
    let removed = admin.call("DELETE", &one, &[], Vec::new()).await;
    assert_eq!((removed.0, removed.2.as_str()), (204, ""));
    assert_eq!(admin.call("DELETE", &one, &[], Vec::new()).await.0, 404);
    assert!(
        !network.configs[0]
            .data_dir
            .join("channels")
            .join(CHANNEL)
            .exists()
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes() {
    let network = Network::new(1, 1, |_| {});
    let node = network.start(0).await;
    let admin = Admin::new(&node);
    let genesis = network.genesis.encode_to_vec();
    let root = admin.call("GET", "/participation/v1/", &[], Vec::new()).await;
    assert_eq!((root.0, root.1.as_str()), (302, CHANNELS));

    let mut wrong_hash = network.genesis.clone();
    wrong_hash.header.as_mut().unwrap().data_hash = vec![1; 32].into();
    let mut bare = network.genesis.clone();
    bare.metadata = None;
    let mut not_config = network.genesis.clone();
    not_config.data = Some(selvedge_proto::common::BlockData {
        data: vec![vec![1].into()],
    });
    type Case = (&'static str, Vec<(&'static str, Vec<u8>)>, &'static str);
    let cases: Vec<Case> = vec![
        ("no part", vec![], "does not contain part config-block"),
        ("other part", vec![("block", genesis.clone())], "unexpected part"),
        (
            "two parts",
            vec![
                ("config-block", genesis.clone()),
                ("config-block", genesis.clone()),
            ],
            "several parts",
        ),
        ("junk", vec![("config-block", vec![0xff; 9])], "cannot unmarshal"),
        (
            "data hash",
            vec![("config-block", wrong_hash.encode_to_vec())],
            "invalid join block",
        ),
        (
            "no metadata",
            vec![("config-block", bare.encode_to_vec())],
            "invalid join block",
        ),
        (
            "no config",
            vec![("config-block", not_config.encode_to_vec())],
            "invalid join block",
        ),
        (
            "too large",
            vec![("config-block", vec![0; 2 << 20])],
            "larger than",
        ),
    ];
    for (name, parts, text) in cases {
        let parts: Vec<(&str, &[u8])> = parts.iter().map(|(n, b)| (*n, b.as_slice())).collect();
        let (status, _, body) = admin.join(&parts).await;
        assert_eq!(status, 400, "{name}: {body}");
        assert!(
            body.starts_with("{\"error\":") && body.contains(text),
            "{name}: {body}"
        );
    }
    let plain = admin
        .call("POST", CHANNELS, &[("content-type", "text/plain")], genesis)
        .await;
    assert_eq!(plain.0, 400);
    let put = admin.call("PUT", CHANNELS, &[], Vec::new()).await;
    assert_eq!(put.0, 400);
    let patch = admin.call("PATCH", CHANNELS, &[], Vec::new()).await;
    assert_eq!((patch.0, patch.1.as_str()), (405, "GET, POST, PUT"));
    let bad_id = admin
        .call("GET", "/participation/v1/channels/Upper", &[], Vec::new())
        .await;
    assert_eq!(bad_id.0, 400);
    let kind = [("accept", "text/html")];
    assert_eq!(admin.call("GET", CHANNELS, &kind, Vec::new()).await.0, 406);
    assert_eq!(node.channels(), []);
    node.stop().await;
}
