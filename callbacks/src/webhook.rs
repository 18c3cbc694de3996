//! Web hooks: secrets, signatures, one delivery.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use selvedge_comm::{ClientTls, HttpClient, Method};

use crate::settings::WebhookTarget;
use crate::{CallbackError, CallbackSettings, Event};

/// What secrets begin with in the Standard Webhooks specification.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret that is made here.
const SECRET_BYTES: usize = 32;
/// What that specification allows, in bytes.
const SECRET_LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
/// Longest URL taken, in bytes.
const MAX_URL: usize = 2048;
/// Longest answer read from a receiver, in bytes. Nothing in it is used but its beginning, for people.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest pause that a receiver may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Where Linux distributions keep the system's roots.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// A subscription's secret.
#[derive(Clone)]
pub struct Secret {
    text: String,
    key: hmac::Key,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn random() -> Result<Self, CallbackError> {
        let mut bytes = [0; SECRET_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| CallbackError::Random)?;
        Ok(Self::from_bytes(&bytes))
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            text: format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)),
            key: hmac::Key::new(hmac::HMAC_SHA256, bytes),
        }
    }

    /// Reads `whsec_…`.
    ///
    /// # Errors
    /// It has another form or length.
    pub fn parse(text: &str) -> Result<Self, CallbackError> {
        let bytes = text
            .strip_prefix(SECRET_PREFIX)
            .and_then(|rest| STANDARD.decode(rest).ok())
            .filter(|bytes| SECRET_LENGTHS.contains(&bytes.len()))
            .ok_or_else(|| {
                CallbackError::Invalid(format!(
                    "a web hook's secret is {SECRET_PREFIX} and base64 of {} to {} bytes",
                    SECRET_LENGTHS.start(),
                    SECRET_LENGTHS.end()
                ))
            })?;
        Ok(Self::from_bytes(&bytes))
    }

    /// The secret itself, for the one who made the subscription.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

/// The header `webhook-signature` of a message.
pub fn signature(secret: &Secret, id: &str, timestamp: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&secret.key);
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    format!("v1,{}", STANDARD.encode(context.sign()))
}

/// Host of a URL, if it is http(s) and has one; and whether it is https.
fn host_of(url: &str) -> Option<(String, bool)> {
    let uri: axum::http::Uri = url.parse().ok()?;
    let https = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    Some((uri.host()?.to_ascii_lowercase(), https))
}

/// Checks a target against the settings.
pub(crate) fn check(target: &WebhookTarget, settings: &CallbackSettings) -> Result<(), CallbackError> {
    let wrong = |why: String| Err(CallbackError::Invalid(why));
    if target.url.len() > MAX_URL {
        return wrong(format!("a web hook's URL has at most {MAX_URL} bytes"));
    }
    let Some((host, https)) = host_of(&target.url) else {
        return wrong(format!("'{}' is not an http or https URL", target.url));
    };
    if !https && !settings.allow_http {
        return wrong("a web hook's URL begins with https://; plain http is not allowed here".to_owned());
    }
    let allowed = settings.allowed_hosts.is_empty()
        || settings.allowed_hosts.iter().any(|entry| {
            let entry = entry.to_ascii_lowercase();
            match entry.strip_prefix('*') {
                Some(suffix) => suffix.starts_with('.') && host.ends_with(suffix),
                None => entry == host,
            }
        });
    if !allowed {
        return wrong(format!("web hooks may not go to {host} from here"));
    }
    if let Some(secret) = &target.secret {
        Secret::parse(secret)?;
    }
    Ok(())
}

/// A delivery that did not succeed.
#[derive(Debug)]
pub(crate) struct NotDelivered {
    pub(crate) why: String,
    /// The receiver asked for a pause.
    pub(crate) retry_after: Option<Duration>,
    /// The receiver does not want any more (410).
    pub(crate) gone: bool,
}

/// Sends web hooks.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    client: HttpClient,
}

impl Sender {
    pub(crate) fn new(settings: &CallbackSettings) -> Result<Self, CallbackError> {
        let roots = match &settings.tls_roots {
            Some(path) => vec![std::fs::read(path).map_err(|e| CallbackError::File {
                path: path.clone(),
                why: e.to_string(),
            })?],
            None => SYSTEM_ROOTS
                .iter()
                .find_map(|path| std::fs::read(path).ok())
                .into_iter()
                .collect(),
        };
        let tls = ClientTls {
            roots,
            ..ClientTls::default()
        };
        Ok(Self {
            client: HttpClient::new(tls)
                .with_timeout(settings.answer_within)
                .with_answer_limit(MAX_ANSWER),
        })
    }

    pub(crate) async fn deliver(
        &self,
        url: &str,
        secret: &Secret,
        event: &Event,
    ) -> Result<(), NotDelivered> {
        let body = event.json();
        let id = event.id().to_string();
        let timestamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let signed = signature(secret, &id, timestamp, body.as_bytes());
        let timestamp = timestamp.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("user-agent", concat!("selvedge/", env!("CARGO_PKG_VERSION"))),
            ("webhook-id", &id),
            ("webhook-timestamp", &timestamp),
            ("webhook-signature", &signed),
        ];
        let answer = self
            .client
            .request(Method::POST, url, &headers, body)
            .await
            .map_err(|e| NotDelivered {
                why: e.to_string(),
                retry_after: None,
                gone: false,
            })?;
        if answer.status.is_success() {
            return Ok(());
        }
        let text: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
        let retry_after = answer
            .headers
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
        Err(NotDelivered {
            why: format!("the receiver answered HTTP {}: {text}", answer.status.as_u16()),
            retry_after,
            gone: answer.status.as_u16() == 410,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> WebhookTarget {
        WebhookTarget {
            url: url.into(),
            secret: None,
        }
    }

    /// The example of the Standard Webhooks libraries.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            signature(
                &secret,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn secrets_are_read_back_and_bounded() {
        let secret = Secret::random().unwrap();
        assert_eq!(Secret::parse(secret.reveal()).unwrap().reveal(), secret.reveal());
        assert!(!format!("{secret:?}").contains(&secret.reveal()[6..]));
        for bad in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert!(Secret::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_are_held_to_the_settings() {
        let open = CallbackSettings::default();
        assert!(check(&target("https://h.example.com/x"), &open).is_ok());
        for bad in ["http://h/x", "ftp://h/x", "h", "https:///x", ""] {
            assert!(check(&target(bad), &open).is_err(), "{bad}");
        }
        let narrow = CallbackSettings {
            allow_http: true,
            allowed_hosts: vec!["erp.example.com".into(), "*.partner.example".into()],
            ..CallbackSettings::default()
        };
        assert!(check(&target("http://ERP.example.com:8080/"), &narrow).is_ok());
        assert!(check(&target("https://a.b.partner.example/"), &narrow).is_ok());
        for bad in [
            "https://evilpartner.example/",
            "https://partner.example/",
            "https://10.0.0.1/",
        ] {
            assert!(check(&target(bad), &narrow).is_err(), "{bad}");
        }
    }
}
