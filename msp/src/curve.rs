//! ECDSA signatures as numbers: reading and writing their DER form and the low-S rule (spec 02 §3).

use crate::der;

/// The curves that identities may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
}

const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const P256_HALF: [u8; 32] = half(P256_ORDER);

const P384_ORDER: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a,
    0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];
const P384_HALF: [u8; 48] = half(P384_ORDER);

const fn half<const N: usize>(order: [u8; N]) -> [u8; N] {
    let mut out = [0; N];
    let mut i = 0;
    while i < N {
        out[i] = (order[i] >> 1) | if i > 0 { (order[i - 1] & 1) << 7 } else { 0 };
        i += 1;
    }
    out
}

impl Curve {
    /// Length of a coordinate and of each half of a signature, in bytes.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    fn order(self) -> &'static [u8] {
        match self {
            Self::P256 => &P256_ORDER,
            Self::P384 => &P384_ORDER,
        }
    }

    fn half_order(self) -> &'static [u8] {
        match self {
            Self::P256 => &P256_HALF,
            Self::P384 => &P384_HALF,
        }
    }
}

/// The two numbers of a signature, big endian, left-padded to the curve's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rs {
    pub(crate) curve: Curve,
    pub(crate) r: Vec<u8>,
    pub(crate) s: Vec<u8>,
}

impl Rs {
    /// Reads SEQUENCE{INTEGER r, INTEGER s}. Lengths and integers must be minimal and both numbers positive; bytes after
    /// the sequence and elements after `s` are ignored, as Fabric's verifier does.
    pub(crate) fn from_der(curve: Curve, signature: &[u8]) -> Option<Self> {
        let outer = der::read_tagged(signature, der::SEQUENCE)?;
        let r = der::read_tagged(outer.content, der::INTEGER)?;
        let s = der::read_tagged(r.rest, der::INTEGER)?;
        let pad = |content| {
            let magnitude = der::positive_integer(content)?;
            let missing = curve.size().checked_sub(magnitude.len())?;
            let mut padded = vec![0; missing];
            padded.extend_from_slice(magnitude);
            Some(padded)
        };
        Some(Self {
            curve,
            r: pad(r.content)?,
            s: pad(s.content)?,
        })
    }

    /// From the two numbers side by side.
    pub(crate) fn from_fixed(curve: Curve, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 2 * curve.size() {
            return None;
        }
        let (r, s) = bytes.split_at(curve.size());
        Some(Self {
            curve,
            r: r.to_vec(),
            s: s.to_vec(),
        })
    }

    /// Whether s is at most half of the curve's order.
    pub(crate) fn is_low_s(&self) -> bool {
        self.s.as_slice() <= self.curve.half_order()
    }

    /// The same signature with the smaller of s and order − s. An s beyond the order, which no signer makes, stays.
    pub(crate) fn into_low_s(mut self) -> Self {
        if !self.is_low_s() && self.s.as_slice() < self.curve.order() {
            let mut borrow = 0i16;
            for (digit, order) in self.s.iter_mut().zip(self.curve.order()).rev() {
                let difference = i16::from(*order) - i16::from(*digit) - borrow;
                borrow = i16::from(difference < 0);
                *digit = difference.rem_euclid(256).to_le_bytes()[0];
            }
        }
        self
    }

    /// The two numbers side by side.
    pub(crate) fn to_fixed(&self) -> Vec<u8> {
        [self.r.as_slice(), self.s.as_slice()].concat()
    }

    /// Strict DER.
    pub(crate) fn to_der(&self) -> Vec<u8> {
        der::sequence(&[der::unsigned(&self.r), der::unsigned(&self.s)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_orders() {
        assert_eq!(
            hex::encode(P256_HALF),
            "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8"
        );
        assert_eq!(P384_HALF[0], 0x7f);
        assert_eq!(P384_HALF[47], 0xb9);
    }

    #[test]
    fn the_border_is_the_half_order_itself() {
        let mut rs = Rs {
            curve: Curve::P256,
            r: vec![1; 32],
            s: P256_HALF.to_vec(),
        };
        assert!(rs.is_low_s());
        assert_eq!(rs.clone().into_low_s(), rs);
        rs.s[31] += 1;
        assert!(!rs.is_low_s());
        // order - (half + 1) = half, because the order is odd.
        assert_eq!(rs.into_low_s().s, P256_HALF);
    }

    #[test]
    fn trailing_bytes_and_extra_elements_are_ignored() {
        let (r, s) = (der::unsigned(&[9; 32]), der::unsigned(&[8; 32]));
        let plain = Rs::from_der(Curve::P256, &der::sequence(&[r.clone(), s.clone()])).unwrap();
        let mut trailing = der::sequence(&[r.clone(), s.clone()]);
        trailing.extend_from_slice(b"junk");
        assert_eq!(Rs::from_der(Curve::P256, &trailing), Some(plain.clone()));
        let extra = der::sequence(&[r, s, vec![0xff, 0xff]]);
        assert_eq!(Rs::from_der(Curve::P256, &extra), Some(plain));
    }

    #[test]
    fn malformed_signatures_are_refused() {
        let ok = der::unsigned(&[9]);
        let zero = vec![2, 1, 0];
        let negative = vec![2, 1, 0x80];
        let padded = vec![2, 2, 0, 1];
        let too_long = der::unsigned(&[1; 33]);
        for bad in [&zero, &negative, &padded, &too_long, &vec![4, 1, 9], &vec![2, 0]] {
            assert!(
                Rs::from_der(Curve::P256, &der::sequence(&[&ok, bad])).is_none(),
                "{bad:?} as s"
            );
            assert!(
                Rs::from_der(Curve::P256, &der::sequence(&[bad, &ok])).is_none(),
                "{bad:?} as r"
            );
        }
        assert!(Rs::from_der(Curve::P256, &[]).is_none());
        assert!(
            Rs::from_der(Curve::P256, &[0x31, 6, 2, 1, 9, 2, 1, 9]).is_none(),
            "a SET"
        );
        assert!(
            Rs::from_der(Curve::P256, &[0x30, 0x81, 6, 2, 1, 9, 2, 1, 9]).is_none(),
            "long length"
        );
        assert!(
            Rs::from_der(Curve::P256, &[0x30, 0x80, 2, 1, 9, 2, 1, 9, 0, 0]).is_none(),
            "indefinite length"
        );
        assert!(Rs::from_der(Curve::P256, &der::sequence(&[ok])).is_none(), "no s");
    }

    proptest! {
        #[test]
        fn low_s_is_idempotent_and_an_involution_of_the_order(
            r in proptest::collection::vec(any::<u8>(), 32), s in proptest::collection::vec(any::<u8>(), 32)
        ) {
            let rs = Rs { curve: Curve::P256, r, s };
            prop_assume!(rs.s.as_slice() < P256_ORDER.as_slice() && rs.s.iter().any(|b| *b != 0));
            let low = rs.clone().into_low_s();
            prop_assert!(low.is_low_s());
            prop_assert_eq!(low.clone().into_low_s(), low.clone());
            // s + s' = order, unless nothing was changed.
            if low.s != rs.s {
                let mut carry = 0u16;
                let mut sum = vec![0u8; 32];
                for i in (0..32).rev() {
                    let digit = u16::from(rs.s[i]) + u16::from(low.s[i]) + carry;
                    sum[i] = digit.to_le_bytes()[0];
                    carry = digit >> 8;
                }
                prop_assert_eq!(sum.as_slice(), P256_ORDER.as_slice());
            }
        }

        #[test]
        fn der_round_trips(fixed in proptest::collection::vec(any::<u8>(), 96)) {
            let rs = Rs::from_fixed(Curve::P384, &fixed).unwrap();
            prop_assume!(rs.r.iter().any(|b| *b != 0) && rs.s.iter().any(|b| *b != 0));
            prop_assert_eq!(Rs::from_der(Curve::P384, &rs.to_der()), Some(rs.clone()));
            prop_assert_eq!(rs.to_fixed(), fixed);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Rs::from_der(Curve::P256, &bytes);
        }
    }
}
