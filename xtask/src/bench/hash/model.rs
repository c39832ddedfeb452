//! The benchmark's models: real headers over random numbers, made once.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::Context as _;
use deval_chain::Wallet;
use deval_eval::Dice;
use deval_llama::testing::{TINY_VOCAB, TinyLlama, write_tiny_llama};
use serde_json::{Map, Value, json};

use crate::{cargo, ui::Ui};

const HIDDEN: usize = 4096;
const KEYS: usize = 1024;
const FEED_FORWARD: usize = 14_336;
const SHARDS: usize = 4;

/// Random numbers that are written again and again; what the numbers are makes no difference to a hash.
const POOL: usize = 8 << 20;

/// A tensor's name and shape.
type Shape = (String, Vec<usize>);

/// A submission with over 4 GiB of weights, and a model with the shape of LLaMA 3 8B whose data takes no room.
pub(super) fn prepare(dir: &Path, ui: Ui) -> anyhow::Result<()> {
    let sparse = dir.join("sparse");
    if !sparse.is_dir() {
        make(&sparse, &llama(32, 128_256), |file, bytes, header| Ok(file.set_len(header + bytes)?))?;
    }
    let model = dir.join("model");
    if model.is_dir() {
        return Ok(());
    }
    ui.say("making 4.4 GB of random weights, once, under target/deval/bench/hash");
    let making = dir.join("making");
    if making.exists() {
        fs::remove_dir_all(&making).with_context(|| format!("cannot remove {}", making.display()))?;
    }
    write_tiny_llama(&making, &TinyLlama::default())?;
    fs::remove_file(making.join("model.safetensors")).context("the tiny model has one file")?;
    let config = making.join("config.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&config)?)?;
    let sizes = json!({
        "hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD, "num_attention_heads": 32, "num_key_value_heads": 8,
        "num_hidden_layers": 10, "tie_word_embeddings": false, "torch_dtype": "bfloat16"
    });
    for (name, size) in sizes.as_object().into_iter().flatten() {
        value[name] = size.clone();
    }
    fs::write(&config, value.to_string())?;
    let pool = pool();
    make(&making, &llama(10, TINY_VOCAB), |file, bytes, _| fill(file, bytes, &pool))?;
    if !dir.join("wallets").exists() {
        Wallet::create_throwaway(&dir.join("wallets"), "demo", "default")?;
    }
    let pipeline = cargo::root().join("pipeline/model");
    let manifest = format!(
        "schema = 1\n\n[submission]\nmodel_url = \"demo/bench\"\nmodel_dir = \"model\"\npipeline_dir = {pipeline:?}\n\n\
         [wallet]\npath = \"wallets\"\nname = \"demo\"\n"
    );
    fs::write(dir.join("deval.toml"), manifest)?;
    fs::rename(&making, &model).with_context(|| format!("cannot make {}", model.display()))
}

/// The tensors of a LLaMA whose layers are those of the 8B model.
fn llama(layers: usize, vocabulary: usize) -> Vec<Shape> {
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![vocabulary, HIDDEN])];
    for layer in 0..layers {
        let mut part = |name: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        };
        part("input_layernorm", &[HIDDEN]);
        part("self_attn.q_proj", &[HIDDEN, HIDDEN]);
        part("self_attn.k_proj", &[KEYS, HIDDEN]);
        part("self_attn.v_proj", &[KEYS, HIDDEN]);
        part("self_attn.o_proj", &[HIDDEN, HIDDEN]);
        part("post_attention_layernorm", &[HIDDEN]);
        part("mlp.gate_proj", &[FEED_FORWARD, HIDDEN]);
        part("mlp.up_proj", &[FEED_FORWARD, HIDDEN]);
        part("mlp.down_proj", &[HIDDEN, FEED_FORWARD]);
    }
    tensors.push(("model.norm.weight".to_owned(), vec![HIDDEN]));
    tensors.push(("lm_head.weight".to_owned(), vec![vocabulary, HIDDEN]));
    tensors
}

fn bytes((_, shape): &Shape) -> u64 {
    2 * shape.iter().product::<usize>() as u64
}

/// Writes shards and index; `data` puts so many bytes behind a header of so many.
fn make(
    dir: &Path,
    tensors: &[Shape],
    mut data: impl FnMut(&mut File, u64, u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let total: u64 = tensors.iter().map(bytes).sum();
    let mut shards = vec![Vec::new(); SHARDS];
    let mut at = 0;
    for tensor in tensors {
        shards[(at * SHARDS as u64 / total) as usize].push(tensor.clone());
        at += bytes(tensor);
    }
    let mut homes = BTreeMap::new();
    for (number, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{SHARDS:05}.safetensors", number + 1);
        homes.extend(shard.iter().map(|(tensor, _)| (tensor.clone(), name.clone())));
        let mut file = File::create(dir.join(&name)).with_context(|| format!("cannot write {name}"))?;
        let header = header(shard);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        data(&mut file, shard.iter().map(bytes).sum(), 8 + header.len() as u64)?;
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": homes });
    Ok(fs::write(dir.join("model.safetensors.index.json"), index.to_string())?)
}

/// The header as safetensors writes it, padded to 8 bytes.
fn header(shard: &[Shape]) -> String {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]);
    let mut at = 0;
    for tensor in shard {
        let end = at + bytes(tensor);
        let entry = json!({ "dtype": "BF16", "shape": tensor.1, "data_offsets": [at, end] });
        header.insert(tensor.0.clone(), entry);
        at = end;
    }
    let text = Value::Object(header).to_string();
    let length = text.len().next_multiple_of(8);
    format!("{text:length$}")
}

/// Weights as training leaves them, in BF16: normal numbers of size 0.02.
fn pool() -> Vec<u8> {
    let mut dice = Dice::new(0, 0);
    let bits = |x: f32| (x.to_bits() >> 16) as u16;
    (0..POOL / 2).flat_map(|_| bits(dice.normal() as f32 * 0.02).to_le_bytes()).collect()
}

fn fill(file: &mut File, bytes: u64, pool: &[u8]) -> anyhow::Result<()> {
    let mut file = BufWriter::with_capacity(pool.len(), file);
    let mut left = bytes as usize;
    while left > 0 {
        let piece = left.min(pool.len());
        file.write_all(&pool[..piece])?;
        left -= piece;
    }
    Ok(file.flush()?)
}
