//! The native backend asks what the Python pipeline asks, token for token; the pipeline runs with a model that answers nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use deval_eval::{Request, Task};
use deval_llama::Engine;
use deval_llama::testing::{TinyDtype, TinyLlama, write_tiny_llama};
use deval_manifest::Prompts as Settings;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{PromptFiles, Prompts};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// `None` with a message when the environment is not there; a panic when `DEVAL_TEST_REQUIRE` names `python`.
fn python() -> Option<PathBuf> {
    let python = repository().join("target/deval/python/bin/python");
    let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|name| name.trim() == "python");
    assert!(python.exists() || !is_required, "DEVAL_TEST_REQUIRE names python, but {} is not there", python.display());
    if !python.exists() {
        println!("skipped: no environment in target/deval/python; make it with `ci/python-env.sh target/deval/python`");
    }
    python.exists().then_some(python)
}

/// A pipeline that works as the reference pipeline does (upstream `neurons/miners/model/pipeline.py`): constants filled by `str.format`, the
/// system prompt in the class, two calls of `generate`.
const PIPELINE: &str = r#"
from transformers import AutoModelForCausalLM, AutoTokenizer, Pipeline

from . import prompts

class DeValPipeline(Pipeline):
    def __init__(self, task=None, model_dir=None, **kwargs):
        self.system_prompt = "You judge {texts}."
        tokenizer = AutoTokenizer.from_pretrained(model_dir)
        super().__init__(model=AutoModelForCausalLM.from_pretrained(model_dir), tokenizer=tokenizer, **kwargs)

    def _sanitize_parameters(self, **kwargs):
        return kwargs, {}, {}

    def preprocess(self, inputs, tasks, rag_context, query, llm_response):
        name = tasks[0].upper()
        mistakes = {"RELEVANCY": None, "SUMMARY_COMPLETENESS": prompts.SUMMARY_MISTAKES_PROMPT}
        templates = [getattr(prompts, f"{name}_PROMPT")]
        templates.append(mistakes[name] if name in mistakes else getattr(prompts, f"{name}_MISTAKES_PROMPT"))
        texts = [t.format(rag_context=rag_context, query=query, llm_response=llm_response) for t in templates if t]
        return {"ids": [self.ids(text) for text in texts]}

    def ids(self, prompt):
        turns = [{"role": "system", "content": self.system_prompt}, {"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")

    def _forward(self, inputs):
        return {"outputs": [self.model.generate(input_ids=ids, max_new_tokens=4) for ids in inputs["ids"]]}

    def postprocess(self, outputs):
        return {"score_completion": -1.0, "mistakes_completion": []}
"#;

const TEXTS: &str = r##"
import textwrap

HEAD = """\
Judge what follows.\
    Mind the {{braces}}.
"""
RELEVANCY_PROMPT = HEAD + "# Query\n{query}\n# Response\n{llm_response}\n"
HALLUCINATION_PROMPT = HEAD + "# Context\n{rag_context}\n" "# Response\n{llm_response}\n"
HALLUCINATION_MISTAKES_PROMPT = textwrap.dedent("""
    # Context
      {rag_context}

    # Response
    {llm_response!s}
""")
ATTRIBUTION_PROMPT = "\n".join(["# Context", "{rag_context}", "{llm_response}"])
ATTRIBUTION_MISTAKES_PROMPT = ATTRIBUTION_PROMPT.replace("Context", "Talk").strip()
SUMMARY_COMPLETENESS_PROMPT = "=" * 8 + "{rag_context}{llm_response}"
SUMMARY_MISTAKES_PROMPT = 'Ünïcödé \u00df \N{EM DASH} {rag_context} {llm_response}'
"##;

fn questions() -> Vec<Request> {
    let contexts = ["Ana booked {the} room.\n\tBen paid 3 bills.", "  Zoë said: \"{{no}}\" 🙂 {query} \\n  "];
    let with = |task, context: &&str| Request {
        task,
        rag_context: (*context).into(),
        query: "Who paid? {llm_response}".into(),
        llm_response: "Ana paid 3 bills. {rag_context} %s {0}".into(),
    };
    Task::ALL.into_iter().flat_map(|task| contexts.iter().map(move |context| with(task, context))).collect()
}

/// The prompts of each question, as the engine sees them.
fn asked_natively(engine: &Engine, prompts: &Prompts) -> Vec<Vec<Vec<u32>>> {
    let tokens = |user: String| engine.encode(engine.chat_prompt(prompts.system(), &user).unwrap()).unwrap();
    let asked = |request: &Request| {
        [Some(prompts.score(request)), prompts.mistakes(request)].into_iter().flatten().map(tokens).collect()
    };
    questions().iter().map(asked).collect()
}

/// What a script of `tests/python` makes of a request.
fn in_python<T: DeserializeOwned>(python: &Path, script: &str, request: &Value) -> T {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.json"), dir.path().join("out.json"));
    fs::write(&input, request.to_string()).unwrap();
    let script = repository().join("tests/python").join(script);
    let ran =
        Command::new(python).arg(script).args([&input, &output]).env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&fs::read(output).unwrap()).unwrap()
}

fn asked_in_python(python: &Path, folder: &Path, model: &Path) -> Vec<Vec<Vec<u32>>> {
    let question = |request: &Request| {
        let Request { task, rag_context, query, llm_response } = request;
        json!({"task": task.name(), "rag_context": rag_context, "query": query, "llm_response": llm_response})
    };
    let questions: Vec<_> = questions().iter().map(question).collect();
    in_python(python, "asked.py", &json!({"folder": folder, "model": model, "questions": questions}))
}

#[test]
fn both_lanes_ask_the_same() {
    let Some(python) = python() else { return };
    let root = tempfile::tempdir().unwrap();
    let model = root.path().join("weights");
    write_tiny_llama(&model, &TinyLlama { context: 8192, ..TinyLlama::default() }).unwrap();
    fs::write(model.join("deval_pipeline.json"), json!({"reading": "generate", "deadline_seconds": 0}).to_string())
        .unwrap();
    let reference = root.path().join("reference");
    fs::create_dir(&reference).unwrap();
    fs::write(reference.join("pipeline.py"), PIPELINE).unwrap();
    fs::write(reference.join("prompts.py"), TEXTS).unwrap();
    let engine = Engine::load(&model).unwrap();
    for folder in [reference, repository().join("pipeline/model")] {
        let files = PromptFiles { pipeline: &folder, pipeline_label: "pipeline", root: root.path() };
        let prompts = Prompts::load(&Settings::default(), files).unwrap();
        let expected = asked_in_python(&python, &folder, &model);
        assert_eq!(
            expected.iter().map(Vec::len).sum::<usize>(),
            14,
            "two questions of each task, of relevancy the score alone"
        );
        assert!(asked_natively(&engine, &prompts) == expected, "{}", folder.display());
    }
}

/// Prefixes that end and texts that begin in the middle of what would be one token.
#[test]
fn both_lanes_find_texts_equally_likely() {
    let Some(python) = python() else { return };
    let root = tempfile::tempdir().unwrap();
    let tiny = root.path().join("tiny");
    write_tiny_llama(&tiny, &TinyLlama { dtype: TinyDtype::F32, context: 8192, ..TinyLlama::default() }).unwrap();
    fs::write(tiny.join("deval_pipeline.json"), json!({"reading": "likelihood", "deadline_seconds": 0}).to_string())
        .unwrap();
    let demo = repository().join("target/deval/demo/model");
    let texts = ["the list", "\n- Ana paid", "he", " 3 bills.", "Zoë said \"no\" 🙂"];
    let prefixes = ["The list is on t", "Ana booked the room.\n\n", "\n\n", "Answer:"];
    let readings: Vec<_> = prefixes.map(|prefix| json!({"prefix": prefix, "texts": texts})).to_vec();
    for model in [tiny, demo].iter().filter(|model| model.join("model.safetensors").exists()) {
        let request = json!({"folder": repository().join("pipeline/model"), "model": model, "readings": readings});
        let theirs: Vec<Vec<f64>> = in_python(&python, "likelihoods.py", &request);
        let mut engine = Engine::load(model).unwrap();
        for (prefix, theirs) in prefixes.iter().zip(theirs) {
            let ours = engine.likelihoods(*prefix, &texts).unwrap();
            for ((text, ours), theirs) in texts.iter().zip(ours).zip(theirs) {
                let ours = ours.mean();
                assert!((ours - theirs).abs() < 1e-3, "{prefix:?} {text:?}: {ours} {theirs}");
            }
        }
    }
}
