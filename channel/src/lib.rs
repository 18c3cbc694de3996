//! Channel configuration: genesis blocks, reading, updates, and the verification of blocks under it.
//!
//! A channel is what its configuration says: who its members are ([`selvedge_msp`]), which policies they gave
//! themselves, how blocks are cut and who may order them. The configuration is a tree that only config transactions
//! change; each of them carries the update it follows from, signed by those whose policies it touches.
//!
//! ```text
//! genesis::ChannelProfile ─► block 0 ─► Bundle ──────────────► peer and orderer: MSPs, policies, settings
//!                                         │  ▲
//! update::edit ─► update::compute ─► sign │  │ validate_config_tx (every node)
//!                                 ▼       ▼  │
//!                     CONFIG_UPDATE ─► propose_update (orderer) ─► CONFIG transaction
//! ```
//!
//! - [`Bundle`]: one configuration, read, checked and ready to use; immutable.
//! - [`genesis`]: the first block out of a profile.
//! - [`update`]: computing, signing, showing and applying changes.
//! - [`verify`]: is a block what the ordering service made, in the form every peer accepts?

pub mod acl;
mod application;
mod build;
mod bundle;
mod caller;
mod capabilities;
pub mod consensus;
pub mod duration;
mod error;
pub mod genesis;
mod judge;
mod orderer;
mod path;
mod policy;
mod strict;
pub mod update;
mod values;
pub mod verify;
mod wire;

pub use application::{ApplicationConfig, ApplicationOrg};
pub use bundle::{Bundle, NodeRole, OrdererEndpoint};
pub use caller::{NotAuthenticated, authenticate, authenticate_in_any};
pub use capabilities::{Capabilities, CapabilityGroup, Level};
pub use error::{ConfigError, ConsensusError, NameError, UpdateError};
pub use orderer::{BFT, BatchSize, ETCDRAFT, OrdererConfig};
pub use path::{ElementKind, ElementPath, MAX_NAME_LEN, ROOT, check_channel_id, check_element_name};
pub use policy::{ImplicitMeta, Policy, PolicyRefusal, RefusalReason};
pub use values::names;
