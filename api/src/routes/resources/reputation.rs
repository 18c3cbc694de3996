//! Ratings of organisations by those they dealt with.

use super::{Contract, Public, Read, Write, number, text};

pub(super) const READS: &[Read] = &[
    Read {
        path: "/v1/channels/{channel}/organizations/{organization}/reputation",
        contract: Contract::Reputation,
        function: "aggregate",
        address: &[("organization", "organization")],
        parameters: &[text("until")],
        public: Public::AsAnswered,
    },
    Read {
        path: "/v1/channels/{channel}/organizations/{organization}/ratings",
        contract: Contract::Reputation,
        function: "ratings",
        address: &[("organization", "organization")],
        parameters: &[text("until"), number("limit"), text("bookmark")],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/organizations/{organization}/ratings-given",
        contract: Contract::Reputation,
        function: "given",
        address: &[("organization", "organization")],
        parameters: &[number("limit"), text("bookmark")],
        public: Public::Nothing,
    },
];

pub(super) const WRITES: &[Write] = &[
    Write {
        path: "/v1/channels/{channel}/ratings",
        contract: Contract::Reputation,
        function: "rate",
        address: &[],
        retry_conflicts: true,
    },
    Write {
        path: "/v1/channels/{channel}/ratings/replies",
        contract: Contract::Reputation,
        function: "reply",
        address: &[],
        retry_conflicts: true,
    },
];
