//! What leaving a file out does to the model that the validator gets.

use std::path::Path;

use deval_report::Diagnostic;

use super::listing::{self, Listing};
use super::{PackagePlan, ignore};
use crate::files::{self, WEIGHTS};
use crate::{ModelError, secrets};

/// Files without which transformers does not load the model at all.
const NEEDED: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];

const INDEX: &str = "model.safetensors.index.json";
const PIPELINE: &str = "model/pipeline.py";

/// Files that transformers loads without, but not the same model.
const READ: [&str; 8] = [
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    INDEX,
];

/// A root file that enters the model hash and is not shipped: the validator would compute another hash.
pub(super) fn weights(listing: &Listing) -> Option<&str> {
    listing.left_out.iter().map(String::as_str).find(|name| name.ends_with(WEIGHTS))
}

/// One finding for each file whose absence changes or breaks the model, or that should not lie there.
pub(super) fn check(
    plan: &PackagePlan,
    listing: &Listing,
    file: impl Fn(&Path) -> String,
) -> Result<Vec<Diagnostic>, ModelError> {
    let entries = files::weight_entries(&plan.model_dir)?;
    let needs_index = !entries.iter().any(|entry| entry.name == "model.safetensors");
    let mut findings = Vec::new();
    for name in &listing.left_out {
        let place = match name.strip_prefix("model/") {
            Some(source) => file(&plan.pipeline_dir.join(source)),
            None => file(&plan.model_dir.join(name)),
        };
        findings.extend(finding(name, needs_index).map(|finding| finding.in_file(place)));
    }
    Ok(findings)
}

fn finding(name: &str, needs_index: bool) -> Option<Diagnostic> {
    let ruled =
        format!("take back the rule that leaves it out ([package] ignore, or {} in the model folder)", ignore::FILE);
    let error = |code: &str, why: &str| Diagnostic::error(code, format!("`{name}` stays out of the package, {why}"));
    if name.ends_with(WEIGHTS) {
        let finding = error("G27", "but it enters the model hash: the validator would compute another one");
        let help = if listing::never(name) {
            "move it out of the model folder, or rename it: a hidden file is never shipped".into()
        } else {
            format!("{ruled}, or move the file out of the model folder")
        };
        return Some(finding.help(help));
    }
    if NEEDED.contains(&name) || needs_index && name == INDEX {
        return Some(error("G38", "and without it the model cannot be loaded").help(ruled));
    }
    if name == PIPELINE {
        return Some(error("G35", "and without it there is nothing that the validator could ask").help(ruled));
    }
    if name.ends_with(".py") {
        let message = format!("`{name}` stays out of the package; nothing that is in it may import it");
        return Some(Diagnostic::note("package.source-left-out", message));
    }
    if READ.contains(&name) {
        let message = format!("`{name}` stays out of the package; the validator loads the model without it");
        let help = format!("{ruled}, unless the model is the same without it");
        return Some(Diagnostic::note("package.file-left-out", message).help(help));
    }
    unwanted(name)
}

/// A file that is never shipped, and whose place is elsewhere.
fn unwanted(name: &str) -> Option<Diagnostic> {
    let (code, what) = if secrets::named(name) {
        ("package.secret", "is kept for secrets")
    } else if listing::is_pickle(name) {
        ("package.pickle", "may hold a pickle")
    } else {
        return None;
    };
    let finding = Diagnostic::warning(code, format!("`{name}` {what}; it stays out of the package"));
    Some(finding.help("move it out of the model folder"))
}

/// A path in the package whose name has control characters: pages and terminals show another one.
pub(super) fn odd_name(path: &str) -> Option<Diagnostic> {
    path.chars().any(char::is_control).then(|| {
        let message = format!("the name {path:?} has control characters, and the file would be published under it");
        Diagnostic::error("package.name", message)
            .expected("a name of visible characters")
            .help("rename the file, or move it out of the folder")
    })
}
