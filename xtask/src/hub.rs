//! The submission's repository on the Hub.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use deval_hub::{HubClient, LocalFile, RepoId, Stamp, Token};
use deval_model::{Package, PackageFile, WeightsDigest};
use deval_report::{Network, Step};

use crate::{Verdict, context::Context, steps, ui::Unit};

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

/// `cargo xtask fetch`: a verified snapshot of `main`.
pub(crate) fn fetch(context: &Context, model_url: &str, dir: &Path) -> anyhow::Result<Verdict> {
    let bar = context.ui.bar("downloading", 0, Unit::Bytes);
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let (client, repo) = (client(context)?, RepoId::parse(model_url)?);
    let snapshot = context.runtime.block_on(client.fetch(&repo, "main", dir, &|_| true, &progress))?;
    bar.finish_and_clear();
    for file in &snapshot.files {
        context.ui.print(format!("{}  {}", file.digest, file.path));
    }
    context.ui.say(format!("revision {}: {} files, every digest checked", snapshot.revision, snapshot.files.len()));
    Ok(Verdict::Ok)
}
