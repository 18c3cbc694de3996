//! The client: enrol, propose, submit, evaluate, listen.
//!
//! It speaks plain Fabric, to Selvedge or to Fabric's own nodes. There are two ways to a committed transaction:
//!
//! ```text
//! through a gateway:  Invocation ─► Proposal ─► Gateway::endorse ─► Transaction ─► Gateway::submit ─► commit_status
//!                                                (the peer collects the endorsements and finds an orderer)
//!
//! directly:           Invocation ─► Proposal ─► DirectClient::endorse ─► Transaction ─► broadcast ─► DeliverFiltered
//!                                                (every endorsement is compared and checked here)
//! ```
//!
//! The id of a transaction depends on its [`Nonce`] and the identity alone. A caller that stores the nonce before
//! sending can propose again after any failure, at most one of the attempts will count, and
//! [`Error::retry`] says which way to go on.

mod ca;
mod channel_info;
mod checkpoint;
mod commits;
mod deliver;
mod direct;
mod discovery;
mod endorsement;
mod enrollment;
mod error;
mod events;
mod gateway;
pub mod lifecycle;
mod orderer;
pub mod participation;
mod peer;
mod proposal;
mod sealed;
mod survey;
#[cfg(test)]
mod testing;
mod token;
mod transaction;

pub use ca::{
    CaClient, CaInfo, EnrollRequest, Enrollment, RegisteredIdentity, Registration, RegistrationAttribute,
    Revocation, Revoked,
};
pub use channel_info::{ChannelInfo, OrdererAddress, PeerLocation};
pub use checkpoint::{Checkpoint, FileCheckpointer};
pub use commits::{CommitListener, CommitStream};
pub use deliver::{Blocks, BlocksWithPrivateData, FilteredBlocks, Seek, SeekStart, SeekStop, seek_payload};
pub use direct::{DirectClient, DirectConfig, PeerAddress};
pub use discovery::{DiscoveredChannel, DiscoveredPeer, Discovery, EndorsementPlan};
pub use endorsement::endorsement_policy;
pub use error::{CaError, Call, CommitError, Error, ErrorDetail, PayloadMismatch, Retry, RpcError};
pub use events::{ChaincodeEvent, ChaincodeEvents, EventsFrom, EventsRequest};
pub use gateway::{Deadlines, Gateway};
pub use orderer::OrdererClient;
pub use peer::PeerClient;
pub use proposal::{Invocation, Nonce, Proposal};
pub use sealed::{EnrollmentBox, MAX_SEALED_BYTES, SealedSecret, SealedSecretError, fingerprint};
pub use survey::{Answer, Majority, Participant, Survey};
pub use token::{sign_request, verify_request};
pub use transaction::{CommitRequest, CommitStatus, Committed, Stages, Transaction};

pub use selvedge_comm::{ClientTls, Endpoint, TlsIdentity};
pub use selvedge_msp::SigningIdentity as ClientIdentity;

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}
