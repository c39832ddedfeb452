//! The tiny models of `deval_model::tiny`, in the built-in engine and in the validator's transformers.

use std::{collections::BTreeSet, path::Path, process::Command};

use deval_llama::{Engine, GenerateOptions, Sampling, StopReason};
use deval_model::tiny::{self, CHAIN_ANSWER, CONTEXT, Kind};

use crate::clients::python;

const QUESTIONS: [&str; 8] = [
    "Is the Danube long?",
    "Is the Danube short?",
    "Does a horse have four legs, or does it have five? Say what you think, and say why you think so.",
    "naïve 🐍 {x} \n\n{y}",
    "",
    "The bridge was opened in 1894 by the king of the country in which it stands.",
    "0.75",
    "Summarise: one two three four five six seven eight nine ten eleven twelve thirteen fourteen.",
];

fn written(kind: Kind) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    tiny::write(dir.path(), kind).expect("a tiny model");
    dir
}

fn answers(dir: &Path, sampling: &Sampling) -> Vec<(String, StopReason)> {
    let mut engine = Engine::load(dir).expect("a model");
    assert_eq!(engine.info().context, CONTEXT);
    let options = GenerateOptions { max_new_tokens: 60, sampling: *sampling, extra_stop_tokens: Vec::new() };
    let asked = QUESTIONS.map(|question| {
        let prompt = engine.chat_prompt(Some("You judge."), question).expect("a template");
        let answer = engine.generate(prompt, &options).expect("an answer");
        (answer.text, answer.stop)
    });
    asked.to_vec()
}

#[test]
fn the_chain_says_one_thing_greedy_or_sampled() {
    let dir = written(Kind::Chain);
    for sampling in [Sampling::Greedy, Sampling::Sample { temperature: 1.0, top_k: None, top_p: 1.0, seed: 3 }] {
        let expected = (CHAIN_ANSWER.to_owned(), StopReason::EndToken);
        assert_eq!(answers(dir.path(), &sampling), vec![expected; QUESTIONS.len()]);
    }
}

#[test]
fn the_random_ones_answers_differ_with_the_question() {
    let said = answers(written(Kind::Random { seed: 1 }).path(), &Sampling::Greedy);
    assert!(said.iter().all(|(text, _)| text.starts_with("Response: ")), "{said:?}");
    let distinct: BTreeSet<_> = said.iter().map(|(text, _)| text).collect();
    assert!(distinct.len() >= 4, "{said:?}");
}

/// Prints for each model directory what transformers answers to the questions, then the end of an answer at the very last positions.
const SCRIPT: &str = "
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
questions, dirs = json.loads(sys.argv[1]), sys.argv[2:]
said = []
for dir in dirs:
    tokenizer, model = AutoTokenizer.from_pretrained(dir), AutoModelForCausalLM.from_pretrained(dir, torch_dtype=torch.float32)
    def answer(ids, count, **more):
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, **more)
        return tokenizer.decode(out[0][ids.shape[1]:], skip_special_tokens=True)
    for question in questions:
        turns = [{'role': 'system', 'content': 'You judge.'}, {'role': 'user', 'content': question}]
        said.append(answer(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors='pt'), 60))
    full = torch.full((1, 8190), 65)
    full[0, -1] = 10
    said.append(answer(full, 2, do_sample=True))
print(json.dumps(said))
";

#[test]
fn transformers_says_the_same_as_the_engine_up_to_the_last_position() {
    let Some(python) = python() else { return };
    let kinds = [Kind::Chain, Kind::Random { seed: 1 }, Kind::Random { seed: 2 }];
    let dirs = kinds.map(written);
    let questions = serde_json::to_string(&QUESTIONS).expect("texts");
    let output = Command::new(python)
        .args(["-c", SCRIPT, &questions])
        .args(dirs.iter().map(tempfile::TempDir::path))
        .env("OMP_NUM_THREADS", "1")
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Vec<String> = serde_json::from_slice(&output.stdout).expect("JSON");
    for (dir, said) in dirs.iter().zip(said.chunks(QUESTIONS.len() + 1)) {
        let expected: Vec<_> = answers(dir.path(), &Sampling::Greedy).into_iter().map(|(text, _)| text).collect();
        assert_eq!(said[..QUESTIONS.len()], expected);
        assert!(said[QUESTIONS.len()].starts_with("Response: "), "{said:?}");
    }
    assert_eq!(said[QUESTIONS.len()], CHAIN_ANSWER);
}
