//! The ordering service: Broadcast, Raft, block cutting, Deliver, channel participation.
