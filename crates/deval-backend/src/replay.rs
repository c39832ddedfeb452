//! Answers that were recorded elsewhere: from a run in another place, from another tool, written by hand.

use std::collections::{BTreeMap, HashMap, HashSet};

use deval_eval::{Answer, Backend, BackendError, BackendInfo, Example, Lane, Reply, Request, api};
use deval_report::Diagnostic;
use serde::Deserialize;
use serde_json::Value;

/// Answers by example and sample.
pub struct Replay {
    name: String,
    answers: HashMap<Request, BTreeMap<u32, Answer>>,
}

/// One line of an answers file. `score` and `mistakes` may also bear the names that a pipeline gives them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    #[serde(default)]
    sample: u32,
    #[serde(default, alias = "score_completion")]
    score: Value,
    #[serde(default, alias = "mistakes_completion")]
    mistakes: Value,
}

impl Replay {
    /// Reads an answers file (JSON Lines) for these examples. A score or a list of mistakes that the validator cannot read is rewarded as
    /// the validator would; a line that is no answer is a finding, and so is an example without its answers.
    ///
    /// # Errors
    /// All findings at once.
    pub fn read(file: &str, text: &str, examples: &[Example], samples: u32) -> Result<Self, Vec<Diagnostic>> {
        let by_id: HashMap<_, _> = examples.iter().map(|example| (example.id.as_str(), example)).collect();
        let (mut answers, mut findings) = (HashMap::<Request, BTreeMap<u32, Answer>>::new(), Vec::new());
        let mut seen = HashSet::new();
        let text = text.trim_start_matches('\u{feff}');
        for (number, line) in (1u32..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let line: Line = match serde_json::from_str(line) {
                Ok(line) => line,
                Err(error) => {
                    let column = u32::try_from(error.column()).unwrap_or(1).max(1);
                    findings.push(
                        Diagnostic::error("answers.unreadable", format!("this line is no answer: {error}"))
                            .at(file, number, column),
                    );
                    continue;
                }
            };
            // Answers to other examples do no harm.
            let Some(example) = by_id.get(line.id.as_str()) else { continue };
            if !seen.insert((line.id.clone(), line.sample)) {
                let finding = Diagnostic::error("answers.duplicate", "this example was answered before");
                findings.push(finding.at(file, number, 1).found(format!("{} sample {}", line.id, line.sample)));
            }
            answers.entry(example.request()).or_default().insert(line.sample, line.answer());
        }
        let expected = examples.iter().flat_map(|example| (0..samples).map(move |sample| (example.id.clone(), sample)));
        let missing: Vec<_> = expected.filter(|key| !seen.contains(key)).collect();
        findings.extend(missing.first().map(|(id, sample)| {
            Diagnostic::error("answers.missing", format!("{} answers are missing", missing.len()))
                .in_file(file)
                .found(format!("none for {id}, sample {sample}"))
                .help("add a line for each example; an answer that never came has the score -1 and no mistakes")
        }));
        let name = file.rsplit(['/', '\\']).next().unwrap_or(file).to_owned();
        if findings.is_empty() { Ok(Self { name, answers }) } else { Err(findings) }
    }
}

impl Line {
    /// What the validator makes of it.
    fn answer(&self) -> Answer {
        let output = serde_json::json!({ "score_completion": self.score, "mistakes_completion": self.mistakes });
        api::api_response(&output).answer()
    }
}

impl Backend for Replay {
    fn describe(&self) -> BackendInfo {
        BackendInfo {
            name: "replay".into(),
            model: self.name.clone(),
            reading: None,
            lane: Lane::Estimate,
            why: "the answers were recorded elsewhere".into(),
            evidence: BTreeMap::new(),
        }
    }

    fn answer(&mut self, request: &Request, sample: u32) -> Result<Reply, BackendError> {
        let answer = self.answers.get(request).and_then(|samples| samples.get(&sample));
        let answer = answer.cloned().ok_or("no answer to this example was recorded")?;
        Ok(Reply { answer, seconds: 0.0, raw: None, response: None, lengths: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use deval_eval::ExampleSet;

    use super::*;

    const SET: &str = r#"{"id":"a","task":"relevancy","rag_context":"c","query":"q","llm_response":"r","reference":1}
{"id":"b","task":"relevancy","rag_context":"c","query":"q","llm_response":"s","reference":0}"#;

    fn examples() -> Vec<Example> {
        ExampleSet::read("set.jsonl", SET).0.examples
    }

    #[test]
    fn answers_are_read_as_the_validator_reads_them() {
        let lines = "{\"id\":\"a\",\"score\":\" 0.5 \"}\n{\"id\":\"b\",\"score_completion\":1,\"mistakes_completion\":[\"x\"]}\n{\"id\":\"z\",\"score\":1}";
        let mut replay = Replay::read("answers.jsonl", lines, &examples(), 1).ok().unwrap();
        let mut answer = |place: usize| replay.answer(&examples()[place].request(), 0).unwrap().answer;
        assert_eq!((answer(0).score, answer(0).mistakes), (Some(0.5), None));
        assert_eq!(answer(1), Answer::new(1.0, vec!["x".to_owned()]));
    }

    #[test]
    fn every_bad_line_and_every_missing_answer_is_told() {
        let findings =
            Replay::read("answers.jsonl", "nonsense\n{\"id\":\"a\"}\n{\"id\":\"a\"}", &examples(), 2).err().unwrap();
        let codes: Vec<_> = findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, ["answers.unreadable", "answers.duplicate", "answers.missing"]);
        assert!(findings[2].message.starts_with("3 answers"), "{}", findings[2].message);
    }
}
