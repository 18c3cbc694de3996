//! Keeps certificates from running out: renews them while their holder works, and watches the clock.
//!
//! ```text
//!              ┌────────────────────────── Keeper, one task a node ──────────────────────────┐
//! files ──────►│ another certificate, root or MSP in the files?  ──► in use from now on      │
//! CA ─────────►│ two thirds of a certificate's life over? other issuer now? ──► re-enrol     │──► files, then in use
//! CA's clock ─►│ does it agree with ours? ──► a warning that names both times                │
//!              └─────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The key stays when a certificate is renewed: a consenter is known by it (spec 05 §5.1), and a signature made at the moment
//! of the change fits either certificate.

mod authority;
mod clock;
mod config;
mod due;
mod keeper;
mod slot;

pub use authority::ask_time;
pub use clock::{Clock, SystemClock, clock_disagreement};
pub use config::RenewalConfig;
pub use due::renewal_time;
pub use keeper::{Keeper, Keeping};
