use std::fs;

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;
use crate::layout::{RawTensor, write_safetensors};

const HIDDEN: usize = 8;
const POSITIONS: usize = 600;
const WORDS: [&str; 11] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "é", "A", "##a"];

/// A tensor of an encoder under construction.
#[derive(Clone)]
struct Numbers {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// A one-layer BERT of seeded numbers.
fn numbers() -> Vec<Numbers> {
    let mut state = 0u32;
    let mut tensor = |name: String, shape: &[usize]| {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as f32 / u32::MAX as f32 - 0.5
        };
        let values = (0..shape.iter().product()).map(|_| next()).collect();
        Numbers { name, shape: shape.to_vec(), values }
    };
    let mut tensors = Vec::new();
    for (table, rows) in [("word", WORDS.len()), ("position", POSITIONS), ("token_type", 2)] {
        tensors.push(tensor(format!("embeddings.{table}_embeddings.weight"), &[rows, HIDDEN]));
    }
    for linear in [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ] {
        tensors.push(tensor(format!("encoder.layer.0.{linear}.weight"), &[HIDDEN, HIDDEN]));
        tensors.push(tensor(format!("encoder.layer.0.{linear}.bias"), &[HIDDEN]));
    }
    let layer = "encoder.layer.0";
    for norm in [
        "embeddings.LayerNorm".into(),
        format!("{layer}.attention.output.LayerNorm"),
        format!("{layer}.output.LayerNorm"),
    ] {
        tensors.push(tensor(format!("{norm}.weight"), &[HIDDEN]));
        tensors.push(tensor(format!("{norm}.bias"), &[HIDDEN]));
    }
    tensors
}

impl Numbers {
    fn stored(&self, dtype: Dtype) -> RawTensor {
        let values = self.values.iter();
        let bytes = match dtype {
            Dtype::F16 => values.flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Dtype::BF16 => values.flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            _ => values.flat_map(|value| value.to_le_bytes()).collect(),
        };
        RawTensor { name: self.name.clone(), dtype, shape: self.shape.clone(), bytes }
    }
}

fn config() -> Value {
    json!({
        "model_type": "bert", "vocab_size": WORDS.len(), "hidden_size": HIDDEN, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": HIDDEN, "max_position_embeddings": POSITIONS
    })
}

fn tokenizer() -> Value {
    let vocab: Map<String, Value> = WORDS.iter().enumerate().map(|(id, word)| ((*word).into(), json!(id))).collect();
    let special = |id: usize| {
        json!({
            "id": id, "content": WORDS[id], "special": true,
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
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab
        }
    })
}

/// A model directory that a test can damage.
struct Model(TempDir);

impl Model {
    fn new() -> Self {
        let model = Self(tempfile::tempdir().unwrap());
        model.write("config.json", &config());
        model.write("tokenizer.json", &tokenizer());
        model.store(&numbers(), Dtype::F32);
        model
    }

    fn write(&self, file: &str, content: &Value) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.to_string()).unwrap();
    }

    fn write_with(&self, file: &str, mut content: Value, changes: Value) {
        content.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.write(file, &content);
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.0.path().join(file)).unwrap();
    }

    fn store(&self, tensors: &[Numbers], dtype: Dtype) {
        self.store_raw(&tensors.iter().map(|tensor| tensor.stored(dtype)).collect::<Vec<_>>());
    }

    fn store_raw(&self, tensors: &[RawTensor]) {
        write_safetensors(&self.0.path().join("model.safetensors"), tensors).unwrap();
    }

    /// The numbers of `new`, with RoBERTa's positions.
    fn roberta() -> Self {
        let model = Self::new();
        let mut tensors = prefixed(numbers(), "roberta.");
        let positions = find(&mut tensors, "position");
        let mut shifted = vec![7.0; HIDDEN];
        shifted.extend(&positions.values[..HIDDEN * (POSITIONS - 1)]);
        positions.values = shifted;
        model.store(&tensors, Dtype::F32);
        model.write_with("config.json", config(), json!({"model_type": "roberta", "pad_token_id": 0}));
        model
    }

    /// The numbers of `new`, under DistilBERT's names.
    fn distilbert() -> Self {
        let model = Self::new();
        model.store(&distilbert_numbers(), Dtype::F32);
        let own = json!({
            "model_type": "distilbert", "dim": HIDDEN, "n_layers": 1, "n_heads": 2, "hidden_dim": HIDDEN
        });
        model.write_with("config.json", config(), own);
        model
    }

    fn mean(self) -> Self {
        self.write("1_Pooling/config.json", &json!({"pooling_mode_mean_tokens": true}));
        self
    }

    fn load(&self) -> Embedder {
        Embedder::load(self.0.path()).unwrap()
    }

    fn embed(&self, text: &str) -> Vec<f32> {
        self.load().embed(text).unwrap()
    }

    fn refusal(&self) -> String {
        Embedder::load(self.0.path()).err().unwrap().to_string()
    }
}

fn renamed(mut tensors: Vec<Numbers>, names: &[(&str, &str)]) -> Vec<Numbers> {
    for tensor in &mut tensors {
        tensor.name = names.iter().fold(tensor.name.clone(), |name, (from, to)| name.replace(from, to));
    }
    tensors
}

fn prefixed(mut tensors: Vec<Numbers>, prefix: &str) -> Vec<Numbers> {
    tensors.iter_mut().for_each(|tensor| tensor.name.insert_str(0, prefix));
    tensors
}

fn distilbert_numbers() -> Vec<Numbers> {
    let mut tensors = numbers();
    let types = find(&mut tensors, "token_type").values.clone();
    for row in find(&mut tensors, "position").values.chunks_exact_mut(HIDDEN) {
        row.iter_mut().zip(&types).for_each(|(position, kind)| *position += kind);
    }
    tensors.retain(|tensor| !tensor.name.contains("token_type"));
    let names = [
        ("encoder.layer", "transformer.layer"),
        ("attention.self.query", "attention.q_lin"),
        ("attention.self.key", "attention.k_lin"),
        ("attention.self.value", "attention.v_lin"),
        ("attention.output.dense", "attention.out_lin"),
        ("attention.output.LayerNorm", "sa_layer_norm"),
        ("intermediate.dense", "ffn.lin1"),
        ("output.dense", "ffn.lin2"),
        ("output.LayerNorm", "output_layer_norm"),
    ];
    renamed(tensors, &names)
}

fn find<'a>(tensors: &'a mut [Numbers], name: &str) -> &'a mut Numbers {
    tensors.iter_mut().find(|tensor| tensor.name.contains(name)).unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn texts_are_pooled_as_the_directory_says() {
    let (first, mean) = (Model::new(), Model::new().mean());
    assert_eq!(first.embed("a b c").len(), HIDDEN);
    assert!(distance(&first.embed("a b c"), &mean.embed("a b c")) > 0.01);
    assert!(distance(&first.embed("a b c"), &first.embed("a b d")) > 0.001);
    assert_eq!(first.embed(""), first.embed(" \n\u{0}\u{200b}"), "[CLS][SEP]");
}

#[test]
fn the_name_is_the_folders_and_never_a_hub_id() {
    let model = Model::new();
    let folder = model.0.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(model.load().name(), folder);
    assert_eq!(folder_name(&model.0.path().join("x/..")), "", "what does not exist has no name");
    fs::create_dir_all(model.0.path().join("WhereIsAI/UAE-Large-V1")).unwrap();
    for path in ["WhereIsAI/UAE-Large-V1", "WhereIsAI/UAE-Large-V1/", "WhereIsAI/UAE-Large-V1/../UAE-Large-V1/."] {
        assert_eq!(folder_name(&model.0.path().join(path)), "UAE-Large-V1");
    }
    assert_eq!(folder_name(&model.0.path().join("WhereIsAI/..")), folder);
    assert_eq!(folder_name(Path::new("/")), "");
}

#[test]
fn only_the_first_512_tokens_count_whatever_the_tokenizer_file_says() {
    let embedder = Model::new().mean().load();
    let words = |count: usize, last: &str| format!("{}{last}", "a ".repeat(count - 1));
    let embed = |text: &str| embedder.embed(text).unwrap();
    assert_eq!(embed(&words(510, "b")), embed(&words(700, "c").replacen(&words(510, "a"), &words(510, "b"), 1)));
    assert_ne!(embed(&words(510, "a")), embed(&words(510, "b")));
    assert_ne!(embed("a b c"), embed("a b c d d"), "the file's own limit of 4 is not used");
}

#[test]
fn a_batch_gives_what_each_text_gives_alone() {
    let new = [Model::new, Model::roberta, Model::distilbert];
    for model in new.into_iter().flat_map(|new| [new(), new().mean()]) {
        let embedder = model.load();
        let long = "a b [PAD] d ".repeat(100);
        let texts: Vec<String> = (0..60).map(|n| long[..(n * 37) % long.len()].to_owned()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let together = embedder.embed_batch(&texts).unwrap();
        assert_eq!(together.len(), texts.len());
        for (text, together) in texts.iter().zip(&together) {
            assert!(distance(&embedder.embed(text).unwrap(), together) < 1e-5, "{text:?}");
        }
        assert_eq!(embedder.embed_batch(&[]).unwrap(), Vec::<Vec<f32>>::new());
    }
}

#[test]
fn every_layout_of_the_same_numbers_is_the_same_encoder() {
    let model = Model::new();
    let expected = model.embed("a b c");
    let mut headed = prefixed(numbers(), "bert.");
    headed.push(Numbers { name: "cls.predictions.bias".into(), shape: vec![1], values: vec![0.5] });
    model.store(&headed, Dtype::F32);
    assert_eq!(model.embed("a b c"), expected);
    model.store(
        &renamed(numbers(), &[("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")]),
        Dtype::F32,
    );
    assert_eq!(model.embed("a b c"), expected);

    let mut raw: Vec<RawTensor> = numbers().iter().map(|tensor| tensor.stored(Dtype::F32)).collect();
    let bytes = (0..POSITIONS as i64).flat_map(i64::to_le_bytes).collect();
    let name = "embeddings.position_ids".into();
    raw.push(RawTensor { name, dtype: Dtype::I64, shape: vec![1, POSITIONS], bytes });
    model.store_raw(&raw);
    assert_eq!(model.embed("a b c"), expected);

    let second = raw.split_off(7);
    let mut map = Map::new();
    for (file, tensors) in [("a.safetensors", &raw), ("b.safetensors", &second)] {
        write_safetensors(&model.0.path().join(file), tensors).unwrap();
        map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), json!(file))));
    }
    model.remove("model.safetensors");
    model.write("model.safetensors.index.json", &json!({"weight_map": map}));
    assert_eq!(model.embed("a b c"), expected);

    for (dtype, tolerance) in [(Dtype::F16, 0.01), (Dtype::BF16, 0.1)] {
        model.store(&numbers(), dtype);
        let distance = distance(&model.embed("a b c"), &expected);
        assert!(distance > 0.0 && distance < tolerance, "{dtype:?}: {distance}");
    }
}

#[test]
fn roberta_counts_positions_from_the_padding_id() {
    let model = Model::roberta();
    assert!(distance(&model.embed("a b c"), &Model::new().embed("a b c")) < 1e-5);
    assert!(distance(&model.embed("a [PAD] b"), &model.embed("a d b")) > 0.01);
    model.write_with("config.json", config(), json!({"model_type": "roberta", "max_position_embeddings": 4}));
    assert!(model.refusal().contains("leave no room"), "{}", model.refusal());
}

#[test]
fn distilbert_is_bert_under_other_names() {
    assert!(distance(&Model::distilbert().embed("a b c"), &Model::new().embed("a b c")) < 1e-5);
}

#[test]
fn activations_are_told_apart() {
    for new in [Model::new, Model::roberta, Model::distilbert] {
        let model = new();
        let config: Value = serde_json::from_slice(&fs::read(model.0.path().join("config.json")).unwrap()).unwrap();
        let embed = |name: &str| {
            model.write_with("config.json", config.clone(), json!({"hidden_act": name, "activation": name}));
            model.embed("a b c")
        };
        let (exact, tanh, relu) = (embed("gelu"), embed("gelu_new"), embed("relu"));
        assert!((1e-7..1e-3).contains(&distance(&exact, &tanh)), "{}", distance(&exact, &tanh));
        assert!(distance(&exact, &relu) > 1e-3);
        assert_eq!(tanh, embed("gelu_pytorch_tanh"));
    }
}

#[test]
fn the_vocabulary_file_gives_the_tokenizer_of_transformers() {
    let model = Model::new();
    let texts = ["a b", "A aa É\u{7}b", "[SEP] a [MASK]", "中d", "zzz a", ""];
    let expected: Vec<_> = texts.iter().map(|text| model.embed(text)).collect();
    model.remove("tokenizer.json");
    for end_of_line in ["\n", "\r\n"] {
        fs::write(model.0.path().join("vocab.txt"), WORDS.join(end_of_line)).unwrap();
        let found: Vec<_> = texts.iter().map(|text| model.embed(text)).collect();
        assert_eq!(found, expected);
    }
    assert_eq!(model.embed("A"), model.embed("a"));
    let settings =
        json!({"do_lower_case": false, "cls_token": {"content": "[CLS]", "lstrip": false}, "sep_token": "[SEP]"});
    model.write("tokenizer_config.json", &settings);
    assert_ne!(model.embed("A"), model.embed("a"));
    let from_vocabulary = ["A é", "a b"].map(|text| model.embed(text));
    model.write("tokenizer.json", &tokenizer());
    assert_eq!(["A é", "a b"].map(|text| model.embed(text)), from_vocabulary, "the settings win over tokenizer.json");
    model
        .write("tokenizer_config.json", &json!({"do_lower_case": false, "tokenizer_class": "PreTrainedTokenizerFast"}));
    assert_eq!(model.embed("A"), model.embed("a"), "only BERT's own tokenizer obeys them");
}

#[test]
fn damaged_weights_are_named() {
    let model = Model::new();
    let query = "encoder.layer.0.attention.self.query.weight";
    let mut tensors = numbers();
    tensors.retain(|tensor| tensor.name != query);
    model.store(&tensors, Dtype::F32);
    assert!(model.refusal().contains(&format!("`{query}` is missing (expected shape [8, 8])")), "{}", model.refusal());
    let mut tensors = numbers();
    find(&mut tensors, "query.weight").shape = vec![4, 16];
    model.store(&tensors, Dtype::F32);
    assert!(model.refusal().contains("has shape [4, 16], expected [8, 8]"), "{}", model.refusal());
    let mut raw: Vec<RawTensor> = numbers().iter().map(|tensor| tensor.stored(Dtype::F32)).collect();
    raw[0].dtype = Dtype::I32;
    model.store_raw(&raw);
    assert!(model.refusal().contains("has type I32"), "{}", model.refusal());
    fs::write(model.0.path().join("model.safetensors"), [255; 40]).unwrap();
    assert!(model.refusal().contains("model.safetensors"), "{}", model.refusal());

    let mut tensors = numbers();
    find(&mut tensors, "output.dense.bias").values[0] = f32::NAN;
    model.store(&tensors, Dtype::F32);
    assert!(matches!(model.load().embed("a"), Err(LlamaError::NotANumber)));
}

#[test]
fn every_tensor_is_required_under_the_name_that_its_type_gives_it() {
    for (model, all) in [
        (Model::new(), numbers()),
        (Model::roberta(), prefixed(numbers(), "roberta.")),
        (Model::distilbert(), distilbert_numbers()),
    ] {
        for absent in &all {
            let rest: Vec<Numbers> = all.iter().filter(|tensor| tensor.name != absent.name).cloned().collect();
            model.store(&rest, Dtype::F32);
            let message = model.refusal();
            assert!(message.contains(&format!("`{}` is missing (expected shape", absent.name)), "{message}");
        }
    }
}

#[test]
fn a_configuration_that_the_other_files_contradict_is_refused() {
    let model = Model::new();
    let cases = [
        (json!({"vocab_size": 10}), "token \"##a\" has id 10, but config.json has a vocab_size of 10"),
        (json!({"vocab_size": 12}), "expected [12, 8]"),
        (json!({"num_hidden_layers": 2}), "`encoder.layer.1.attention.self.query.weight` is missing"),
        (json!({"hidden_size": 1 << 24}), "expected [11, 16777216]"),
        (json!({"max_position_embeddings": 2}), "2 special tokens leave no room for a text in 2 positions"),
        (json!({"hidden_size": "8"}), "config.json"),
        (json!({"model_type": "mpnet"}), "\"mpnet\" is not supported"),
    ];
    for (change, expected) in cases {
        model.write_with("config.json", config(), change);
        assert!(model.refusal().contains(expected), "{expected}: {}", model.refusal());
    }
}

#[test]
fn a_tokenizer_that_cannot_be_is_refused() {
    let model = Model::new();
    let mut without_special = tokenizer();
    without_special["post_processor"] = Value::Null;
    model.write("tokenizer.json", &without_special);
    assert!(model.load().embed("").unwrap_err().to_string().contains("no token at all"));
    model.write("tokenizer.json", &json!({"model": 1}));
    assert!(model.refusal().contains("tokenizer.json"), "{}", model.refusal());
    model.remove("tokenizer.json");
    assert!(model.refusal().contains("no tokenizer.json or vocab.txt"), "{}", model.refusal());
    fs::write(model.0.path().join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\na\n").unwrap();
    assert!(model.refusal().contains("\"[SEP]\" has no line"), "{}", model.refusal());
    fs::write(model.0.path().join("vocab.txt"), [0xff, 0xfe]).unwrap();
    assert!(model.refusal().contains("vocab.txt"), "{}", model.refusal());
    model.write_with("config.json", config(), json!({"model_type": "roberta"}));
    assert!(model.refusal().contains("no tokenizer.json is there"), "{}", model.refusal());
}
