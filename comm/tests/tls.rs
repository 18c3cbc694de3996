//! Servers and clients of this crate against each other, over real TLS on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use axum::extract::Extension;
use axum::routing::{get, post};
use selvedge_comm::{
    ClientAuth, ClientTls, CommError, HttpClient, Method, PeerTls, ServerTls, TlsIdentity, bind, serve_http,
};
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SubjectExtra, Usage, Validity,
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
        let certificate = self
            .0
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
            .unwrap();
        TlsIdentity::new(certificate.to_pem().as_bytes(), key.to_pkcs8_pem().as_bytes())
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
        client_roots: vec![authority.root()],
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
