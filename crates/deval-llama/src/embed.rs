//! Sentence embeddings of BERT-type encoders, for the validator's `relevance` reward.
//!
//! Mirrors angle-emb 0.5.1 as upstream's `deval/rewards/relevance.py` uses it: `WhereIsAI/UAE-Large-V1`, first token of
//! the last hidden state, no normalisation, no prompt, at most 512 tokens. Directories in sentence-transformers' layout
//! may ask for mean pooling.

use std::cmp::Reverse;
use std::path::Path;

use rayon::prelude::*;

use crate::LlamaError;
use crate::weights::Weights;

mod config;
mod encoder;
mod pooling;
mod tokenizer;

use config::EncoderConfig;
use encoder::Encoder;
use pooling::{Modules, Pooling};
use tokenizer::SentenceTokenizer;

/// Upstream's `max_length`.
const MAX_TOKENS: usize = 512;

/// Tokens, padding included, that go through the layers together: enough to keep the matrix products busy, few enough to
/// bound memory.
const TOKENS_PER_PASS: usize = 1024;

/// A loaded sentence encoder.
pub struct Embedder {
    name: String,
    tokenizer: SentenceTokenizer,
    encoder: Encoder,
    pooling: Pooling,
}

impl Embedder {
    /// Loads a directory with `config.json`, safetensors (f32, f16 or bf16; one file or shards) and `tokenizer.json` or
    /// `vocab.txt`, or a directory whose `modules.json` leads there. The supported values of `model_type` are bert,
    /// roberta, xlm-roberta, camembert and distilbert. `max_seq_length` of sentence-transformers is not obeyed:
    /// upstream's 512 tokens are what the reward sees.
    ///
    /// # Errors
    /// Whatever is absent, unreadable or not such an encoder with first-token or mean pooling.
    pub fn load(dir: &Path) -> Result<Self, LlamaError> {
        let Modules { encoder, pooling } = Modules::load(dir)?;
        let config = EncoderConfig::load(&encoder)?;
        let tokenizer = SentenceTokenizer::load(&encoder, &config, config.max_tokens().min(MAX_TOKENS))?;
        let encoder = Encoder::load(&config, &Weights::open(&encoder)?)?;
        Ok(Self { name: folder_name(dir), tokenizer, encoder, pooling })
    }

    /// Name of the directory. It holds no slash, so it is never a Hub id such as `WhereIsAI/UAE-Large-V1`: what a folder
    /// is called proves nothing about the weights in it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The embedding of a text, `hidden_size` numbers, not normalised. The empty text is `[CLS][SEP]`.
    ///
    /// # Errors
    /// The tokenizer or the computation fails, or the weights hold NaN.
    pub fn embed(&self, text: &str) -> Result<Vec<f32>, LlamaError> {
        Ok(self.embed_batch(&[text])?.pop().expect("one text has one embedding"))
    }

    /// The embeddings of texts, in their order, each as [`Embedder::embed`] gives it (but for the last bits of a sum);
    /// texts of like length go through the model together. The passes run on all cores, as candle computes all but the
    /// matrix products on one thread.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    pub fn embed_batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, LlamaError> {
        let ids: Vec<Vec<u32>> = texts.iter().map(|text| self.tokenizer.ids(text)).collect::<Result<_, _>>()?;
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|text| Reverse(ids[*text].len()));
        let embedded: Vec<Vec<Vec<f32>>> =
            passes(&ids, &order).into_par_iter().map(|pass| self.embed_pass(&ids, pass)).collect::<Result<_, _>>()?;
        let mut embeddings = vec![Vec::new(); ids.len()];
        for (text, embedding) in order.into_iter().zip(embedded.into_iter().flatten()) {
            embeddings[text] = embedding;
        }
        Ok(embeddings)
    }

    /// The embeddings of the texts that `pass` names, in its order.
    fn embed_pass(&self, ids: &[Vec<u32>], pass: &[usize]) -> Result<Vec<Vec<f32>>, LlamaError> {
        let texts: Vec<&[u32]> = pass.iter().map(|text| &ids[*text][..]).collect();
        let states = self.encoder.hidden_states(&texts)?;
        let vector = |(text, ids): (usize, &&[u32])| {
            let vector: Vec<f32> = self.pooling.apply(&states.get(text)?.narrow(0, 0, ids.len())?)?.to_vec1()?;
            if vector.iter().all(|value| value.is_finite()) { Ok(vector) } else { Err(LlamaError::NotANumber) }
        };
        texts.iter().enumerate().map(vector).collect()
    }
}

/// Cuts the order, longest text first, so that each pass but that of a single text keeps to [`TOKENS_PER_PASS`].
fn passes<'a>(ids: &[Vec<u32>], mut order: &'a [usize]) -> Vec<&'a [usize]> {
    let mut passes = Vec::new();
    while let Some(longest) = order.first() {
        let count = (TOKENS_PER_PASS / ids[*longest].len()).clamp(1, order.len());
        let (pass, after) = order.split_at(count);
        passes.push(pass);
        order = after;
    }
    passes
}

/// Also for `.` and the like, which have none of their own.
fn folder_name(dir: &Path) -> String {
    let real = || dir.canonicalize().ok().and_then(|dir| dir.file_name().map(ToOwned::to_owned));
    let name = dir.file_name().map(ToOwned::to_owned).or_else(real);
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod parity;
#[cfg(test)]
mod tests;
