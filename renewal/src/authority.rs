//! The certificate authority as a node sees it: its time, its certificates, and re-enrolling.

use std::time::{Duration, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use selvedge_comm::{ClientTls, HttpAnswer, HttpClient, Method};
use selvedge_msp::{Certificate, SigningIdentity, pem};
use selvedge_sdk::{CaClient, EnrollRequest, Enrollment};

use crate::config::RenewalConfig;

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an authority says of itself.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its clock, Unix seconds; none when it does not say.
    pub(crate) time: Option<i64>,
    /// The certificate that it signs with, and those above.
    pub(crate) chain: Vec<Certificate>,
}

fn tls(config: &RenewalConfig) -> Result<ClientTls, String> {
    let mut roots = Vec::new();
    // Read each time: a root that was rotated is trusted without a restart.
    for path in &config.tls_roots {
        roots.push(std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?);
    }
    Ok(ClientTls {
        roots,
        ..ClientTls::default()
    })
}

fn chain(text: &[u8]) -> Result<Vec<Certificate>, String> {
    pem::all_blocks(text)
        .iter()
        .map(|block| Certificate::from_der(&block.content).map_err(|e| format!("the authority's chain: {e}")))
        .collect()
}

/// Asks the authority `name` for its time and its certificates.
pub(crate) async fn ask(config: &RenewalConfig, name: &str) -> Result<Said, String> {
    let url = format!("{}/cainfo", config.ca_url.trim_end_matches('/'));
    let body = serde_json::json!({ "caname": name }).to_string();
    let answer = HttpClient::new(tls(config)?)
        .with_timeout(PATIENCE)
        .request(Method::POST, &url, &[("content-type", "application/json")], body)
        .await
        .map_err(|e| e.to_string())?;
    let time = time_of(&answer);
    let said: serde_json::Value = serde_json::from_slice(&answer.body)
        .map_err(|e| format!("{url} answers with HTTP {} and no JSON: {e}", answer.status))?;
    if said["success"] != serde_json::Value::Bool(true) {
        let why = said["errors"][0]["message"].as_str().unwrap_or("no reason given");
        return Err(format!("{url} does not tell of authority {name}: {why}"));
    }
    let encoded = said["result"]["CAChain"].as_str().unwrap_or_default();
    let text = BASE64_STANDARD
        .decode(encoded)
        .map_err(|e| format!("{url}: CAChain is not base64: {e}"))?;
    Ok(Said {
        time,
        chain: chain(&text)?,
    })
}

fn time_of(answer: &HttpAnswer) -> Option<i64> {
    http_date(answer.headers.get("date")?.to_str().ok()?)
}

/// What time it is on the server that answers at `url`, Unix seconds; none when it does not say.
///
/// # Errors
/// It does not answer, or is not trusted.
pub async fn ask_time(url: &str, tls: ClientTls) -> Result<Option<i64>, String> {
    let http = HttpClient::new(tls).with_timeout(PATIENCE);
    let answer = http.request(Method::GET, url, &[], "").await;
    Ok(time_of(&answer.map_err(|e| e.to_string())?))
}

/// What a re-enrolment gave.
#[derive(Debug)]
pub(crate) struct Renewed {
    pub(crate) certificate: Certificate,
    /// The issuer and those above it.
    pub(crate) chain: Vec<Certificate>,
}

/// Gets a new certificate for the key of `identity`, which proves who asks.
pub(crate) async fn reenroll(
    config: &RenewalConfig,
    name: &str,
    profile: &str,
    identity: &SigningIdentity,
) -> Result<Renewed, String> {
    let client = CaClient::new(&config.ca_url, Some(name.to_owned()), tls(config)?);
    let present = identity.certificate();
    let addresses = present.ip_addresses().iter().map(ToString::to_string);
    let request = EnrollRequest {
        profile: profile.to_owned(),
        hosts: present.dns_names().iter().cloned().chain(addresses).collect(),
        attributes: None,
    };
    let asking = client.reenroll(identity, &request, identity.key());
    let Enrollment {
        certificate_pem,
        chain_pem,
    } = tokio::time::timeout(PATIENCE, asking)
        .await
        .map_err(|_| {
            format!(
                "{} gives no answer within {} s",
                config.ca_url,
                PATIENCE.as_secs()
            )
        })?
        .map_err(|e| e.to_string())?;
    let certificate = Certificate::from_pem(certificate_pem.as_bytes())
        .map_err(|e| format!("the authority's answer holds no usable certificate: {e}"))?;
    if certificate.public_key() != present.public_key() {
        return Err("the authority's answer holds a certificate for another key".to_owned());
    }
    Ok(Renewed {
        certificate,
        chain: chain(chain_pem.as_bytes())?,
    })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as Unix seconds.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut parts = text.split_whitespace().skip(1);
    let day = parts.next()?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|m| *m == month)? + 1;
    let (year, time) = (parts.next()?, parts.next()?);
    let time = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("06 Nov 1994"), None);
        assert_eq!(http_date(""), None);
    }
}
