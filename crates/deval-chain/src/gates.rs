//! What the chain says of the validator's gates (upstream `deval/utils/uids.py`, `deval/model/model_state.py`,
//! `deval/model/chain_metadata.py`, `deval/contest.py`).

use deval_report::Network;
use deval_report::gates::{GateStatus, GateVerdict, Unit, gate};

use crate::client::{Allowance, HotkeyCommitment, Metagraph, Neuron, OnChainCommitment, duplicates};
use crate::{CommitmentPayload, MAX_PAYLOAD_BYTES, ValidatorView, parse_as_validator};

/// Blocks after its registration in which every uid is evaluated (`deval/model/model_state.py`).
pub const YOUNG_BLOCKS: u64 = 420_000;
/// Highest incentives that are evaluated at any age (`--neuron.miner_incentive_threshold`).
pub const INCENTIVE_PLACES: usize = 20;
/// Stake above which a uid with a permit is taken for a validator, in 10⁻⁹ (`--neuron.vpermit_tao_limit`).
const VALIDATOR_STAKE: u64 = 4096 * RAO;
const RAO: u64 = 1_000_000_000;
/// With less than so many blocks left, some three days, registering anew is due.
const SOON_BLOCKS: u64 = 21_600;

/// What was read of the chain at one time, and what the submission is.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The network.
    pub network: Network,
    /// Our hotkey, as SS58.
    pub hotkey: &'a str,
    /// All neurons of the subnet.
    pub metagraph: &'a Metagraph,
    /// Our stake in 10⁻⁹, where a permit makes it matter and the runtime tells it.
    pub stake: Option<u64>,
    /// Our commitment.
    pub commitment: Option<&'a OnChainCommitment>,
    /// All commitments of the subnet.
    pub commitments: &'a [HotkeyCommitment],
    /// What we may still commit.
    pub allowance: Allowance,
    /// Time between two blocks, in milliseconds.
    pub block_milliseconds: u64,
    /// The repository that the manifest names, and that the axon tells.
    pub model_url: &'a str,
    /// Hash of the weights, when they were hashed.
    pub model_hash: Option<&'a str>,
    /// Content of coldkey.txt, when there is one.
    pub coldkey_txt: Option<&'a [u8]>,
    /// Whether the repository's `main` holds what is staged, with what was seen; nothing when the Hub was not read.
    pub repository: Option<(bool, &'a str)>,
}

/// The gates that the chain decides, in the validator's order; those that nothing was seen of stay unknown.
pub fn gates(seen: &Seen<'_>) -> Vec<GateVerdict> {
    let own = seen.metagraph.neuron(seen.hotkey);
    let verdicts = [
        seen.serving(own),
        own.and_then(|own| seen.no_validator(own)),
        own.map(|own| seen.alone(own)),
        own.and_then(|own| seen.eligible(own)),
    ];
    let committed = seen.commitment.map(|found| seen.committed(found));
    let missing = || vec![seen.verdict("G17", Some(false), "the chain holds no commitment of this hotkey")];
    let limit = seen.limit();
    let mut all: Vec<_> = verdicts.into_iter().flatten().chain(committed.unwrap_or_else(missing)).collect();
    all.extend([limit, seen.consistent(), own.and_then(|own| seen.coldkey(own)), seen.first()].into_iter().flatten());
    all.sort_by(|a, b| a.code.cmp(&b.code));
    all
}

impl Seen<'_> {
    /// `None` where nobody can tell yet.
    fn verdict(&self, code: &str, holds: Option<bool>, detail: impl Into<String>) -> GateVerdict {
        let gate = gate(code).expect("a code of the table");
        match holds {
            Some(true) => GateVerdict::new(code, GateStatus::Pass, detail),
            Some(false) => GateVerdict::new(code, gate.failing(self.network), detail).next(gate.fix),
            None => GateVerdict::new(code, GateStatus::Unknown, detail).next(gate.decides),
        }
    }

    fn serving(&self, own: Option<&Neuron>) -> Option<GateVerdict> {
        let netuid = self.metagraph.netuid;
        let Some(own) = own else {
            let detail = format!("the hotkey is not registered on netuid {netuid}");
            return Some(self.verdict("G01", Some(false), detail).next("run `cargo xtask register`"));
        };
        let uid = own.uid;
        let detail = match &own.axon {
            None => format!("uid {uid} announced no axon"),
            Some(axon) if axon.ip.is_unspecified() => {
                format!("uid {uid} announced {}, which counts as not serving", axon.ip)
            }
            Some(axon) => format!("uid {uid} announced {}:{} in block {}", axon.ip, axon.port, axon.block),
        };
        Some(self.verdict("G01", Some(own.is_serving()), detail))
    }

    fn no_validator(&self, own: &Neuron) -> Option<GateVerdict> {
        let tokens = |amount: u64| format!("{}.{:03}", amount / RAO, amount % RAO / 1_000_000);
        let verdict = match (own.validator_permit, self.stake) {
            (false, _) => self
                .verdict("G02", Some(true), "no validator permit")
                .margin("any stake, as long as there is no permit"),
            (true, None) => self.verdict("G02", None, "a validator permit, and the runtime does not tell the stake"),
            (true, Some(stake)) => {
                let detail = format!("a validator permit, and a stake of {}", tokens(stake));
                let margin = match VALIDATOR_STAKE.checked_sub(stake) {
                    Some(left) => format!("{} of stake left", tokens(left)),
                    None => format!("{} of stake too much", tokens(stake - VALIDATOR_STAKE)),
                };
                self.verdict("G02", Some(stake <= VALIDATOR_STAKE), detail).margin(margin)
            }
        };
        Some(verdict)
    }

    fn alone(&self, own: &Neuron) -> GateVerdict {
        let others = || self.metagraph.neurons.iter().filter(|other| other.uid != own.uid && other.is_serving());
        let address = |neuron: &Neuron| neuron.axon.as_ref().filter(|_| neuron.is_serving()).map(|axon| axon.ip);
        let uids = |found: Vec<&Neuron>| found.iter().map(|other| other.uid.to_string()).collect::<Vec<_>>().join(", ");
        let coldkey: Vec<_> = others().filter(|other| other.coldkey == own.coldkey).collect();
        let ip: Vec<_> = others().filter(|other| own.is_serving() && address(other) == address(own)).collect();
        let shared = [("coldkey", coldkey), ("address", ip)].into_iter().filter(|(_, found)| !found.is_empty());
        let shared: Vec<_> =
            shared.map(|(what, found)| format!("shares its {what} with uid {}", uids(found))).collect();
        let of = self.metagraph.neurons.len() - 1;
        let detail = if shared.is_empty() { format!("alone among {of} others") } else { shared.join("; ") };
        self.verdict("G03", Some(shared.is_empty()), detail)
    }

    fn eligible(&self, own: &Neuron) -> Option<GateVerdict> {
        let rank = self.metagraph.incentive_rank(own.uid)?;
        let left = (own.registered_at + YOUNG_BLOCKS) as f64 - self.metagraph.block as f64;
        let days = left.abs() * self.block_milliseconds as f64 / 86_400_000.0;
        let place = format!("place {} of {} by incentive", rank.rank, rank.of);
        let among = rank.is_among(INCENTIVE_PLACES);
        let verdict = if left >= 0.0 {
            let detail = format!("registered in block {}; {place}", own.registered_at);
            let verdict =
                self.verdict("G07", Some(true), detail).margin(format!("{left} blocks left ({days:.1} days)"));
            if among != Some(true) && left < SOON_BLOCKS as f64 {
                GateVerdict { status: GateStatus::Warn, ..verdict }.next("register anew before the window ends")
            } else {
                verdict
            }
        } else {
            let detail = match among {
                None => format!(
                    "{place}, shared by {}: which of them are taken depends on the validator's sort",
                    rank.sharing
                ),
                Some(_) => place,
            };
            let verdict = self.verdict("G07", Some(among != Some(false)), detail);
            let verdict = verdict.margin(format!("{} blocks past the window ({days:.1} days)", -left));
            if among.is_none() { GateVerdict { status: GateStatus::Warn, ..verdict } } else { verdict }
        };
        Some(verdict.distance(left, Unit::Blocks))
    }

    /// G17 to G22 and G28, of the commitment that is there.
    fn committed(&self, found: &OnChainCommitment) -> Vec<GateVerdict> {
        let exists =
            self.verdict("G17", Some(found.block != 0), format!("a commitment stands since block {}", found.block));
        let Ok(view) = parse_as_validator(&found.payload) else {
            return vec![exists, self.verdict("G18", Some(false), "the validator's parser raises on the commitment")];
        };
        let ValidatorView { model_url, model_hash } = &view;
        let both = model_url.is_some() && model_hash.is_some();
        let length = found.payload.len();
        let room = MAX_PAYLOAD_BYTES as f64 - length as f64;
        let told = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        let mut verdicts = vec![
            exists,
            self.verdict(
                "G18",
                Some(both),
                if both { "both keys are read" } else { "a validator reads nothing from it" },
            ),
            self.verdict("G19", Some(length > 0), format!("{length} bytes on the chain")).distance(room, Unit::Bytes),
            self.verdict(
                "G22",
                Some(model_url.as_deref() == Some(self.model_url)),
                format!("the chain names {}, the axon {}", told(model_url), self.model_url),
            ),
        ];
        if let Some(hash) = self.model_hash {
            let wanted = CommitmentPayload::encode(self.model_url, hash).ok();
            let stored =
                wanted.is_some_and(|wanted| parse_as_validator(wanted.as_bytes()).ok().as_ref() == Some(&view));
            let detail = if stored {
                "the chain holds what this submission commits"
            } else {
                "the chain holds another commitment"
            };
            verdicts.push(self.verdict("G20", Some(stored), detail));
            let same = model_hash.as_deref() == Some(hash);
            verdicts.push(self.verdict("G28", Some(same), format!("the chain holds {}", told(model_hash))));
        }
        verdicts
    }

    /// Whether a correction could be committed now.
    fn limit(&self) -> Option<GateVerdict> {
        let bytes = self.commitment.map_or(MAX_PAYLOAD_BYTES, |found| found.payload.len());
        let wait = self.allowance.wait().unwrap_or_default();
        let verdict = match self.allowance {
            Allowance::Unlimited => return None,
            Allowance::Space { max, used, .. } => {
                let detail = format!("{used} of {max} bytes of this epoch are used; all are free again in {wait}");
                let left = self.allowance.commitments_left(bytes).unwrap_or(0);
                let verdict = self.verdict("G21", Some(self.allowance.takes(bytes)), detail);
                let words = format!("{left} commitments of {bytes} bytes left");
                verdict.margin(words).distance(max as f64 - used as f64, Unit::Bytes)
            }
            Allowance::Interval { blocks, left, .. } => {
                let detail = format!("one commitment per {blocks} blocks; the next in {wait}");
                self.verdict("G21", Some(left == 0), detail).distance(0.0 - left as f64, Unit::Blocks)
            }
        };
        Some(if verdict.status == GateStatus::Pass { verdict } else { verdict.next(format!("wait {wait}")) })
    }

    fn consistent(&self) -> Option<GateVerdict> {
        let (holds_staged, what) = self.repository?;
        let view = parse_as_validator(&self.commitment?.payload).ok()?;
        let same_hash = view.model_hash.as_deref() == Some(self.model_hash?);
        let detail = match (same_hash, holds_staged) {
            (true, true) => format!("the hash on the chain is that of the files on `main`: {what}"),
            (false, _) => format!("the chain holds another hash than the staged files have; {what}"),
            (true, false) => format!("the hash on the chain is that of the staged files; {what}"),
        };
        Some(self.verdict("G29", Some(same_hash && holds_staged), detail))
    }

    fn coldkey(&self, own: &Neuron) -> Option<GateVerdict> {
        let written = self.coldkey_txt?;
        let same = written == own.coldkey.as_bytes();
        let detail = if same {
            "coldkey.txt is the coldkey that owns the hotkey on the chain".to_owned()
        } else {
            let trimmed = written.trim_ascii() == own.coldkey.as_bytes();
            let why = if trimmed { "it has white space around it" } else { "coldkey.txt holds something else" };
            format!("the chain's owner of the hotkey is {}; {why}", own.coldkey)
        };
        Some(self.verdict("G30", Some(same), detail))
    }

    /// Commitments of hotkeys that are no longer registered compete with nobody.
    fn first(&self) -> Option<GateVerdict> {
        let hash = self.model_hash?;
        let same = duplicates(self.commitments, hash, self.hotkey);
        let known: Vec<_> =
            same.iter().filter_map(|found| Some((self.metagraph.neuron(&found.hotkey)?.uid, found.block))).collect();
        let Some((uid, block)) = known.first().copied() else {
            let of = self.commitments.len();
            return Some(self.verdict("G34", Some(true), format!("no other of {of} commitments has this hash")));
        };
        let own = self.commitment.filter(|found| {
            parse_as_validator(&found.payload).is_ok_and(|view| view.model_hash.as_deref() == Some(hash))
        });
        let Some(own) = own else {
            let detail = format!("uid {uid} committed this hash in block {block}, and we did not yet");
            return Some(self.verdict("G34", Some(false), detail));
        };
        let room = f64::from(block) - f64::from(own.block);
        let detail = format!(
            "{} others have this hash, uid {uid} since block {block}; ours is of block {}",
            known.len(),
            own.block
        );
        let words = if room > 0.0 {
            format!("{room} blocks before uid {uid}")
        } else {
            format!("{} blocks after uid {uid}", -room)
        };
        Some(self.verdict("G34", Some(room > 0.0), detail).margin(words).distance(room, Unit::Blocks))
    }
}

#[cfg(test)]
mod tests;
