//! What the server process is told when it starts: JSON on its standard input, written by `cargo xtask serve --execute`.
//!
//! The process is a program of its own (`deval-axon`), because all that the workbench carries would stay in memory beside it. What it
//! serves it learns from here, and after a change from the workbench again ([`Start::reload`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;

use deval_report::{Network, Report};
use serde::{Deserialize, Serialize};

use crate::{AxonConfig, ServeReceipt};

/// Everything that a reload may change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the axon listens.
    pub listen: SocketAddr,
    /// Where `/health` and `/metrics` are.
    pub monitor: SocketAddr,
    /// The address that validators reach.
    pub external: IpAddr,
    /// Owner of the model repository.
    pub repo_id: String,
    /// Name of the model repository.
    pub model_id: String,
    /// The chain's network.
    pub network: Network,
    /// Set when the manifest names an endpoint; a reload does not change it.
    pub endpoint: Option<String>,
    /// A reload does not change it.
    pub wallet: WalletPlace,
}

/// A wallet on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletPlace {
    /// Folder of wallets in Bittensor's layout.
    pub path: PathBuf,
    /// Name of the wallet.
    pub name: String,
    /// Name of its hotkey.
    pub hotkey: String,
}

/// What the server starts with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// What it serves at first.
    pub settings: Settings,
    /// The chain's endpoint.
    pub endpoint: String,
    /// `BT_PW_…` variables that are not in the environment.
    pub passwords: BTreeMap<String, String>,
    /// Where the registered hotkeys are kept for the next start.
    pub hotkeys: PathBuf,
    /// The plan; what was seen is put into it.
    pub report: Report<ServeReceipt>,
    /// Where the report is stored.
    pub stored: PathBuf,
    /// How the report is shown in the end.
    pub output: Output,
    /// Whether the log is JSON.
    pub json_log: bool,
    /// What is never logged.
    pub secrets: Vec<String>,
    /// How the settings are read again.
    pub reload: Reload,
    /// What runs only while the axon does.
    pub companion: Option<Companion>,
}

/// How a report is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Text for people.
    Human,
    /// The report envelope.
    Json,
    /// GitHub workflow annotations.
    Github,
}

/// How the settings are read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Program and arguments: prints [`Settings`] as JSON, or a report with what is wrong.
    pub command: Vec<String>,
    /// A change of any of these calls for it.
    pub files: Vec<PathBuf>,
}

/// A child process that came with this one: it ends when its standard input closes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// The open end of its standard input.
    pub stdin: RawFd,
    /// Its process.
    pub process: i32,
}

impl Settings {
    /// What the axon of this hotkey answers.
    pub fn answers(&self, hotkey_ss58: String) -> AxonConfig {
        AxonConfig { hotkey_ss58, repo_id: self.repo_id.clone(), model_id: self.model_id.clone() }
    }

    /// What is told: `namespace/name`.
    pub fn model_url(&self) -> String {
        format!("{}/{}", self.repo_id, self.model_id)
    }

    /// The subnet as the kept hotkeys name it: `finney/15`.
    pub fn subnet(&self) -> String {
        format!("{}/{}", self.network, self.network.netuid())
    }
}
