//! The one-time secret of a device on its way from the registrar to the device.
//!
//! Whoever carries it cannot read it: the secret is sealed to the device's public key (HPKE, [`selvedge_msp::seal`]). An
//! edge gateway keeps it until the device asks:
//!
//! ```text
//! registrar ── PUT /v1/enrollments/<id> ──► edge gateway ◄── GET /v1/enrollments/<id> ── device ── enrols at its authority
//! ```
//!
//! Where to enrol travels with it in clear and is covered by the seal's authentication. Anybody can seal to a public key,
//! so a device must trust an authority by the TLS roots that it was given, not by what stands here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use selvedge_comm::{ClientTls, HttpClient, Method};
use selvedge_msp::seal::{self, SUITE, SealError, Sealed};
use selvedge_msp::{PrivateKey, PublicKey, SigningIdentity};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ca::path_segment;
use crate::error::Error;
use crate::token::sign_request;

/// Longest sealed secret that is read, in bytes.
pub const MAX_SEALED_BYTES: usize = 16 * 1024;
/// Separates this use of a key from any other.
const PURPOSE: &[u8] = b"selvedge device enrolment secret, version 1";

/// Why a sealed secret cannot be made, read or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedSecretError {
    /// Not the JSON of one.
    #[error("this is not a sealed secret: {0}")]
    Malformed(String),
    /// Made by a newer version.
    #[error("the sealed secret uses '{0}', which this version cannot open")]
    Suite(String),
    /// It cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A one-time secret that only one device can read, with where to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedSecret {
    /// Name under which the device was registered.
    pub id: String,
    /// The certificate authority, such as `https://ca.org1.example.com:7054`.
    pub ca_url: String,
    /// Name of the authority at that address; empty for its default one.
    #[serde(default)]
    pub ca_name: String,
    /// How it is sealed.
    suite: String,
    /// Fingerprint of the key it is sealed to, so that a device with several keys knows which.
    recipient: String,
    /// Base64.
    encapsulated: String,
    /// Base64.
    ciphertext: String,
}

/// SHA-256 of a public key's SubjectPublicKeyInfo, hexadecimal: what two people compare to be sure of a key.
pub fn fingerprint(key: &PublicKey) -> String {
    hex::encode(crate::sha256(key.spki_der()))
}

impl SealedSecret {
    /// Seals a secret to a device's public key.
    ///
    /// # Errors
    /// The key is no P-256 key.
    pub fn seal(
        recipient: &PublicKey,
        id: &str,
        ca_url: &str,
        ca_name: &str,
        secret: &str,
    ) -> Result<Self, SealedSecretError> {
        let mut envelope = Self {
            id: id.to_owned(),
            ca_url: ca_url.to_owned(),
            ca_name: ca_name.to_owned(),
            suite: SUITE.to_owned(),
            recipient: fingerprint(recipient),
            encapsulated: String::new(),
            ciphertext: String::new(),
        };
        let sealed = seal::seal(recipient, PURPOSE, &envelope.in_clear(), secret.as_bytes())?;
        envelope.encapsulated = STANDARD.encode(sealed.encapsulated);
        envelope.ciphertext = STANDARD.encode(sealed.ciphertext);
        Ok(envelope)
    }

    /// What travels in clear, for the seal to cover: each field with its length before it.
    fn in_clear(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [
            &self.id,
            &self.ca_url,
            &self.ca_name,
            &self.suite,
            &self.recipient,
        ] {
            // Texts of 16 KiB at most have lengths that fit.
            bytes.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(field.as_bytes());
        }
        bytes
    }

    /// Opens it with the device's private key.
    ///
    /// # Errors
    /// It was sealed to another key, or changed on the way; or the key is in a token that does not give it away.
    pub fn open(&self, key: &PrivateKey) -> Result<Zeroizing<String>, SealedSecretError> {
        if self.suite != SUITE {
            return Err(SealedSecretError::Suite(self.suite.clone()));
        }
        let bytes = |name: &str, text: &str| {
            STANDARD
                .decode(text)
                .map_err(|e| SealedSecretError::Malformed(format!("'{name}': {e}")))
        };
        let sealed = Sealed {
            encapsulated: bytes("encapsulated", &self.encapsulated)?,
            ciphertext: bytes("ciphertext", &self.ciphertext)?,
        };
        let secret = seal::open(key, PURPOSE, &self.in_clear(), &sealed)?;
        let text = std::str::from_utf8(&secret)
            .map_err(|_| SealedSecretError::Malformed("what was sealed is no text".to_owned()))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Reads its JSON.
    ///
    /// # Errors
    /// It is longer than [`MAX_SEALED_BYTES`], or not the JSON of one.
    pub fn from_json(json: &[u8]) -> Result<Self, SealedSecretError> {
        if json.len() > MAX_SEALED_BYTES {
            return Err(SealedSecretError::Malformed(format!(
                "it has {} bytes, at most {MAX_SEALED_BYTES} are read",
                json.len()
            )));
        }
        let secret: Self =
            serde_json::from_slice(json).map_err(|e| SealedSecretError::Malformed(e.to_string()))?;
        if secret.id.is_empty() {
            return Err(SealedSecretError::Malformed("'id' is empty".to_owned()));
        }
        Ok(secret)
    }

    /// Its JSON, with line breaks for people.
    ///
    /// # Errors
    /// It cannot be written, which texts always can.
    pub fn to_json(&self) -> Result<String, SealedSecretError> {
        serde_json::to_string_pretty(self).map_err(|e| SealedSecretError::Malformed(e.to_string()))
    }
}

/// Sealed secrets at an edge gateway's REST interface.
#[derive(Debug, Clone)]
pub struct EnrollmentBox {
    url: String,
    http: HttpClient,
}

impl EnrollmentBox {
    /// The box of the edge gateway at `url`, such as `http://edge0:8600`.
    pub fn new(url: &str, tls: ClientTls) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            http: HttpClient::new(tls),
        }
    }

    fn path(id: &str) -> String {
        format!("/v1/enrollments/{}", path_segment(id))
    }

    fn place(&self, id: &str) -> String {
        format!("{}{}", self.url, Self::path(id))
    }

    async fn call(
        &self,
        method: Method,
        id: &str,
        body: String,
        by: Option<&SigningIdentity>,
    ) -> Result<(u16, bytes::Bytes), Error> {
        let mut headers = vec![("content-type", "application/json")];
        let token = by
            .map(|by| sign_request(by, method.as_str(), &Self::path(id), body.as_bytes()))
            .transpose()?;
        if let Some(token) = &token {
            headers.push(("authorization", token));
        }
        let answer = self.http.request(method, &self.place(id), &headers, body).await?;
        Ok((answer.status.as_u16(), answer.body))
    }

    fn refused(&self, id: &str, status: u16, body: &[u8]) -> Error {
        let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let why = said["error"].as_str().unwrap_or("no reason given");
        Error::Request(format!("{} answered with HTTP {status}: {why}", self.place(id)))
    }

    /// Leaves a sealed secret for its device, as an administrator or registrar of the gateway's organisation.
    ///
    /// # Errors
    /// The gateway refuses or cannot be reached.
    pub async fn put(&self, secret: &SealedSecret, by: &SigningIdentity) -> Result<(), Error> {
        let body = secret.to_json().map_err(|e| Error::Request(e.to_string()))?;
        match self.call(Method::PUT, &secret.id, body, Some(by)).await? {
            (200..300, _) => Ok(()),
            (status, body) => Err(self.refused(&secret.id, status, &body)),
        }
    }

    /// The sealed secret that lies there for a device; none if there is none.
    ///
    /// # Errors
    /// The gateway refuses or cannot be reached, or what lies there is none.
    pub async fn get(&self, id: &str) -> Result<Option<SealedSecret>, Error> {
        match self.call(Method::GET, id, String::new(), None).await? {
            (200, body) => SealedSecret::from_json(&body)
                .map(Some)
                .map_err(|e| Error::malformed(self.place(id), e)),
            (404, _) => Ok(None),
            (status, body) => Err(self.refused(id, status, &body)),
        }
    }

    /// Takes it away, as the device that has enrolled under this name, or as who may leave one.
    ///
    /// # Errors
    /// The gateway refuses or cannot be reached.
    pub async fn delete(&self, id: &str, by: &SigningIdentity) -> Result<(), Error> {
        match self.call(Method::DELETE, id, String::new(), Some(by)).await? {
            (200..300 | 404, _) => Ok(()),
            (status, body) => Err(self.refused(id, status, &body)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(key: &PrivateKey) -> SealedSecret {
        SealedSecret::seal(
            key.public_key(),
            "truck-17",
            "https://ca:7054",
            "ca-org1",
            "hunter2",
        )
        .unwrap()
    }

    #[test]
    fn only_the_device_reads_it() {
        let (device, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let json = sealed(&device).to_json().unwrap();
        assert!(!json.contains("hunter2"));
        let received = SealedSecret::from_json(json.as_bytes()).unwrap();
        assert_eq!(received.open(&device).unwrap().as_str(), "hunter2");
        assert!(matches!(
            received.open(&other),
            Err(SealedSecretError::Seal(SealError::Open))
        ));
    }

    #[test]
    fn what_is_in_clear_cannot_be_changed() {
        let device = PrivateKey::generate().unwrap();
        let changes: [fn(&mut SealedSecret); 4] = [
            |s| s.id = "truck-18".into(),
            |s| s.ca_url = "https://evil:7054".into(),
            |s| s.ca_name.clear(),
            // The same bytes in sum, split elsewhere.
            |s| {
                s.ca_url.push('c');
                s.ca_name.remove(0);
            },
        ];
        for change in changes {
            let mut changed = sealed(&device);
            change(&mut changed);
            assert!(changed.open(&device).is_err(), "{changed:?}");
        }
        let mut newer = sealed(&device);
        newer.suite = "KEM-X".into();
        assert!(matches!(newer.open(&device), Err(SealedSecretError::Suite(_))));
    }

    #[test]
    fn names_are_escaped_in_paths() {
        let at = EnrollmentBox::new("http://edge/", ClientTls::default());
        assert_eq!(at.place("a/b ü"), "http://edge/v1/enrollments/a%2Fb%20%C3%BC");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = SealedSecret::from_json(&bytes);
        }

        #[test]
        fn a_changed_byte_never_gives_another_secret(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let device = PrivateKey::generate().unwrap();
            let mut json = sealed(&device).to_json().unwrap().into_bytes();
            let place = at.index(json.len());
            json[place] = to;
            if let Ok(received) = SealedSecret::from_json(&json)
                && let Ok(secret) = received.open(&device)
            {
                prop_assert_eq!(secret.as_str(), "hunter2");
            }
        }
    }
}
