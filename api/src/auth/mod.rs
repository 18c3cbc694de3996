//! Who calls, what they may see, and how often they may ask.
//!
//! ```text
//!  certificate in the TLS handshake ──────────────► user            (programs, browsers with an imported certificate)
//!  signed challenge ─► token ─► one-time link ────► token in a cookie ─► user                            (browsers)
//!  nothing ─────────────────────────────────────► visitor, if the server has an identity for them
//! ```
//!
//! A user is somebody whose signing identity the server holds. The view follows from the certificate of that identity:
//! `selvedge.view` = `public` gives the public view, whatever the organisation; everybody else of the organisation has
//! the in-house view.

mod access_log;
mod caller;
mod gate;
mod limiter;
mod tokens;
mod users;

pub(crate) use access_log::AccessLog;
pub(crate) use caller::{Caller, SignedIn, View};
pub(crate) use gate::{Gate, cookie, gate, too_many_failures};
pub(crate) use limiter::{Attempts, Limiter, StreamSlot, Streams};
pub(crate) use tokens::{Issued, Tokens};
pub(crate) use users::{User, Users};

/// Name of the cookie with a browser's token.
pub(crate) const COOKIE: &str = "selvedge_token";
/// Header that the page sends with whatever changes something. Another site's page cannot send it for our user.
pub(crate) const PAGE_HEADER: &str = "x-selvedge-page";
