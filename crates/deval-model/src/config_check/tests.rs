use std::fs;

use serde_json::json;

use super::*;
use crate::weights::{self, tests::shard};

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 10,
        "tie_word_embeddings": true, "rope_theta": 10000.0, "torch_dtype": "float16"
    })
}

/// A folder that transformers loads: two layers, grouped queries, tied embeddings.
pub(crate) fn lay_out(dir: &Path) {
    lay_out_with(dir, &config());
}

fn lay_out_with(dir: &Path, config: &Value) {
    let llama = Llama::from_config(config, CONFIG, &mut Vec::new()).unwrap();
    let tensors: Vec<_> = llama.tensors().collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    fs::write(dir.join("model.safetensors"), shard(&tensors)).unwrap();
    write(dir, CONFIG, config);
    write(
        dir,
        "tokenizer.json",
        &json!({"added_tokens": [{"id": 9, "content": "</s>"}], "model": {"vocab": {"a": 0, "b": 8}, "merges": []}}),
    );
    write(dir, "tokenizer_config.json", &json!({"chat_template": "{{ messages }}"}));
}

fn write(dir: &Path, name: &str, value: &Value) {
    fs::write(dir.join(name), value.to_string()).unwrap();
}

fn findings(dir: &Path) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let weights = weights::scan(dir, dir, &mut findings).unwrap();
    check(dir, dir, &weights, &mut findings).unwrap();
    findings
}

fn codes(dir: &Path) -> Vec<String> {
    findings(dir).into_iter().map(|finding| finding.code).collect()
}

/// The codes after one key of a sound folder's config was changed.
fn codes_with(key: &str, value: Value) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    let mut config = config();
    config[key] = value;
    write(dir.path(), CONFIG, &config);
    codes(dir.path())
}

#[test]
fn sound_folders_have_no_findings() {
    for change in [
        json!({}),
        json!({"tie_word_embeddings": false}),
        json!({"attention_bias": true, "mlp_bias": true}),
        json!({"head_dim": 4}),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config();
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        lay_out_with(dir.path(), &config);
        assert_eq!(findings(dir.path()), [], "{change}");
    }
}

#[test]
fn other_architectures_and_quantised_models_are_found() {
    assert_eq!(codes_with("model_type", json!("mistral")), ["model.architecture"]);
    assert_eq!(codes_with("architectures", json!(["LlamaForSequenceClassification"])), ["model.architecture"]);
    assert_eq!(codes_with("quantization_config", json!({"load_in_4bit": true})), ["model.quantized"]);
    assert_eq!(codes_with("quantization_config", Value::Null), [""; 0]);
}

#[test]
fn types_and_special_tokens_that_do_not_fit_are_found() {
    assert_eq!(codes_with("torch_dtype", json!("float8_e4m3fn")), ["model.dtype"]);
    assert_eq!(codes_with("torch_dtype", json!("bfloat16")), [""; 0]);
    for (key, value) in [
        ("eos_token_id", json!(10)),
        ("eos_token_id", json!([1, 128_009])),
        ("bos_token_id", json!("1")),
        ("pad_token_id", json!(-2)),
    ] {
        assert_eq!(codes_with(key, value.clone()), ["model.config"], "{key} {value}");
    }
    for value in [json!(9), Value::Null, json!(-1)] {
        assert_eq!(codes_with("pad_token_id", value.clone()), [""; 0], "{value}");
    }
    assert_eq!(codes_with("eos_token_id", json!([1, 9])), [""; 0]);
}

#[test]
fn tokens_that_are_only_in_the_settings_count_as_well() {
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    let settings =
        json!({"chat_template": "{{ messages }}", "added_tokens_decoder": {"3": {}, "10": {"content": "<x>"}}});
    write(dir.path(), "tokenizer_config.json", &settings);
    let found = findings(dir.path());
    assert_eq!(found[0].place.as_ref().unwrap().file, "tokenizer_config.json");
    assert!(found.len() == 1 && found[0].message.contains("token 10"), "{found:?}");
}

#[test]
fn sizes_that_do_not_fit_the_tensors_are_found() {
    assert_eq!(codes_with("vocab_size", json!(12)), ["model.tensor-shape"]);
    assert_eq!(codes_with("num_hidden_layers", json!(3)), ["model.tensor-missing"]);
    assert_eq!(codes_with("num_hidden_layers", json!(1)), ["model.tensor-unknown"]);
    assert_eq!(codes_with("tie_word_embeddings", json!(false)), ["model.tensor-missing"]);
    assert_eq!(codes_with("num_key_value_heads", json!(4)), ["model.tensor-shape"]);
}

#[test]
fn sizes_that_contradict_each_other_are_found() {
    for (key, value) in [
        ("num_attention_heads", json!(3)),
        ("num_key_value_heads", json!(3)),
        ("hidden_size", json!("8")),
        ("num_hidden_layers", json!(4_000_000)),
        ("vocab_size", json!(0)),
        ("intermediate_size", json!(-1)),
        ("hidden_size", json!(u64::MAX)),
    ] {
        assert_eq!(codes_with(key, value.clone()), ["model.config"], "{key} {value}");
    }
}

#[test]
fn a_vocabulary_smaller_than_the_tokenizer_is_found() {
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    write(dir.path(), "tokenizer.json", &json!({"added_tokens": [{"id": 10}], "model": {"vocab": {"a": 0}}}));
    assert_eq!(codes(dir.path()), ["model.tokenizer"]);
    write(
        dir.path(),
        "tokenizer.json",
        &json!({"added_tokens": [], "model": {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]]}}),
    );
    assert_eq!(codes(dir.path()), [""; 0]);
    write(dir.path(), "tokenizer.json", &json!({"version": "1.0"}));
    assert_eq!(codes(dir.path()), ["model.tokenizer"]);
}

#[test]
fn the_newer_spelling_of_rope_is_found() {
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    let mut config = config();
    config.as_object_mut().unwrap().remove("rope_theta");
    assert_eq!(codes(dir.path()), [""; 0]);
    config["rope_parameters"] = json!({"rope_theta": 500_000.0, "rope_type": "default"});
    write(dir.path(), CONFIG, &config);
    let found = findings(dir.path());
    assert_eq!(found[0].code, "model.rope-parameters");
    assert!(found[0].help.as_ref().unwrap().contains("\"rope_theta\": 500000.0"));
}

#[test]
fn missing_and_damaged_files_are_found_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    fs::write(dir.path().join(CONFIG), "{\n  \"hidden_size\": 8,\n}").unwrap();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    write(dir.path(), "tokenizer_config.json", &json!({}));
    let found = findings(dir.path());
    let codes: Vec<_> = found.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["model.json", "model.file-missing", "model.chat-template"]);
    assert_eq!(found[0].place.as_ref().unwrap().line, Some(3));
    fs::write(dir.path().join("chat_template.jinja"), "x").unwrap();
    assert_eq!(findings(dir.path()).len(), 2, "transformers 4.47.1 reads the template from there");
}

#[test]
fn element_types_other_than_floats_are_found() {
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    let bytes = fs::read(dir.path().join("model.safetensors")).unwrap();
    let text = String::from_utf8_lossy(&bytes[8..]).replacen("\"F16\"", "\"I16\"", 1);
    fs::write(dir.path().join("model.safetensors"), [&bytes[..8], text.as_bytes()].concat()).unwrap();
    assert_eq!(codes(dir.path()), ["model.dtype"]);
}

/// Each value was loaded with transformers 4.47.1 and a token generated: it raises where a finding is expected.
#[test]
fn values_that_transformers_raises_on_are_found() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 128,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0});
    let with = |key: &str, value: Value| {
        let mut scaling = llama3.clone();
        scaling[key] = value;
        scaling
    };
    let raises = [
        ("rope_scaling", json!("x")),
        ("rope_scaling", json!([])),
        ("rope_scaling", json!(3)),
        ("rope_scaling", json!({})),
        ("rope_scaling", json!({"factor": 2.0})),
        ("rope_scaling", json!({"rope_type": "mrope"})),
        ("rope_scaling", json!({"type": "su", "factor": 2.0})),
        ("rope_scaling", json!({"rope_type": "linear"})),
        ("rope_scaling", json!({"rope_type": "linear", "factor": "2"})),
        ("rope_scaling", json!({"rope_type": "dynamic"})),
        ("rope_scaling", json!({"rope_type": "yarn"})),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 0.0})),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 2.0, "beta_fast": "x"})),
        ("rope_scaling", with("low_freq_factor", Value::Null)),
        ("rope_scaling", with("original_max_position_embeddings", json!("8"))),
        ("rope_scaling", json!({"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0]})),
        (
            "rope_scaling",
            json!({"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0], "long_factor": [1.0, 1.0]}),
        ),
        ("rope_scaling", json!({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]})),
        ("hidden_act", json!("SiLU")),
        ("hidden_act", Value::Null),
        ("rope_theta", json!("10000")),
        ("rope_theta", Value::Null),
        ("rms_norm_eps", json!("1e-5")),
        ("rms_norm_eps", json!([1])),
        ("max_position_embeddings", json!("2048")),
        ("pad_token_id", json!([0])),
    ];
    for (key, value) in raises {
        assert_eq!(codes_with(key, value.clone()), ["model.config"], "{key} {value}");
    }
    for dtype in [json!("auto"), json!("bf16"), json!("torch.float16"), json!(16), json!(["float16"]), json!("int8")] {
        assert_eq!(codes_with("torch_dtype", dtype.clone()), ["model.dtype"], "{dtype}");
    }
    let loads = [
        ("rope_scaling", Value::Null),
        ("rope_scaling", json!({"type": "default"})),
        ("rope_scaling", json!({"type": "linear", "factor": 2})),
        ("rope_scaling", json!({"rope_type": "llama3", "type": "linear", "factor": 2.0})),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 2.0, "beta_fast": 32, "attention_factor": 1})),
        ("rope_scaling", json!({"rope_type": "longrope", "factor": 2, "short_factor": [1], "long_factor": [1]})),
        ("rope_scaling", with("extra", json!(1))),
        ("hidden_act", json!("swish")),
        ("rope_theta", json!(10000)),
        ("rms_norm_eps", json!(0)),
        ("max_position_embeddings", Value::Null),
        ("torch_dtype", json!("half")),
        ("torch_dtype", Value::Null),
        ("tie_word_embeddings", json!("true")),
        ("attention_bias", json!(0)),
    ];
    for (key, value) in loads {
        assert_eq!(codes_with(key, value.clone()), [""; 0], "{key} {value}");
    }
}

#[test]
fn a_head_beside_tied_embeddings_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    crate::tiny::write(dir.path(), crate::tiny::Kind::Chain).unwrap();
    assert_eq!(findings(dir.path()), []);
    let path = dir.path().join(CONFIG);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["tie_word_embeddings"] = json!(true);
    fs::write(&path, config.to_string()).unwrap();
    let found = findings(dir.path());
    assert!(found.len() == 1 && !found[0].is_error() && found[0].message.starts_with("lm_head.weight"), "{found:?}");
}

#[test]
fn a_key_that_is_twice_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    let text = config().to_string().replacen(
        '{',
        "{\"rope_scaling\": {\"factor\": 1, \"factor\": 2}, \"rope_scaling\": null, ",
        1,
    );
    fs::write(dir.path().join(CONFIG), text).unwrap();
    let found = findings(dir.path());
    assert!(
        found.len() == 1 && !found[0].is_error() && found[0].message.contains("`factor` is there twice"),
        "{found:?}"
    );
}

/// The tiny model after the change of one of its files; severity and message of what is found.
fn tiny_with(name: &str, change: impl Fn(&mut Value)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    crate::tiny::write(dir.path(), crate::tiny::Kind::Chain).unwrap();
    let path = dir.path().join(name);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(&path, value.to_string()).unwrap();
    let found = findings(dir.path());
    assert!(
        found.iter().all(|f| f.is_error() && f.help.is_some() && f.place.as_ref().unwrap().file == name),
        "{found:?}"
    );
    found.into_iter().map(|finding| format!("{} {}", finding.code, finding.message)).collect()
}

#[test]
fn tokenizer_classes_are_those_of_transformers_4_47_1() {
    let with =
        |class: Value| tiny_with("tokenizer_config.json", |settings| settings["tokenizer_class"] = class.clone());
    for class in [
        "PreTrainedTokenizerFast",
        "PreTrainedTokenizer",
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "GPT2Tokenizer",
        "BloomTokenizer",
    ] {
        assert_eq!(with(json!(class)), [""; 0], "{class}");
    }
    assert_eq!(with(Value::Null), [""; 0]);
    for class in [
        json!("TokenizersBackend"),
        json!("Foo"),
        json!("LlamaTokenizerFastFast"),
        json!(""),
        json!(3),
        json!("CTRLTokenizerFast"),
    ] {
        let found = with(class.clone());
        assert!(
            found.len() == 1 && found[0].starts_with("model.tokenizer the validator's transformers"),
            "{class}: {found:?}"
        );
    }
}

#[test]
fn chat_templates_in_a_list_need_a_default() {
    let with =
        |template: Value| tiny_with("tokenizer_config.json", |settings| settings["chat_template"] = template.clone());
    for template in
        [json!([{"name": "rag", "template": "y"}, {"name": "default", "template": "x"}]), json!({"default": "x"})]
    {
        assert_eq!(with(template.clone()), [""; 0], "{template}");
    }
    for template in [
        json!([]),
        json!([{"name": "rag", "template": "x"}]),
        json!(["x"]),
        json!([{"name": "default"}]),
        json!([{"template": "x"}]),
        json!([{"name": "default", "template": null}]),
        json!({"rag": "x"}),
        json!(3),
        json!(false),
    ] {
        let found = with(template.clone());
        assert!(found.len() == 1 && found[0].starts_with("model.chat-template"), "{template}: {found:?}");
    }
}

/// A word of the finding, and the change that it is for.
type Change = (&'static str, fn(&mut Value));

/// Each of these was loaded with transformers 4.47.1, which raises.
#[test]
fn a_tokenizer_that_the_library_refuses_is_found() {
    let changes: [Change; 10] = [
        ("type", |t| t["model"]["type"] = json!("Foo")),
        ("type", |t| t["model"]["type"] = json!("bpe")),
        ("type", |t| t["model"]["type"] = Value::Null),
        ("version", |t| t["version"] = json!("2.0")),
        ("version", |t| t["version"] = Value::Null),
        ("merges", |t| drop(t["model"].as_object_mut().unwrap().remove("merges"))),
        ("vocab", |t| drop(t["model"].as_object_mut().unwrap().remove("vocab"))),
        ("added_tokens", |t| drop(t.as_object_mut().unwrap().remove("added_tokens"))),
        ("extra", |t| t["extra"] = json!(1)),
        ("an object with vocab", |t| t["model"] = json!([])),
    ];
    for (words, change) in changes {
        let found = tiny_with("tokenizer.json", change);
        assert!(
            found.len() == 1 && found[0].starts_with("model.tokenizer") && found[0].contains(words),
            "{words}: {found:?}"
        );
        assert!(!found[0].contains("struct"), "{found:?}");
    }
    let untyped = tiny_with("tokenizer.json", |t| drop(t["model"].as_object_mut().unwrap().remove("type")));
    assert_eq!(untyped, [""; 0]);
}

#[test]
fn files_beside_the_tokenizer_must_be_json_objects() {
    let dir = tempfile::tempdir().unwrap();
    crate::tiny::write(dir.path(), crate::tiny::Kind::Chain).unwrap();
    for name in ["special_tokens_map.json", "added_tokens.json", "generation_config.json"] {
        for text in ["{", "[]", "3", "null", "\"x\""] {
            fs::write(dir.path().join(name), text).unwrap();
            let found = findings(dir.path());
            assert!(
                found.len() == 1 && found[0].code == "model.json" && found[0].help.is_some(),
                "{name} {text}: {found:?}"
            );
            assert_eq!(found[0].place.as_ref().unwrap().file, name);
        }
        fs::write(dir.path().join(name), "{}").unwrap();
        assert_eq!(findings(dir.path()), [], "{name}");
    }
}
