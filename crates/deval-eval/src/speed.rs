//! How long the reference pipeline would take for the questions of an evaluation on other machines: an estimate from the model's size, the
//! lengths of prompts and answers, and what datasheets say. No such machine was asked.
//!
//! The pipeline asks for the score and then for the mistakes, one token at a time, and the validator asks one question at a time. A token
//! costs reading all weights once (memory bandwidth), a prompt two operations per weight and token (arithmetic), and both the time that
//! transformers itself takes to start each layer.

mod view;

use deval_report::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::harness::{ExampleResult, QUESTION_BUDGET_SECONDS};
use crate::stats::quantile;

/// Seconds that the validator waits for the model's hash (upstream `miner_docker_client.py`).
pub const HASH_BUDGET_SECONDS: f64 = 60.0;
/// Seconds from the start of the container until it must be ready: download, loading, all of it.
pub const READY_BUDGET_SECONDS: f64 = 500.0;

/// What upstream's loop over 4096 bytes hashes in a second; measured on a processor with SHA extensions, file in memory.
const HASHED_BYTES_PER_SECOND: f64 = 375e6;

/// What transformers 4.47 takes for each token beside arithmetic; measured on one processor core.
const LAYER_SECONDS: f64 = 0.46e-3;
const TOKEN_SECONDS: f64 = 2.3e-3;

/// Share of the bandwidth and of the arithmetic of a datasheet that matrix products reach; assumed.
const REACHED_BANDWIDTH: f64 = 0.7;
const REACHED_ARITHMETIC: f64 = 0.4;

/// Examples that are named, of those at risk and of those that are too long.
const NAMED: usize = 5;

/// Longest answer that is looked for.
const LONGEST_ANSWER: usize = 4096;

/// A text that was continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lengths {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of the answer, its end token not counted.
    pub answer: usize,
    /// Tokens of both that the model's context does not hold. They are computed all the same.
    pub beyond: usize,
}

/// What of a model's size matters for its speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelSize {
    /// Decoder layers.
    pub layers: usize,
    /// Weights that every token is multiplied with: all but an input table of its own.
    pub multiplied: u64,
    /// All weights.
    pub parameters: u64,
    /// Bytes that they take on disk.
    pub bytes: u64,
    /// Numbers of the key/value cache per token.
    pub cache_numbers: u64,
    /// Numbers of all heads' queries.
    pub query_width: u64,
    /// Tokens that the model was made for.
    pub context: usize,
}

/// A GPU as its datasheet has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gpu {
    /// Its name.
    pub name: &'static str,
    /// Bytes of memory.
    pub memory: f64,
    /// Bytes per second to and from memory.
    pub bandwidth: f64,
    /// Operations per second of its tensor cores in 16 bits, dense.
    pub arithmetic: f64,
    /// Where the numbers stand.
    pub datasheet: &'static str,
}

/// GPUs that validators have or rent.
pub const GPUS: [Gpu; 4] = [
    Gpu {
        name: "T4",
        memory: 16e9,
        bandwidth: 320e9,
        arithmetic: 65e12,
        datasheet: "NVIDIA T4 Tensor Core GPU datasheet, 2019",
    },
    Gpu { name: "L40S", memory: 48e9, bandwidth: 864e9, arithmetic: 362e12, datasheet: "NVIDIA L40S datasheet, 2023" },
    Gpu {
        name: "A100 80 GB SXM",
        memory: 80e9,
        bandwidth: 2039e9,
        arithmetic: 312e12,
        datasheet: "NVIDIA A100 Tensor Core GPU datasheet (1758950 r4), 2021",
    },
    Gpu {
        name: "H100 SXM",
        memory: 80e9,
        bandwidth: 3350e9,
        arithmetic: 989e12,
        datasheet: "NVIDIA H100 Tensor Core GPU datasheet, 2023",
    },
];

/// What tokens cost on some machine, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// A token of a prompt, once a prompt is long enough to be bound by arithmetic.
    pub prompt_token: f64,
    /// Attention of a token of a prompt to one before it.
    pub attended: f64,
    /// The least that a prompt takes.
    pub prompt: f64,
    /// A token of an answer.
    pub answer_token: f64,
    /// Reading the cache of one token for a token of an answer.
    pub cached: f64,
}

/// A question's time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AtRisk {
    /// The example.
    pub example: String,
    /// Seconds with the answers that were given.
    pub seconds: f64,
    /// Seconds if every answer were as long as it may be.
    pub longest: f64,
}

/// What is foretold of one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// The machine.
    pub machine: String,
    /// Where its numbers come from.
    pub source: String,
    /// Whether its memory holds the weights in 16 bits.
    pub fits: bool,
    /// Median seconds of a question.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Seconds of the slowest question if every answer were as long as it may be.
    pub longest: f64,
    /// Questions that take more than [`QUESTION_BUDGET_SECONDS`], or would with the longest answers; the slowest first.
    pub at_risk: Vec<AtRisk>,
    /// The longest answers with which no question takes longer than that; 0 where the prompts alone do.
    pub max_new_tokens: usize,
}

/// What is foretold of an evaluation's questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Speed {
    /// The model.
    pub model: ModelSize,
    /// Questions that it rests on.
    pub questions: usize,
    /// Longest answer that was asked for, in tokens.
    pub max_new_tokens: usize,
    /// Machine by machine.
    pub machines: Vec<Prediction>,
}

impl Gpu {
    /// What tokens cost the reference pipeline on this GPU, in 16 bits.
    pub fn rates(&self, model: &ModelSize) -> Rates {
        let (bandwidth, arithmetic) = (self.bandwidth * REACHED_BANDWIDTH, self.arithmetic * REACHED_ARITHMETIC);
        let (weights, layers) = (2.0 * model.multiplied as f64, model.layers as f64);
        let pass = (weights / bandwidth).max(layers * LAYER_SECONDS) + TOKEN_SECONDS;
        Rates {
            prompt_token: 2.0 * model.multiplied as f64 / arithmetic,
            attended: 4.0 * layers * model.query_width as f64 / arithmetic,
            prompt: pass,
            answer_token: pass,
            cached: 2.0 * model.cache_numbers as f64 / bandwidth,
        }
    }
}

impl Rates {
    /// Rates of a machine on which a prompt and an answer were timed.
    pub fn measured(prompt: (usize, f64), answer: (usize, f64)) -> Option<Self> {
        let each = |(tokens, seconds): (usize, f64)| (tokens > 0 && seconds > 0.0).then(|| seconds / tokens as f64);
        Some(Self { prompt_token: each(prompt)?, attended: 0.0, prompt: 0.0, answer_token: each(answer)?, cached: 0.0 })
    }

    /// Seconds that continuing a text takes.
    pub fn seconds(&self, Lengths { prompt, answer, .. }: Lengths) -> f64 {
        let (prompt, answer) = (prompt as f64, answer as f64);
        let read = (prompt * self.prompt_token + prompt * prompt / 2.0 * self.attended).max(self.prompt);
        read + answer * self.answer_token + answer * (prompt + answer / 2.0) * self.cached
    }

    fn question(&self, texts: &[Lengths], answer: Option<usize>) -> f64 {
        texts.iter().map(|text| self.seconds(Lengths { answer: answer.unwrap_or(text.answer), ..*text })).sum()
    }
}

impl Speed {
    /// Foretells the questions of these results for all GPUs of the table; `None` where no lengths are known.
    pub fn of(results: &[ExampleResult], model: ModelSize, max_new_tokens: usize) -> Option<Self> {
        let questions = results.iter().filter(|result| !result.lengths.is_empty()).count();
        let machine = |gpu: &Gpu| Prediction {
            fits: 2.0 * (model.parameters as f64) < gpu.memory,
            ..predict((gpu.name, gpu.datasheet), &gpu.rates(&model), results, max_new_tokens)
        };
        let machines = GPUS.iter().map(machine).collect();
        (questions > 0).then_some(Self { model, questions, max_new_tokens, machines })
    }
}

/// Foretells the questions of these results for a machine of known rates.
pub fn predict(
    (machine, source): (&str, &str),
    rates: &Rates,
    results: &[ExampleResult],
    max_new_tokens: usize,
) -> Prediction {
    let asked: Vec<&ExampleResult> = results.iter().filter(|result| !result.lengths.is_empty()).collect();
    let longest = |answer: usize| {
        let times = asked.iter().map(|result| rates.question(&result.lengths, Some(answer)));
        times.fold(0.0, f64::max)
    };
    let mut times: Vec<AtRisk> = asked
        .iter()
        .map(|result| AtRisk {
            example: result.id.clone(),
            seconds: rates.question(&result.lengths, None),
            longest: rates.question(&result.lengths, Some(max_new_tokens)),
        })
        .collect();
    times.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let seconds: Vec<f64> = times.iter().map(|time| time.seconds).collect();
    let mut at_risk: Vec<AtRisk> =
        times.into_iter().filter(|time| time.longest.max(time.seconds) > QUESTION_BUDGET_SECONDS).collect();
    at_risk.sort_by(|a, b| b.longest.total_cmp(&a.longest).then_with(|| a.example.cmp(&b.example)));
    at_risk.dedup_by(|a, b| a.example == b.example);
    let (mut fits, mut exceeds) = (0, LONGEST_ANSWER + 1);
    while exceeds - fits > 1 {
        let middle = fits.midpoint(exceeds);
        if longest(middle) <= QUESTION_BUDGET_SECONDS { fits = middle } else { exceeds = middle }
    }
    Prediction {
        machine: machine.to_owned(),
        source: source.to_owned(),
        fits: true,
        p50: quantile(&seconds, 0.5),
        p99: quantile(&seconds, 0.99),
        longest: longest(max_new_tokens),
        at_risk,
        max_new_tokens: fits,
    }
}

/// Tells which questions were longer than the model's context; `None` where none was.
pub fn beyond_context(results: &[ExampleResult], context: usize) -> Option<Diagnostic> {
    let longest = |result: &ExampleResult| {
        result.lengths.iter().filter(|text| text.beyond > 0).map(|text| text.prompt + text.answer).max()
    };
    let mut long: Vec<(&str, usize)> =
        results.iter().filter_map(|result| Some((result.id.as_str(), longest(result)?))).collect();
    long.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    long.dedup_by(|a, b| a.0 == b.0);
    let (_, most) = long.first()?;
    let mut named: Vec<String> = long.iter().take(NAMED).map(|(id, tokens)| format!("{id} ({tokens})")).collect();
    named.extend((long.len() > NAMED).then(|| format!("{} more", long.len() - NAMED)));
    let finding = Diagnostic::warning("evaluate.context", "questions are longer than the model's context")
        .found(format!("{} of up to {most} tokens with their answers: {}", long.len(), named.join(", ")))
        .expected(format!("at most {context} tokens (`max_position_embeddings`)"));
    let help = "they were computed beyond it, as transformers does (one of more than four contexts and 4096 tokens, or than memory holds, scores -1); a model is not made for \
                that, so shorten the prompts or train with a longer context";
    Some(finding.help(help))
}

#[cfg(test)]
mod tests;
