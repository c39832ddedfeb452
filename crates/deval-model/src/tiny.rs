//! Tiny LLaMA models: whole Hugging Face directories of some 100 kB, written in milliseconds, for tests and proofs that need *a* model
//! and not a good one. They load in transformers 4.47 and in the built-in engine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use deval_eval::Dice;
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde_json::{Map, Value, json};

use crate::ModelError;

/// What a tiny model says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`CHAIN_ANSWER`] and then `<|eot_id|>` to every chat, also when it is sampled.
    Chain,
    /// One of `Response: 0.0` … `Response: 1.0`, some letters, and mostly `<|eot_id|>` after a while; which, depends on all that the
    /// chat says, so that equal answers prove equal questions.
    Random {
        /// Other seed, other weights.
        seed: u64,
    },
}

/// What [`Kind::Chain`] answers.
pub const CHAIN_ANSWER: &str = "Response: 0.75";

/// Longest sequence in tokens, which are bytes but for [`CHAIN_ANSWER`] and its like.
pub const CONTEXT: usize = 8192;

const HIDDEN: usize = 32;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KEY_VALUE_HEADS: usize = 2;
const HEAD_DIM: usize = HIDDEN / HEADS;
const FEED_FORWARD: usize = 64;

/// Tokens with a role, behind the 256 bytes.
const SPECIAL: [&str; 5] =
    ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];
const BEGIN: usize = 256;
const END_OF_TEXT: usize = 257;
const END_OF_TURN: usize = 260;
/// The first answer, which is [`CHAIN_ANSWER`]; the eleven of the tenths follow.
const ANSWER: usize = 261;
const VOCABULARY: usize = ANSWER + 12;

/// Directions of the residual stream that mean "a newline was just read" and "the chain's answer was just said". Nothing but the
/// embedding writes to them.
const NEWLINE: usize = 0;
const ANSWERED: usize = 1;

/// Llama 3's turns. The prompt for an answer ends in a newline.
const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

/// Writes a tiny model into `dir`, which is created: `config.json`, `generation_config.json` (greedy), `model.safetensors` (16 bits),
/// `tokenizer.json`, `tokenizer_config.json` with a chat template. Equal kinds give equal bytes.
///
/// # Errors
/// The directory cannot be written.
pub fn write(dir: &Path, kind: Kind) -> Result<(), ModelError> {
    fs::create_dir_all(dir).map_err(ModelError::io("make", dir))?;
    for (name, value) in [
        ("config.json", config()),
        ("generation_config.json", generation_config()),
        ("tokenizer.json", tokenizer()),
        ("tokenizer_config.json", tokenizer_config()),
    ] {
        write_file(&dir.join(name), format!("{value:#}\n").as_bytes())?;
    }
    write_file(&dir.join("model.safetensors"), &weights(kind))
}

/// Mode 0644, whatever the mask: a container reads it as another user.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    fs::write(path, bytes).map_err(ModelError::io("write", path))?;
    fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(ModelError::io("set the mode of", path))
}

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "bos_token_id": BEGIN,
        "eos_token_id": END_OF_TURN,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": CONTEXT,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": false,
        "torch_dtype": "float16",
        "vocab_size": VOCABULARY
    })
}

fn generation_config() -> Value {
    json!({
        "bos_token_id": BEGIN,
        "do_sample": false,
        "eos_token_id": [END_OF_TURN, END_OF_TEXT],
        "pad_token_id": END_OF_TEXT
    })
}

/// Bytes as the byte-level alphabet spells them, no merges; the special tokens and the answers are added.
fn tokenizer() -> Value {
    let bytes: Map<String, Value> =
        alphabet().enumerate().map(|(id, letter)| (letter.to_string(), json!(id))).collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let added: Vec<Value> = added_tokens()
        .map(|(id, mut token)| {
            token["id"] = json!(id);
            token
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": bytes, "merges": []
        }
    })
}

fn tokenizer_config() -> Value {
    let decoder: Map<String, Value> = added_tokens().map(|(id, token)| (id.to_string(), token)).collect();
    json!({
        "add_prefix_space": false,
        "added_tokens_decoder": decoder,
        "bos_token": SPECIAL[BEGIN - 256],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": SPECIAL[END_OF_TURN - 256],
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": CONTEXT,
        "pad_token": SPECIAL[END_OF_TEXT - 256],
        "tokenizer_class": "PreTrainedTokenizerFast"
    })
}

fn added_tokens() -> impl Iterator<Item = (usize, Value)> {
    let special = SPECIAL.into_iter().map(|text| (text.to_owned(), true));
    let tenths = (0..=10).map(|tenth| format!("Response: {}.{}", tenth / 10, tenth % 10));
    let answers = std::iter::once(CHAIN_ANSWER.to_owned()).chain(tenths).map(|text| (text, false));
    special.chain(answers).zip(256..).map(|((content, special), id)| {
        let token = json!({
            "content": content, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
            "special": special
        });
        (id, token)
    })
}

/// GPT-2's spelling of the bytes 0 to 255: visible Latin-1 stands for itself, the rest for the code points from 256 on.
fn alphabet() -> impl Iterator<Item = char> {
    let mut next = 256;
    (0..=255_u8).map(move |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            let letter = char::from_u32(next).expect("256 to 323 are letters");
            next += 1;
            letter
        }
    })
}

/// The numbers of a matrix or, with one column, of a norm; rows are outputs.
struct Matrix {
    rows: usize,
    columns: usize,
    numbers: Vec<f32>,
}

impl Matrix {
    fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, numbers: vec![0.0; rows * columns] }
    }

    /// Normal numbers with this standard deviation.
    fn normal(rows: usize, columns: usize, spread: f64, dice: &mut Dice) -> Self {
        let numbers = (0..rows * columns).map(|_| (spread * dice.normal()) as f32).collect();
        Self { rows, columns, numbers }
    }

    fn row(&mut self, row: usize) -> &mut [f32] {
        &mut self.numbers[row * self.columns..(row + 1) * self.columns]
    }

    /// Keeps the two directions with a meaning free of what is written here.
    fn without_reserved_rows(mut self) -> Self {
        self.row(NEWLINE).fill(0.0);
        self.row(ANSWERED).fill(0.0);
        self
    }
}

fn weights(kind: Kind) -> Vec<u8> {
    let seed = match kind {
        Kind::Chain => 0,
        Kind::Random { seed } => seed,
    };
    let mut dice = Dice::new(seed, 0);
    let mut tensors = vec![("model.embed_tokens".to_owned(), embedding(&mut dice))];
    for number in 0..LAYERS {
        let parts = layer(kind, &mut dice).into_iter();
        tensors.extend(parts.map(|(name, matrix)| (format!("model.layers.{number}.{name}"), matrix)));
    }
    let head = match kind {
        Kind::Chain => chain_head(),
        Kind::Random { .. } => random_head(&mut dice),
    };
    tensors.extend([("model.norm".to_owned(), norm()), ("lm_head".to_owned(), head)]);
    serialized(&tensors)
}

fn serialized(tensors: &[(String, Matrix)]) -> Vec<u8> {
    let half =
        |matrix: &Matrix| matrix.numbers.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes()).collect();
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, matrix)| half(matrix)).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, matrix), bytes)| {
        let shape = if matrix.columns == 1 { vec![matrix.rows] } else { vec![matrix.rows, matrix.columns] };
        let view = TensorView::new(Dtype::F16, shape, bytes).expect("two bytes for each number");
        (format!("{name}.weight"), view)
    });
    let format = [("format".to_owned(), "pt".to_owned())].into();
    serialize(views, Some(format)).expect("names differ and sizes fit")
}

/// A newline and the chain's answer have a direction each; all other tokens are random in the rest.
fn embedding(dice: &mut Dice) -> Matrix {
    let mut tokens = Matrix::normal(VOCABULARY, HIDDEN, 1.0, dice);
    for token in 0..VOCABULARY {
        tokens.row(token)[..2].fill(-1.0);
    }
    for (token, direction) in [(usize::from(b'\n'), NEWLINE), (ANSWER, ANSWERED)] {
        tokens.row(token).fill(0.0);
        tokens.row(token)[direction] = 6.0;
    }
    tokens
}

/// The chain's layers add nothing. The random ones look at few places (wide queries and keys), so that single words matter.
fn layer(kind: Kind, dice: &mut Dice) -> [(&'static str, Matrix); 9] {
    const KEY_VALUE: usize = KEY_VALUE_HEADS * HEAD_DIM;
    let mut matrix =
        |rows, columns: usize, gain: f64| Matrix::normal(rows, columns, gain / (columns as f64).sqrt(), dice);
    let parts = [
        ("input_layernorm", norm()),
        ("self_attn.q_proj", matrix(HIDDEN, HIDDEN, 2.0)),
        ("self_attn.k_proj", matrix(KEY_VALUE, HIDDEN, 2.0)),
        ("self_attn.v_proj", matrix(KEY_VALUE, HIDDEN, 2.0)),
        ("self_attn.o_proj", matrix(HIDDEN, HIDDEN, 2.0).without_reserved_rows()),
        ("post_attention_layernorm", norm()),
        ("mlp.gate_proj", matrix(FEED_FORWARD, HIDDEN, 1.0)),
        ("mlp.up_proj", matrix(FEED_FORWARD, HIDDEN, 1.0)),
        ("mlp.down_proj", matrix(HIDDEN, FEED_FORWARD, 1.0).without_reserved_rows()),
    ];
    parts.map(|(name, matrix)| match (kind, name) {
        (Kind::Chain, "self_attn.o_proj" | "mlp.down_proj") => (name, Matrix::zeros(matrix.rows, matrix.columns)),
        _ => (name, matrix),
    })
}

fn norm() -> Matrix {
    Matrix { rows: HIDDEN, columns: 1, numbers: vec![1.0; HIDDEN] }
}

/// Behind a newline the answer, behind the answer the end, both by a margin that no temperature bridges.
fn chain_head() -> Matrix {
    let mut head = Matrix::zeros(VOCABULARY, HIDDEN);
    head.row(ANSWER)[NEWLINE] = 100.0;
    head.row(END_OF_TURN)[ANSWERED] = 100.0;
    head
}

/// Behind a newline any of the answers; behind anything else visible ASCII or, by its wider numbers rather often, the end.
fn random_head(dice: &mut Dice) -> Matrix {
    let mut head = Matrix::zeros(VOCABULARY, HIDDEN);
    // A digit would change the number before it.
    let spoken = (b' '..=b'~').filter(|byte| !byte.is_ascii_digit()).map(|byte| (usize::from(byte), 0.5, 0.0));
    let answers = (ANSWER..VOCABULARY).map(|token| (token, 1.0, 20.0));
    for (token, spread, newline) in spoken.chain(answers).chain([(END_OF_TURN, 2.5, 0.0)]) {
        let row = head.row(token);
        row.fill_with(|| (spread * dice.normal()) as f32);
        (row[NEWLINE], row[ANSWERED]) = (newline, 0.0);
    }
    head
}

#[cfg(test)]
mod tests;
