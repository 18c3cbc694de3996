//! A keeper against a real authority, with a clock that the tests set.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use selvedge_ca::CaConfig;
use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_msp::{
    CaSubject, Certificate, CertificateAuthority, CurrentIdentity, IssueRequest, PrivateKey, SubjectExtra,
    Usage, Validity,
};
use tokio::sync::oneshot;

use super::*;

const DAY: i64 = 86_400;

/// Seconds that a clock is ahead of the machine's.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicI64>);

impl Clock for Ahead {
    fn now(&self) -> i64 {
        SystemClock.now() + self.0.load(Ordering::SeqCst)
    }
}

/// A server with one authority that knows `peer0`, and what `peer0` has.
struct World {
    dir: tempfile::TempDir,
    root: CertificateAuthority,
    address: String,
    stop: Option<oneshot::Sender<()>>,
}

fn root(name: &str) -> CertificateAuthority {
    let validity = Validity {
        not_before: SystemClock.now() - 300,
        not_after: SystemClock.now() + 3650 * DAY,
    };
    let subject = CaSubject {
        common_name: name.to_owned(),
        ..CaSubject::default()
    };
    CertificateAuthority::generate_root(&subject, &validity).unwrap()
}

impl World {
    fn new() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
            root: root("ca"),
            address: free.local_addr().unwrap().to_string(),
            stop: None,
        };
        world.write_authority(&world.root);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_authority(&self, root: &CertificateAuthority) {
        std::fs::write(self.path("ca.pem"), root.certificate().to_pem()).unwrap();
        root.key().write_file(&self.path("ca.key")).unwrap();
    }

    /// Starts the server; `more` are further settings of its authority.
    fn serve(&mut self, more: &str) {
        let text = format!(
            "listen: '{}'\ndata_dir: data\ncas: [{{name: ca, certificate: ca.pem, key: ca.key, \
             bootstrap: {{id: admin, secret_file: secret}}, issued: [msp/signcerts/peer0-cert.pem]{more}}}]\n",
            self.address
        );
        std::fs::write(self.path("ca.yaml"), text).unwrap();
        let config = CaConfig::read(&self.path("ca.yaml")).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        self.stop = Some(stop);
        tokio::spawn(async move {
            selvedge_ca::run(config, async { drop(stopped.await) })
                .await
                .unwrap();
        });
    }

    fn config(&self) -> RenewalConfig {
        RenewalConfig {
            ca_url: format!("http://{}", self.address),
            tls_roots: Vec::new(),
            identity_ca: Some("ca".into()),
            tls_ca: Some("ca".into()),
            at: 2.0 / 3.0,
            check: Duration::from_secs(1),
            clock_tolerance: Duration::from_secs(30),
        }
    }

    /// A certificate of `peer0` that ends after `days`.
    fn issue(&self, key: &PrivateKey, usage: Usage, days: i64) -> Certificate {
        let request = IssueRequest {
            public_key: key.public_key().clone(),
            common_name: "peer0".into(),
            organizational_units: vec!["peer".into()],
            dns_names: vec!["peer0.example.com".into()],
            ip_addresses: vec!["127.0.0.1".parse().unwrap()],
            attributes: BTreeMap::new(),
            usage,
            not_before: SystemClock.now() - 300 + days.min(0) * 2 * DAY,
            not_after: SystemClock.now() + days * DAY,
            subject_extra: SubjectExtra::default(),
        };
        self.root.issue(&request).unwrap()
    }

    /// Writes an MSP folder and TLS files, and gives what is in use with a keeper of it.
    fn node(&self, days: i64, clock: &Ahead) -> (CurrentIdentity, TlsIdentity, Keeper) {
        let key = PrivateKey::generate().unwrap();
        let contents = MspDirContents {
            cacerts: vec![("ca.pem".into(), self.root.certificate().clone())],
            signcert: Some(("peer0-cert.pem".into(), self.issue(&key, Usage::Identity, days))),
            key: Some(key),
            node_ous: true,
            ..MspDirContents::default()
        };
        write_msp_dir(&self.path("msp"), &contents).unwrap();
        let key = PrivateKey::generate().unwrap();
        std::fs::write(self.path("tls.crt"), self.issue(&key, Usage::Tls, days).to_pem()).unwrap();
        key.write_file(&self.path("tls.key")).unwrap();

        let signer = SigningIdentity::from_msp_dir("Org1MSP", &self.path("msp")).unwrap();
        let current = CurrentIdentity::from(signer.clone());
        let tls = TlsIdentity::from_files(&self.path("tls.crt"), &self.path("tls.key")).unwrap();
        let mut keeper = Keeper::new("peer0", Some(self.config())).with_clock(clock.clone());
        let adopted = current.clone();
        keeper.identity(&self.path("msp"), &signer, move |identity| {
            adopted.replace(identity);
            Ok(())
        });
        keeper
            .tls("tls", &self.path("tls.crt"), &self.path("tls.key"), tls.clone())
            .unwrap();
        (current, tls, keeper)
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

fn leaf(tls: &TlsIdentity) -> Certificate {
    Certificate::from_der(&tls.leaf_der().unwrap()).unwrap()
}

fn metric(operations: &Operations, line: &str) -> Option<f64> {
    let text = operations.metrics.text();
    text.lines()
        .find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_certificates_are_renewed_in_time_and_not_before() {
    let mut world = World::new();
    let clock = Ahead::default();
    let (current, tls, keeper) = world.node(90, &clock);
    world.serve("");
    let (signer, shown) = (current.get(), leaf(&tls));
    let operations = Operations::default();
    let _keeping = keeper.start(&operations);

    until("the clocks are compared", || {
        metric(&operations, "selvedge_clock_skew_seconds").is_some()
    })
    .await;
    assert!(metric(&operations, "selvedge_clock_skew_seconds").unwrap().abs() < 30.0);
    assert_eq!(
        current.get().certificate(),
        signer.certificate(),
        "nothing is due"
    );
    let left = metric(&operations, "selvedge_certificate_days_left{certificate=\"tls\"}").unwrap();
    assert!((89.0..=90.0).contains(&left), "{left}");

    clock.0.store(61 * DAY, Ordering::SeqCst);
    until("the identity is renewed", || {
        current.get().certificate() != signer.certificate()
    })
    .await;
    until("the TLS certificate is renewed", || leaf(&tls) != shown).await;
    let renewed = current.get();
    assert_eq!(
        renewed.certificate().public_key(),
        signer.certificate().public_key()
    );
    assert!(renewed.certificate().not_after() > signer.certificate().not_after() + 200 * DAY);
    assert_eq!(leaf(&tls).public_key(), shown.public_key());
    assert_eq!(leaf(&tls).dns_names(), ["peer0.example.com"]);
    assert_eq!(leaf(&tls).ip_addresses(), shown.ip_addresses());
    // The files say the same, under the same names, and the folder is whole.
    let read = SigningIdentity::from_msp_dir("Org1MSP", &world.path("msp")).unwrap();
    assert_eq!(read.creator(), renewed.creator());
    assert_eq!(std::fs::read_dir(world.path("msp/signcerts")).unwrap().count(), 1);
    assert_eq!(
        std::fs::read(world.path("tls.crt")).unwrap(),
        tls.certificate_pem()
    );
    until("it is counted", || {
        metric(
            &operations,
            "selvedge_certificate_renewals{certificate=\"tls\",outcome=\"renewed\"}",
        )
        .is_some()
    })
    .await;
    // The clock that was set ahead is noticed.
    until("the skew is measured", || {
        metric(&operations, "selvedge_clock_skew_seconds").is_some_and(|s| s > 60.0 * 86_400.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_comes_back_renews_what_has_ended_within_its_grace() {
    let mut world = World::new();
    let clock = Ahead::default();
    let (current, _tls, keeper) = world.node(-1, &clock);
    let ended = current.get();
    let operations = Operations::default();
    let _keeping = keeper.start(&operations);
    until("an attempt has failed", || {
        metric(
            &operations,
            "selvedge_certificate_renewals{certificate=\"identity\",outcome=\"failed\"}",
        )
        .is_some()
    })
    .await;
    let failed = operations.health.failed();
    assert!(
        failed
            .iter()
            .any(|f| f.component == "certificate identity" && f.reason.contains("ended at"))
    );

    world.serve(", reenroll_grace: 2d");
    until("it is renewed", || {
        current.get().certificate() != ended.certificate()
    })
    .await;
    until("the node is healthy", || operations.health.failed().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_grace_an_ended_certificate_stays_ended() {
    let mut world = World::new();
    let clock = Ahead::default();
    let (current, _tls, keeper) = world.node(-1, &clock);
    world.serve("");
    let ended = current.get();
    let operations = Operations::default();
    let _keeping = keeper.start(&operations);
    until("two attempts have failed", || {
        metric(
            &operations,
            "selvedge_certificate_renewals{certificate=\"identity\",outcome=\"failed\"}",
        )
        .is_some_and(|n| n >= 2.0)
    })
    .await;
    assert_eq!(current.get().certificate(), ended.certificate());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_of_the_authority_calls_for_new_certificates() {
    let mut world = World::new();
    let clock = Ahead::default();
    let (current, tls, keeper) = world.node(90, &clock);
    let old = world.root.certificate().to_pem();
    std::fs::write(world.path("old.pem"), old).unwrap();
    let next = root("ca-2");
    world.write_authority(&next);
    world.serve(", previous: [{certificate: old.pem}]");
    let operations = Operations::default();
    let _keeping = keeper.start(&operations);
    until("both come from the new root", || {
        current.get().certificate().is_signed_by(next.certificate())
            && leaf(&tls).is_signed_by(next.certificate())
    })
    .await;
    // The folder knows the new root as well, beside the old one.
    assert_eq!(std::fs::read_dir(world.path("msp/cacerts")).unwrap().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_into_the_files_is_taken_into_use() {
    let world = World::new();
    let clock = Ahead::default();
    let (_, tls, mut keeper) = world.node(90, &clock);
    keeper.inner.config = None;
    let roots = Roots::default();
    std::fs::write(world.path("roots.pem"), world.root.certificate().to_pem()).unwrap();
    keeper.roots(&[world.path("roots.pem")], roots.clone());
    keeper.inner.look();
    assert_eq!(roots.current().len(), 1);
    let before = leaf(&tls);

    std::fs::write(world.path("tls.crt"), "half a certifi").unwrap();
    keeper.inner.look();
    assert_eq!(leaf(&tls), before, "what cannot be read changes nothing");
    let key = PrivateKey::from_file(&world.path("tls.key")).unwrap();
    let other = world.issue(&key, Usage::Tls, 200);
    std::fs::write(world.path("tls.crt"), other.to_pem()).unwrap();
    keeper.inner.look();
    assert_eq!(leaf(&tls), other);
}
