//! gRPC errors as Fabric's gateway gives them (spec 04 §2).

use bytes::Bytes;
use prost::Message;
use selvedge_proto::{gateway, google};
use tonic::{Code, Status};

/// `type_url` of a detail (spec 01 A.4 item 15).
const DETAIL_URL: &str = "type.googleapis.com/gateway.ErrorDetail";
/// Longest text of one detail, in bytes: all of them travel in one HTTP/2 trailer, and clients take no more than 16 KiB.
const LONGEST_DETAIL: usize = 768;
/// Details in one error; the first ones tell the story, and trailers are bounded.
const MOST_DETAILS: usize = 8;

/// What one node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detail {
    pub(crate) address: String,
    pub(crate) msp_id: String,
    pub(crate) message: String,
}

fn shortened(text: &str) -> String {
    if text.len() <= LONGEST_DETAIL {
        return text.to_owned();
    }
    let end = (0..=LONGEST_DETAIL)
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0);
    format!("{}...", text.get(..end).unwrap_or_default())
}

/// An error with one `gateway.ErrorDetail` for each node that failed.
pub(crate) fn status(code: Code, message: impl Into<String>, details: &[Detail]) -> Status {
    let message = shortened(&message.into());
    if details.is_empty() {
        return Status::new(code, message);
    }
    let rpc = google::rpc::Status {
        code: code as i32,
        message: message.clone(),
        details: details
            .iter()
            .take(MOST_DETAILS)
            .map(|detail| prost_types::Any {
                type_url: DETAIL_URL.to_owned(),
                value: gateway::ErrorDetail {
                    address: detail.address.clone(),
                    msp_id: detail.msp_id.clone(),
                    message: shortened(&detail.message),
                }
                .encode_to_vec(),
            })
            .collect(),
    };
    Status::with_details(code, message, Bytes::from(rpc.encode_to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_go_into_the_trailer_and_stay_small() {
        let detail = Detail {
            address: "p0:7051".into(),
            msp_id: "Org1MSP".into(),
            message: "ü".repeat(5000),
        };
        let error = status(Code::Aborted, "failed", &vec![detail; 50]);
        assert!(error.details().len() < 8_000);
        let rpc = google::rpc::Status::decode(error.details()).unwrap();
        assert_eq!((rpc.code, rpc.message.as_str()), (10, "failed"));
        assert_eq!(rpc.details.len(), MOST_DETAILS);
        assert_eq!(rpc.details[0].type_url, DETAIL_URL);
        let first = gateway::ErrorDetail::decode(rpc.details[0].value.as_slice()).unwrap();
        assert_eq!(first.address, "p0:7051");
        assert!(first.message.ends_with("..."));
        assert!(status(Code::NotFound, "x", &[]).details().is_empty());
    }
}
