//! Certificates as they age, on real processes: renewed while everything works, revoked from one block on, rotated to a new root,
//! and brought along from elsewhere.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use selvedge_comm::{Method, served_certificates};
use selvedge_msp::Certificate;
use selvedge_proto::common;
use selvedge_proto::msp::SerializedIdentity;
use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::{ClientIdentity, Invocation};
use selvedge_system_tests::load::Load;
use selvedge_system_tests::{
    CHANNEL, Device, Edge, Network, ORG1_PEER, ORG2_PEER, Options, case, checker, eventually, http, refuses,
    says,
};
use serde_json::{Value, json as literal};

const USER1: &str = "User1@org1.example.com";
const USER2: &str = "User1@org2.example.com";
/// A busy machine renews dozens of certificates meanwhile.
const LONG: Duration = Duration::from_secs(90);

fn put(key: &str) -> Invocation {
    Invocation::new(CHANNEL, "probe", "put").arg(key).arg("1")
}

/// What a node shows in the TLS handshake.
async fn shown(address: &str) -> Certificate {
    let chain = served_certificates(address).await.expect("the node answers");
    Certificate::from_der(&chain[0]).expect("a certificate")
}

/// The signing certificate of a node, as it lies in its folder.
fn signcert(network: &Network, host: &str) -> Certificate {
    let (_, domain) = host.split_once('.').expect("NAME.DOMAIN");
    let kind = if network.orderers().iter().any(|o| o == host) {
        "orderers"
    } else {
        "peers"
    };
    let folder = network.org_dir(domain).join(kind).join(host).join("msp");
    ClientIdentity::from_msp_dir(&network.msp_id(domain), &folder)
        .expect("a signing identity")
        .certificate()
        .clone()
}

/// Who signed a block.
fn block_signer(block: &common::Block) -> Certificate {
    let slot = Network::metadata(block, common::BlockMetadataIndex::Signatures);
    let signatures = common::Metadata::decode(slot).expect("metadata").signatures;
    let header = common::SignatureHeader::decode(signatures[0].signature_header.clone()).expect("a header");
    let identity = SerializedIdentity::decode(header.creator).expect("an identity");
    Certificate::from_pem(&identity.id_bytes).expect("a certificate")
}

/// The doctor's report; `Err` holds it when there are problems.
async fn doctor(network: &Network, more: &[&str]) -> Value {
    let mut arguments = vec!["doctor", "--json"];
    arguments.extend(more);
    let said = match network.cli(&arguments).await {
        Ok(text) => text,
        Err(text) => text,
    };
    let begin = said.find('{').unwrap_or_else(|| panic!("no report:\n{said}"));
    let end = said.rfind('}').expect("a whole report");
    serde_json::from_str(&said[begin..=end]).unwrap_or_else(|e| panic!("{e}:\n{said}"))
}

fn problems(report: &Value) -> Vec<&Value> {
    let all = report["findings"].as_array().expect("findings");
    all.iter().filter(|f| f["level"] == "problem").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_certificate_is_renewed_while_transactions_flow() {
    let network = Network::up(Options {
        authorities: true,
        contracts: false,
        // Renewed after a hundredth of their life, so that nobody has to wait.
        certificates: Some(literal!({ "life": "20m", "renew_at": 0.01, "check": "2s" })),
        ..Options::default()
    })
    .await;
    let nodes: Vec<String> = network.orderers().into_iter().chain(network.peers()).collect();
    let authority = network.ca("org1.example.com").unwrap().0;
    let authority = authority.trim_start_matches("https://").to_owned();
    let device = network.enroll_device("org1.example.com", "truck-17").await;
    let edge = Edge::start(&network, &device, &[(ORG1_PEER, &network.address(ORG1_PEER))]).await;

    let load = Load::start(&network, &[USER1, USER2], 2);
    let of_device = || {
        let identity = ClientIdentity::from_msp_dir(&device.msp_id, &device.msp_dir);
        identity.expect("the device's identity").certificate().clone()
    };
    let mut before = Vec::new();
    for host in &nodes {
        before.push((shown(&network.address(host)).await, signcert(&network, host)));
    }
    let (ca_before, device_before) = (shown(&authority).await, of_device());
    let pids: Vec<_> = nodes.iter().map(|host| network.pid(host)).collect();

    for (host, (tls, identity)) in nodes.iter().zip(&before) {
        case(
            &format!("{host} renews"),
            eventually("it shows and has other certificates", LONG, || async {
                let (now, signs) = (shown(&network.address(host)).await, signcert(&network, host));
                if now == *tls || signs == *identity {
                    return Err("they are the same");
                }
                // A consenter is known by its key.
                assert_eq!(now.public_key(), tls.public_key());
                assert_eq!(signs.public_key(), identity.public_key());
                assert_eq!(signs.organizational_units(), identity.organizational_units());
                Ok(())
            }),
        )
        .await;
    }
    case(
        "the authority and the device renew",
        eventually("they have other certificates", LONG, || async {
            if shown(&authority).await == ca_before || of_device() == device_before {
                return Err("one of them is the same");
            }
            Ok(())
        }),
    )
    .await;
    assert_eq!(of_device().attributes(), device_before.attributes());

    // What is signed from now on is signed with them.
    let orderers = network.orderers();
    case(
        "blocks and endorsements carry renewed certificates",
        eventually(
            "the newest block is signed by a renewed orderer",
            LONG,
            || async {
                load.progress(1).await;
                let signer = block_signer(&network.last_block(ORG1_PEER).await);
                if before[..orderers.len()].iter().any(|(_, old)| *old == signer) {
                    return Err("an old certificate signed it");
                }
                Ok(())
            },
        ),
    )
    .await;
    case("the device transacts", async {
        let identity = ClientIdentity::from_msp_dir(&device.msp_id, &device.msp_dir).unwrap();
        let done = network
            .gateway_of(identity, ORG1_PEER)
            .submit_and_wait(&put("by the device"))
            .await;
        done.expect("it commits");
    })
    .await;
    // Who is elected after this has only renewed certificates to show to the others.
    case(
        "a consenter that is killed comes back among renewed ones",
        async {
            network.kill(&orderers[0]);
            load.progress(20).await;
            network.start(&orderers[0]);
            network.settled().await;
        },
    )
    .await;
    let outcome = load.stop().await;
    assert!(!outcome.acknowledged.is_empty());
    for (host, pid) in nodes.iter().zip(pids).skip(1) {
        assert_eq!(network.pid(host), pid, "{host} was started again");
    }

    case("the doctor", async {
        let report = doctor(&network, &["--msp", &device.msp_dir.to_string_lossy()]).await;
        assert_eq!(problems(&report), Vec::<&Value>::new(), "{report:#}");
        let warned = report["findings"].as_array().unwrap();
        let warned = |what: &str| {
            warned
                .iter()
                .any(|f| f["level"] == "warning" && f["object"].as_str().unwrap().contains(what))
        };
        // Twenty minutes are less than 30 days.
        for what in [
            "peer0.org1.example.com, identity",
            "peer0.org1.example.com, TLS certificate that it shows",
            "User1@org2.example.com, identity",
            "ca.example.com, TLS certificate",
            "consenter",
            "devices/truck-17",
        ] {
            assert!(warned(what), "{what} in {report:#}");
        }
        let report = doctor(&network, &["--warn-days", "0"]).await;
        assert_eq!(report["warnings"].as_u64(), Some(0), "{report:#}");
        network.kill(ORG2_PEER);
        refuses(
            &network,
            &["doctor"],
            &[
                "peer0.org2.example.com: does not answer",
                "selvedge network up",
                "found",
            ],
        )
        .await;
        network.start(ORG2_PEER);
    })
    .await;
    drop(edge);
    network.settled().await;
    checker::check(&network).await;
    network.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_counts_from_its_block_on() {
    let network = Network::up(Options {
        orderers: 1,
        authorities: true,
        contracts: false,
        more_channels: vec![
            ("second".into(), vec!["Org1".into()]),
            ("without".into(), vec!["Org2".into()]),
        ],
        ..Options::default()
    })
    .await;
    let device = network.enroll_device("org1.example.com", "truck-17").await;
    let identity = ClientIdentity::from_msp_dir(&device.msp_id, &device.msp_dir).unwrap();
    let gateway = network.gateway_of(identity.clone(), ORG1_PEER);
    gateway
        .submit_and_wait(&put("before"))
        .await
        .expect("it is a member");
    // Endorsed while it was one, and kept back.
    let kept = gateway
        .endorse(&gateway.propose(&put("kept")).unwrap())
        .await
        .expect("endorsed");

    let revoke = [
        "ca",
        "revoke",
        "--org",
        "org1.example.com",
        "truck-17",
        "--reason",
        "keycompromise",
    ];
    let mut on_trial = revoke.to_vec();
    on_trial.push("--dry-run");
    refuses(&network, &on_trial, &["cannot revoke on trial", "publish-crl"]).await;
    gateway.evaluate(&put("x")).await.expect("it is not revoked yet");
    let said = says(
        &network,
        &revoke,
        &[
            "revoked certificate",
            "channel trade has configuration",
            "channel second has",
        ],
    )
    .await;
    assert!(
        !said.contains("channel without"),
        "Org1 is no member of it:\n{said}"
    );
    network.settled().await;
    says(
        &network,
        &["ca", "revoke", "--org", "org1.example.com", "truck-17"],
        &["is so already"],
    )
    .await;

    case("refused by the peer", async {
        let refused = gateway.evaluate(&put("x")).await.expect_err("it is revoked");
        assert!(
            refused.to_string().contains("access denied") || refused.to_string().contains("revoked"),
            "{refused}"
        );
    })
    .await;
    case("refused by the orderer", async {
        let orderer = network.orderer(&network.orderers()[0]);
        let refused = orderer
            .broadcast(kept.envelope().clone())
            .await
            .expect_err("it is revoked");
        assert!(refused.to_string().contains("permission denied"), "{refused}");
    })
    .await;
    case("others go on", network.still_works()).await;
    case("by signatures that are sent around", revoked_by_mail(&network)).await;

    // A peer's endorsement made before the block is worth nothing in a transaction that is ordered after it.
    case("refused in validation", async {
        let second = network.gateway_at(USER2, ORG2_PEER);
        let endorsed = second
            .endorse(&second.propose(&put("late").endorsing_orgs(["Org2MSP"])).unwrap())
            .await
            .expect("endorsed by Org2's peer");
        let certificate = network
            .org_dir("org2.example.com")
            .join("peers")
            .join(ORG2_PEER)
            .join("msp/signcerts");
        let certificate = std::fs::read_dir(certificate)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let file = certificate.to_string_lossy().into_owned();
        says(
            &network,
            &[
                "ca",
                "revoke",
                "--org",
                "org2.example.com",
                "--certificate",
                &file,
            ],
            &["channel trade has configuration"],
        )
        .await;
        let orderer = network.orderer(&network.orderers()[0]);
        orderer
            .broadcast(endorsed.envelope().clone())
            .await
            .expect("its creator is a member");
        let watching = network.gateway(USER1);
        let status = watching
            .commit_status(CHANNEL, endorsed.transaction_id())
            .await
            .expect("a verdict");
        assert_eq!(status.code, TxValidationCode::EndorsementPolicyFailure);
    })
    .await;
    network.down().await;
}

/// The one who revokes may not change the channel alone: the update goes to who may as a file, is signed there, and comes back.
async fn revoked_by_mail(network: &Network) {
    let device = network.enroll_device("org1.example.com", "truck-19").await;
    let identity = ClientIdentity::from_msp_dir(&device.msp_id, &device.msp_dir).unwrap();
    let gateway = network.gateway_of(identity, ORG1_PEER);
    let outbox = network.scratch().join("outbox");
    let out = outbox.to_string_lossy().into_owned();
    let revoke = ["ca", "revoke", "--org", "org1.example.com", "truck-19"];
    let out = ["-C", CHANNEL, "--as", "Admin@org2.example.com", "--out", &out];
    let words = [
        "revoked certificate",
        "signed by Admin@org2.example.com",
        "not enough",
    ];
    says(network, &[&revoke[..], &out].concat(), &words).await;
    let publish = ["ca", "publish-crl", "--org", "org1.example.com"];
    let words = ["revocation_list", "dry run: nothing was changed"];
    says(
        network,
        &[&publish[..], &["-C", CHANNEL, "--dry-run"]].concat(),
        &words,
    )
    .await;
    gateway
        .submit_and_wait(&put("meanwhile"))
        .await
        .expect("no channel knows of it yet");

    let file = outbox.join(format!("{CHANNEL}.update"));
    let file = file.to_string_lossy().into_owned();
    let submit = ["channel", "submit", &file, "--as", "Admin@org2.example.com"];
    refuses(network, &submit, &["cannot be submitted yet", "Org1"]).await;
    let sign = ["channel", "sign", &file, "--as", "Admin@org1.example.com"];
    says(
        network,
        &sign,
        &["revocation_list", "no further signature is needed"],
    )
    .await;
    says(network, &submit, &["channel trade has configuration"]).await;
    network.settled().await;
    gateway
        .evaluate(&put("x"))
        .await
        .expect_err("the channel knows of it now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_are_rotated_while_the_network_works() {
    let network = Network::up(Options {
        orderers: 3,
        authorities: true,
        contracts: false,
        certificates: Some(literal!({ "check": "1s" })),
        ..Options::default()
    })
    .await;
    let device = network.enroll_device("org1.example.com", "truck-17").await;
    let edge = Edge::start(&network, &device, &[(ORG1_PEER, &network.address(ORG1_PEER))]).await;
    case(
        "an edge gateway before the rotation",
        transacts(&edge, "old roots"),
    )
    .await;
    let load = Load::start(&network, &[USER2], 1);
    let old_user = network.identity(USER1);
    for (domain, devices) in [
        ("org1.example.com", std::slice::from_ref(&device)),
        ("example.com", &[]),
    ] {
        case(&format!("{domain} rotates"), rotate(&network, domain, devices)).await;
        load.progress(5).await;
    }
    case("the new identity counts, the old one does not", async {
        let new_user = network.identity(USER1);
        assert_ne!(new_user.certificate(), old_user.certificate());
        network
            .gateway_of(new_user, ORG1_PEER)
            .submit_and_wait(&put("new root"))
            .await
            .expect("a member");
        network
            .gateway_of(old_user, ORG1_PEER)
            .evaluate(&put("old root"))
            .await
            .expect_err("its root is retired");
    })
    .await;
    case("a device enrols under the new root", async {
        let device = network.enroll_device("org1.example.com", "truck-18").await;
        let identity = ClientIdentity::from_msp_dir(&device.msp_id, &device.msp_dir).unwrap();
        assert!(
            identity
                .certificate()
                .is_signed_by(network.authority("org1.example.com").certificate())
        );
        network
            .gateway_of(identity, ORG1_PEER)
            .submit_and_wait(&put("device"))
            .await
            .expect("a member");
    })
    .await;
    load.stop().await;
    case("an edge gateway that was never started again", async {
        // The peer shows a certificate of the new root to whoever connects anew.
        network.kill(ORG1_PEER);
        network.start(ORG1_PEER);
        network.settled().await;
        transacts(&edge, "new roots").await;
    })
    .await;
    drop(edge);
    let report = doctor(&network, &[]).await;
    assert_eq!(report["problems"].as_u64(), Some(0), "{report:#}");
    assert_eq!(report["warnings"].as_u64(), Some(0), "{report:#}");
    network.still_works().await;
    checker::check(&network).await;
    network.down().await;
}

/// What a device hands to the gateway is committed.
async fn transacts(edge: &Edge, key: &str) {
    let request =
        literal!({ "channel": CHANNEL, "chaincode": "probe", "function": "put", "args": [key, "17"] });
    let url = format!("{}/v1/transactions", edge.url());
    let answer = http(Method::POST, &url, &request).await.expect("an answer");
    let entry: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let url = format!("{url}/{}", entry["id"]);
    eventually("the transaction is committed", LONG, || async {
        let answer = http(Method::GET, &url, &Value::Null).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if text.contains("\"committed\"") {
            Ok(())
        } else {
            Err(format!("{text}\n{}", edge.log()))
        }
    })
    .await;
}

async fn rotate(network: &Network, domain: &str, devices: &[Device]) {
    let step = |more: &'static [&'static str]| {
        let mut arguments = vec!["ca", "rotate", "--org", domain];
        arguments.extend(more);
        arguments
    };
    let old = network.authority(domain).certificate().clone();
    refuses(network, &step(&["--switch"]), &["there is no new root"]).await;
    // A dry run makes the roots that it shows, and brings them nowhere.
    says(
        network,
        &step(&["--dry-run"]),
        &["root_certs", "dry run: nothing was changed"],
    )
    .await;
    refuses(network, &step(&["--switch"]), &["does not know the new root yet"]).await;
    says(
        network,
        &step(&[]),
        &[
            "channel trade has configuration",
            "the old ones still issue",
            "--switch",
        ],
    )
    .await;
    network.still_works().await;
    let words = ["would issue from now on"];
    says(network, &step(&["--switch", "--dry-run"]), &words).await;
    assert_eq!(*network.authority(domain).certificate(), old);
    says(network, &step(&["--switch"]), &["issue from now on", "--retire"]).await;
    let nodes = network.orderers().into_iter().chain(network.peers());
    let nodes: Vec<String> = nodes
        .filter(|host| host.split_once('.').is_some_and(|(_, of)| of == domain))
        .collect();
    eventually("all nodes renewed under the new root", LONG, || async {
        match nodes
            .iter()
            .find(|host| signcert(network, host).is_signed_by(&old))
        {
            Some(host) => Err(format!("{host} has its old certificate")),
            None => Ok(()),
        }
    })
    .await;
    // A device that has not renewed by then would be locked out.
    eventually("all devices renewed under the new root", LONG, || async {
        for device in devices {
            let identity = ClientIdentity::from_msp_dir(&device.msp_id, &device.msp_dir)
                .map_err(|e| format!("{}: {e}", device.name))?;
            if identity.certificate().is_signed_by(&old) {
                return Err(format!("{} has its old certificate", device.name));
            }
        }
        Ok(())
    })
    .await;
    // TLS certificates as well, which the command itself looks at.
    let retiring = eventually("the old root can be retired", LONG, || async {
        network.cli(&step(&["--retire", "--dry-run"])).await
    })
    .await;
    assert!(retiring.contains("the folders stay as they are"), "{retiring}");
    says(network, &step(&["--retire"]), &["are retired"]).await;
    refuses(network, &step(&["--retire"]), &["no old root"]).await;
}

/// Runs openssl in a folder.
fn openssl(dir: &Path, arguments: &str) {
    let done = std::process::Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    assert!(
        done.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// An organisation's material as `cryptogen` lays it out, below an intermediate authority, made by openssl.
struct Material {
    dir: PathBuf,
    domain: &'static str,
}

impl Material {
    fn new(dir: &Path, domain: &'static str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let material = Self {
            dir: dir.to_owned(),
            domain,
        };
        let extensions = "[root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n\
            [below]\nbasicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
            [member]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
            [tls]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\n\
            subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName=DNS:peer0.org1.example.com,DNS:localhost,IP:127.0.0.1\n\
            [req]\ndistinguished_name=dn\n[dn]\n";
        std::fs::write(dir.join("ext.cnf"), extensions).unwrap();
        material.certificate("root", "/CN=root.org1", "root", None);
        material.certificate("ica", "/CN=ica.org1", "below", Some("root"));
        material.certificate("tlsroot", "/CN=tlsroot.org1", "root", None);
        material.certificate("tlsica", "/CN=tlsica.org1", "below", Some("tlsroot"));
        material
    }

    /// Makes `<name>.key` and `<name>.pem`.
    fn certificate(&self, name: &str, subject: &str, extensions: &str, issuer: Option<&str>) {
        openssl(
            &self.dir,
            &format!("ecparam -name prime256v1 -genkey -noout -out {name}.ec"),
        );
        openssl(
            &self.dir,
            &format!("pkcs8 -topk8 -nocrypt -in {name}.ec -out {name}.key"),
        );
        openssl(
            &self.dir,
            &format!("req -new -config ext.cnf -key {name}.key -subj {subject} -out {name}.csr"),
        );
        let signs = match issuer {
            None => format!("-signkey {name}.key"),
            Some(issuer) => format!("-CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial"),
        };
        openssl(
            &self.dir,
            &format!(
                "x509 -req -in {name}.csr {signs} -days 400 -sha256 -extfile ext.cnf -extensions {extensions} -out {name}.pem"
            ),
        );
    }

    fn copy(&self, from: &str, to: &Path) {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(self.dir.join(from), to).unwrap();
    }

    fn msp(&self, msp: &Path) {
        self.copy("root.pem", &msp.join("cacerts/root.pem"));
        self.copy("ica.pem", &msp.join("intermediatecerts/ica.pem"));
        self.copy("tlsroot.pem", &msp.join("tlscacerts/tlsroot.pem"));
        self.copy("tlsica.pem", &msp.join("tlsintermediatecerts/tlsica.pem"));
        let unit = |role: &str, ou: &str| {
            format!(
                "  {role}OUIdentifier:\n    Certificate: intermediatecerts/ica.pem\n    OrganizationalUnitIdentifier: {ou}\n"
            )
        };
        let text = format!(
            "NodeOUs:\n  Enable: true\n{}{}{}{}",
            unit("Client", "client"),
            unit("Peer", "peer"),
            unit("Admin", "admin"),
            unit("Orderer", "orderer")
        );
        std::fs::write(msp.join("config.yaml"), text).unwrap();
    }

    fn member(&self, org: &Path, kind: &str, name: &str, ou: &str) {
        let folder = org.join(kind).join(name);
        let short = name.replace(['@', '.'], "-");
        self.msp_of(&folder.join("msp"), &short, name, ou);
        self.certificate(
            &format!("{short}-tls"),
            &format!("/CN={name}"),
            "tls",
            Some("tlsica"),
        );
        let file = if kind == "users" { "client" } else { "server" };
        let tls = folder.join("tls");
        self.copy(&format!("{short}-tls.key"), &tls.join(format!("{file}.key")));
        self.copy("tlsroot.pem", &tls.join("ca.crt"));
        // A server sends what lies between it and the root.
        let chain = ["-tls.pem", "tlsica.pem"].map(|part| {
            let name = if part.starts_with('-') {
                format!("{short}{part}")
            } else {
                part.to_owned()
            };
            std::fs::read_to_string(self.dir.join(name)).unwrap()
        });
        std::fs::write(tls.join(format!("{file}.crt")), chain.concat()).unwrap();
    }

    fn msp_of(&self, msp: &Path, short: &str, name: &str, ou: &str) {
        self.certificate(short, &format!("/OU={ou}/CN={name}"), "member", Some("ica"));
        std::fs::create_dir_all(msp).unwrap();
        self.msp(msp);
        self.copy(
            &format!("{short}.pem"),
            &msp.join(format!("signcerts/{name}-cert.pem")),
        );
        self.copy(&format!("{short}.key"), &msp.join("keystore/priv_sk"));
    }

    /// The organisation's folder, without any key of its authorities.
    fn organisation(&self) -> PathBuf {
        let org = self.dir.join("peerOrganizations").join(self.domain);
        std::fs::create_dir_all(org.join("msp")).unwrap();
        self.msp(&org.join("msp"));
        self.member(&org, "peers", "peer0.org1.example.com", "peer");
        for (user, ou) in [("Admin", "admin"), ("User1", "client"), ("User2", "client")] {
            self.member(&org, "users", &format!("{user}@{}", self.domain), ou);
        }
        org
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn material_from_elsewhere_is_welcome_and_goes_out_again() {
    let scratch = tempfile::tempdir().unwrap();
    let material = Material::new(scratch.path(), "org1.example.com");
    let network = Network::up(Options {
        orderers: 1,
        contracts: false,
        material: vec![("Org1".into(), material.organisation())],
        ..Options::default()
    })
    .await;
    network.still_works().await;
    let issuer = network.identity(USER1).certificate().issuer();
    assert!(issuer.contains("ica.org1"), "{issuer}");
    assert!(!network.org_dir("org1.example.com").join("ca/priv_sk").exists());

    case("a user from elsewhere is taken in", async {
        // As fabric-ca-client writes it: no config.yaml, other names.
        let from = scratch.path().join("fabric-ca/msp");
        material.msp_of(&from, "carol", "carol", "client");
        std::fs::remove_file(from.join("config.yaml")).unwrap();
        let from = from.to_string_lossy().into_owned();
        let import = ["identity", "import", "Carol@org1.example.com", "--msp", &from];
        says(
            &network,
            &import,
            &["is 'carol'", "client", "--as Carol@org1.example.com"],
        )
        .await;
        refuses(&network, &import, &["already", "--force"]).await;
        let call = [
            "chaincode",
            "invoke",
            "-n",
            "probe",
            "put",
            "carols",
            "1",
            "--as",
            "Carol@org1.example.com",
        ];
        says(&network, &call, &[]).await;
        says(
            &network,
            &["identity", "show", &from],
            &["CN=carol", "ica.org1", "the key of the holder is here"],
        )
        .await;
        // Of another authority, under the same name.
        let stranger = Material::new(&scratch.path().join("stranger"), "org1.example.com");
        let folder = scratch.path().join("mallory");
        stranger.msp_of(&folder, "mallory", "mallory", "admin");
        let folder = folder.to_string_lossy().into_owned();
        refuses(
            &network,
            &["identity", "import", "Mallory@org1.example.com", "--msp", &folder],
            &["no member of org1.example.com"],
        )
        .await;
    })
    .await;
    case("and exported", async {
        let out = scratch.path().join("out");
        let out = |name: &str| out.join(name).to_string_lossy().into_owned();
        std::fs::create_dir_all(scratch.path().join("out")).unwrap();
        says(&network, &["identity", "export", "org1.example.com", "-o", &out("org")], &["without any private key"]).await;
        let exported = PathBuf::from(out("org"));
        assert!(exported.join("msp/intermediatecerts/ica.pem").is_file() && exported.join("msp/config.yaml").is_file());
        says(&network, &["identity", "export", USER2, "-o", &out("user")], &["keep it safe"]).await;
        let user = ClientIdentity::from_msp_dir("Org2MSP", &PathBuf::from(out("user")).join("msp")).unwrap();
        network.gateway_of(user, ORG2_PEER).submit_and_wait(&put("exported")).await.expect("a member");
        says(&network, &["identity", "export", "org2.example.com", "--with-keys", "-o", &out("all")], &["keep it safe"]).await;
        // Another tool reads it.
        openssl(&PathBuf::from(out("all")), "verify -CAfile ca/ca.org2.example.com-cert.pem users/User1@org2.example.com/msp/signcerts/User1@org2.example.com-cert.pem");
        openssl(&PathBuf::from(out("all")), "pkey -in ca/priv_sk -noout");
    })
    .await;
    case("what needs the key says whose it is", async {
        refuses(
            &network,
            &["network", "renew", "--org", "org1.example.com", "--all"],
            &["nor the key of one", "org1"],
        )
        .await;
        refuses(
            &network,
            &["ca", "rotate", "--org", "org1.example.com"],
            &["below another"],
        )
        .await;
        // Without an authority, the root in the folder renews; nodes take it up by themselves.
        let before = shown(&network.address(ORG2_PEER)).await;
        says(
            &network,
            &["network", "renew", "--org", "org2.example.com", "--all"],
            &["peer0.org2.example.com, TLS has a new certificate"],
        )
        .await;
        eventually("the peer shows its renewed certificate", LONG, || async {
            if shown(&network.address(ORG2_PEER)).await == before {
                Err("the old one")
            } else {
                Ok(())
            }
        })
        .await;
    })
    .await;
    let report = doctor(&network, &[]).await;
    assert_eq!(problems(&report), Vec::<&Value>::new(), "{report:#}");
    network.still_works().await;
    checker::check(&network).await;
    network.down().await;
}
