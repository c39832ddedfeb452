//! What was seen, judged as a validator would. Pure.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use deval_axon::external::is_public;
use deval_chain::{Neuron, ValidatorView, duplicates, parse_as_validator};
use deval_hub::{Digest, RemoteRepo};
use deval_report::Diagnostic;

use super::{
    Announced, ChainModel, Duplicate, HubCommit, HubModel, HubSeen, LocalModel, LocalSeen, Models, Pair, PairState,
    Registered, Seen, Standing, Status,
    axon::{Outcome, Probe},
    look::ChainSeen,
    reasons::reason,
};

/// Blocks after its registration in which a miner is evaluated whatever its rank (upstream `deval/model/model_state.py`).
const WINDOW: u64 = 420_000;
/// Miners that are evaluated for their incentive, whatever their age (upstream `miner_incentive_threshold`).
const TOP: usize = 20;
/// A validator's round is given up after 18 hours (upstream `deval/validator.py`, 64,800 s).
const LONGEST_ROUND: TimeDelta = TimeDelta::hours(18);
const DAY_MILLISECONDS: f64 = 86_400_000.0;
/// How long before its end the window is spoken of.
const SOON_DAYS: f64 = 7.0;

/// The status, and the reasons for it in a validator's order.
pub(super) fn judge(seen: &Seen, now: DateTime<Utc>, round_start: Option<DateTime<Utc>>) -> (Status, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let (hub, chain) = (seen.hub.as_ref().ok(), seen.chain.as_ref().ok());
    if let Err(away) = &seen.chain {
        found.push(reason("chain.away", format!("the chain could not be looked at: {away}")));
    }
    if let Err(away) = &seen.hub {
        found.push(reason("hub.away", format!("the Hub could not be looked at: {away}")));
    }
    let registration = chain.and_then(|chain| registered(seen, chain, &mut found));
    let committed = chain.and_then(|chain| committed(seen, chain, &mut found));
    let models = models(seen, committed, &mut found);
    let hub_commit = hub.and_then(|hub| hub_commit(hub.repository.as_ref()?, now, round_start, &mut found));
    let duplicates = chain.map(|chain| copies(seen, chain, &models, &mut found)).unwrap_or_default();
    let axon = chain.and_then(|chain| announced(seen, chain.neuron.as_ref()?, chain.probe.as_ref(), &mut found));
    let more = |finding: &&Diagnostic| finding.severity > deval_report::Severity::Note;
    let status = Status {
        verdict: Standing::of(&found, hub.is_some() && chain.is_some()),
        reasons: found.iter().filter(more).map(|finding| finding.code.clone()).collect(),
        network: seen.network,
        netuid: seen.network.netuid(),
        hotkey: seen.hotkey.clone(),
        model_url: seen.model_url.clone(),
        block: chain.map(|chain| chain.block),
        registration,
        models,
        axon,
        duplicates,
        hub_commit,
    };
    (status, found)
}

fn registered(seen: &Seen, chain: &ChainSeen, found: &mut Vec<Diagnostic>) -> Option<Registered> {
    let Some((neuron, rank)) = chain.neuron.as_ref().zip(chain.rank) else {
        let finding = reason("hotkey.unregistered", "the hotkey has no slot in the subnet, so no validator asks it");
        let expected = format!("a uid in netuid {}", seen.network.netuid());
        found.push(finding.found(&seen.hotkey).expected(expected).help("register it: `cargo xtask register`"));
        return None;
    };
    if neuron.coldkey != seen.coldkey {
        let finding = reason("coldkey.differs", "another coldkey owns the hotkey, so `coldkey.txt` would not match");
        let help = "name the wallet that registered the hotkey under [wallet], then package and publish again";
        found.push(finding.found(&neuron.coldkey).expected(&seen.coldkey).help(help));
    }
    let left = (neuron.registered_at + WINDOW).checked_sub(chain.block);
    let days = left.unwrap_or(0) as f64 * chain.block_milliseconds as f64 / DAY_MILLISECONDS;
    let in_top = rank.is_among(TOP);
    found.extend(window(left, days, in_top, neuron.registered_at));
    Some(Registered {
        uid: neuron.uid,
        since: neuron.registered_at,
        coldkey: neuron.coldkey.clone(),
        window_blocks_left: left.unwrap_or(0),
        window_days_left: days,
        incentive: rank.incentive,
        rank: rank.rank,
        sharing: rank.sharing,
        of: rank.of,
        in_top,
    })
}

fn window(left: Option<u64>, days: f64, in_top: Option<bool>, since: u64) -> Option<Diagnostic> {
    let expected = format!("registered at most {WINDOW} blocks ago, or among the {TOP} highest incentives");
    let seen = format!("registered at block {since}");
    let finding = match (left, in_top) {
        (_, Some(true)) => return None,
        (Some(_), _) if days > SOON_DAYS => return None,
        (Some(left), _) => reason("window.ends", format!("the window of the registration ends in {days:.1} days"))
            .found(format!("{seen}, {left} blocks are left"))
            .help(format!(
                "get among the {TOP} by then, or register another hotkey: validators skip this one afterwards"
            )),
        (None, None) => {
            reason("window.chance", "the registration is too old, and the last place by incentive is shared")
                .found(seen)
                .help("whether validators evaluate it is decided by the order in which they sort equals")
        }
        (None, Some(false)) => reason("window.closed", "the registration is too old, so validators skip the model")
            .found(seen)
            .help("register another hotkey: commitments and Hub commits do not open the window again"),
    };
    Some(finding.expected(expected))
}

fn committed(seen: &Seen, chain: &ChainSeen, found: &mut Vec<Diagnostic>) -> Option<ChainModel> {
    let again = "run `cargo xtask commit --execute`";
    let Some(commitment) = &chain.commitment else {
        // Who is not registered cannot commit: one thing after the other.
        if chain.neuron.is_some() {
            found.push(reason("commitment.missing", "nothing is committed on chain for this hotkey").help(again));
        }
        return None;
    };
    let parsed = parse_as_validator(&commitment.payload);
    let view = parsed.as_ref().ok().filter(|view| view.model_hash.is_some()).cloned();
    let Some(ValidatorView { model_url, model_hash }) = view else {
        let text = match &commitment.payload[..] {
            [] => "nothing that validators read: it holds no raw bytes".to_owned(),
            payload => String::from_utf8_lossy(payload).into_owned(),
        };
        let finding = reason("commitment.unreadable", "validators cannot take a model from the commitment");
        let expected = "a JSON object with `model_url` and `model_hash`";
        found.push(finding.found(text).expected(expected).help(again));
        return Some(ChainModel { block: commitment.block.into(), model_url: None, model_hash: None });
    };
    if model_url.as_ref() != Some(&seen.model_url) {
        let finding = reason("commitment.other-url", "the commitment names another repository than the manifest");
        let told = model_url.clone().unwrap_or_else(|| "null".into());
        found.push(finding.found(told).expected(&seen.model_url).help(again));
    }
    Some(ChainModel { block: commitment.block.into(), model_url, model_hash })
}

fn models(seen: &Seen, chain: Option<ChainModel>, found: &mut Vec<Diagnostic>) -> Models {
    let local = local(&seen.local, found);
    let repository = seen.hub.as_ref().ok().and_then(|hub| visible(seen, hub, found));
    let hub = repository.map(|(repository, public)| HubModel {
        revision: repository.head.clone(),
        public,
        bytes: repository.total_size(),
        model_hash: hash_on_hub(repository, &seen.local),
    });
    let local_hub = local_hub(seen, hub.is_some(), found);
    let local_hash = local.as_ref().map(|local| local.model_hash.as_str());
    let chain_hash = chain.as_ref().and_then(|chain| chain.model_hash.as_deref());
    let local_chain = Pair::of(local_hash, chain_hash, "the local hash", "the committed one");
    if local_chain.state == PairState::Differs {
        let finding = reason("local-chain.differs", "the local model is not the one that is committed on chain");
        let finding = finding.found(format!("chain {}", chain_hash.unwrap_or_default()));
        let help = "publish and commit the local model (that moves the commitment to a later block), or go back to the committed one";
        found.push(finding.expected(format!("local {}", local_hash.unwrap_or_default())).help(help));
    }
    let hub_hash = hub.as_ref().and_then(|hub| hub.model_hash.as_deref());
    let hub_chain = Pair::of(hub_hash, chain_hash, "the hash of the weights on the Hub", "the committed one");
    match hub_chain.state {
        PairState::Differs => {
            let finding =
                reason("hub-chain.differs", "the weights on the Hub are not the committed ones: the model is invalid");
            let finding = finding.found(format!("Hub {}", hub_hash.unwrap_or_default()));
            let help = "`cargo xtask publish --execute`, then `cargo xtask commit --execute`";
            found.push(finding.expected(format!("chain {}", chain_hash.unwrap_or_default())).help(help));
        }
        PairState::Unknown if hub.is_some() && chain_hash.is_some() => {
            let finding =
                reason("hub-chain.unproven", "whether the weights on the Hub are the committed ones cannot be told");
            found.push(finding.help("their hash is over all files in a row: `cargo xtask fetch`, or `hash` on the published model, tells it"));
        }
        _ => {}
    }
    Models { local, hub, chain, local_hub, local_chain, hub_chain }
}

fn local(seen: &LocalSeen, found: &mut Vec<Diagnostic>) -> Option<LocalModel> {
    let Some(model_hash) = seen.model_hash.clone() else {
        let finding =
            reason("local.unknown", "no hash of the local model is known, so nothing can be compared with it");
        found.push(finding.help("run `cargo xtask hash`"));
        return None;
    };
    if let Some(why) = &seen.changed {
        let finding = reason("local.changed", "the local files changed after they were hashed").found(why);
        found.push(finding.help("run `cargo xtask hash`, so that what is there now is compared"));
    }
    Some(LocalModel { model_hash, source: seen.source, changed: seen.changed.is_some() })
}

/// The repository, with whether it is public.
fn visible<'a>(seen: &Seen, hub: &'a HubSeen, found: &mut Vec<Diagnostic>) -> Option<(&'a RemoteRepo, bool)> {
    let url = &seen.model_url;
    let Some(repository) = &hub.repository else {
        let finding = reason("hub.missing", format!("{url} is not on the Hub, or private and no token opens it"));
        found.push(finding.help("run `cargo xtask publish --execute`"));
        return None;
    };
    if !hub.public {
        let help = "`cargo xtask commit --execute` makes it public once the hash is on chain";
        found.push(reason("hub.private", format!("{url} is private: validators read it without a token")).help(help));
    }
    if repository.disabled {
        let help = "read the notice on its page, and publish to another repository";
        found.push(reason("hub.disabled", format!("the Hub took {url} down")).help(help));
    }
    if repository.gated {
        let help = "turn access requests off in the repository's settings";
        found.push(reason("hub.gated", format!("readers of {url} have to ask first")).help(help));
    }
    if repository.head.is_none() || repository.last_commit.is_none() {
        let help = "run `cargo xtask publish --execute`";
        found.push(reason("hub.empty", format!("no Hub commit stands on `main` of {url}")).help(help));
    }
    Some((repository, hub.public))
}

fn local_hub(seen: &Seen, on_hub: bool, found: &mut Vec<Diagnostic>) -> Pair {
    let differences = match &seen.hub {
        Ok(hub) if on_hub && !seen.local.files.is_empty() => &hub.differences,
        Ok(_) if !on_hub => return Pair::unknown("nothing is on the Hub"),
        Ok(_) => return Pair::unknown("no staged files are known"),
        Err(_) => return Pair::unknown("the Hub could not be looked at"),
    };
    if differences.is_empty() {
        return Pair { state: PairState::Equal, detail: format!("{} files, by digest", seen.local.files.len()) };
    }
    let shown = differences.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = differences.len().saturating_sub(5);
    let detail = if more > 0 { format!("{shown} and {more} more") } else { shown };
    let finding = reason("local-hub.differs", "the Hub holds other files than the staged ones").found(&detail);
    let help = "if the local ones are the submission: `cargo xtask publish --execute`, then `commit --execute`";
    found.push(finding.expected(format!("{} files as staged", seen.local.files.len())).help(help));
    Pair { state: PairState::Differs, detail }
}

/// The model hash of what stands on the Hub: known for a single file of weights, for the weights that are here too, and for the revision
/// that was published from here. Else nobody can tell without reading them.
fn hash_on_hub(repository: &RemoteRepo, local: &LocalSeen) -> Option<String> {
    let weights: Vec<_> = repository
        .files
        .iter()
        .filter(|file| !file.path.contains('/') && file.path.ends_with(".safetensors"))
        .map(|file| (file.path.as_str(), &file.digest))
        .collect();
    if let [(_, Digest::Sha256(hash))] = &*weights {
        return Some(hash.clone());
    }
    let ours = |file: &&deval_hub::LocalFile| !file.path.contains('/') && file.path.ends_with(".safetensors");
    let ours: Vec<_> = local.files.iter().filter(ours).collect();
    let same = !ours.is_empty()
        && ours.len() == weights.len()
        && ours.iter().all(|file| weights.contains(&(file.path.as_str(), &Digest::Sha256(file.sha256.clone()))));
    if same {
        return local.model_hash.clone();
    }
    let published = local.published.as_ref().filter(|published| published.executed)?;
    (published.revision.is_some() && published.revision == repository.head).then(|| published.model_hash.clone())
}

fn hub_commit(
    repository: &RemoteRepo,
    now: DateTime<Utc>,
    round_start: Option<DateTime<Utc>>,
    found: &mut Vec<Diagnostic>,
) -> Option<HubCommit> {
    let newest = repository.last_commit.as_ref()?;
    let date = DateTime::parse_from_rfc3339(&newest.date).ok().map(|date| date.to_utc());
    let until = date.map(|date| date + LONGEST_ROUND);
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let counts = "it counts from the next round on; make no further Hub commit, be it a README's";
    match (date, until, round_start) {
        (Some(date), _, Some(start)) if start < date => found.push(
            reason("hub.commit-in-round", "the round refuses the model: a Hub commit followed on its start")
                .found(format!("{} of {}", newest.id, text(date)))
                .expected(format!("none after {}", text(start)))
                .help(counts),
        ),
        (Some(date), Some(until), None) if now < until => found.push(
            reason("hub.commit-recent", "a round that began before the newest Hub commit refuses the model")
                .found(format!("{} of {}", newest.id, text(date)))
                .expected(format!("such a round ends by {}; `--round-start` tells when yours began", text(until)))
                .help(counts),
        ),
        _ => {}
    }
    let (revision, title, date) = (newest.id.clone(), newest.title.clone(), newest.date.clone());
    Some(HubCommit { revision, title, date, refused_until: until.map(text) })
}

fn copies(seen: &Seen, chain: &ChainSeen, models: &Models, found: &mut Vec<Diagnostic>) -> Vec<Duplicate> {
    let committed = models.chain.as_ref().and_then(|chain| Some((chain.model_hash.clone()?, Some(chain.block))));
    let local = || models.local.as_ref().map(|local| (local.model_hash.clone(), None));
    let Some((hash, block)) = committed.or_else(local) else { return Vec::new() };
    let uid = chain.neuron.as_ref().map(|neuron| neuron.uid);
    let copies = duplicates(&chain.commitments, &hash, &seen.hotkey).into_iter().map(|other| {
        let (hotkey, theirs) = (other.hotkey.clone(), u64::from(other.block));
        let their_uid = chain.uids.get(&hotkey).copied();
        // Of equal blocks the one that is evaluated later wins, and uids are evaluated in their order. What is not committed yet is late.
        let earlier = block.is_none_or(|ours| theirs < ours || theirs == ours && their_uid > uid);
        Duplicate { hotkey, uid: their_uid, block: theirs, wins: earlier && their_uid.is_some() }
    });
    let copies: Vec<Duplicate> = copies.collect();
    let ours =
        block.map_or("nothing committed yet".to_owned(), |block| format!("our commitment counts from block {block}"));
    for copy in &copies {
        let who = copy.uid.map_or_else(
            || format!("{} (not registered now)", copy.hotkey),
            |uid| format!("uid {uid}, {}", copy.hotkey),
        );
        let theirs = format!("{who}, block {}", copy.block);
        found.push(match copy.wins {
            true => reason(
                "duplicate.wins",
                "another miner committed the same model hash earlier and takes its rewards",
            )
            .found(theirs)
            .expected(ours.clone())
            .help(
                "train on: any change of the weights makes another hash; a later commitment of the same one never wins",
            ),
            false => reason(
                "duplicate.loses",
                format!("another miner committed the same model hash and loses against ours: {theirs}"),
            ),
        });
    }
    copies
}

fn announced(seen: &Seen, neuron: &Neuron, probe: Option<&Probe>, found: &mut Vec<Diagnostic>) -> Option<Announced> {
    let serve = "run `cargo xtask serve --execute`; it announces the axon";
    let Some(axon) = neuron.axon.as_ref().filter(|_| neuron.is_serving()) else {
        let finding = reason("axon.unannounced", "the chain does not tell where the axon is, so no validator asks it");
        found.push(finding.help(serve));
        return None;
    };
    let address = std::net::SocketAddr::new(axon.ip, axon.port);
    if let Some(wanted) = seen.wanted.filter(|wanted| *wanted != address) {
        let finding = reason("axon.elsewhere", "the chain names another address for the axon than the manifest");
        found.push(finding.found(address.to_string()).expected(wanted.to_string()).help(serve));
    }
    if seen.network.is_real() && !is_public(axon.ip) {
        let help = "name the public address (`axon.external_ip`), forward the port, and serve again";
        found.push(
            reason("axon.private", "validators cannot reach the announced address")
                .found(address.to_string())
                .help(help),
        );
    }
    found.extend(probe.and_then(|probe| told(seen, probe, address)));
    Some(Announced { address: address.to_string(), block: axon.block, probe: probe.cloned() })
}

fn told(seen: &Seen, probe: &Probe, address: std::net::SocketAddr) -> Option<Diagnostic> {
    match &probe.outcome {
        Outcome::Told { model_url, .. } if *model_url == seen.model_url => None,
        Outcome::Told { model_url, .. } => Some(
            reason("axon.other-model", "the axon tells another repository than the manifest")
                .found(model_url)
                .expected(&seen.model_url)
                .help("start it again, or wait for its reload (it needs the receipt of `commit`)"),
        ),
        Outcome::Refused { status, message } => Some(
            reason("axon.refuses", "the axon refuses a question that a registered hotkey signed")
                .found(format!("{status} {message}"))
                .expected("200")
                .help("see its /health: it may not know the registered hotkeys yet, or its clock may be off"),
        ),
        // A router that does not lead back its own public address looks like this from inside, and so does a closed port.
        Outcome::Silent { reason: why } if probe.answers_locally == Some(true) && !probe.own_address => Some(
            reason("axon.unproven", "the axon answers on this machine, but from here not at the address that validators use")
                .found(format!("{address}: {why}"))
                .help("either the port is not forwarded, or the router does not lead its own address back (NAT loopback): run `status` on a machine elsewhere"),
        ),
        Outcome::Silent { reason: why } => Some(
            reason("axon.unreachable", "the axon does not answer at the announced address, so validators get no model")
                .found(format!("{address}: {why}"))
                .expected("an answer within 5 s")
                .help("start it (`cargo xtask serve --execute`), open the port in the firewall, and forward it"),
        ),
    }
}

impl Pair {
    fn unknown(detail: &str) -> Self {
        Self { state: PairState::Unknown, detail: detail.to_owned() }
    }

    /// Two hashes, as far as they are known.
    fn of(a: Option<&str>, b: Option<&str>, name_a: &str, name_b: &str) -> Self {
        match (a, b) {
            (Some(a), Some(b)) if a == b => Self { state: PairState::Equal, detail: "by model hash".to_owned() },
            (Some(_), Some(_)) => Self { state: PairState::Differs, detail: "by model hash".to_owned() },
            (None, _) => Self::unknown(&format!("{name_a} is not known")),
            (_, None) => Self::unknown(&format!("{name_b} is not known")),
        }
    }
}

#[cfg(test)]
mod tests;
