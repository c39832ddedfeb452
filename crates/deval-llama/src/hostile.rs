//! Model directories as nobody should write them: each is refused with a message that names its place, or answers. Nothing panics, and
//! nothing takes more memory than the model's files account for. `DEVAL_FUZZ_SECONDS=300` goes on for that long.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use half::f16;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::layout::{RawTensor, write_safetensors};
use crate::testing::{TinyLlama, write_tiny_llama};
use crate::{DeviceChoice, Engine, EngineOptions, GenerateOptions, LlamaError, Sampling};

/// Cases of a usual run.
const CASES: u32 = 96;

const JSON_FILES: [&str; 5] = [
    "config.json",
    "model.safetensors.index.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
];

/// Keys that some file of some model has.
const KEYS: [&str; 24] = [
    "head_dim",
    "num_key_value_heads",
    "partial_rotary_factor",
    "rope_scaling",
    "rope_parameters",
    "rope_theta",
    "rope_type",
    "factor",
    "type",
    "low_freq_factor",
    "attention_factor",
    "original_max_position_embeddings",
    "sliding_window",
    "quantization_config",
    "top_k",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "min_p",
    "typical_p",
    "suppress_tokens",
    "eos_token_id",
    "chat_template",
    "added_tokens_decoder",
    "weight_map",
];

/// A change of a file.
#[derive(Debug, Clone)]
enum Change {
    /// A value somewhere in a JSON file.
    Value(Index, Value),
    /// A key of an object somewhere in a JSON file.
    Key(Index, &'static str, Value),
    /// An entry of an object or a list.
    Without(Index, Index),
    /// Some bytes.
    Bytes(Index, Vec<u8>),
    /// The end.
    Cut(Index),
}

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        select(vec![-1_i64, 0, 1, 2, 3, 5, 16, 64, 300, 4096, 1 << 24, (1 << 24) + 1, 1 << 40, i64::MAX, i64::MIN])
            .prop_map(|n| json!(n)),
        select(vec![u64::MAX, 1 << 63]).prop_map(|n| json!(n)),
        select(vec![0.0, -0.5, 0.5, 1.0, 1.5, 64.0, 1e-300, 1e300, f64::MAX, -1e300]).prop_map(|n| json!(n)),
    ];
    let text = select(vec![
        "",
        "llama",
        "LlamaForCausalLM",
        "default",
        "linear",
        "dynamic",
        "yarn",
        "llama3",
        "../model.safetensors",
        "..",
        "/etc/passwd",
        "model-00001-of-00002.safetensors",
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
        "{{ messages | tojson(indent=70000) }}",
        "{% set x = namespace(y='x') %}{% for i in range(99) %}{% set x.y = x.y ~ x.y %}{% endfor %}",
        "{{ raise_exception('no') }}",
        "{% if %}",
        "{{ messages[9].content }}",
        "<|im_end|>",
    ]);
    let leaf = prop_oneof![4 => number, 3 => text.prop_map(|text| json!(text)), 1 => Just(Value::Null), 1 => any::<bool>().prop_map(|b| json!(b))];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((select(KEYS.to_vec()), inner), 0..4).prop_map(|pairs| pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (any::<Index>(), value()).prop_map(|(at, value)| Change::Value(at, value)),
        4 => (any::<Index>(), select(KEYS.to_vec()), value()).prop_map(|(at, key, value)| Change::Key(at, key, value)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(at, which)| Change::Without(at, which)),
        2 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Change::Bytes(at, bytes)),
        1 => any::<Index>().prop_map(Change::Cut),
    ]
}

/// The ways to all values of a JSON text.
fn pointers(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            pointers(value, &format!("{here}/{key}"), found);
        }),
        // Long lists are all alike.
        Value::Array(list) => {
            list.iter().take(8).enumerate().for_each(|(at, value)| pointers(value, &format!("{here}/{at}"), found))
        }
        _ => {}
    }
}

fn changed(text: &[u8], change: &Change) -> Vec<u8> {
    let edit = |at: &Index, edit: &dyn Fn(&mut Value)| {
        let Ok(mut json) = serde_json::from_slice::<Value>(text) else { return text.to_vec() };
        let mut all = Vec::new();
        pointers(&json, "", &mut all);
        json.pointer_mut(&all[at.index(all.len())]).into_iter().for_each(edit);
        json.to_string().into_bytes()
    };
    match change {
        Change::Value(at, value) => edit(at, &|found| *found = value.clone()),
        Change::Key(at, key, value) => edit(at, &|found| match found {
            Value::Object(map) => drop(map.insert((*key).to_owned(), value.clone())),
            other => *other = json!({*key: value}),
        }),
        Change::Without(at, which) => edit(at, &|found| match found {
            Value::Object(map) if !map.is_empty() => {
                let key = map.keys().nth(which.index(map.len())).cloned();
                key.map(|key| map.shift_remove(&key));
            }
            Value::Array(list) if !list.is_empty() => drop(list.remove(which.index(list.len()))),
            other => *other = Value::Null,
        }),
        Change::Bytes(at, bytes) if !text.is_empty() => {
            let mut changed = text.to_vec();
            let at = at.index(text.len().min(4096));
            let end = (at + bytes.len()).min(text.len());
            changed.splice(at..end, bytes.iter().copied());
            changed
        }
        Change::Cut(at) if !text.is_empty() => text[..at.index(text.len())].to_vec(),
        Change::Bytes(..) | Change::Cut(_) => text.to_vec(),
    }
}

fn files_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (name(&entry), fs::read(entry.path()).unwrap()))
        .collect()
}

/// Loads a directory and asks everything that can be asked of it.
fn ask(dir: &Path) -> Result<usize, LlamaError> {
    let options = EngineOptions { device: DeviceChoice::Cpu, texts: 3, cache_tokens: None };
    let mut engine = Engine::load_with(dir, options)?;
    let mut answers = 0;
    let samplings = [Sampling::Greedy, Sampling::Sample { temperature: 0.5, top_k: None, top_p: 0.95, seed: 1 }];
    for sampling in samplings {
        let options = GenerateOptions { max_new_tokens: 3, sampling, extra_stop_tokens: Vec::new() };
        let prompt = engine.chat_prompt(None, "the list").unwrap_or_else(|_| "the list".into());
        answers += usize::from(engine.generate(prompt, &options).inspect_err(told).is_ok());
    }
    answers += usize::from(engine.log_likelihood("the list", " is red").inspect_err(told).is_ok());
    Ok(answers)
}

/// Messages are there to be read.
fn told(error: &LlamaError) {
    let text = error.to_string();
    // What serde says of a type with several forms helps nobody; the tokenizers library says it all the same.
    let is_ours = !text.contains("untagged") || text.contains("the tokenizers library");
    assert!(text.len() > 20 && text.len() < 2000 && is_ours, "{text}");
}

/// Runs a property, for as long as is asked for, and tells how often.
fn run<T: std::fmt::Debug>(name: &str, strategy: impl Strategy<Value = T>, check: impl Fn(T) -> bool) {
    let seconds = std::env::var("DEVAL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (until, count, answered) = (Instant::now() + Duration::from_secs(seconds), Cell::new(0_u64), Cell::new(0_u64));
    loop {
        let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
        let run = TestRunner::new(config).run(&strategy, |case| {
            count.set(count.get() + 1);
            answered.set(answered.get() + u64::from(check(case)));
            Ok(())
        });
        run.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        if Instant::now() >= until {
            break;
        }
    }
    println!("{name}: {} cases, {} of them answer", count.get(), answered.get());
    assert!(answered.get() < count.get(), "{name}: none is refused");
}

#[test]
fn changed_files_are_refused_or_answer() {
    let base = tempfile::tempdir().unwrap();
    write_tiny_llama(base.path(), &TinyLlama { shards: 2, context: 64, ..Default::default() }).unwrap();
    let whole = files_of(base.path());
    let dir = tempfile::tempdir().unwrap();
    let weights = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let files = prop_oneof![5 => select(JSON_FILES.to_vec()), 1 => select(weights.to_vec())];
    run("changed files", prop::collection::vec((files, change()), 1..4), |changes| {
        let mut files = whole.clone();
        for (file, change) in &changes {
            let text = &files[*file];
            let text = match (change, file.ends_with(".safetensors")) {
                (Change::Value(at, _) | Change::Key(at, ..) | Change::Without(at, _), true) => {
                    changed_header(text, at, change)
                }
                _ => changed(text, change),
            };
            files.insert((*file).to_owned(), text);
        }
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        match ask(dir.path()) {
            Ok(answers) => answers > 0,
            Err(error) => {
                told(&error);
                false
            }
        }
    });
}

/// A safetensors file whose JSON header is changed, its length made right.
fn changed_header(file: &[u8], at: &Index, change: &Change) -> Vec<u8> {
    let Some(length) = file.first_chunk().map(|bytes| u64::from_le_bytes(*bytes) as usize) else {
        return file.to_vec();
    };
    let Some(header) = file.get(8..8 + length) else { return changed(file, &Change::Cut(*at)) };
    let header = changed(header, change);
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), &file[8 + length..]].concat()
}

/// Sizes of a small model.
#[derive(Debug, Clone)]
struct Shape {
    hidden: usize,
    heads: (usize, usize),
    head_dim: usize,
    wide: usize,
    vocab: usize,
    layers: usize,
    tied: bool,
    context: usize,
    /// A weight that is no number, or none.
    odd: Option<(Index, f32)>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let heads = (1_usize..5, 1_usize..4);
    let odd =
        prop::option::weighted(0.3, (any::<Index>(), select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 6e4])));
    let vocab = prop_oneof![3 => 300_usize..400, 1 => 1_usize..300];
    let sizes = (1_usize..70, heads, 1_usize..40, 1_usize..90, vocab, 1_usize..3);
    (sizes, any::<bool>(), 1_usize..200, odd).prop_map(
        |((hidden, heads, half, wide, vocab, layers), tied, context, odd)| Shape {
            hidden,
            heads,
            head_dim: 2 * half,
            wide,
            vocab,
            layers,
            tied,
            context,
            odd,
        },
    )
}

fn write_shape(dir: &Path, shape: &Shape) {
    let Shape { hidden, heads: (keys, group), head_dim, wide, vocab, layers, tied, context, .. } = *shape;
    let (queries, keys_wide) = (keys * group * head_dim, keys * head_dim);
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": wide,
        "vocab_size": vocab, "num_hidden_layers": layers, "num_attention_heads": keys * group, "num_key_value_heads": keys,
        "head_dim": head_dim, "max_position_embeddings": context, "tie_word_embeddings": tied, "rms_norm_eps": 1e-5
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut tensors = Vec::new();
    let mut add = |name: &str, shape: &[usize]| {
        let count: usize = shape.iter().product();
        let bytes = (0..count).flat_map(|at| f16::from_f32((at * 37 % 19) as f32 / 19.0 - 0.5).to_le_bytes()).collect();
        tensors.push(RawTensor { name: format!("{name}.weight"), dtype: Dtype::F16, shape: shape.to_vec(), bytes });
    };
    add("model.embed_tokens", &[vocab, hidden]);
    for layer in 0..layers {
        let mut part = |name: &str, shape: &[usize]| add(&format!("model.layers.{layer}.{name}"), shape);
        part("input_layernorm", &[hidden]);
        part("self_attn.q_proj", &[queries, hidden]);
        part("self_attn.k_proj", &[keys_wide, hidden]);
        part("self_attn.v_proj", &[keys_wide, hidden]);
        part("self_attn.o_proj", &[hidden, queries]);
        part("post_attention_layernorm", &[hidden]);
        part("mlp.gate_proj", &[wide, hidden]);
        part("mlp.up_proj", &[wide, hidden]);
        part("mlp.down_proj", &[hidden, wide]);
    }
    add("model.norm", &[hidden]);
    if !tied {
        add("lm_head", &[vocab, hidden]);
    }
    if let Some((at, number)) = &shape.odd {
        let tensor = at.index(tensors.len());
        let place = at.index(tensors[tensor].bytes.len() / 2) * 2;
        tensors[tensor].bytes[place..place + 2].copy_from_slice(&f16::from_f32(*number).to_le_bytes());
    }
    write_safetensors(&dir.join("model.safetensors"), &tensors).unwrap();
}

#[test]
fn models_of_any_shape_answer_or_say_why_not() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    run("shapes", shape(), |shape| {
        write_shape(dir.path(), &shape);
        // Tokens of the tokenizer that the model has no row for are told question by question.
        let answers = ask(dir.path()).unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        assert!(answers == 3 || shape.odd.is_some() || shape.vocab < 300 || shape.context < 20, "{shape:?}: {answers}");
        answers == 3
    });
}
