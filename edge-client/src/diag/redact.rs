//! The configuration without its secrets.

use serde_yaml_ng::Value;

/// What stands in the place of a secret.
pub(super) const BLANK: &str = "(blanked)";

/// A setting whose name has one of these words in it holds a secret.
const SECRET_WORDS: [&str; 12] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "key",
    "seed",
    "psk",
    "credential",
    "auth",
    "pin",
    "cookie",
];
/// Settings with such a word in their name that name a file, a person or a kind.
const PUBLIC_ENDINGS: [&str; 6] = ["_file", "_path", "_dir", "_id", "_url", "_name"];
/// A text without spaces of at least this length that looks random is blanked whatever its name.
const RANDOM_LENGTH: usize = 24;

/// Whether a setting of this name holds a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| name.contains(word))
        && !PUBLIC_ENDINGS.iter().any(|end| name.ends_with(end))
}

/// Whether a text is a path: those are wanted, whatever the name of the setting.
fn is_path(text: &str) -> bool {
    let known = [".pem", ".key", ".crt", ".yaml", ".json", ".seed"];
    !text.contains(char::is_whitespace)
        && (known.iter().any(|end| text.ends_with(end)) || text.starts_with('/') && !looks_random(text))
}

/// Hex, base64 or the like: long, of one word, letters and digits mixed.
fn looks_random(text: &str) -> bool {
    let encoded = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-');
    text.len() >= RANDOM_LENGTH
        && text.chars().all(encoded)
        && text.chars().any(|c| c.is_ascii_digit())
        && text.chars().any(|c| c.is_ascii_alphabetic())
        // Words between slashes and hyphens are paths and names.
        && text.split(['/', '-', '_']).any(|part| part.len() >= RANDOM_LENGTH / 2)
}

/// Blanks user, password and query in an URL.
fn url_without_secrets(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let (place, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
    let (host, path) = place.split_once('/').map_or((place, None), |(h, p)| (h, Some(p)));
    let host = match host.rsplit_once('@') {
        Some((_, host)) => format!("{BLANK}@{host}"),
        None => host.to_owned(),
    };
    let path = path.map_or(String::new(), |p| {
        let parts: Vec<&str> = p
            .split('/')
            .map(|s| if looks_random(s) { BLANK } else { s })
            .collect();
        format!("/{}", parts.join("/"))
    });
    let query = if query.is_some() {
        format!("?{BLANK}")
    } else {
        String::new()
    };
    Some(format!("{scheme}://{host}{path}{query}"))
}

/// Calls `take` with every text in a configuration and whether its name says that it is secret, and puts back what
/// `take` returns.
fn each_text(value: &mut Value, secret: bool, take: &mut dyn FnMut(&str, bool) -> Option<String>) {
    match value {
        Value::Mapping(mapping) => {
            for (name, value) in mapping.iter_mut() {
                let named = name.as_str().is_some_and(is_secret_name);
                // Below a secret name only texts that are given as such; `keys: {a: {device: x}}` blanks x as well.
                each_text(value, secret || named, take);
            }
        }
        Value::Sequence(list) => {
            for value in list {
                each_text(value, secret, take);
            }
        }
        Value::String(text) => {
            if let Some(changed) = take(text, secret) {
                *text = changed;
            }
        }
        // A PIN may be a number.
        Value::Number(number) if secret => {
            if let Some(changed) = take(&number.to_string(), true) {
                *value = Value::String(changed);
            }
        }
        Value::Tagged(tagged) => each_text(&mut tagged.value, secret, take),
        _ => {}
    }
}

fn is_hidden(text: &str, secret: bool) -> bool {
    if is_path(text) {
        return false;
    }
    secret || looks_random(text)
}

/// The configuration text with secrets blanked. One that is not YAML is left out: nothing in it can be told apart.
pub(super) fn config(text: &str) -> String {
    let Ok(mut value) = serde_yaml_ng::from_str::<Value>(text) else {
        return format!(
            "# the file is not YAML, so its {} bytes are left out\n",
            text.len()
        );
    };
    each_text(&mut value, false, &mut |text, secret| {
        if is_hidden(text, secret) {
            return Some(BLANK.to_owned());
        }
        url_without_secrets(text)
    });
    serde_yaml_ng::to_string(&value)
        .unwrap_or_else(|why| format!("# the configuration cannot be written: {why}\n"))
}

/// The secret texts of a configuration.
pub(super) fn secret_texts(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(mut value) = serde_yaml_ng::from_str::<Value>(text) {
        each_text(&mut value, false, &mut |text, secret| {
            if is_hidden(text, secret) {
                found.push(text.to_owned());
            } else if let Some((_, rest)) = text.split_once("://") {
                let place = rest.split('/').next().unwrap_or_default();
                if let Some((user, _)) = place.rsplit_once('@') {
                    found.push(user.to_owned());
                    found.extend(user.split_once(':').map(|(_, password)| password.to_owned()));
                }
                found.extend(rest.split_once('?').map(|(_, query)| query.to_owned()));
            }
            None
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "id: hall-7\nlisten: 127.0.0.1:8600\nmsp_dir: msp\n\
        tcp: {devices: [{id: s-1, key: 00112233445566778899aabbccddeeff}], key_file: keys/s-1.key}\n\
        mqtt: {users: {gate: {password: hunter2}}, pin: 4711}\n\
        webhook: 'https://bot:s3cret@example.com/hook/T0A1B2C3D4E5F6G7H8I9J0K1/x?sig=abc'\n\
        uplink: {peers: [{address: 'localhost:7051', tls_roots: tlsca.pem, client_key: /etc/selvedge/tls.key}], in_flight: 64}\n";

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let shown = config(CONFIG);
        for secret in [
            "00112233445566778899aabbccddeeff",
            "hunter2",
            "4711",
            "s3cret",
            "T0A1B2C3",
            "sig=abc",
        ] {
            assert!(!shown.contains(secret), "{secret} in\n{shown}");
        }
        for kept in [
            "hall-7",
            "127.0.0.1:8600",
            "keys/s-1.key",
            "localhost:7051",
            "tlsca.pem",
            "/etc/selvedge/tls.key",
            "64",
            "example.com/hook/",
        ] {
            assert!(shown.contains(kept), "{kept} not in\n{shown}");
        }
        assert!(!config("no: [yaml: 'hunter2").contains("hunter2"));
    }

    #[test]
    fn secrets_are_known_for_the_search() {
        let found = secret_texts(CONFIG);
        for secret in [
            "00112233445566778899aabbccddeeff",
            "hunter2",
            "4711",
            "s3cret",
            "sig=abc",
        ] {
            assert!(found.iter().any(|f| f == secret), "{secret} in {found:?}");
        }
        assert!(!found.iter().any(|f| f.contains("tlsca")), "{found:?}");
    }

    #[test]
    fn names_and_texts_are_judged() {
        for name in ["password", "apiKey", "client_secret", "hmac-key", "nonce_seed"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["listen", "key_file", "token_url", "in_flight"] {
            assert!(!is_secret_name(name), "{name}");
        }
        assert!(looks_random("dGhpcyBpcyBhIHNlY3JldCBrZXk5"));
        assert!(!looks_random("peer0.org1.example.com"));
        assert!(!looks_random("/var/lib/selvedge-edge/data/2024-01-01"));
    }
}
