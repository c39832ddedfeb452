//! A tiny LLaMA made of seeded random numbers, for tests of this and other crates: a whole Hugging Face directory of
//! under a megabyte, written in milliseconds. It answers nonsense, always the same.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::LlamaError;
use crate::files::write_json;
use crate::layout::{RawTensor, SpecialIds, Vocabulary, generation_config_json, write_safetensors};

/// What tiny model to write.
#[derive(Debug, Clone, PartialEq)]
pub struct TinyLlama {
    /// Other seed, other weights.
    pub seed: u64,
    /// Whether the embedding is also the output matrix.
    pub tied: bool,
    /// 1 for `model.safetensors`, more for shards with an index.
    pub shards: usize,
    /// Type of the weights on disk.
    pub dtype: TinyDtype,
    /// How rotary positions are written down.
    pub rope: TinyRope,
    /// `max_position_embeddings`.
    pub context: usize,
}

/// Type of the weights on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TinyDtype {
    /// 4 bytes.
    F32,
    /// 2 bytes, 10 bits of fraction.
    F16,
    /// 2 bytes, 7 bits of fraction.
    Bf16,
}

/// How rotary positions are written down in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TinyRope {
    /// `rope_theta` and `rope_scaling: null`.
    Classic,
    /// `rope_parameters`, the same numbers as `Classic`, as transformers 5 writes them.
    Parameters,
    /// `rope_scaling` of type `llama3`.
    Llama3,
}

impl Default for TinyLlama {
    fn default() -> Self {
        Self { seed: 0, tied: true, shards: 1, dtype: TinyDtype::F16, rope: TinyRope::Classic, context: 1024 }
    }
}

/// Width of the residual stream of the tiny model.
pub const TINY_HIDDEN: usize = 64;
/// Rows of the embedding of the tiny model.
pub const TINY_VOCAB: usize = 300;

const LAYERS: usize = 2;
const FEED_FORWARD: usize = 128;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = TINY_HIDDEN / HEADS;
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const SPECIAL: SpecialIds = SpecialIds { bos: 1, eos: 2, unknown: 0, padding: 2 };
const MERGES: &str = "t h,h e,i n,e r,a n,r e,o n,a t,e n,n d,t i,e s,o r,t e,o f,e d,i s,i t,a l,a r,s t,t o,n t,n g,\
    s e,h a,a s,o u,i o,l e,v e,c o,m e,d e,h i,r i,r o,i c,n e,e a,th e";

/// ChatML with a default system turn, as SmolLM2 has it.
pub const TINY_CHAT_TEMPLATE: &str = "{% for message in messages %}\
{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are tiny.<|im_end|>\n' }}{% endif %}\
{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Writes a tiny LLaMA with its tokenizer and chat template into `dir`, which is created.
///
/// # Errors
/// The directory cannot be written.
pub fn write_tiny_llama(dir: &Path, options: &TinyLlama) -> Result<(), LlamaError> {
    fs::create_dir_all(dir).map_err(LlamaError::io(dir))?;
    let vocabulary = vocabulary();
    write_json(&dir.join("config.json"), &config(options))?;
    write_json(&dir.join("generation_config.json"), &generation_config_json(SPECIAL))?;
    write_json(&dir.join("tokenizer.json"), &vocabulary.tokenizer_json())?;
    let tokenizer_config = vocabulary.tokenizer_config_json(SPECIAL, options.context, TINY_CHAT_TEMPLATE);
    write_json(&dir.join("tokenizer_config.json"), &tokenizer_config)?;
    write_weights(dir, tensors(options), options.shards.max(1))
}

fn vocabulary() -> Vocabulary {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let merges: Vec<String> = MERGES.split(',').map(str::to_owned).collect();
    let controls = CONTROL.iter().map(|token| (*token).to_owned());
    let letters = alphabet.into_iter().map(String::from);
    let tokens = controls.chain(letters).chain(merges.iter().map(|pair| pair.replace(' ', ""))).collect();
    Vocabulary { tokens, control: vec![0, 1, 2], merges }
}

fn config(options: &TinyLlama) -> Value {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": SPECIAL.bos,
        "eos_token_id": SPECIAL.eos,
        "hidden_act": "silu",
        "hidden_size": TINY_HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": options.context,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": options.tied,
        "torch_dtype": options.dtype.torch_name(),
        "vocab_size": TINY_VOCAB
    });
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128
    });
    match options.rope {
        TinyRope::Classic => config["rope_theta"] = json!(100_000.0),
        TinyRope::Parameters => config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 100_000.0}),
        TinyRope::Llama3 => {
            config["rope_theta"] = json!(100_000.0);
            config["rope_scaling"] = llama3;
        }
    }
    config
}

fn tensors(options: &TinyLlama) -> Vec<RawTensor> {
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| tensors.push(options.dtype.tensor(name, shape, &mut random));
    add("model.embed_tokens.weight".into(), &[TINY_VOCAB, TINY_HIDDEN]);
    for layer in 0..LAYERS {
        let mut part = |name: &str, shape: &[usize]| add(format!("model.layers.{layer}.{name}.weight"), shape);
        part("input_layernorm", &[TINY_HIDDEN]);
        part("self_attn.q_proj", &[HEADS * HEAD_DIM, TINY_HIDDEN]);
        part("self_attn.k_proj", &[KV_HEADS * HEAD_DIM, TINY_HIDDEN]);
        part("self_attn.v_proj", &[KV_HEADS * HEAD_DIM, TINY_HIDDEN]);
        part("self_attn.o_proj", &[TINY_HIDDEN, HEADS * HEAD_DIM]);
        part("post_attention_layernorm", &[TINY_HIDDEN]);
        part("mlp.gate_proj", &[FEED_FORWARD, TINY_HIDDEN]);
        part("mlp.up_proj", &[FEED_FORWARD, TINY_HIDDEN]);
        part("mlp.down_proj", &[TINY_HIDDEN, FEED_FORWARD]);
    }
    add("model.norm.weight".into(), &[TINY_HIDDEN]);
    if !options.tied {
        add("lm_head.weight".into(), &[TINY_VOCAB, TINY_HIDDEN]);
    }
    tensors
}

impl TinyDtype {
    fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Norms around 1, matrices with the variance that keeps the stream's size.
    fn tensor(self, name: String, shape: &[usize], random: &mut ChaCha8Rng) -> RawTensor {
        let (middle, spread) = match shape {
            [_, inputs] => (0.0, (3.0 / *inputs as f32).sqrt()),
            _ => (1.0, 0.1),
        };
        let count: usize = shape.iter().product();
        let mut number = || middle + spread * (2.0 * random.random::<f32>() - 1.0);
        let (dtype, bytes) = match self {
            Self::F32 => (Dtype::F32, (0..count).flat_map(|_| number().to_le_bytes()).collect()),
            Self::F16 => (Dtype::F16, (0..count).flat_map(|_| f16::from_f32(number()).to_le_bytes()).collect()),
            Self::Bf16 => (Dtype::BF16, (0..count).flat_map(|_| bf16::from_f32(number()).to_le_bytes()).collect()),
        };
        RawTensor { name, dtype, shape: shape.to_vec(), bytes }
    }
}

fn write_weights(dir: &Path, mut tensors: Vec<RawTensor>, shards: usize) -> Result<(), LlamaError> {
    if shards == 1 {
        return write_safetensors(&dir.join("model.safetensors"), &tensors);
    }
    let total: usize = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    let share = tensors.len().div_ceil(shards);
    let mut map = Map::new();
    for shard in 1..=shards {
        let rest = tensors.split_off(share.min(tensors.len()));
        let file = format!("model-{shard:05}-of-{shards:05}.safetensors");
        map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), json!(file))));
        write_safetensors(&dir.join(&file), &tensors)?;
        tensors = rest;
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    write_json(&dir.join("model.safetensors.index.json"), &index)
}
