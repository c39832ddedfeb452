//! The three networks a submission can be made for.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a submission goes. `local` is the project's own stand-in for the subnet; the other two are real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The local Hub and the local chain of `deval-localnet`.
    Local,
    /// Bittensor's test network, netuid 202.
    Test,
    /// Bittensor's main network, netuid 15.
    Finney,
}

impl Network {
    /// De-Val's subnet on this network (upstream `deval/utils/misc.py`, `get_substrate_url`).
    pub fn netuid(self) -> u16 {
        match self {
            Self::Local | Self::Test => 202,
            Self::Finney => 15,
        }
    }

    /// Whether something real can be lost here.
    pub fn is_real(self) -> bool {
        self != Self::Local
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Test => "test",
            Self::Finney => "finney",
        })
    }
}
