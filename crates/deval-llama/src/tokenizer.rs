//! `tokenizer.json` of a model directory.

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use crate::LlamaError;

/// A tokenizer without truncation and padding.
pub(crate) struct TextCodec {
    path: PathBuf,
    tokenizer: Tokenizer,
}

/// A text as tokens.
pub(crate) struct Encoded {
    /// Token ids.
    pub(crate) ids: Vec<u32>,
    /// For each token the byte of the text where it ends; 0 for tokens that the tokenizer itself put in front.
    pub(crate) ends: Vec<usize>,
}

impl TextCodec {
    pub(crate) fn load(dir: &Path) -> Result<Self, LlamaError> {
        let path = dir.join("tokenizer.json");
        let text = std::fs::read(&path).map_err(LlamaError::io(&path))?;
        let mut tokenizer = Tokenizer::from_bytes(text).map_err(|error| LlamaError::tokenizer(&path, error))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| LlamaError::tokenizer(&path, error))?;
        Ok(Self { path, tokenizer })
    }

    /// The tokens of a text. A text that starts with a special token is a rendered chat and taken as it stands, as
    /// transformers' `apply_chat_template` does; any other text gets the tokenizer's own leading tokens (BOS), as
    /// `tokenizer(text)` does. So no BOS is ever doubled. Trailing tokens of the tokenizer (EOS) are left out: a prompt
    /// is to be continued.
    pub(crate) fn encode(&self, text: &str) -> Result<Encoded, LlamaError> {
        let failed = |error| LlamaError::tokenizer(&self.path, error);
        let plain = self.tokenizer.encode(text, false).map_err(failed)?;
        let special = plain.get_ids().first().is_some_and(|first| self.is_special(*first));
        let encoding = if special { plain } else { self.tokenizer.encode(text, true).map_err(failed)? };
        let mut ids = encoding.get_ids().to_vec();
        let mut ends: Vec<usize> = encoding.get_offsets().iter().map(|(_, end)| *end).collect();
        let own = ends.iter().rposition(|end| *end > 0).map_or(0, |last| last + 1);
        if own > 0 {
            ids.truncate(own);
            ends.truncate(own);
        }
        Ok(Encoded { ids, ends })
    }

    /// The text of tokens, special ones left out.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, LlamaError> {
        self.tokenizer.decode(ids, true).map_err(|error| LlamaError::tokenizer(&self.path, error))
    }

    pub(crate) fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    #[cfg(test)]
    pub(crate) fn token_name(&self, id: u32) -> String {
        self.tokenizer.id_to_token(id).unwrap()
    }

    fn is_special(&self, id: u32) -> bool {
        self.tokenizer.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }
}
