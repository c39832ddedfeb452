//! `cargo xtask examples`: sets of task examples.

mod articles;
mod llm;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use deval_eval::{ExampleSet, SetInfo, Task};
use deval_examples::{
    AuditOptions,
    articles::{Article, WIKIPEDIA_LICENCE},
    audit::{self, SHINGLE_WORDS, audit, overlap, overlap_findings},
    export, generate_set,
    import::{self, Format, Overrides},
    show,
};
use deval_report::{Diagnostic, Inputs, Report, Section, render};
use serde::Serialize;

use crate::{
    Verdict,
    cli::{ExamplesCommand, From, Generate, Import},
    findings::Findings,
    secrets::Secrets,
    store::write_atomically,
    ui::Ui,
};

pub(crate) fn run(command: &ExamplesCommand, ui: Ui) -> anyhow::Result<Verdict> {
    match command {
        ExamplesCommand::Generate(arguments) => generate(arguments, ui),
        ExamplesCommand::Import(arguments) => import_files(arguments, ui),
        ExamplesCommand::Show { file, id, tasks, limit } => show_examples(file, id.as_deref(), tasks, *limit, ui),
        ExamplesCommand::Check { file, against } => check(file, against, ui),
    }
}

/// What a command made or saw.
struct Outcome<T> {
    command: &'static str,
    findings: Vec<Diagnostic>,
    result: T,
    sections: Vec<Section>,
}

impl<T: Serialize> Outcome<T> {
    fn tell(self, ui: Ui) -> anyhow::Result<Verdict> {
        let report = Report::new(self.command, Inputs::default(), self.findings, Some(self.result));
        ui.report(&report, &self.sections);
        Ok(if report.is_ok() { Verdict::Ok } else { Verdict::Findings })
    }
}

fn generate(arguments: &Generate, ui: Ui) -> anyhow::Result<Verdict> {
    let tasks = wanted(&arguments.tasks);
    let secrets = Secrets::beside(&std::env::current_dir().context("there is no current folder")?, ui)?;
    let (articles, mut findings) = articles::read(arguments, ui)?;
    let mut sections = Vec::new();
    let set = match arguments.llm {
        Some(api) => {
            let Some(made) = llm::generate(arguments, api, &tasks, articles, &secrets, ui)? else {
                return Ok(Verdict::Ok);
            };
            sections.push(made.tally.section());
            if made.set.examples.is_empty() {
                ui.print(render::terminal(&sections));
                bail!("no reply of the model made an example; nothing is written");
            }
            findings.extend(made.tally.stopped.as_ref().map(|why| {
                Diagnostic::error("examples.stopped", format!("the run stopped early: {why}"))
                    .found(format!("{} examples", made.tally.made))
                    .expected(format!("{} examples", made.tally.wanted))
                    .help("what was made is written; mend the cause and run again with another file for the rest")
            }));
            made.set
        }
        None if articles.is_empty() => generate_set(arguments.seed, arguments.per_task as usize, &tasks),
        None => from_articles(arguments, &tasks, &articles, &mut findings),
    };
    findings.extend(write(&set, &arguments.out, false)?);
    sections.push(described(&set.info, &arguments.out));
    Outcome { command: "examples-generate", findings, result: set.info, sections }.tell(ui)
}

/// Examples about articles; dialogues for attribution come from the offline generator.
fn from_articles(
    arguments: &Generate,
    tasks: &[Task],
    articles: &[Article],
    findings: &mut Vec<Diagnostic>,
) -> ExampleSet {
    let per_task = arguments.per_task as usize;
    let (mut examples, found) = deval_examples::articles::examples(articles, arguments.seed, per_task);
    examples.retain(|example| tasks.contains(&example.task));
    findings.extend(found.into_iter().filter(|finding| finding.code != "articles.attribution"));
    let of_wikipedia = arguments.wikipedia.is_some();
    if tasks.contains(&Task::Attribution) {
        examples.extend(generate_set(arguments.seed, per_task, &[Task::Attribution]).examples);
    }
    let info = SetInfo {
        name: format!("articles-{}", arguments.seed),
        licence: of_wikipedia.then(|| WIKIPEDIA_LICENCE.to_owned()),
        seed: Some(arguments.seed),
        generator: Some("articles/1".to_owned()),
        contamination: if of_wikipedia { vec!["public".to_owned()] } else { Vec::new() },
        ..SetInfo::default()
    };
    ExampleSet::new(info, examples)
}

/// Each task once, in the validator's order; all of them when none is named.
fn wanted(tasks: &[Task]) -> Vec<Task> {
    Task::ALL.into_iter().filter(|task| tasks.is_empty() || tasks.contains(task)).collect()
}

fn import_files(arguments: &Import, ui: Ui) -> anyhow::Result<Verdict> {
    let (mut sets, mut findings) = (Vec::new(), Vec::new());
    for file in &arguments.files {
        let (set, found) = read(file, arguments.from)?;
        sets.push(set);
        findings.extend(found);
    }
    if findings.iter().any(Diagnostic::is_error) {
        return Err(Findings(findings).into());
    }
    let stem = arguments.out.file_stem().map_or_else(|| "examples".into(), |stem| stem.to_string_lossy());
    let single = sets.len() == 1;
    let mut set = match sets.pop() {
        Some(only) if single => only,
        last => {
            let (merged, found) = import::merge(sets.into_iter().chain(last).collect(), &stem);
            findings.extend(found);
            merged
        }
    };
    if arguments.per_task.is_some() || !arguments.tasks.is_empty() {
        let tasks = wanted(&arguments.tasks);
        let per_task = arguments.per_task.unwrap_or(usize::MAX);
        let (selected, found) = import::select(&set, &tasks, per_task, arguments.seed);
        findings.extend(found);
        set = selected;
    }
    let overrides = Overrides {
        name: arguments.name.clone(),
        licence: arguments.licence.clone(),
        contamination: arguments.tags.clone(),
    };
    let set = overrides.apply(set);
    findings.extend(write(&set, &arguments.out, arguments.upstream)?);
    let sections = vec![described(&set.info, &arguments.out)];
    Outcome { command: "examples-import", findings, result: set.info, sections }.tell(ui)
}

fn show_examples(file: &Path, id: Option<&str>, tasks: &[Task], limit: usize, ui: Ui) -> anyhow::Result<Verdict> {
    let (set, findings) = read(file, From::Auto)?;
    let wanted = set.examples.into_iter().filter(|example| id.is_none_or(|id| example.id == id));
    let wanted = wanted.filter(|example| tasks.is_empty() || tasks.contains(&example.task));
    let shown: Vec<_> = wanted.take(if id.is_some() { usize::MAX } else { limit }).collect();
    if let Some(id) = id.filter(|_| shown.is_empty()) {
        let finding = Diagnostic::error("examples.unknown-id", "the set has no example with this id");
        let finding = finding.in_file(file.to_string_lossy()).found(id);
        return Err(Findings::from(finding.help("`cargo xtask examples check` lists what is in a set")).into());
    }
    let sections = shown.iter().flat_map(show).collect();
    Outcome { command: "examples-show", findings, result: shown, sections }.tell(ui)
}

fn check(file: &Path, against: &[PathBuf], ui: Ui) -> anyhow::Result<Verdict> {
    let name = file.to_string_lossy();
    let (set, mut findings) = read(file, From::Auto)?;
    let seen = audit(&set, AuditOptions::default());
    findings.extend(audit::findings(&set.examples).into_iter().map(|found| in_set(&name, found)));
    let training = against.iter().map(|path| {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path.to_string_lossy().into_owned(), String::from_utf8_lossy(&bytes).into_owned()))
    });
    let training = training.collect::<anyhow::Result<Vec<_>>>()?;
    let texts = training.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let overlaps = overlap(&set, texts, SHINGLE_WORDS);
    findings.extend(overlap_findings(&overlaps).into_iter().map(|found| in_set(&name, found)));
    let mut sections = seen.sections();
    if !against.is_empty() {
        let row = format!("{} of {} examples share {SHINGLE_WORDS} words in a row", overlaps.len(), set.examples.len());
        sections.push(Section::new("Overlap with training text").row("overlap", row));
    }
    Outcome { command: "examples-check", findings, result: seen, sections }.tell(ui)
}

/// A finding about one example of a file.
fn in_set(file: &str, (id, finding): (&str, Diagnostic)) -> Diagnostic {
    let found = finding.found.as_deref().map_or_else(|| id.to_owned(), |found| format!("{id}: {found}"));
    finding.in_file(file).found(found)
}

fn read(file: &Path, from: From) -> anyhow::Result<(ExampleSet, Vec<Diagnostic>)> {
    let text = text_of(file)?;
    let format = match from {
        From::Auto => Format::Auto,
        From::Csv => Format::Csv,
        From::Jsonl => Format::Jsonl,
    };
    Ok(import::read(&file.to_string_lossy(), &text, format))
}

/// A file's text.
///
/// # Errors
/// [`Findings`] for bytes that are no UTF-8; a file that cannot be read.
pub(crate) fn text_of(file: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        let finding = Diagnostic::error("text.not-utf8", "this is no UTF-8 text");
        let finding = finding.at(file.to_string_lossy(), u32::try_from(line).unwrap_or(u32::MAX), 1);
        Findings::from(
            finding.found(format!("byte {at} does not belong to a character")).help("write the file as UTF-8"),
        )
        .into()
    })
}

/// Writes the set; what the format does not hold is told.
fn write(set: &ExampleSet, out: &Path, upstream: bool) -> anyhow::Result<Vec<Diagnostic>> {
    if set.examples.is_empty() {
        let finding =
            Diagnostic::error("examples.none", "the set would have no examples").in_file(out.to_string_lossy());
        return Err(Findings::from(finding.help("nothing is written; look at the input and at the selection")).into());
    }
    let is_csv = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    if upstream && !is_csv {
        bail!("upstream's seven columns are CSV: name {} with the extension `.csv`", out.display());
    }
    let (text, lost) = match is_csv {
        true => (export::csv(set, upstream), export::lost(set, upstream)),
        false => (set.write(), Vec::new()),
    };
    write_atomically(&std::path::absolute(out)?, text.as_bytes())?;
    Ok(lost)
}

fn described(info: &SetInfo, out: &Path) -> Section {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let section = Section::new("Example set")
        .row("written to", out.display())
        .row("name", &info.name)
        .row("digest", &info.digest)
        .row("examples", info.examples)
        .row("licence", text(&info.licence))
        .row("made by", text(&info.generator));
    match info.contamination.as_slice() {
        [] => section,
        tags => section.row("contamination", tags.join(", ")),
    }
}
