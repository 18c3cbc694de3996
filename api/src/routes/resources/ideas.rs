//! Contributions: who had which idea, and what became of it.

use super::{Contract, Public, Read, Write, number, text};

pub(super) const READS: &[Read] = &[
    Read {
        path: "/v1/channels/{channel}/ideas",
        contract: Contract::Ideas,
        function: "list",
        address: &[],
        parameters: &[text("state"), number("limit"), text("bookmark")],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/ideas/{id}",
        contract: Contract::Ideas,
        function: "get",
        address: &[("id", "idea")],
        parameters: &[],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/ideas/{id}/lineage",
        contract: Contract::Ideas,
        function: "lineage",
        address: &[("id", "idea")],
        parameters: &[number("depth")],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/ideas/{id}/assessments",
        contract: Contract::Ideas,
        function: "assessments",
        address: &[("id", "idea")],
        parameters: &[],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/ideas/{id}/rewards",
        contract: Contract::Ideas,
        function: "rewards",
        address: &[("id", "idea")],
        parameters: &[],
        public: Public::Nothing,
    },
];

pub(super) const WRITES: &[Write] = &[
    Write {
        path: "/v1/channels/{channel}/ideas",
        contract: Contract::Ideas,
        function: "contribute",
        address: &[],
        retry_conflicts: true,
    },
    Write {
        path: "/v1/channels/{channel}/ideas/{id}/agreement",
        contract: Contract::Ideas,
        function: "agreeShares",
        address: &[("id", "idea")],
        retry_conflicts: true,
    },
    Write {
        path: "/v1/channels/{channel}/ideas/{id}/refusal",
        contract: Contract::Ideas,
        function: "refuseShares",
        address: &[("id", "idea")],
        retry_conflicts: true,
    },
    Write {
        path: "/v1/channels/{channel}/ideas/{id}/assessments",
        contract: Contract::Ideas,
        function: "assess",
        address: &[("id", "idea")],
        retry_conflicts: true,
    },
    Write {
        path: "/v1/channels/{channel}/ideas/{id}/rewards",
        contract: Contract::Ideas,
        function: "reward",
        address: &[("id", "idea")],
        retry_conflicts: true,
    },
    Write {
        path: "/v1/channels/{channel}/ideas/{id}/rewards/{reward}/confirmation",
        contract: Contract::Ideas,
        function: "confirmReward",
        address: &[("id", "idea"), ("reward", "reward")],
        retry_conflicts: true,
    },
];
