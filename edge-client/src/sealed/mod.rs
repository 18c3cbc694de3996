//! TCP for devices that cannot do TLS: each message is sealed with the device's own key.
//!
//! AES-256-GCM is used and not bare AES-CBC, since a message that was changed on the way must not decrypt to anything:
//! CBC tells nobody that bits were flipped, and its padding errors can be used to read it. GCM is in the hardware or the
//! library of every small controller that has AES. Its one sharp edge is that a nonce must never serve twice under one
//! key; so the nonce is a counter that the device keeps through power cuts, with four random bytes for each start
//! beside it, and each direction has a key of its own. `docs/edge.md` has the frame byte by byte.
//!
//! ```text
//! device ─ frame ─► frame::open (keys by id) ─► device id inside = owner of the key? ─► counter new? ─► Intake ─► answer
//! ```

mod frame;
mod keys;
mod replay;
mod server;
#[cfg(test)]
pub(crate) mod testing;

pub use keys::{DeviceKeyView, IssuedKey, KeyFile, KeyFileError};
pub use server::SealedConfig;
pub(crate) use server::SealedServer;
