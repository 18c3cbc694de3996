//! The web page of the platform: plain ES modules and CSS in `web/`, built into the program as they are.
//!
//! There is no build step and nothing is fetched from elsewhere. The page talks to the REST interface of the server that
//! serves it, and to nothing else.

use std::io::Write as _;
use std::sync::{LazyLock, OnceLock};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// Smaller files gain nothing from being packed.
const WORTH_PACKING: usize = 1024;

/// One file of the page.
#[derive(Debug)]
pub struct Asset {
    /// Its path below `web/`.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
    tag: OnceLock<String>,
    gzip: OnceLock<Option<Vec<u8>>>,
}

impl Asset {
    /// An HTTP entity tag: changes when the content does.
    pub fn tag(&'static self) -> &'static str {
        self.tag.get_or_init(|| {
            let digest = Sha256::digest(self.bytes);
            format!("\"{}\"", hex::encode(&digest[..12]))
        })
    }

    /// The content packed with gzip; none where that gains nothing. Packed when first asked for.
    pub fn gzip(&'static self) -> Option<&'static [u8]> {
        self.gzip
            .get_or_init(|| {
                if self.bytes.len() < WORTH_PACKING {
                    return None;
                }
                let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                // Writing to memory does not fail.
                encoder.write_all(self.bytes).ok()?;
                encoder.finish().ok()
            })
            .as_deref()
    }
}

macro_rules! assets {
    ($($type:literal: $($path:literal)+;)+) => {
        /// Every file of the page.
        static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| vec![$($(Asset {
            path: $path,
            content_type: $type,
            bytes: include_bytes!(concat!("../web/", $path)),
            tag: OnceLock::new(),
            gzip: OnceLock::new(),
        }),+),+]);
    };
}

assets! {
    "text/html; charset=utf-8": "index.html";
    "text/css; charset=utf-8": "style.css";
    "image/svg+xml": "icon.svg";
    "application/manifest+json": "manifest.webmanifest";
    "text/javascript; charset=utf-8":
        "api.js" "chart.js" "dom.js" "format.js" "hash.js" "i18n.js" "live.js" "main.js" "map.js" "parts.js" "seal.js" "world.js"
        "lang/de.js" "lang/en.js"
        "views/block.js" "views/blocks.js" "views/certificates.js" "views/deal.js" "views/genealogy.js"
        "views/idea.js" "views/ideas.js" "views/overview.js" "views/partner.js" "views/partners.js"
        "views/process.js" "views/product.js" "views/rfq.js" "views/rfqs.js" "views/search.js" "views/shipment.js"
        "views/shipments.js" "views/tender.js" "views/tenders.js" "views/transaction.js";
}

/// A file of the page by its path below `web/`.
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn files(folder: &Path, base: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, base, found);
            } else {
                found.insert(path.strip_prefix(base).unwrap().to_string_lossy().into_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let mut on_disk = BTreeSet::new();
        files(&base, &base, &mut on_disk);
        let built_in: BTreeSet<String> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        assert_eq!(on_disk, built_in);
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        for asset in ASSETS.iter() {
            let text = String::from_utf8_lossy(asset.bytes);
            for (place, _) in text.match_indices("://") {
                let from = text[..place]
                    .rfind(['"', '\'', '`', ' ', '('])
                    .map_or(0, |at| at + 1);
                let url = &text[from..(place + 24).min(text.len())];
                assert!(
                    url.starts_with("http://www.w3.org/"),
                    "{} names {url}",
                    asset.path
                );
            }
        }
    }

    #[test]
    fn both_languages_say_the_same_things() {
        let keys = |path: &str| -> BTreeSet<String> {
            let text = String::from_utf8(asset(path).unwrap().bytes.to_vec()).unwrap();
            text.lines()
                .filter_map(|line| {
                    let (key, _) = line.trim_start().strip_prefix('\'')?.split_once("': ")?;
                    Some(key.to_owned())
                })
                .collect()
        };
        let (english, german) = (keys("lang/en.js"), keys("lang/de.js"));
        assert!(english.len() > 100);
        assert_eq!(english, german);
    }

    #[test]
    fn packed_files_are_smaller() {
        let style = asset("style.css").unwrap();
        assert!(style.gzip().unwrap().len() < style.bytes.len());
        assert_eq!(style.tag(), style.tag());
        assert!(asset("no such file").is_none());
    }
}
