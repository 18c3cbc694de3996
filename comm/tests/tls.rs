//! Servers and clients of this crate against each other, over real TLS on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use axum::extract::Extension;
use axum::routing::{get, post};
use selvedge_comm::{
    ClientAuth, ClientTls, CommError, HttpClient, Method, PeerTls, Roots, ServerTls, TlsIdentity, bind,
    serve_http, served_certificates,
};
use selvedge_msp::{
    CaSubject, Certificate, CertificateAuthority, IssueRequest, PrivateKey, SubjectExtra, Usage, Validity,
};

const LONG_AGO: i64 = 1_600_000_000;
const FAR_AHEAD: i64 = 4_000_000_000;

struct Authority(CertificateAuthority);

impl Authority {
    fn new() -> Self {
        let subject = CaSubject {
            common_name: "tlsca".into(),
            ..CaSubject::default()
        };
        let validity = Validity {
            not_before: LONG_AGO,
            not_after: FAR_AHEAD,
        };
        Self(CertificateAuthority::generate_root(&subject, &validity).unwrap())
    }

    fn root(&self) -> Vec<u8> {
        self.0.certificate().to_pem().into_bytes()
    }

    fn identity(&self, name: &str) -> TlsIdentity {
        let key = PrivateKey::generate().unwrap();
        let certificate = self.certificate_for(&key, name);
        TlsIdentity::new(certificate.to_pem().as_bytes(), key.to_pkcs8_pem().as_bytes())
    }

    fn certificate_for(&self, key: &PrivateKey, name: &str) -> Certificate {
        self.0
            .issue(&IssueRequest {
                public_key: key.public_key().clone(),
                common_name: name.into(),
                organizational_units: Vec::new(),
                dns_names: vec![name.into()],
                ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                attributes: BTreeMap::new(),
                usage: Usage::Tls,
                not_before: LONG_AGO,
                not_after: FAR_AHEAD,
                subject_extra: SubjectExtra::default(),
            })
            .unwrap()
    }
}

/// Serves who called and what was sent; returns the base URL.
async fn server(authority: &Authority, client_auth: ClientAuth) -> String {
    let router = axum::Router::new()
        .route(
            "/who",
            get(|Extension(tls): Extension<PeerTls>| async move {
                tls.leaf()
                    .map_or_else(|| "nobody".to_owned(), |leaf| leaf.len().to_string())
            }),
        )
        .route("/echo", post(|body: String| async move { body }));
    let tls = ServerTls {
        identity: authority.identity("peer0.example.com"),
        client_roots: vec![authority.root()].into(),
        client_auth,
    };
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_http(listener, Some(tls), router, std::future::pending()));
    format!("https://{address}")
}

async fn get_who(url: &str, tls: ClientTls) -> Result<String, CommError> {
    let answer = HttpClient::new(tls)
        .request(Method::GET, &format!("{url}/who"), &[], "")
        .await?;
    Ok(String::from_utf8(answer.body.to_vec()).unwrap())
}

fn trusting(authority: &Authority) -> ClientTls {
    ClientTls {
        roots: vec![authority.root()],
        ..ClientTls::default()
    }
}

#[tokio::test]
async fn handlers_see_the_certificate_that_a_caller_volunteers() {
    let authority = Authority::new();
    let url = server(&authority, ClientAuth::Request).await;
    assert_eq!(get_who(&url, trusting(&authority)).await.unwrap(), "nobody");

    // Of an authority that the server does not know: taken in this mode, for the handler to judge.
    let identity = Authority::new().identity("device");
    let length = identity.leaf_der().unwrap().len();
    let tls = ClientTls {
        identity: Some(identity),
        only_tls13: true,
        ..trusting(&authority)
    };
    assert_eq!(get_who(&url, tls).await.unwrap(), length.to_string());
}

#[tokio::test]
async fn a_demanded_certificate_must_be_there_and_known() {
    let authority = Authority::new();
    let url = server(&authority, ClientAuth::Require).await;
    assert!(get_who(&url, trusting(&authority)).await.is_err());
    let stranger = ClientTls {
        identity: Some(Authority::new().identity("x")),
        ..trusting(&authority)
    };
    assert!(get_who(&url, stranger).await.is_err());
    let known = ClientTls {
        identity: Some(authority.identity("admin")),
        ..trusting(&authority)
    };
    assert!(get_who(&url, known).await.is_ok());
}

#[tokio::test]
async fn servers_of_other_authorities_and_names_are_not_trusted() {
    let authority = Authority::new();
    let url = server(&authority, ClientAuth::Request).await;
    let error = get_who(&url, trusting(&Authority::new())).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    let renamed = |name: &str| ClientTls {
        server_name: Some(name.into()),
        ..trusting(&authority)
    };
    assert!(get_who(&url, renamed("peer0.example.com")).await.is_ok());
    let error = get_who(&url, renamed("peer1.example.com")).await.unwrap_err();
    assert!(error.to_string().contains("peer1.example.com"), "{error}");
}

#[tokio::test]
async fn bodies_and_errors_arrive() {
    let authority = Authority::new();
    let url = server(&authority, ClientAuth::Request).await;
    let client = HttpClient::new(trusting(&authority));
    let long = "x".repeat(1_000_000);
    let echo = format!("{url}/echo");
    let answer = client
        .request(Method::POST, &echo, &[("x-a", "b")], long.clone())
        .await
        .unwrap();
    assert_eq!(answer.body, long);
    assert_eq!(
        client.request(Method::GET, &echo, &[], "").await.unwrap().status,
        405
    );
    let error = client
        .request(Method::GET, "https://127.0.0.1:1/", &[], "")
        .await
        .unwrap_err();
    assert!(matches!(error, CommError::Connect { .. }), "{error}");
    let error = client.request(Method::GET, "nowhere", &[], "").await.unwrap_err();
    assert!(matches!(error, CommError::Address { .. }), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = bind(&address).await.unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn certificates_and_roots_are_replaced_while_a_server_runs() {
    let (first, second) = (Authority::new(), Authority::new());
    let pair = |authority: &Authority| {
        let key = PrivateKey::generate().unwrap();
        let certificate = authority.certificate_for(&key, "peer0.example.com");
        (certificate.to_pem(), key.to_pkcs8_pem())
    };
    let (old, old_key) = pair(&first);
    let shown = TlsIdentity::new(old.as_bytes(), old_key.as_bytes());
    let roots = Roots::from(vec![first.root()]);
    let tls = ServerTls {
        identity: shown.clone(),
        client_roots: roots.clone(),
        client_auth: ClientAuth::Require,
    };
    let router = axum::Router::new().route("/who", get(|| async { "served" }));
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let url = format!("https://{address}");
    tokio::spawn(serve_http(listener, Some(tls), router, std::future::pending()));

    let own = first.identity("client");
    let caller = |trusted: &Authority| ClientTls {
        identity: Some(own.clone()),
        ..trusting(trusted)
    };
    assert_eq!(get_who(&url, caller(&first)).await.unwrap(), "served");

    let (new, new_key) = pair(&second);
    assert!(
        shown.replace(new.as_bytes(), old_key.as_bytes()).is_err(),
        "no pair"
    );
    shown.replace(new.as_bytes(), new_key.as_bytes()).unwrap();
    assert!(
        get_who(&url, caller(&first)).await.is_err(),
        "the old root says nothing of the new certificate"
    );
    assert_eq!(get_who(&url, caller(&second)).await.unwrap(), "served");
    // The probe has no certificate to show, and sees the server's all the same.
    let seen = served_certificates(&address).await.unwrap();
    assert_eq!(seen[0], shown.leaf_der().unwrap());

    assert!(
        roots
            .replace(vec![
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()
            ])
            .is_err()
    );
    roots.replace(vec![second.root()]).unwrap();
    assert!(
        get_who(&url, caller(&second)).await.is_err(),
        "the caller's root is trusted no more"
    );
    // The caller's own certificate is replaced, and the settings that hold it follow.
    let client = PrivateKey::generate().unwrap();
    let renewed = second.certificate_for(&client, "client").to_pem();
    own.replace(renewed.as_bytes(), client.to_pkcs8_pem().as_bytes())
        .unwrap();
    assert_eq!(get_who(&url, caller(&second)).await.unwrap(), "served");
}

/// Reads until the server closes the connection; what it had said before.
async fn until_closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut said = Vec::new();
    // A reset closes as well.
    let _ = stream.read_to_end(&mut said).await;
    said
}

/// The server's own limits end these connections, the longest after half a minute. Without them this test does not end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_keep_a_server_waiting_are_dropped_and_others_are_served() {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    let authority = Authority::new();
    let url = server(&authority, ClientAuth::Request).await;
    let address = url.trim_start_matches("https://").to_owned();
    let config = std::sync::Arc::new(trusting(&authority).rustls(&[b"http/1.1"]).unwrap());
    let connected = async || TcpStream::connect(&address).await.unwrap();
    let tls = async || {
        let name = rustls_pki_types::ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        TlsConnector::from(std::sync::Arc::clone(&config))
            .connect(name, connected().await)
            .await
            .unwrap()
    };
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        waiting.spawn(until_closed(connected().await));
        let mut half = connected().await;
        // The beginning of a ClientHello of 512 bytes.
        half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])
            .await
            .unwrap();
        waiting.spawn(until_closed(half));
    }
    for begun in ["", "P", "POST /echo HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
        let mut stream = tls().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        waiting.spawn(until_closed(stream));
    }
    assert_eq!(get_who(&url, trusting(&authority)).await.unwrap(), "nobody");
    while let Some(said) = waiting.join_next().await {
        let said = String::from_utf8_lossy(&said.unwrap()).into_owned();
        assert!(!said.contains("200 OK"), "{said}");
    }
    assert_eq!(get_who(&url, trusting(&authority)).await.unwrap(), "nobody");
}
