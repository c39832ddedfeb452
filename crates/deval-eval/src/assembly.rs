//! How the validator makes a task out of its language model's replies (`deval/tasks/*`), with every random draw given.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::abort::{PythonException, ValidatorAborts};
use crate::python::{self, json::NotLoaded};
use crate::task::{Example, Task};

/// Text put after each piece of a context or a response, drawn evenly.
pub const JOINERS: [&str; 7] = ["\n", " ", "  ", "\t", "\n\n", "", "..."];
/// Summaries that are shown at least.
pub const MIN_SUMMARIES: usize = 3;

/// The validator's task generators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    /// Dialogues with action items.
    AttributionGeneration,
    /// Paragraphs with a true or false claim each.
    HallucinationGeneration,
    /// Claims about the sections of an article.
    HallucinationWikipediaClaims,
    /// Claims about the topics of an article.
    HallucinationWikipediaTopics,
    /// A query about an article and a fitting or unfitting answer.
    RelevancyWikipedia,
    /// Paragraphs with a summary each, some left out.
    SummaryGeneration,
    /// Summaries of all topics of an article.
    SummaryWikipedia,
}

impl Generator {
    /// The task it makes.
    pub fn task(self) -> Task {
        match self {
            Self::AttributionGeneration => Task::Attribution,
            Self::RelevancyWikipedia => Task::Relevancy,
            Self::SummaryGeneration | Self::SummaryWikipedia => Task::SummaryCompleteness,
            Self::HallucinationGeneration | Self::HallucinationWikipediaClaims | Self::HallucinationWikipediaTopics => {
                Task::Hallucination
            }
        }
    }
}

/// Replies and random draws behind one task. Indices in `selected` and `response_order` count the usable replies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draws {
    /// Which generator.
    pub generator: Generator,
    /// The language model's raw replies in order.
    pub replies: Vec<String>,
    /// The source article.
    pub content: String,
    /// Claims or summaries wanted at first; every unusable reply takes one away.
    #[serde(default)]
    pub initial_count: i64,
    /// Whether a true claim was asked for, one per request.
    #[serde(default)]
    pub flags: Vec<bool>,
    /// What was drawn, in draw order.
    #[serde(default)]
    pub selected: Vec<usize>,
    /// The order of the response text.
    #[serde(default)]
    pub response_order: Vec<usize>,
    /// Text after each piece of the context.
    #[serde(default)]
    pub context_joiners: Vec<String>,
    /// Text after each piece of the response.
    #[serde(default)]
    pub response_joiners: Vec<String>,
}

/// A finished task without its labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assembled {
    /// Which task.
    pub task: Task,
    /// The context.
    pub rag_context: String,
    /// The query, relevancy only.
    pub query: String,
    /// The response to judge.
    pub llm_response: String,
    /// The right score.
    pub reference: f64,
    /// The claims that are mistakes.
    pub reference_mistakes: Vec<String>,
    /// The claims that are none.
    pub reference_true_values: Vec<String>,
}

impl Assembled {
    /// The task with the labels that make it an example.
    pub fn into_example(self, id: String, source: Value) -> Example {
        let Self { task, rag_context, query, llm_response, reference, reference_mistakes, reference_true_values } =
            self;
        Example {
            id,
            task,
            rag_context,
            query,
            llm_response,
            reference,
            reference_mistakes,
            reference_true_values,
            mistakes_unknown: false,
            source,
        }
    }
}

/// `round(num_true / (num_claims + 1e-10), 2)`; may fall below zero for summaries.
pub fn reference_score(num_true: i64, num_claims: usize) -> f64 {
    python::round2(num_true as f64 / (num_claims as f64 + 1e-10))
}

/// Pieces with the text drawn to follow each.
pub fn join<'a>(pieces: impl IntoIterator<Item = &'a str>, joiners: &[impl AsRef<str>]) -> String {
    pieces.into_iter().zip(joiners).flat_map(|(piece, joiner)| [piece, joiner.as_ref()]).collect()
}

/// Makes the task.
///
/// # Errors
/// Where upstream raises; there the task is dropped and the number of tasks shrinks.
pub fn assemble(draws: &Draws) -> Result<Assembled, ValidatorAborts> {
    match draws.generator {
        Generator::AttributionGeneration => generated_claims(draws, "action_item"),
        Generator::HallucinationGeneration => generated_claims(draws, "claim"),
        Generator::HallucinationWikipediaClaims => article_claims(draws, section_claims(draws)?),
        Generator::HallucinationWikipediaTopics => {
            let replies = topic_replies(draws)?.iter().cloned();
            article_claims(draws, replies.zip(draws.flags.iter().copied()).collect())
        }
        Generator::RelevancyWikipedia => relevancy(draws),
        Generator::SummaryGeneration => generated_summary(draws),
        Generator::SummaryWikipedia => article_summary(draws),
    }
}

fn generated_claims(draws: &Draws, field: &str) -> Result<Assembled, ValidatorAborts> {
    let usable = usable(draws, field)?;
    let failed = draws.replies.len() - usable.len();
    let wanted = draws.initial_count.saturating_sub(failed as i64).max(1);
    enough(usable.len(), usize::try_from(wanted).unwrap_or(usize::MAX))?;
    let context = join(usable.iter().map(|(_, record)| record.context.as_str()), &draws.context_joiners);
    let claims: Vec<_> =
        usable.into_iter().map(|(at, record)| (record.claim, draws.flags.get(at) == Some(&true))).collect();
    judged_claims(draws, context, &claims)
}

fn article_claims(draws: &Draws, claims: Vec<(String, bool)>) -> Result<Assembled, ValidatorAborts> {
    enough(claims.len(), 1)?;
    judged_claims(draws, draws.content.clone(), &claims)
}

fn judged_claims(draws: &Draws, rag_context: String, claims: &[(String, bool)]) -> Result<Assembled, ValidatorAborts> {
    let chosen = pick(claims, &draws.selected)?;
    let with =
        |wanted: bool| chosen.iter().filter(|(_, flag)| *flag == wanted).map(|(claim, _)| claim.clone()).collect();
    let (mistakes, true_values): (Vec<_>, Vec<_>) = (with(false), with(true));
    let reference = reference_score(true_values.len() as i64, chosen.len());
    let shown = pick(claims, &draws.response_order)?;
    finish(draws, rag_context, shown.iter().map(|(claim, _)| claim.as_str()), (reference, mistakes, true_values))
}

fn relevancy(draws: &Draws) -> Result<Assembled, ValidatorAborts> {
    let undecoded =
        || ValidatorAborts::new(PythonException::JSONDecodeError, "relevancy: the reply is no JSON".to_owned());
    let reply = draws.replies.first().map(|reply| object(reply)).transpose()?.flatten().ok_or_else(undecoded)?;
    let field = |name| text(&reply, name).ok_or_else(|| unfit(name));
    let (query, llm_response) = (field("query")?, field("answer")?);
    let reference = f64::from(u8::from(draws.flags.first() == Some(&true)));
    let made = finish(draws, draws.content.clone(), [], (reference, Vec::new(), Vec::new()))?;
    Ok(Assembled { query, llm_response, ..made })
}

/// The reference counts the summaries wanted, not the ones shown: it may come out below what the response covers. A summary is left out
/// when no sampled record equals its own, context included.
fn generated_summary(draws: &Draws) -> Result<Assembled, ValidatorAborts> {
    let usable: Vec<_> = usable(draws, "summary")?.into_iter().map(|(_, record)| record).collect();
    let wanted = draws.initial_count.saturating_sub((draws.replies.len() - usable.len()) as i64);
    enough(usable.len(), MIN_SUMMARIES.max(usize::try_from(wanted).unwrap_or(0)))?;
    let context = join(usable.iter().map(|record| record.context.as_str()), &draws.context_joiners);
    let sampled = pick(&usable, &draws.selected)?;
    let left_out =
        usable.iter().filter(|record| !sampled.contains(record)).map(|record| record.claim.clone()).collect();
    let shown = pick(&usable, &draws.response_order)?;
    let reference = reference_score(wanted, usable.len());
    let kept = sampled.into_iter().map(|record| record.claim).collect();
    finish(draws, context, shown.iter().map(|record| record.claim.as_str()), (reference, left_out, kept))
}

fn article_summary(draws: &Draws) -> Result<Assembled, ValidatorAborts> {
    let summaries = topic_replies(draws)?;
    enough(summaries.len(), MIN_SUMMARIES)?;
    let sampled = pick(summaries, &draws.selected)?;
    let shown = pick(summaries, &draws.response_order)?;
    finish(draws, draws.content.clone(), shown.iter().map(String::as_str), (1.0, Vec::new(), sampled))
}

fn finish<'a>(
    draws: &Draws,
    rag_context: String,
    shown: impl IntoIterator<Item = &'a str>,
    (reference, reference_mistakes, reference_true_values): (f64, Vec<String>, Vec<String>),
) -> Result<Assembled, ValidatorAborts> {
    let (task, query) = (draws.generator.task(), String::new());
    let llm_response = join(shown, &draws.response_joiners);
    Ok(Assembled { task, rag_context, query, llm_response, reference, reference_mistakes, reference_true_values })
}

/// What a usable reply of the generated tasks holds; upstream compares such records by value.
#[derive(Clone, PartialEq)]
struct Record {
    context: String,
    claim: String,
}

/// Place and content of the usable replies: JSON objects with both texts. JSON of another kind loses the whole task.
fn usable(draws: &Draws, field: &str) -> Result<Vec<(usize, Record)>, ValidatorAborts> {
    let mut records = Vec::new();
    for (at, reply) in draws.replies.iter().enumerate() {
        let Some(reply) = object(reply)? else { continue };
        if let (Some(context), Some(claim)) = (text(&reply, "context"), text(&reply, field)) {
            records.push((at, Record { context, claim }));
        }
    }
    Ok(records)
}

fn section_claims(draws: &Draws) -> Result<Vec<(String, bool)>, ValidatorAborts> {
    let mut claims = Vec::new();
    for (reply, flag) in draws.replies.iter().zip(&draws.flags) {
        let Some(reply) = object(reply)? else { continue };
        if !reply.contains_key("response") {
            return Err(ValidatorAborts::new(PythonException::KeyError, "claims: `response` is missing"));
        }
        claims.extend(text(&reply, "response").map(|claim| (claim, *flag)));
    }
    Ok(claims)
}

/// A reply as a JSON object, `None` when it is no JSON at all.
fn object(reply: &str) -> Result<Option<Map<String, Value>>, ValidatorAborts> {
    match python::json::loads(reply) {
        Ok(Value::Object(fields)) => Ok(Some(fields)),
        Ok(_) => Err(ValidatorAborts::type_error("the reply is JSON, but no object")),
        Err(NotLoaded::Decode) => Ok(None),
        Err(NotLoaded::Value) => Err(ValidatorAborts::value_error("the reply holds an integer of over 4300 digits")),
        Err(NotLoaded::Recursion) => {
            Err(ValidatorAborts::new(PythonException::RecursionError, "the reply is nested too deeply"))
        }
    }
}

fn text(reply: &Map<String, Value>, field: &str) -> Option<String> {
    Some(reply.get(field)?.as_str()?.to_owned())
}

fn unfit(what: &str) -> ValidatorAborts {
    ValidatorAborts::new(PythonException::ValidationError, format!("`{what}` is missing or no text"))
}

/// The texts that answer the topics of the first reply. Python goes through whatever can be gone through: a list, the characters of a
/// text, the keys of an object.
fn topic_replies(draws: &Draws) -> Result<&[String], ValidatorAborts> {
    let raise = |exception, what: &str| Err(ValidatorAborts::new(exception, format!("topics: {what}")));
    let Some((first, texts)) = draws.replies.split_first() else {
        return raise(PythonException::ValueError, "there is no reply");
    };
    let Some(reply) = object(first)? else { return raise(PythonException::UnboundLocalError, "the list is no JSON") };
    let topics = match reply.get("key_topics") {
        Some(Value::Array(topics)) if topics.iter().all(Value::is_string) => topics.len(),
        Some(Value::Array(_)) => return Err(unfit("a topic")),
        Some(Value::String(text)) => text.chars().count(),
        Some(Value::Object(fields)) => fields.len(),
        Some(_) => return raise(PythonException::TypeError, "`key_topics` is no list"),
        None => return raise(PythonException::KeyError, "`key_topics` is missing"),
    };
    Ok(&texts[..topics.min(texts.len())])
}

fn enough(usable: usize, wanted: usize) -> Result<(), ValidatorAborts> {
    if usable >= wanted {
        return Ok(());
    }
    Err(ValidatorAborts::value_error(format!("{usable} usable replies, {wanted} are needed")))
}

fn pick<T: Clone>(from: &[T], indices: &[usize]) -> Result<Vec<T>, ValidatorAborts> {
    let missing = || ValidatorAborts::value_error(format!("a draw beyond the {} usable replies", from.len()));
    indices.iter().map(|index| from.get(*index).cloned().ok_or_else(missing)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_addend_pushes_ties_down() {
        assert_eq!([(1, 8), (3, 8), (2, 3), (0, 0)].map(|(t, n)| reference_score(t, n)), [0.12, 0.37, 0.67, 0.0]);
    }

    fn draws(generator: Generator, replies: &[&str]) -> Draws {
        let joiners = vec![" ".to_owned(); 9];
        Draws {
            generator,
            replies: replies.iter().map(|reply| (*reply).to_owned()).collect(),
            content: "article".to_owned(),
            initial_count: 1,
            flags: vec![true; 9],
            selected: vec![0],
            response_order: vec![0],
            context_joiners: joiners.clone(),
            response_joiners: joiners,
        }
    }

    #[test]
    fn json_that_is_no_record_loses_the_task() {
        use Generator::*;
        use PythonException::*;
        let raised = |generator, replies: &[&str]| assemble(&draws(generator, replies)).map_err(|a| a.python_exception);
        for (generator, reply, exception) in [
            (HallucinationGeneration, "[]", TypeError),
            (AttributionGeneration, "\"text\"", TypeError),
            (SummaryGeneration, "NaN", TypeError),
            (RelevancyWikipedia, "[]", TypeError),
            (HallucinationWikipediaClaims, "null", TypeError),
            (HallucinationWikipediaClaims, "{}", KeyError),
            (HallucinationWikipediaTopics, "[]", TypeError),
            (HallucinationWikipediaTopics, "{\"key_topics\": [\"a\", 1]}", ValidationError),
            (HallucinationWikipediaTopics, "{\"key_topics\": \"\"}", ValueError),
            (SummaryWikipedia, "{\"key_topics\": 3}", TypeError),
            (SummaryWikipedia, "oops", UnboundLocalError),
            (SummaryWikipedia, "{\"key_topics\": \"ab\"}", ValueError),
        ] {
            assert_eq!(raised(generator, &[reply, "b", "c", "d"]), Err(exception), "{generator:?} {reply}");
        }
        let made = assemble(&draws(HallucinationWikipediaTopics, &["{\"key_topics\": \"né\"}", "b", "c"])).unwrap();
        assert_eq!((made.llm_response.as_str(), made.reference), ("b ", 1.0));
    }

    #[test]
    fn a_summary_is_left_out_by_its_whole_record() {
        let records = [("c", "s"), ("c", "s"), ("d", "s"), ("e", "t")];
        let replies = records.map(|(c, s)| format!("{{\"context\": \"{c}\", \"summary\": \"{s}\", \"more\": NaN}}"));
        let mut draws = draws(Generator::SummaryGeneration, &replies.each_ref().map(String::as_str));
        draws.selected = vec![0, 3, 1];
        assert_eq!(assemble(&draws).unwrap().reference_mistakes, ["s"]);
    }
}
