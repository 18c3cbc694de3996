//! A device, for tests.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frame::{Direction, Frame, KEY_BYTES, KeyId, SealingKeys, seal};
use super::keys::IssuedKey;

/// What the gateway answered.
pub(crate) struct Heard {
    pub(crate) counter: u64,
    pub(crate) status: u8,
    pub(crate) highest: u64,
    pub(crate) time: u64,
    pub(crate) next_key: Option<(KeyId, [u8; KEY_BYTES])>,
    pub(crate) text: String,
}

/// A device with its key and its counter.
pub(crate) struct Device {
    keys: SealingKeys,
    id: KeyId,
    counter: u64,
}

impl Device {
    pub(crate) fn new(issued: &IssuedKey) -> Self {
        let key: [u8; KEY_BYTES] = hex::decode(&issued.key).unwrap().try_into().unwrap();
        Self {
            keys: SealingKeys::derive(&key).unwrap(),
            id: hex::decode(&issued.key_id).unwrap().try_into().unwrap(),
            counter: 0,
        }
    }

    /// The same device with the key that it was told; its counter goes on.
    pub(crate) fn renewed(&self, (id, key): (KeyId, [u8; KEY_BYTES])) -> Self {
        Self {
            keys: SealingKeys::derive(&key).unwrap(),
            id,
            counter: self.counter,
        }
    }

    pub(crate) fn seal(&mut self, device: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        self.counter += 1;
        let mut nonce = [7; 12];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        let mut inside = vec![u8::try_from(device.len()).unwrap()];
        inside.extend_from_slice(device.as_bytes());
        inside.push(kind);
        inside.extend_from_slice(content);
        seal(&self.keys, Direction::Up, &self.id, nonce, &inside).unwrap()
    }

    /// Sends a frame; none if the gateway ends the connection instead of answering.
    pub(crate) async fn exchange(&self, socket: &mut TcpStream, frame: &[u8]) -> Option<Heard> {
        socket.write_all(frame).await.ok()?;
        let mut length = [0; 2];
        socket.read_exact(&mut length).await.ok()?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        socket.read_exact(&mut bytes).await.ok()?;
        let frame = Frame::read(&bytes, Direction::Down).unwrap();
        let inside = frame.open(&self.keys, Direction::Down).unwrap();
        let number = |at: usize| u64::from_be_bytes(inside[at..at + 8].try_into().unwrap());
        let has_key = inside[29] == 1;
        let rest = if has_key { 70 } else { 30 };
        Some(Heard {
            counter: number(0),
            status: inside[8],
            highest: number(13),
            time: number(21),
            next_key: has_key.then(|| {
                (
                    inside[30..38].try_into().unwrap(),
                    inside[38..70].try_into().unwrap(),
                )
            }),
            text: String::from_utf8(inside[rest..].to_vec()).unwrap(),
        })
    }
}
