//! Revocation lists as an organisation's MSP carries them (spec 02 §13.4-4).

use std::collections::BTreeSet;

use bytes::Bytes;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::pem;

/// Why bytes are no revocation list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not an X.509 revocation list: {0}")]
pub struct CrlError(String);

/// Which certificates of which authority a list revokes. Whether the authority signed it is what an MSP checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    authority_key_id: Option<Vec<u8>>,
    serials: BTreeSet<Vec<u8>>,
}

impl RevocationList {
    /// Reads PEM or DER.
    ///
    /// # Errors
    /// It is neither, or no list.
    pub fn read(bytes: &[u8]) -> Result<Self, CrlError> {
        let der = pem::first_block(bytes).map_or_else(|| bytes.to_vec(), |(block, _)| block.content);
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|e| CrlError(e.to_string()))?;
        let authority_key_id = list.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0.to_vec()),
            _ => None,
        });
        let serials = list.iter_revoked_certificates();
        Ok(Self {
            authority_key_id,
            serials: serials
                .map(|r| r.raw_serial().iter().copied().skip_while(|b| *b == 0).collect())
                .collect(),
        })
    }

    /// Key identifier of the authority that revokes.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_deref()
    }

    /// Whether the list revokes this serial number (big endian, without leading zeros).
    #[must_use]
    pub fn revokes(&self, serial: &[u8]) -> bool {
        self.serials.contains(serial)
    }

    /// Whether the list says nothing that `other` does not say as well.
    fn is_within(&self, other: &Self) -> bool {
        self.authority_key_id == other.authority_key_id && self.serials.is_subset(&other.serials)
    }
}

/// Puts new lists beside those that an MSP has. A former list goes when a new one of the same authority covers it; one that
/// revokes more stays, so that nobody becomes valid again by an update. Lists that cannot be read stay as they are.
///
/// # Errors
/// A new list cannot be read.
pub fn merged(former: &[Bytes], new: &[Bytes]) -> Result<Vec<Bytes>, CrlError> {
    let there: Vec<RevocationList> = former
        .iter()
        .filter_map(|bytes| RevocationList::read(bytes).ok())
        .collect();
    let mut added = Vec::new();
    for bytes in new {
        let list = RevocationList::read(bytes)?;
        // A list that says nothing, or nothing new, is no reason to change a channel.
        if !list.serials.is_empty() && !there.iter().any(|known| list.is_within(known)) {
            added.push((bytes.clone(), list));
        }
    }
    let covered = |bytes: &Bytes| {
        RevocationList::read(bytes).is_ok_and(|list| added.iter().any(|(_, new)| list.is_within(new)))
    };
    let mut all: Vec<Bytes> = former.iter().filter(|bytes| !covered(bytes)).cloned().collect();
    all.extend(added.into_iter().map(|(bytes, _)| bytes));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::{CaSubject, CertificateAuthority, RevokedCertificate, Validity};

    fn authority() -> CertificateAuthority {
        let validity = Validity {
            not_before: 0,
            not_after: 4_000_000_000,
        };
        let subject = CaSubject {
            common_name: "ca.org1.example.com".into(),
            ..CaSubject::default()
        };
        CertificateAuthority::generate_root(&subject, &validity).unwrap()
    }

    fn list(authority: &CertificateAuthority, serials: &[u8], number: u64) -> Bytes {
        let revoked: Vec<RevokedCertificate> = serials
            .iter()
            .map(|serial| RevokedCertificate {
                serial: vec![*serial],
                revoked_at: 1000,
                reason: 0,
            })
            .collect();
        authority
            .crl(&revoked, number, 1000, 2000)
            .unwrap()
            .into_bytes()
            .into()
    }

    #[test]
    fn a_list_is_read() {
        let authority = authority();
        let read = RevocationList::read(&list(&authority, &[1, 7], 1)).unwrap();
        assert!(read.revokes(&[7]) && !read.revokes(&[2]));
        assert_eq!(read.authority_key_id(), authority.certificate().subject_key_id());
        assert!(RevocationList::read(b"nonsense").is_err());
    }

    #[test]
    fn a_newer_list_takes_the_place_of_what_it_covers_and_of_nothing_else() {
        use std::slice::from_ref;
        let (one, other) = (authority(), authority());
        let (first, second) = (list(&one, &[1], 1), list(&one, &[1, 2], 2));
        let foreign = list(&other, &[1], 1);
        let both = [first.clone(), foreign.clone()];
        assert_eq!(
            merged(&both, from_ref(&second)).unwrap(),
            [foreign, second.clone()]
        );
        // An older list, which revokes less, frees nobody, and adds nothing; nor does one that is only issued anew.
        let again = list(&one, &[1, 2], 4);
        assert_ne!(again, second);
        for old in [&first, &again] {
            assert_eq!(
                merged(from_ref(&second), from_ref(old)).unwrap(),
                from_ref(&second)
            );
        }
        assert_eq!(merged(&[], &[list(&one, &[], 3)]).unwrap(), [] as [Bytes; 0]);
        let unreadable = Bytes::from_static(b"?");
        let kept = merged(from_ref(&unreadable), from_ref(&first)).unwrap();
        assert_eq!(kept, [unreadable.clone(), first]);
        assert!(merged(&[], &[unreadable]).is_err());
    }
}
