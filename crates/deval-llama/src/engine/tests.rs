use std::fs;

use super::*;
use crate::testing::{TinyDtype, TinyLlama, write_tiny_llama};

const PROMPT: &str = "<|im_start|>user\nthe other thing on the list is red<|im_end|>\n<|im_start|>assistant\n";

fn engine(options: &TinyLlama) -> Engine {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), options).unwrap();
    Engine::load(dir.path()).unwrap()
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, sampling: Sampling::Greedy, extra_stop_tokens: Vec::new() }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-3
}

#[test]
fn the_chat_prompt_is_tokenised_as_it_stands() {
    let engine = engine(&TinyLlama::default());
    let prompt = engine.chat_prompt(Some("be brief"), "the end").unwrap();
    assert_eq!(
        prompt,
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nthe end<|im_end|>\n<|im_start|>assistant\n"
    );
    let ids = engine.codec.encode(&prompt).unwrap().ids;
    assert_eq!(ids.iter().filter(|id| **id == 1).count(), 3);
    assert!(engine.chat_prompt(None, "x").unwrap().starts_with("<|im_start|>system\nYou are tiny."));
}

#[test]
fn an_answer_holds_only_new_tokens_and_is_repeatable() {
    let mut engine = engine(&TinyLlama::default());
    let answer = engine.generate(PROMPT, &greedy(20)).unwrap();
    assert_eq!(answer.prompt_tokens, engine.count_tokens(PROMPT).unwrap());
    assert!(answer.new_tokens <= 20 && !answer.text.contains("assistant"), "{answer:?}");
    assert_eq!(engine.generate(PROMPT, &greedy(20)).unwrap().text, answer.text);

    let sampled = |seed| GenerateOptions {
        sampling: Sampling::Sample { temperature: 1.0, top_k: 50, top_p: 0.95, seed },
        ..greedy(20)
    };
    let texts: Vec<String> = (0..4).map(|seed| engine.generate(PROMPT, &sampled(seed)).unwrap().text).collect();
    assert_eq!(engine.generate(PROMPT, &sampled(2)).unwrap().text, texts[2]);
    assert!(texts.iter().any(|text| *text != texts[0]));
}

#[test]
fn greedy_tokens_are_the_likeliest() {
    let mut engine = engine(&TinyLlama::default());
    let mut tokens = engine.codec.encode(PROMPT).unwrap().ids;
    let answer = engine.generate(PROMPT, &greedy(8)).unwrap();
    let mut expected = Vec::new();
    while expected.len() < answer.new_tokens {
        let logits = engine.model.forward(&tokens, &mut KvCache::new()).unwrap();
        let row: Vec<f32> = logits.get(tokens.len() - 1).unwrap().to_vec1().unwrap();
        let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32;
        expected.push(best);
        tokens.push(best);
    }
    assert_eq!(answer.text, engine.codec.decode(&expected).unwrap());
}

#[test]
fn answers_end_at_stop_tokens_limits_and_the_context() {
    let mut engine = engine(&TinyLlama { context: 64, ..Default::default() });
    let whole = engine.generate(PROMPT, &greedy(500)).unwrap();
    assert_eq!(whole.stop, StopReason::ContextFull);
    assert_eq!(whole.prompt_tokens + whole.new_tokens, 65, "the last token needs no position");
    assert_eq!(engine.generate(PROMPT, &greedy(3)).unwrap().stop, StopReason::MaxNewTokens);
    assert_eq!(engine.generate(PROMPT, &greedy(0)).unwrap().text, "");

    let ids = engine.codec.encode(PROMPT).unwrap().ids;
    let logits = engine.next_logits(&ids, &mut KvCache::new()).unwrap();
    let first = Sampler::new(Sampling::Greedy).unwrap().next(&logits).unwrap();
    let mut options = greedy(500);
    options.extra_stop_tokens = vec!["<|eot_id|>".into(), engine.codec.token_name(first)];
    let stopped = engine.generate(PROMPT, &options).unwrap();
    assert_eq!((stopped.stop, stopped.new_tokens, stopped.text.as_str()), (StopReason::EndToken, 0, ""));
}

#[test]
fn likelihoods_share_the_prefix_and_agree_with_full_runs() {
    let mut engine = engine(&TinyLlama { dtype: TinyDtype::F32, ..Default::default() });
    let continuations = ["the list", "red", "the listed things are on the list of things"];
    let together = engine.likelihoods(PROMPT, &continuations).unwrap();
    for (continuation, shared) in continuations.iter().zip(&together) {
        let ids = engine.codec.encode(&format!("{PROMPT}{continuation}")).unwrap().ids;
        let start = engine.count_tokens(PROMPT).unwrap();
        assert_eq!(shared.tokens.len(), ids.len() - start);
        let logits: Vec<Vec<f32>> = engine.model.forward(&ids, &mut KvCache::new()).unwrap().to_vec2().unwrap();
        for (offset, found) in shared.tokens.iter().enumerate() {
            let expected = log_probability(&logits[start + offset - 1], ids[start + offset]).unwrap();
            assert!(close(*found, expected), "{continuation} token {offset}: {found} {expected}");
        }
        let alone = engine.log_likelihood(PROMPT, continuation).unwrap();
        assert!(close(alone.sum(), shared.sum()) && close(alone.mean() * shared.tokens.len() as f64, shared.sum()));
    }
}

#[test]
fn choose_sums_over_single_token_candidates_to_a_distribution() {
    let mut engine = engine(&TinyLlama::default());
    let candidates = ["0", "1", "2"];
    let scores = engine.choose(PROMPT, &candidates).unwrap();
    let ids = engine.codec.encode(PROMPT).unwrap().ids;
    let logits = engine.next_logits(&ids, &mut KvCache::new()).unwrap();
    for (candidate, score) in candidates.iter().zip(scores) {
        let expected = log_probability(&logits, engine.codec.token_id(candidate).unwrap()).unwrap();
        assert!(close(score, expected), "{candidate}: {score} {expected}");
    }
    assert_eq!(engine.choose(PROMPT, &[]).unwrap(), Vec::<f64>::new());
}

#[test]
fn a_token_across_the_border_belongs_to_the_continuation() {
    let engine = engine(&TinyLlama::default());
    let scored = engine.split("xt", "he").unwrap();
    let whole = engine.codec.encode("xthe").unwrap().ids;
    assert_eq!(whole.len(), 2, "x, the");
    assert_eq!((scored.split, scored.ids), (1, whole));
    assert!(matches!(engine.split("t", "he"), Err(LlamaError::NoContext { .. })));
    let accents = engine.split("é", "è").unwrap();
    assert_eq!((accents.split, accents.ids.len()), (2, 4), "two bytes each");
}

#[test]
fn empty_and_oversized_texts_are_errors() {
    let mut engine = engine(&TinyLlama { context: 32, ..Default::default() });
    assert!(matches!(engine.generate("", &greedy(1)), Err(LlamaError::Empty { what: "prompt" })));
    assert!(matches!(engine.log_likelihood("", "x"), Err(LlamaError::Empty { what: "prefix" })));
    assert!(matches!(engine.log_likelihood("x", ""), Err(LlamaError::Empty { what: "continuation" })));
    let long = "x".repeat(40);
    assert!(matches!(engine.generate(&long, &greedy(1)), Err(LlamaError::ContextOverflow { tokens: 40, limit: 32 })));
    assert!(matches!(engine.log_likelihood(&long, "y"), Err(LlamaError::ContextOverflow { .. })));
    assert!(matches!(engine.log_likelihood("y", &long), Err(LlamaError::ContextOverflow { tokens: 41, limit: 32 })));
    let edge = "x".repeat(32);
    assert_eq!(engine.generate(&edge, &greedy(9)).unwrap().new_tokens, 1);
    assert!(engine.log_likelihood(&edge[..31], "y").is_ok());
}

#[test]
fn nan_weights_are_an_error_not_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama { dtype: TinyDtype::F32, ..Default::default() }).unwrap();
    let path = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let mut engine = Engine::load(dir.path()).unwrap();
    assert!(matches!(engine.generate(PROMPT, &greedy(2)), Err(LlamaError::NotANumber)));
    assert!(matches!(engine.log_likelihood(PROMPT, "red"), Err(LlamaError::NotANumber)));
}

#[test]
fn info_describes_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny");
    write_tiny_llama(&path, &TinyLlama { dtype: TinyDtype::Bf16, shards: 2, ..Default::default() }).unwrap();
    let engine = Engine::load(&path).unwrap();
    let info = engine.info();
    assert_eq!((info.name.as_str(), info.dtype.as_str()), ("tiny", "BF16"));
    assert_eq!((info.layers, info.hidden, info.vocab, info.context), (2, 64, 300, 1024));
    assert_eq!(info.parameters, 300 * 64 + 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128));
    assert_eq!(engine.stop_tokens, [2, 2]);
}

#[test]
fn a_directory_without_template_or_tokenizer_says_so() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    let engine = Engine::load(dir.path()).unwrap();
    assert!(matches!(engine.chat_prompt(None, "x"), Err(LlamaError::NoTemplate { .. })));
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(Engine::load(dir.path()), Err(LlamaError::Tokenizer { .. })));
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert!(matches!(Engine::load(dir.path()), Err(LlamaError::Io { .. })));
}
