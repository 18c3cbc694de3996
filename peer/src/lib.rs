//! The peer: gateway, endorser, chaincode runtime, validation and commit, events.
