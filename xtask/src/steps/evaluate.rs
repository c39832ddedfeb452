//! `evaluate`: what the submission earns on examples, with an honest interval.

pub(crate) mod view;

use std::fs;

use anyhow::Context as _;
use deval_backend::{Native, NativeOptions, Prompts};
use deval_eval::{Embed, Evaluation, ExampleSet, SetInfo, Task, evaluate};
use deval_examples::generate;
use deval_llama::{Embedder, Engine};
use deval_manifest::Backend;
use deval_report::{Diagnostic, Inputs, Section, Step};

use super::{Outcome, Pure};
use crate::{context::Context, findings::Findings, ui::Unit};

/// The step.
pub(crate) struct Evaluate;

impl Pure for Evaluate {
    const STEP: Step = Step::Evaluate;
    type Output = Evaluation;

    fn inputs(context: &Context) -> anyhow::Result<Inputs> {
        let settings = &context.manifest.evaluate;
        let mut inputs = Inputs::default();
        inputs.add("evaluate.backend", format!("{:?}", settings.backend).to_lowercase());
        inputs.add("evaluate.reading", settings.reading.name());
        inputs.add("evaluate.seed", settings.seed);
        inputs.add("evaluate.max_new_tokens", settings.max_new_tokens);
        inputs.add("evaluate.examples", example_set(context)?.info.digest);
        inputs.add("evaluate.engine", env!("CARGO_PKG_VERSION"));
        if let Some(dir) = &settings.embedder_dir {
            let weights = deval_model::digest_weights(
                &context.path(dir),
                Some(&context.out("cache/embedder.json")),
                &mut |_, _| (),
            );
            inputs.add("evaluate.embedder", weights.map(|weights| weights.model_hash).unwrap_or_default());
        }
        Ok(inputs)
    }

    fn run(context: &Context) -> anyhow::Result<Outcome<Evaluation>> {
        let set = example_set(context)?;
        needs_encoder(context, &set)?;
        let spinner = context.ui.spinner("loading the model");
        let mut backend = backend(context)?;
        let embedder = embedder(context)?;
        spinner.finish_and_clear();
        let bar = context.ui.bar("evaluating", set.examples.len() as u64, Unit::Items);
        let evaluation = evaluate(&mut backend, &set, &embedder, &mut |done, _| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        let timing = serde_json::to_value(&evaluation.timing).context("timing is plain data")?;
        Ok(Outcome { diagnostics: Vec::new(), result: Some(evaluation), timing })
    }

    fn sections(evaluation: &Evaluation) -> Vec<Section> {
        view::sections(evaluation)
    }
}

/// The examples that are asked: the manifest's file, else generated ones.
fn example_set(context: &Context) -> anyhow::Result<ExampleSet> {
    let settings = &context.manifest.evaluate;
    let Some(file) = &settings.examples else {
        let info = SetInfo { name: "offline".to_owned(), seed: Some(settings.seed), ..SetInfo::default() };
        return Ok(ExampleSet::new(info, generate(settings.seed, settings.examples_per_task as usize)));
    };
    let path = context.path(file);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read the examples {}", path.display()))?;
    let (set, diagnostics) = ExampleSet::read(file, &text);
    if diagnostics.iter().any(Diagnostic::is_error) { Err(Findings(diagnostics).into()) } else { Ok(set) }
}

/// Asks for a sentence encoder before the first question, not at the first summary.
fn needs_encoder(context: &Context, set: &ExampleSet) -> Result<(), Findings> {
    let summaries = set.examples.iter().filter(|example| example.task == Task::SummaryCompleteness).count();
    if summaries == 0 || context.manifest.evaluate.embedder_dir.is_some() {
        return Ok(());
    }
    let finding = Diagnostic::error("evaluate.embedder", "the relevance reward needs a sentence encoder")
        .found(format!("{summaries} examples of summary_completeness and no `evaluate.embedder_dir`"))
        .expected("the folder of a BERT-type model; validators use WhereIsAI/UAE-Large-V1")
        .help("set `embedder_dir` in the [evaluate] table; `cargo xtask demo` unpacks all-MiniLM-L6-v2 for a first estimate");
    Err(context.place(finding, "evaluate").into())
}

fn backend(context: &Context) -> anyhow::Result<Native> {
    let settings = &context.manifest.evaluate;
    match settings.backend {
        Backend::Native => {
            let path = context.pipeline_dir().join("prompts.py");
            let source = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let options = NativeOptions {
                reading: settings.reading,
                max_new_tokens: settings.max_new_tokens as usize,
                seed: settings.seed,
                model: context.manifest.submission.model_url.clone(),
            };
            Ok(Native::new(Engine::load(&context.model_dir())?, Prompts::parse(&source)?, options))
        }
    }
}

/// The sentence encoder of the relevance reward.
struct SentenceEncoder(Option<Embedder>);

fn embedder(context: &Context) -> anyhow::Result<SentenceEncoder> {
    let dir = context.manifest.evaluate.embedder_dir.as_ref().map(|dir| context.path(dir));
    Ok(SentenceEncoder(dir.map(|dir| Embedder::load(&dir)).transpose()?))
}

impl Embed for SentenceEncoder {
    fn embed(&self, text: &str) -> Result<Vec<f32>, String> {
        let encoder = self.0.as_ref().ok_or("no sentence encoder is configured")?;
        encoder.embed(text).map_err(|error| error.to_string())
    }

    fn name(&self) -> &str {
        self.0.as_ref().map_or("none", Embedder::name)
    }
}
