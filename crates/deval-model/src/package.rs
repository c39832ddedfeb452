//! The package: the repository's tree, staged without copying the weights.

mod card;
mod digests;
mod ignore;
mod left_out;
mod listing;
mod place;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use deval_report::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(crate) use self::ignore::{FILE as IGNORE, Rules};
pub(crate) use self::listing::{Item, Listing, collect, never};
use self::place::{Placed, Staging};
use crate::ModelError;
use crate::files::human;
use crate::{coldkey, python_source};

/// The coarsest step, in seconds, in which a file system keeps the time of a file (FAT).
const TIME_STEP: u64 = 2;

/// What goes into a package, and where it is staged.
#[derive(Debug, Clone, Default)]
pub struct PackagePlan {
    /// Folder of the model; its root files enter the package.
    pub model_dir: PathBuf,
    /// Folder of the pipeline; its `.py` files become `model/…`.
    pub pipeline_dir: PathBuf,
    /// SS58 address of the wallet's coldkey, written to `coldkey.txt` without newline.
    pub coldkey_ss58: String,
    /// Folder that is replaced by the package.
    pub out_dir: PathBuf,
    /// Root files of the model folder that stay out: names, or patterns with `*`. The rules of `.devalignore` in the model folder
    /// come after them.
    pub ignore: Vec<String>,
    /// Name of the repository, for the model card.
    pub model_url: String,
}

/// A staged package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Package {
    /// Every file, in code point order of the paths.
    pub files: Vec<PackageFile>,
    /// SHA-256 over paths, sizes and the digests of all files but the weights; equal input gives an equal digest. Together with
    /// the model hash it stands for every byte.
    pub listing_digest: String,
    /// Bytes in all.
    pub bytes: u64,
    /// Weight files that share their bytes with the model folder.
    pub linked: usize,
    /// Weight files that had to be copied, because the file system allows no link there.
    pub copied: usize,
    /// Which these are, with the system's reason.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub copies: Vec<Copied>,
    /// Root files of the model folder and sources of the pipeline that stayed out.
    pub left_out: Vec<String>,
    /// How the sources were obfuscated, if they were; [`stage`] itself never does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub obfuscated: Option<Obfuscated>,
}

/// Sources that were obfuscated before they were staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Obfuscated {
    /// Version of PyArmor.
    pub pyarmor: String,
    /// Obfuscated files.
    pub files: usize,
    /// Whether they come from an earlier run on the same sources: PyArmor writes other bytes every time.
    pub kept: bool,
    /// What shows that they do what the plain sources do; none where the plain ones could not be asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proof: Option<Proof>,
}

/// The plain and the obfuscated pipeline were asked the same and answered the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// Requests to each model, all four tasks among them.
    pub requests: usize,
    /// The models that were asked.
    pub models: Vec<String>,
    /// Answers that were compared; requests that the plain pipeline refuses are none.
    pub answers: usize,
    /// Different answers among them: the more, the more their equality says.
    pub distinct: usize,
}

/// A weight file that takes its space twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copied {
    /// Path in the repository.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Why it could not be linked.
    pub reason: String,
}

/// One file of the package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackageFile {
    /// Path in the repository, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal; none for weights, whose digests come from [`crate::digest_weights`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// Git's blob id, which the Hub shows for small files; none for weights.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub git_sha1: Option<String>,
}

/// Stages the package: the tree is put together beside `out_dir` and takes its place in one rename, so that no stale file stays
/// and no half-finished tree is ever seen.
///
/// Weights are hard links; a link shares its mode with the original, so weights that only their owner can read become readable
/// in both places. All other files are copies with mode 0644.
///
/// # Errors
/// When a source is missing or leads out of the model folder, a secret would be published, the coldkey is no address, or the file
/// system refuses.
pub fn stage(plan: &PackagePlan) -> Result<Package, ModelError> {
    if coldkey::account(&plan.coldkey_ss58).is_none() {
        return Err(ModelError::Address(plan.coldkey_ss58.clone()));
    }
    keep_sources(plan)?;
    let listing = collect(plan)?;
    complete(&listing)?;
    let Listing { items, left_out, folders: _ } = listing;
    let staging = Staging::new(&plan.out_dir)?;
    let (mut files, mut linked, mut copies) = (Vec::new(), 0, Vec::new());
    for item in &items {
        let (file, placed) = staging.place(item)?;
        match placed {
            Placed::Written => {}
            Placed::Linked => linked += 1,
            Placed::CopiedWeights(reason) => {
                copies.push(Copied { path: file.path.clone(), size: file.size, reason: reason.to_string() });
            }
        }
        files.push(file);
    }
    let package = Package {
        listing_digest: listing_digest(&files),
        bytes: files.iter().map(|file| file.size).sum(),
        linked,
        copied: copies.len(),
        copies,
        left_out,
        files,
        obfuscated: None,
    };
    staging.finish()?;
    Ok(package)
}

/// The files that [`stage`] would ship, by their path in the repository; those that it writes itself are not among them.
///
/// # Errors
/// When a folder cannot be read, or a file leads out of it.
pub fn shipped(plan: &PackagePlan) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    let items = collect(plan)?.items.into_iter();
    Ok(items.filter_map(|item| item.file().map(Path::to_owned).map(|file| (item.path, file))).collect())
}

impl Package {
    /// Whether `tree` still holds exactly what was staged. Small files are read; weights must still be the file in `model_dir`, or where
    /// they had to be copied have its size and its time.
    pub fn stands(&self, tree: &Path, model_dir: &Path) -> bool {
        place::count(tree).is_ok_and(|count| count == self.files.len())
            && self.files.iter().all(|file| self.file_stands(file, tree, model_dir))
    }

    fn file_stands(&self, file: &PackageFile, tree: &Path, model_dir: &Path) -> bool {
        let path = tree.join(&file.path);
        let Ok(meta) = fs::symlink_metadata(&path) else { return false };
        if !meta.is_file() || meta.len() != file.size {
            return false;
        }
        if file.sha256.is_some() {
            return digests::of(&path).is_ok_and(|(_, sha256, _)| file.sha256 == Some(sha256));
        }
        let Ok(source) = fs::metadata(model_dir.join(&file.path)) else { return false };
        if self.copies.iter().any(|copy| copy.path == file.path) {
            // Two file systems may keep time in other steps.
            return source.len() == file.size && meta.mtime().abs_diff(source.mtime()) <= TIME_STEP;
        }
        (meta.dev(), meta.ino()) == (source.dev(), source.ino())
    }

    /// What staging had to do otherwise than planned: weights that were copied.
    pub fn findings(&self) -> Vec<Diagnostic> {
        let copied = self.copies.iter().map(|Copied { path, size, reason }| {
            let message = format!("`{path}` was copied, {} that could have been shared", human(*size));
            Diagnostic::warning("package.copied", message)
                .found(reason)
                .expected("a hard link")
                .help("keep the model folder and target/ on one file system, owned by one user")
        });
        copied.collect()
    }
}

/// The folder that is replaced must not hold what the package is made from.
fn keep_sources(plan: &PackagePlan) -> Result<(), ModelError> {
    let Ok(out) = fs::canonicalize(&plan.out_dir) else { return Ok(()) };
    for source in [&plan.model_dir, &plan.pipeline_dir] {
        if fs::canonicalize(source).is_ok_and(|source| source.starts_with(&out)) {
            return Err(ModelError::Overlap { out: plan.out_dir.clone(), from: source.clone() });
        }
    }
    Ok(())
}

/// A package that no validator could load is not staged.
fn complete(listing: &Listing) -> Result<(), ModelError> {
    let items = &listing.items;
    let has = |path: &str| items.iter().any(|item| item.path == path);
    if let Some(name) = left_out::weights(listing) {
        return Err(ModelError::Incomplete(format!("weights `{name}`: a rule leaves out what enters the model hash")));
    }
    if let Some(path) = items.iter().find(|item| left_out::odd_name(&item.path).is_some()).and_then(Item::file) {
        return Err(ModelError::Unsound { path: path.to_owned(), message: "its name has control characters".into() });
    }
    if !items.iter().any(Item::is_weights) {
        return Err(ModelError::Incomplete("weights (*.safetensors at the root)".into()));
    }
    let missing = ["config.json", "model/pipeline.py"].into_iter().find(|path| !has(path));
    missing.map_or(Ok(()), |path| Err(ModelError::Incomplete(path.into())))
}

fn listing_digest(files: &[PackageFile]) -> String {
    let mut digest = Sha256::new();
    for file in files {
        let content = file.sha256.as_deref().unwrap_or("-");
        digest.update(format!("{content} {} {}\n", file.size, file.path));
    }
    hex::encode(digest.finalize())
}

/// What staging will leave out or must not take along, as findings before anything is staged.
pub(crate) fn check(
    plan: &PackagePlan,
    listing: &Listing,
    file: impl Fn(&Path) -> String,
) -> Result<Vec<Diagnostic>, ModelError> {
    let mut findings = Vec::new();
    for item in &listing.items {
        if let (Some(secret), Some(path)) = (item.secret()?, item.file()) {
            let finding = Diagnostic::error(
                "package.secret",
                format!("this looks like {}, and the file would be published", secret.what),
            );
            findings.push(
                finding.at(file(path), secret.line, 1).help("remove it, and make it invalid where it was issued"),
            );
        }
    }
    if let Some(path) = listing.items.iter().find(|item| item.path == listing::CARD).and_then(Item::file) {
        findings.extend(card::check(path, &file(path))?);
    }
    let unsearched = |item: &&Item| !item.is_weights() && item.size > crate::files::LARGEST_READ;
    for item in listing.items.iter().filter(unsearched) {
        let message = format!("`{}` has {}; so large a file is not searched for secrets", item.path, human(item.size));
        let finding = Diagnostic::warning("package.unsearched", message);
        let help = "look at it yourself, or leave it out ([package] ignore) if the pipeline does not read it";
        findings.push(item.file().map_or(finding.clone(), |path| finding.in_file(file(path))).help(help));
    }
    for name in &listing.folders {
        let message =
            format!("`{name}/` stays out of the package: only files at the root of the model folder are shipped");
        let finding = Diagnostic::note("package.folder-left-out", message).in_file(file(&plan.model_dir.join(name)));
        findings.push(finding.help("move up what the pipeline reads from it"));
    }
    for (name, path) in
        python_source::files_below(&plan.pipeline_dir)?.iter().filter(|(name, _)| !name.ends_with(".py"))
    {
        let message = format!("`{name}` stays out of the package: of the pipeline folder only .py files are shipped");
        let finding = Diagnostic::warning("package.data-left-out", message).in_file(file(path));
        findings.push(finding.help("put what the pipeline reads into the model folder, or into a Python source"));
    }
    findings.extend(left_out::check(plan, listing, &file)?);
    for item in &listing.items {
        findings.extend(left_out::odd_name(&item.path).map(|finding| match item.file() {
            Some(path) => finding.in_file(file(path).escape_debug().to_string()),
            None => finding,
        }));
    }
    findings.extend(ignore::check(&plan.model_dir, &file(&plan.model_dir.join(ignore::FILE)))?);
    Ok(findings)
}

#[cfg(test)]
mod tests;
