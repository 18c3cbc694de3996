//! The certificate authority's REST interface (spec 06).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use selvedge_comm::{ClientTls, HttpClient, Method};
use selvedge_msp::{PrivateKey, SigningIdentity, csr};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{CaError, Error};
use crate::token::sign_request;

/// What a CA says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaInfo {
    /// Its name.
    pub name: String,
    /// Its certificate chain, PEM.
    pub chain_pem: String,
    /// Version of its software.
    pub version: String,
}

/// What a certificate is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnrollRequest {
    /// `tls` for a TLS certificate, `ca` for an intermediate CA; empty for an identity.
    pub profile: String,
    /// DNS names and IP addresses for the certificate.
    pub hosts: Vec<String>,
    /// Attributes to be put into the certificate, with whether each may be missing. None asks for those that are marked
    /// for it at registration.
    pub attributes: Option<BTreeMap<String, bool>>,
}

/// An issued certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrollment {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The chain of the CA that issued it, PEM.
    pub chain_pem: String,
}

/// An attribute of a registered identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationAttribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether it goes into certificates unasked.
    #[serde(default)]
    pub ecert: bool,
}

/// A new identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// Its enrolment id.
    pub id: String,
    /// `client`, `peer`, `orderer`, `admin`; empty takes the registrar's.
    pub kind: String,
    /// Its affiliation; empty takes the registrar's.
    pub affiliation: String,
    /// Its attributes.
    pub attributes: Vec<RegistrationAttribute>,
    /// Its secret; the CA draws one when none is given.
    pub secret: Option<String>,
    /// How often it may enrol: -1 without limit, 0 as often as the CA allows.
    pub max_enrollments: i64,
}

/// A registered identity as its authority shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RegisteredIdentity {
    /// Its enrolment id.
    pub id: String,
    /// `client`, `peer`, `orderer`, `admin`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its affiliation.
    pub affiliation: String,
    /// Its attributes.
    #[serde(rename = "attrs", default)]
    pub attributes: Vec<RegistrationAttribute>,
    /// How often it may enrol: -1 without limit.
    pub max_enrollments: i64,
}

#[derive(Deserialize)]
struct IdentitiesResult {
    #[serde(default)]
    identities: Vec<RegisteredIdentity>,
}

/// What to revoke: all of an identity, or one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// The identity and all its certificates.
    Identity {
        /// Its enrolment id.
        id: String,
    },
    /// One certificate.
    Certificate {
        /// Serial number, hex.
        serial: String,
        /// Authority key id, hex.
        aki: String,
    },
}

/// What was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Serial number and authority key id of each certificate, hex.
    pub certificates: Vec<(String, String)>,
    /// The new revocation list, PEM, when asked for.
    pub crl_pem: Option<String>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    success: bool,
    result: Option<T>,
    #[serde(default)]
    errors: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
struct CaInfoResult {
    #[serde(rename = "CAName", default)]
    name: String,
    #[serde(rename = "CAChain", default)]
    chain: String,
    #[serde(rename = "Version", default)]
    version: String,
}

#[derive(Deserialize)]
struct EnrollResult {
    #[serde(rename = "Cert")]
    certificate: String,
    #[serde(rename = "ServerInfo")]
    info: CaInfoResult,
}

#[derive(Deserialize)]
struct RegisterResult {
    secret: String,
}

#[derive(Deserialize)]
struct RevokeResult {
    #[serde(rename = "RevokedCerts", default)]
    certificates: Option<Vec<RevokedCertificate>>,
    #[serde(rename = "CRL", default)]
    crl: Option<String>,
}

#[derive(Deserialize)]
struct CrlResult {
    #[serde(rename = "CRL", default)]
    crl: String,
}

#[derive(Deserialize)]
struct RevokedCertificate {
    #[serde(rename = "Serial")]
    serial: String,
    #[serde(rename = "AKI")]
    aki: String,
}

#[derive(Serialize)]
struct AttributeRequest<'a> {
    name: &'a str,
    optional: bool,
}

#[derive(Serialize)]
struct EnrollBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    caname: Option<&'a str>,
    certificate_request: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    profile: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attr_reqs: Option<Vec<AttributeRequest<'a>>>,
}

#[derive(Serialize)]
struct RegisterBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    caname: Option<&'a str>,
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    affiliation: &'a str,
    attrs: &'a [RegistrationAttribute],
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    max_enrollments: i64,
}

#[derive(Serialize)]
struct RevokeBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    caname: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    serial: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    aki: &'a str,
    reason: &'a str,
    gencrl: bool,
}

/// A client of one CA.
#[derive(Debug, Clone)]
pub struct CaClient {
    url: String,
    ca_name: Option<String>,
    http: HttpClient,
}

impl CaClient {
    /// A client of the CA server at `url`, e.g. `https://ca.org1.example.com:7054`. `ca_name` chooses one of several CAs
    /// of a server.
    pub fn new(url: &str, ca_name: Option<String>, tls: ClientTls) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            ca_name,
            http: HttpClient::new(tls),
        }
    }

    /// Asks the CA for its certificate chain.
    ///
    /// # Errors
    /// The CA refuses or cannot be reached.
    pub async fn cainfo(&self) -> Result<CaInfo, Error> {
        let body = serde_json::json!({ "caname": self.ca_name }).to_string();
        let info: CaInfoResult = self.post("/api/v1/cainfo", None, body.into()).await?;
        self.info(info)
    }

    /// Gets a certificate for `key` with an enrolment id and its secret.
    ///
    /// # Errors
    /// The CA refuses or cannot be reached.
    pub async fn enroll(
        &self,
        id: &str,
        secret: &str,
        request: &EnrollRequest,
        key: &PrivateKey,
    ) -> Result<Enrollment, Error> {
        let body = self.enroll_body(id, request, key)?;
        let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
        let result: EnrollResult = self.post("/api/v1/enroll", Some(basic), body).await?;
        self.enrollment(result)
    }

    /// Gets a new certificate for `key` (the same or a new one) with the present identity.
    ///
    /// # Errors
    /// The identity has no common name, or the CA refuses or cannot be reached.
    pub async fn reenroll(
        &self,
        identity: &SigningIdentity,
        request: &EnrollRequest,
        key: &PrivateKey,
    ) -> Result<Enrollment, Error> {
        let id = identity.certificate().common_name().ok_or_else(|| {
            Error::Request("the certificate to renew has no common name, so the CA cannot know it".into())
        })?;
        let body = self.enroll_body(id, request, key)?;
        let result: EnrollResult = self.signed("/api/v1/reenroll", identity, body).await?;
        self.enrollment(result)
    }

    /// Registers an identity and gives its secret.
    ///
    /// # Errors
    /// The registrar may not, the id is taken, or the CA cannot be reached.
    pub async fn register(
        &self,
        registrar: &SigningIdentity,
        registration: &Registration,
    ) -> Result<String, Error> {
        let body = self.json(&RegisterBody {
            caname: self.ca_name.as_deref(),
            id: &registration.id,
            kind: &registration.kind,
            affiliation: &registration.affiliation,
            attrs: &registration.attributes,
            secret: registration.secret.as_deref(),
            max_enrollments: registration.max_enrollments,
        })?;
        let result: RegisterResult = self.signed("/api/v1/register", registrar, body).await?;
        Ok(result.secret)
    }

    /// What the authority knows of an identity.
    ///
    /// # Errors
    /// The caller may not see it, there is none, or the CA cannot be reached.
    pub async fn identity(&self, caller: &SigningIdentity, id: &str) -> Result<RegisteredIdentity, Error> {
        let path = format!("/api/v1/identities/{}", path_segment(id));
        self.get(&path, caller).await
    }

    /// Every identity that the caller may see.
    ///
    /// # Errors
    /// The caller is no registrar, or the CA cannot be reached.
    pub async fn identities(&self, caller: &SigningIdentity) -> Result<Vec<RegisteredIdentity>, Error> {
        let list: IdentitiesResult = self.get("/api/v1/identities", caller).await?;
        Ok(list.identities)
    }

    /// Revokes certificates; with `with_crl` the answer holds the new revocation list. `reason` is one of RFC 5280's
    /// names, e.g. `keycompromise`, or empty.
    ///
    /// # Errors
    /// The registrar may not, nothing is found, or the CA cannot be reached.
    pub async fn revoke(
        &self,
        registrar: &SigningIdentity,
        revocation: &Revocation,
        reason: &str,
        with_crl: bool,
    ) -> Result<Revoked, Error> {
        let (id, serial, aki) = match revocation {
            Revocation::Identity { id } => (id.as_str(), "", ""),
            Revocation::Certificate { serial, aki } => ("", serial.as_str(), aki.as_str()),
        };
        let body = self.json(&RevokeBody {
            caname: self.ca_name.as_deref(),
            id,
            serial,
            aki,
            reason,
            gencrl: with_crl,
        })?;
        let result: RevokeResult = self.signed("/api/v1/revoke", registrar, body).await?;
        let crl_pem = result
            .crl
            .filter(|crl| !crl.is_empty())
            .map(|crl| self.base64_text("CRL", &crl))
            .transpose()?;
        Ok(Revoked {
            certificates: result
                .certificates
                .unwrap_or_default()
                .into_iter()
                .map(|c| (c.serial, c.aki))
                .collect(),
            crl_pem,
        })
    }

    /// The authority's revocation lists, PEM, of everything that it ever revoked, also of what has ended since: the ledger does
    /// not look at the end of a certificate. One list, or one for each authority that it took over from as well.
    ///
    /// # Errors
    /// The registrar may not, or the CA cannot be reached.
    pub async fn revocation_lists(&self, registrar: &SigningIdentity) -> Result<String, Error> {
        let body = serde_json::json!({ "caname": self.ca_name, "expireafter": "1970-01-01T00:00:00Z" });
        let result: CrlResult = self
            .signed("/api/v1/gencrl", registrar, body.to_string().into())
            .await?;
        self.base64_text("CRL", &result.crl)
    }

    fn enroll_body(&self, id: &str, request: &EnrollRequest, key: &PrivateKey) -> Result<Bytes, Error> {
        let csr = csr::create(key, id, &request.hosts)
            .map_err(|e| Error::Request(format!("no certificate request can be made: {e}")))?;
        self.json(&EnrollBody {
            caname: self.ca_name.as_deref(),
            certificate_request: &csr,
            profile: &request.profile,
            attr_reqs: request.attributes.as_ref().map(|wanted| {
                wanted
                    .iter()
                    .map(|(name, optional)| AttributeRequest {
                        name,
                        optional: *optional,
                    })
                    .collect()
            }),
        })
    }

    fn json(&self, body: &impl Serialize) -> Result<Bytes, Error> {
        serde_json::to_vec(body)
            .map(Bytes::from)
            .map_err(|e| Error::Request(format!("the request cannot be written as JSON: {e}")))
    }

    fn base64_text(&self, what: &str, text: &str) -> Result<String, Error> {
        let wrong = |why: String| Error::malformed(&self.url, format!("{what}: {why}"));
        let bytes = STANDARD.decode(text).map_err(|e| wrong(e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| wrong(e.to_string()))
    }

    fn info(&self, info: CaInfoResult) -> Result<CaInfo, Error> {
        Ok(CaInfo {
            chain_pem: self.base64_text("CAChain", &info.chain)?,
            name: info.name,
            version: info.version,
        })
    }

    fn enrollment(&self, result: EnrollResult) -> Result<Enrollment, Error> {
        Ok(Enrollment {
            certificate_pem: self.base64_text("Cert", &result.certificate)?,
            chain_pem: self.base64_text("CAChain", &result.info.chain)?,
        })
    }

    /// A call without a body; the query names the CA.
    async fn get<T: DeserializeOwned>(&self, path: &str, identity: &SigningIdentity) -> Result<T, Error> {
        let path = match &self.ca_name {
            Some(name) => format!("{path}?ca={}", path_segment(name)),
            None => path.to_owned(),
        };
        let url = format!("{}{path}", self.url);
        let token = sign_request(identity, "GET", &path, &[])?;
        let headers = [("authorization", token.as_str())];
        let answer = self
            .http
            .request(Method::GET, &url, &headers, Bytes::new())
            .await?;
        read(&url, answer.status.as_u16(), &answer.body)
    }

    async fn signed<T: DeserializeOwned>(
        &self,
        path: &str,
        identity: &SigningIdentity,
        body: Bytes,
    ) -> Result<T, Error> {
        let token = sign_request(identity, "POST", path, &body)?;
        self.post(path, Some(token), body).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        authorization: Option<String>,
        body: Bytes,
    ) -> Result<T, Error> {
        let url = format!("{}{path}", self.url);
        let mut headers = vec![("content-type", "application/json")];
        if let Some(value) = &authorization {
            headers.push(("authorization", value));
        }
        let answer = self.http.request(Method::POST, &url, &headers, body).await?;
        read(&url, answer.status.as_u16(), &answer.body)
    }
}

/// Reads an answer. Success is the field `success`, whatever the HTTP status; on failure `result` may be an empty string.
fn read<T: DeserializeOwned>(url: &str, status: u16, body: &[u8]) -> Result<T, Error> {
    let envelope: Envelope<serde_json::Value> = serde_json::from_slice(body)
        .map_err(|e| Error::malformed(url, format!("HTTP {status}, not the answer of a CA: {e}")))?;
    if !envelope.success {
        let first = envelope.errors.into_iter().next();
        return Err(Error::Ca {
            url: url.to_owned(),
            error: CaError {
                status,
                code: first.as_ref().map_or(0, |m| m.code),
                message: first.map_or_else(|| "no reason given".to_owned(), |m| m.message),
            },
        });
    }
    serde_json::from_value(envelope.result.unwrap_or_default()).map_err(|e| Error::malformed(url, e))
}

/// Percent-encodes what does not belong into a part of a path.
pub(crate) fn path_segment(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_their_success_field() {
        let ok: RegisterResult = read(
            "u",
            201,
            br#"{"success":true,"result":{"secret":"s"},"errors":[],"messages":[]}"#,
        )
        .unwrap();
        assert_eq!(ok.secret, "s");
        let refused = read::<RegisterResult>(
            "https://ca:7054/api/v1/register",
            409,
            br#"{"success":false,"result":"","errors":[{"code":74,"message":"Identity 'x' is already registered"}]}"#,
        );
        let Err(Error::Ca { error, .. }) = refused else {
            panic!("must be refused");
        };
        assert_eq!((error.status, error.code), (409, 74));
        assert!(matches!(
            read::<RegisterResult>("u", 502, b"<html>"),
            Err(Error::Malformed { .. })
        ));
    }

    /// The server's side of spec 06 §2, written out anew.
    #[test]
    fn the_token_is_what_the_server_checks() {
        let identity = crate::testing::Org::new("Org1MSP").identity("registrar", "client");
        let body = br#"{"id":"x"}"#;
        let token = sign_request(&identity, "POST", "/api/v1/register", body).unwrap();
        let (certificate, signature) = token.split_once('.').unwrap();
        let pem = STANDARD.decode(certificate).unwrap();
        let sender = selvedge_msp::Certificate::from_pem(&pem).unwrap();
        assert_eq!(sender.common_name(), Some("registrar"));
        let signed = format!("POST.L2FwaS92MS9yZWdpc3Rlcg==.eyJpZCI6IngifQ==.{certificate}");
        let signature = STANDARD.decode(signature).unwrap();
        let key = sender.public_key().unwrap();
        key.verify(signed.as_bytes(), &signature).unwrap();
        assert!(key.verify(b"POST.other", &signature).is_err());
    }

    #[test]
    fn an_enrolment_names_the_id_in_its_request() {
        let client = CaClient::new("https://ca", Some("ca-org1".into()), ClientTls::default());
        let request = EnrollRequest {
            hosts: vec!["edge.example.com".into()],
            attributes: Some([("role".to_owned(), true)].into()),
            ..Default::default()
        };
        let key = PrivateKey::generate().unwrap();
        let body = client.enroll_body("device-1", &request, &key).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["caname"], "ca-org1");
        assert_eq!(
            body["attr_reqs"],
            serde_json::json!([{"name": "role", "optional": true}])
        );
        let csr = csr::parse(body["certificate_request"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(csr.common_name, "device-1");
        assert_eq!(csr.dns_names, ["edge.example.com"]);
    }

    #[test]
    fn a_revocation_names_one_or_the_other() {
        let client = CaClient::new("https://ca/", None, ClientTls::default());
        assert_eq!(client.url, "https://ca");
        let body = client
            .json(&RevokeBody {
                caname: None,
                id: "device-1",
                serial: "",
                aki: "",
                reason: "keycompromise",
                gencrl: true,
            })
            .unwrap();
        assert_eq!(
            body,
            r#"{"id":"device-1","reason":"keycompromise","gencrl":true}"#
        );
    }
}
