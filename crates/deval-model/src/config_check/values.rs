//! Values of `config.json` that transformers 4.47.1 cannot load or compute with. Each rule was seen to raise there.

use deval_report::Diagnostic;
use serde_json::{Map, Value};

/// Names of activations (`activations.py`, `ACT2CLS`).
const ACTIVATIONS: [&str; 19] = [
    "gelu",
    "gelu_10",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_pytorch_tanh",
    "gelu_accurate",
    "laplace",
    "leaky_relu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
];

pub(super) const HELP: &str = "take it from the config.json of the model you started from";

/// All of them at once, without a place.
pub(super) fn check(config: &Value) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut wrong = |key: &str, expected: &str, sound: &dyn Fn(&Value) -> bool| {
        if let Some(value) = config.get(key).filter(|value| !sound(value)) {
            findings.push(fault(format!("`{key}` has a value with which transformers 4.47.1 raises"), value, expected));
        }
    };
    wrong("hidden_act", &format!("one of {}", ACTIVATIONS.join(", ")), &|value| {
        value.as_str().is_some_and(|name| ACTIVATIONS.contains(&name))
    });
    for key in ["rope_theta", "rms_norm_eps"] {
        wrong(key, "a number", &is_number);
    }
    wrong("max_position_embeddings", "a number", &|value| value.is_null() || is_number(value));
    wrong("pad_token_id", "one number or null", &|value| !value.is_array());
    findings.extend(config.get("rope_scaling").and_then(|scaling| rope_scaling(scaling, config)));
    findings
}

fn fault(message: String, found: &Value, expected: &str) -> Diagnostic {
    Diagnostic::error("model.config", message).found(found.to_string()).expected(expected).help(HELP)
}

/// Python computes with its booleans as well.
fn is_number(value: &Value) -> bool {
    value.is_number() || value.is_boolean()
}

/// The first fault of `rope_scaling` (`modeling_rope_utils.py`); `type`, the older spelling, goes before `rope_type`.
fn rope_scaling(scaling: &Value, config: &Value) -> Option<Diagnostic> {
    if scaling.is_null() {
        return None;
    }
    let Some(keys) = scaling.as_object() else {
        return Some(fault("`rope_scaling` is not an object".into(), scaling, "an object or null"));
    };
    let kind = keys.get("type").or_else(|| keys.get("rope_type")).unwrap_or(&Value::Null);
    let required: &[&str] = match kind.as_str() {
        Some("default") => &[],
        Some("linear" | "dynamic" | "yarn") => &["factor"],
        Some("longrope") if config.get("original_max_position_embeddings").is_some() => &[],
        Some("longrope") => &["factor"],
        Some("llama3") => &["factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"],
        _ => {
            let message = "transformers 4.47.1 does not know the `rope_type` of `rope_scaling`".to_owned();
            return Some(fault(message, kind, "default, linear, dynamic, yarn, longrope or llama3"));
        }
    };
    let kind = kind.as_str().unwrap_or_default();
    required
        .iter()
        .find_map(|key| number(keys, kind, key, false))
        .or_else(|| optional(kind).iter().find_map(|key| number(keys, kind, key, true)))
        .or_else(|| zero(keys, kind))
        .or_else(|| factors(keys, kind, config))
}

fn optional(kind: &str) -> &'static [&'static str] {
    match kind {
        "yarn" => &["attention_factor", "beta_fast", "beta_slow"],
        "longrope" => &["attention_factor"],
        _ => &[],
    }
}

fn number(keys: &Map<String, Value>, kind: &str, key: &str, optional: bool) -> Option<Diagnostic> {
    let found = keys.get(key).unwrap_or(&Value::Null);
    let sound = is_number(found) || (optional && found.is_null());
    let message = format!("`{key}` in `rope_scaling` of type {kind} is missing or not a number");
    (!sound).then(|| fault(message, found, "a number"))
}

/// yarn takes the logarithm of its factor.
fn zero(keys: &Map<String, Value>, kind: &str) -> Option<Diagnostic> {
    let factor = keys.get("factor").filter(|factor| kind == "yarn" && factor.as_f64().is_some_and(|f| f <= 0.0))?;
    Some(fault("`factor` in `rope_scaling` of type yarn is not above 0".into(), factor, "at least 1.0"))
}

/// Longrope's lists; of the two only the long one is used when the model is made, and must fit the heads.
fn factors(keys: &Map<String, Value>, kind: &str, config: &Value) -> Option<Diagnostic> {
    if kind != "longrope" {
        return None;
    }
    let size = |key: &str| config[key].as_u64();
    let head = size("head_dim").or_else(|| size("hidden_size")?.checked_div(size("num_attention_heads")?));
    ["short_factor", "long_factor"].into_iter().find_map(|key| {
        let found = keys.get(key).unwrap_or(&Value::Null);
        let fits = |list: &Vec<Value>| {
            key == "short_factor"
                || (list.iter().all(is_number) && head.is_none_or(|head| list.len() as u64 == head / 2))
        };
        let expected = head.map_or("a list of numbers".to_owned(), |head| format!("a list of {} numbers", head / 2));
        let message = format!("`{key}` in `rope_scaling` of type longrope does not fit the heads");
        (!found.as_array().is_some_and(fits)).then(|| fault(message, found, &expected))
    })
}
