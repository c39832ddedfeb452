//! The pipeline's Python source, parsed and not run (gates G35, G36, G37). Upstream `deval/api/miner_api.py` does
//! `from model.pipeline import DeValPipeline` and `DeValPipeline("de_val", model_dir=…)`.

mod armor;
mod class;
mod compile;
mod conduct;
mod depth;
mod encoding;
mod imports;
mod module;
mod packages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use deval_report::Diagnostic;
use ruff_python_ast::{Mod, ModModule};
use ruff_python_parser::{Mode, ParseOptions, Parsed, parse_unchecked};
use ruff_text_size::TextSize;

pub use armor::RUNTIME_PREFIX;

use self::armor::Armored;
use self::module::{Module, Package};
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
    /// All obfuscated sources, by name; what they import and do cannot be seen.
    pub hidden: Vec<String>,
    /// The PyArmor runtime folders that the sources import, by name.
    pub runtimes: Vec<String>,
}

/// Keys of the answer that the validator's container reads.
const ANSWER_KEYS: [&str; 2] = ["score_completion", "mistakes_completion"];

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
    findings.extend(below(dir)?.links.iter().map(|name| linked(&label.file(name))));
    let mut texts = Vec::new();
    for (name, path) in &sources.files {
        match files::read_small(path, "G35", &label.file(name))? {
            Ok(bytes) => texts.extend(text(&bytes.unwrap_or_default(), name, label.file(name), findings)),
            Err(finding) => findings.push(*finding),
        }
    }
    let before = findings.len();
    let armored = check_all(&texts, findings);
    sources.obfuscated = armored.iter().any(|armored| armored.name == FILE);
    sources.hidden = armored.iter().map(|armored| armored.name.clone()).collect();
    sources.runtimes = armored.iter().map(|armored| armored.runtime.clone()).collect();
    sources.runtimes.sort();
    sources.runtimes.dedup();
    let mut misplaced = sources.runtimes.iter().filter(|name| armor::is_misplaced(dir, name));
    if let Some(runtime) = misplaced.next() {
        // Told as a whole.
        let within = format!("{}/", label.file(runtime));
        let of_runtime =
            |finding: &Diagnostic| finding.place.as_ref().is_some_and(|place| place.file.starts_with(&within));
        let others = findings.split_off(before).into_iter().filter(|finding| !of_runtime(finding));
        findings.extend(others.collect::<Vec<_>>());
    }
    armor::check(dir, &label, &armored, &sources.runtimes, findings)?;
    Ok(sources)
}

/// Findings about the bytes of one source file, `name` in the pipeline folder, taken for the only one there.
pub fn check_bytes(bytes: &[u8], name: &str) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let text = text(bytes, name, name.to_owned(), &mut findings);
    check_all(text.as_slice(), &mut findings);
    findings
}

/// Looks at all sources, first at each one's names, then at what they take from each other; the obfuscated ones.
fn check_all(texts: &[Source], findings: &mut Vec<Diagnostic>) -> Vec<Armored> {
    let mut package = Package::default();
    let mut armored = Vec::new();
    for source in texts {
        let seen = with_tree(source, findings, |tree| (Module::new(tree, source), armor::find(tree, source)));
        let (module, found) = seen.unwrap_or_else(|| (Module::hidden(source.file.clone()), None));
        let module = if found.is_some() { Module::hidden(source.file.clone()) } else { module };
        package.modules.insert(Package::module_name(&source.name), module);
        armored.extend(found);
    }
    for source in texts {
        let module = &package.modules[&Package::module_name(&source.name)];
        if module.hidden {
            continue;
        }
        // What is wrong with the file itself was told before.
        with_tree(source, &mut Vec::new(), |tree| {
            imports::check(tree, source, module, &package, findings);
            conduct::check(tree, module, source, findings);
        });
    }
    findings.extend(class::check(&package));
    if !package.modules.values().any(|module| module.hidden) {
        findings.extend(answer_keys(texts));
    }
    armored
}

/// A pipeline whose sources name neither key answers with something else, which counts as -1.
fn answer_keys(texts: &[Source]) -> Option<Diagnostic> {
    let main = texts.iter().find(|source| source.name == FILE)?;
    let missing = ANSWER_KEYS.into_iter().find(|key| !texts.iter().any(|source| source.text.contains(key)))?;
    let message = format!("no source mentions `{missing}`, so the answer cannot have that key");
    let expected = "{\"score_completion\": float, \"mistakes_completion\": list[str]}";
    let finding = Diagnostic::warning("python.answer-keys", message).in_file(&main.file).expected(expected);
    Some(finding.help("return a dict with both keys; anything else counts as -1"))
}

/// Parses a source and looks at its tree, on a stack that is deep enough; `None` when Python could not import it.
fn with_tree<T: Send>(
    source: &Source,
    findings: &mut Vec<Diagnostic>,
    look: impl FnOnce(&ModModule) -> T + Send,
) -> Option<T> {
    let options = ParseOptions::from(Mode::Module).with_target_version(ruff_python_ast::PythonVersion::PY311);
    let parsed = parse_unchecked(&source.text, options);
    let deep = depth::bound(parsed.tokens());
    let refused = syntax(&parsed).or_else(|| depth::refusal(parsed.tokens()));
    if let Some((message, at)) = refused {
        findings.push(source.refused(&message, at));
    } else if deep > depth::DEEPEST {
        let message = "one statement is so long that the source is not looked at; Python may fail on it as well";
        findings.push(Diagnostic::error("G35", message).in_file(&source.file).help("read such data from a file"));
    } else {
        return depth::on_a_stack_for(deep, || judge(parsed, source, findings, look));
    }
    // Even to free such a tree may take more stack than there is.
    if deep > depth::SHALLOW {
        std::mem::forget(parsed);
    }
    None
}

fn judge<T>(
    parsed: Parsed<Mod>,
    source: &Source,
    findings: &mut Vec<Diagnostic>,
    look: impl FnOnce(&ModModule) -> T,
) -> Option<T> {
    let Mod::Module(tree) = parsed.into_syntax() else { return None };
    if let Some((message, at)) = compile::refusal(&tree, &source.text) {
        findings.push(source.refused(&message, at));
        return None;
    }
    Some(look(&tree))
}

/// One file that is looked at.
struct Source {
    /// As findings name it.
    file: String,
    /// Relative to the pipeline folder.
    name: String,
    text: String,
}

impl Source {
    /// Puts a finding at a position of the text.
    fn at(&self, finding: Diagnostic, offset: TextSize) -> Diagnostic {
        let (line, column) = self.line_column(offset);
        finding.at(&self.file, line, column)
    }

    /// Python refuses the source.
    fn refused(&self, message: &str, at: TextSize) -> Diagnostic {
        let finding = Diagnostic::error("G35", format!("Python 3.11 cannot import this: {message}"));
        self.at(finding.help("run it once under Python 3.11"), at)
    }

    /// Line and column of a position, from 1.
    fn line_column(&self, offset: TextSize) -> (u32, u32) {
        let before = &self.text[..self.text.floor_char_boundary(offset.to_usize())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line as u32, column as u32)
    }

    /// The package that a relative import of this many extra dots starts from; `None` above the folder itself.
    fn package(&self, levels: usize) -> Option<String> {
        let mut parts: Vec<&str> = self.name.split('/').collect();
        parts.pop();
        let kept = parts.len().checked_sub(levels)?;
        Some(parts[..kept].join("."))
    }
}

/// All `.py` files below a folder, hidden ones and caches left out; links to folders are not followed.
pub(crate) fn find(dir: &Path) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    let mut found = files_below(dir)?;
    found.retain(|name, _| name.ends_with(".py"));
    Ok(found)
}

/// All files below a folder, hidden ones and caches left out; links to folders are not followed.
pub(crate) fn files_below(dir: &Path) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    Ok(below(dir)?.files)
}

/// What lies below a folder.
#[derive(Default)]
struct Below {
    files: BTreeMap<String, PathBuf>,
    /// Links to folders.
    links: Vec<String>,
}

fn below(dir: &Path) -> Result<Below, ModelError> {
    let mut found = Below::default();
    let mut folders = vec![(String::new(), dir.to_owned())];
    while let Some((prefix, folder)) = folders.pop() {
        for entry in files::list(&folder)? {
            let hidden = entry.name.starts_with('.') || entry.name == "__pycache__";
            let name = format!("{prefix}{}", entry.name);
            let link = fs::symlink_metadata(&entry.path).is_ok_and(|meta| meta.is_symlink());
            if entry.is_dir() && !hidden && link {
                found.links.push(name);
            } else if entry.is_dir() && !hidden {
                folders.push((name + "/", entry.path));
            } else if entry.is_file() && !hidden {
                found.files.insert(name, entry.path);
            }
        }
    }
    Ok(found)
}

fn linked(file: &str) -> Diagnostic {
    let message = "this is a link to a folder, which neither the checks nor the package follow";
    Diagnostic::warning("G35", message).in_file(file).help("put the folder itself there, or remove the link")
}

fn missing(dir: &Path, label: &Label) -> Result<Diagnostic, ModelError> {
    if let Some(what) = files::not_a_file(&dir.join(FILE)) {
        let finding = Diagnostic::error("G35", format!("{FILE} is {what}, not a file")).in_file(label.file(FILE));
        return Ok(finding.help("put the source itself there"));
    }
    let near =
        files::list(dir)?.into_iter().find(|entry| entry.name.eq_ignore_ascii_case(FILE) || entry.name == FOLDER);
    let help = match near {
        Some(entry) if entry.is_dir() => format!("set submission.pipeline_dir to `{}`", label.file(FOLDER)),
        Some(entry) => format!("rename `{}` to `{FILE}`", entry.name),
        None => "start from this project's pipeline/model".into(),
    };
    Ok(Diagnostic::error("G35", format!("{FILE} is missing")).in_file(label.file(FILE)).help(help))
}

fn text(bytes: &[u8], name: &str, file: String, findings: &mut Vec<Diagnostic>) -> Option<Source> {
    match encoding::decode(bytes, &file) {
        Ok(text) => Some(Source { file, name: name.to_owned(), text }),
        Err(finding) => {
            findings.push(*finding);
            None
        }
    }
}

/// The first thing that the grammar of Python 3.11 does not allow.
fn syntax(parsed: &Parsed<Mod>) -> Option<(String, TextSize)> {
    let invalid = parsed.errors().first().map(|error| (error.error.to_string(), error.location.start()));
    let unsupported = || parsed.unsupported_syntax_errors().first();
    invalid.or_else(|| unsupported().map(|error| (error.to_string(), error.range.start())))
}

#[cfg(test)]
mod tests;
