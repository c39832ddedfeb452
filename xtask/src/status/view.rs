//! The status for people.

use deval_report::Section;

use super::{Announced, Duplicate, HubCommit, Models, Pair, PairState, Registered, Standing, Status, axon::Outcome};

impl Status {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let block = self.block.map_or("the chain is away".to_owned(), |block| format!("block {block}"));
        let mut section = Section::new("Status")
            .row("verdict", self.summary())
            .row("subnet", format!("{} {}, {block}", self.network, self.netuid));
        section = match &self.registration {
            Some(registered) => section.row("hotkey", registered.line(&self.hotkey)).row("evaluated", registered.why()),
            None => section.row("hotkey", &self.hotkey),
        };
        section = self.models.rows(section, &self.model_url);
        if let Some(commit) = &self.hub_commit {
            section = section.row("Hub commit", commit.line());
        }
        if let Some(axon) = &self.axon {
            section = section.row("axon", axon.line());
        }
        for copy in &self.duplicates {
            section = section.row("duplicate", copy.line());
        }
        vec![section]
    }

    /// The verdict and its reasons in one line.
    pub(super) fn summary(&self) -> String {
        let word = match self.verdict {
            Standing::Good => return "good".to_owned(),
            Standing::Act => "to be acted on",
            Standing::Unseen => "not all could be seen",
        };
        format!("{word}: {}", self.reasons.join(", "))
    }
}

impl Registered {
    fn line(&self, hotkey: &str) -> String {
        format!("{hotkey}, uid {} since block {}", self.uid, self.since)
    }

    fn why(&self) -> String {
        let place = match self.sharing {
            1 => format!("rank {} of {}", self.rank, self.of),
            sharing => format!("rank {} of {}, shared by {sharing}", self.rank, self.of),
        };
        let top = match self.in_top {
            Some(true) => "among the best 20",
            Some(false) => "not among the best 20",
            None => "perhaps among the best 20",
        };
        format!("{:.1} days of the window left; {place} ({top})", self.window_days_left)
    }
}

impl Models {
    fn rows(&self, section: Section, model_url: &str) -> Section {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let hash = |hash: &Option<String>| hash.as_deref().map_or("hash not known".to_owned(), short);
        let local = self.local.as_ref().map_or("not known".to_owned(), |local| {
            let changed = if local.changed { ", changed since" } else { "" };
            format!("{} (from `{}`{changed})", short(&local.model_hash), local.source)
        });
        let hub = self.hub.as_ref().map_or("not seen".to_owned(), |hub| {
            let public = if hub.public { "public" } else { "private" };
            format!("{} ({model_url}, {public}, {:.3} GB)", hash(&hub.model_hash), hub.bytes as f64 * 1e-9)
        });
        let chain = self.chain.as_ref().map_or("not seen".to_owned(), |chain| {
            format!("{} (since block {})", hash(&chain.model_hash), chain.block)
        });
        let section = section.row("local", local).row("Hub", hub).row("chain", chain);
        let pairs =
            [("local = Hub", &self.local_hub), ("local = chain", &self.local_chain), ("Hub = chain", &self.hub_chain)];
        pairs.into_iter().fold(section, |section, (name, pair)| section.row(name, pair.line()))
    }
}

impl Pair {
    fn line(&self) -> String {
        let state = match self.state {
            PairState::Equal => "yes",
            PairState::Differs => "NO",
            PairState::Unknown => "not known",
        };
        format!("{state}: {}", self.detail)
    }
}

impl HubCommit {
    fn line(&self) -> String {
        let until = self.refused_until.as_deref().unwrap_or("a time that is not known");
        let revision: String = self.revision.chars().take(12).collect();
        format!("{revision} of {}; rounds that began before it are over by {until}", self.date)
    }
}

impl Announced {
    fn line(&self) -> String {
        let Some(probe) = &self.probe else { return format!("{} since block {}", self.address, self.block) };
        let answer = match &probe.outcome {
            Outcome::Told { model_url, seconds } => format!("tells {model_url} in {:.0} ms", seconds * 1000.0),
            Outcome::Refused { status, message } => format!("refuses: {status} {message}"),
            Outcome::Silent { reason } => format!("silent: {reason}"),
        };
        let from = match probe.own_address {
            true => "asked from this machine itself: a firewall or NAT before it is not proven open",
            false => "asked over the network from this machine",
        };
        format!("{} since block {}; {answer} ({from})", self.address, self.block)
    }
}

impl Duplicate {
    fn line(&self) -> String {
        let who = self.uid.map_or("not registered".to_owned(), |uid| format!("uid {uid}"));
        let outcome = if self.wins { "wins against us" } else { "loses against us" };
        format!("{} ({who}), block {}: {outcome}", self.hotkey, self.block)
    }
}
