//! How the chain stands before a commitment: who is registered, what it costs, what the quota takes.

use deval_chain::{Allowance, ChainError, Client, CommitmentPayload, tao};
use deval_report::{Diagnostic, Section};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Before {
    /// Absent when the hotkey is not registered.
    pub(crate) uid: Option<u16>,
    /// Block of a commitment that says the same, which then is left alone.
    pub(crate) block: Option<u64>,
    /// Text and block of a commitment that says something else, which this one takes the place of.
    #[serde(default)]
    pub(crate) replaces: Option<(String, u64)>,
    /// The fee in rao; absent when the runtime does not tell.
    pub(crate) fee_rao: Option<u64>,
    /// The quota in words.
    pub(crate) quota: String,
    /// Whether the quota takes the commitment now.
    pub(crate) takes: bool,
    /// What the chain calls it when the quota does not take it.
    pub(crate) refusal: String,
    /// Blocks and minutes until all of the quota is free again.
    pub(crate) wait: Option<String>,
}

impl Before {
    pub(super) async fn read(
        chain: &Client,
        netuid: u16,
        hotkey: &str,
        payload: &CommitmentPayload,
    ) -> Result<Self, ChainError> {
        let found = chain.commitment(netuid, hotkey).await?;
        let (same, other) = match found {
            Some(found) if payload.is_said_by(&found.payload) => (Some(found.block.into()), None),
            found => (None, found.map(|found| (text(&found.payload), found.block.into()))),
        };
        let allowance = chain.allowance(netuid, hotkey).await?;
        Ok(Self {
            uid: chain.uid(netuid, hotkey).await?,
            block: same,
            replaces: other,
            fee_rao: chain.commitment_fee(netuid, hotkey, payload).await?,
            quota: quota(&allowance, payload.as_bytes().len()),
            takes: allowance.takes(payload.as_bytes().len()),
            refusal: match allowance {
                Allowance::Interval { .. } => "Commitments.CommitmentSetRateLimitExceeded".to_owned(),
                Allowance::Space { .. } | Allowance::Unlimited => "Commitments.SpaceLimitExceeded".to_owned(),
            },
            wait: allowance.wait(),
        })
    }

    /// Why the chain would refuse the commitment, as far as it is known before.
    pub(super) fn refused(&self, netuid: u16) -> Option<Diagnostic> {
        if self.block.is_some() {
            return None;
        }
        if self.uid.is_none() {
            let finding =
                Diagnostic::error("commit.not-registered", format!("the hotkey is not registered on netuid {netuid}"));
            let finding = finding.found("the chain would refuse with Commitments.AccountNotAllowedCommit");
            return Some(finding.help("register it first: `cargo xtask register` shows what it costs"));
        }
        let finding = Diagnostic::error("commit.space", "the chain takes no further commitment of this hotkey now");
        let wait = self.wait.clone().unwrap_or_default();
        let finding = finding
            .found(format!("{}; the chain would refuse with {}", self.quota, self.refusal))
            .help(format!("wait {wait}, then run the step again"));
        (!self.takes).then_some(finding)
    }

    pub(super) fn rows(&self, section: Section) -> Section {
        let fee = match self.fee_rao {
            Some(0) => "none".to_owned(),
            Some(fee) => format!("{}, which newer runtimes take from the coldkey", tao(fee)),
            None => "the chain does not tell".to_owned(),
        };
        let section = match &self.replaces {
            Some((text, block)) => section.row("replaces", format!("{text}, which counts from block {block}")),
            None => section,
        };
        section
            .row("uid", self.uid.map_or("not registered".to_owned(), |uid| uid.to_string()))
            .row("fee", fee)
            .row("quota", &self.quota)
    }
}

fn text(payload: &[u8]) -> String {
    if payload.is_empty() {
        "a commitment without text".to_owned()
    } else {
        String::from_utf8_lossy(payload).into_owned()
    }
}

fn quota(allowance: &Allowance, bytes: usize) -> String {
    let wait = allowance.wait().unwrap_or_default();
    match *allowance {
        Allowance::Space { max, used, .. } => {
            let left = allowance.commitments_left(bytes).unwrap_or(0);
            format!("{used} of {max} bytes used, {left} such commitments left; all free again in {wait}")
        }
        Allowance::Interval { blocks, .. } => format!("one commitment per {blocks} blocks; the next in {wait}"),
        Allowance::Unlimited => "none that the chain names".to_owned(),
    }
}
