//! What the engine has to tell beside its answers.

use deval_eval::Lengths;
use deval_llama::{Engine, Generation, LlamaError, generation::Unsupported};
use deval_manifest::Reading;
use deval_report::Diagnostic;
use serde_json::{Value, json};

/// Tokens of the prompt and of the answer that are timed once the questions are answered.
const TIMED: (usize, usize) = (128, 8);

pub(super) fn lengths(generation: &Generation) -> Lengths {
    let Generation { prompt_tokens: prompt, new_tokens: answer, beyond_context: beyond, .. } = *generation;
    Lengths { prompt, answer, beyond }
}

/// The lengths of a question that was not computed, as it is too long.
pub(super) fn refused(tokens: usize, context: usize) -> Lengths {
    Lengths { prompt: tokens, answer: 0, beyond: tokens.saturating_sub(context) }
}

/// What of the model's files was left out, and where the machine was too small.
pub(super) fn findings(engine: &Engine, reading: Reading) -> Vec<Diagnostic> {
    let unsupported = engine.generation().unsupported.iter().filter(|_| reading == Reading::Generate);
    let stats = engine.stats();
    let cache = stats.cache_limited_to.map(|tokens| {
        Diagnostic::note(
            "evaluate.memory",
            "memory gave out for the key/value cache: fewer questions went through at once",
        )
        .found(format!("{tokens} tokens"))
        .help("the answers are the same; close other programs to get them sooner")
    });
    let texts = stats.texts_limited_to.map(|texts| {
        Diagnostic::note("evaluate.memory", "the device had no memory for a step of all texts at once")
            .found(format!("{texts} texts at once"))
            .help(
                "the answers are the same; close other programs, or take a device with more memory, to get them sooner",
            )
    });
    let refused = stats.refused_for_memory.map(|(texts, limit)| {
        Diagnostic::warning(
            "evaluate.memory",
            "texts within the model's context did not fit into memory: their answers score -1",
        )
        .found(format!("{texts} texts longer than {limit} tokens"))
        .expected(format!("room for {} tokens in the key/value cache", engine.info().context))
        .help("a validator's GPU has it: close other programs, take a machine with more memory, or evaluate on a GPU")
    });
    // Where texts are generated, the questions are named (`deval_eval::speed::beyond_context`).
    let beyond = (stats.texts_beyond_context > 0 && reading != Reading::Generate).then(|| {
        Diagnostic::warning("evaluate.context", "texts are longer than the model's context")
            .found(format!("{} texts, the longest of {} tokens", stats.texts_beyond_context, stats.longest_beyond_context))
            .expected(format!("at most {} tokens (`max_position_embeddings`)", engine.info().context))
            .help("they were computed beyond it, as transformers does; a model is not made for that, so shorten the prompts")
    });
    unsupported.map(left_out).chain(cache).chain(texts).chain(refused).chain(beyond).collect()
}

fn left_out(Unsupported { file, key, value }: &Unsupported) -> Diagnostic {
    Diagnostic::warning(
        "evaluate.generation_config",
        format!("`{key}` is not implemented and would change the answers"),
    )
    .in_file(*file)
    .found(value.clone())
    .expected("the key absent")
    .help("the validator's container obeys it: remove it, or evaluate with `--backend container`")
}

/// Times one text alone: how fast this machine is where one question is asked at a time.
pub(super) fn measured(engine: &mut Engine) -> Result<Value, LlamaError> {
    let (prompt, answer) = TIMED;
    let Generation { prompt_tokens, new_tokens, prefill_seconds, decode_seconds, .. } =
        engine.measure(prompt, answer)?;
    // The first token of the answer comes with the prompt.
    let answer = (new_tokens.saturating_sub(1), decode_seconds);
    Ok(json!({"prompt": (prompt_tokens, prefill_seconds), "answer": answer}))
}

pub(super) fn unmeasured(error: &LlamaError) -> Diagnostic {
    Diagnostic::note(
        "evaluate.speed",
        "how fast this machine is was not measured, so nothing is forecast for other ones",
    )
    .found(error.to_string())
}
