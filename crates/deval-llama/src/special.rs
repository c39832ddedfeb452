//! What `tokenizer_config.json` says beside the chat template: tokens with a role, added tokens, the tokenizer's class.
//!
//! Mirrors transformers 4.47 `tokenization_utils_base.py` (`_from_pretrained`), `tokenization_utils_fast.py` (`__init__`) and
//! `models/llama/tokenization_llama_fast.py`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::AddedToken;

use crate::LlamaError;
use crate::files::read_json_if_present;

const ROLES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const ADDITIONAL: &str = "additional_special_tokens";

/// The settings of a tokenizer.
#[derive(Debug, Default)]
pub(crate) struct TokenizerSettings {
    /// `tokenizer_config.json`, null when there is none.
    config: Value,
    /// Token texts by role (`bos_token`).
    pub(crate) roles: BTreeMap<String, String>,
    /// `additional_special_tokens`.
    pub(crate) additional: Vec<String>,
    /// Whether transformers loads it as `LlamaTokenizerFast`, which puts BOS and EOS where the settings say.
    pub(crate) is_llama: bool,
}

impl TokenizerSettings {
    /// Reads `tokenizer_config.json`, for older folders `special_tokens_map.json`, and the model's type.
    pub(crate) fn load(dir: &Path) -> Result<Self, LlamaError> {
        let optional = |name: &str| read_json_if_present::<Value>(&dir.join(name)).map(Option::unwrap_or_default);
        let mut config = optional("tokenizer_config.json")?;
        // Newer folders repeat the roles in tokenizer_config.json, and the map is not read.
        if config["added_tokens_decoder"].is_null()
            && let Value::Object(map) = optional("special_tokens_map.json")?
        {
            let known = config.as_object_mut().map(|config| config.extend(map.clone()));
            if known.is_none() {
                config = Value::Object(map);
            }
        }
        let class = config["tokenizer_class"].as_str().map(str::to_owned);
        let is_llama = match class {
            Some(class) => matches!(class.as_str(), "LlamaTokenizer" | "LlamaTokenizerFast"),
            None => optional("config.json")?["model_type"] == "llama",
        };
        let mut roles: BTreeMap<String, String> =
            ROLES.iter().filter_map(|role| Some(((*role).to_owned(), token_text(&config[*role])?))).collect();
        if is_llama {
            for (role, token) in [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")] {
                if config.get(role).is_none() {
                    roles.insert(role.to_owned(), token.to_owned());
                }
            }
        }
        let additional = config[ADDITIONAL].as_array().into_iter().flatten().filter_map(token_text).collect();
        Ok(Self { config, roles, additional, is_llama })
    }

    /// A switch of `tokenizer_config.json`.
    pub(crate) fn flag(&self, key: &str, default: bool) -> bool {
        self.config[key].as_bool().unwrap_or(default)
    }

    /// The text of the template in `tokenizer_config.json`: a text, or several with a name each, of which `default` is taken. The error
    /// tells what stands there otherwise.
    pub(crate) fn chat_template(&self) -> Result<Option<String>, String> {
        let named = |templates: BTreeMap<&str, &Value>| match templates.get("default").map(|text| text.as_str()) {
            Some(Some(text)) => Ok(Some(text.to_owned())),
            _ => {
                Err(format!("there are templates named {:?}, none is `default`", templates.keys().collect::<Vec<_>>()))
            }
        };
        match &self.config["chat_template"] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            Value::Array(list) => {
                let pair = |entry: &'_ Value| Some((entry["name"].as_str()?.to_owned(), entry["template"].clone()));
                let pairs: Option<Vec<(String, Value)>> = list.iter().map(pair).collect();
                let pairs = pairs.ok_or("a list of templates needs `name` and `template` in each entry")?;
                named(pairs.iter().map(|(name, text)| (name.as_str(), text)).collect())
            }
            Value::Object(map) => named(map.iter().map(|(name, text)| (name.as_str(), text)).collect()),
            other => Err(format!("`chat_template` is {other}, expected a text or a list of {{name, template}}")),
        }
    }

    /// Tokens that transformers adds to those of `tokenizer.json`, in its order; `known` tells what is there under an id.
    pub(crate) fn added_tokens(&self, known: impl Fn(u32) -> Option<AddedToken>) -> Vec<AddedToken> {
        let decoder = self.config["added_tokens_decoder"].as_object();
        let mut listed: Vec<(u32, AddedToken)> = decoder
            .into_iter()
            .flatten()
            .filter_map(|(id, token)| Some((id.parse().ok()?, self.added_token(token)?)))
            .collect();
        listed.sort_by_key(|(id, _)| *id);
        listed
            .into_iter()
            .filter(|(id, token)| !known(*id).is_some_and(|there| same(&there, token)))
            .map(|(_, token)| token)
            .collect()
    }

    /// Special tokens in transformers' order.
    pub(crate) fn special(&self) -> impl Iterator<Item = &String> {
        ROLES.iter().filter_map(|role| self.roles.get(*role)).chain(&self.additional)
    }

    fn added_token(&self, entry: &Value) -> Option<AddedToken> {
        let content = entry["content"].as_str()?;
        let flag = |key: &str| entry[key].as_bool().unwrap_or(false);
        let special = flag("special") || self.special().any(|token| token == content);
        let token = AddedToken::from(content, special);
        let token = token.single_word(flag("single_word")).lstrip(flag("lstrip")).rstrip(flag("rstrip"));
        Some(token.normalized(entry["normalized"].as_bool().unwrap_or(!special)))
    }
}

/// All fields; the crate's own comparison looks at the content alone.
fn same(a: &AddedToken, b: &AddedToken) -> bool {
    let fields = |token: &AddedToken| (token.single_word, token.lstrip, token.rstrip, token.normalized, token.special);
    a.content == b.content && fields(a) == fields(b)
}

/// A token is written as its text or as an object with its `content`; an empty one is none.
fn token_text(value: &Value) -> Option<String> {
    let text = value.as_str().or_else(|| value["content"].as_str())?;
    (!text.is_empty()).then(|| text.to_owned())
}
