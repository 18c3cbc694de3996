//! The MSP folder of somebody who has enrolled (spec 02 §13.6).

use std::path::Path;

use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_msp::{Certificate, PrivateKey, pem};

use crate::ca::Enrollment;
use crate::error::Error;

/// The name of the certificate's file: the one that is there, since another beside it might be read instead.
fn signcert_name(dir: &Path) -> String {
    let entries = std::fs::read_dir(dir.join("signcerts"))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    names.min().unwrap_or_else(|| "cert.pem".to_owned())
}

impl Enrollment {
    /// Writes the MSP folder of the identity: certificate, key (mode 0600) and the authority's chain. Files that are there
    /// are replaced one by one, each whole or not at all.
    ///
    /// # Errors
    /// The authority's answer holds no usable certificate, or a file cannot be written.
    pub fn write_msp_dir(&self, dir: &Path, key: PrivateKey) -> Result<(), Error> {
        let unusable =
            |e| Error::malformed("the certificate authority", format!("no usable certificate: {e}"));
        let signcert = Certificate::from_pem(self.certificate_pem.as_bytes()).map_err(unusable)?;
        let mut contents = MspDirContents {
            signcert: Some((signcert_name(dir), signcert)),
            key: Some(key),
            node_ous: true,
            ..MspDirContents::default()
        };
        for block in pem::all_blocks(self.chain_pem.as_bytes()) {
            let certificate = Certificate::from_der(&block.content).map_err(unusable)?;
            let (list, name) = if certificate.is_signed_by(&certificate) {
                (&mut contents.cacerts, "ca")
            } else {
                (&mut contents.intermediatecerts, "intermediate")
            };
            let number = if list.is_empty() {
                String::new()
            } else {
                format!("-{}", list.len() + 1)
            };
            list.push((format!("{name}{number}.pem"), certificate));
        }
        write_msp_dir(dir, &contents).map_err(|e| Error::File {
            path: dir.to_owned(),
            source: std::io::Error::other(e.to_string()),
        })
    }
}
