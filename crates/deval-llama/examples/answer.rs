//! The engine as a peer of `ci/bench/generate.py`: the same REQUEST on standard input, the same RESULT on standard output.
//!
//! usage: answer DEVICE < REQUEST > RESULT      DEVICE is `cpu` or `cuda:N`
//!
//! Of the parts it knows `logits` (tokens), `batched` (asks, max_new_tokens, batch) and `rates` (prompt_tokens, new_tokens, batch); each
//! also has load_seconds. `ci/gpu/measure.sh` is what it is for.

use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use deval_llama::model::Llama;
use deval_llama::{
    DeviceChoice, Engine, EngineOptions, Generate, GenerateOptions, Generation, Outcome, Prompt, Sampling, Work,
};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let device: DeviceChoice = std::env::args().nth(1).ok_or("usage: answer DEVICE < REQUEST > RESULT")?.parse()?;
    let request: Value = serde_json::from_reader(stdin().lock())?;
    let parts = request["parts"].as_array().ok_or("the request has no list `parts`")?;
    let results = parts.iter().map(|part| answer(part, device)).collect::<Result<Vec<_>>>()?;
    Ok(writeln!(stdout(), "{}", json!({"parts": results}))?)
}

fn answer(part: &Value, device: DeviceChoice) -> Result<Value> {
    let model = Path::new(part["model"].as_str().ok_or("a part has no text `model`")?);
    let number = |key: &str| {
        part[key].as_u64().map(|number| number as usize).ok_or_else(|| format!("a part has no number `{key}`"))
    };
    let started = Instant::now();
    if part["part"] == "logits" {
        let rows: Vec<Vec<u32>> = serde_json::from_value(part["tokens"].clone())?;
        let mut llama = Llama::load_on(model, device)?;
        let load = started.elapsed().as_secs_f64();
        let last = rows.iter().map(|row| Ok(llama.logits(row)?.pop())).collect::<Result<Vec<_>>>()?;
        return Ok(json!({"part": "logits", "logits": last, "load_seconds": load}));
    }
    let texts = number("batch")?;
    let mut engine = Engine::load_with(model, EngineOptions { device, texts, cache_tokens: None })?;
    let load = started.elapsed().as_secs_f64();
    let mut result = match part["part"].as_str() {
        Some("batched") => {
            batched(&mut engine, part["asks"].as_array().ok_or("no list `asks`")?, number("max_new_tokens")?)?
        }
        Some("rates") => rates(&mut engine, texts, number("prompt_tokens")?, number("new_tokens")?)?,
        other => return Err(format!("there is no part {other:?} here").into()),
    };
    result["load_seconds"] = json!(load);
    result["part"] = part["part"].clone();
    Ok(result)
}

fn batched(engine: &mut Engine, asks: &[Value], max_new_tokens: usize) -> Result<Value> {
    let prompt =
        |ask: &Value| Ok(engine.chat_prompt(ask["system"].as_str(), ask["user"].as_str().unwrap_or_default())?);
    let prompts = asks.iter().map(prompt).collect::<Result<Vec<_>>>()?;
    let (seconds, answers) = write(engine, prompts, max_new_tokens)?;
    let tokens: Vec<_> = answers.iter().map(|answer| &answer.tokens).collect();
    let prompts: Vec<_> = answers.iter().map(|answer| answer.prompt_tokens).collect();
    Ok(json!({"seconds": seconds, "tokens": tokens, "prompt_tokens": prompts}))
}

/// Tokens a second of prompts, then of answers behind prompts that are known.
fn rates(engine: &mut Engine, texts: usize, length: usize, new: usize) -> Result<Value> {
    let prompts =
        || (0..texts).map(|number| format!("{number} {}", "and so on ".repeat(length / 3)).into()).collect::<Vec<_>>();
    engine.stop_at(&[])?;
    let (first, answers) = write(engine, prompts(), 1)?;
    let read: usize = answers.iter().map(|answer| answer.prompt_tokens).sum();
    let (known, _) = write(engine, prompts(), 1)?;
    let (all, answers) = write(engine, prompts(), new + 1)?;
    let written: usize = answers.iter().map(|answer| answer.new_tokens - 1).sum();
    Ok(json!({"prefill": [read as f64 / first], "decode": [written as f64 / (all - known)]}))
}

fn write(engine: &mut Engine, prompts: Vec<Prompt>, max_new_tokens: usize) -> Result<(f64, Vec<Generation>)> {
    let options = GenerateOptions { max_new_tokens, sampling: Sampling::Greedy, extra_stop_tokens: Vec::new() };
    let work =
        prompts.into_iter().map(|prompt| Work::Generate(Generate { prompt, options: options.clone(), grammar: None }));
    let (work, started) = (work.collect(), Instant::now());
    let answers = engine.answer_all(work)?.into_iter().map(|outcome| match outcome? {
        Outcome::Generation(generation) => Ok(generation),
        Outcome::Likelihoods(_) => Err("a text was to be continued".into()),
    });
    let answers = answers.collect::<Result<Vec<_>>>()?;
    Ok((started.elapsed().as_secs_f64(), answers))
}
