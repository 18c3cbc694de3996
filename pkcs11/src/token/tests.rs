//! Against SoftHSM2, a token in software (Debian: `softhsm2`).

use std::path::{Path, PathBuf};
use std::process::Command;

use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, PublicKey, SigningIdentity, SubjectExtra,
    Usage, Validity, csr, dir, seal,
};

use crate::{generate, install, open};

/// Where Debian, Fedora and Arch put the library.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib/libsofthsm2.so",
];
/// Set in the child process, to the folder of its tokens.
const FOLDER: &str = "SELVEDGE_TEST_TOKENS";

fn softhsm(config: &Path, arguments: &[&str]) {
    let done = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", config)
        .args(arguments)
        .output()
        .expect("softhsm2-util (Debian: softhsm2) is missing; scripts/setup.sh installs it");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// SoftHSM's library takes its configuration from the environment, once a process; so the test runs in one of its own.
#[test]
fn a_token_signs_and_keeps_its_key() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return in_the_child(&PathBuf::from(folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let config = folder.path().join("softhsm2.conf");
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
    std::fs::write(&config, text).unwrap();
    for label in ["truck-17", "other"] {
        let pins = ["--so-pin", "4711", "--pin", "1234"];
        softhsm(
            &config,
            &[&["--init-token", "--free", "--label", label][..], &pins].concat(),
        );
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "token::tests::a_token_signs_and_keeps_its_key",
            "--nocapture",
        ])
        .env("SOFTHSM2_CONF", &config)
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

fn issued(key: &PublicKey) -> selvedge_msp::Certificate {
    let validity = Validity {
        not_before: 0,
        not_after: 1_000_000,
    };
    let subject = CaSubject {
        common_name: "ca".into(),
        ..CaSubject::default()
    };
    let root = CertificateAuthority::generate_root(&subject, &validity).unwrap();
    let request = IssueRequest {
        public_key: key.clone(),
        common_name: "truck-17".into(),
        organizational_units: vec!["client".into()],
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        attributes: Default::default(),
        usage: Usage::Identity,
        not_before: 0,
        not_after: 1_000_000,
        subject_extra: SubjectExtra::default(),
    };
    root.issue(&request).unwrap()
}

fn in_the_child(folder: &Path) {
    install();
    let pin = folder.join("pin");
    std::fs::write(&pin, "1234\n").unwrap();
    let library = LIBRARIES.iter().find(|l| Path::new(l).exists()).unwrap();
    let query = format!("?module-path={library}&pin-source=file:{}", pin.display());
    let uri = format!("pkcs11:token=truck-17;object=selvedge{query}");

    let refused = |uri: &str, word: &str| {
        let error = open(uri).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert!(!error.contains("1234"), "{error}");
    };
    refused(&uri, "no such ECDSA key");
    refused(&uri.replace("truck-17", "truck-18"), "no such token");
    refused(&format!("pkcs11:object=selvedge{query}"), "2 tokens");

    let made = generate(&uri).unwrap();
    assert!(generate(&uri).unwrap_err().to_string().contains("already"));
    let key = PrivateKey::from_pem(&uri).unwrap();
    assert_eq!(key.public_key(), made.public_key());
    let asked = csr::parse(csr::create(&key, "truck-17", &[]).unwrap().as_bytes()).unwrap();
    assert_eq!(&asked.public_key, key.public_key());

    // Its MSP folder holds the reference, and whoever reads the folder signs with the token.
    let certificate = issued(&asked.public_key);
    let msp = folder.join("msp");
    let contents = dir::MspDirContents {
        signcert: Some(("cert.pem".into(), certificate)),
        key: Some(key.clone()),
        ..dir::MspDirContents::default()
    };
    dir::write_msp_dir(&msp, &contents).unwrap();
    for entry in std::fs::read_dir(msp.join("keystore")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert_eq!(text.trim(), uri, "a reference, not the key");
    }
    let identity = SigningIdentity::from_msp_dir("Org1MSP", &msp).unwrap();
    let sign = |n: u8| {
        let identity = identity.clone();
        std::thread::spawn(move || {
            for i in 0..25u8 {
                let signature = identity.sign(&[n, i]).unwrap();
                identity.identity().verify(&[n, i], &signature).unwrap();
            }
        })
    };
    let threads: Vec<_> = (0..4u8).map(sign).collect();
    for thread in threads {
        thread.join().unwrap();
    }

    let sealed = seal::seal(key.public_key(), b"", b"", b"secret").unwrap();
    assert!(matches!(
        seal::open(&key, b"", b"", &sealed),
        Err(seal::SealError::Key(_))
    ));

    std::fs::write(&pin, "9999").unwrap();
    // As long as a session is open, the token asks for no PIN.
    drop((key, made, identity, contents));
    refused(&uri, "PIN");
}
