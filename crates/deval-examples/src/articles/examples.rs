//! Examples from articles without a language model: sentences stand for claims, and a false one has one fact swapped for another of the same
//! article.
//!
//! The true pieces are verbatim, so these examples are easier than the validator's: a rule that looks for a sentence in the context solves the
//! hallucination and summary tasks, and a name that is asked for gives the fitting answer away. They are worth something for real contexts, lengths and layouts.

use deval_eval::assembly::{Draws, Generator, MIN_SUMMARIES};
use deval_eval::{Dice, Example, Task, claims, python};
use deval_report::Diagnostic;
use serde_json::json;

use super::facts::{Kind, Pool, facts};
use super::{ALL_SECTIONS, Article, FULL_CONTENT};
use crate::draws;

/// Articles that are tried for one example, as upstream.
const TRIES: usize = 10;
/// Claims from one section, as upstream.
const CLAIMS: (usize, usize) = (1, 3);
/// Paragraphs of a generated summary's context at most.
const MAX_PARAGRAPHS: usize = 20;
/// Words of a sentence that can stand alone.
const WORDS: std::ops::RangeInclusive<usize> = 6..=60;

/// Up to `per_task` examples of relevancy, hallucination and summary completeness each; an example depends on the articles, the seed, its task
/// and its place only. Where ten articles in a row do not serve a task the example is left out, and a warning tells how many were.
///
/// Attribution cannot be had from articles, for they hold no dialogue; a note says so.
pub fn examples(articles: &[Article], seed: u64, per_task: usize) -> (Vec<Example>, Vec<Diagnostic>) {
    let message = "articles hold no dialogues: there are no attribution examples";
    let mut findings =
        vec![Diagnostic::note("articles.attribution", message).help("`cargo xtask examples generate` makes some")];
    let mut made = Vec::new();
    for task in Task::ALL.into_iter().filter(|task| *task != Task::Attribution) {
        let before = made.len();
        made.extend((0..per_task).filter_map(|index| example(articles, seed, task, index)));
        let count = made.len() - before;
        if count < per_task {
            findings.push(
                Diagnostic::warning(
                    "articles.unfit",
                    format!("too few articles serve {task}: they need several sections with whole sentences"),
                )
                .found(count.to_string())
                .expected(per_task.to_string()),
            );
        }
    }
    (made, findings)
}

fn example(articles: &[Article], seed: u64, task: Task, index: usize) -> Option<Example> {
    let mut dice = Dice::new(seed, index as u64 * 4 + task as u64);
    let tried = dice.sample(articles.len(), TRIES);
    let (article, draws) = tried.into_iter().find_map(|place| {
        let article = &articles[place];
        let sections = sentences(article);
        let draws = match task {
            Task::Relevancy => relevancy(&mut dice, article, &sections),
            Task::Hallucination => hallucination(&mut dice, &sections),
            Task::SummaryCompleteness if dice.flip() => full_summary(&mut dice, article, &sections),
            Task::SummaryCompleteness => partial_summary(&mut dice, article, &sections),
            Task::Attribution => None,
        };
        Some((article, draws?))
    })?;
    let has_content = draws.generator != Generator::SummaryGeneration;
    let content = if has_content { article.content.clone() } else { String::new() };
    let draws = Draws { content, ..draws };
    let source = json!({
        "generator": draws.generator, "method": "sentences", "seed": seed, "index": index, "article": article.title, "topic": ALL_SECTIONS,
    });
    Some(draws::example(format!("{task}-articles-{seed}-{index:03}"), &draws, source))
}

/// The sentences of every section that can stand alone.
fn sentences(article: &Article) -> Vec<Vec<&str>> {
    let stands_alone = |sentence: &&str| {
        WORDS.contains(&python::split(sentence).count())
            && sentence.starts_with(|c: char| c.is_uppercase() || c.is_numeric())
            && sentence.ends_with(['.', '!', '?', '"', '”', ')'])
            && !sentence.contains("==")
    };
    article
        .sections
        .iter()
        .map(|section| claims::split(&section.text).into_iter().filter(stands_alone).collect())
        .collect()
}

fn hallucination(dice: &mut Dice, sections: &[Vec<&str>]) -> Option<Draws> {
    let pool = Pool::new(sections.iter().flatten().copied());
    let (truth, mut claims, mut flags) = (dice.unit(), Vec::<String>::new(), Vec::new());
    for section in sections {
        let wanted = dice.between(CLAIMS.0, CLAIMS.1);
        for place in dice.sample(section.len(), wanted) {
            let is_true = dice.unit() <= truth;
            let claim = if is_true { Some(section[place].to_owned()) } else { pool.swapped(dice, section[place]) };
            let is_said = |claim: &String| sections.iter().flatten().any(|sentence| sentence == claim);
            if let Some(claim) =
                claim.filter(|claim| is_true || !is_said(claim)).filter(|claim| !claims.contains(claim))
            {
                claims.push(claim);
                flags.push(is_true);
            }
        }
    }
    let replies: Vec<String> = claims.iter().map(|claim| json!({ "response": claim }).to_string()).collect();
    let wanted = replies.len();
    (wanted > 0).then(|| draws::selected(dice, Generator::HallucinationWikipediaClaims, replies, flags, wanted))
}

/// Sections with their first sentence.
fn leads<'a>(article: &'a Article, sections: &[Vec<&'a str>]) -> Vec<(&'a super::Section, &'a str)> {
    article
        .sections
        .iter()
        .zip(sections)
        .filter_map(|(section, sentences)| Some((section, *sentences.first()?)))
        .collect()
}

fn full_summary<'a>(dice: &mut Dice, article: &'a Article, sections: &[Vec<&'a str>]) -> Option<Draws> {
    let leads = leads(article, sections);
    let topics: Vec<&str> = leads.iter().map(|(section, _)| section.heading.as_str()).collect();
    let mut replies = vec![json!({ "key_topics": topics }).to_string()];
    replies.extend(leads.iter().map(|(_, lead)| (*lead).to_owned()));
    let wanted = leads.len();
    (wanted >= MIN_SUMMARIES).then(|| draws::selected(dice, Generator::SummaryWikipedia, replies, Vec::new(), wanted))
}

fn partial_summary<'a>(dice: &mut Dice, article: &'a Article, sections: &[Vec<&'a str>]) -> Option<Draws> {
    let mut leads = leads(article, sections);
    leads.truncate(MAX_PARAGRAPHS);
    if leads.len() < MIN_SUMMARIES {
        return None;
    }
    let reply =
        |(section, lead): &(&super::Section, &str)| json!({ "context": section.text, "summary": lead }).to_string();
    let replies: Vec<String> = leads.iter().map(reply).collect();
    let wanted = dice.between(MIN_SUMMARIES, replies.len());
    Some(draws::selected(dice, Generator::SummaryGeneration, replies, Vec::new(), wanted))
}

/// A question about a section or a name, and one or two sentences that answer it or tell of something else.
fn relevancy(dice: &mut Dice, article: &Article, sections: &[Vec<&str>]) -> Option<Draws> {
    let (chance, by_name) = (dice.unit(), dice.flip());
    let flag = dice.unit() <= chance;
    let question = if by_name { about_name(dice, sections) } else { about_section(dice, article, sections) };
    let (subject, fitting, other) = question.or_else(|| about_section(dice, article, sections))?;
    let from = if flag { fitting } else { other };
    let start = dice.below(from.len());
    let end = from.len().min(start + dice.between(1, 2));
    let query = format!("What does the article say about {subject}?");
    let reply = json!({ "query": query, "answer": from[start..end].join(" ") }).to_string();
    Some(draws::selected(dice, Generator::RelevancyWikipedia, vec![reply], vec![flag], 0))
}

/// What is asked about, sentences about it, and sentences about something else; neither list is empty.
type Question<'a> = (String, Vec<&'a str>, Vec<&'a str>);

fn about_section<'a>(dice: &mut Dice, article: &Article, sections: &[Vec<&'a str>]) -> Option<Question<'a>> {
    let named = |place: &usize| !sections[*place].is_empty() && article.sections[*place].heading != FULL_CONTENT;
    let usable: Vec<usize> = (0..sections.len()).filter(named).collect();
    let [asked, other] = dice.sample(usable.len(), 2)[..] else { return None };
    let (asked, other) = (usable[asked], usable[other]);
    let heading = article.sections[asked].heading.clone();
    let elsewhere = sections[other].iter().copied().filter(|sentence| !sentence.contains(&heading));
    let elsewhere: Vec<&str> = elsewhere.collect();
    (!elsewhere.is_empty()).then(|| (heading, sections[asked].clone(), elsewhere))
}

fn about_name<'a>(dice: &mut Dice, sections: &[Vec<&'a str>]) -> Option<Question<'a>> {
    let all: Vec<&str> = sections.iter().flatten().copied().collect();
    let names = |sentence: &&'a str| -> Vec<&'a str> {
        let sentence = *sentence;
        let named = facts(sentence).into_iter().filter(|fact| matches!(fact.kind, Kind::Name { .. }));
        named.map(|fact| &sentence[fact.place]).collect()
    };
    let mut names: Vec<&str> = all.iter().flat_map(names).collect();
    names.sort_unstable();
    names.dedup();
    let name = *names.get(dice.below(names.len().max(1)))?;
    let (about, other): (Vec<&str>, Vec<&str>) = all.into_iter().partition(|sentence| sentence.contains(name));
    (!about.is_empty() && !other.is_empty()).then(|| (name.to_owned(), about, other))
}
