//! What a model takes of this machine's memory, reckoned before any of it is taken.

use crate::LlamaError;
use crate::config::LlamaConfig;
use crate::model::{LOGIT_ROWS, STEP_ROWS};
use crate::weights::Weights;

/// Tokens that the key/value cache grows by at least.
const LEAST_CACHE: usize = 1024;

/// Rows that a weight matrix may be padded by.
const PADDING: usize = 48;

const GIB: f64 = (1_u64 << 30) as f64;

/// Bytes that can be had without pushing anything out, as Linux estimates; `None` elsewhere.
pub(crate) fn free() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// Refuses a model that this machine cannot hold, in place of being ended by the system halfway.
///
/// # Errors
/// [`LlamaError::TooLarge`].
pub(crate) fn check(config: &LlamaConfig, weights: &Weights) -> Result<(), LlamaError> {
    let free = free().map_or(f64::INFINITY, |bytes| bytes as f64);
    check_against(config, weights.bytes() as f64, free)
}

fn check_against(config: &LlamaConfig, weights: f64, free: f64) -> Result<(), LlamaError> {
    let rest = working(config);
    if weights + rest <= free {
        return Ok(());
    }
    let [weights, rest, needed, free] = [weights, rest, weights + rest, free].map(|bytes| bytes / GIB);
    Err(LlamaError::TooLarge { weights, rest, needed, free })
}

/// Bytes beside the weights: what lies between the layers of one step, logits, the least cache, and what matrices are padded by.
fn working(config: &LlamaConfig) -> f64 {
    let size = |number: usize| number as f64;
    let (hidden, wide, layers) = (size(config.hidden_size), size(config.intermediate_size), size(config.layers));
    let (queries, keys) = (size(config.heads) * size(config.head_dim), size(config.kv_heads) * size(config.head_dim));
    let step = size(STEP_ROWS) * (4.0 * hidden + 3.0 * queries + 2.0 * keys + 3.0 * wide);
    let logits = size(LOGIT_ROWS) * size(config.vocab_size);
    let cache = 2.0 * size(LEAST_CACHE) * layers * keys.max(size(config.kv_heads) * 16.0);
    let padding = size(PADDING) * (layers * (6.0 * hidden + queries + wide) + 2.0 * hidden);
    size(size_of::<f32>()) * (step + logits + cache + padding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TinyLlama, write_tiny_llama};

    #[test]
    fn a_model_that_memory_cannot_hold_is_refused_with_the_numbers() {
        let dir = tempfile::tempdir().unwrap();
        write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
        let tiny = LlamaConfig::load(dir.path()).unwrap();
        assert!(check_against(&tiny, 1e6, 1e8).is_ok());
        assert!(matches!(check_against(&tiny, 1e8, 1e8), Err(LlamaError::TooLarge { .. })));
        // Its weights fill 300 MB; one step of it fills 100 GB.
        let wide = LlamaConfig { hidden_size: 2, intermediate_size: 1 << 24, ..tiny.clone() };
        let error = check_against(&wide, 3e8, 16.0 * GIB).unwrap_err().to_string();
        assert!(error.contains("weights 0.3") && error.contains("16.0 GiB are free"), "{error}");
        let many_heads = LlamaConfig { hidden_size: 2, heads: 1 << 20, kv_heads: 1 << 20, head_dim: 2, ..tiny };
        assert!(check_against(&many_heads, 1e8, 16.0 * GIB).is_err());
    }
}
