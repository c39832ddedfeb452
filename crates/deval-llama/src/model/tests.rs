use std::fs;

use candle_core::{IndexOp, Tensor};
use serde_json::Value;

use super::reference::Reference;
use super::*;
use crate::testing::{TinyDtype, TinyLlama, TinyRope, write_tiny_llama};

const TOKENS: [u32; 12] = [1, 40, 77, 290, 5, 5, 130, 299, 64, 2, 17, 251];

fn load(options: &TinyLlama) -> (tempfile::TempDir, Llama) {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), options).unwrap();
    let model = Llama::load(dir.path()).unwrap();
    (dir, model)
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn fresh(model: &Llama, tokens: &[u32]) -> Tensor {
    model.forward(tokens, &mut KvCache::new()).unwrap()
}

#[test]
fn logits_follow_the_formulas() {
    for rope in [TinyRope::Classic, TinyRope::Llama3] {
        for tied in [true, false] {
            let (dir, model) = load(&TinyLlama { rope, tied, dtype: TinyDtype::F32, ..Default::default() });
            let expected = Reference::load(dir.path()).logits(&TOKENS);
            let found: Vec<Vec<f32>> = fresh(&model, &TOKENS).to_vec2().unwrap();
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                assert!((f64::from(*found) - expected).abs() < 2e-4, "{rope:?} tied {tied}: {found} {expected}");
            }
        }
    }
}

#[test]
fn stepwise_decoding_equals_one_pass() {
    let (_dir, model) = load(&TinyLlama::default());
    let all = fresh(&model, &TOKENS);
    assert_eq!(all.dims(), [TOKENS.len(), 300]);
    let mut cache = KvCache::new();
    for (at, token) in TOKENS.iter().enumerate() {
        let step = model.forward(&[*token], &mut cache).unwrap();
        assert!(distance(&step.i(0).unwrap(), &all.i(at).unwrap()) < 1e-4, "token {at}");
        assert_eq!(cache.len(), at + 1);
    }
}

#[test]
fn a_cache_cut_back_to_a_prefix_is_as_good_as_a_fresh_one() {
    let (_dir, model) = load(&TinyLlama::default());
    let mut cache = KvCache::new();
    model.forward(&TOKENS, &mut cache).unwrap();
    cache.truncate(5);
    let reused = model.forward(&[9, 8, 7], &mut cache).unwrap();
    let tokens = [&TOKENS[..5], &[9, 8, 7]].concat();
    assert!(distance(&reused, &fresh(&model, &tokens).i(5..).unwrap()) < 1e-4);
    cache.truncate(100);
    assert_eq!(cache.len(), 8);
}

#[test]
fn blocks_and_a_growing_cache_do_not_show() {
    let (_dir, model) = load(&TinyLlama { context: 2048, ..Default::default() });
    let tokens: Vec<u32> = (0..PREFILL_BLOCK as u32 + 300).map(|at| at * 37 % 300).collect();
    let whole = fresh(&model, &tokens);
    let mut cache = KvCache::new();
    let parts: Vec<Tensor> = tokens.chunks(190).map(|part| model.forward(part, &mut cache).unwrap()).collect();
    assert!(distance(&Tensor::cat(&parts, 0).unwrap(), &whole) < 1e-3);
}

#[test]
fn shards_and_rope_spellings_change_nothing() {
    let (_one, single) = load(&TinyLlama::default());
    let expected = fresh(&single, &TOKENS);
    for options in [
        TinyLlama { shards: 2, ..Default::default() },
        TinyLlama { shards: 5, ..Default::default() },
        TinyLlama { rope: TinyRope::Parameters, ..Default::default() },
    ] {
        let (_dir, model) = load(&options);
        assert_eq!(distance(&fresh(&model, &TOKENS), &expected), 0.0, "{options:?}");
    }
    let (_dir, llama3) = load(&TinyLlama { rope: TinyRope::Llama3, ..Default::default() });
    assert!(distance(&fresh(&llama3, &TOKENS), &expected) > 1e-3);
}

#[test]
fn types_on_disk_differ_only_by_rounding() {
    let logits = |dtype| fresh(&load(&TinyLlama { dtype, ..Default::default() }).1, &TOKENS);
    let full = logits(TinyDtype::F32);
    let (half, brain) = (distance(&logits(TinyDtype::F16), &full), distance(&logits(TinyDtype::Bf16), &full));
    assert!(half > 0.0 && half < 0.05, "{half}");
    assert!(brain > half && brain < 0.5, "{brain}");
}

#[test]
fn parameters_count_tied_weights_once() {
    let (_dir, tied) = load(&TinyLlama::default());
    let (_dir, untied) = load(&TinyLlama { tied: false, ..Default::default() });
    assert_eq!(untied.parameters() - tied.parameters(), 300 * 64);
}

#[test]
fn what_cannot_be_run_is_an_error() {
    let (_dir, model) = load(&TinyLlama { context: 16, ..Default::default() });
    let mut cache = KvCache::new();
    assert!(matches!(model.forward(&[], &mut cache), Err(LlamaError::Empty { .. })));
    assert!(matches!(
        model.forward(&[300], &mut cache),
        Err(LlamaError::TokenOutOfVocabulary { token: 300, vocab: 300 })
    ));
    model.forward(&TOKENS, &mut cache).unwrap();
    let overflow = model.forward(&TOKENS, &mut cache).unwrap_err();
    assert!(matches!(overflow, LlamaError::ContextOverflow { tokens: 24, limit: 16 }), "{overflow}");
    assert_eq!(cache.len(), 12);
}

/// A tiny model with one of its JSON files changed.
fn load_changed(options: &TinyLlama, file: &str, change: impl FnOnce(&mut Value)) -> LlamaError {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), options).unwrap();
    let path = dir.path().join(file);
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(&path, json.to_string()).unwrap();
    Llama::load(dir.path()).err().expect("the change makes the model unloadable")
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let one = TinyLlama::default();
    let missing = load_changed(&one, "config.json", |config| config["num_hidden_layers"] = 3.into());
    assert!(
        matches!(&missing, LlamaError::MissingTensor { name, .. } if name.starts_with("model.layers.2.")),
        "{missing}"
    );
    let shape = load_changed(&one, "config.json", |config| config["intermediate_size"] = 100.into());
    let text = shape.to_string();
    assert!(text.contains("mlp.") && text.contains("128") && text.contains("100"), "{text}");
    let untied = load_changed(&one, "config.json", |config| config["tie_word_embeddings"] = false.into());
    assert!(untied.to_string().contains("lm_head.weight"), "{untied}");

    let two = TinyLlama { shards: 2, ..Default::default() };
    let index = "model.safetensors.index.json";
    let wrong_shard = load_changed(&two, index, |index| {
        index["weight_map"]["model.norm.weight"] = index["weight_map"]["model.embed_tokens.weight"].clone();
    });
    assert!(
        matches!(&wrong_shard, LlamaError::MissingTensor { name, .. } if name == "model.norm.weight"),
        "{wrong_shard}"
    );
    let outside =
        load_changed(&two, index, |index| index["weight_map"]["model.norm.weight"] = "../x.safetensors".into());
    assert!(outside.to_string().contains("plain file name"), "{outside}");
}

#[test]
fn damaged_weights_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n".to_vec();
    for damaged in [whole[..whole.len() - 1].to_vec(), whole[..4].to_vec(), pointer, Vec::new()] {
        fs::write(&path, damaged).unwrap();
        let error = Llama::load(dir.path()).err().unwrap();
        assert!(matches!(&error, LlamaError::Weights { path, .. } if path.ends_with("model.safetensors")), "{error}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(Llama::load(dir.path()), Err(LlamaError::Weights { .. })));
}
