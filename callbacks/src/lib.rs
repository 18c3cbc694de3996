//! Call-backs: whoever wants to know of contract events is told of each, in order, through outages on either side.
//!
//! ```text
//! peer ─► EventSource ─► Follower ─┬─► Hub: one task a subscription ─► web hook, signed, retried
//!                                  ├─► server-sent events: the reader keeps its place (Last-Event-ID)
//!                                  └─► anything else that keeps a place, such as an MQTT session
//! ```
//!
//! The ledger is the queue. What a subscriber has not had yet lies on the chain, so all that is kept for it is its
//! *place*: the block and transaction after which to go on. A subscriber that is dead for a month costs a file of 100
//! bytes, and nothing of what it missed is lost. An [`EventId`] is that place: `block.transaction`; it is the same at
//! every peer and in every process, so a reader may resume elsewhere.
//!
//! What is promised: every event from the start of a subscription on, in the order of the ledger, at least once. An
//! event may come again after a crash (the place is written after the delivery); its id is the same then, and nothing
//! else is ever repeated. There is no gap, not even at the start: "from now on" is resolved to a block number before the
//! first event is waited for, and that number is kept.
//!
//! # For a program that embeds it
//!
//! 1. An [`EventSource`]: [`GatewaySource`] reads from peers' gateways (Fabric's or Selvedge's, 2.4 or later) under the
//!    identity that a closure names for an *owner*. An owner is whatever the program tells callers apart by (a user, an
//!    organisation); the edge gateway has only one, the empty text. Owners do not see each other's subscriptions.
//! 2. [`Hub::start`] with a folder: the subscriptions in it go on where they were. [`Hub::create`], [`Hub::list`],
//!    [`Hub::get`], [`Hub::remove`], [`Hub::resume`] are the whole of their life.
//! 3. [`Hub::stream`] gives server-sent events to one reader as an axum response.
//! 4. [`routes`] has all of that as REST for a fixed owner or one that a middleware puts into the request's extensions
//!    ([`Owner`]); a program with an interface of its own calls the methods instead.
//! 5. [`Follower`] is for sinks of other kinds: it never ends, reconnects by itself, and tells its place.
//!
//! ```no_run
//! # use selvedge_callbacks::*;
//! # use std::sync::Arc;
//! # async fn f(peers: Vec<selvedge_sdk::Endpoint>, me: selvedge_sdk::ClientIdentity) -> Result<(), CallbackError> {
//! let source = GatewaySource::new(peers, move |_owner| Some(me.clone()));
//! let hub = Hub::start(Arc::new(source), "data/callbacks".as_ref(), CallbackSettings::default())?;
//! let created = hub.create("Org1MSP", NewSubscription {
//!     channel: "trade".into(),
//!     chaincode: "shipment".into(),
//!     name: "shipment.*".parse()?,
//!     webhook: WebhookTarget { url: "https://erp.example.com/hook".into(), secret: None },
//!     from: StartAt::Now,
//!     id: None,
//! }).await?;
//! println!("verify with {}", created.secret);
//! let app: axum::Router = routes(Arc::clone(&hub));
//! # let _ = app; Ok(()) }
//! ```
//!
//! # Web hooks on the wire
//!
//! A `POST` with the event as JSON ([`Event::json`]) and three headers, as the *Standard Webhooks* specification has
//! them, so that its libraries verify it: `webhook-id` (the event id), `webhook-timestamp` (Unix seconds of this
//! attempt), `webhook-signature` (`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body` under the secret's bytes). Any
//! 2xx within the time limit is success. 410 ends the subscription. Anything else is tried again, with growing pauses
//! and not before `Retry-After`; the next event waits, so order holds. After [`CallbackSettings::give_up_after`] of
//! nothing but failures the subscription is suspended, and [`Hub::resume`] lets it go on from its place, or past the
//! event that the receiver chokes on.

mod error;
mod event;
mod follow;
mod hub;
mod routes;
mod settings;
mod source;
mod sse;
mod store;
mod webhook;

pub use error::CallbackError;
pub use event::{Event, EventFilter, EventId, NamePattern};
pub use follow::{Follower, FollowerView};
pub use hub::{Created, Hub, SubscriptionState, SubscriptionView};
pub use routes::{Owner, routes};
pub use settings::{CallbackSettings, NewSubscription, StartAt, WebhookTarget};
pub use source::{EventSource, EventStream, GatewaySource, SourceError};
pub use webhook::{Secret, signature};
