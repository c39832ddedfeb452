//! The pipeline's Python source, parsed and not run (gates G35, G36, G37). Upstream `deval/api/miner_api.py` does
//! `from model.pipeline import DeValPipeline` and `DeValPipeline("de_val", model_dir=…)`.

mod armor;
mod class;
mod depth;
mod imports;
mod packages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use deval_report::Diagnostic;
use ruff_python_ast::{Mod, ModModule};
use ruff_python_parser::{Mode, ParseOptions, Parsed, parse_unchecked};
use ruff_text_size::TextSize;

pub use armor::RUNTIME_PREFIX;

use crate::ModelError;
use crate::files::{self, Label};

/// The file that is imported.
pub const FILE: &str = "pipeline.py";

/// The class that is imported from it.
pub const CLASS: &str = "DeValPipeline";

/// The folder in the repository that holds the sources.
pub const FOLDER: &str = "model";

/// What is known of the sources without running them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Every `.py` file, relative to the pipeline folder, with its path.
    pub files: BTreeMap<String, PathBuf>,
    /// Whether `pipeline.py` is obfuscated by PyArmor, so that its class can only be seen by running it.
    pub obfuscated: bool,
    /// The PyArmor runtime folders that the sources import, by name.
    pub runtimes: Vec<String>,
}

/// Parses every source of the pipeline folder; what is wrong goes to `findings`.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn check(dir: &Path, root: &Path, findings: &mut Vec<Diagnostic>) -> Result<Sources, ModelError> {
    let label = Label::new(root, dir);
    let mut sources = Sources { files: find(dir)?, ..Sources::default() };
    if !sources.files.contains_key(FILE) {
        findings.push(missing(dir, &label)?);
    }
    let modules = imports::Modules::new(&sources.files);
    for (name, path) in &sources.files {
        let bytes = files::read(path)?;
        let runtime = check_one(&bytes, name, label.file(name), &modules, findings);
        sources.obfuscated |= name == FILE && runtime.is_some();
        sources.runtimes.extend(runtime);
    }
    sources.runtimes.sort();
    sources.runtimes.dedup();
    armor::check(dir, &label, &sources, findings)?;
    Ok(sources)
}

/// Findings about the bytes of one source file, `name` in the pipeline folder, taken for the only one there.
pub fn check_bytes(bytes: &[u8], name: &str) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let modules = imports::Modules::new(&BTreeMap::from([(name.to_owned(), PathBuf::new())]));
    check_one(bytes, name, name.to_owned(), &modules, &mut findings);
    findings
}

/// Looks at one source; the PyArmor runtime that it imports, if any.
fn check_one(
    bytes: &[u8],
    name: &str,
    file: String,
    modules: &imports::Modules,
    findings: &mut Vec<Diagnostic>,
) -> Option<String> {
    let text = text(bytes, &file, findings)?;
    let source = Source { file, module: name, text: &text };
    let options = ParseOptions::from(Mode::Module).with_target_version(ruff_python_ast::PythonVersion::PY311);
    let parsed = parse_unchecked(source.text, options);
    let judge = |parsed: Parsed<Mod>, findings: &mut Vec<Diagnostic>| {
        let tree = syntax(parsed, &source, findings)?;
        let runtime = armor::runtime(&tree);
        if name == FILE && runtime.is_none() {
            findings.extend(class::check(&tree, &source));
        }
        imports::check(&tree, &source, modules, findings);
        runtime
    };
    match depth::bound(parsed.tokens()) {
        0..=depth::SHALLOW => judge(parsed, findings),
        deep @ ..=depth::DEEPEST => depth::on_a_stack_for(deep, || judge(parsed, findings)),
        _ => {
            // Even to free such a tree may take more stack than there is.
            std::mem::forget(parsed);
            let message = "one statement is so long that the source is not looked at; Python may fail on it as well";
            findings.push(Diagnostic::warning("G35", message).in_file(&source.file).help("read such data from a file"));
            None
        }
    }
}

/// One file that is looked at.
struct Source<'a> {
    /// As findings name it.
    file: String,
    /// Relative to the pipeline folder.
    module: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// Puts a finding at a position of the text.
    fn at(&self, finding: Diagnostic, offset: TextSize) -> Diagnostic {
        let before = &self.text[..self.text.floor_char_boundary(offset.to_usize())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        finding.at(&self.file, line as u32, column as u32)
    }
}

/// All `.py` files below a folder, hidden ones and caches left out; links to folders are not followed.
pub(crate) fn find(dir: &Path) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(String::new(), dir.to_owned())];
    while let Some((prefix, folder)) = folders.pop() {
        for entry in files::list(&folder)? {
            let hidden = entry.name.starts_with('.') || entry.name == "__pycache__";
            let name = format!("{prefix}{}", entry.name);
            let link = fs::symlink_metadata(&entry.path).is_ok_and(|meta| meta.is_symlink());
            if entry.is_dir() && !hidden && !link {
                folders.push((name + "/", entry.path));
            } else if entry.is_file() && !hidden && entry.name.ends_with(".py") {
                found.insert(name, entry.path);
            }
        }
    }
    Ok(found)
}

fn missing(dir: &Path, label: &Label) -> Result<Diagnostic, ModelError> {
    let near =
        files::list(dir)?.into_iter().find(|entry| entry.name.eq_ignore_ascii_case(FILE) || entry.name == FOLDER);
    let help = match near {
        Some(entry) if entry.is_dir() => format!("set submission.pipeline_dir to `{}`", label.file(FOLDER)),
        Some(entry) => format!("rename `{}` to `{FILE}`", entry.name),
        None => "start from this project's pipeline/model".into(),
    };
    Ok(Diagnostic::error("G35", format!("{FILE} is missing")).in_file(label.file(FILE)).help(help))
}

fn text(bytes: &[u8], file: &str, findings: &mut Vec<Diagnostic>) -> Option<String> {
    let text = std::str::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    if text.is_err() {
        findings.push(Diagnostic::error("G35", "the source is not UTF-8, so Python cannot import it").in_file(file));
    }
    text.ok().map(str::to_owned)
}

fn syntax(parsed: Parsed<Mod>, source: &Source<'_>, findings: &mut Vec<Diagnostic>) -> Option<ModModule> {
    let unsupported = parsed.unsupported_syntax_errors().first().map(|error| (error.to_string(), error.range.start()));
    let invalid = parsed.errors().first().map(|error| (error.error.to_string(), error.location.start()));
    if let Some((message, at)) = invalid.or(unsupported) {
        let finding = Diagnostic::error("G35", format!("Python 3.11 cannot import this: {message}"));
        findings.push(source.at(finding, at));
        return None;
    }
    match parsed.into_syntax() {
        Mod::Module(module) => Some(module),
        Mod::Expression(_) => None,
    }
}

#[cfg(test)]
mod tests;
