//! The discovery service: tells members of a channel about its configuration, its peers, and who must endorse (spec 08 §7).
//!
//! ```text
//! signed request ─► structure, TLS binding ─► per query: may the caller ask? ─► config │ peers │ endorsers
//!                                                                                         │       │
//!                                              members: this peer, and what others say ◄──┴───────┘
//! ```
//! To a caller who may not see a channel, it answers as if there were none.

mod access;
mod catalogue;
mod config;
mod descriptor;
mod envelopes;
mod layouts;
mod members;
mod probe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use selvedge_comm::{MAX_MESSAGE_BYTES, client_certificate};
use selvedge_proto::common::{SignaturePolicy, SignaturePolicyEnvelope, signature_policy};
use selvedge_proto::discovery::discovery_server::{Discovery, DiscoveryServer};
use selvedge_proto::discovery::query::Query as Kind;
use selvedge_proto::discovery::query_result::Result as Found;
use selvedge_proto::discovery::{
    ChaincodeQuery, ChaincodeQueryResult, Error, PeerMembershipQuery, Peers as PeerList, Query, QueryResult,
    Request as DiscoveryRequest, Response as DiscoveryResponse, SignedRequest,
};
use selvedge_proto::discovery::{Peer as PeerEntry, PeerMembershipResult};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use crate::chaincode::ChaincodeRuntime;
use crate::channel::PeerChannel;
use crate::context::PeerContext;
use crate::gateway::Peers;
use access::Caller;
use catalogue::Catalogue;
use envelopes::Envelopes;
use members::{Member, Members};

const ACCESS_DENIED: &str = "access denied";
const UNKNOWN_TYPE: &str = "unknown or missing request type";
/// Queries of one request; Fabric's clients send a handful.
const MAX_QUERIES: usize = 256;
/// Chaincode interests of one query, and calls of one interest.
const MAX_INTERESTS: usize = 64;
/// Key policies and collections that one interest names.
const MAX_POLICIES: usize = 256;
/// Rules and principals of all key policies of one interest: each is looked at for every combination of peers that is tried.
const MAX_POLICY_PARTS: usize = 2048;
/// Requests that are worked on at a time, once their callers are known to be entitled; others wait.
const WORKING: usize = 8;

/// What the service needs of the peer around it.
pub(crate) struct DiscoveryParts {
    pub(crate) context: Arc<dyn PeerContext>,
    pub(crate) runtime: Arc<ChaincodeRuntime>,
    pub(crate) peers: Arc<Peers>,
    /// The listener speaks TLS, so callers must be bound to their certificates.
    pub(crate) tls: bool,
    /// Queries without a channel are for any member of the peer's organisation, not for its admins alone.
    pub(crate) org_members_allowed: bool,
}

struct Inner {
    context: Arc<dyn PeerContext>,
    runtime: Arc<ChaincodeRuntime>,
    members: Members,
    envelopes: Envelopes,
    tls: bool,
    org_members_allowed: bool,
    working: Arc<Semaphore>,
}

/// A place among the requests that are worked on. Work on a thread of its own holds it, too: that goes on when the caller
/// has gone.
type Place = Arc<OwnedSemaphorePermit>;

/// The discovery service of one peer. Clones share everything.
#[derive(Clone)]
pub(crate) struct DiscoveryService {
    inner: Arc<Inner>,
}

impl DiscoveryService {
    pub(crate) fn new(parts: DiscoveryParts) -> Self {
        Self {
            inner: Arc::new(Inner {
                members: Members::new(Arc::clone(&parts.context), parts.peers),
                context: parts.context,
                runtime: parts.runtime,
                envelopes: Envelopes::new(),
                tls: parts.tls,
                org_members_allowed: parts.org_members_allowed,
                working: Arc::new(Semaphore::new(WORKING)),
            }),
        }
    }

    /// The gRPC service.
    pub(crate) fn server(&self) -> DiscoveryServer<Self> {
        DiscoveryServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl Discovery for DiscoveryService {
    async fn discover(&self, request: Request<SignedRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        let certificate = client_certificate(&request);
        let signed = request.into_inner();
        // Fabric's service gives plain errors, which arrive as UNKNOWN.
        let request = self
            .inner
            .open(&signed, certificate.as_deref())
            .map_err(Status::unknown)?;
        let caller = Caller::new(&signed, &request);
        let mut admitted: BTreeMap<String, bool> = BTreeMap::new();
        let mut results = Vec::with_capacity(request.queries.len());
        for query in request.queries {
            let entitled = match admitted.get(&query.channel) {
                Some(known) => *known,
                None => {
                    let entitled = self.inner.entitled(&caller, &query.channel);
                    admitted.insert(query.channel.clone(), entitled);
                    entitled
                }
            };
            let found = if entitled {
                self.inner.answer(query).await
            } else {
                Err(ACCESS_DENIED.to_owned())
            };
            results.push(QueryResult {
                result: Some(found.unwrap_or_else(|content| Found::Error(Error { content }))),
            });
        }
        Ok(Response::new(DiscoveryResponse { results }))
    }
}

impl Inner {
    /// Checks the parts of a request that must be there, and that the caller sits at the other end of the connection.
    fn open(&self, signed: &SignedRequest, certificate: Option<&[u8]>) -> Result<DiscoveryRequest, String> {
        let request = DiscoveryRequest::decode(signed.payload.clone())
            .map_err(|e| format!("failed parsing request: failed unmarshalling signed request: {e}"))?;
        let Some(authentication) = &request.authentication else {
            return Err("access denied, no authentication info in request".to_owned());
        };
        if authentication.client_identity.is_empty() {
            return Err("access denied, client identity wasn't supplied".to_owned());
        }
        if self.tls {
            let certificate = certificate.ok_or("client didn't send a TLS certificate")?;
            if authentication.client_tls_cert_hash != Sha256::digest(certificate).as_slice() {
                return Err(
                    "client claimed TLS hash doesn't match computed TLS hash from gRPC stream".to_owned(),
                );
            }
        }
        if request.queries.len() > MAX_QUERIES {
            return Err(format!("more than {MAX_QUERIES} queries: send several requests"));
        }
        Ok(request)
    }

    fn entitled(&self, caller: &Caller, channel: &str) -> bool {
        let judged = if channel.is_empty() {
            caller.of_peer(&*self.context, self.org_members_allowed)
        } else {
            caller.of_channel(self.context.channel(channel).as_deref())
        };
        if let Err(why) = &judged {
            tracing::info!(channel, %why, "discovery query refused");
        }
        judged.is_ok()
    }

    async fn answer(&self, query: Query) -> Result<Found, String> {
        let place = Arc::clone(&self.working).acquire_owned().await;
        let place: Place = Arc::new(place.map_err(|e| e.to_string())?);
        if query.channel.is_empty() {
            return match query.query {
                Some(Kind::LocalPeers(_)) => Ok(Found::Members(self.local_peers().await)),
                _ => Err(UNKNOWN_TYPE.to_owned()),
            };
        }
        // It may have gone since the caller was judged.
        let channel = self.context.channel(&query.channel).ok_or(ACCESS_DENIED)?;
        match query.query {
            Some(Kind::ConfigQuery(_)) => config::of_channel(&channel.bundle()).map(Found::ConfigResult),
            Some(Kind::PeerQuery(query)) => self.peers(&channel, query, &place).await.map(Found::Members),
            Some(Kind::CcQuery(query)) => self
                .endorsers(&channel, query, &place)
                .await
                .map(Found::CcQueryRes),
            Some(Kind::LocalPeers(_)) | None => Err(UNKNOWN_TYPE.to_owned()),
        }
    }

    async fn catalogue(&self, channel: &Arc<PeerChannel>, place: &Place) -> Result<Catalogue, String> {
        let (channel, runtime) = (Arc::clone(channel), Arc::clone(&self.runtime));
        let own = self.context.identity().msp_id().to_owned();
        let place = Arc::clone(place);
        let read = tokio::task::spawn_blocking(move || {
            let _place = place;
            Catalogue::read(&channel, &runtime, &own)
        });
        read.await.map_err(|e| e.to_string())?
    }

    fn entry(&self, channel: &str, member: &Member, catalogue: &Catalogue) -> PeerEntry {
        let chaincodes = catalogue.of(member);
        let own = member.is_local.then(|| self.context.identity());
        self.envelopes
            .on_channel(channel, member, chaincodes, own.as_ref())
    }

    /// The peers of a channel, by organisation.
    async fn peers(
        &self,
        channel: &Arc<PeerChannel>,
        query: PeerMembershipQuery,
        place: &Place,
    ) -> Result<PeerMembershipResult, String> {
        let members = self.members.of_channel(channel).await;
        let catalogue = self.catalogue(channel, place).await?;
        let mut fitting: Vec<&Member> = members.iter().collect();
        if let Some(interest) = query.filter.filter(|f| !f.chaincodes.is_empty()) {
            check_interest(&interest)?;
            let needs = catalogue.needs(&channel.bundle(), &interest)?;
            let bundle = channel.bundle();
            fitting.retain(|m| {
                catalogue.has_all(m, &interest) && needs.closed_to(&descriptor::signer(&bundle, m)).is_none()
            });
        }
        let mut found = PeerMembershipResult::default();
        for member in fitting {
            let list: &mut PeerList = found.peers_by_org.entry(member.msp_id.clone()).or_default();
            list.peers.push(self.entry(channel.id(), member, &catalogue));
        }
        Ok(found)
    }

    /// All peers that this one knows, whatever the channel.
    async fn local_peers(&self) -> PeerMembershipResult {
        let mut found = PeerMembershipResult::default();
        for member in self.members.everywhere().await {
            let own = member.is_local.then(|| self.context.identity());
            let entry = self.envelopes.without_channel(&member, own.as_ref());
            found
                .peers_by_org
                .entry(member.msp_id.clone())
                .or_default()
                .peers
                .push(entry);
        }
        found
    }

    async fn endorsers(
        &self,
        channel: &Arc<PeerChannel>,
        query: ChaincodeQuery,
        place: &Place,
    ) -> Result<ChaincodeQueryResult, String> {
        if query.interests.is_empty() {
            return Err("chaincode query must have at least one chaincode interest".to_owned());
        }
        if query.interests.len() > MAX_INTERESTS {
            return Err(format!(
                "more than {MAX_INTERESTS} chaincode interests in one query"
            ));
        }
        query.interests.iter().try_for_each(check_interest)?;
        let members = Arc::new(self.members.of_channel(channel).await);
        let catalogue = Arc::new(self.catalogue(channel, place).await?);
        let mut content = Vec::with_capacity(query.interests.len());
        for interest in query.interests {
            let failed = {
                let text = descriptor::text_of(&interest);
                move |why: String| format!("failed constructing descriptor for {text}: {why}")
            };
            let (bundle, of, known) = (channel.bundle(), Arc::clone(&members), Arc::clone(&catalogue));
            let place = Arc::clone(place);
            let planned = tokio::task::spawn_blocking(move || {
                let _place = place;
                descriptor::plan(&bundle, &interest, &of, &known)
            });
            let planned = planned.await.map_err(|e| e.to_string())?.map_err(failed)?;
            content.push(planned.descriptor(|member| self.entry(channel.id(), member, &catalogue)));
        }
        Ok(ChaincodeQueryResult { content })
    }
}

fn check_interest(interest: &selvedge_proto::protos::ChaincodeInterest) -> Result<(), String> {
    if interest.chaincodes.is_empty() {
        return Err("chaincode interest must contain at least one chaincode".to_owned());
    }
    if interest.chaincodes.len() > MAX_INTERESTS {
        return Err(format!("more than {MAX_INTERESTS} chaincodes in one interest"));
    }
    if interest.chaincodes.iter().any(|call| call.name.is_empty()) {
        return Err("chaincode name in interest cannot be empty".to_owned());
    }
    let calls = || interest.chaincodes.iter();
    let policies: usize = calls()
        .map(|call| {
            call.key_policies
                .len()
                .saturating_add(call.collection_names.len())
        })
        .sum();
    if policies > MAX_POLICIES {
        return Err(format!(
            "more than {MAX_POLICIES} key policies and collections in one interest"
        ));
    }
    let parts: usize = calls().flat_map(|call| &call.key_policies).map(parts_of).sum();
    if parts > MAX_POLICY_PARTS {
        return Err(format!(
            "more than {MAX_POLICY_PARTS} rules and principals in the key policies of one interest"
        ));
    }
    Ok(())
}

/// Rules and principals of a policy. Its depth is bounded by the decoder.
fn parts_of(policy: &SignaturePolicyEnvelope) -> usize {
    let mut count = policy.identities.len();
    let mut open: Vec<&SignaturePolicy> = policy.rule.iter().collect();
    while let Some(rule) = open.pop() {
        count = count.saturating_add(1);
        if let Some(signature_policy::Type::NOutOf(gate)) = &rule.r#type {
            open.extend(&gate.rules);
        }
    }
    count
}
