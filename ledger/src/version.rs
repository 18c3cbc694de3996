//! Versions of state entries (spec 02 §15).

use std::fmt;

use bytes::Bytes;
use selvedge_proto::kvrwset;

/// Which transaction wrote a state entry: block number, and index in the block counting all its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// Number of the block.
    pub block: u64,
    /// Index of the transaction in the block.
    pub tx: u64,
}

impl Version {
    /// The version of what transaction `tx` of block `block` writes.
    pub fn new(block: u64, tx: u64) -> Self {
        Self { block, tx }
    }

    /// As it stands in a read set. There, an absent key has no version message at all (spec 01 A.4 item 17).
    pub fn to_proto(self) -> kvrwset::Version {
        kvrwset::Version {
            block_num: self.block,
            tx_num: self.tx,
        }
    }

    /// `version_bytes` of the commit hash: the order-preserving form of both numbers (spec 03 §9).
    pub fn ord_bytes(self) -> Bytes {
        let mut out = Vec::with_capacity(18);
        put_ord_var(&mut out, self.block);
        put_ord_var(&mut out, self.tx);
        out.into()
    }
}

impl From<&kvrwset::Version> for Version {
    fn from(version: &kvrwset::Version) -> Self {
        Self::new(version.block_num, version.tx_num)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} transaction {}", self.block, self.tx)
    }
}

/// `ordVar` of spec 03 §9: the count of significant bytes, then those bytes, big endian.
fn put_ord_var(out: &mut Vec<u8>, value: u64) {
    let be = value.to_be_bytes();
    let skip = be.iter().take_while(|b| **b == 0).count();
    let digits = &be[skip..];
    out.push(u8::try_from(digits.len()).unwrap_or(8));
    out.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ord_var(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_ord_var(&mut out, value);
        out
    }

    /// The vectors of spec 02 §16.
    #[test]
    fn ord_var_vectors() {
        assert_eq!(ord_var(0), [0x00]);
        assert_eq!(ord_var(1), [0x01, 0x01]);
        assert_eq!(ord_var(255), [0x01, 0xff]);
        assert_eq!(ord_var(256), [0x02, 0x01, 0x00]);
        assert_eq!(Version::new(5, 0).ord_bytes().as_ref(), [0x01, 0x05, 0x00]);
    }

    proptest! {
        #[test]
        fn ord_var_keeps_the_order(a: u64, b: u64) {
            prop_assert_eq!(ord_var(a).cmp(&ord_var(b)), a.cmp(&b));
        }
    }
}
