//! Identities: keys, certificates, signing and verifying, membership, policies.
