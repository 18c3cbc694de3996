//! `/protos.Endorser/ProcessProposal`.

use selvedge_comm::MAX_MESSAGE_BYTES;
use selvedge_proto::protos;
use selvedge_proto::protos::endorser_server::{Endorser as EndorserRpc, EndorserServer};
use tonic::{Request, Response, Status};

use super::{EndorseOutcome, Endorser};

/// The endorser as a gRPC service.
#[derive(Debug, Clone)]
pub struct EndorserService {
    endorser: Endorser,
}

impl EndorserService {
    /// Processes a proposal for a caller elsewhere.
    pub(crate) async fn process(
        &self,
        proposal: protos::SignedProposal,
    ) -> Result<protos::ProposalResponse, Status> {
        match self.endorser.process_proposal(proposal).await {
            EndorseOutcome::Answered(response) => Ok(*response),
            // Fabric's endorser gives plain errors, which arrive as UNKNOWN.
            EndorseOutcome::Refused(why) | EndorseOutcome::Filtered(why) => Err(Status::unknown(why)),
        }
    }
}

impl Endorser {
    /// This endorser for callers elsewhere.
    pub(crate) fn remote(&self) -> EndorserService {
        EndorserService {
            endorser: self.clone(),
        }
    }

    /// The service, with Fabric's message limits.
    pub fn service(&self) -> EndorserServer<EndorserService> {
        EndorserServer::new(self.remote())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl EndorserRpc for EndorserService {
    async fn process_proposal(
        &self,
        request: Request<protos::SignedProposal>,
    ) -> Result<Response<protos::ProposalResponse>, Status> {
        self.process(request.into_inner()).await.map(Response::new)
    }
}
