use std::fs;

use super::*;
use crate::model::{Hear, Llama};
use crate::sampling::{Sampler, Sampling};
use crate::step::Step;
use crate::testing::{TinyDtype, TinyLlama, write_tiny_llama};
use crate::work::{Grammar, StopReason};

const PROMPT: &str = "<|im_start|>user\nthe other thing on the list is red<|im_end|>\n<|im_start|>assistant\n";

fn engine(options: &TinyLlama) -> Engine {
    with_model(options).0
}

/// An engine with memory for so many tokens, of a model with a context of a quarter of that.
fn with_room(tokens: usize) -> Engine {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama { context: tokens / 4, ..Default::default() }).unwrap();
    Engine::load_with(dir.path(), EngineOptions { cache_tokens: Some(tokens), ..Default::default() }).unwrap()
}

fn with_model(options: &TinyLlama) -> (Engine, Llama) {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), options).unwrap();
    (Engine::load(dir.path()).unwrap(), Llama::load(dir.path()).unwrap())
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, sampling: Sampling::Greedy, extra_stop_tokens: Vec::new() }
}

/// `log softmax(logits)[target]`
fn log_probability(logits: &[f32], target: u32) -> f64 {
    let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    f64::from(logits[target as usize]) - sum.ln()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-3
}

#[test]
fn the_chat_prompt_is_tokenised_as_it_stands() {
    let engine = engine(&TinyLlama::default());
    let prompt = engine.chat_prompt(Some("be brief"), "the end").unwrap();
    assert_eq!(
        prompt.as_str(),
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nthe end<|im_end|>\n<|im_start|>assistant\n"
    );
    let ids = engine.encode(prompt).unwrap();
    assert_eq!(ids.iter().filter(|id| **id == 1).count(), 3);
    assert!(engine.chat_prompt(None, "x").unwrap().as_str().starts_with("<|im_start|>system\nYou are tiny."));
}

#[test]
fn an_answer_holds_only_new_tokens_and_is_repeatable() {
    let mut engine = engine(&TinyLlama::default());
    let answer = engine.generate(PROMPT, &greedy(20)).unwrap();
    assert_eq!(answer.prompt_tokens, engine.count_tokens(PROMPT).unwrap());
    assert!(answer.new_tokens <= 20 && !answer.text.contains("assistant"), "{answer:?}");
    assert_eq!(engine.generate(PROMPT, &greedy(20)).unwrap().text, answer.text);

    let sampled = |seed| GenerateOptions {
        sampling: Sampling::Sample { temperature: 1.0, top_k: Some(50), top_p: 0.95, seed },
        ..greedy(20)
    };
    let texts: Vec<String> = (0..4).map(|seed| engine.generate(PROMPT, &sampled(seed)).unwrap().text).collect();
    assert_eq!(engine.generate(PROMPT, &sampled(2)).unwrap().text, texts[2]);
    assert!(texts.iter().any(|text| *text != texts[0]));
}

#[test]
fn greedy_tokens_are_the_likeliest() {
    let (mut engine, mut model) = with_model(&TinyLlama::default());
    let mut tokens = engine.encode(PROMPT).unwrap();
    let answer = engine.generate(PROMPT, &greedy(8)).unwrap();
    let mut expected = Vec::new();
    while expected.len() < answer.new_tokens {
        let row = model.logits(&tokens).unwrap().pop().unwrap();
        let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32;
        expected.push(best);
        tokens.push(best);
    }
    assert_eq!(answer.text, engine.codec.decode(&expected).unwrap());
}

#[test]
fn answers_end_at_stop_tokens_limits_and_a_full_cache() {
    let (mut engine, mut model) = with_model(&TinyLlama { context: 64, ..Default::default() });
    let beyond = engine.generate(PROMPT, &greedy(100)).unwrap();
    assert_eq!((beyond.stop, beyond.new_tokens), (StopReason::MaxNewTokens, 100));
    assert_eq!(beyond.beyond_context, beyond.prompt_tokens + 100 - 64);
    let whole = with_room(256).generate(PROMPT, &greedy(500)).unwrap();
    assert_eq!(whole.stop, StopReason::ContextFull);
    assert_eq!(whole.prompt_tokens + whole.new_tokens, 4 * 64 + 1, "the last token needs no position");
    assert_eq!(engine.generate(PROMPT, &greedy(3)).unwrap().stop, StopReason::MaxNewTokens);
    assert_eq!(engine.generate(PROMPT, &greedy(0)).unwrap().text, "");

    let logits = model.logits(&engine.encode(PROMPT).unwrap()).unwrap().pop().unwrap();
    let first = Sampler::new(Sampling::Greedy, &GenerationConfig::default()).unwrap().next(&logits).unwrap();
    let mut options = greedy(500);
    options.extra_stop_tokens = vec!["<|eot_id|>".into(), engine.codec.token_name(first)];
    let stopped = engine.generate(PROMPT, &options).unwrap();
    assert_eq!((stopped.stop, stopped.new_tokens, stopped.text.as_str()), (StopReason::EndToken, 0, ""));
}

#[test]
fn likelihoods_share_the_prefix_and_agree_with_full_runs() {
    let (mut engine, mut model) = with_model(&TinyLlama { dtype: TinyDtype::F32, ..Default::default() });
    let continuations = ["the list", "red", "the listed things are on the list of things"];
    let together = engine.likelihoods(PROMPT, &continuations).unwrap();
    for (continuation, shared) in continuations.iter().zip(&together) {
        let start = engine.count_tokens(PROMPT).unwrap();
        let ids = [engine.encode(PROMPT).unwrap(), engine.codec.encode_chat(continuation).unwrap()].concat();
        assert_eq!(shared.tokens.len(), ids.len() - start);
        let logits = model.logits(&ids).unwrap();
        for (offset, found) in shared.tokens.iter().enumerate() {
            let expected = log_probability(&logits[start + offset - 1], ids[start + offset]);
            assert!(close(*found, expected), "{continuation} token {offset}: {found} {expected}");
        }
        let alone = engine.log_likelihood(PROMPT, continuation).unwrap();
        assert!(close(alone.sum(), shared.sum()) && close(alone.mean() * shared.tokens.len() as f64, shared.sum()));
    }
}

#[test]
fn choose_sums_over_single_token_candidates_to_a_distribution() {
    let (mut engine, mut model) = with_model(&TinyLlama::default());
    let candidates = ["0", "1", "2"];
    let scores = engine.choose(PROMPT, &candidates).unwrap();
    let logits = model.logits(&engine.encode(PROMPT).unwrap()).unwrap().pop().unwrap();
    for (candidate, score) in candidates.iter().zip(scores) {
        let expected = log_probability(&logits, engine.codec.token_id(candidate).unwrap());
        assert!(close(score, expected), "{candidate}: {score} {expected}");
    }
    assert_eq!(engine.choose(PROMPT, &[]).unwrap(), Vec::<f64>::new());
}

#[test]
fn empty_and_oversized_texts_are_errors() {
    let mut engine = with_room(128);
    assert!(matches!(engine.generate("", &greedy(1)), Err(LlamaError::Empty { what: "prompt" })));
    assert!(matches!(engine.log_likelihood("", "x"), Err(LlamaError::Empty { what: "prefix" })));
    assert!(matches!(engine.log_likelihood("x", ""), Err(LlamaError::Empty { what: "continuation" })));
    let long = "x".repeat(140);
    assert!(matches!(engine.generate(&long, &greedy(1)), Err(LlamaError::ContextOverflow { tokens: 140, limit: 128 })));
    assert!(matches!(engine.log_likelihood(&long, "y"), Err(LlamaError::ContextOverflow { .. })));
    assert!(matches!(engine.log_likelihood("y", &long), Err(LlamaError::ContextOverflow { tokens: 141, limit: 128 })));
    let edge = "x".repeat(128);
    assert_eq!(engine.generate(&edge, &greedy(9)).unwrap().new_tokens, 1);
    assert!(engine.log_likelihood(&edge[..127], "y").is_ok());

    // A short context is no limit where there is memory, as in transformers.
    let mut engine = self::engine(&TinyLlama { context: 32, ..Default::default() });
    assert_eq!(engine.generate("x".repeat(2000), &greedy(2)).unwrap().beyond_context, 1970);
    let limit = engine.generate("x".repeat(5000), &greedy(1));
    assert!(matches!(limit, Err(LlamaError::ContextOverflow { tokens: 5000, limit: 4096 })));
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
    assert_eq!(engine.stop_tokens, [2]);
    fs::write(path.join("generation_config.json"), r#"{"eos_token_id": [5, 7]}"#).unwrap();
    assert_eq!(Engine::load(&path).unwrap().stop_tokens, [5, 7]);
}

#[test]
fn nothing_is_put_before_a_rendered_chat() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    let settings = r#"{"tokenizer_class": "LlamaTokenizer", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
        "chat_template": "{% for m in messages %}<{{ m.role }}>\n{{ m.content }}{% endfor %}"}"#;
    fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
    let mut engine = Engine::load(dir.path()).unwrap();
    let prompt = engine.chat_prompt(None, "the list").unwrap();
    assert_eq!(prompt.as_str(), "<user>\nthe list");
    let chat = engine.encode(prompt.clone()).unwrap();
    let text = engine.encode(prompt.as_str()).unwrap();
    assert_eq!(text, [&[1][..], &chat].concat(), "running text has a BOS");
    assert_eq!(engine.generate(prompt.clone(), &greedy(1)).unwrap().prompt_tokens, chat.len());
    let logits = Llama::load(dir.path()).unwrap().logits(&chat).unwrap().pop().unwrap();
    let next = engine.codec.encode_chat("x").unwrap()[0];
    assert!(close(engine.choose(prompt, &["x"]).unwrap()[0], log_probability(&logits, next)));
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
    // The tokenizers library panics on this.
    fs::write(dir.path().join("tokenizer.json"), r#"{"version": "1.0", "decoder": {"type"}}"#).unwrap();
    assert!(matches!(Engine::load(dir.path()), Err(LlamaError::Json { .. })));
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert!(matches!(Engine::load(dir.path()), Err(LlamaError::Io { .. })));
}

/// Questions of all kinds and lengths, some of which begin alike.
fn questions() -> Vec<Work> {
    let write = |number: usize| {
        let prompt = format!("{PROMPT}{}", "the rest on the list ".repeat(number * 5 % 11));
        let sampling = match number % 3 {
            0 => Sampling::Sample { temperature: 0.7, top_k: Some(50), top_p: 0.95, seed: number as u64 },
            _ => Sampling::Greedy,
        };
        let options = GenerateOptions { max_new_tokens: 3 + number * 7 % 30, sampling, extra_stop_tokens: Vec::new() };
        Work::Generate(Generate { prompt: prompt.into(), options, grammar: None })
    };
    let score = |number: usize| {
        let continuations = (0..number % 4 + 1).map(|at| "on the list ".repeat(at * 3 + 1)).collect();
        Work::Score(Score { prefix: format!("{PROMPT}{number} ").into(), continuations })
    };
    (0..20).map(|number| if number % 4 == 3 { score(number) } else { write(number) }).collect()
}

/// The answers without their times.
fn answers(engine: &mut Engine) -> Vec<Outcome> {
    let timeless = |outcome| match outcome {
        Outcome::Generation(generation) => {
            Outcome::Generation(Generation { prefill_seconds: 0.0, decode_seconds: 0.0, ..generation })
        }
        scores => scores,
    };
    engine.answer_all(questions()).unwrap().into_iter().map(|answer| timeless(answer.unwrap())).collect()
}

#[test]
fn an_answer_does_not_depend_on_what_else_is_in_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    let with = |texts, cache_tokens| {
        Engine::load_with(dir.path(), EngineOptions { device: DeviceChoice::Cpu, texts, cache_tokens }).unwrap()
    };
    let alone: Vec<Outcome> = {
        let mut engine = with(1, Some(1024));
        answers(&mut engine)
    };
    for texts in [2, 3, 8, 32] {
        let mut engine = with(texts, None);
        assert_eq!(answers(&mut engine), alone, "{texts} texts");
        let first = engine.stats();
        assert!(first.shared_tokens > first.computed_tokens / 4, "{first:?}");
        assert_eq!(answers(&mut engine), alone, "{texts} texts, all known");
        assert!(engine.stats().computed_tokens < 2 * first.computed_tokens, "{:?}", engine.stats());
    }
    // A cache that holds hardly more than one text: rows start anew, and say the same.
    let mut tight = with(8, Some(208));
    assert_eq!(answers(&mut tight), alone);
    assert!(tight.stats().restarted > 0 && tight.stats().peak_cache_tokens <= 208, "{:?}", tight.stats());
}

#[test]
fn one_bad_question_spoils_no_other() {
    let mut engine = with_room(128);
    let write = |prompt: &str| Work::Generate(Generate { prompt: prompt.into(), options: greedy(4), grammar: None });
    let score = Work::Score(Score { prefix: "x".into(), continuations: vec!["y".into(), "z".repeat(200), "w".into()] });
    let work = vec![write("the"), write(""), score, write(&"x".repeat(300)), write("the list")];
    let answers = engine.answer_all(work).unwrap();
    assert!(answers[0].is_ok() && answers[4].is_ok());
    assert!(matches!(answers[1], Err(LlamaError::Empty { .. })));
    assert!(matches!(answers[2], Err(LlamaError::ContextOverflow { tokens: 201, limit: 128 })), "{:?}", answers[2]);
    assert!(matches!(answers[3], Err(LlamaError::ContextOverflow { tokens: 300, limit: 128 })));
}

/// Allows some texts and nothing else, token by token.
struct OneOf {
    texts: Vec<Vec<u32>>,
    at: usize,
}

impl Grammar for OneOf {
    fn allowed(&mut self) -> Vec<u32> {
        self.texts.iter().filter_map(|text| text.get(self.at).copied()).collect()
    }

    fn accept(&mut self, token: u32) {
        self.texts.retain(|text| text.get(self.at) == Some(&token));
        self.at += 1;
    }
}

#[test]
fn a_grammar_has_its_way_and_the_model_chooses_within_it() {
    let mut engine = engine(&TinyLlama { dtype: TinyDtype::F32, ..Default::default() });
    let choices = ["the red", "the blue", "the blunt one"];
    let texts = choices.map(|choice| engine.encode(choice).unwrap()).to_vec();
    let ask = |texts: Vec<Vec<u32>>, max_new_tokens| {
        let grammar: Box<dyn Grammar> = Box::new(OneOf { texts, at: 0 });
        let options = GenerateOptions { max_new_tokens, ..greedy(0) };
        vec![Work::Generate(Generate { prompt: PROMPT.into(), options, grammar: Some(grammar) })]
    };
    let mut answer = |texts, most| match engine.answer_all(ask(texts, most)).unwrap().pop().unwrap().unwrap() {
        Outcome::Generation(generation) => (generation.text, generation.stop),
        Outcome::Likelihoods(_) => panic!("a text was to be continued"),
    };
    let (text, stop) = answer(texts.clone(), 100);
    assert!(choices.contains(&text.as_str()) && stop == StopReason::Grammar, "{text}");
    assert_eq!(answer(texts[2..].to_vec(), 100), (choices[2].to_owned(), StopReason::Grammar));
    assert_eq!(answer(texts[2..].to_vec(), 1).1, StopReason::MaxNewTokens);
    let scores = engine.choose(PROMPT, &choices.map(|choice| choice)).unwrap();
    assert_eq!(scores.len(), 3);
}

/// Asks a second question once it has heard the answer to the first.
struct Conversation {
    asked: usize,
    heard: Vec<usize>,
}

impl Queue for Conversation {
    fn next(&mut self, _: Texts<'_>) -> Option<(usize, Work)> {
        (self.asked == self.heard.len() && self.asked < 3).then(|| {
            self.asked += 1;
            let work = Generate { prompt: "the ".repeat(self.asked).into(), options: greedy(2), grammar: None };
            (self.asked * 10, Work::Generate(work))
        })
    }

    fn done(&mut self, _: Texts<'_>, number: usize, outcome: Result<Outcome, LlamaError>) {
        assert!(matches!(outcome, Ok(Outcome::Generation(Generation { new_tokens: 1..=2, .. }))), "{outcome:?}");
        self.heard.push(number);
    }
}

#[test]
fn a_question_may_wait_for_an_answer() {
    let mut engine = engine(&TinyLlama::default());
    let mut conversation = Conversation { asked: 0, heard: Vec::new() };
    engine.work(&mut conversation).unwrap();
    assert_eq!(conversation.heard, [10, 20, 30]);
}

#[test]
fn devices_are_chosen_by_name() {
    let chosen = ["auto", "cpu", "cuda:1"].map(|name| name.parse::<DeviceChoice>().unwrap());
    assert_eq!(chosen, [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(1)]);
    for wrong in ["", "gpu", "cuda", "cuda:", "cuda:x", "cuda:-1"] {
        assert!(wrong.parse::<DeviceChoice>().unwrap_err().contains("expected auto, cpu or cuda:N"), "{wrong}");
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_that_this_was_not_built_for_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    let options = EngineOptions { device: DeviceChoice::Cuda(3), ..EngineOptions::default() };
    let error = Engine::load_with(dir.path(), options).err().unwrap().to_string();
    let expected = "device cuda:3 cannot be used: this program was built without GPUs; build it with `--features cuda`";
    assert!(error.starts_with(expected) && error.ends_with("or compute on `cpu`"), "{error}");
    assert!(!DeviceChoice::Auto.is_gpu() && DeviceChoice::Cuda(0).is_gpu());
}

#[test]
fn a_token_without_a_row_in_the_embedding_is_told_with_its_question() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    let path = dir.path().join("tokenizer_config.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"<|endoftext|>\"", "\"<|added|>\"");
    fs::write(&path, text).unwrap();
    let mut engine = Engine::load(dir.path()).unwrap();
    assert!(engine.generate("the list", &greedy(1)).is_ok());
    let error = engine.generate("the list<|added|>", &greedy(1)).unwrap_err();
    assert!(matches!(error, LlamaError::TokenOutOfVocabulary { token: 300, vocab: 300 }), "{error}");
    assert!(error.to_string().contains("resize_token_embeddings"), "{error}");
}

#[test]
fn texts_beyond_the_context_are_counted() {
    let mut engine = engine(&TinyLlama { context: 32, ..Default::default() });
    engine.generate("x".repeat(32), &greedy(1)).unwrap();
    assert_eq!(engine.stats().texts_beyond_context, 0);
    engine.log_likelihood("x".repeat(50), "y").unwrap();
    engine.generate("x".repeat(40), &greedy(1)).unwrap();
    let stats = engine.stats();
    assert_eq!((stats.texts_beyond_context, stats.longest_beyond_context), (2, 51));
}

#[test]
fn a_measured_answer_is_as_long_as_asked_for() {
    let mut engine = engine(&TinyLlama::default());
    let stops = engine.stop_tokens().to_vec();
    let measured = engine.measure(100, 12).unwrap();
    assert_eq!((measured.new_tokens, measured.stop), (12, StopReason::MaxNewTokens));
    assert!((50..=200).contains(&measured.prompt_tokens) && measured.decode_seconds > 0.0, "{measured:?}");
    assert_eq!(engine.stop_tokens(), stops);
}

/// A decoder whose device has memory for one slab of the cache and for a few texts in a step.
struct Scarce {
    decoder: Box<dyn Compute>,
    texts: usize,
}

impl Compute for Scarce {
    fn config(&self) -> &LlamaConfig {
        self.decoder.config()
    }

    fn parameters(&self) -> u64 {
        self.decoder.parameters()
    }

    fn blocks(&self) -> usize {
        self.decoder.blocks()
    }

    fn grow(&mut self) -> Result<(), LlamaError> {
        match self.blocks() {
            0 => self.decoder.grow(),
            _ => Err(LlamaError::OutOfMemory { what: "key/value cache" }),
        }
    }

    fn copy_block(&mut self, from: u32, to: u32) -> Result<(), LlamaError> {
        self.decoder.copy_block(from, to)
    }

    fn run(&mut self, step: &Step, wanted: &[usize], hear: &mut Hear<'_>) -> Result<(), LlamaError> {
        if step.spans.len() > self.texts {
            return Err(LlamaError::OutOfMemory { what: "computation" });
        }
        self.decoder.run(step, wanted, hear)
    }
}

#[test]
fn without_memory_fewer_texts_go_through_and_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    let mut engine = Engine::load(dir.path()).unwrap();
    let expected = answers(&mut engine);
    let scarce = |texts| {
        let config = LlamaConfig::load(dir.path()).unwrap();
        let decoder = decoder(DeviceChoice::Cpu, config, &Weights::open(dir.path()).unwrap()).unwrap();
        Scheduler::new(Box::new(Scarce { decoder, texts }), Limits { texts: 16, cache: 1 << 20, text: 4096 })
    };
    engine.scheduler = scarce(5);
    assert_eq!(answers(&mut engine), expected);
    let stats = engine.stats();
    assert!(stats.texts_limited_to.is_some_and(|texts| texts <= 5), "{stats:?}");
    let long = || (0..12).map(|number| format!("{number} the list ").repeat(60));
    let write = |engine: &mut Engine| {
        let ask =
            |prompt: String| Work::Generate(Generate { prompt: prompt.into(), options: greedy(5), grammar: None });
        let answers = engine.answer_all(long().map(ask).collect()).unwrap().into_iter();
        let text = |outcome| match outcome {
            Outcome::Generation(generation) => generation.text,
            Outcome::Likelihoods(_) => panic!("a text was to be continued"),
        };
        answers.map(|answer| text(answer.unwrap())).collect::<Vec<String>>()
    };
    let mut plenty = Engine::load(dir.path()).unwrap();
    engine.scheduler = scarce(16);
    assert_eq!(write(&mut engine), write(&mut plenty));
    assert_eq!(engine.stats().cache_limited_to, Some(1024), "{:?}", engine.stats());
    engine.scheduler = scarce(0);
    assert!(matches!(engine.answer_all(questions()), Err(LlamaError::OutOfMemory { .. })));
}
