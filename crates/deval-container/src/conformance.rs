//! The contract alone: odd requests of each task and of the HTTP interface, row by row.

mod requests;

use deval_eval::{
    Task,
    api::{self, ApiResponse, Status},
    python,
};
use deval_report::{Diagnostic, Section, Severity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    client::{Answered, Call},
    engine::block_on,
    error::ContainerError,
    lane::{ENDING_LOOKS, Lane},
    observed::Observed,
};

/// What was asked and what came back. The same for the same package: there are no times in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conformance {
    /// Row by row.
    pub rows: Vec<Row>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Its task; absent for the HTTP interface itself.
    pub task: Option<Task>,
    /// What is odd about it.
    pub request: String,
    /// What a validator needs.
    pub expected: String,
    /// What came.
    pub got: String,
    /// The gate that it breaks, if it breaks any.
    pub breaks: Option<String>,
    /// Whether validators hardly ever send such a request.
    pub is_rare: bool,
}

/// Sends every request. `progress` hears which of how many.
///
/// # Errors
/// The engine.
pub fn check(lane: &mut Lane, progress: &mut dyn FnMut(usize, usize)) -> Result<Conformance, ContainerError> {
    let questions: Vec<_> =
        Task::ALL.into_iter().flat_map(|task| requests::questions().map(move |question| (task, question))).collect();
    let (of, mut rows) = (requests::HTTP.len() + questions.len(), Vec::new());
    for exchange in &requests::HTTP {
        progress(rows.len() + 1, of);
        rows.push(block_on(http_row(lane, exchange)));
    }
    for (task, question) in &questions {
        progress(rows.len() + 1, of);
        rows.push(block_on(question_row(lane, *task, question))?);
    }
    Ok(Conformance { rows })
}

async fn http_row(lane: &Lane, exchange: &requests::Exchange) -> Row {
    let requests::Exchange { what, method, path, body, status, text } = exchange;
    let got = match lane.api.send(method, path, body, lane.limit()).await {
        Call::Answered(Answered { status, body, .. }) => {
            let body = String::from_utf8_lossy(&body);
            // Digests and times would make every report another one.
            let told = if body.contains(text) { (*text).to_owned() } else { body.chars().take(60).collect() };
            format!("{status} {told}")
        }
        Call::Late => "late".to_owned(),
        Call::Failed(why) => why,
    };
    let expected = format!("{status} {text}");
    Row {
        task: None,
        request: (*what).to_owned(),
        breaks: (got != expected).then(|| "api".to_owned()),
        expected,
        got,
        is_rare: false,
    }
}

async fn question_row(lane: &mut Lane, task: Task, question: &requests::Question) -> Result<Row, ContainerError> {
    let (call, _took) = lane.api.ask(question.body(task), lane.limit()).await;
    let (got, breaks) = match call {
        Call::Answered(answer) => {
            let observed = answer.observed.and_then(|value| serde_json::from_value::<Observed>(value).ok());
            let response = api::http_response(answer.status, &answer.body);
            judge(task, &response, observed.as_ref())
        }
        Call::Late => {
            lane.wait_until_free().await?;
            ("late".to_owned(), Some("G40"))
        }
        Call::Failed(why) => {
            lane.look_after(&why, ENDING_LOOKS).await?;
            (why, Some("G41"))
        }
    };
    let score = if task == Task::Relevancy { "0 or 1" } else { "0 to 1, a list of text" };
    Ok(Row {
        task: Some(task),
        request: question.what.to_owned(),
        expected: format!("200 success, {score}"),
        got,
        breaks: breaks.map(str::to_owned),
        is_rare: question.is_rare,
    })
}

/// What came, and the first gate that it breaks, in the validator's order.
fn judge(task: Task, response: &ApiResponse, observed: Option<&Observed>) -> (String, Option<&'static str>) {
    let raised = observed.and_then(|observed| observed.raised.as_ref());
    let mistakes = response.mistakes.as_ref();
    let count = mistakes.map_or("no mistakes".to_owned(), |mistakes| format!("{} mistakes", mistakes.len()));
    let is_success = response.server_status_message == Some(Status::Success);
    let got = match raised {
        Some(exception) => format!("{}: {exception}", response.http_status),
        None if is_success => format!("{} success, {}, {count}", response.http_status, response.score),
        None => format!("{} error", response.http_status),
    };
    let dots = |mistake: &String| !mistake.is_empty() && mistake.chars().all(|c| c == '.');
    let long = |mistake: &String| python::split(mistake).count() >= 700;
    let has = |is_bad: &dyn Fn(&String) -> bool| mistakes.is_some_and(|mistakes| mistakes.iter().any(is_bad));
    let is_relevancy = task == Task::Relevancy;
    let rules = [
        ("G41", raised.is_some() || (response.http_status != 200 && observed.is_none())),
        ("G42", observed.is_some_and(|observed| observed.raised.is_none() && observed.keys.is_none())),
        ("G43", observed.is_some_and(|observed| observed.bad_score().is_some())),
        ("G44", observed.is_some_and(|observed| observed.bad_mistakes().is_some()) || !is_success),
        ("G43", !(0.0..=1.0).contains(&response.score)),
        ("G45", !is_relevancy && mistakes.is_none()),
        ("G46", !is_relevancy && has(&dots)),
        ("G47", !is_relevancy && has(&long)),
        ("G48", is_relevancy && ![0.0, 1.0].contains(&response.score)),
    ];
    (got, rules.into_iter().find(|(_, is_broken)| *is_broken).map(|(code, _)| code))
}

impl Conformance {
    /// Every broken row, one finding per gate with the first of its rows.
    pub fn findings(&self) -> Vec<Diagnostic> {
        let mut codes: Vec<&String> = self.rows.iter().filter_map(|row| row.breaks.as_ref()).collect();
        codes.sort();
        codes.dedup();
        codes.into_iter().map(|code| self.finding(code)).collect()
    }

    fn finding(&self, code: &str) -> Diagnostic {
        let rows: Vec<_> = self.rows.iter().filter(|row| row.breaks.as_deref() == Some(code)).collect();
        let severity = if rows.iter().all(|row| row.is_rare) { Severity::Warning } else { Severity::Error };
        let seen = rows.iter().map(|row| {
            let task = row.task.map_or_else(String::new, |task| format!("{task}, "));
            format!("{task}{}: {}", row.request, row.got)
        });
        let gate = deval_report::gates::gate(code);
        let message = gate.map_or("the image does not keep the validator's interface", |gate| gate.checks);
        let fix = gate.map_or("restore pipeline/api", |gate| gate.fix);
        Diagnostic::new(severity, if gate.is_some() { code } else { "conformance.api" }, message)
            .found(seen.collect::<Vec<_>>().join("\n"))
            .expected(rows.first().map_or("", |row| &row.expected))
            .help(fix)
    }

    /// The table: row, expected, got.
    pub fn sections(&self) -> Vec<Section> {
        let kept = self.rows.iter().filter(|row| row.breaks.is_none()).count();
        let rows = self.rows.iter().map(|row| {
            vec![
                row.task.map_or("http", Task::name).to_owned(),
                row.request.clone(),
                row.expected.clone(),
                row.got.clone(),
                row.breaks.clone().unwrap_or_default(),
            ]
        });
        let section = Section::new("Conformance").row("kept", format!("{kept} of {} rows", self.rows.len()));
        vec![section.table(&["task", "request", "expected", "got", "breaks"], rows.collect())]
    }
}

#[cfg(test)]
mod tests {
    use deval_eval::Answer;

    use super::*;

    #[test]
    fn each_way_to_break_the_contract_is_told_by_its_gate() {
        let breaks = |task, score, mistakes: &[&str]| {
            let mistakes = mistakes.iter().map(|mistake| (*mistake).to_owned()).collect();
            judge(task, &api::receive(&Answer::new(score, mistakes)), None).1
        };
        assert_eq!(breaks(Task::Hallucination, 0.5, &["a claim"]), None);
        assert_eq!(breaks(Task::Hallucination, 1.5, &[]), Some("G43"));
        assert_eq!(breaks(Task::Attribution, 0.5, &["..."]), Some("G46"));
        assert_eq!(breaks(Task::Attribution, 0.5, &[&"word ".repeat(700)]), Some("G47"));
        assert_eq!(breaks(Task::Relevancy, 0.98, &["..."]), Some("G48"));
        assert_eq!(judge(Task::Relevancy, &ApiResponse::failed(500), None).1, Some("G41"));
        let none = api::receive(&Answer { score: Some(0.5), mistakes: None });
        assert_eq!(judge(Task::SummaryCompleteness, &none, None).1, Some("G45"));
        let list = Observed { kind: Some("list".to_owned()), ..Observed::default() };
        assert_eq!(judge(Task::Hallucination, &ApiResponse::failed(200), Some(&list)).1, Some("G42"));
    }

    #[test]
    fn a_table_has_a_finding_for_each_broken_gate() {
        let row = |breaks: Option<&str>, is_rare| Row {
            task: Some(Task::Relevancy),
            request: "emoji".to_owned(),
            expected: "0 or 1".to_owned(),
            got: "500".to_owned(),
            breaks: breaks.map(str::to_owned),
            is_rare,
        };
        let made = Conformance {
            rows: vec![row(None, false), row(Some("G41"), true), row(Some("G48"), false), row(Some("G48"), true)],
        };
        let found: Vec<_> = made.findings().into_iter().map(|finding| (finding.code, finding.severity)).collect();
        assert_eq!(found, [("G41".to_owned(), Severity::Warning), ("G48".to_owned(), Severity::Error)]);
    }
}
