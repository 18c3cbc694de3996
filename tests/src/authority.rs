//! A certificate authority server as a process, with a root and an intermediate below it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selvedge_comm::{ClientTls, HttpClient, Method};
use selvedge_msp::{
    CaSubject, Certificate, CertificateAuthority, IssueRequest, PrivateKey, SubjectExtra, Usage, Validity,
};
use serde_json::json;
use tempfile::TempDir;

use crate::network::text;
use crate::process::binary;
use crate::{Network, eventually, ports};

/// Name of the root authority, which callers get who name none.
pub const ROOT: &str = "ca-root";
/// Name of the intermediate authority.
pub const INTERMEDIATE: &str = "ca-intermediate";

/// A running server. It ends with its value.
#[derive(Debug)]
pub struct CaServer {
    child: Child,
    folder: TempDir,
    address: String,
}

fn validity() -> Validity {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    let now = i64::try_from(now.as_secs()).expect("a clock before the end of time");
    Validity {
        not_before: now - 300,
        not_after: now + 365 * 86_400,
    }
}

fn issue(root: &CertificateAuthority, name: &str, usage: Usage, key: &PrivateKey) -> Certificate {
    let Validity {
        not_before,
        not_after,
    } = validity();
    let request = IssueRequest {
        public_key: key.public_key().clone(),
        common_name: name.to_owned(),
        organizational_units: Vec::new(),
        dns_names: vec![name.to_owned()],
        ip_addresses: Vec::new(),
        attributes: Default::default(),
        usage,
        not_before,
        not_after,
        subject_extra: SubjectExtra::default(),
    };
    root.issue(&request).expect("a certificate")
}

fn write(dir: &Path, name: &str, certificate: &Certificate, key: &PrivateKey) {
    std::fs::write(dir.join(format!("{name}.pem")), certificate.to_pem()).expect("a certificate file");
    key.write_file(&dir.join(format!("{name}.key")))
        .expect("a key file");
}

fn authority(name: &str) -> serde_json::Value {
    json!({
        "name": name,
        "certificate": format!("{name}.pem"),
        "key": format!("{name}.key"),
        "bootstrap": { "id": "admin", "secret_file": format!("{name}.secret") },
        "affiliations": { "org1": ["department1", "department2"], "org2": ["department1"] },
        "allow_identity_removal": true,
        "allow_affiliation_removal": true,
        "reenroll_grace": "30d",
    })
}

impl CaServer {
    /// Writes keys and configuration, starts `selvedge ca start`, and waits until it answers.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("selvedge-ca-test-")
            .tempdir()
            .expect("a temporary folder");
        let dir = folder.path();
        let subject = CaSubject {
            common_name: "ca.example.com".to_owned(),
            ..CaSubject::default()
        };
        let root = CertificateAuthority::generate_root(&subject, &validity()).expect("a root");
        write(dir, ROOT, root.certificate(), root.key());
        for (name, file, usage) in [
            ("intermediate.example.com", INTERMEDIATE, Usage::Ca),
            ("localhost", "tls", Usage::Tls),
        ] {
            let key = PrivateKey::generate().expect("a key");
            write(dir, file, &issue(&root, name, usage, &key), &key);
        }
        let listen = ports::listen();
        let mut intermediate = authority(INTERMEDIATE);
        intermediate["chain"] = json!(format!("{ROOT}.pem"));
        let config = json!({
            "listen": listen,
            "tls": { "certificate": "tls.pem", "key": "tls.key" },
            "data_dir": "data",
            "cas": [authority(ROOT), intermediate],
        });
        let file = dir.join("ca.yaml");
        std::fs::write(&file, serde_yaml_ng::to_string(&config).expect("YAML")).expect("a configuration");
        let log = std::fs::File::create(dir.join("ca.log")).expect("a log file");
        let child = Command::new(binary())
            .args(["ca", "start", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        let server = Self {
            child,
            address: listen.replace("127.0.0.1", "localhost"),
            folder,
        };
        server.answers().await;
        server
    }

    async fn answers(&self) {
        let roots = vec![std::fs::read(self.tls_root()).expect("the root")];
        let client = HttpClient::new(ClientTls {
            roots,
            ..ClientTls::default()
        });
        let url = format!("{}/cainfo", self.url());
        eventually("the authority answers", Duration::from_secs(30), || async {
            client
                .request(Method::GET, &url, &[], "")
                .await
                .map_err(|e| format!("{e}\n{}", self.log()))
        })
        .await;
    }

    /// Where it serves.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate that its TLS certificate can be verified with.
    pub fn tls_root(&self) -> PathBuf {
        self.dir().join(format!("{ROOT}.pem"))
    }

    /// The secret of the administrator of an authority.
    pub fn admin_secret(&self, authority: &str) -> String {
        let file = self.dir().join(format!("{authority}.secret"));
        std::fs::read_to_string(file)
            .expect("the secret's file")
            .trim()
            .to_owned()
    }

    /// Its folder, for other files of the test.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("ca.log")).unwrap_or_default()
    }
}

/// The authority of an organisation of a network.
#[derive(Debug, Clone)]
pub struct NetworkAuthority {
    /// Where it serves.
    pub url: String,
    /// Its name.
    pub name: String,
    /// Secret of its administrator.
    pub admin_secret: String,
}

impl Network {
    /// The authority of the organisation with this domain; the network was started with authorities.
    pub fn certificate_authority(&self, domain: &str) -> NetworkAuthority {
        let orgs = self.config["peer_organizations"]
            .as_array()
            .expect("organisations");
        let org = orgs
            .iter()
            .find(|o| o["domain"] == domain)
            .expect("the organisation");
        let listen = text(&org["ca"]["listen"]).replace("127.0.0.1", "localhost");
        let secret = self
            .dir()
            .join("nodes")
            .join(format!("ca.{domain}"))
            .join("admin.secret");
        NetworkAuthority {
            url: format!("https://{listen}"),
            name: text(&org["ca"]["name"]),
            admin_secret: std::fs::read_to_string(secret)
                .expect("the secret's file")
                .trim()
                .to_owned(),
        }
    }
}

impl Drop for CaServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the authority's log:\n{}", self.log());
        }
    }
}
