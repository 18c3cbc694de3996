//! Why a node could not be reached, in words, and what to do.

/// What was found, and what to do about it.
pub(crate) type Explained = (String, String);

/// The quoted and listed names in a text of rustls about a certificate for another name.
fn presented_names(why: &str) -> Vec<&str> {
    why.split("DnsName(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

/// Explains the failure to reach `address`; `why` is the text of the failure with its causes.
pub(crate) fn explain(address: &str, why: &str) -> Explained {
    let has = |text: &str| why.contains(text);
    let (what, todo): (String, &str) = if has("not valid for name") || has("NotValidForName") {
        let names = presented_names(why);
        if names.is_empty() {
            (
                "its TLS certificate is for another name than the one that is dialled".into(),
                "set 'server_name' of this node to a name in its certificate (openssl x509 -noout -ext subjectAltName)",
            )
        } else {
            let what = format!(
                "its TLS certificate is for {}, not for the name that is dialled",
                names.join(", ")
            );
            return (
                format!("{address}: {what}"),
                format!(
                    "set 'server_name: {}' at this node, or dial it by that name",
                    names[0]
                ),
            );
        }
    } else if has("UnknownIssuer") {
        (
            "its TLS certificate was issued by somebody whom 'tls_roots' does not name".into(),
            "give the root of the TLS authority of the node's organisation (tlsca.<domain>-cert.pem), not that of its identities",
        )
    } else if has("BadSignature") {
        (
            "its TLS certificate does not verify under 'tls_roots', though the names agree".into(),
            "the authority was made anew under the same name; fetch its present root",
        )
    } else if has("certificate not valid yet") || has("NotValidYet") {
        (
            "its TLS certificate is not valid yet by this machine's clock".into(),
            "this machine's clock is probably behind; set it",
        )
    } else if has("certificate expired") || has("Expired") {
        (
            "its TLS certificate has expired by this machine's clock".into(),
            "check this machine's clock; if it is right, the node's administrator must renew the certificate",
        )
    } else if has("CertificateRequired") || has("certificate required") {
        (
            "it demands a TLS client certificate".into(),
            "set 'client_certificate' and 'client_key' at this node to the TLS certificate of this machine",
        )
    } else if has("TLS settings are not usable") || has("not usable as PEM") {
        (
            why.to_owned(),
            "check 'tls_roots', 'client_certificate' and 'client_key' of this node; the key must be the certificate's",
        )
    } else if has("InvalidContentType") || has("corrupt message") {
        (
            "it answers without TLS".into(),
            "remove 'tls_roots' of this node if the network has no TLS, or check the port",
        )
    } else if has("lookup address") || has("Name or service not known") || has("not known") {
        (
            "the name is not known here".into(),
            "check the spelling and this machine's DNS (resolvectl query NAME), or add it to /etc/hosts",
        )
    } else if has("Connection refused") {
        (
            "nobody listens there".into(),
            "check the port, and whether the node runs",
        )
    } else if has("unreachable") || has("No route to host") {
        (
            "there is no way to it from here".into(),
            "check this machine's network: cable, Wi-Fi, modem (ip route)",
        )
    } else if has("no connection within") || has("timed out") || has("no answer within") {
        (
            "it does not answer in time".into(),
            "a firewall may drop the packets, or the address is wrong",
        )
    } else if has("h2")
        || has("http2")
        || has("GoAway")
        || has("FRAME_SIZE")
        || has("broken pipe")
        || has("reset")
    {
        (
            format!("the connection breaks off at once ({why})"),
            "if the node uses TLS, set 'tls_roots'; if not, check that it is a gRPC port",
        )
    } else {
        (why.to_owned(), "see what it says; the node's log may say more")
    };
    (format!("{address}: {what}"), todo.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_certificate_are_told() {
        let why = "transport error: invalid peer certificate: certificate not valid for name \"localhost\"; certificate is \
                   only valid for DnsName(\"peer0.org1.example.com\") or DnsName(\"peer0\")";
        let (what, todo) = explain("localhost:7051", why);
        assert!(what.contains("peer0.org1.example.com, peer0"), "{what}");
        assert!(todo.contains("server_name: peer0.org1.example.com"), "{todo}");
    }

    #[test]
    fn common_failures_have_a_remedy_of_their_own() {
        let cases = [
            (
                "invalid peer certificate: UnknownIssuer",
                "root of the TLS authority",
            ),
            (
                "tcp connect error: Connection refused (os error 111)",
                "whether the node runs",
            ),
            (
                "failed to lookup address information: Name or service not known",
                "DNS",
            ),
            ("no connection within 5 s", "firewall"),
            ("Network is unreachable (os error 101)", "ip route"),
            ("received corrupt message of type InvalidContentType", "tls_roots"),
            ("received fatal alert: CertificateRequired", "client_certificate"),
            (
                "invalid peer certificate: certificate expired: verification time 5",
                "clock",
            ),
        ];
        for (why, word) in cases {
            let (what, todo) = explain("p:1", why);
            assert!(todo.contains(word), "{why}: {todo}");
            assert!(what.starts_with("p:1: "), "{what}");
        }
        assert!(explain("p:1", "something else").0.contains("something else"));
    }
}
