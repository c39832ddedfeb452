//! The native lane: the built-in engine with the miner's prompts.
//!
//! The readings are those of the shipped Python pipeline (`pipeline/model/readings.py`), so that both lanes ask the same questions.

mod notes;
mod readings;
mod requests;

use std::collections::BTreeMap;

use deval_eval::{Ask, Backend, BackendError, BackendInfo, GaveUp, Lane, Reply, Request, harness::Finish};
use deval_llama::Engine;
use deval_manifest::Reading;
use serde_json::Value;

use crate::{AnswerParser, Prompts};
use readings::Reader;
use requests::Requests;

/// How the native backend asks.
#[derive(Debug, Clone)]
pub struct NativeOptions {
    /// How an answer is read from the model.
    pub reading: Reading,
    /// Longest generated answer in tokens.
    pub max_new_tokens: usize,
    /// Seed of sampling; each sample of each request has its own stream, whatever was asked before.
    pub seed: u64,
    /// Name of the model in reports.
    pub model: String,
    /// Whether the engine was told where answers end ([`Engine::stop_at`]); otherwise they end where the reference pipeline's do.
    pub own_stops: bool,
}

/// Answers with the built-in engine, many requests at once.
pub struct Native {
    engine: Engine,
    reader: Reader,
}

impl Native {
    /// A backend over a loaded engine.
    pub fn new(mut engine: Engine, prompts: Prompts, answers: AnswerParser, options: NativeOptions) -> Self {
        if !options.own_stops {
            engine.stop_as_reference();
        }
        let reader = Reader { prompts, answers, options, context: engine.info().context };
        Self { engine, reader }
    }
}

impl Backend for Native {
    fn describe(&self) -> BackendInfo {
        let Reader { prompts, options, .. } = &self.reader;
        BackendInfo {
            name: "native".into(),
            model: options.model.clone(),
            reading: Some(options.reading.name().into()),
            lane: Lane::Estimate,
            why: "the built-in engine answers, not the miner's pipeline in the validator's container".into(),
            evidence: BTreeMap::from([("prompts".to_owned(), prompts.origin().to_owned())]),
        }
    }

    fn answers_together(&self) -> bool {
        true
    }

    fn answer(&mut self, request: &Request, sample: u32) -> Result<Reply, BackendError> {
        let mut reply = None;
        let heard = self.answer_all(&[Ask { request, sample }], &mut |_, heard| reply = Some(heard));
        heard.map_err(|gave_up| gave_up.source)?;
        Ok(reply.expect("a request that was not given up is answered"))
    }

    fn finish(&mut self) -> Result<Finish, BackendError> {
        let reading = self.reader.options.reading;
        let mut findings = notes::findings(&self.engine, reading);
        let measured = (reading == Reading::Generate).then(|| notes::measured(&mut self.engine));
        // The answers are there, whatever becomes of this.
        let run = measured.unwrap_or(Ok(Value::Null)).unwrap_or_else(|error| {
            findings.push(notes::unmeasured(&error));
            Value::Null
        });
        Ok(Finish { findings, run, ..Finish::default() })
    }

    fn answer_all(&mut self, asks: &[Ask<'_>], hear: &mut dyn FnMut(usize, Reply)) -> Result<(), GaveUp> {
        let mut requests = Requests::new(&self.reader, asks, hear);
        let worked = self.engine.work(&mut requests);
        requests.end(worked)
    }
}

#[cfg(test)]
mod asked;
#[cfg(test)]
mod tests;
