//! Logits and greedy answers.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{python, reference};
use crate::model::Llama;
use crate::real_model::{smollm, wheels};
use crate::{Engine, Generate, GenerateOptions, LlamaError, Outcome, Prompt, Sampling, Work};

/// The bars.
const LARGEST_LOGIT_DIFFERENCE: f32 = 2e-3;
const LARGEST_MARGIN: f64 = 1e-3;
const PROMPTS: usize = 64;
const EQUAL_ANSWERS: usize = 62;
const NEW_TOKENS: usize = 64;

/// Models whose biases are refused by name.
const BIASED: [&str; 3] = ["attention-bias", "feed-forward-bias", "both-biases"];

/// Prompts of many lengths for the small models.
fn tiny_prompts() -> Vec<Vec<u32>> {
    let prompt =
        |number: u32| (0..1 + number * number % 97).map(|at| (at * (7 + 2 * number) + 11 * number) % 320).collect();
    (0..32).map(prompt).collect()
}

/// The largest difference between our logits and those in `file`, the last `rows` of each prompt.
fn largest_difference(model: &mut Llama, prompts: &[Vec<u32>], file: &Path, shapes: &Value) -> f32 {
    let bytes = fs::read(file).unwrap();
    let mut expected = bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    let (mut largest, mut compared) = (0.0_f32, 0);
    for (prompt, shape) in prompts.iter().zip(shapes.as_array().unwrap()) {
        let rows = shape[0].as_u64().unwrap() as usize;
        let found = model.logits(prompt).unwrap();
        for logit in found[found.len() - rows..].iter().flatten() {
            largest = largest.max((logit - expected.next().unwrap()).abs());
            compared += 1;
        }
    }
    assert!(compared > 0 && expected.next().is_none());
    largest
}

#[test]
fn small_models_of_every_kind_give_the_logits_of_transformers() {
    let Some(python) = python() else { return };
    let root = tempfile::tempdir().unwrap();
    let (names, _) = reference(&python, Some(root.path()), &[]);
    let prompts = tiny_prompts();
    let out = |name: &str| root.path().join(format!("{name}.logits"));
    let job = |name: &String| json!({"job": "logits", "dir": root.path().join(name), "prompts": prompts, "last": 200, "out": out(name)});
    let (_, results) = reference(&python, None, &names.iter().map(job).collect::<Vec<_>>());
    assert!(names.len() >= 20);
    for (name, result) in names.iter().zip(results) {
        let loaded = Llama::load(&root.path().join(name));
        if BIASED.contains(&name.as_str()) {
            assert!(matches!(&loaded, Err(LlamaError::Config { message, .. }) if message.contains("_bias")), "{name}");
            continue;
        }
        let difference = largest_difference(&mut loaded.unwrap(), &prompts, &out(name), &result["shapes"]);
        println!("{name}: logits of {} prompts within {difference:.1e}", prompts.len());
        assert!(difference <= LARGEST_LOGIT_DIFFERENCE, "{name}: {difference}");
    }
}

/// Chats about something else each.
fn chats(engine: &Engine) -> Vec<Prompt> {
    let things =
        ["tide tables", "a broken bicycle", "the number 17", "Lisbon", "yeast", "glaciers", "a chess opening", "rain"];
    let asks = [
        "Explain",
        "Write two sentences on",
        "List three facts about",
        "Ask me something about",
        "Translate to French:",
        "Argue against",
        "Summarise",
        "Invent a name for",
    ];
    let question = |number: usize| format!("{} {}.", asks[number / 8], things[number % 8]);
    (0..PROMPTS).map(|number| engine.chat_prompt(None, &question(number)).unwrap()).collect()
}

/// Our greedy answers, all in one batch, up to the model's end token.
fn answers(engine: &mut Engine, prompts: &[Prompt]) -> Vec<Vec<u32>> {
    let options =
        GenerateOptions { max_new_tokens: NEW_TOKENS, sampling: Sampling::Greedy, extra_stop_tokens: Vec::new() };
    let work =
        |prompt: &Prompt| Work::Generate(Generate { prompt: prompt.clone(), options: options.clone(), grammar: None });
    let answers = engine.answer_all(prompts.iter().map(work).collect()).unwrap();
    let tokens = |answer: Result<Outcome, LlamaError>| match answer.unwrap() {
        Outcome::Generation(generation) => generation.tokens,
        Outcome::Likelihoods(_) => panic!("a chat is answered"),
    };
    answers.into_iter().map(tokens).collect()
}

/// Where two answers part, and by how much the better of Python's tokens led there.
fn parting(ours: &[u32], theirs: &[u32], margins: &[f64]) -> Option<(usize, f64)> {
    let at = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
    let at = at.or((ours.len() != theirs.len()).then_some(ours.len().min(theirs.len())))?;
    Some((at, margins[at.min(margins.len() - 1)]))
}

#[test]
fn the_demo_model_computes_and_writes_what_transformers_does() {
    let (Some(python), Some(wheels)) = (python(), wheels()) else { return };
    let root = tempfile::tempdir().unwrap();
    let dir = smollm(&wheels, root.path());
    let mut engine = Engine::load(&dir).unwrap();
    let texts = chats(&engine);
    let prompts: Vec<Vec<u32>> = texts.iter().map(|text| engine.encode(text.clone()).unwrap()).collect();
    let file = root.path().join("logits");
    let jobs = [
        json!({"job": "logits", "dir": dir, "prompts": prompts[..32], "last": 3, "out": file}),
        json!({"job": "greedy", "dir": dir, "prompts": prompts, "new_tokens": NEW_TOKENS, "batch": 16}),
    ];
    let (_, results) = reference(&python, None, &jobs);

    let mut model = Llama::load(&dir).unwrap();
    let difference = largest_difference(&mut model, &prompts[..32], &file, &results[0]["shapes"]);
    println!("logits of 32 prompts within {difference:.1e}");
    assert!(difference <= LARGEST_LOGIT_DIFFERENCE, "{difference}");

    let theirs: Vec<Vec<u32>> = serde_json::from_value(results[1]["tokens"].clone()).unwrap();
    let margins: Vec<Vec<f64>> = serde_json::from_value(results[1]["margins"].clone()).unwrap();
    let stops = engine.stop_tokens().to_vec();
    let mut equal = 0;
    for (number, ours) in answers(&mut engine, &texts).iter().enumerate() {
        let end = theirs[number].iter().position(|token| stops.contains(token)).unwrap_or(NEW_TOKENS);
        match parting(ours, &theirs[number][..end], &margins[number]) {
            None => equal += 1,
            Some((at, margin)) => {
                println!("answer {number} parts at token {at}, where the best leads by {margin:.1e}");
                assert!(margin < LARGEST_MARGIN, "answer {number}, token {at}: {margin}");
            }
        }
    }
    println!("{equal} of {PROMPTS} greedy answers of up to {NEW_TOKENS} tokens are equal token for token");
    assert!(equal >= EQUAL_ANSWERS, "{equal}");
}
