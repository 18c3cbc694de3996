//! Commands, and what they must say.

use crate::Network;

/// Panics unless `text`, printed by `command`, says all of `words`.
pub fn says_all(command: &str, text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{command} should say '{word}':\n{text}");
    }
}

/// Runs a command that must succeed and say all of `words`.
pub async fn says(network: &Network, arguments: &[&str], words: &[&str]) -> String {
    let text = network.cli(arguments).await.unwrap_or_else(|why| panic!("{why}"));
    says_all(&format!("selvedge {}", arguments.join(" ")), &text, words);
    text
}

/// Runs a command that must fail and say all of `words`.
pub async fn refuses(network: &Network, arguments: &[&str], words: &[&str]) {
    let text = network.cli(arguments).await.expect_err("this must be refused");
    says_all(&format!("selvedge {}", arguments.join(" ")), &text, words);
}
