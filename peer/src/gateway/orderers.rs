//! The orderers that a gateway submits to: one shared stream to each.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use selvedge_channel::{Bundle, OrdererEndpoint};
use selvedge_comm::{Broadcaster, CommError};

use super::peers::{ByNode, Dialling};

/// Streams kept; more orderers than this are connected to anew.
const MAX_STREAMS: usize = 256;

/// Connections to orderers, shared by all channels and submissions.
pub(crate) struct Orderers {
    dialling: Dialling,
    /// How long one submission may take.
    pub(crate) timeout: Duration,
    streams: Mutex<ByNode<Arc<Broadcaster>>>,
}

/// An orderer of a channel.
pub(crate) struct Orderer {
    pub(crate) address: String,
    pub(crate) msp_id: String,
    pub(crate) stream: Result<Arc<Broadcaster>, CommError>,
}

impl Orderers {
    pub(crate) fn new(dialling: Dialling, timeout: Duration) -> Self {
        Self {
            dialling,
            timeout,
            streams: Mutex::default(),
        }
    }

    /// The orderers that the channel's configuration names, in its order.
    pub(crate) fn of_channel(&self, bundle: &Bundle) -> Vec<Orderer> {
        bundle
            .orderer_endpoints()
            .into_iter()
            .map(|endpoint| self.orderer(endpoint))
            .collect()
    }

    fn orderer(&self, endpoint: OrdererEndpoint) -> Orderer {
        let address = endpoint.address.clone();
        Orderer {
            msp_id: endpoint.msp_id.clone().unwrap_or_default(),
            stream: self.stream(endpoint),
            address,
        }
    }

    fn stream(&self, endpoint: OrdererEndpoint) -> Result<Arc<Broadcaster>, CommError> {
        let key = (endpoint.address, endpoint.tls_roots);
        let mut streams = self.streams.lock();
        if let Some(stream) = streams.get(&key) {
            return Ok(Arc::clone(stream));
        }
        let stream = Arc::new(Broadcaster::new(&self.dialling.endpoint(&key.0, &key.1))?);
        if streams.len() >= MAX_STREAMS {
            streams.clear();
        }
        streams.insert(key, Arc::clone(&stream));
        Ok(stream)
    }
}
