use std::fs;

use candle_core::{DType, Device};
use serde_json::Value;

use super::reference::Reference;
use super::*;
use crate::cpu::Cpu;
use crate::tensors::Tensors;
use crate::testing::{TinyDtype, TinyLlama, TinyRope, write_tiny_llama};

const TOKENS: [u32; 12] = [1, 40, 77, 290, 5, 5, 130, 299, 64, 2, 17, 251];

fn load(options: &TinyLlama) -> (tempfile::TempDir, Llama) {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), options).unwrap();
    let model = Llama::load(dir.path()).unwrap();
    (dir, model)
}

fn distance(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_follow_the_formulas() {
    for rope in [TinyRope::Classic, TinyRope::Llama3] {
        for tied in [true, false] {
            let (dir, mut model) = load(&TinyLlama { rope, tied, dtype: TinyDtype::F32, ..Default::default() });
            let expected = Reference::load(dir.path()).logits(&TOKENS);
            let found = model.logits(&TOKENS).unwrap();
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                assert!((f64::from(*found) - expected).abs() < 2e-4, "{rope:?} tied {tied}: {found} {expected}");
            }
        }
    }
}

/// Runs spans of some texts step by step; returns each text's logits.
fn ragged(compute: &mut dyn Compute, texts: &[Vec<u32>], steps: &[Vec<(usize, usize)>]) -> Vec<Vec<Vec<f32>>> {
    let config = compute.config().clone();
    let rotary = Rotary::new(config.rope.clone(), config.head_dim);
    let blocks_each = texts.iter().map(Vec::len).max().unwrap().div_ceil(BLOCK);
    while compute.blocks() < blocks_each * texts.len() {
        compute.grow().unwrap();
    }
    // Blocks of different texts take turns, so that none lies beside its own.
    let blocks = |text: usize| (0..blocks_each).map(|block| (block * texts.len() + text) as u32).collect();
    let (mut done, mut logits) = (vec![0; texts.len()], vec![Vec::new(); texts.len()]);
    for spans in steps {
        let (mut step, mut owners) = (Step::default(), Vec::new());
        for (text, len) in spans.iter().copied() {
            let tokens = &texts[text][done[text]..done[text] + len];
            let span = Span { blocks: blocks(text), start: done[text], len };
            step.push(span, tokens, |_| rotary.frequencies(0), rotary.scale());
            owners.extend(std::iter::repeat_n(text, len));
            done[text] += len;
        }
        let wanted: Vec<usize> = (0..owners.len()).collect();
        let mut hear = |first: usize, rows: &[f32]| {
            for (row, numbers) in rows.chunks_exact(config.vocab_size).enumerate() {
                logits[owners[first + row]].push(numbers.to_vec());
            }
        };
        compute.run(&step, &wanted, &mut hear).unwrap();
    }
    logits
}

fn texts() -> Vec<Vec<u32>> {
    [40, 1, 33, 17].into_iter().map(|len| (0..len).map(|at| (at * at * 31 + 7 * len) % 300).collect()).collect()
}

#[test]
fn ragged_rows_follow_the_formulas_however_they_are_cut() {
    let (dir, model) = load(&TinyLlama { dtype: TinyDtype::F32, ..Default::default() });
    let mut compute = model.compute;
    let texts = texts();
    let reference = Reference::load(dir.path());
    let at_once = vec![texts.iter().enumerate().map(|(text, tokens)| (text, tokens.len())).collect()];
    let together = ragged(compute.as_mut(), &texts, &at_once);
    for (text, found) in texts.iter().zip(&together) {
        for (found, expected) in found.iter().flatten().zip(reference.logits(text).iter().flatten()) {
            assert!((f64::from(*found) - expected).abs() < 2e-4, "{found} {expected}");
        }
    }
    // In pieces, alone, token by token beside another's prompt: to the last bit the same.
    let pieces =
        [vec![(0, 1), (2, 30), (3, 5)], vec![(0, 38), (1, 1), (3, 1)], vec![(3, 11), (2, 1)], vec![(2, 2), (0, 1)]];
    assert_eq!(ragged(compute.as_mut(), &texts, &pieces), together);
    for (text, expected) in texts.iter().zip(&together) {
        let single: Vec<_> = (0..text.len()).map(|_| vec![(0, 1)]).collect();
        let alone = ragged(compute.as_mut(), std::slice::from_ref(text), &single);
        assert_eq!(&alone[0], expected);
    }
}

#[test]
fn a_window_hides_what_is_further_back() {
    for window in [1, 5, 16, 23] {
        let (dir, _) = load(&TinyLlama { dtype: TinyDtype::F32, ..Default::default() });
        let config = LlamaConfig::load(dir.path()).unwrap();
        let heads = Heads { window: Some(window), ..heads(&config) };
        let weights = Weights::open(dir.path()).unwrap();
        let mut decoder = Decoder::load(Cpu::default(), config, &weights).unwrap();
        decoder.cache = decoder.kernels.cache(decoder.config.layers, heads);
        let texts = texts();
        let steps = [vec![(0, 40), (1, 1)], vec![(2, 33), (3, 17)]];
        let found = ragged(&mut decoder, &texts, &steps);
        let reference = Reference::load(dir.path()).with_window(window);
        for (text, found) in texts.iter().zip(&found) {
            for (found, expected) in found.iter().flatten().zip(reference.logits(text).iter().flatten()) {
                assert!((f64::from(*found) - expected).abs() < 2e-4, "window {window}: {found} {expected}");
            }
        }
    }
}

#[test]
fn candles_operations_compute_what_the_kernels_do() {
    let (dir, model) = load(&TinyLlama { dtype: TinyDtype::F32, ..Default::default() });
    let mut kernels = model.compute;
    let (config, weights) = (LlamaConfig::load(dir.path()).unwrap(), Weights::open(dir.path()).unwrap());
    let mut tensors = Decoder::load(Tensors::new(Device::Cpu, DType::F32), config, &weights).unwrap();
    let texts = texts();
    let steps = [vec![(0, 1), (2, 30), (3, 5)], vec![(0, 1), (3, 1), (1, 1), (2, 1)], vec![(3, 11), (2, 2), (0, 38)]];
    let expected = ragged(kernels.as_mut(), &texts, &steps);
    let found = ragged(&mut tensors, &texts, &steps);
    for (found, expected) in found.iter().zip(&expected) {
        assert!(distance(found, expected) < 1e-4, "{}", distance(found, expected));
    }
    tensors.copy_block(0, 9).unwrap();
}

#[test]
fn a_copied_block_is_as_good_as_its_own() {
    let (_dir, model) = load(&TinyLlama::default());
    let mut compute = model.compute;
    let text: Vec<u32> = (0..24).map(|at| at * 11 % 300).collect();
    let whole = ragged(compute.as_mut(), std::slice::from_ref(&text), &[vec![(0, 24)]]);
    compute.copy_block(1, 7).unwrap();
    let config = compute.config().clone();
    let (rotary, mut step) = (Rotary::new(config.rope, config.head_dim), Step::default());
    let span = Span { blocks: vec![0, 7], start: 20, len: 4 };
    step.push(span, &text[20..], |_| rotary.frequencies(0), rotary.scale());
    let mut found = Vec::new();
    compute.run(&step, &[0, 1, 2, 3], &mut |_, rows| found.extend_from_slice(rows)).unwrap();
    assert_eq!(found, whole[0][20..].concat());
}

#[test]
fn long_texts_go_through_in_steps() {
    let (_dir, mut model) = load(&TinyLlama { context: 2048, ..Default::default() });
    let tokens: Vec<u32> = (0..STEP_ROWS as u32 + 300).map(|at| at * 37 % 300).collect();
    let whole = model.logits(&tokens).unwrap();
    let steps: Vec<_> = [190, 190, 190, 190, 52].into_iter().map(|len| vec![(0, len)]).collect();
    assert_eq!(ragged(model.compute.as_mut(), &[tokens], &steps)[0], whole);
}

#[test]
fn shards_and_rope_spellings_change_nothing() {
    let (_one, mut single) = load(&TinyLlama::default());
    let expected = single.logits(&TOKENS).unwrap();
    for options in [
        TinyLlama { shards: 2, ..Default::default() },
        TinyLlama { shards: 5, ..Default::default() },
        TinyLlama { rope: TinyRope::Parameters, ..Default::default() },
    ] {
        let (_dir, mut model) = load(&options);
        assert_eq!(model.logits(&TOKENS).unwrap(), expected, "{options:?}");
    }
    let (_dir, mut llama3) = load(&TinyLlama { rope: TinyRope::Llama3, ..Default::default() });
    assert!(distance(&llama3.logits(&TOKENS).unwrap(), &expected) > 1e-3);
}

#[test]
fn types_on_disk_differ_only_by_rounding() {
    let logits = |dtype| load(&TinyLlama { dtype, ..Default::default() }).1.logits(&TOKENS).unwrap();
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
    let (_dir, mut model) = load(&TinyLlama::default());
    assert!(matches!(model.logits(&[]), Err(LlamaError::Empty { .. })));
    assert!(matches!(model.logits(&[300]), Err(LlamaError::TokenOutOfVocabulary { token: 300, vocab: 300 })));
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
    let gone =
        load_changed(&two, index, |index| index["weight_map"]["model.norm.weight"] = "model-9.safetensors".into());
    let text = gone.to_string();
    assert!(text.contains("index.json: it names \"model-9.safetensors\", which is not in this folder"), "{text}");
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
