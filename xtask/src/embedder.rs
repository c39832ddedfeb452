//! The sentence encoder of the relevance reward: a folder, or a repository on the Hub that is downloaded and checked once.

use std::{
    env,
    path::{Path, PathBuf},
};

use deval_eval::Embed;
use deval_hub::{HubClient, RepoId, Token};
use deval_llama::Embedder;

use crate::{context::Context, ui::Unit};

pub(crate) fn is_configured(context: &Context) -> bool {
    let settings = &context.manifest.evaluate;
    settings.embedder_dir.is_some() || settings.embedder_repo.is_some()
}

/// Digest of the encoder's weights; empty while they are not there.
pub(crate) fn fingerprint(context: &Context) -> Option<String> {
    let dir = dir(context)?;
    let digest = deval_model::digest_weights(&dir, Some(&context.out("cache/embedder.json")), &mut |_, _| ());
    Some(digest.map(|weights| weights.model_hash).unwrap_or_default())
}

/// Loads the encoder that the manifest names; without one, an encoder that fails when it is asked.
pub(crate) fn load(context: &Context) -> anyhow::Result<Box<dyn Embed>> {
    let Some(dir) = dir(context) else { return Ok(Box::new(Encoder { name: "none".to_owned(), inner: None })) };
    let repo = context.manifest.evaluate.embedder_repo.as_deref();
    if let Some(repo) = repo.filter(|_| !dir.join("config.json").exists() || deval_hub::is_unfinished(&dir)) {
        download(context, repo, &dir)?;
    }
    let inner = Embedder::load(&dir)?;
    let name = repo.unwrap_or(inner.name()).to_owned();
    Ok(Box::new(Encoder { name, inner: Some(inner) }))
}

fn dir(context: &Context) -> Option<PathBuf> {
    let settings = &context.manifest.evaluate;
    let folder = settings.embedder_dir.as_ref().map(|dir| context.path(dir));
    folder.or_else(|| settings.embedder_repo.as_ref().map(|repo| context.out("encoders").join(repo.replace('/', "--"))))
}

/// From the manifest's Hub, else `HF_ENDPOINT`, else the real one: the local Hub has no encoders.
fn download(context: &Context, repo: &str, dir: &Path) -> anyhow::Result<()> {
    let endpoint = context.manifest.hub.endpoint.clone().or_else(|| env::var("HF_ENDPOINT").ok());
    let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned());
    let token = context.secrets.get(&["HUGGINGFACE_TOKEN", "HF_TOKEN"]).map(|token| Token::new(&token)).transpose()?;
    let client = HubClient::new(&endpoint, token, &context.out("hub"))?;
    let bar = context.ui.bar(&format!("downloading {repo}"), 0, Unit::Bytes);
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    context.runtime.block_on(client.fetch(&RepoId::parse(repo)?, "main", dir, &is_of_an_encoder, &progress))?;
    bar.finish_and_clear();
    Ok(())
}

/// Repositories of encoders hold the same weights in several formats.
fn is_of_an_encoder(path: &str) -> bool {
    let names = ["config.json", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json"];
    names.contains(&path)
        || (!path.contains('/') && (path.ends_with(".safetensors") || path.ends_with(".safetensors.index.json")))
}

struct Encoder {
    name: String,
    inner: Option<Embedder>,
}

impl Embed for Encoder {
    fn embed(&self, text: &str) -> Result<Vec<f32>, String> {
        let encoder = self.inner.as_ref().ok_or("no sentence encoder is configured")?;
        encoder.embed(text).map_err(|error| error.to_string())
    }

    fn name(&self) -> &str {
        &self.name
    }
}
