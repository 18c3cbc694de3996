//! Requests that their caller signs: the authorisation token of Fabric CA's REST interface (spec 06 §2), which an edge gateway
//! takes as well.
//!
//! `base64(certificate PEM).base64(signature)`, where the signature covers method, path with query, body and certificate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use selvedge_msp::{Certificate, SigningIdentity};

use crate::error::Error;

fn message(method: &str, uri: &str, body: &[u8], certificate: &str) -> String {
    format!(
        "{method}.{}.{}.{certificate}",
        STANDARD.encode(uri),
        STANDARD.encode(body)
    )
}

/// The token for a request, which goes into its `Authorization` header as it is.
///
/// # Errors
/// The key cannot sign.
pub fn sign_request(
    identity: &SigningIdentity,
    method: &str,
    uri: &str,
    body: &[u8],
) -> Result<String, Error> {
    let certificate = STANDARD.encode(identity.certificate().to_pem());
    let signature = identity.sign(message(method, uri, body, &certificate).as_bytes())?;
    Ok(format!("{certificate}.{}", STANDARD.encode(signature)))
}

/// The certificate whose key has signed exactly this request. Whether its holder may make it is for the caller to judge.
///
/// # Errors
/// A sentence that says what is wrong with the token.
pub fn verify_request(token: &str, method: &str, uri: &str, body: &[u8]) -> Result<Certificate, String> {
    let (certificate_text, signature) = token.split_once('.').ok_or("the token has no signature part")?;
    let decode = |what: &str, text: &str| {
        STANDARD
            .decode(text)
            .map_err(|e| format!("the token's {what} is not base64: {e}"))
    };
    let pem = decode("certificate", certificate_text)?;
    let signature = decode("signature", signature)?;
    let certificate = Certificate::from_pem(&pem).map_err(|e| format!("the token's certificate: {e}"))?;
    certificate
        .public_key()
        .ok_or("the token's key is not ECDSA")?
        .verify(
            message(method, uri, body, certificate_text).as_bytes(),
            &signature,
        )
        .map_err(|e| format!("the token's signature: {e}"))?;
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Org;

    #[test]
    fn a_token_fits_one_request_only() {
        let me = Org::new("Org1MSP").identity("me", "admin");
        let token = sign_request(&me, "PUT", "/v1/a?b=c", b"{}").unwrap();
        let signer = verify_request(&token, "PUT", "/v1/a?b=c", b"{}").unwrap();
        assert_eq!(&signer, me.certificate());
        for (method, uri, body) in [
            ("DELETE", "/v1/a?b=c", &b"{}"[..]),
            ("PUT", "/v1/a", b"{}"),
            ("PUT", "/v1/a?b=c", b"{ }"),
        ] {
            verify_request(&token, method, uri, body).unwrap_err();
        }
        for bad in [
            "",
            ".",
            "a.b",
            "Basic YTpi",
            &token[1..],
            &token[..token.len() - 4],
        ] {
            verify_request(bad, "PUT", "/v1/a?b=c", b"{}").unwrap_err();
        }
    }
}
