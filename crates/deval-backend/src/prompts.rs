//! The miner's prompts, read from the pipeline's source without running it, or from a file with their texts.

mod source;
mod template;

use std::collections::BTreeMap;
use std::path::Path;

use deval_eval::{Request, Task};
use deval_manifest::{Fill, PromptKey, Prompts as Settings};
use deval_report::Diagnostic;

use source::{Module, Value};
use template::{Field, Template};

/// Code of what is found.
const CODE: &str = "evaluate.prompts";

/// System prompt and templates.
#[derive(Debug, Clone)]
pub struct Prompts {
    system: Option<String>,
    templates: BTreeMap<PromptKey, Template>,
    origin: String,
}

/// Files that prompts are read from; the names are those that findings show.
#[derive(Debug, Clone, Copy)]
pub struct PromptFiles<'a> {
    /// Folder of the pipeline.
    pub pipeline: &'a Path,
    /// Its name in the manifest.
    pub pipeline_label: &'a str,
    /// Folder of the manifest, which `evaluate.prompts.file` is relative to.
    pub root: &'a Path,
}

/// Prompts without which two of the tasks can be asked all the same: a claim is then judged by the mistakes prompt.
const OPTIONAL: [PromptKey; 2] = [PromptKey::HallucinationClaim, PromptKey::AttributionClaim];

impl Prompts {
    /// Reads the prompts as the manifest says.
    ///
    /// # Errors
    /// Everything that is wrong with them: files that cannot be read, prompts that are absent, computed, or not to be filled.
    pub fn load(settings: &Settings, files: PromptFiles<'_>) -> Result<Self, Vec<Diagnostic>> {
        match &settings.file {
            Some(file) => Self::of_file(settings, &files.root.join(file), file),
            None => Self::of_source(settings, files),
        }
    }

    fn of_source(settings: &Settings, files: PromptFiles<'_>) -> Result<Self, Vec<Diagnostic>> {
        let label = |name: &str| format!("{}/{name}", files.pipeline_label.trim_end_matches('/'));
        let text =
            read(&files.pipeline.join(&settings.source), &label(&settings.source)).map_err(|fault| vec![fault])?;
        if text.contains("__pyarmor__") {
            return Err(vec![obfuscated(&label(&settings.source))]);
        }
        let other = |module: &str| std::fs::read_to_string(files.pipeline.join(format!("{module}.py"))).ok();
        let module = Module::read(&text, &other).map_err(|(line, message)| {
            vec![Diagnostic::error(CODE, format!("the prompts cannot be read: {message}")).at(
                label(&settings.source),
                line,
                1,
            )]
        })?;
        // What the reference pipeline keeps there. A source that does not parse is found by `validate`.
        let pipeline = other("pipeline").and_then(|text| Module::read(&text, &other).ok());
        let formats = |module: Option<&Module>| module.is_some_and(|module| module.formats);
        let by_source = if formats(Some(&module)) || formats(pipeline.as_ref()) { Fill::Format } else { Fill::Fields };
        let mut reader = Reader::new(settings, settings.fill.unwrap_or(by_source));
        for key in PromptKey::ALL {
            reader.constant(key, &module, pipeline.as_ref(), &label);
        }
        reader.finish(format!("constants of {}", settings.source))
    }

    /// A table with the texts, for sources that only Python can read.
    fn of_file(settings: &Settings, path: &Path, label: &str) -> Result<Self, Vec<Diagnostic>> {
        let text = read(path, label).map_err(|fault| vec![fault])?;
        let texts: BTreeMap<PromptKey, String> = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let finding = Diagnostic::error(CODE, error.message().to_owned()).at(
                label,
                u32::try_from(line).unwrap_or(u32::MAX),
                1,
            );
            vec![
                finding
                    .expected("one text for each prompt: system, relevancy, hallucination, hallucination_mistakes, …"),
            ]
        })?;
        let mut reader = Reader::new(settings, settings.fill.unwrap_or(Fill::Fields));
        for key in PromptKey::ALL {
            match texts.get(&key) {
                Some(text) => reader.add(key, text.clone(), |finding| finding.in_file(label)),
                None if reader.can_lack(key) => {}
                None => reader.faults.push(
                    Diagnostic::error(CODE, format!("there is no `{}`", key.name()))
                        .in_file(label)
                        .help("add its text"),
                ),
            }
        }
        reader.finish(format!("texts of {label}; that the pipeline asks the same was not checked"))
    }

    /// Where the prompts were read.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The system prompt, if the model is given one.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// The user prompt that asks for the score.
    pub fn score(&self, request: &Request) -> String {
        let key = match request.task {
            Task::Relevancy => PromptKey::Relevancy,
            Task::Hallucination => PromptKey::Hallucination,
            Task::SummaryCompleteness => PromptKey::SummaryCompleteness,
            Task::Attribution => PromptKey::Attribution,
        };
        self.filled(key, request, "").expect("prompts are complete once loaded")
    }

    /// The user prompt that asks for the mistakes; relevancy has none.
    pub fn mistakes(&self, request: &Request) -> Option<String> {
        let key = match request.task {
            Task::Relevancy => return None,
            Task::Hallucination => PromptKey::HallucinationMistakes,
            Task::SummaryCompleteness => PromptKey::SummaryCompletenessMistakes,
            Task::Attribution => PromptKey::AttributionMistakes,
        };
        self.filled(key, request, "")
    }

    /// The user prompt that asks whether one claim of the response holds; only for the tasks that have claims, and where the miner has such
    /// a prompt.
    pub fn claim(&self, request: &Request, claim: &str) -> Option<String> {
        let key = match request.task {
            Task::Relevancy | Task::SummaryCompleteness => return None,
            Task::Hallucination => PromptKey::HallucinationClaim,
            Task::Attribution => PromptKey::AttributionClaim,
        };
        self.filled(key, request, claim)
    }

    fn filled(&self, key: PromptKey, request: &Request, claim: &str) -> Option<String> {
        let template = self.templates.get(&key)?;
        Some(template.fill(|field| match field {
            Field::RagContext => &request.rag_context,
            Field::Query => &request.query,
            Field::LlmResponse => &request.llm_response,
            Field::Claim => claim,
        }))
    }
}

/// Constants that a prompt goes by: in the pipeline of this repository, then in the reference pipeline.
fn usual_names(key: PromptKey) -> Vec<String> {
    let constant = key.name().to_uppercase();
    match key {
        PromptKey::SummaryCompletenessMistakes => {
            vec![format!("{constant}_PROMPT"), "SUMMARY_MISTAKES_PROMPT".to_owned()]
        }
        _ => vec![format!("{constant}_PROMPT")],
    }
}

/// What the reference pipeline calls its system prompt.
const SYSTEM_ATTRIBUTE: &str = "system_prompt";

struct Reader<'a> {
    settings: &'a Settings,
    fill: Fill,
    system: Option<String>,
    templates: BTreeMap<PromptKey, Template>,
    faults: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn new(settings: &'a Settings, fill: Fill) -> Self {
        Self { settings, fill, system: None, templates: BTreeMap::new(), faults: Vec::new() }
    }

    fn can_lack(&self, key: PromptKey) -> bool {
        (OPTIONAL.contains(&key) && !self.settings.names.contains_key(&key))
            || (key == PromptKey::System && self.settings.system.is_some())
    }

    fn constant(&mut self, key: PromptKey, module: &Module, pipeline: Option<&Module>, label: &dyn Fn(&str) -> String) {
        if key == PromptKey::System && self.settings.system.is_some() {
            return;
        }
        let names = self.settings.names.get(&key).map_or_else(|| usual_names(key), |name| vec![name.clone()]);
        let own = names.iter().find_map(|name| Some((name.as_str(), module.get(name)?, self.settings.source.as_str())));
        let attribute = || Some((SYSTEM_ATTRIBUTE, pipeline?.attribute(SYSTEM_ATTRIBUTE)?, "pipeline.py"));
        let found = own.or_else(|| (key == PromptKey::System).then(attribute).flatten());
        let name = names.join("` or `");
        match found {
            Some((_, Value::Text(text), file)) => self.add(key, text.clone(), |finding| finding.in_file(label(file))),
            _ if self.can_lack(key) && !matches!(found, Some((_, Value::Unknown(_), _))) => {}
            Some((name, Value::Unknown(unknown), file)) => {
                let fault = Diagnostic::error(
                    CODE,
                    format!("`{name}` cannot be told without running the source: {}", unknown.why),
                );
                self.faults
                    .push(fault.at(label(unknown.file.as_deref().unwrap_or(file)), unknown.line, 1).help(AS_FILE));
            }
            Some((name, Value::Table(_), file)) => {
                let fault = Diagnostic::error(CODE, format!("`{name}` is a table and not a text")).in_file(label(file));
                self.faults.push(fault.help(format!("name the entry, `names = {{ {} = \"{name}.…\" }}`", key.name())));
            }
            None => {
                let fault = Diagnostic::error(CODE, format!("there is no string constant `{name}`"));
                let help = format!(
                    "name it in deval.toml: [evaluate.prompts] names = {{ {} = \"…\" }}; or {AS_FILE}",
                    key.name()
                );
                self.faults.push(fault.in_file(label(&self.settings.source)).help(help));
            }
        }
    }

    fn add(&mut self, key: PromptKey, text: String, place: impl Fn(Diagnostic) -> Diagnostic) {
        if key == PromptKey::System {
            self.system = Some(text);
            return;
        }
        match Template::parse(&text, self.fill) {
            Ok(template) if template.asks(Field::Claim) && !OPTIONAL.contains(&key) => {
                let fault = Diagnostic::error(CODE, format!("the prompt `{}` asks for a claim", key.name()));
                let fault = fault.found("a field {claim}").expected("{claim} in prompts that judge one claim only");
                self.faults.push(place(fault.help("take {llm_response}")));
            }
            Ok(template) if !template.asks(Field::LlmResponse) && !template.asks(Field::Claim) => {
                let fault = Diagnostic::error(CODE, format!("the prompt `{}` does not show the response", key.name()));
                self.faults.push(place(fault.expected("a field {llm_response}")));
            }
            Ok(template) => {
                self.templates.insert(key, template);
            }
            Err(why) => {
                let fault =
                    Diagnostic::error(CODE, format!("`str.format` fails on the prompt `{}`", key.name())).found(why);
                let fault =
                    fault.expected("the fields {rag_context}, {query} and {llm_response}, other braces doubled");
                let help =
                    "mend it; or, where the pipeline fills it by `replace`: [evaluate.prompts] fill = \"fields\"";
                self.faults.push(place(fault.help(help)));
            }
        }
    }

    fn finish(self, origin: String) -> Result<Prompts, Vec<Diagnostic>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let told = self.settings.system.clone().or(self.system);
        Ok(Prompts { system: told.filter(|system| !system.is_empty()), templates: self.templates, origin })
    }
}

const AS_FILE: &str = "write the texts into a TOML file and name it: [evaluate.prompts] file = \"prompts.toml\"";

fn read(path: &Path, label: &str) -> Result<String, Diagnostic> {
    std::fs::read_to_string(path).map_err(|error| {
        let finding = Diagnostic::error(CODE, format!("the prompts cannot be read: {error}")).in_file(label);
        finding.help(AS_FILE)
    })
}

fn obfuscated(label: &str) -> Diagnostic {
    Diagnostic::error(CODE, "the source of the prompts is obfuscated by PyArmor").in_file(label).help(AS_FILE)
}

#[cfg(test)]
mod tests;
