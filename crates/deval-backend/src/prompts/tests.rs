use std::fs;

use super::*;

/// The reference pipeline keeps the same names but one, fills with `str.format`, and has its system prompt elsewhere.
const REFERENCE: [(&str, &str); 2] = [
    (
        "prompts.py",
        "RELEVANCY_PROMPT = \"\"\"\\\nQuery {query}\nResponse {llm_response} {{0}}\n\"\"\"\n\
         HALLUCINATION_PROMPT = 'H {rag_context} {llm_response}'\nHALLUCINATION_MISTAKES_PROMPT = 'HM {rag_context} {llm_response}'\n\
         ATTRIBUTION_PROMPT = 'A {rag_context} {llm_response}'\nATTRIBUTION_MISTAKES_PROMPT = 'AM {rag_context} {llm_response}'\n\
         SUMMARY_COMPLETENESS_PROMPT = 'S {rag_context} {llm_response}'\nSUMMARY_MISTAKES_PROMPT = 'SM {rag_context} {llm_response}'\n",
    ),
    (
        "pipeline.py",
        "from .prompts import *\nclass DeValPipeline(Pipeline):\n    def __init__(self, **kwargs):\n        \
         self.system_prompt = 'You are an evaluation LLM.'\n    def preprocess(self, p, r):\n        \
         return p.format(rag_context=r, query=r, llm_response=r)\n",
    ),
];

fn load(files: &[(&str, &str)], settings: &Settings) -> Result<Prompts, Vec<Diagnostic>> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    Prompts::load(settings, PromptFiles { pipeline: dir.path(), pipeline_label: "pipeline/model/", root: dir.path() })
}

fn request(task: Task) -> Request {
    Request { task, rag_context: "ctx {query}".into(), query: "q".into(), llm_response: "The answer.".into() }
}

fn told(faults: Vec<Diagnostic>) -> Vec<String> {
    let place = |fault: &Diagnostic| fault.place.as_ref().map(|place| format!("{}:{:?}", place.file, place.line));
    faults.iter().map(|fault| format!("{} {}", place(fault).unwrap_or_default(), fault.message)).collect()
}

#[test]
fn the_reference_pipelines_sources_are_read_as_they_are() {
    let prompts = load(&REFERENCE, &Settings::default()).unwrap();
    assert_eq!(prompts.system(), Some("You are an evaluation LLM."));
    assert_eq!(prompts.score(&request(Task::Relevancy)), "Query q\nResponse The answer. {0}\n");
    assert_eq!(prompts.mistakes(&request(Task::SummaryCompleteness)).unwrap(), "SM ctx {query} The answer.");
    assert_eq!(prompts.mistakes(&request(Task::Relevancy)), None);
    assert_eq!(prompts.claim(&request(Task::Hallucination), "c"), None);
    assert_eq!(prompts.origin(), "constants of prompts.py");
}

#[test]
fn the_shipped_prompts_can_be_read() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipeline/model"));
    let files = PromptFiles { pipeline: dir, pipeline_label: "pipeline/model", root: dir };
    let prompts = Prompts::load(&Settings::default(), files).unwrap();
    let asked = prompts.score(&request(Task::Hallucination));
    assert!(asked.contains("ctx {query}") && asked.contains("The answer."), "{asked}");
    assert!(prompts.claim(&request(Task::Attribution), "One claim.").unwrap().contains("One claim."));
}

#[test]
fn names_and_system_prompt_can_be_told() {
    let texts = REFERENCE[0]
        .1
        .replace("SUMMARY_MISTAKES_PROMPT", "P = {'missing'")
        .replace("SM {rag_context} {llm_response}'", "");
    let texts = texts.replace("P = {'missing' = '", "P = {'missing': 'Missing: {llm_response}'}");
    let mut settings = Settings { system: Some(String::new()), ..Settings::default() };
    settings.names.insert(PromptKey::SummaryCompletenessMistakes, "P.missing".into());
    let prompts = load(&[("prompts.py", &texts), REFERENCE[1]], &settings).unwrap();
    assert_eq!(prompts.system(), None);
    assert_eq!(prompts.mistakes(&request(Task::SummaryCompleteness)).unwrap(), "Missing: The answer.");
}

#[test]
fn everything_that_cannot_be_told_is_found_at_once_with_its_place() {
    let texts = REFERENCE[0].1.replace("'H {rag_context} {llm_response}'", "f'H {x}'");
    let texts = texts.replace("'A {rag_context} {llm_response}'", "'A {context} {llm_response}'");
    let texts =
        texts.replace("ATTRIBUTION_MISTAKES_PROMPT", "OTHER").replace("'S {rag_context} {llm_response}'", "'S'");
    let faults = told(load(&[("prompts.py", &texts), REFERENCE[1]], &Settings::default()).unwrap_err());
    let expected = [
        (
            "pipeline/model/prompts.py:Some(5) ",
            "`HALLUCINATION_PROMPT` cannot be told without running the source: it is an f-string",
        ),
        ("pipeline/model/prompts.py:None ", "the prompt `summary_completeness` does not show the response"),
        ("pipeline/model/prompts.py:None ", "`str.format` fails on the prompt `attribution`"),
        ("pipeline/model/prompts.py:None ", "there is no string constant `ATTRIBUTION_MISTAKES_PROMPT`"),
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, (place, message)) in faults.iter().zip(expected) {
        assert!(fault.starts_with(place) && fault.contains(message), "{fault}");
    }
}

#[test]
fn a_source_that_cannot_be_read_asks_for_a_file_of_texts() {
    for (source, words) in [
        (
            "from pyarmor_runtime_000000 import __pyarmor__\n__pyarmor__(__name__, __file__, b'')",
            "obfuscated by PyArmor",
        ),
        ("X = (", "cannot be read"),
    ] {
        let faults = load(&[("prompts.py", source)], &Settings::default()).unwrap_err();
        assert!(faults.len() == 1 && faults[0].message.contains(words), "{faults:?}");
    }
    assert!(load(&[], &Settings::default()).unwrap_err()[0].help.as_ref().unwrap().contains("file ="));

    let keys = PromptKey::ALL.iter().filter(|key| !OPTIONAL.contains(key));
    let texts: String =
        keys.map(|key| format!("{} = '''{} {{llm_response}} {{x}}'''\n", key.name(), key.name())).collect();
    let settings = Settings { file: Some("texts.toml".into()), ..Settings::default() };
    let prompts = load(&[("texts.toml", &texts)], &settings).unwrap();
    assert_eq!(prompts.score(&request(Task::Attribution)), "attribution The answer. {x}");
    assert!(prompts.origin().contains("texts.toml"));
    let short = texts.replace("attribution_mistakes", "attribution_misstakes");
    assert!(told(load(&[("texts.toml", &short)], &settings).unwrap_err())[0].contains("unknown"));
    let short = texts.lines().filter(|line| !line.starts_with("system")).collect::<Vec<_>>().join("\n");
    assert!(told(load(&[("texts.toml", &short)], &settings).unwrap_err())[0].contains("there is no `system`"));
}
