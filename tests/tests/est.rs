//! Enrolment over Secure Transport (RFC 7030) with the tools that everybody has: curl and openssl.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::PathBuf;
use std::process::Command;

use selvedge_msp::{Certificate, PrivateKey};
use selvedge_sdk::{CaClient, ClientIdentity, ClientTls, EnrollRequest, Registration};
use selvedge_system_tests::{CaServer, INTERMEDIATE, ROOT};

struct Bench {
    server: CaServer,
}

impl Bench {
    /// Runs a line of shell in the test's folder, as a user would type it.
    fn sh(&self, line: &str) -> Result<String, String> {
        let done = Command::new("sh")
            .args(["-euc", line])
            .current_dir(self.server.dir())
            .env("CA", self.server.url())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        if done.status.success() {
            Ok(text)
        } else {
            Err(format!("{text}{}", String::from_utf8_lossy(&done.stderr)))
        }
    }

    fn ok(&self, line: &str) -> String {
        self.sh(line).unwrap_or_else(|e| panic!("{line}\n{e}"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.server.dir().join(name)
    }

    fn certificate(&self, name: &str) -> Certificate {
        Certificate::from_pem(&std::fs::read(self.file(name)).unwrap()).unwrap()
    }

    async fn register(&self, authority: &str, id: &str) -> String {
        let tls = ClientTls {
            roots: vec![std::fs::read(self.server.tls_root()).unwrap()],
            ..ClientTls::default()
        };
        let client = CaClient::new(&self.server.url(), Some(authority.to_owned()), tls);
        let key = PrivateKey::generate().unwrap();
        let secret = self.server.admin_secret(authority);
        let enrolled = client
            .enroll("admin", &secret, &EnrollRequest::default(), &key)
            .await
            .unwrap();
        let admin = ClientIdentity::new("", enrolled.certificate_pem.as_bytes(), key).unwrap();
        let registration = Registration {
            id: id.to_owned(),
            affiliation: "org1".to_owned(),
            max_enrollments: 1,
            ..Registration::default()
        };
        client.register(&admin, &registration).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_openssl_enrol_and_renew() {
    let bench = Bench {
        server: CaServer::start().await,
    };
    let secret = bench.register(ROOT, "plc-4").await;
    std::fs::write(bench.file("login"), format!("user = \"plc-4:{secret}\"\n")).unwrap();

    // As docs/identities.md has it.
    bench.ok(&format!(
        "curl -sSf --cacert {ROOT}.pem $CA/.well-known/est/{ROOT}/cacerts |
            openssl base64 -d | openssl pkcs7 -inform DER -print_certs > ca.pem"
    ));
    bench.ok("openssl ecparam -name prime256v1 -genkey -noout -out plc.key
         openssl req -new -key plc.key -subj /CN=plc-4 -outform DER | openssl base64 > plc.csr");
    let enroll = format!(
        "curl -sSf --cacert {ROOT}.pem -K login -H 'Content-Type: application/pkcs10' --data-binary @plc.csr \
            $CA/.well-known/est/{ROOT}/simpleenroll | openssl base64 -d |
            openssl pkcs7 -inform DER -print_certs > plc.pem"
    );
    bench.ok(&enroll);
    assert!(bench.ok("openssl verify -CAfile ca.pem plc.pem").contains("OK"));
    let first = bench.certificate("plc.pem");
    assert_eq!(first.common_name(), Some("plc-4"));
    let key = PrivateKey::from_file(&bench.file("plc.key")).unwrap();
    ClientIdentity::new("Org1MSP", &std::fs::read(bench.file("plc.pem")).unwrap(), key).unwrap();

    // The secret is used up; the certificate renews itself, with a new key.
    let status = |line: &str| {
        let line = line.replace("-sSf", "-sS -o answer -w '%{http_code}'");
        bench.ok(line.split(" | ").next().unwrap())
    };
    assert_eq!(status(&enroll), "401");
    bench.ok("openssl ecparam -name prime256v1 -genkey -noout -out new.key
         openssl req -new -key new.key -subj /CN=plc-4 -outform DER | openssl base64 > plc.csr");
    let renew = format!(
        "curl -sSf --cacert {ROOT}.pem --cert plc.pem --key plc.key -H 'Content-Type: application/pkcs10' \
            --data-binary @plc.csr $CA/.well-known/est/{ROOT}/simplereenroll | openssl base64 -d |
            openssl pkcs7 -inform DER -print_certs > new.pem"
    );
    bench.ok(&renew);
    assert!(bench.ok("openssl verify -CAfile ca.pem new.pem").contains("OK"));
    assert_ne!(bench.certificate("new.pem").serial(), first.serial());

    // Keys that are not taken, and another authority's certificate.
    for bad in [
        "rsa -pkeyopt rsa_keygen_bits:2048",
        "ec -pkeyopt ec_paramgen_curve:secp224r1",
    ] {
        bench.ok(&format!(
            "openssl genpkey -algorithm {bad} -out bad.key 2>/dev/null
             openssl req -new -key bad.key -subj /CN=plc-4 -outform DER | openssl base64 > plc.csr"
        ));
        assert_eq!(status(&renew), "400", "{bad}: {}", bench.ok("cat answer"));
    }
    let other = renew.replace(&format!("est/{ROOT}/"), &format!("est/{INTERMEDIATE}/"));
    assert_eq!(status(&other), "401");

    let of_intermediate = bench.ok(&format!(
        "curl -sSf --cacert {ROOT}.pem $CA/.well-known/est/{INTERMEDIATE}/cacerts |
            openssl base64 -d | openssl pkcs7 -inform DER -print_certs | grep -c BEGIN"
    ));
    assert_eq!(of_intermediate.trim(), "2", "the chain up to the root");
    let attributes = bench.ok(&format!(
        "curl -sSf --cacert {ROOT}.pem $CA/.well-known/est/csrattrs | openssl base64 -d | openssl asn1parse -inform DER"
    ));
    assert!(
        attributes.contains("prime256v1") && attributes.contains("ecdsa-with-SHA256"),
        "{attributes}"
    );
    assert!(!bench.server.log().contains(&secret), "no secret reaches the log");
}
