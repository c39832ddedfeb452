//! What `publish` and `commit` share: one transaction over the Hub, the chain and the repository's visibility, with one journal.

pub(super) mod gates;
pub(super) mod round;

use deval_hub::{Effect, Expected, Half, HubClient, Journal, LocalFile, RepoId, Subject, Verified, listing_digest};

use crate::{context::Context, hub};

/// The journal, under `target/deval/`.
const JOURNAL: &str = "transaction.jsonl";

/// A submission, or a half of it, on its way.
pub(super) struct Transaction<'a> {
    context: &'a Context,
    pub(super) client: HubClient,
    pub(super) repo: RepoId,
    /// The staged files that are published.
    pub(super) files: Vec<LocalFile>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(context: &'a Context, only: Option<Half>) -> anyhow::Result<Self> {
        let (client, repo, mut files) = (hub::client(context)?, hub::repo(context)?, hub::files(context)?);
        files.retain(|file| only.is_none_or(|half| half.owns(&file.path)));
        Ok(Self { context, client, repo, files })
    }

    /// Identity of the files.
    pub(super) fn listing(&self) -> String {
        listing_digest(&self.files)
    }

    /// Opens the journal, and tells of a transaction about something else that did not end.
    pub(super) fn journal(&self) -> anyhow::Result<Journal> {
        let network = self.context.network();
        let subject = Subject {
            hub: self.client.endpoint(),
            repo: self.repo.to_string(),
            chain: format!("{network}/{}", network.netuid()),
            listing: self.listing(),
        };
        let journal = Journal::open(&self.context.out(JOURNAL), subject)?;
        if let Some(left) = journal.leftover() {
            let Subject { hub, repo, chain, listing } = left.of;
            let what = serde_json::to_string(&left.effect)?;
            self.context.ui.say(format!(
                "note      the transaction before this one did not end: {repo} on {hub}, chain {chain}, package {}; its last record is \
                 {what} ({:?}). This one is about something else and does not continue it",
                &listing[..listing.len().min(12)],
                left.phase,
            ));
        }
        Ok(journal)
    }

    /// Reads the repository back, with the token or as a stranger.
    pub(super) fn verify(&self, expected: Expected<'_>, anonymous: bool) -> anyhow::Result<Verified> {
        Ok(self.context.runtime.block_on(self.client.verify(&self.repo, expected, anonymous))?)
    }

    /// Changes the visibility, if it is another one.
    pub(super) fn set_private(&self, journal: &Journal, now: bool, private: bool) -> anyhow::Result<()> {
        if now == private {
            return Ok(());
        }
        let effect = if private { Effect::Hide } else { Effect::MakePublic };
        journal.intend(effect, None)?;
        self.context.runtime.block_on(self.client.set_private(&self.repo, private))?;
        Ok(journal.done(effect, None)?)
    }

    /// Reads the public repository as a validator does, and counts how often it is answered (gates 10–16, 23, 24, 33). The end of the
    /// transaction.
    pub(super) fn verify_public(&self, journal: &Journal, expected: Expected<'_>) -> anyhow::Result<(Verified, usize)> {
        let open = journal.is_open();
        if open {
            journal.intend(Effect::VerifyPublic, Some(expected.revision))?;
        }
        let verified = self.verify(expected, true)?;
        let answered = self.context.runtime.block_on(self.client.three_answers(&self.repo))?;
        if open && verified.is_ok() {
            journal.done(Effect::VerifyPublic, Some(expected.revision))?;
        }
        Ok((verified, answered))
    }
}
