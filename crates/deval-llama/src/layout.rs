//! The files of a Hugging Face model directory, as written by the GGUF conversion and by the tiny test model.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};

use crate::LlamaError;

/// A byte-level BPE vocabulary.
pub(crate) struct Vocabulary {
    /// Token texts in the byte-level alphabet, in order of their ids.
    pub(crate) tokens: Vec<String>,
    /// Ids of control tokens such as `<|im_end|>`.
    pub(crate) control: Vec<u32>,
    /// Pairs to merge, `left right`, most urgent first.
    pub(crate) merges: Vec<String>,
}

/// Ids with a role.
#[derive(Clone, Copy)]
pub(crate) struct SpecialIds {
    pub(crate) bos: u32,
    pub(crate) eos: u32,
    pub(crate) unknown: u32,
    pub(crate) padding: u32,
}

/// A tensor as it goes to disk.
pub(crate) struct RawTensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Little-endian numbers.
    pub(crate) bytes: Vec<u8>,
}

impl Vocabulary {
    /// `tokenizer.json`: single digits split off, then byte-level BPE, as llama.cpp's pre-tokenizer `smollm`.
    pub(crate) fn tokenizer_json(&self) -> Value {
        let ids: Map<String, Value> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let digits = json!({"type": "Digits", "individual_digits": true});
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.control.iter().map(|id| self.added_token(*id)).collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
            "post_processor": null,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": ids, "merges": self.merges
            }
        })
    }

    fn added_token(&self, id: u32) -> Value {
        json!({
            "id": id, "content": self.tokens[id as usize], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    }

    /// `tokenizer_config.json`.
    pub(crate) fn tokenizer_config_json(&self, special: SpecialIds, context: usize, chat_template: &str) -> Value {
        let token = |id: u32| self.tokens[id as usize].as_str();
        let controls: Vec<&str> = self.control.iter().map(|id| token(*id)).collect();
        let decoder: Map<String, Value> = self
            .control
            .iter()
            .map(|id| {
                let mut entry = self.added_token(*id);
                entry.as_object_mut().map(|entry| entry.shift_remove("id"));
                (id.to_string(), entry)
            })
            .collect();
        json!({
            "add_prefix_space": false,
            "added_tokens_decoder": decoder,
            "additional_special_tokens": controls,
            "bos_token": token(special.bos),
            "chat_template": chat_template,
            "clean_up_tokenization_spaces": false,
            "eos_token": token(special.eos),
            "model_max_length": context,
            "pad_token": token(special.padding),
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": token(special.unknown)
        })
    }
}

/// `generation_config.json`.
pub(crate) fn generation_config_json(special: SpecialIds) -> Value {
    json!({
        "_from_model_config": true,
        "bos_token_id": special.bos,
        "eos_token_id": special.eos,
        "pad_token_id": special.padding
    })
}

/// Writes a safetensors file (staged, mode 0644); the crate orders the tensors by type and name.
pub(crate) fn write_safetensors(path: &Path, tensors: &[RawTensor]) -> Result<(), LlamaError> {
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|tensor| Ok((&tensor.name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)?)))
        .collect();
    let failed = |error: safetensors::SafeTensorError| LlamaError::weights(path, error);
    let format = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(views.map_err(failed)?, Some(format), path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(LlamaError::io(path))
}
