use std::fs;

use safetensors::Dtype;
use serde_json::{Value, json};

use super::*;
use crate::layout::{RawTensor, write_safetensors};

const HIDDEN: usize = 8;

/// A one-layer BERT of seeded numbers with a word vocabulary of letters.
fn write_tiny_bert(dir: &Path) {
    fs::write(dir.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    fs::write(dir.join("config.json"), config().to_string()).unwrap();
    let mut number = 0u32;
    let mut tensor = |name: &str, shape: &[usize]| {
        let mut next = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number as f32 / u32::MAX as f32 - 0.5
        };
        let count: usize = shape.iter().product();
        let bytes = (0..count).flat_map(|_| next().to_le_bytes());
        RawTensor { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), bytes: bytes.collect() }
    };
    let (row, square) = (&[HIDDEN][..], &[HIDDEN, HIDDEN][..]);
    let mut tensors = vec![
        tensor("embeddings.word_embeddings.weight", &[8, HIDDEN]),
        tensor("embeddings.position_embeddings.weight", &[600, HIDDEN]),
        tensor("embeddings.token_type_embeddings.weight", &[2, HIDDEN]),
        tensor("embeddings.LayerNorm.weight", row),
        tensor("embeddings.LayerNorm.bias", row),
    ];
    for linear in [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ] {
        tensors.push(tensor(&format!("encoder.layer.0.{linear}.weight"), square));
        tensors.push(tensor(&format!("encoder.layer.0.{linear}.bias"), row));
    }
    for norm in ["attention.output.LayerNorm", "output.LayerNorm"] {
        tensors.push(tensor(&format!("encoder.layer.0.{norm}.weight"), row));
        tensors.push(tensor(&format!("encoder.layer.0.{norm}.bias"), row));
    }
    let positions = (0..600i64).flat_map(i64::to_le_bytes).collect();
    tensors.push(RawTensor {
        name: "embeddings.position_ids".into(),
        dtype: Dtype::I64,
        shape: vec![1, 600],
        bytes: positions,
    });
    write_safetensors(&dir.join("model.safetensors"), &tensors).unwrap();
}

fn tokenizer() -> Value {
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d"];
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let special = |id: usize| {
        json!({
            "id": id, "content": words[id], "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false
        })
    };
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"
        },
        "added_tokens": [special(0), special(1), special(2), special(3)],
        "normalizer": null,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab
        }
    })
}

fn config() -> Value {
    json!({
        "model_type": "bert", "vocab_size": 8, "hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": HIDDEN, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "max_position_embeddings": 600,
        "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0
    })
}

fn pool(dir: &Path, cls: bool, mean: bool) {
    fs::create_dir_all(dir.join("1_Pooling")).unwrap();
    let config = json!({"pooling_mode_cls_token": cls, "pooling_mode_mean_tokens": mean});
    fs::write(dir.join("1_Pooling/config.json"), config.to_string()).unwrap();
}

#[test]
fn texts_are_pooled_as_the_directory_says() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_bert(dir.path());
    let first = Embedder::load(dir.path()).unwrap();
    assert_eq!(first.pooling, Pooling::FirstToken);
    pool(dir.path(), true, false);
    let named = Embedder::load(dir.path()).unwrap();
    pool(dir.path(), false, true);
    let mean = Embedder::load(dir.path()).unwrap();

    let (a, b) = (first.embed("a b c").unwrap(), mean.embed("a b c").unwrap());
    assert_eq!(a.len(), HIDDEN);
    assert_eq!(a, named.embed("a b c").unwrap());
    assert_ne!(a, b);
    assert_ne!(a, first.embed("a b d").unwrap());
    assert_eq!(first.embed("").unwrap().len(), HIDDEN, "[CLS][SEP]");
    assert_eq!(first.name(), dir.path().file_name().unwrap().to_str().unwrap());
}

#[test]
fn only_the_first_512_tokens_count_whatever_the_tokenizer_file_says() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_bert(dir.path());
    pool(dir.path(), false, true);
    let embedder = Embedder::load(dir.path()).unwrap();
    let words = |count: usize, last: &str| format!("{}{last}", "a ".repeat(count - 1));
    let embed = |text: &str| embedder.embed(text).unwrap();
    assert_eq!(embed(&words(510, "b")), embed(&words(700, "c").replacen(&words(510, "a"), &words(510, "b"), 1)));
    assert_ne!(embed(&words(510, "a")), embed(&words(510, "b")));
    assert_ne!(embed("a b c"), embed("a b c d d"), "the file's own limit of 4 is not used");
}

#[test]
fn other_encoders_and_damaged_ones_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_bert(dir.path());
    pool(dir.path(), true, true);
    assert!(matches!(Embedder::load(dir.path()), Err(LlamaError::Config { .. })));
    pool(dir.path(), true, false);
    let changed = |key: &str, value: Value| {
        let mut config = config();
        config[key] = value;
        fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        Embedder::load(dir.path()).err().unwrap()
    };
    assert!(changed("model_type", json!("roberta")).to_string().contains("roberta"));
    assert!(matches!(changed("num_attention_heads", json!(0)), LlamaError::Config { .. }));
    assert!(matches!(changed("num_hidden_layers", json!(2)), LlamaError::Weights { .. }));
    assert!(matches!(changed("hidden_size", json!("8")), LlamaError::Json { .. }));
}
