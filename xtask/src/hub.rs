//! The submission's repository on the Hub.

use std::collections::BTreeMap;

use anyhow::Context as _;
use deval_hub::{Fetched, HubClient, HubError, LocalFile, RemoteFile, RemoteFiles, RepoId, Stamp, Token};
use deval_model::{Package, PackageFile, WeightsDigest};
use deval_report::{Inputs, Network, Report, Section, Step};
use serde::Serialize;

use crate::{cli::FetchArgs, context::Context, steps, ui::Unit};

/// Token of the local Hub, which takes any; it opens nothing else.
const LOCAL_TOKEN: &str = "hf_local";

/// A client with the miner's token.
pub(crate) fn client(context: &Context) -> anyhow::Result<HubClient> {
    let token = token(context)?.context(
        "no Hugging Face token: set HUGGINGFACE_TOKEN in the environment or in `.env` beside the manifest, or run `hf auth login`",
    )?;
    Ok(HubClient::new(&context.hub_endpoint()?, Some(token), &context.out("hub"))?)
}

/// A client for what may be public: it has the miner's token where there is one.
pub(crate) fn reader(context: &Context) -> anyhow::Result<HubClient> {
    Ok(HubClient::new(&context.hub_endpoint()?, token(context)?, &context.out("hub"))?)
}

/// A client with the miner's token for the Hub at `endpoint`; nothing without a token.
pub(crate) fn owner(endpoint: &str, context: &Context) -> anyhow::Result<Option<HubClient>> {
    let client = |token| HubClient::new(endpoint, Some(token), &context.out("hub"));
    Ok(token(context)?.map(client).transpose()?)
}

/// The same at another Hub than the manifest's, where one is named.
pub(crate) fn reader_at(context: &Context, endpoint: Option<&str>) -> anyhow::Result<HubClient> {
    let Some(endpoint) = endpoint else { return reader(context) };
    Ok(HubClient::new(endpoint, context.secrets.hub_token()?, &context.out("hub"))?)
}

fn token(context: &Context) -> anyhow::Result<Option<Token>> {
    match context.network() {
        Network::Local => Ok(Some(Token::new(LOCAL_TOKEN)?)),
        Network::Test | Network::Finney => context.secrets.hub_token(),
    }
}

/// The repository that the manifest names.
pub(crate) fn repo(context: &Context) -> anyhow::Result<RepoId> {
    Ok(RepoId::parse(&context.manifest.submission.model_url)?)
}

/// The staged tree with all its digests: small files from `package`, weights from `hash`.
pub(crate) fn files(context: &Context) -> anyhow::Result<Vec<LocalFile>> {
    let package: Package = steps::result_of(context, Step::Package)?;
    // Before the digests are known to be right for what lies there: what changes later has another stamp.
    let stamps = stamps(context, &package)?;
    joined(context, package, &context.weights_now()?, &stamps)
}

/// The same of a package and the digests of its weights, wherever they are from.
pub(crate) fn files_of(context: &Context, package: Package, weights: &WeightsDigest) -> anyhow::Result<Vec<LocalFile>> {
    let stamps = stamps(context, &package)?;
    joined(context, package, weights, &stamps)
}

/// By path in the repository.
type Stamps = BTreeMap<String, Stamp>;

fn stamps(context: &Context, package: &Package) -> anyhow::Result<Stamps> {
    let tree = steps::tree(context);
    let stamp = |file: &PackageFile| {
        let source = tree.join(&file.path);
        let stamp = Stamp::of(&source).with_context(|| format!("cannot look at {}", source.display()))?;
        Ok((file.path.clone(), stamp))
    };
    package.files.iter().map(stamp).collect()
}

fn joined(
    context: &Context,
    package: Package,
    weights: &WeightsDigest,
    stamps: &Stamps,
) -> anyhow::Result<Vec<LocalFile>> {
    let tree = steps::tree(context);
    let file = |file: PackageFile| {
        let of_weights = weights.files.iter().find(|known| known.name == file.path).map(|known| known.sha256.clone());
        let sha256 = file.sha256.or(of_weights).with_context(|| format!("no digest of {}", file.path))?;
        let (source, git_sha1) = (tree.join(&file.path), file.git_sha1.unwrap_or_default());
        let stamp = *stamps.get(&file.path).context("every file was looked at")?;
        Ok(LocalFile { source, path: file.path, size: file.size, sha256, git_sha1, stamp })
    };
    package.files.into_iter().map(file).collect()
}

/// The longest header that loaders accept.
const LONGEST_HEADER: u64 = 100_000_000;

/// Bytes that tell what a file is that has no header.
const START: u64 = 120;

/// The start of a weight file: its length first, then exactly the header, so that no byte of the data comes along. Of what has no
/// sound length, the first bytes.
pub(crate) async fn header(files: &RemoteFiles, file: &RemoteFile) -> Result<Vec<u8>, HubError> {
    let mut start = files.read(file, 0..file.size.min(8)).await?;
    let length = start.first_chunk().map_or(0, |prefix| u64::from_le_bytes(*prefix));
    let rest = file.size.saturating_sub(8);
    let wanted = if length <= LONGEST_HEADER.min(rest) { length } else { START.min(rest) };
    start.extend(files.read(file, 8..8 + wanted).await?);
    Ok(start)
}

/// What `fetch` did.
#[derive(Debug, Serialize)]
pub(crate) struct Copied {
    repository: String,
    revision: String,
    files: Vec<CopiedFile>,
    /// Bytes of files that were there already.
    kept: u64,
    /// Bytes that a broken download had left.
    resumed: u64,
    /// Bytes of those that were damaged, and downloaded again.
    damaged: u64,
    /// Bytes that were downloaded.
    received: u64,
}

#[derive(Debug, Serialize)]
struct CopiedFile {
    path: String,
    bytes: u64,
    digest: String,
}

/// `cargo xtask fetch`: a verified snapshot of `main`.
pub(crate) fn fetch(context: &Context, arguments: &FetchArgs) -> anyhow::Result<Report<Copied>> {
    let FetchArgs { model_url, dir, hub } = arguments;
    let (client, repo) = (reader_at(context, hub.as_deref())?, RepoId::parse(model_url)?);
    let bar = context.ui.bar("downloading", 0, Unit::Bytes);
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let fetched = context.runtime.block_on(client.fetch(&repo, "main", dir, &|_| true, &progress));
    bar.finish_and_clear();
    let Fetched { revision, files, kept, resumed, damaged, received } = fetched?;
    let file = |file: RemoteFile| CopiedFile { path: file.path, bytes: file.size, digest: file.digest.to_string() };
    let files = files.into_iter().map(file).collect();
    let copied = Copied { repository: repo.to_string(), revision, files, kept, resumed, damaged, received };
    let mut inputs = Inputs::default();
    inputs.add("repository", model_url);
    Ok(Report::new("fetch", inputs, Vec::new(), Some(copied)))
}

impl Copied {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let row = |file: &CopiedFile| vec![file.path.clone(), file.bytes.to_string(), file.digest.clone()];
        let mut section = Section::new("Downloaded")
            .row("repository", &self.repository)
            .row("revision", &self.revision)
            .row("files", format!("{}, every digest checked", self.files.len()))
            .row("bytes downloaded", self.received);
        for (label, bytes) in [
            ("bytes that were there", self.kept),
            ("bytes of a broken download", self.resumed),
            ("bytes damaged since", self.damaged),
        ] {
            if bytes > 0 {
                section = section.row(label, bytes);
            }
        }
        vec![section.table(&["path", "bytes", "digest"], self.files.iter().map(row).collect())]
    }
}
