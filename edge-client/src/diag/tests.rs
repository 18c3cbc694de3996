//! What leaves the machine, byte by byte.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;

use super::*;
use crate::testing;

fn unpack(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let packed = std::fs::read(path).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(packed.as_slice()));
    let mut parts = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry
            .path()
            .unwrap()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        parts.insert(name, content);
    }
    parts
}

fn contains(content: &[u8], wanted: &[u8]) -> bool {
    memchr::memmem::find(content, wanted).is_some()
}

#[tokio::test]
async fn no_key_and_no_secret_leaves_the_machine() {
    let home = testing::gateway_home();
    let dir = home.folder.path();
    let identities = dir.join("data/identities");
    std::fs::create_dir_all(&identities).unwrap();
    std::fs::create_dir_all(dir.join("data/buffer")).unwrap();
    let old = selvedge_msp::PrivateKey::generate().unwrap();
    old.write_file(&identities.join("abc.key")).unwrap();
    let seed: Vec<u8> = (0_u8..32).map(|n| n.wrapping_mul(37).wrapping_add(11)).collect();
    std::fs::write(dir.join("data/buffer/nonce.seed"), &seed).unwrap();
    let tls_key = selvedge_msp::PrivateKey::generate().unwrap();
    tls_key.write_file(&dir.join("tls.pem")).unwrap();
    let text = std::fs::read_to_string(&home.config).unwrap();
    let text = text.replace(
        "msp_id: Org1MSP}]",
        "msp_id: Org1MSP, tls_roots: msp/cacerts/ca.pem, client_certificate: msp/signcerts/edge.pem, client_key: tls.pem}]",
    );
    std::fs::write(&home.config, &text).unwrap();

    let keystore = std::fs::read_dir(dir.join("msp/keystore"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let keys = [
        std::fs::read_to_string(keystore.path()).unwrap(),
        old.to_pkcs8_pem().to_string(),
        tls_key.to_pkcs8_pem().to_string(),
    ];
    // The worst log there could be.
    let mut log = String::from("INFO gateway serves\n");
    for key in &keys {
        log.push_str(key);
        log.push_str(&key.replace('\n', "\\n"));
        log.push('\n');
    }
    log.push_str(&format!(
        "seed {} {} {seed:?}\n",
        hex::encode(&seed),
        STANDARD.encode(&seed)
    ));
    log.push_str("WARN something that helps\n");
    std::fs::write(dir.join("edge.log"), &log).unwrap();

    let options = DiagOptions {
        out: Some(dir.join("out.tar.gz")),
        log: Some(dir.join("edge.log")),
    };
    let written = diag(&home.config, &options).await.unwrap();
    assert!(written.blanked > 0);
    let parts = unpack(&written.path);
    for (name, content) in &parts {
        for key in &keys {
            for line in key.lines().filter(|l| !l.starts_with("-----")) {
                assert!(
                    !contains(content, line.as_bytes()),
                    "a line of a key is in {name}"
                );
            }
        }
        let numbers = format!("{seed:?}");
        for form in [
            hex::encode(&seed),
            STANDARD.encode(&seed),
            numbers.trim_matches(['[', ']']).to_owned(),
        ] {
            assert!(!contains(content, form.as_bytes()), "the seed is in {name}");
        }
        assert!(!contains(content, &seed), "the seed is in {name}");
    }
    // And what helps is there.
    for name in [
        "config.yaml",
        "doctor.txt",
        "doctor.json",
        "system.txt",
        "log.txt",
        "status.json",
        "files.txt",
    ] {
        assert!(parts.contains_key(name), "{name}");
    }
    assert!(contains(&parts["log.txt"], b"something that helps"));
    assert!(contains(&parts["config.yaml"], b"edge0"));
    assert!(contains(&parts["config.yaml"], b"tls.pem"));
    assert!(contains(&parts["doctor.txt"], b"127.0.0.1:1"));
    assert!(contains(&parts["files.txt"], b"nonce.seed"));
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&written.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_configuration_that_is_not_usable_is_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("edge.yaml");
    std::fs::write(&config, "id: x\npassword: hunter22\n").unwrap();
    std::fs::write(dir.path().join("log"), "user gave hunter22\n").unwrap();
    let options = DiagOptions {
        out: Some(dir.path().join("out.tar.gz")),
        log: Some(dir.path().join("log")),
    };
    let written = diag(&config, &options).await.unwrap();
    let parts = unpack(&written.path);
    assert!(parts.values().all(|c| !contains(c, b"hunter22")));
    assert!(contains(&parts["doctor.txt"], b"FAILED"));
    let missing = diag(&dir.path().join("none.yaml"), &options).await.unwrap_err();
    assert!(missing.to_string().contains("none.yaml"));
}

#[test]
fn the_end_of_a_log() {
    assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
    assert_eq!(last_lines(b"a\n", 2), b"a\n");
    assert_eq!(last_lines(b"", 2), b"");
}
