use candle_core::quantized::{GgmlDType, QTensor, gguf_file};

use super::*;
use crate::model::Llama;
use crate::testing::{TinyDtype, TinyLlama, write_tiny_llama};
use crate::weights::Weights;
use crate::{Engine, LlamaError};

const HEADS: usize = 4;
const KV_HEADS: usize = 2;

/// What llama.cpp does to query and key rows: `(i, half + i)` become neighbours.
fn halves_to_interleaved(weight: &Tensor, heads: usize) -> Tensor {
    let (rows, columns) = weight.dims2().unwrap();
    let split = weight.reshape((heads, 2, rows / heads / 2, columns)).unwrap();
    split.transpose(1, 2).unwrap().reshape((rows, columns)).unwrap()
}

fn gguf_name(name: &str) -> String {
    let parts = [
        ("model.layers.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ];
    parts.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

fn metadata(vocabulary: &serde_json::Value) -> Vec<(String, Value)> {
    let vocab = vocabulary["model"]["vocab"].as_object().unwrap();
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let merges =
        vocabulary["model"]["merges"].as_array().unwrap().iter().map(|merge| merge.as_str().unwrap().to_owned());
    let kinds = (0..vocab.len()).map(|id| Value::I32(if id < 3 { 3 } else { 1 })).collect();
    let text = |text: &str| Value::String(text.into());
    [
        ("general.architecture", text("llama")),
        ("llama.block_count", Value::U32(2)),
        ("llama.embedding_length", Value::U32(64)),
        ("llama.feed_forward_length", Value::U32(128)),
        ("llama.attention.head_count", Value::U32(HEADS as u32)),
        ("llama.attention.head_count_kv", Value::U32(KV_HEADS as u32)),
        ("llama.rope.dimension_count", Value::U32(16)),
        ("llama.context_length", Value::U32(1024)),
        ("llama.vocab_size", Value::U32(300)),
        ("llama.rope.freq_base", Value::F32(100_000.0)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", texts(vocab.keys().cloned().collect())),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.merges", texts(merges.collect())),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
        ("tokenizer.ggml.padding_token_id", Value::U32(2)),
        ("tokenizer.chat_template", text(crate::testing::TINY_CHAT_TEMPLATE)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// A tiny model as Hugging Face directory and, beside it, as llama.cpp would have converted it.
fn tiny_gguf(dir: &Path, change: impl FnOnce(&mut Vec<(String, Value)>)) -> (PathBuf, PathBuf) {
    let original = dir.join("original");
    write_tiny_llama(&original, &TinyLlama { dtype: TinyDtype::F16, tied: false, ..Default::default() }).unwrap();
    let weights = Weights::open(&original).unwrap();
    let tensors: Vec<(String, QTensor)> = weights
        .names()
        .map(|name| {
            let tensor = weights.load_any_shape(name).unwrap();
            let tensor = match name {
                _ if name.contains("q_proj") => halves_to_interleaved(&tensor, HEADS),
                _ if name.contains("k_proj") => halves_to_interleaved(&tensor, KV_HEADS),
                _ => tensor,
            };
            (gguf_name(name), QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
        })
        .collect();
    let tokenizer = serde_json::from_slice(&fs::read(original.join("tokenizer.json")).unwrap()).unwrap();
    let mut metadata = metadata(&tokenizer);
    change(&mut metadata);
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let path = dir.join("tiny.gguf");
    gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    (original, path)
}

#[test]
fn a_converted_gguf_is_the_original_again() {
    let dir = tempfile::tempdir().unwrap();
    let (original, gguf) = tiny_gguf(dir.path(), |_| ());
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let mut steps = Vec::new();
    convert(&gguf, &first, &mut |done, total| steps.push((done, total))).unwrap();
    convert(&gguf, &second, &mut |_, _| ()).unwrap();
    assert!(steps.is_sorted() && steps.len() == 21 && steps[20].0 == steps[20].1, "{steps:?}");
    for file in
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    {
        assert_eq!(fs::read(first.join(file)).unwrap(), fs::read(second.join(file)).unwrap(), "{file}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(first.join(file).metadata().unwrap().permissions().mode() & 0o777, 0o644, "{file}");
    }
    for same in ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        assert_eq!(fs::read(first.join(same)).unwrap(), fs::read(original.join(same)).unwrap(), "{same}");
    }
    let logits = |dir: &Path| Llama::load(dir).unwrap().logits(&[1, 50, 60, 70]).unwrap();
    assert_eq!(logits(&first), logits(&original));
    assert!(Engine::load(&first).unwrap().chat_prompt(None, "hi").unwrap().as_str().ends_with("assistant\n"));
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let refused = |key: &'static str, value: Value| {
        let dir = tempfile::tempdir().unwrap();
        let (_, gguf) = tiny_gguf(dir.path(), |metadata| {
            metadata.retain(|(name, _)| name != key);
            metadata.push((key.into(), value));
        });
        let out = dir.path().join("out");
        let error = convert(&gguf, &out, &mut |_, _| ()).unwrap_err();
        assert!(!out.join("model.safetensors").exists());
        assert!(matches!(error, LlamaError::Gguf { .. }), "{error}");
        error.to_string()
    };
    assert!(refused("general.architecture", Value::String("gemma".into())).contains("gemma"));
    assert!(refused("tokenizer.ggml.pre", Value::String("llama-bpe".into())).contains("llama-bpe"));
    assert!(refused("llama.block_count", Value::String("two".into())).contains("llama.block_count"));
    assert!(refused("tokenizer.ggml.eos_token_id", Value::U32(300)).contains("300"));
    assert!(refused("llama.attention.head_count", Value::U32(5)).contains("attn_q.weight"));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no.gguf");
    fs::write(&path, b"GGUF").unwrap();
    assert!(matches!(convert(&path, dir.path(), &mut |_, _| ()), Err(LlamaError::Gguf { .. })));
}

#[test]
fn numbers_keep_their_short_form() {
    assert_eq!(shortest(1e-5).to_string(), "0.00001");
    assert_eq!(shortest(100_000.0), 100_000.0);
}
