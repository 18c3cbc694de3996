//! The frame: what is on the wire, and what is inside the seal. Numbers are big-endian.
//!
//! | offset | bytes | a message of a device |
//! |---|---|---|
//! | 0 | 2 | length of everything after these two bytes |
//! | 2 | 1 | version: 1 |
//! | 3 | 1 | kind: 0x01 message, 0x81 answer |
//! | 4 | 8 | key id |
//! | 12 | 12 | nonce; in a message: 4 random bytes for each start of the device, 8 bytes counter; in an answer: random |
//! | 24 | n | AES-256-GCM ciphertext |
//! | 24 + n | 16 | its tag; bytes 2 to 11 are authenticated too |

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};

/// Version of the frame.
const VERSION: u8 = 1;
/// Length of a key in bytes.
pub(crate) const KEY_BYTES: usize = 32;
/// Length of a key's id in bytes.
pub(crate) const KEY_ID_BYTES: usize = 8;
/// Version, kind, key id, nonce.
const HEAD_BYTES: usize = 22;
const AUTHENTICATED_BYTES: usize = 10;
const TAG_BYTES: usize = 16;
/// Longest device id in bytes.
pub(crate) const MAX_DEVICE_ID: usize = 64;
const SALT: &[u8] = b"selvedge sealed 1";

/// The id of a key.
pub(crate) type KeyId = [u8; KEY_ID_BYTES];

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the device.
    Up,
    /// To the device.
    Down,
}

impl Direction {
    fn kind(self) -> u8 {
        match self {
            Self::Up => 0x01,
            Self::Down => 0x81,
        }
    }

    fn info(self) -> &'static [u8] {
        match self {
            Self::Up => b"up",
            Self::Down => b"down",
        }
    }
}

/// The keys of both directions, from the one that the device was given (HKDF-SHA256, RFC 5869).
pub(crate) struct SealingKeys {
    up: LessSafeKey,
    down: LessSafeKey,
}

impl SealingKeys {
    pub(crate) fn derive(key: &[u8; KEY_BYTES]) -> Option<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(key);
        let one = |direction: Direction| {
            let info = [direction.info()];
            let derived = root.expand(&info, &AES_256_GCM).ok()?;
            Some(LessSafeKey::new(UnboundKey::from(derived)))
        };
        Some(Self {
            up: one(Direction::Up)?,
            down: one(Direction::Down)?,
        })
    }

    fn of(&self, direction: Direction) -> &LessSafeKey {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

/// A frame without its length, taken apart but not opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) key_id: KeyId,
    authenticated: &'a [u8],
    nonce: [u8; 12],
    sealed: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes apart what follows the length; none if it is no frame of this version and direction.
    pub(crate) fn read(bytes: &'a [u8], direction: Direction) -> Option<Self> {
        if bytes.len() < HEAD_BYTES + TAG_BYTES || bytes[0] != VERSION || bytes[1] != direction.kind() {
            return None;
        }
        Some(Self {
            key_id: bytes[2..10].try_into().ok()?,
            authenticated: &bytes[..AUTHENTICATED_BYTES],
            nonce: bytes[10..HEAD_BYTES].try_into().ok()?,
            sealed: &bytes[HEAD_BYTES..],
        })
    }

    /// The counter in the nonce of a message.
    pub(crate) fn counter(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.nonce[4..]);
        u64::from_be_bytes(bytes)
    }

    /// Tells this message from another one under the same counter: a part of its tag.
    pub(crate) fn mark(&self) -> u32 {
        let tag = self.sealed.last_chunk::<4>().copied().unwrap_or_default();
        u32::from_be_bytes(tag)
    }

    /// Opens the seal; none if it was made with another key or changed on the way.
    pub(crate) fn open(&self, keys: &SealingKeys, direction: Direction) -> Option<Vec<u8>> {
        let mut content = self.sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let length = keys
            .of(direction)
            .open_in_place(nonce, Aad::from(self.authenticated), &mut content)
            .ok()?
            .len();
        content.truncate(length);
        Some(content)
    }
}

/// Seals content into a whole frame; none if it is too long for one.
pub(crate) fn seal(
    keys: &SealingKeys,
    direction: Direction,
    key_id: &KeyId,
    nonce: [u8; 12],
    content: &[u8],
) -> Option<Vec<u8>> {
    let length = u16::try_from(HEAD_BYTES + content.len() + TAG_BYTES).ok()?;
    let mut frame = Vec::with_capacity(2 + usize::from(length));
    frame.extend_from_slice(&length.to_be_bytes());
    frame.push(VERSION);
    frame.push(direction.kind());
    frame.extend_from_slice(key_id);
    frame.extend_from_slice(&nonce);
    let mut sealed = content.to_vec();
    let authenticated = frame[2..2 + AUTHENTICATED_BYTES].to_vec();
    keys.of(direction)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(&authenticated),
            &mut sealed,
        )
        .ok()?;
    frame.extend_from_slice(&sealed);
    Some(frame)
}

/// A random nonce, for answers: there are at most 2^32 of them under one key before it is renewed.
pub(crate) fn random_nonce() -> Option<[u8; 12]> {
    let mut nonce = [0; 12];
    SystemRandom::new().fill(&mut nonce).ok()?;
    Some(nonce)
}

/// What a device says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// It asks for an answer only: the gateway's time, the last counter, a new key.
    Hello,
    /// A reading or a list of them, as JSON.
    Readings(&'a [u8]),
    /// A transaction request or a list of them, as JSON.
    Transactions(&'a [u8]),
    /// The head of a reading as JSON, and content that only its owner can open.
    Opaque { head: &'a [u8], content: &'a [u8] },
}

/// Reads the inside of a message: device id and content.
///
/// | bytes | |
/// |---|---|
/// | 1 | length of the device id |
/// | l | device id |
/// | 1 | what follows: 0 nothing, 1 readings, 2 transactions, 3 content for its owner |
/// | … | JSON; for 3: 2 bytes length of a JSON reading without values, that reading, the content |
pub(crate) fn read_content(bytes: &[u8]) -> Option<(&str, Content<'_>)> {
    let (length, rest) = bytes.split_first()?;
    let (device, rest) = rest.split_at_checked(usize::from(*length))?;
    if device.is_empty() || device.len() > MAX_DEVICE_ID {
        return None;
    }
    let device = std::str::from_utf8(device).ok()?;
    let (kind, rest) = rest.split_first()?;
    let content = match kind {
        0 if rest.is_empty() => Content::Hello,
        1 => Content::Readings(rest),
        2 => Content::Transactions(rest),
        3 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (head, content) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            if content.is_empty() {
                return None;
            }
            Content::Opaque { head, content }
        }
        _ => return None,
    };
    Some((device, content))
}

/// What the gateway made of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It is on the gateway's disk.
    Taken = 0,
    /// It was taken before, under this counter.
    Known = 1,
    /// It is not right, and will not be.
    Refused = 2,
    /// Not now; the same frame may be sent again after the time told.
    Wait = 3,
    /// The counter served another message, or is too old to know; go on with a counter above the highest one told.
    Replayed = 4,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) counter: u64,
    pub(crate) status: Status,
    /// Seconds to wait.
    pub(crate) wait: u32,
    /// Highest counter seen under this key.
    pub(crate) highest: u64,
    /// The gateway's time, Unix milliseconds.
    pub(crate) time: u64,
    /// A key that takes the place of this one.
    pub(crate) next_key: Option<(KeyId, [u8; KEY_BYTES])>,
    /// For people.
    pub(crate) text: String,
}

impl Answer {
    /// | bytes | |
    /// |---|---|
    /// | 8 | counter of the message |
    /// | 1 | status: 0 taken, 1 known, 2 refused, 3 wait, 4 replayed |
    /// | 4 | seconds to wait |
    /// | 8 | highest counter seen under this key |
    /// | 8 | the gateway's time in Unix milliseconds |
    /// | 1 | 1 if a new key follows, else 0 |
    /// | 40 | if so: its id (8) and the key (32) |
    /// | … | text, UTF-8 |
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(70 + self.text.len());
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.push(self.status as u8);
        out.extend_from_slice(&self.wait.to_be_bytes());
        out.extend_from_slice(&self.highest.to_be_bytes());
        out.extend_from_slice(&self.time.to_be_bytes());
        match &self.next_key {
            Some((id, key)) => {
                out.push(1);
                out.extend_from_slice(id);
                out.extend_from_slice(key);
            }
            None => out.push(0),
        }
        out.extend_from_slice(self.text.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(byte: u8) -> SealingKeys {
        SealingKeys::derive(&[byte; KEY_BYTES]).unwrap()
    }

    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [9; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        nonce
    }

    #[test]
    fn what_was_sealed_is_opened_with_the_same_key_only() {
        let frame = seal(&keys(1), Direction::Up, &[7; 8], nonce(5), b"content").unwrap();
        assert_eq!(
            usize::from(u16::from_be_bytes([frame[0], frame[1]])),
            frame.len() - 2
        );
        let read = Frame::read(&frame[2..], Direction::Up).unwrap();
        assert_eq!((read.key_id, read.counter()), ([7; 8], 5));
        assert_eq!(read.open(&keys(1), Direction::Up).unwrap(), b"content");
        assert_eq!(read.open(&keys(2), Direction::Up), None);
        assert_eq!(
            read.open(&keys(1), Direction::Down),
            None,
            "each direction has a key of its own"
        );
        assert_eq!(Frame::read(&frame[2..], Direction::Down), None);
        assert!(seal(&keys(1), Direction::Up, &[7; 8], nonce(5), &[0; 70_000]).is_none());
    }

    #[test]
    fn contents_are_read() {
        assert_eq!(read_content(b"\x03box\x00"), Some(("box", Content::Hello)));
        assert_eq!(
            read_content(b"\x03box\x01{}"),
            Some(("box", Content::Readings(b"{}")))
        );
        assert_eq!(
            read_content(b"\x03box\x03\x00\x02{}secret"),
            Some((
                "box",
                Content::Opaque {
                    head: b"{}",
                    content: b"secret"
                }
            ))
        );
        for bad in [
            &b""[..],
            b"\x00\x00",
            b"\x05box",
            b"\x03box",
            b"\x03box\x09",
            b"\x03box\x00x",
            b"\x03box\x03\x00\x05{}",
        ] {
            assert_eq!(read_content(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_frame_is_not_opened(
            content in prop::collection::vec(any::<u8>(), 0..60),
            place in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let mut frame = seal(&keys(1), Direction::Up, &[7; 8], nonce(5), &content).unwrap();
            let at = 2 + place.index(frame.len() - 2);
            frame[at] ^= 1 << bit;
            if let Some(read) = Frame::read(&frame[2..], Direction::Up) {
                prop_assert_eq!(read.open(&keys(1), Direction::Up), None);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(frame) = Frame::read(&bytes, Direction::Up) {
                prop_assert_eq!(frame.open(&keys(1), Direction::Up), None);
            }
            read_content(&bytes);
        }
    }
}
