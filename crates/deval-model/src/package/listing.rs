//! What belongs into the package, decided before a file is touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::PackagePlan;
use super::ignore::Rules;
use crate::files::{self, Entry, WEIGHTS};
use crate::python_source::{self, FOLDER, RUNTIME_PREFIX};
use crate::secrets::{self, Secret};
use crate::{ModelError, coldkey, weights};

pub(super) const CARD: &str = "README.md";

/// Endings of files that may hold pickles, which run code when they are loaded.
const PICKLES: [&str; 6] = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"];

/// Files of the package in code point order of their paths, and names of root files and root folders that stay out.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) items: Vec<Item>,
    pub(crate) left_out: Vec<String>,
    /// Without hidden ones, which nobody expects to be shipped.
    pub(crate) folders: Vec<String>,
}

/// One file of the package.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) path: String,
    pub(crate) source: Source,
    pub(crate) size: u64,
}

#[derive(Debug)]
pub(crate) enum Source {
    /// A file, links resolved.
    File(PathBuf),
    /// Text that is written.
    Text(String),
}

impl Item {
    fn text(path: &str, text: String) -> Self {
        Self { path: path.into(), size: text.len() as u64, source: Source::Text(text) }
    }

    pub(crate) fn is_weights(&self) -> bool {
        self.path.ends_with(WEIGHTS)
    }

    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Text(_) => None,
        }
    }

    /// The first secret in it. Of weights only the header is searched; very large files are not.
    pub(crate) fn secret(&self) -> Result<Option<Secret>, ModelError> {
        match &self.source {
            Source::File(path) if self.is_weights() => secret_in_header(path),
            Source::File(path) if self.size <= files::LARGEST_READ => {
                Ok(secrets::find(&files::read_start(path, files::LARGEST_READ)?))
            }
            _ => Ok(None),
        }
    }
}

/// The part of a weight file's header that holds free text.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: BTreeMap<String, String>,
}

/// The first secret in the header as it is written, or in its metadata as a reader gets it.
fn secret_in_header(path: &Path) -> Result<Option<Secret>, ModelError> {
    let start = files::read_start(path, 8)?;
    let Some(length) = start.first_chunk::<8>() else { return Ok(None) };
    let length = u64::from_le_bytes(*length).min(files::LARGEST_READ);
    let bytes = files::read_start(path, 8 + length)?;
    let text = bytes.get(8..).unwrap_or_default();
    let Ok(Header { metadata }) = serde_json::from_slice(text) else { return Ok(secrets::find(text)) };
    let read: Vec<_> = metadata.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let found = secrets::find(text).or_else(|| secrets::find(read.join("\n").as_bytes()));
    Ok(found.map(|secret| Secret { line: 1, ..secret }))
}

pub(crate) fn is_pickle(name: &str) -> bool {
    PICKLES.iter().any(|ending| name.to_lowercase().ends_with(ending))
}

/// Lists the package: root files of the model folder, the pipeline under `model/`, `coldkey.txt` and a model card.
pub(crate) fn collect(plan: &PackagePlan) -> Result<Listing, ModelError> {
    let rules = Rules::read(&plan.model_dir, &plan.ignore)?;
    let mut listing = Listing::default();
    let entries = files::list(&plan.model_dir)?;
    let shown = entries.iter().filter(|entry| entry.is_dir() && !entry.name.starts_with('.'));
    listing.folders = shown.map(|entry| entry.name.clone()).collect();
    for entry in entries.into_iter().filter(|entry| entry.is_file() || entry.meta.is_none()) {
        if never(&entry.name) || rules.leave_out(&entry.name) {
            listing.left_out.push(entry.name);
        } else if entry.name != coldkey::FILE {
            listing.items.push(root_file(&plan.model_dir, entry)?);
        }
    }
    let mut no_findings = Vec::new();
    let sources = python_source::check(&plan.pipeline_dir, &plan.pipeline_dir, &mut no_findings)?;
    for (name, file) in sources.files {
        let path = format!("{FOLDER}/{name}");
        if rules.leave_out(&path) {
            listing.left_out.push(path);
        } else {
            listing.items.push(inner_file(&plan.pipeline_dir, path, &file)?);
        }
    }
    for runtime in sources.runtimes.iter().filter(|name| name.starts_with(RUNTIME_PREFIX)) {
        listing.items.extend(runtime_files(&plan.pipeline_dir, runtime)?);
    }
    listing.items.push(Item::text(coldkey::FILE, plan.coldkey_ss58.clone()));
    if !listing.items.iter().any(|item| item.path == CARD) {
        listing.items.push(Item::text(CARD, card(&plan.model_url)));
    }
    listing.items.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(listing)
}

/// Hidden files (`.env`, `.git`, `.cache`, `.DS_Store`), pickles and key files, which no rule takes back.
pub(crate) fn never(name: &str) -> bool {
    name.starts_with('.') || is_pickle(name) || secrets::named(name)
}

/// A root file of the model folder. Weights may be links to anywhere, if what they lead to has a sound header; any other link must
/// stay within the folder, or within the `blobs` of a Hugging Face cache.
fn root_file(dir: &Path, entry: Entry) -> Result<Item, ModelError> {
    let inner = inner_file(dir, entry.name.clone(), &entry.path);
    let Err(ModelError::Escape { target, .. }) = &inner else { return inner };
    let sound = entry.name.ends_with(WEIGHTS) && weights::read_header(target, &entry.name, &entry.name)?.is_ok();
    if !sound {
        return inner;
    }
    Ok(Item { path: entry.name.clone(), size: entry.size(), source: Source::File(target.clone()) })
}

fn inner_file(dir: &Path, path: String, file: &Path) -> Result<Item, ModelError> {
    let real = canonical(file)?;
    let home = canonical(dir)?;
    if !real.starts_with(&home) && !blobs(&home).is_some_and(|blobs| real.starts_with(blobs)) {
        return Err(ModelError::Escape { link: file.to_owned(), target: real });
    }
    let size = fs::metadata(&real).map_err(ModelError::io("look at", &real))?.len();
    Ok(Item { path, size, source: Source::File(real) })
}

/// Where a Hugging Face cache keeps the files that a snapshot links to.
fn blobs(home: &Path) -> Option<PathBuf> {
    let snapshots = home.parent().filter(|parent| parent.ends_with("snapshots"))?;
    Some(snapshots.parent()?.join("blobs"))
}

/// The PyArmor runtime beside the pipeline folder, which must not be a link to somewhere else.
fn runtime_files(pipeline_dir: &Path, name: &str) -> Result<Vec<Item>, ModelError> {
    let beside = pipeline_dir.join("..");
    let dir = beside.join(name);
    let real = canonical(&dir)?;
    if !real.starts_with(canonical(&beside)?) {
        return Err(ModelError::Escape { link: dir, target: real });
    }
    let entries = files::list(&dir)?.into_iter().filter(|entry| entry.is_file() && !never(&entry.name));
    entries.map(|entry| inner_file(&dir, format!("{name}/{}", entry.name), &entry.path)).collect()
}

fn canonical(path: &Path) -> Result<PathBuf, ModelError> {
    fs::canonicalize(path).map_err(ModelError::io("resolve", path))
}

/// A model card for those who brought none.
fn card(model_url: &str) -> String {
    let name = model_url.rsplit('/').next().unwrap_or_default();
    format!(
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\nlanguage:\n- en\ntags:\n- bittensor\n- de-val\n---\n\n# {name}\n\n\
         An evaluator of language model answers for De-Val (Bittensor subnet 15): hallucination, summary completeness,\n\
         attribution and relevancy.\n\nThe pipeline is in `model/pipeline.py`; `coldkey.txt` names the owner.\n"
    )
}
