//! Whether two pipelines answered the same.

use std::collections::BTreeSet;

use deval_model::Proof;
use deval_report::Diagnostic;

use super::Answers;

/// The mark of an answer, in place of an exception.
const ANSWERED: &str = "answered ";

/// The first request that was answered differently, and how many were.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    model: String,
    request: usize,
    plain: String,
    armored: String,
    differ: usize,
    of: usize,
}

pub(super) fn first_difference(plain: &Answers, armored: &Answers) -> Option<Difference> {
    let none = Vec::new();
    let pairs: Vec<_> = plain
        .0
        .iter()
        .flat_map(|(model, answers)| {
            let others = armored.0.get(model).unwrap_or(&none);
            answers.iter().enumerate().map(move |(at, answer)| (model, at, answer, others.get(at)))
        })
        .collect();
    let differ = pairs.iter().filter(|(_, _, plain, armored)| Some(*plain) != *armored).count();
    let (model, at, plain, armored) = pairs.iter().find(|(_, _, plain, armored)| Some(*plain) != *armored)?;
    let armored = armored.map_or("nothing", String::as_str).to_owned();
    let of = pairs.len();
    Some(Difference { model: (*model).clone(), request: at + 1, plain: (*plain).clone(), armored, differ, of })
}

impl Difference {
    pub(super) fn finding(&self, folder: &str) -> Diagnostic {
        let message = format!(
            "the obfuscated pipeline answers {} of {} requests otherwise than the plain one",
            self.differ, self.of
        );
        let help = "a source that reads its own text, its file name or the stack does not bear obfuscation; remove that, or package \
                    again with `--rerun` if the obfuscated tree was touched";
        let finding = Diagnostic::error("obfuscate.proof", message).in_file(folder);
        finding.found(self.told()).expected(format!("as the plain one: {}", short(&self.plain))).help(help)
    }

    pub(super) fn told(&self) -> String {
        format!("request {} on the {} model: {}", self.request, self.model, short(&self.armored))
    }
}

/// What the equality of these answers is worth; none when there are no answers, but exceptions only.
pub(super) fn proof(answers: &Answers) -> Option<Proof> {
    let all: Vec<&String> = answers.0.values().flatten().filter(|answer| answer.starts_with(ANSWERED)).collect();
    (!all.is_empty()).then(|| Proof {
        requests: answers.0.values().map(Vec::len).max().unwrap_or_default(),
        models: answers.0.keys().cloned().collect(),
        answers: all.len(),
        distinct: all.iter().collect::<BTreeSet<_>>().len(),
    })
}

impl Answers {
    /// The first of all, shortened.
    pub(super) fn first(&self) -> String {
        self.0.values().flatten().next().map(|answer| short(answer)).unwrap_or_default()
    }
}

fn short(text: &str) -> String {
    const LONGEST: usize = 300;
    if text.chars().count() <= LONGEST {
        text.to_owned()
    } else {
        text.chars().take(LONGEST - 1).chain(['…']).collect()
    }
}
