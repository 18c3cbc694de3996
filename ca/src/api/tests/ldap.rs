//! Identities from OpenLDAP's server (Debian: `slapd`), which the tests start with a folder and a port of their own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use selvedge_msp::{IssueRequest, SubjectExtra, Usage};

use super::*;
use crate::config::{LdapAttributeConfig, LdapConfig, LdapNameValue};

const BASE: &str = "dc=example,dc=org";
const READER: &str = "cn=reader,dc=example,dc=org";

/// A server of a directory with a few people. It ends with its value.
struct Slapd {
    child: Option<Child>,
    dir: tempfile::TempDir,
    port: u16,
    tls_port: u16,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn person(name: &str, place: &str, more: &str) -> String {
    format!(
        "dn: uid={name},{place}{BASE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: {name}\n\
         userPassword: {name}-password\n{more}\n"
    )
}

fn unit(dn: &str) -> String {
    format!("dn: {dn}{BASE}\nobjectClass: organizationalUnit\n\n")
}

impl Slapd {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = write_root(dir.path(), "ldap-root");
        let key = PrivateKey::generate().unwrap();
        let certificate = root
            .issue(&IssueRequest {
                public_key: key.public_key().clone(),
                common_name: "localhost".into(),
                organizational_units: Vec::new(),
                dns_names: vec!["localhost".into()],
                ip_addresses: vec![Ipv4Addr::LOCALHOST.into()],
                attributes: BTreeMap::new(),
                usage: Usage::Tls,
                not_before: unix_now() - 300,
                not_after: unix_now() + 86_400,
                subject_extra: SubjectExtra::default(),
            })
            .unwrap();
        std::fs::write(dir.path().join("ldap.pem"), certificate.to_pem()).unwrap();
        key.write_file(&dir.path().join("ldap.key")).unwrap();
        std::fs::create_dir(dir.path().join("db")).unwrap();
        let place = dir.path().display();
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             pidfile {place}/slapd.pid\nTLSCACertificateFile {place}/ldap-root.pem\n\
             TLSCertificateFile {place}/ldap.pem\nTLSCertificateKeyFile {place}/ldap.key\n\
             database mdb\nsuffix \"{BASE}\"\nrootdn \"cn=root,{BASE}\"\ndirectory {place}/db\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by dn.exact=\"{READER}\" read by * none\n"
        );
        std::fs::write(dir.path().join("slapd.conf"), config).unwrap();
        let people = [
            format!(
                "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n\n"
            ),
            format!(
                "dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\n\
                 userPassword: reader-password\n\n"
            ),
            unit("ou=org1,"),
            unit("ou=hall,ou=org1,"),
            person("alice", "ou=hall,ou=org1,", "roomNumber: 7\ntitle: fitter\n"),
            person("boss", "ou=org1,", "title: registrars\n"),
            person("twin", "ou=hall,ou=org1,", ""),
            person("twin", "ou=org1,", ""),
        ];
        std::fs::write(dir.path().join("people.ldif"), people.concat()).unwrap();
        let mut slapd = Self {
            child: None,
            dir,
            port: free_port(),
            tls_port: free_port(),
        };
        let loaded = Command::new("/usr/sbin/slapadd")
            .arg("-f")
            .arg(slapd.file("slapd.conf"))
            .arg("-l")
            .arg(slapd.file("people.ldif"))
            .output()
            .expect("slapadd (Debian: slapd) is missing; scripts/setup.sh installs it");
        assert!(
            loaded.status.success(),
            "{}",
            String::from_utf8_lossy(&loaded.stderr)
        );
        slapd.run();
        slapd
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&mut self) {
        let log = std::fs::File::create(self.file("slapd.log")).unwrap();
        let child = Command::new("/usr/sbin/slapd")
            .arg("-f")
            .arg(self.file("slapd.conf"))
            .arg("-h")
            .arg(format!(
                "ldap://127.0.0.1:{} ldaps://127.0.0.1:{}",
                self.port, self.tls_port
            ))
            // Stays in the foreground.
            .args(["-d", "none"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.tls_port)).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "slapd does not listen: {}",
                std::fs::read_to_string(self.file("slapd.log")).unwrap()
            );
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn config(&self) -> LdapConfig {
        let pair = |name: &str, value: &str| LdapNameValue {
            name: name.into(),
            value: value.into(),
        };
        std::fs::write(self.file("reader.password"), "reader-password\n").unwrap();
        LdapConfig {
            url: format!("ldap://127.0.0.1:{}/{BASE}", self.port),
            bind_dn: Some(READER.into()),
            bind_password_file: Some(self.file("reader.password")),
            start_tls: false,
            tls_roots: None,
            userfilter: "(&(objectClass=inetOrgPerson)(uid=%s))".into(),
            attribute: LdapAttributeConfig {
                names: vec!["roomNumber".into(), "title".into()],
                converters: vec![
                    pair("hf.Registrar.Roles", r#"map(attr("title"), "groups")"#),
                    pair(
                        "hf.Registrar.Attributes",
                        r#"if(attr("title") == "registrars", "*", "")"#,
                    ),
                    pair("hf.Revoker", r#"attr("title") =~ "^registrars$""#),
                ],
                maps: [(
                    "groups".to_owned(),
                    vec![pair("registrars", "client,peer"), pair("fitter", "")],
                )]
                .into(),
                ecert: vec!["roomNumber".into()],
            },
            registrations: false,
        }
    }

    fn server(&self, change: impl FnOnce(&mut LdapConfig)) -> Server {
        let mut ldap = self.config();
        change(&mut ldap);
        Server::with(|config| config.ldap = Some(ldap))
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn root(of: &Slapd) -> Option<PathBuf> {
    Some(of.file("ldap-root.pem"))
}

async fn enrolled(server: &Server, name: &str) -> Holder {
    let secret = format!("{name}-password");
    let (status, answer, key) = server.enroll(name, &secret, name, json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    (certificate(&answer), key)
}

// Several threads: asking the directory blocks one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_of_a_directory_enrol_register_and_are_revoked() {
    let slapd = Slapd::start();
    let server = slapd.server(|_| {});
    let alice = enrolled(&server, "alice").await;
    let mut units = alice.0.organizational_units().to_vec();
    units.sort();
    assert_eq!(units, ["client", "hall", "org1"]);
    let attributes = alice.0.attributes();
    assert_eq!(attributes["roomNumber"], "7");
    assert_eq!(attributes["hf.Affiliation"], "org1.hall");
    assert!(!attributes.contains_key("title") && !attributes.contains_key("hf.Revoker"));

    for (name, secret) in [
        ("alice", "guess"),
        ("alice", ""),
        // LDAP compares without regard to case and blanks, and knows patterns.
        ("ALICE", "alice-password"),
        ("alice ", "alice-password"),
        ("al*ce", "alice-password"),
        ("alice)(uid=*", "alice-password"),
        ("twin", "twin-password"),
        ("reader", "reader-password"),
        ("nobody", "nobody-password"),
    ] {
        let (status, answer, _) = server.enroll(name, secret, name, json!({})).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::UNAUTHORIZED, 20),
            "{name} {secret}"
        );
    }

    let boss = enrolled(&server, "boss").await;
    let (status, answer) = server.ask(&boss, "GET", "/identities/alice", Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["result"]["affiliation"], "org1.hall");
    let (status, answer) = server.signed(&boss, "/register", json!({ "id": "van" })).await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 72));
    let change = json!({ "attrs": [{ "name": "x", "value": "y" }] });
    let (status, answer) = server.ask(&boss, "PUT", "/identities/alice", change).await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 72));

    let (status, answer) = server.signed(&alice, "/revoke", json!({ "id": "boss" })).await;
    assert_eq!((status, code(&answer)), (StatusCode::FORBIDDEN, 71));
    let (status, answer) = server.signed(&boss, "/revoke", json!({ "id": "alice" })).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["result"]["RevokedCerts"].as_array().unwrap().len(), 1);
    let (status, answer, _) = server.enroll("alice", "alice-password", "alice", json!({})).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::UNAUTHORIZED, 20),
        "whatever the directory says"
    );
    // The bootstrap registrar is none of the directory's.
    server.admin().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_may_be_registered_beside_the_people() {
    let slapd = Slapd::start();
    let server = slapd.server(|ldap| ldap.registrations = true);
    let boss = enrolled(&server, "boss").await;
    let device = json!({ "id": "van", "type": "client", "affiliation": "org1" });
    server.member(&boss, device).await;
    let taken = json!({ "id": "alice", "type": "client", "affiliation": "org1" });
    let (status, answer) = server.signed(&boss, "/register", taken).await;
    assert_eq!((status, code(&answer)), (StatusCode::CONFLICT, 74));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_travel_encrypted_and_only_to_a_trusted_directory() {
    let slapd = Slapd::start();
    let encrypted = format!("ldaps://127.0.0.1:{}/{BASE}", slapd.tls_port);
    let server = slapd.server(|ldap| {
        ldap.url.clone_from(&encrypted);
        ldap.tls_roots = root(&slapd);
    });
    enrolled(&server, "alice").await;
    let server = slapd.server(|ldap| {
        ldap.start_tls = true;
        ldap.tls_roots = root(&slapd);
    });
    enrolled(&server, "alice").await;

    let stranger = tempfile::tempdir().unwrap();
    write_root(stranger.path(), "other");
    let server = slapd.server(|ldap| {
        ldap.url = encrypted;
        ldap.tls_roots = Some(stranger.path().join("other.pem"));
    });
    let (status, answer, _) = server.enroll("alice", "alice-password", "alice", json!({})).await;
    assert_eq!((status, code(&answer)), (StatusCode::SERVICE_UNAVAILABLE, 51));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_away_is_said_and_comes_back() {
    let mut slapd = Slapd::start();
    let server = slapd.server(|_| {});
    enrolled(&server, "alice").await;
    slapd.stop();
    let (status, answer, _) = server.enroll("alice", "alice-password", "alice", json!({})).await;
    assert_eq!((status, code(&answer)), (StatusCode::SERVICE_UNAVAILABLE, 51));
    slapd.run();
    enrolled(&server, "alice").await;
}

#[test]
fn settings_that_cannot_work_are_named() {
    let dir = tempfile::tempdir().unwrap();
    write_root(dir.path(), "ca-org1");
    let opened = |yaml: &str| {
        let mut config = config(dir.path(), "ca-org1");
        config.ldap = Some(serde_yaml_ng::from_str(yaml).unwrap());
        let Err(error) = Authority::open(&config, dir.path()) else {
            panic!("opened");
        };
        error.to_string()
    };
    for (yaml, word) in [
        ("{url: 'http://x/y'}", "ldap://"),
        ("{url: 'ldap://x'}", "base"),
        ("{url: 'ldaps://x/y'}", "tls_roots"),
        ("{url: 'ldap://x/y', tls_roots: a}", "tls_roots"),
        ("{url: 'ldap://x/y', userfilter: '(uid=me)'}", "userfilter"),
        ("{url: 'ldap://x/y', bind_dn: cn=a}", "belong together"),
        (
            "{url: 'ldap://x/y', attribute: {converters: [{name: a, value: 'b'}]}}",
            "'a'",
        ),
    ] {
        let error = opened(yaml);
        assert!(error.contains(word), "{yaml}: {error}");
    }
    let config = LdapConfig {
        url: "ldap://cn=a:topsecret@x/y".into(),
        ..serde_yaml_ng::from_str("{url: ''}").unwrap()
    };
    assert!(!format!("{config:?}").contains("topsecret"));
}
