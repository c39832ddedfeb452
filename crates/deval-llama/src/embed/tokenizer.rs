//! The tokenizer of a sentence encoder: `tokenizer.json`, or BERT's `vocab.txt`.
//!
//! Mirrors transformers' `BertTokenizerFast` (`tokenization_bert_fast.py`, `convert_slow_tokenizer.py`): the
//! normalization that `tokenizer_config.json` asks for wins over the one in `tokenizer.json`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, NormalizerWrapper};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, PostProcessor, Tokenizer, TruncationParams};

use super::config::{EncoderConfig, Family};
use crate::LlamaError;
use crate::files::read_json_if_present;
use crate::tokenizer::read_tokenizer;

/// From texts to at most so many token ids as the encoder takes.
pub(super) struct SentenceTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
}

/// What `tokenizer_config.json` may say; absent keys mean what they mean to `BertTokenizerFast`.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    tokenizer_class: Option<String>,
    do_lower_case: Option<bool>,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
    unk_token: Option<SpecialToken>,
    sep_token: Option<SpecialToken>,
    pad_token: Option<SpecialToken>,
    cls_token: Option<SpecialToken>,
    mask_token: Option<SpecialToken>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SpecialToken {
    Plain(String),
    Described { content: String },
}

impl SentenceTokenizer {
    /// Loads the tokenizer of `dir`, cut to `limit` tokens, special ones included, whatever its files say about
    /// length: AnglE passes its own limit.
    pub(super) fn load(dir: &Path, config: &EncoderConfig, limit: usize) -> Result<Self, LlamaError> {
        let settings: TokenizerConfig = read_json_if_present(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let (path, vocabulary) = (dir.join("tokenizer.json"), dir.join("vocab.txt"));
        let wordpiece = config.family != Family::Roberta;
        let mut loaded = if path.exists() {
            let tokenizer = read_tokenizer(&path)?;
            Self { path, tokenizer }
        } else if wordpiece && vocabulary.exists() {
            let text = fs::read(&vocabulary).map_err(LlamaError::io(&vocabulary))?;
            let tokenizer =
                from_vocabulary(&text, &settings).map_err(|error| LlamaError::tokenizer(&vocabulary, error))?;
            Self { path: vocabulary, tokenizer }
        } else {
            let other = if wordpiece { " or vocab.txt" } else { "" };
            return Err(LlamaError::tokenizer(dir, format!("no tokenizer.json{other} is there")));
        };
        if wordpiece && settings.is_bert() {
            loaded.normalize_as(&settings)?;
        }
        loaded.limit(limit)?;
        loaded.check_vocabulary(config.vocab_size)?;
        Ok(loaded)
    }

    /// The ids of a text, special tokens included; at least one.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>, LlamaError> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|error| self.failed(error))?;
        if encoding.is_empty() {
            Err(self.failed("a text becomes no token at all"))
        } else {
            Ok(encoding.get_ids().into())
        }
    }

    fn failed(&self, message: impl ToString) -> LlamaError {
        LlamaError::tokenizer(&self.path, message)
    }

    fn normalize_as(&mut self, settings: &TokenizerConfig) -> Result<(), LlamaError> {
        let Some(NormalizerWrapper::BertNormalizer(normalizer)) = self.tokenizer.get_normalizer() else {
            return Ok(());
        };
        let normalizer = settings.normalizer(normalizer.clean_text);
        let changed = self.tokenizer.with_normalizer(Some(normalizer)).map(|_| ());
        changed.map_err(|error| self.failed(error))
    }

    fn limit(&mut self, limit: usize) -> Result<(), LlamaError> {
        let special = self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        if limit <= special {
            let message = format!("{special} special tokens leave no room for a text in {limit} positions");
            return Err(self.failed(message));
        }
        let truncation = TruncationParams { max_length: limit, ..Default::default() };
        let limited = self.tokenizer.with_padding(None).with_truncation(Some(truncation)).map(|_| ());
        limited.map_err(|error| self.failed(error))
    }

    fn check_vocabulary(&self, size: usize) -> Result<(), LlamaError> {
        let vocabulary = self.tokenizer.get_vocab(true);
        let last = vocabulary.iter().max_by_key(|(_, id)| **id).filter(|(_, id)| **id as usize >= size);
        last.map_or(Ok(()), |(token, id)| {
            Err(self.failed(format!("token {token:?} has id {id}, but config.json has a vocab_size of {size}")))
        })
    }
}

/// WordPiece over the lines of `vocab.txt`; a line's number is the token's id.
fn from_vocabulary(text: &[u8], settings: &TokenizerConfig) -> Result<Tokenizer, tokenizers::Error> {
    let unknown = settings.unknown();
    let model = WordPiece::builder().vocab(WordPiece::read_bytes(text)?).unk_token(unknown.to_owned()).build()?;
    let mut tokenizer = Tokenizer::new(model);
    let required = |token: &str| {
        let id = tokenizer.token_to_id(token).ok_or_else(|| format!("the special token {token:?} has no line"))?;
        Ok::<_, tokenizers::Error>((token.to_owned(), id))
    };
    required(unknown)?;
    let processor = BertProcessing::new(required(settings.separator())?, required(settings.first())?);
    let special: Vec<AddedToken> = settings
        .special()
        .into_iter()
        .filter(|token| tokenizer.token_to_id(token).is_some())
        .map(|token| AddedToken::from(token, true))
        .collect();
    tokenizer.with_normalizer(Some(settings.normalizer(true)))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer)).with_post_processor(Some(processor));
    tokenizer.add_special_tokens(special)?;
    Ok(tokenizer)
}

impl TokenizerConfig {
    /// Without a class the model type chooses it.
    fn is_bert(&self) -> bool {
        self.tokenizer_class
            .as_deref()
            .is_none_or(|class| class.starts_with("BertTokenizer") || class.starts_with("DistilBertTokenizer"))
    }

    fn normalizer(&self, clean_text: bool) -> BertNormalizer {
        let chinese = self.tokenize_chinese_chars.unwrap_or(true);
        BertNormalizer::new(clean_text, chinese, self.strip_accents, self.do_lower_case.unwrap_or(true))
    }

    fn unknown(&self) -> &str {
        name(&self.unk_token, "[UNK]")
    }

    fn separator(&self) -> &str {
        name(&self.sep_token, "[SEP]")
    }

    fn first(&self) -> &str {
        name(&self.cls_token, "[CLS]")
    }

    fn special(&self) -> [&str; 5] {
        let (padding, mask) = (name(&self.pad_token, "[PAD]"), name(&self.mask_token, "[MASK]"));
        [self.unknown(), self.separator(), padding, self.first(), mask]
    }
}

fn name<'a>(token: &'a Option<SpecialToken>, default: &'a str) -> &'a str {
    match token {
        Some(SpecialToken::Plain(content) | SpecialToken::Described { content }) => content,
        None => default,
    }
}
