//! `tokenizer.json` of a model directory, as transformers loads it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::de::IgnoredAny;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::LlamaError;
use crate::files::read_text;
use crate::grammar::Vocabulary;
use crate::special::TokenizerSettings;
use crate::work::Prompt;

/// A tokenizer without truncation and padding.
pub(crate) struct TextCodec {
    path: PathBuf,
    tokenizer: Tokenizer,
    unknown: Option<u32>,
    end: Option<u32>,
    /// `clean_up_tokenization_spaces`.
    cleans_up: bool,
    vocabulary: OnceLock<Arc<Vocabulary>>,
}

impl TextCodec {
    pub(crate) fn load(dir: &Path) -> Result<Self, LlamaError> {
        let path = dir.join("tokenizer.json");
        let settings = TokenizerSettings::load(dir)?;
        let failed = |error| LlamaError::tokenizer(&path, error);
        let mut tokenizer = read_tokenizer(&path)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(failed)?;
        tokenizer.set_encode_special_tokens(settings.flag("split_special_tokens", false));
        add_tokens(&mut tokenizer, &settings).map_err(failed)?;
        if settings.is_llama {
            let processor =
                llama_processor(&tokenizer, &settings).map_err(|error| LlamaError::tokenizer(&path, error))?;
            tokenizer.with_post_processor(Some(processor));
        }
        let id = |role: &str| tokenizer.token_to_id(settings.roles.get(role)?);
        let (unknown, end) = (id("unk_token"), id("eos_token"));
        let cleans_up = settings.flag("clean_up_tokenization_spaces", false);
        Ok(Self { path, tokenizer, unknown, end, cleans_up, vocabulary: OnceLock::new() })
    }

    /// The tokens of a rendered chat, taken as it stands: transformers' `apply_chat_template` adds nothing to it, so that no BOS is ever
    /// doubled.
    pub(crate) fn encode_chat(&self, text: &str) -> Result<Vec<u32>, LlamaError> {
        Ok(guarded(&self.path, || self.tokenizer.encode_fast(text, false))?.get_ids().to_vec())
    }

    /// The tokens of a text with the tokenizer's own leading tokens (BOS), as `tokenizer(text)` has them. Trailing ones (EOS) are left
    /// out: a prompt is to be continued.
    pub(crate) fn encode_plain(&self, text: &str) -> Result<Vec<u32>, LlamaError> {
        let encoding = guarded(&self.path, || self.tokenizer.encode(text, true))?;
        let mut ids = encoding.get_ids().to_vec();
        if let Some(last) = encoding.get_offsets().iter().rposition(|(_, end)| *end > 0) {
            ids.truncate(last + 1);
        }
        Ok(ids)
    }

    /// The tokens of a prompt.
    pub(crate) fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>, LlamaError> {
        let bare = self.encode_chat(prompt.as_str())?;
        match prompt {
            Prompt::Text(text) if !bare.first().is_some_and(|first| self.is_special(*first)) => self.encode_plain(text),
            _ => Ok(bare),
        }
    }

    /// The text of tokens, special ones left out, as transformers' `decode(…, skip_special_tokens=True)` has it.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, LlamaError> {
        let text = guarded(&self.path, || self.tokenizer.decode(ids, true))?;
        Ok(if self.cleans_up { cleaned_up(text) } else { text })
    }

    pub(crate) fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// As transformers' `convert_tokens_to_ids`: a name that is no token is the unknown token, if there is one.
    pub(crate) fn token_id_or_unknown(&self, token: &str) -> Option<u32> {
        self.token_id(token).or(self.unknown)
    }

    /// The bytes of all tokens.
    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        self.vocabulary.get_or_init(|| Arc::new(Vocabulary::new(&self.tokenizer)))
    }

    /// The tokenizer's `eos_token`.
    pub(crate) fn end_token(&self) -> Option<u32> {
        self.end
    }

    #[cfg(test)]
    pub(crate) fn token_name(&self, id: u32) -> String {
        self.tokenizer.id_to_token(id).unwrap()
    }

    fn is_special(&self, id: u32) -> bool {
        self.tokenizer.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }
}

/// Reads `tokenizer.json`.
pub(crate) fn read_tokenizer(path: &Path) -> Result<Tokenizer, LlamaError> {
    let text = read_text(path)?;
    serde_json::from_slice::<IgnoredAny>(&text).map_err(LlamaError::json(path))?;
    guarded(path, || Tokenizer::from_bytes(text))
}

/// What the tokenizers library says; on some files that cannot be it panics.
pub(crate) fn guarded<T>(path: &Path, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, LlamaError> {
    let why = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(result)) => return Ok(result),
        Ok(Err(error)) => format!("refuses it ({error})"),
        Err(_) => "breaks on it".to_owned(),
    };
    let message = format!("the tokenizers library {why}; take the file that `save_pretrained` writes");
    Err(LlamaError::tokenizer(path, message))
}

/// Loads the tokenizer of a model directory as transformers would, and tries it.
///
/// # Errors
/// A file that is absent, unreadable or refused, or a tokenizer that fails on a plain text.
pub fn check_tokenizer(dir: &Path) -> Result<(), LlamaError> {
    let codec = TextCodec::load(dir)?;
    let tokens = codec.encode_plain("Response: 0.5")?;
    codec.decode(&tokens).map(|_| ())
}

/// `PreTrainedTokenizerBase.clean_up_tokenization`.
fn cleaned_up(text: String) -> String {
    let artifacts = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    artifacts
        .iter()
        .fold(text, |text, (found, clean)| if text.contains(found) { text.replace(found, clean) } else { text })
}

/// What transformers adds to the vocabulary: listed tokens that `tokenizer.json` does not have so, then special ones it lacks.
fn add_tokens(tokenizer: &mut Tokenizer, settings: &TokenizerSettings) -> tokenizers::Result<()> {
    let there = tokenizer.get_added_tokens_decoder();
    let mut added = settings.added_tokens(|id| there.get(&id).cloned());
    for token in settings.special() {
        let known = there.values().chain(&added).any(|known| known.content == *token);
        if !known {
            added.push(AddedToken::from(token.clone(), true));
        }
    }
    tokenizer.add_tokens(added)?;
    Ok(())
}

/// `LlamaTokenizerFast.update_post_processor`.
fn llama_processor(tokenizer: &Tokenizer, settings: &TokenizerSettings) -> Result<TemplateProcessing, String> {
    let wanted =
        [("bos_token", settings.flag("add_bos_token", true)), ("eos_token", settings.flag("add_eos_token", false))];
    let mut special = Vec::new();
    let mut piece = |(role, wanted): (&str, bool)| -> Result<String, String> {
        if !wanted {
            return Ok(String::new());
        }
        let token = settings
            .roles
            .get(role)
            .ok_or_else(|| format!("tokenizer_config.json adds a {role} that it does not name"))?;
        let id = tokenizer.token_to_id(token).ok_or_else(|| format!("{role} {token:?} is not in the vocabulary"))?;
        special.push((token.clone(), id));
        Ok(format!("{token}:0"))
    };
    let [front, back] = wanted.map(&mut piece);
    let single = [front?, "$A:0".to_owned(), back?].into_iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>();
    let template = TemplateProcessing::builder().try_single(single)?.special_tokens(special).build();
    template.map_err(|error| error.to_string())
}
