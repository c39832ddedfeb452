//! `generation_config.json`: the same probabilities, and the same greedy answers.

use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{python, reference};
use crate::sampling::{Sampler, most_probable};
use crate::testing::{TINY_VOCAB, TinyDtype, TinyLlama, write_tiny_llama};
use crate::{Engine, Generate, GenerateOptions, GenerationConfig, Outcome, Sampling, Work};

const ROWS: usize = 12;
const NEW_TOKENS: usize = 60;
const STOP: u32 = 2;

/// What a model's own file may say; the call adds temperature, top-p and the end token.
fn settings() -> Vec<Value> {
    vec![
        json!({}),
        json!({"top_k": 3}),
        json!({"top_k": 0}),
        json!({"top_k": null}),
        json!({"min_p": 0.3}),
        json!({"typical_p": 0.4}),
        json!({"typical_p": 0.9, "top_k": 0, "min_p": 0.02}),
        json!({"repetition_penalty": 1.3}),
        json!({"repetition_penalty": 0.7, "no_repeat_ngram_size": 3}),
        json!({"no_repeat_ngram_size": 1}),
        json!({"min_new_tokens": 5}),
        json!({"min_new_tokens": 2}),
        json!({"suppress_tokens": [5, 6, 7, 11], "begin_suppress_tokens": [1, 2, 3]}),
    ]
}

fn rows() -> Vec<Vec<f32>> {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let row = |number: usize| {
        let spread = 1.5 * (1 + number) as f32;
        (0..TINY_VOCAB).map(|_| spread * (random.random::<f32>() - 0.5)).collect()
    };
    (0..ROWS).map(row).collect()
}

/// The engine's probabilities of all tokens.
fn probabilities(config: &GenerationConfig, (tokens, prompt): (&[u32], usize), logits: &[f32]) -> Vec<f64> {
    let changed = config.rules.apply(tokens, prompt, &[STOP], logits).unwrap();
    let sampling = Sampling::Sample { temperature: 0.5, top_k: None, top_p: 0.95, seed: 0 };
    let Sampler::Draw(draw) = Sampler::new(sampling, config).unwrap() else { panic!("a draw was asked for") };
    let kept = draw.kept(&most_probable(changed.as_deref().unwrap_or(logits), config.top_k));
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    let mut all = vec![0.0; logits.len()];
    kept.iter().for_each(|(token, weight)| all[*token as usize] = weight / total);
    all
}

#[test]
fn probabilities_are_those_that_transformers_draws_from() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    let tokens: Vec<u32> = vec![9, 8, 7, 9, 8, 40, 41, 9, 8];
    for prompt in [tokens.len(), tokens.len() - 3] {
        let job = |own: &Value| {
            let mut settings = own.clone();
            let call = json!({"temperature": 0.5, "top_p": 0.95, "eos_token_id": STOP});
            settings.as_object_mut().unwrap().extend(call.as_object().unwrap().clone());
            json!({"job": "processed", "dir": dir.path(), "settings": settings, "tokens": tokens, "prompt": prompt, "rows": rows()})
        };
        let settings = settings();
        let (_, results) = reference(&python, None, &settings.iter().map(job).collect::<Vec<_>>());
        let mut largest = 0.0_f64;
        for (own, result) in settings.iter().zip(results) {
            fs::write(dir.path().join("generation_config.json"), own.to_string()).unwrap();
            let config = GenerationConfig::load(dir.path()).unwrap();
            assert_eq!(config.unsupported, [], "{own}");
            let expected: Vec<Vec<f64>> = serde_json::from_value(result["probabilities"].clone()).unwrap();
            for (row, expected) in rows().iter().zip(&expected) {
                let found = probabilities(&config, (&tokens, prompt), row);
                for (token, (found, expected)) in found.iter().zip(expected).enumerate() {
                    assert_eq!(*found > 0.0, *expected > 0.0, "{own}: token {token}, {found} for {expected}");
                    largest = largest.max((found - expected).abs());
                }
            }
        }
        println!("{} settings, {ROWS} rows each: the same tokens, probabilities within {largest:.1e}", settings.len());
        assert!(largest < 1e-5, "{largest}");
    }
}

/// What stands in which file, and whether config.json is what counts.
fn files() -> Vec<(Option<Value>, Value)> {
    let rules = json!({"repetition_penalty": 1.2, "no_repeat_ngram_size": 4});
    vec![
        (Some(json!({})), json!({})),
        (Some(rules.clone()), json!({})),
        (Some(json!({"repetition_penalty": 1.8})), json!({"repetition_penalty": 1.1})),
        (Some(json!({"_from_model_config": true, "repetition_penalty": 1.8})), json!({"repetition_penalty": 1.1})),
        (Some(json!({"_from_model_config": true, "suppress_tokens": (3..200).collect::<Vec<u32>>()})), json!({})),
        (None, rules),
        (None, json!({})),
    ]
}

fn write(dir: &Path, (generation, config): &(Option<Value>, Value)) {
    write_tiny_llama(dir, &TinyLlama { dtype: TinyDtype::F32, ..Default::default() }).unwrap();
    let (own, path) = (dir.join("generation_config.json"), dir.join("config.json"));
    match generation {
        Some(value) => fs::write(&own, value.to_string()).unwrap(),
        None => fs::remove_file(&own).unwrap(),
    }
    let mut changed: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    changed.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    fs::write(&path, changed.to_string()).unwrap();
}

#[test]
fn greedy_answers_obey_the_same_files_token_for_token() {
    let Some(python) = python() else { return };
    let root = tempfile::tempdir().unwrap();
    let prompts = ["the other thing on the list is red", "x", "and then he came in and then he came in and then"];
    let (mut ours, mut jobs) = (Vec::new(), Vec::new());
    for (number, files) in files().iter().enumerate() {
        let dir = root.path().join(number.to_string());
        write(&dir, files);
        let mut engine = Engine::load(&dir).unwrap();
        engine.stop_at(&[]).unwrap();
        let options =
            GenerateOptions { max_new_tokens: NEW_TOKENS, sampling: Sampling::Greedy, extra_stop_tokens: Vec::new() };
        let work = prompts
            .map(|prompt| Work::Generate(Generate { prompt: prompt.into(), options: options.clone(), grammar: None }));
        let tokens = |outcome| match outcome {
            Outcome::Generation(generation) => generation.tokens,
            Outcome::Likelihoods(_) => panic!("a prompt is continued"),
        };
        let answers = engine.answer_all(work.into()).unwrap().into_iter().map(|answer| tokens(answer.unwrap()));
        ours.push(answers.collect::<Vec<_>>());
        let ids = prompts.map(|prompt| engine.encode(prompt).unwrap());
        jobs.push(json!({"job": "greedy", "dir": dir, "prompts": ids, "new_tokens": NEW_TOKENS, "batch": 1}));
    }
    let (_, results) = reference(&python, None, &jobs);
    for ((files, ours), result) in files().iter().zip(&ours).zip(&results) {
        let theirs: Vec<Vec<u32>> = serde_json::from_value(result["tokens"].clone()).unwrap();
        assert_eq!(ours, &theirs, "{files:?}");
    }
    let different: std::collections::BTreeSet<_> = ours.iter().collect();
    println!(
        "{} of {} files give other answers than the rest; all are those of transformers",
        different.len(),
        ours.len()
    );
    assert!(different.len() >= 5, "the files change what is answered: {}", different.len());
}
