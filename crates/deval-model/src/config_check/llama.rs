use deval_report::Diagnostic;
use serde_json::Value;

use super::values::HELP;

/// More layers than any LLaMA has; a larger number is a damaged file.
const MOST_LAYERS: usize = 1024;

/// The sizes that decide every tensor (transformers `LlamaConfig`, with its defaults).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Llama {
    hidden: usize,
    intermediate: usize,
    layers: usize,
    query: usize,
    key_value: usize,
    vocabulary: usize,
    tied: bool,
    attention_bias: bool,
    mlp_bias: bool,
}

impl Llama {
    /// The sizes, or findings for what is missing or contradicts itself.
    pub(crate) fn from_config(config: &Value, file: &str, findings: &mut Vec<Diagnostic>) -> Option<Self> {
        let before = findings.len();
        let mut size = |key: &str, default: Option<usize>| {
            let found = config.get(key).filter(|value| !value.is_null());
            let number = match found {
                None => default,
                Some(value) => {
                    value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..1 << 24).contains(n))
                }
            };
            number.unwrap_or_else(|| {
                let finding = Diagnostic::error("model.config", format!("`{key}` is missing or no size of a LLaMA"));
                let finding = finding.in_file(file).found(found.map_or("nothing".into(), Value::to_string));
                findings.push(finding.expected("a whole number, 1 or more").help(HELP));
                1
            })
        };
        let hidden = size("hidden_size", None);
        let heads = size("num_attention_heads", None);
        let key_value_heads = size("num_key_value_heads", Some(heads));
        let head = size("head_dim", Some((hidden / heads).max(1)));
        let (intermediate, layers) = (size("intermediate_size", None), size("num_hidden_layers", None));
        let vocabulary = size("vocab_size", None);
        if findings.len() == before {
            findings.extend(
                contradiction(hidden, heads, key_value_heads, layers, config)
                    .map(|finding| finding.in_file(file).help(HELP)),
            );
        }
        let flag = |key: &str| truth(&config[key]);
        (findings.len() == before).then(|| Self {
            hidden,
            intermediate,
            layers,
            query: heads * head,
            key_value: key_value_heads * head,
            vocabulary,
            tied: flag("tie_word_embeddings"),
            attention_bias: flag("attention_bias"),
            mlp_bias: flag("mlp_bias"),
        })
    }

    /// Whether the head is the embedding.
    pub(crate) fn tied(&self) -> bool {
        self.tied
    }

    /// Every tensor with its shape.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let outer = [
            ("model.embed_tokens.weight", Some(vec![self.vocabulary, self.hidden])),
            ("model.norm.weight", Some(vec![self.hidden])),
            ("lm_head.weight", (!self.tied).then(|| vec![self.vocabulary, self.hidden])),
        ];
        let outer = outer.into_iter().filter_map(|(name, shape)| Some((name.to_owned(), shape?)));
        outer.chain((0..self.layers).flat_map(|layer| self.layer(layer)))
    }

    fn layer(&self, layer: usize) -> Vec<(String, Vec<usize>)> {
        let projections = [
            ("self_attn.q_proj", self.query, self.hidden, self.attention_bias),
            ("self_attn.k_proj", self.key_value, self.hidden, self.attention_bias),
            ("self_attn.v_proj", self.key_value, self.hidden, self.attention_bias),
            ("self_attn.o_proj", self.hidden, self.query, self.attention_bias),
            ("mlp.gate_proj", self.intermediate, self.hidden, self.mlp_bias),
            ("mlp.up_proj", self.intermediate, self.hidden, self.mlp_bias),
            ("mlp.down_proj", self.hidden, self.intermediate, self.mlp_bias),
        ];
        let mut tensors = Vec::with_capacity(9);
        for (name, rows, columns, bias) in projections {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), vec![rows, columns]));
            if bias {
                tensors.push((format!("model.layers.{layer}.{name}.bias"), vec![rows]));
            }
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            tensors.push((format!("model.layers.{layer}.{norm}.weight"), vec![self.hidden]));
        }
        tensors
    }
}

/// What Python takes for true.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(keys) => !keys.is_empty(),
    }
}

/// Sizes that no LLaMA can have together.
fn contradiction(hidden: usize, heads: usize, kv_heads: usize, layers: usize, config: &Value) -> Option<Diagnostic> {
    let finding = |message: String| Some(Diagnostic::error("model.config", message));
    if !heads.is_multiple_of(kv_heads) {
        return finding(format!("num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"));
    }
    let given = config.get("head_dim").is_some_and(|value| !value.is_null());
    if !given && !hidden.is_multiple_of(heads) {
        return finding(format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}"));
    }
    if layers > MOST_LAYERS {
        return finding(format!("num_hidden_layers is {layers}, more than any LLaMA has"));
    }
    None
}
